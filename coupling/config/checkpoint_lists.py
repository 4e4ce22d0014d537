"""Several checkpoints by one text of the config: a folder of them, or a list.

  OUT                    the output folder of transformers.Trainer or of TRL's trainers
  .../train/checkpoints  the kept steps of a training of this program
  A+B+C                  folders, or NAME@REVISION of the hub, in this order

What is in a folder may grow from one look to the next. No weights are read here.
"""

from collections.abc import Iterable
import pathlib
import re

from coupling.config.errors import ConfigError

_OF_TRAINER = re.compile(r'checkpoint-(\d+)')
_OWN = 'checkpoints'  # own_checkpoints.FOLDER
FIELD = 'evaluate.checkpoints'


def entries(text: str) -> dict[int, str]:
  """The checkpoints that are there now: step -> folder, or NAME@REVISION.

  Those of a list are numbered from 1. A model that lies in an output folder itself,
  beside its checkpoints, is one of these and is not looked at.
  """
  if not growing(text):
    return dict(enumerate(text.split('+'), 1))
  folder, found = pathlib.Path(text).expanduser(), {}
  for path in folder.iterdir() if folder.is_dir() else ():
    number = _OF_TRAINER.fullmatch(path.name)
    if number and path.is_dir():
      found[int(number[1])] = str(path)
    elif folder.name == _OWN and path.name.isdecimal():
      found[int(path.name)] = str(path)
  return dict(sorted(found.items()))


def growing(text: str) -> bool:
  """Whether the text names one folder, in which more may appear."""
  return '+' not in text or pathlib.Path(text).expanduser().is_dir()


def first(text: str) -> str:
  """The first checkpoint; raises ConfigError where there is none."""
  found = entries(text)
  if not found:
    raise ConfigError(nothing(text))
  return next(iter(found.values()))


def nothing(text: str) -> str:
  """What to say of a folder without checkpoints."""
  folder = pathlib.Path(text).expanduser()
  there = _few(x.name for x in folder.iterdir()) if folder.is_dir() else None
  return (
    f'{FIELD}={text}: no folder checkpoint-STEP is there; found: '
    f'{"no such folder" if there is None else there}. Give the output folder of '
    'transformers.Trainer or of TRL, WORKDIR/seed0/RUN/train/checkpoints, or several '
    'folders joined by +; one checkpoint alone is given by checkpoint='
  )


def _few(names: Iterable[str]) -> str:
  found = sorted(names)
  return ', '.join(found[:5]) + ', …' * (len(found) > 5) or 'an empty folder'


def is_own(name: str) -> bool:
  """Whether a checkpoint is a step that this program kept."""
  path = pathlib.Path(name)
  return path.parent.name == _OWN and path.name.isdecimal()


def split(name: str) -> tuple[str, str]:
  """Folder or name on the hub, and its revision or ''."""
  if pathlib.Path(name).expanduser().is_dir():
    return name, ''
  source, _, revision = name.partition('@')
  return source, revision
