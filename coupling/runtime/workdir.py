"""The workdir of an experiment: one folder a stage, each with a manifest.

A finished stage is verified and skipped, an unfinished one resumed, and a changed
config or input refused. Nothing that another run made is overwritten or deleted.
"""

import contextlib
import fcntl
import os
import pathlib
import platform
import time
from collections.abc import Iterator
from typing import TextIO

from coupling.runtime import files as files_lib
from coupling.runtime import interrupt
from coupling.runtime import manifests
from coupling.runtime import seals
from coupling.runtime.files import WorkdirError

MANIFEST, LOCK = manifests.NAME, '.lock'
LOCK_SECONDS = 10.0  # a killed parent's worker needs a moment to notice


class Stage:
  """One stage's folder: its files, and a manifest that says what they are."""

  def __init__(self, folder: pathlib.Path, manifest: dict):
    self.folder, self.manifest = folder, manifest
    self._name, self._seals = manifest['stage'], seals.Seals(folder)
    self._opened = time.monotonic()

  @property
  def finished(self) -> bool:
    return self.manifest['finished']

  @property
  def digest(self) -> str:
    """SHA-256 over the name, config, inputs, files and info, once finished."""
    return self._result('digest')

  @property
  def config(self) -> dict:
    """What the stage is made with, as JSON."""
    return self.manifest['config']

  @property
  def inputs(self) -> dict[str, str]:
    """Digests of the stages that it is made from, by what they are to it."""
    return self.manifest['inputs']

  def info(self) -> dict:
    """What `finish` was given."""
    return self._result('info')

  def path(self, *parts: str) -> pathlib.Path:
    return self.folder.joinpath(*parts)

  def seal(self, name: str, *paths: pathlib.Path) -> None:
    """Notes that a part of an unfinished stage is whole: see seals.py."""
    self._seals.put(name, *paths)

  def sealed(self, name: str) -> bool:
    """Whether such a part is there and whole; else it is to be made, again or anew."""
    return self._seals.has(name)

  def finish(self, info: dict) -> None:
    """Hashes the files and marks the stage finished; `info` is free-form JSON.

    What is in folders whose name starts with a dot (scratch, caches) is no part of the
    result; that of the seals is removed.

    Raises:
      WorkdirError: the stage is finished, or a sealed part is not what it was.
    """
    if self.finished:
      raise WorkdirError(f'{self.folder}: {self._name} is finished already; skip it')
    self._seals.check()
    files = {}
    for path in sorted(self.folder.rglob('*')):
      relative = path.relative_to(self.folder)
      hidden = any(parent.startswith('.') for parent in relative.parts[:-1])
      if path.is_file() and not hidden and str(relative) not in (MANIFEST, LOCK):
        files[relative.as_posix()] = seals.digest(path)
    seconds = round(time.monotonic() - self._opened, 3)  # since it was last opened
    made = {'files': files, 'finished': True, 'info': info, 'seconds': seconds}
    self._write(made | {'digest': manifests.digest(self.manifest | made)})
    self._seals.drop_all()  # after the manifest, which followers look for without them

  def _result(self, field: str):
    if not self.finished:
      raise WorkdirError(f'{self.folder}: {self._name} is not finished; run it first')
    return self.manifest[field]

  def _write(self, fields: dict) -> None:
    files_lib.write_json(self.path(MANIFEST), self.manifest | fields)
    self.manifest = manifests.read(self.path(MANIFEST))

  def _check(self) -> None:
    """Raises WorkdirError where a file is damaged, of the result or sealed."""
    remedy = (
      f'restore the file, or move {self.folder} away and run the same command again to '
      f'redo {self._name}'
    )
    seals.check(self.folder, self.manifest['files'], self.path(MANIFEST), remedy)
    self._seals.check()

  def _open(self, asked: dict) -> None:
    """Starts or resumes the stage; the caller holds the lock."""
    if self.path(MANIFEST).exists() and not self._is_empty():
      self.manifest = manifests.read(self.path(MANIFEST))
      manifests.compare(self.path(MANIFEST), self.manifest, asked)
    else:
      self._write(manifests.provenance())
    if not self.finished:
      for leftover in self.folder.rglob(f'.*{files_lib.PARTIAL}'):
        leftover.unlink()
    self._check()

  def _is_empty(self) -> bool:
    """Whether the stage was begun and made nothing: its config may still change."""
    names = (MANIFEST, LOCK)
    made = any(p.is_file() and p.name not in names for p in self.folder.rglob('*'))
    return not made and not manifests.read(self.path(MANIFEST))['finished']


@contextlib.contextmanager
def open_stage(
  folder: pathlib.Path, name: str, config: dict, inputs: dict[str, Stage]
) -> Iterator[Stage]:
  """Opens a stage for this process alone: new, to resume, or finished.

  Raises:
    WorkdirError: an input is not finished; the config is not JSON; the folder is of
      something else, in use, of another config or input, torn or damaged; the disk or
      the memory does not suffice in the body.
  """
  digests = {key: stage.digest for key, stage in inputs.items()}
  asked = {'stage': name, 'config': config, 'inputs': digests}
  with files_lib.naming_shortage(folder), _locked(folder):
    stage = Stage(folder, asked | {'files': {}, 'finished': False})
    stage._open(asked)
    yield stage


@contextlib.contextmanager
def _locked(folder: pathlib.Path) -> Iterator[None]:
  """Makes the folder and holds its lock, which the system takes from the dead.

  Raises:
    WorkdirError: the folder cannot be written to, or is of something else; another
      process holds the lock.
  """
  with files_lib.making(folder):
    _check_whose(folder)
    file = (folder / LOCK).open('a+')
  with file:
    deadline = time.monotonic() + LOCK_SECONDS
    while not _takes(file):
      if time.monotonic() > deadline:
        file.seek(0)
        raise WorkdirError(
          f'{file.name}: held by process {file.read()}, which works on this stage; '
          'wait for it or stop it, and run the same command again'
        )
      interrupt.check()
      time.sleep(0.1)
    try:
      file.truncate(0)
      file.write(f'{os.getpid()} on {platform.node()}')
      file.flush()
      yield
    finally:
      fcntl.flock(file, fcntl.LOCK_UN)  # a forked child may still hold the file open


def _takes(file: TextIO) -> bool:
  """Takes the lock, if it is free."""
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    return False
  return True


def _check_whose(folder: pathlib.Path) -> None:
  """Raises WorkdirError where files lie in a folder without a manifest."""
  names = set(os.listdir(folder)) - {f'.{MANIFEST}{files_lib.PARTIAL}', LOCK}
  if names and MANIFEST not in names:
    raise WorkdirError(
      f'{folder / MANIFEST}: missing, but {min(names)} is there; nothing is '
      f'overwritten. If it was deleted, restore it, or move {folder} away and run the '
      'same command again to redo the stage; if this is not a stage of this program, '
      'choose another --workdir'
    )


def is_finished(folder: pathlib.Path) -> bool:
  """Whether a stage has finished there; False where there is none yet."""
  path = folder / MANIFEST
  return path.exists() and manifests.read(path)['finished']


def begun(folder: pathlib.Path, config: dict) -> str | None:
  """When the stage there was begun, finished or not; None where there is none yet.

  Raises:
    WorkdirError: it was begun with another config.
  """
  path = folder / MANIFEST
  if not path.exists():
    return None
  manifest = manifests.read(path)
  manifests.compare(path, manifest, {'config': config})
  return manifest['started']


def finished_stage(folder: pathlib.Path, config: dict | None = None) -> Stage:
  """Opens a finished stage to read: an input of another stage, or of the report.

  Args:
    folder: of the stage.
    config: what it must have been made with; None accepts any.

  Raises:
    WorkdirError: no finished stage, a damaged one, or one of another config.
  """
  folder = pathlib.Path(folder)
  path = folder / MANIFEST
  if folder.is_dir():
    _check_whose(folder)
  if not path.exists():
    raise WorkdirError(f'{folder}: no stage ({MANIFEST} is missing); run it first')
  stage = Stage(folder, manifests.read(path))
  if config is not None:
    manifests.compare(path, stage.manifest, {'config': config})
  stage._result('digest')
  stage._check()
  return stage
