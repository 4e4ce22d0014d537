"""Digests of what an unfinished stage has made so far, noted as soon as it is written.

A finished stage has all digests in its manifest. Until then <stage>/.seals/NAME.json
holds those of each part that is whole: a file, several, or a checkpoint's folder. A
part without a seal, or with a file missing, is made again. A file that differs from its
seal is an error. (Orbax notices some flipped bits of arrays, not all.)
"""

import functools
import json
import pathlib
import shutil

from coupling.runtime import files
from data.digests import sha256

FOLDER = '.seals'
Digests = dict[str, dict[str, int | str]]  # by path within the stage: size, sha256


def digest(path: pathlib.Path) -> dict[str, int | str]:
  """Of a file, as manifests and seals have it; one that stays as it is is read once."""
  now = path.stat()
  return {
    'size': now.st_size,
    'sha256': _sha256(path, now.st_ino, now.st_size, now.st_mtime_ns),
  }


@functools.cache
def _sha256(path: pathlib.Path, *version: int) -> str:
  del version
  return sha256(path)


def check(
  folder: pathlib.Path, digests: Digests, noted: pathlib.Path, remedy: str
) -> None:
  """Raises WorkdirError where a file is not what its digest says.

  Args:
    folder: of the stage.
    digests: of its files.
    noted: the file that has them, for the message.
    remedy: what to do, likewise.
  """
  for name, row in digests.items():
    path = folder / name
    if (found := digest(path) if path.is_file() else 'missing') != row:
      raise files.WorkdirError(
        f'{path}: damaged: found {found}, but {noted} has {row}; {remedy}'
      )


class Seals:
  """The seals of one stage's folder."""

  def __init__(self, folder: pathlib.Path):
    self._folder = folder

  def put(self, name: str, *paths: pathlib.Path) -> None:
    """Seals a part: files, or folders with all that is in them.

    Raises:
      WorkdirError: one of them is not there, or is an empty folder.
    """
    found = {}
    for path in paths:
      every = [p for p in (path, *sorted(path.rglob('*'))) if p.is_file()]
      if not every:
        raise files.WorkdirError(
          f'{path}: not there, though it was just written; run the same command again: '
          'it is made anew'
        )
      found |= {p.relative_to(self._folder).as_posix(): digest(p) for p in every}
    self._path(name).parent.mkdir(exist_ok=True)
    files.write_json(self._path(name), found)

  def has(self, name: str) -> bool:
    """Whether a part is sealed and none of its files is missing."""
    found = self._read(name)
    return bool(found) and all((self._folder / file).exists() for file in found)

  def knows(self, name: str) -> bool:
    """Whether a part is sealed, with its files or without."""
    return self._path(name).exists()

  def drop(self, name: str) -> None:
    """Takes a seal away, before the part is."""
    self._path(name).unlink(missing_ok=True)

  def drop_all(self) -> None:
    """Takes all seals away, and what was set aside: a manifest has the digests now."""
    shutil.rmtree(self._folder / FOLDER, ignore_errors=True)

  def set_aside(self, name: str, path: pathlib.Path) -> pathlib.Path:
    """Moves what is there of a part that is not whole; returns where it lies now."""
    aside = self._folder / FOLDER / 'unsealed' / name
    if aside.exists():  # what an earlier attempt left of the same part
      shutil.rmtree(aside)
    aside.parent.mkdir(parents=True, exist_ok=True)
    return pathlib.Path(shutil.move(path, aside))

  def check(self, name: str = '*', under: str = '') -> None:
    """Raises WorkdirError where a file of a sealed part differs from its seal.

    Args:
      name: of the part; default: all parts.
      under: start of the paths to look at, within the stage; default: all.
    """
    for seal in sorted((self._folder / FOLDER).glob(f'{name}.json')):
      if self.has(seal.stem):
        found = self._read(seal.stem)
        check(
          self._folder,
          {file: row for file, row in found.items() if file.startswith(under)},
          seal,
          'move that file away and run the same command again: what it is part of is '
          'made anew',
        )

  def _path(self, name: str) -> pathlib.Path:
    return self._folder / FOLDER / f'{name}.json'

  def _read(self, name: str) -> Digests:
    """A seal; empty where there is none."""
    try:
      return json.loads(self._path(name).read_bytes())
    except FileNotFoundError:
      return {}  # or it was dropped a moment ago, when its stage was finished
    except (OSError, ValueError) as error:
      raise files.WorkdirError(
        f'{self._path(name)}: damaged ({error!r}); move it away and run the same '
        'command again: what it seals is made anew'
      ) from error
