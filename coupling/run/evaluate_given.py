"""The stage `evaluate` of checkpoints that are given: other trainers' output.

  <workdir>/seed<seed>/<run>/measured/<step>   what was measured of one checkpoint
  <workdir>/seed<seed>/<run>/evaluate          all of them together, for the report

Each of the first is a stage of its own: it is made once, whatever becomes of the folder
that the checkpoint lay in, and also where the folder has grown since all were put
together.
"""

import functools
import pathlib

from coupling.checkpoints import hub
from coupling.config import schema
from coupling.elicit import evaluation
from coupling.elicit import evaluator as evaluator_lib
from coupling.model import sharding
from coupling.report import records
from coupling.run import base_model
from coupling.run import context
from coupling.run import evaluate_stage
from coupling.run import other_checkpoints
from coupling.run import other_labels
from coupling.runtime import distributed
from coupling.runtime import files
from coupling.runtime import finite
from coupling.runtime import progress
from coupling.runtime import workdir as workdir_lib

Experiment = schema.Experiment
Path = pathlib.Path

MEASURED = 'measured'
_ITEMS, _COUNTS = 'items.parquet', 'counts.json'


def evaluate(
  e: Experiment, workdir: Path, seed: int, run: str, follow: bool = False
) -> bool:
  """Evaluates the checkpoints of evaluate.checkpoints; `follow` waits for more.

  Raises:
    ConfigError: there is none; one is damaged, holds NaN, or is not like the others.
    WorkdirError: one has changed since it was measured; or all were put together
      before, and there are more now.
  """
  root = workdir / f'seed{seed}'
  needs = {k: context.stage(e, workdir, seed, k) for k in ('base', 'label')}
  needs['target'] = other_labels.of_run(e, workdir, seed, e.runs[run])
  config = context.stage_config(e, 'evaluate', seed, run)
  train_folder = root / run / 'train'
  trained = workdir_lib.finished_stage(
    train_folder, context.stage_config(e, 'train', seed, run)
  )
  records.check_input(trained, needs['label'])
  given = other_checkpoints.Given(e, workdir, seed)
  apart = root / run / MEASURED
  with distributed.open_stage(
    root / run / 'evaluate', 'evaluate', config, needs
  ) as whole:
    distributed.first(_check_measured, apart, given)
    if whole.finished:
      records.check_trained(trained, whole)
      _check_whole(whole, given)
      return False
    made = functools.cache(
      lambda: evaluate_stage.made_ready(e, e.runs[run], needs['label'], train_folder)
    )
    title = f'seed {seed} · {run} · evaluate'
    for step in given.kept(follow):
      distributed.check()
      opened = distributed.open_stage(apart / str(step), MEASURED, config, needs)
      with opened as one:
        if one.finished:
          continue
        progress.line(title, given.name(step))
        try:
          with finite.during(f'{title}, {given.name(step)}'):
            _measure(e, given, step, made(), one)
        except (OSError, hub.CheckpointError):
          if not given.gone(step):
            raise
          progress.line(f'{given.name(step)} was removed while it was read: left out')
    result = {'train': trained.digest, 'devices': context.devices()}
    result |= {'checkpoints': distributed.first(_put_together, apart, whole)}
    result |= {'tokens': evaluation.tokens(made().asked)}
    distributed.first(whole.finish, result)
    return True


def _measure(
  e: Experiment,
  given: other_checkpoints.Given,
  step: int,
  evaluator: evaluator_lib.Evaluator,
  stage: workdir_lib.Stage,
) -> None:
  """Fills the stage of one checkpoint."""
  # Before its weights are read: one that is written over meanwhile differs next time.
  note = distributed.first(given.note, step)
  mesh = sharding.make_mesh(e.mesh)
  table, counts = evaluator.run(base_model.decoder(e), given.params(step), mesh)
  distributed.first(files.write_table, stage.path(_ITEMS), table)
  distributed.first(files.write_json, stage.path(_COUNTS), counts)
  distributed.first(stage.finish, note)


def _measured(folder: Path) -> dict[int, workdir_lib.Stage]:
  """All checkpoints that were measured: step -> stage, in order."""
  paths = [x for x in folder.glob('*') if workdir_lib.is_finished(x)]
  return {
    int(x.name): workdir_lib.finished_stage(x)
    for x in sorted(paths, key=lambda x: int(x.name))
  }


def _check_measured(folder: Path, given: other_checkpoints.Given) -> None:
  """See Given.check_measured."""
  given.check_measured({k: x.info() for k, x in _measured(folder).items()})


def _check_whole(stage: workdir_lib.Stage, given: other_checkpoints.Given) -> None:
  """Raises WorkdirError where there are more checkpoints than were put together."""
  known = {int(step) for step in stage.info()['checkpoints']}
  if more := given.more(known):
    report = stage.path().parents[2] / 'report'
    raise workdir_lib.WorkdirError(
      f'{", ".join(more)}: not measured, as {stage.path()} had been finished before: '
      f'move it and {report} away and run the same command again; what was measured '
      f'is kept in {stage.path().with_name(MEASURED)}'
    )


def _put_together(folder: Path, stage: workdir_lib.Stage) -> dict[str, str]:
  """Copies what was measured of every checkpoint; step -> name."""
  names = {}
  for step, one in _measured(folder).items():
    for source, name in (
      (_ITEMS, f'step-{step:09d}.parquet'),
      (_COUNTS, f'counts-{step:09d}.json'),
    ):
      files.write_bytes(stage.path(name), one.path(source).read_bytes())
    names[str(step)] = one.info()['name']
  return names
