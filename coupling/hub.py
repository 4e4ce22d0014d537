"""Finds a checkpoint in the hub's format: a local folder, or a name on the hub."""

import json
import pathlib

import huggingface_hub
from huggingface_hub import errors

from coupling import families
from coupling import gguf_checkpoint
from coupling import models
from coupling.hf_config import CheckpointError, HFConfig

CONFIG = 'config.json'
SINGLE = 'model.safetensors'
INDEX = 'model.safetensors.index.json'
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
      give it, or cannot be reached and nothing is in the cache.
  """
  folder = pathlib.Path(source).expanduser()
  if folder.is_dir():
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


def read_config(folder: pathlib.Path) -> HFConfig:
  """The content of a checkpoint's config.json.

  Raises:
    CheckpointError: it is missing, or is not JSON.
  """
  return read_json(folder / CONFIG)


def decoder_config(folder: pathlib.Path, **options) -> models.DecoderConfig:
  """The decoder of a checkpoint; options and errors as of families.from_hf."""
  return families.from_hf(read_config(folder), str(folder / CONFIG), **options)


def weight_files(folder: pathlib.Path) -> list[pathlib.Path]:
  """A checkpoint's safetensors files, all present.

  Raises:
    CheckpointError: there are none, or the index names some that are missing.
  """
  if (folder / INDEX).exists():
    names = sorted(set(read_json(folder / INDEX).get('weight_map', {}).values()))
    missing = [name for name in names if not (folder / name).exists()]
    if missing or not names:
      raise CheckpointError(
        f'{folder / INDEX}: weight_map names {len(names)} files, of which these are '
        f'missing: {", ".join(missing) or "-"}; download the checkpoint again.'
      )
    return [folder / name for name in names]
  if (folder / SINGLE).exists():
    return [folder / SINGLE]
  others = sorted(p.name for p in folder.glob('*.bin'))
  found = f'; it has {", ".join(others)}, which are pickles and never read' * bool(
    others
  )
  raise CheckpointError(
    f'{folder}: neither {SINGLE} nor {INDEX} is here{found}. Save the model with '
    'transformers as safetensors (`save_pretrained`) and give that folder.'
  )


def read_json(path: pathlib.Path) -> dict:
  """A JSON object; a CheckpointError names the file if it is none."""
  try:
    content = json.loads(path.read_text())
  except FileNotFoundError as e:
    raise CheckpointError(
      f'{path}: missing; a checkpoint is a folder with config.json, safetensors and '
      'tokenizer files, as `save_pretrained` of transformers writes them.'
    ) from e
  except ValueError as e:
    raise CheckpointError(f'{path}: not JSON ({e}); download it again.') from e
  if not isinstance(content, dict):
    raise CheckpointError(f'{path}: a JSON object is expected; download it again.')
  return content
