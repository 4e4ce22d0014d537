"""Which files of a user's folder are data, and which of them were read.

A folder comes with more than its data: notes, caches, copies, other splits. What is
left out is always reported, with the reason. While `noting`, what is read is noted with
its digest, so that `changes` can find later whether it is still the same.
"""

from collections.abc import Iterator, Sequence
import contextlib
import contextvars
import dataclasses
import functools
import os
import pathlib
import re
from typing import Any

from data import digests

HUB_NAME = re.compile(r'[\w-][\w.-]*/[\w.-]+')
HIDDEN = 'hidden'
KIND = 'of another kind'
COPY = 'in a folder of checkpoints, or a copy of one'
_HIDDEN = ('.', '_', '~')  # how such names begin: .cache, ._x, __MACOSX, _SUCCESS, ~$x
_COPIES = re.compile(r'(ipynb_)?checkpoints?([-_]?\d+)?|.*-checkpoint(\.\w+)*')
_AUXILIARY = re.compile(r'aux(iliary)?[-_ ]?train')
_SPLITS = {
  **dict.fromkeys(('train', 'training'), 'train'),
  **dict.fromkeys(('dev', 'development'), 'dev'),
  **dict.fromkeys(('val', 'valid', 'validation'), 'validation'),
  **dict.fromkeys(('test', 'testing'), 'test'),
}


class DataError(ValueError):
  """A data file that cannot be used."""


@dataclasses.dataclass
class Noted:
  """What was read, as plain JSON.

  Attributes:
    listings: what was asked of folders: path, suffixes, splits, the names that were
      found below it, and those left out, by the reason.
    files: size and SHA-256 of each file that was read, by its path.
  """

  listings: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
  files: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)


_noted: contextvars.ContextVar[Noted | None] = contextvars.ContextVar(
  'noted', default=None
)


@contextlib.contextmanager
def noting() -> Iterator[Noted]:
  """Notes what is read within."""
  token = _noted.set(Noted())
  try:
    yield _noted.get()
  finally:
    _noted.reset(token)


def note_read(path: pathlib.Path, data: bytes) -> None:
  """Notes a file that was read, where that is wanted; `data`: all of its bytes."""
  if (noted := _noted.get()) is not None:
    found = {'size': len(data), 'sha256': digests.sha256(data)}
    noted.files[str(path)] = found


def note_left_out(root: str, why: str, names: Sequence[str]) -> None:
  """Notes what a reader left out of the files that it found."""
  noted = _noted.get()
  if noted is None or not names:
    return
  for listing in noted.listings.values():
    if listing['path'] == root:
      listing['left_out'][why] = list(names)


def kind(path: pathlib.PurePath) -> str:
  """A file's suffix in small letters; '.csv' also of x.CSV and of x.csv.gz."""
  name = path.name.lower().removesuffix('.gz')
  return pathlib.PurePath(name).suffix


def named_split(below: pathlib.PurePath) -> str | None:
  """The split that a file's name speaks of, else its folders', the nearest first.

  So `test` of x_test.csv, test/x.csv, test-00000-of-00001.parquet, split=test/x.csv.
  """
  parts = [part.casefold() for part in reversed(below.parts)]
  if any(map(_AUXILIARY.search, parts)):
    return 'auxiliary_train'
  for part in parts:
    words = re.split('[^a-z]+', part)
    if found := [_SPLITS[word] for word in words if word in _SPLITS]:
      return found[-1]
  return None


def files(
  path: str, suffixes: Sequence[str], splits: Sequence[str] = ()
) -> list[pathlib.Path]:
  """The file at `path`, or the files of data in the folder, sorted.

  Args:
    path: a file, which is taken whatever its name says; or a folder, of which hidden
      files and folders, and those of checkpoints, are left out.
    suffixes: of the kinds that are wanted, as `kind` gives them.
    splits: those wanted; () for all. Files that name no split are always wanted.

  Raises:
    DataError: nothing is there, or nothing of these kinds and splits.
  """
  if not path:
    raise DataError(
      'No file or folder of data is named: give the path of your copy, as '
      'config.py:path=FOLDER or in the field of config.task.'
    )
  root = pathlib.Path(path).expanduser()
  if not root.exists():
    raise DataError(f'{path!r}: no such file or folder.{_download(path)}')
  found, left_out = _select(root, suffixes, splits)
  kinds = ' or '.join(suffixes)
  if not found:
    others = f' Left out: {summary(left_out)}.' if left_out else ''
    remedy = ' Ask for a split that is there, in task.splits.'
    asked = any(name.startswith('split ') for name in left_out)
    raise DataError(f'{path!r}: no file that ends in {kinds}.{others}{remedy * asked}')
  if (noted := _noted.get()) is not None:
    noted.listings[f'{path} {kinds} {" ".join(splits)}'] = {
      'path': path,
      'suffixes': list(suffixes),
      'splits': list(splits),
      'found': [_below(root, p) for p in found],
      'left_out': left_out,
    }
  return found


def summary(left_out: dict[str, list[str]]) -> str:
  """What was left out and why, in a line: a few names of each reason."""
  return '; '.join(f'{why}: {shorten(names)}' for why, names in left_out.items())


def shorten(names: Sequence[str], most: int = 3) -> str:
  """The first names, and how many more there are."""
  more = f' and {len(names) - most} more' if len(names) > most else ''
  return ', '.join(names[:most]) + more


def changes(
  listings: Sequence[dict[str, Any]], files_noted: dict[str, dict[str, Any]]
) -> tuple[list[str], list[str]]:
  """What is not as it was when it was noted: (changes, in words; files that are gone).

  Args:
    listings: of `Noted`; those whose folder is gone say nothing.
    files_noted: of `Noted`.
  """
  changed, gone = [], []
  for name, then in files_noted.items():
    path = pathlib.Path(name)
    if not path.exists():
      gone.append(name)
      continue
    try:
      stat = path.stat()
      now = _sha256(path, stat.st_size, stat.st_mtime_ns)
    except OSError as error:
      changed.append(f'{name} cannot be read now ({error})')
      continue
    if now != then['sha256']:
      changed.append(
        f'{name} is another file now: {stat.st_size} bytes of SHA-256 {now}, not '
        f'{then["size"]} of {then["sha256"]}'
      )
  for listing in listings:
    root = pathlib.Path(listing['path']).expanduser()
    if root.is_dir():
      found, _ = _select(root, listing['suffixes'], listing['splits'])
      names = (_below(root, path) for path in found)
      known = {*listing['found']}
      changed += [f'{root / name} is new' for name in names if name not in known]
  return changed, gone


@functools.lru_cache(maxsize=4096)  # the seeds of an experiment have the same files
def _sha256(path: pathlib.Path, size: int, time: int) -> str:
  del size, time  # of the file, for the cache
  return digests.sha256(path)


def _below(root: pathlib.Path, path: pathlib.Path) -> str:
  return path.relative_to(root).as_posix() if path != root else path.name


def _select(
  root: pathlib.Path, suffixes: Sequence[str], splits: Sequence[str]
) -> tuple[list[pathlib.Path], dict[str, list[str]]]:
  """The files that are wanted, and names of the others by the reason."""
  if root.is_file():
    return ([root] if kind(root) in suffixes else []), {}
  found, left_out = [], {}
  for path, why in _walk(root):
    if not why and kind(path) not in suffixes:
      why = KIND
    split = named_split(path.relative_to(root))
    if not why and splits and split and split not in splits:
      why = f'split {split}'
    if why:
      left_out.setdefault(why, []).append(_below(root, path))
    else:
      found.append(path)
  return sorted(found), {why: sorted(names) for why, names in left_out.items()}


def _walk(root: pathlib.Path) -> Iterator[tuple[pathlib.Path, str]]:
  """Files below a folder, and folders that are left out whole, each with the reason."""

  def fail(error: OSError) -> None:
    raise DataError(f'{error.filename}: cannot be read ({error}).') from error

  seen = set()
  for name, folders, names in os.walk(root, onerror=fail, followlinks=True):
    here = pathlib.Path(name)
    if (real := os.path.realpath(here)) in seen:  # a link to what it lies in
      folders.clear()
      continue
    seen.add(real)
    for folder in [*folders]:
      if why := _unwanted(folder):
        folders.remove(folder)
        yield here / folder, why
    for file in names:
      why = _unwanted(file)
      if not why and not (here / file).exists():
        raise DataError(
          f'{here / file}: a link to nothing; restore what it stood for, or remove it.'
        )
      if not why and not (here / file).is_file():  # a pipe would be read for ever
        why = 'no regular file'
      yield here / file, why


def _unwanted(name: str) -> str:
  if name.startswith(_HIDDEN):
    return HIDDEN
  return COPY if _COPIES.fullmatch(name.casefold()) else ''


def _download(path: str) -> str:
  if not HUB_NAME.fullmatch(path):
    return ' Give the path of a local file or folder.'
  return (
    ' If it is the name of a data set of the Hugging Face hub, download it first and '
    f'give the folder: hf download {path} --repo-type dataset --local-dir FOLDER'
  )
