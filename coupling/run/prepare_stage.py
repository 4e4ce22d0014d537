"""The stage `prepare`: a task's pairs, and from which data files they were made.

The manifest's info.data lists the files that were read, with size and SHA-256, and
those that were left out. Whatever runs later holds the files against it: one that
changed, or a new one in a folder, is an error. One that is gone is none, since all that
is wanted of it is in the pairs.
"""

import contextlib
import dataclasses
import io
import pathlib
import shutil
from typing import Any

from coupling.config import schema
from coupling.run import base_model
from coupling.run import context
from coupling.runtime import progress
from coupling.runtime import workdir as workdir_lib
from data import folders


def prepare(e: schema.Experiment, workdir: pathlib.Path, seed: int) -> bool:
  """Writes the task's data sets; False where that is done.

  Raises:
    DataError: data that cannot be used.
    WorkdirError: as of `check_data`.
  """
  folder = workdir / f'seed{seed}' / 'prepare'
  config = context.stage_config(e, 'prepare', seed)
  with workdir_lib.open_stage(folder, 'prepare', config, {}) as stage:
    if stage.finished:
      check_data(workdir, seed)
      return False
    for begun in folder.iterdir():  # by a process that was killed
      if begun.is_dir():
        shutil.rmtree(begun)
    builders = [context.pairs_builder(e, workdir, seed)]
    if isinstance(e.base, schema.Pretrain):
      builders.append(context.corpus_builder(e, workdir, seed))
    with folders.noting() as noted:
      for builder in builders:
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints its progress
          builder.download_and_prepare()
    _tell(f'seed {seed} · prepare', noted)
    data = dataclasses.asdict(noted) | {'listings': [*noted.listings.values()]}
    stage.finish({'format': base_model.fingerprint(e), 'data': data})
    return True


def check_data(workdir: pathlib.Path, seed: int) -> list[str]:
  """Holds the data files against those that the pairs of a seed were made from.

  Returns:
    The files that are no longer there.

  Raises:
    WorkdirError: a file is another one now, or a folder has new ones.
  """
  folder = workdir / f'seed{seed}' / 'prepare'
  if not workdir_lib.is_finished(folder):
    return []
  noted: dict[str, Any] = workdir_lib.finished_stage(folder).info().get('data', {})
  changed, gone = folders.changes(noted.get('listings', ()), noted.get('files', {}))
  if changed:
    more = f' (and {len(changed) - 1} more like it)' if len(changed) > 1 else ''
    raise workdir_lib.WorkdirError(
      f'{changed[0]}{more}: the pairs in {folder} were made without that change; '
      'restore the data as they were, or use another --workdir'
    )
  return gone


def check_all(parts: dict[str, schema.Experiment], workdir: pathlib.Path) -> None:
  """`check_data` of every part and seed of an experiment; '' is the whole of it."""
  every = [
    check_data(workdir / name, seed) for name, e in parts.items() for seed in e.seeds
  ]
  if gone := sorted({name for names in every for name in names}):
    progress.line(
      'no longer there, and not needed for pairs that were made: '
      + folders.shorten(gone)
    )


def _tell(title: str, noted: folders.Noted) -> None:
  """One line: which files were read, and which were left out and why."""
  if not noted.files:
    return  # a world of its own making
  count = len(noted.files)
  left_out = [
    folders.summary(listing['left_out'])
    for listing in noted.listings.values()
    if listing['left_out']
  ]
  progress.line(
    title,
    f'read {count} file{"s" * (count > 1)}: {folders.shorten([*noted.files])}',
    *(f'left out: {text}' for text in dict.fromkeys(left_out)),
  )
