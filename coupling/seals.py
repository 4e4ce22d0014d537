"""Digests of what an unfinished stage has made so far, noted as soon as it is written.

A finished stage has all digests in its manifest. Until then <stage>/.seals/NAME.json
holds those of each part that is whole: a file, several, or a checkpoint's folder. A
part without a seal, or that lacks a file, is made again; one that is not what it was
when it was sealed is an error. (Orbax notices some flipped bits of arrays, not all.)
"""

from collections.abc import Iterator
import json
import pathlib

from coupling import files as files_lib
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
    """Seals a part: files, or folders with all that is in them."""
    every = (p for path in paths for p in ([path] if path.is_file() else _in(path)))
    found = {p.relative_to(self._folder).as_posix(): digest(p) for p in every}
    self._path(name).parent.mkdir(exist_ok=True)
    files_lib.write_json(self._path(name), found)

  def has(self, name: str) -> bool:
    """Whether a part is sealed and none of its files is missing."""
    return self._path(name).exists() and all(
      (self._folder / file).exists() for file in self._read(name)
    )

  def drop(self, name: str) -> None:
    """Takes a seal away, before the part is."""
    self._path(name).unlink(missing_ok=True)

  def check(self, name: str) -> None:
    """Raises WorkdirError where a file of a sealed part is another one now."""
    for file, row in self._read(name).items() if self.has(name) else ():
      self._hold(name, file, digest(self._folder / file), row)

  def check_all(self) -> None:
    """The same of all parts."""
    for path in sorted((self._folder / FOLDER).glob('*.json')):
      self.check(path.stem)

  def compare(self, found: Digests) -> None:
    """The same of all parts, by digests that were just taken of all files."""
    for path in sorted((self._folder / FOLDER).glob('*.json')):
      for file, row in self._read(path.stem).items() if self.has(path.stem) else ():
        self._hold(path.stem, file, found[file], row)

  def _path(self, name: str) -> pathlib.Path:
    return self._folder / FOLDER / f'{name}.json'

  def _read(self, name: str) -> Digests:
    try:
      found = json.loads(self._path(name).read_bytes())
      return {k: {x: row[x] for x in ('size', 'sha256')} for k, row in found.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
      raise files_lib.WorkdirError(
        f'{self._path(name)}: damaged ({error!r}); move it away and run the same '
        'command again: what it seals is made anew'
      ) from error

  def _hold(self, name: str, file: str, found: dict, row: dict) -> None:
    if found == row:
      return
    wrong = f'size {found["size"]}, not {row["size"]}'
    if found['size'] == row['size']:
      wrong = f'sha256 {found["sha256"]}, not {row["sha256"]}'
    raise files_lib.WorkdirError(
      f'{self._folder / file}: damaged since it was written: {wrong}, by '
      f'{self._path(name)}; move that file away and run the same command again: what '
      'it is part of is made anew'
    )


def _in(folder: pathlib.Path) -> Iterator[pathlib.Path]:
  return (path for path in sorted(folder.rglob('*')) if path.is_file())
