"""The stage `train`: what a run is taught, and its checkpoints M_t."""

from collections.abc import Iterator
import contextlib
import functools
import pathlib

import numpy as np

from coupling.config import schema
from coupling.elicit import label_set
from coupling.elicit.explanation import Behaviors
from coupling.model import sharding
from coupling.run import base_stage
from coupling.run import base_model
from coupling.run import context
from coupling.run import other_labels
from coupling.run import own_checkpoints
from coupling.run import steps
from coupling.runtime import distributed
from coupling.runtime import files
from coupling.runtime import progress
from coupling.runtime import workdir as workdir_lib
from coupling.training import behavior_shift
from coupling.training import examples
from coupling.training import explanation_training
from coupling.training import label_rules
from coupling.training import preference_reference
from coupling.training import train_loop
from coupling.training import tree_batches
from data import pairs as pairs_lib
from data import splits
from data import trees

Experiment = schema.Experiment
Path = pathlib.Path


def train(e: Experiment, workdir: Path, seed: int, run: str) -> bool:
  """Trains explanations of the fixed labels, with a run's objectives.

  A run of no steps is M_0: there is nothing to train and to keep.
  """
  config = e.runs[run]
  with _open_stage(e, workdir, seed, run) as (stage, needs):
    if stage.finished:
      return False
    result = {'devices': context.devices()}
    try:
      _write_labels(e, seed, config, needs['label'], needs['target'], stage)
      parts = _parts(e, seed, config, needs['label'], stage)
    except schema.ConfigError as error:
      raise schema.ConfigError(f'runs.{run}: {error}') from error
    if config.loop.steps:
      training = _training(e, workdir, seed, run, stage, parts)
      result |= {'tokens': _tokens(training)}
      train_loop.fit(training)
    distributed.first(stage.finish, result)
    return True


@contextlib.contextmanager
def _open_stage(
  e: Experiment, workdir: Path, seed: int, run: str
) -> Iterator[tuple[workdir_lib.Stage, dict[str, workdir_lib.Stage]]]:
  """A run's train stage, opened, and the stages that it needs."""
  root, config = workdir / f'seed{seed}', e.runs[run]
  base_stage.check_trainable(e, seed)
  needs = {k: context.stage(e, workdir, seed, k) for k in ('base', 'label')}
  needs['target'] = other_labels.of_run(e, workdir, seed, config)
  if config.start:
    of_start = context.stage_config(e, 'train', seed, config.start)
    first = root / config.start / 'train'
    needs['start'] = workdir_lib.finished_stage(first, of_start)
  described = context.stage_config(e, 'train', seed, run)
  folder = root / run / 'train'
  with distributed.open_stage(folder, 'train', described, needs) as stage:
    yield stage, needs


def _training(
  e: Experiment,
  workdir: Path,
  seed: int,
  run: str,
  stage: workdir_lib.Stage,
  parts: explanation_training.Parts,
) -> train_loop.Training:
  """How a run is trained, on what, and where its stage keeps it."""
  config = e.runs[run]
  base, mesh = base_model.base_params(e, workdir, seed), sharding.make_mesh(e.mesh)
  model = base_model.decoder(e)
  parts = preference_reference.prepared(stage, parts, model, base, mesh, e.length)
  return explanation_training.make(
    f'seed {seed} · {run} · train',
    config,
    model,
    parts,
    steps.train_seed(seed, config),
    base,
    steps.start(e, workdir, seed, run) or base,
    e.mesh,
    stage.path(own_checkpoints.FOLDER),
    workdir / 'tensorboard' / f'seed{seed}' / run,
  )


def _tokens(made: train_loop.Training) -> dict[str, int] | None:
  """See trees.tokens, of the pairs drawn from; says what it comes to."""
  if made.plan is None:
    return None
  pools = train_loop.shuffled(made.parts, made.data_seed)
  filling = tree_batches.filling(pools, made.loop.steps, made.plan)
  found = trees.tokens(
    [
      rows[tree_batches.TREES]
      for rows, _ in made.parts.values()
      if tree_batches.TREES in rows
    ],
    filling,
  )
  per_pair = found['trees'] / found['pairs']
  progress.line(made.title, f'{per_pair:.0f} tokens a pair, {filling:.0%} filling')
  return found


def _write_labels(
  e: Experiment,
  seed: int,
  config: schema.Train,
  own: workdir_lib.Stage,
  target: workdir_lib.Stage,
  stage: workdir_lib.Stage,
) -> None:
  """Writes what a run is taught of every split, once, into its train stage.

  Args:
    e: the experiment.
    seed: its seed.
    config: of the run.
    own: M_0's label set.
    target: the label set that `config.labels` names; it may lack pairs of splits that
      this experiment has no use for, which are then left out.
    stage: of the run.

  Raises:
    ConfigError: no pair is left to explain.
    WorkdirError: the target lacks pairs that are trained or evaluated on.
  """
  for split in sorted(own.info()['pairs'].keys() - {splits.PRACTICE}):
    path = label_rules.path(stage.path(), split)
    if distributed.first(stage.sealed, path.stem):
      continue
    pairs = label_set.read_pairs(own.path(), split)
    row_N = label_set.read_rows(own.path(), split)
    try:
      other = label_set.read_explanation(target.path(), split, row_N)
    except workdir_lib.WorkdirError:
      if split in ('train', e.evaluate.split):
        raise
      continue
    taught = label_rules.taught(
      config,
      context.questions(e),
      pairs,
      label_set.read_explanation(own.path(), split, row_N),
      other,
      behavior_shift.scores(config.objectives.shift, e.task, seed, pairs),
      seed,
      split,
    )
    table = label_rules.table(row_N, taught)
    distributed.first(files.write_table, path, table)
    distributed.first(stage.seal, path.stem, path)


def _parts(
  e: Experiment,
  seed: int,
  config: schema.Train,
  own: workdir_lib.Stage,
  stage: workdir_lib.Stage,
) -> explanation_training.Parts:
  """What a run draws from: the train split, and `practice` where it wants that.

  Raises:
    ConfigError: labels or objectives that leave nothing to train on.
  """
  if not config.loop.steps:
    return {}
  train = _source(e, seed, config, own, stage, 'train')
  practice = None
  if config.practice:
    practice = _source(e, seed, config, own, stage, splits.PRACTICE)
  format, template = base_model.format(e), context.questions(e)
  return examples.training_parts(config, format, template, train, practice)


def _source(
  e: Experiment,
  seed: int,
  config: schema.Train,
  own: workdir_lib.Stage,
  stage: workdir_lib.Stage,
  split: str,
) -> examples.Source:
  """What is drawn from a split, train or practice; the latter is never explained."""
  pairs, row_N, reference = _read(own.path(), own.digest, split)
  taught = None
  if split == 'train':
    taught = label_rules.read(stage.path(), split, row_N)
  return examples.source(
    config,
    base_model.format(e),
    context.questions(e),
    pairs,
    reference,
    taught,
    behavior_shift.scores(config.objectives.shift, e.task, seed, pairs),
    seed,
    context.how(e, own),
  )


@functools.lru_cache(maxsize=2)  # the next run of a seed reads the same
def _read(
  folder: pathlib.Path, digest: str, split: str
) -> tuple[list[pairs_lib.Pair], np.ndarray, Behaviors]:
  """Pairs of a label set, their places in the split, and M_0's behaviours."""
  del digest  # of what lies there, for the cache
  pairs, row_N = label_set.read_pairs(folder, split), label_set.read_rows(folder, split)
  return pairs, row_N, label_set.read(folder, split)
