"""The workdir of an experiment: one folder a stage, each with a manifest.

A finished stage is verified and skipped, an unfinished one resumed, and a changed
config or input refused. Nothing that another run made is overwritten or deleted.
"""

import contextlib
import fcntl
import json
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
# (folder, manifest's mtime) of the stages whose files this process has verified.
_verified: set[tuple[str, int]] = set()


class Stage:
  """One stage's folder: its files, and a manifest that says what they are.

  Raises:
    WorkdirError: an input is not finished, or the config is not JSON.
  """

  def __init__(
    self, folder: pathlib.Path, name: str, config: dict, inputs: dict[str, 'Stage']
  ):
    self.folder, self.name = pathlib.Path(folder), name
    for stage in inputs.values():
      if not stage.finished:
        raise WorkdirError(
          f'{self.folder}: {name} needs {stage.name}, which is not finished in '
          f'{stage.folder}; run {stage.name} first'
        )
    self._manifest = {
      'stage': name,
      'config': json.loads(files_lib.dumps(config, f'config of {name}')),
      'inputs': {key: stage.digest for key, stage in inputs.items()},
      'files': {},
      'finished': False,
    }
    self._opened = time.monotonic()
    self._seals = seals.Seals(self.folder)

  @property
  def finished(self) -> bool:
    return self._manifest['finished']

  @property
  def digest(self) -> str:
    """SHA-256 over the name, config, inputs, files and info, once finished."""
    return self._result('digest')

  @property
  def config(self) -> dict:
    """What the stage is made with, as JSON."""
    return self._manifest['config']

  @property
  def inputs(self) -> dict[str, str]:
    """Digests of the stages that it is made from, by what they are to it."""
    return self._manifest['inputs']

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

    Folders whose name starts with a dot (scratch, caches) are no part of the result;
    that of the seals is removed.

    Raises:
      WorkdirError: the stage is finished, or a sealed part is not what it was.
    """
    if self.finished:
      raise WorkdirError(f'{self.folder}: {self.name} is finished already; skip it')
    files = {}
    for path in sorted(self.folder.rglob('*')):
      relative = path.relative_to(self.folder)
      hidden = any(parent.startswith('.') for parent in relative.parts[:-1])
      if path.is_file() and not hidden and str(relative) not in (MANIFEST, LOCK):
        files[relative.as_posix()] = seals.digest(path)
    self._seals.check_digests(files)
    seconds = round(time.monotonic() - self._opened, 3)  # since it was last opened
    self._write({'files': files, 'finished': True, 'info': info, 'seconds': seconds})
    _verified.add(self._version())
    self._seals.drop_all()  # after the manifest, which followers look for without them

  def _result(self, field: str):
    if not self.finished:
      raise WorkdirError(f'{self.folder}: {self.name} is not finished; run it first')
    return self._manifest[field]

  def _write(self, fields: dict) -> None:
    manifest = self._manifest | fields
    manifest['digest'] = manifests.digest(manifest)
    files_lib.write_json(self.path(MANIFEST), manifest)
    self._manifest = manifests.read(self.path(MANIFEST))

  def _open(self) -> None:
    """Starts or resumes the stage; the caller holds the lock."""
    if self.path(MANIFEST).exists() and not self._is_empty():
      manifest = manifests.read(self.path(MANIFEST))
      self._compare(manifest)
      self._adopt(manifest)
    else:
      self._write(manifests.provenance())
    if not self.finished:
      for leftover in self.folder.rglob(f'.*{files_lib.PARTIAL}'):
        leftover.unlink()
      self._seals.check_all()

  def _is_empty(self) -> bool:
    """Whether the stage was begun and made nothing: its config may still change."""
    names = (MANIFEST, LOCK)
    made = any(p.is_file() and p.name not in names for p in self.folder.rglob('*'))
    return not made and not manifests.read(self.path(MANIFEST))['finished']

  def _version(self) -> tuple[str, int]:
    return str(self.folder.resolve()), self.path(MANIFEST).stat().st_mtime_ns

  def _adopt(self, manifest: dict) -> None:
    """Takes over a recorded manifest and verifies the files that it lists."""
    self._manifest, version = manifest, self._version()
    for name, row in manifest['files'].items() if version not in _verified else ():
      path = self.path(name)
      if not path.is_file():
        found = 'missing'
      elif path.stat().st_size != row['size']:
        found = f'size {path.stat().st_size}, not {row["size"]}'
      elif seals.sha256(path) != row['sha256']:
        found = 'another sha256'
      else:
        continue
      raise WorkdirError(
        f'{path}: damaged: {found}, by {MANIFEST}; restore the file, or move '
        f'{self.folder} away and run the same command again to redo {self.name}'
      )
    _verified.add(version)

  def _compare(self, manifest: dict) -> None:
    """Refuses a manifest that was made from another config or input."""
    self._compare_config(manifest)
    path, asked = self.path(MANIFEST), self._manifest
    for key, was, now in manifests.changes(manifest['inputs'], asked['inputs']):
      raise WorkdirError(
        f'{self.name} was made from another {key}: digest {was} in {path}, {now} now; '
        f'restore that {key}, or move {self.folder} away to redo {self.name}'
      )

  def _compare_config(self, manifest: dict) -> None:
    path, asked = self.path(MANIFEST), self._manifest
    old, new = ({'(stage)': m['stage'], **m['config']} for m in (manifest, asked))
    changes = manifests.changes(old, new)
    if lines := [f'{k}: {was} in {path}, {now} now' for k, was, now in changes]:
      raise WorkdirError(
        f'{self.name} was made with another config:\n  ' + '\n  '.join(lines) + '\n'
        f'restore the value, use another --workdir, or move {self.folder} away to redo '
        'the stage'
      )


def _claim(folder: pathlib.Path) -> TextIO:
  """Makes the folder and opens its lock file; refuses a folder of something else."""
  try:
    folder.mkdir(parents=True, exist_ok=True)
    _check_manifest(folder)
    return (folder / LOCK).open('a+', errors='replace')
  except OSError as error:
    raise WorkdirError(
      f'{folder}: cannot be written to ({error}); choose another --workdir'
    ) from error


def _check_manifest(folder: pathlib.Path) -> None:
  """Raises WorkdirError where files lie in a folder without a manifest."""
  names = set(os.listdir(folder)) - {f'.{MANIFEST}{files_lib.PARTIAL}', LOCK}
  if names and MANIFEST not in names:
    raise WorkdirError(
      f'{folder / MANIFEST}: missing, but {min(names)} is there; nothing is '
      f'overwritten. If it was deleted, restore it, or move {folder} away and run the '
      'same command again to redo the stage; if this is not a stage of this program, '
      'choose another --workdir'
    )


def _lock(file: TextIO) -> None:
  """Waits for the lock, which the system releases when its holder dies."""
  deadline = time.monotonic() + LOCK_SECONDS
  while True:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      break
    except BlockingIOError:
      if time.monotonic() > deadline:
        file.seek(0)
        raise WorkdirError(
          f'{file.name}: held by process {file.read() or "unknown"}, which works on '
          'this stage; wait for it or stop it, and run the same command again'
        ) from None
    interrupt.check()
    time.sleep(0.1)
  file.truncate(0)
  file.write(f'{os.getpid()} on {platform.node()}')
  file.flush()


@contextlib.contextmanager
def open_stage(
  folder: pathlib.Path, name: str, config: dict, inputs: dict[str, Stage]
) -> Iterator[Stage]:
  """Opens a stage for this process alone: new, to resume, or finished.

  Raises:
    WorkdirError: an input is not finished; the folder is of something else, in use,
      of another config or input, torn or damaged; the disk fills up in the body.
  """
  stage = Stage(folder, name, config, inputs)
  with files_lib.naming_shortage(stage.folder), _claim(stage.folder) as file:
    _lock(file)
    try:
      stage._open()
      yield stage
    finally:
      fcntl.flock(file, fcntl.LOCK_UN)  # a forked child may still hold the file open


def is_finished(folder: pathlib.Path) -> bool:
  """Whether a stage has finished there; False where there is none yet."""
  path = folder / MANIFEST
  return path.exists() and manifests.read(path)['finished']


def begun(folder: pathlib.Path, config: dict) -> str | None:
  """When the stage there was begun, finished or not; None where there is none yet.

  Raises:
    WorkdirError: it was begun with another config.
  """
  if not (folder / MANIFEST).exists():
    return None
  manifest = manifests.read(folder / MANIFEST)
  Stage(folder, manifest['stage'], config, {})._compare_config(manifest)
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
  if not (folder / MANIFEST).exists():
    if folder.is_dir():
      _check_manifest(folder)
    raise WorkdirError(f'{folder}: no stage ({MANIFEST} is missing); run it first')
  manifest = manifests.read(folder / MANIFEST)
  stage = Stage(folder, manifest['stage'], manifest['config'], {})
  stage._adopt(manifest)
  stage._result('digest')
  if config is not None:
    Stage(folder, stage.name, config, {})._compare_config(manifest)
  return stage
