"""Finds a checkpoint in the hub's format: a local folder, or a name on the hub."""

import dataclasses
import json
import pathlib

import huggingface_hub
from huggingface_hub import errors

from coupling.checkpoints import families
from coupling.checkpoints import gguf_checkpoint
from coupling.checkpoints import tensors
from coupling.checkpoints import weight_names
from coupling.checkpoints.hf_config import CheckpointError, HFConfig
from coupling.model.architecture import DecoderConfig

CONFIG = 'config.json'
GENERATION = 'generation_config.json'
SINGLE = 'model.safetensors'
INDEX = 'model.safetensors.index.json'
_ADAPTER = 'adapter_config.json'
_DISTRIBUTED = 'shard-*-model-*-of-*.safetensors'  # transformers prefers these
# Weights, configuration, tokenizer and chat template; never code or pickles.
_PATTERNS = ('*.safetensors', '*.json', '*.jinja', '*.model', '*.txt')

_REASONS = (  # the first that fits
  (
    errors.HFValidationError,
    'no such name on the hub either; give a folder with a config.json, a GGUF file, or '
    "a name such as 'Qwen/Qwen3-8B'.",
  ),
  (
    errors.GatedRepoError,
    'the hub gives this model only to those who accepted its licence; accept it on '
    "the model's page, log in with `hf auth login`, and run again.",
  ),
  (
    (errors.RepositoryNotFoundError, errors.RevisionNotFoundError),
    'no such model or revision on the hub (or it is private); check the spelling, or '
    'log in with `hf auth login`.',
  ),
  (
    OSError,
    'the hub cannot be reached and its cache here does not hold all of it. Give a '
    'local folder, or fetch it with `hf download` where there is a network.',
  ),
)


def find(source: str, revision: str | None = None) -> pathlib.Path:
  """The folder of a checkpoint, downloaded to the hub's cache if need be.

  Args:
    source: a folder, a GGUF file, or a name such as 'Qwen/Qwen3-8B'.
    revision: branch, tag or commit on the hub; default its main branch.

  Raises:
    CheckpointError: there is no such folder, and the hub does not have it, does not
      give it, or cannot be reached and nothing is in the cache; a file of the folder
      is a link to one elsewhere.
  """
  folder = pathlib.Path(source).expanduser()
  if folder.is_dir():
    for pattern in _PATTERNS:
      for path in folder.glob(pattern):
        _check_inside(path)
    return folder
  if (file := gguf_checkpoint.find(source, revision)) is not None:
    return gguf_checkpoint.folder(file)
  try:
    found = huggingface_hub.snapshot_download(
      source,
      revision=revision,
      allow_patterns=list(_PATTERNS),
      ignore_patterns=['*/*'],  # copies in other formats
    )
  except (OSError, errors.HFValidationError) as e:
    reason = next(text for kind, text in _REASONS if isinstance(e, kind))
    raise CheckpointError(
      f'{source} (revision {revision or "main"}): there is no such folder, and {reason}'
    ) from e
  return pathlib.Path(found)


def identity(source: str, revision: str | None = None) -> tuple[str, str | None]:
  """What names a checkpoint from any working directory: name and revision.

  Args:
    source, revision: as of `find`, whose errors it raises too.

  Returns:
    The name on the hub and the commit that is used; the absolute folder, or GGUF file,
    and None; or, where a package stands for it, the name and None.
  """
  folder, path = find(source, revision), pathlib.Path(source).expanduser()
  if path.is_dir():
    return str(folder.resolve()), None
  if (file := gguf_checkpoint.find(source, revision)) is not None:
    if file != path:
      return source, None
    # The file's own name stays: it tells the parts of a file in several.
    return str(file.parent.resolve() / file.name), None
  return source, folder.name  # of a snapshot in the cache: its commit


def _check_inside(path: pathlib.Path) -> None:
  """Raises CheckpointError for a link out of the folder, but within the hub's cache."""
  folder, there = path.parent.resolve(), path.resolve()
  own = [folder]
  if folder.parent.name == 'snapshots':  # links to the repository's or all blobs
    own += [(x / 'blobs').resolve() for x in folder.parents[1:3]]
  if not any(there.is_relative_to(x) for x in own):
    raise CheckpointError(
      f'{path}: a link to {there}, outside of the checkpoint; copy the file into the '
      'folder, or give the folder that it lies in.'
    )


def read_config(folder: pathlib.Path) -> HFConfig:
  """The content of a checkpoint's config.json.

  Raises:
    CheckpointError: it is missing, or is not JSON.
  """
  return read_json(folder / CONFIG)


def decoder_config(folder: pathlib.Path, **options) -> DecoderConfig:
  """The decoder of a checkpoint; options and errors as of families.from_hf.

  A config.json that ties the head to the embedding is followed as `transformers` does:
  not where the weights have both, with other values.
  """
  raw = read_config(folder)
  config = families.from_hf(raw, str(folder / CONFIG), **options)
  if not config.tied_head or not any(folder.glob('*.safetensors')):
    return config
  with tensors.TensorFiles(weight_files(folder)) as files:
    tied = weight_names.is_tied(files, raw)
  return dataclasses.replace(config, tied_head=tied)


def weight_files(folder: pathlib.Path) -> list[pathlib.Path]:
  """A checkpoint's safetensors files, those that `transformers` reads, all present.

  The whole file wins over an index beside it.

  Raises:
    CheckpointError: there are none, the index is malformed or names some that are
      missing or elsewhere, or `transformers` would read others too.
  """
  if (folder / _ADAPTER).exists():
    raise CheckpointError(
      f'{folder / _ADAPTER}: an adapter lies beside these weights, and transformers '
      'would add it; move it away, or merge it with peft (`merge_and_unload`).'
    )
  if others := sorted(p.name for p in folder.glob(_DISTRIBUTED)):
    raise CheckpointError(
      f'{folder / others[0]}: part of a distributed checkpoint, which transformers '
      'would read instead of the others; save the model with `save_pretrained`.'
    )
  name = _named_file(folder)
  if name is None:
    name = SINGLE if (folder / SINGLE).exists() else INDEX
  if (folder / name).exists():
    paths = [folder / name]
    if name.endswith('.json'):
      paths = _indexed(folder / name)
    for path in paths:
      _check_inside(path)
    return paths
  others = sorted(
    p.name for end in ('*.bin', '*.safetensors') for p in folder.glob(end)
  )
  raise CheckpointError(
    f'{folder}: neither {SINGLE} nor {INDEX} is here; found: '
    f'{", ".join(others) or "no weights"} (files in .bin are pickles and never read). '
    'Save the model with transformers as safetensors (`save_pretrained`) and give '
    'that folder.'
  )


def _named_file(folder: pathlib.Path) -> str | None:
  """The file of weights that a config.json names, if it does."""
  path = folder / CONFIG
  name = read_json(path).get('transformers_weights') if path.exists() else None
  if name is not None:
    _check_name(path, 'transformers_weights', name, ('.safetensors', '.index.json'))
    if not (folder / name).exists():
      raise CheckpointError(
        f'{path}: transformers_weights={name!r} is not in this folder; download the '
        'checkpoint again, or correct the field.'
      )
  return name


def _indexed(index: pathlib.Path) -> list[pathlib.Path]:
  """The files that an index names."""
  table = read_json(index).get('weight_map')
  if not isinstance(table, dict) or not table:
    raise CheckpointError(
      f'{index}: weight_map is {str(table)[:60]}, where a table from tensors to files '
      'is expected; download it again.'
    )
  for tensor, name in table.items():
    _check_name(index, f'weight_map.{tensor}', name, ('.safetensors',))
  names = sorted({*table.values()})
  if missing := [name for name in names if not (index.parent / name).is_file()]:
    raise CheckpointError(
      f'{index}: weight_map names {len(names)} files, of which these are missing: '
      f'{", ".join(missing)}; download the checkpoint again.'
    )
  return [index.parent / name for name in names]


def _check_name(
  path: pathlib.Path, field: str, name: object, ends: tuple[str, ...]
) -> None:
  """Raises CheckpointError unless a field names a file of the folder it stands in."""
  if (
    not isinstance(name, str)
    or name != pathlib.PurePath(name).name
    or '\\' in name
    or not name.endswith(ends)
  ):
    raise CheckpointError(
      f'{path}: {field}={name!r}; the name of a file of this folder that ends in '
      f'{" or ".join(ends)} is expected: download it again.'
    )


def read_json(path: pathlib.Path) -> dict:
  """A JSON object; a CheckpointError names the file if it is none."""
  try:
    _check_inside(path)
    content = json.loads(path.read_text(encoding='utf-8'))
  except FileNotFoundError as e:
    raise CheckpointError(
      f'{path}: missing; a checkpoint is a folder with config.json, safetensors and '
      'tokenizer files, as `save_pretrained` of transformers writes them.'
    ) from e
  except OSError as e:
    raise CheckpointError(f'{path}: cannot be read ({e.strerror}).') from e
  except ValueError as e:
    raise CheckpointError(f'{path}: not JSON ({e}); download it again.') from e
  if not isinstance(content, dict):
    raise CheckpointError(f'{path}: a JSON object is expected; download it again.')
  return content
