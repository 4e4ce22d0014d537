"""Whether a checkpoint of another trainer is asked, and shaped, as M_0 is."""

import dataclasses
import pathlib
from typing import Any

from coupling.checkpoints import hub
from coupling.checkpoints import peft_format
from coupling.config import schema
from coupling.run import base_model
from coupling.runtime import progress
from data import encoder
from data import tokens as tokens_lib

Path = pathlib.Path

# Files that say how a model is asked, and its shape; where they are M_0's own, nothing
# is compared.
_ASKING = (
  *('tokenizer.json', 'tokenizer_config.json', 'chat_template.jinja'),
  *('special_tokens_map.json', 'tokenizer.model', 'vocab.json', 'merges.txt'),
  'added_tokens.json',
)
_SHAPE = ('config.json', 'generation_config.json')


def check(e: schema.Experiment, folder: Path) -> None:
  """Raises CheckpointError where a checkpoint is not asked, or shaped, as M_0 is."""
  first = base_model.checkpoint_folder(e)
  beside = peft_format.is_adapter(folder)
  if beside:
    _check_base(e, folder)
  elif not _same_files(first, folder, _SHAPE):
    found = base_model.imported_decoder(_section(e, folder))
    if found != (wanted := base_model.decoder(e)):
      fields = [f.name for f in dataclasses.fields(wanted)]
      fields = [x for x in fields if getattr(found, x) != getattr(wanted, x)]
      said = ', '.join(f'{x}={getattr(found, x)!r}' for x in fields)
      raise hub.CheckpointError(
        f'{folder / hub.CONFIG}: {said}, where {first / hub.CONFIG} has '
        f'{", ".join(repr(getattr(wanted, x)) for x in fields)}: checkpoints of one '
        'training have one shape; move this one away.'
      )
  if not any((folder / name).exists() for name in _ASKING):
    return  # a trainer that was given no tokenizer saves none
  if _same_files(first, folder, _ASKING if beside else (*_ASKING, *_SHAPE)):
    return
  own, here = _asked(first, beside), _asked(folder, beside)
  if own != here:
    names = [x for x in (*_ASKING, *_SHAPE) if not _same_files(first, folder, (x,))]
    what = ', '.join(k for k in own if own[k] != here[k])
    raise hub.CheckpointError(
      f'{folder}: {what}: not as in {first} (files that differ: '
      f'{", ".join(x for x in names if (folder / x).exists())}). All checkpoints are '
      'asked alike: move this one away, or leave the base out (checkpoint=, model=) '
      'where only that differs.'
    )


def _check_base(e: schema.Experiment, folder: Path) -> None:
  """Refuses adapters of another base than the first; says where the user gave it."""
  first, named = base_model.adapter_folder(e.base), peft_format.base_of(folder)[0]
  if first is None:
    if named not in (e.base.checkpoint, str(Path(e.base.checkpoint).resolve())):
      progress.line(
        f'WARNING: {folder}/adapter_config.json: base_model_name_or_path={named!r}; '
        f'these adapters are put beside {e.base.checkpoint}'
      )
  elif named != (wanted := peft_format.base_of(first)[0]):
    raise hub.CheckpointError(
      f'{folder}/adapter_config.json: base_model_name_or_path={named!r}, where {first} '
      f'has {wanted!r}: adapters of one training have one base; move this one away.'
    )


def _asked(folder: Path, beside: bool) -> dict[str, Any]:
  """What decides how a checkpoint is asked; padding, which is masked, does not."""
  try:
    tokenizer = tokens_lib.load_tokenizer(folder)
  except ValueError as error:
    raise hub.CheckpointError(str(error)) from error
  special = {k: x for k, x in tokenizer.special_tokens_map.items() if k != 'pad_token'}
  return {
    'tokenizer': encoder.state(tokenizer),
    'special tokens': special,
    'chat template': tokenizer.chat_template,
    'end tokens': None if beside else sorted(tokens_lib.ends(tokenizer)),
  }


def _section(e: schema.Experiment, folder: Path) -> schema.Import:
  return dataclasses.replace(e.base, checkpoint=str(folder), revision='')


def _same_files(first: Path, other: Path, names: tuple[str, ...]) -> bool:
  """Whether both have the same of these files, with the same content."""
  return all(_content(first / name) == _content(other / name) for name in names)


def _content(path: Path) -> bytes | None:
  return path.read_bytes() if path.exists() else None
