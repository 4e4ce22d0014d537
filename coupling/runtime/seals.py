"""Digests of what an unfinished stage has made so far, noted as soon as it is written.

A finished stage has all digests in its manifest. Until then <stage>/.seals/NAME.json
holds those of each part that is whole: a file, several, or a checkpoint's folder. A
part without a seal, or with a file missing, is made again. A file that differs from its
seal is an error. (Orbax notices some flipped bits of arrays, not all.)
"""

from collections.abc import Iterator
import json
import pathlib
import shutil

from coupling.runtime import files
from data.digests import sha256

FOLDER = '.seals'
Digests = dict[str, dict[str, int | str]]  # by path within the stage: size, sha256


def digest(path: pathlib.Path) -> dict[str, int | str]:
  """Of a file, as manifests and seals have it."""
  return {'size': path.stat().st_size, 'sha256': sha256(path)}


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
      every = [path] if path.is_file() else list(_in(path))
      if not every:
        raise files.WorkdirError(
          f'{path}: not there, though it was just written; run the same command again: '
          'it is made anew'
        )
      found |= {p.relative_to(self._folder).as_posix(): digest(p) for p in every}
    if not found:
      raise ValueError(f'{name}: no paths to seal')
    self._path(name).parent.mkdir(exist_ok=True)
    files.write_json(self._path(name), found)

  def has(self, name: str) -> bool:
    """Whether a part is sealed and none of its files is missing."""
    found = self._read(name)
    return bool(found) and all((self._folder / file).exists() for file in found)

  def knows(self, name: str) -> bool:
    """Whether a part is sealed, with its files or without."""
    return bool(self._read(name))

  def drop(self, name: str) -> None:
    """Takes a seal away, before the part is."""
    self._path(name).unlink(missing_ok=True)

  def set_aside(self, name: str, path: pathlib.Path) -> pathlib.Path:
    """Moves what is there of a part that is not whole; returns where it lies now."""
    aside = self._folder / FOLDER / 'unsealed' / name
    if aside.exists():  # what an earlier attempt left of the same part
      shutil.rmtree(aside)
    aside.parent.mkdir(parents=True, exist_ok=True)
    return pathlib.Path(shutil.move(path, aside))

  def drop_all(self) -> None:
    """Takes all seals away, and what was set aside: a manifest has the digests now."""
    shutil.rmtree(self._folder / FOLDER, ignore_errors=True)

  def check(self, name: str, under: str = '') -> None:
    """Raises WorkdirError where a file of a sealed part differs from its seal.

    Args:
      name: of the part.
      under: start of the paths to look at, within the stage; default: all.
    """
    for file, row in self._read(name).items() if self.has(name) else ():
      if file.startswith(under):
        self._compare_file(name, file, digest(self._folder / file), row)

  def check_all(self) -> None:
    """Raises WorkdirError where a file of any sealed part differs from its seal."""
    for path in sorted((self._folder / FOLDER).glob('*.json')):
      self.check(path.stem)

  def check_digests(self, found: Digests) -> None:
    """The same, by digests that were just taken of all files."""
    for path in sorted((self._folder / FOLDER).glob('*.json')):
      for file, row in self._read(path.stem).items() if self.has(path.stem) else ():
        self._compare_file(path.stem, file, found[file], row)

  def _path(self, name: str) -> pathlib.Path:
    return self._folder / FOLDER / f'{name}.json'

  def _read(self, name: str) -> Digests:
    """A seal; empty where there is none."""
    try:
      found = json.loads(self._path(name).read_bytes())
      return {k: {x: row[x] for x in ('size', 'sha256')} for k, row in found.items()}
    except FileNotFoundError:
      return {}  # or it was dropped a moment ago, when its stage was finished
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
      raise files.WorkdirError(
        f'{self._path(name)}: damaged ({error!r}); move it away and run the same '
        'command again: what it seals is made anew'
      ) from error

  def _compare_file(self, name: str, file: str, found: dict, row: dict) -> None:
    if found == row:
      return
    wrong = f'size {found["size"]}, not {row["size"]}'
    if found['size'] == row['size']:
      wrong = f'sha256 {found["sha256"]}, not {row["sha256"]}'
    raise files.WorkdirError(
      f'{self._folder / file}: damaged since it was written: {wrong}, by '
      f'{self._path(name)}; move that file away and run the same command again: what '
      'it is part of is made anew'
    )


def _in(folder: pathlib.Path) -> Iterator[pathlib.Path]:
  return (path for path in sorted(folder.rglob('*')) if path.is_file())
