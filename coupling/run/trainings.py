"""A run's training: the stage that keeps it, and what it trains, from what, on what."""

from collections.abc import Iterator
import contextlib
import pathlib

from coupling.config import schema
from coupling.model import decoder
from coupling.model import sharding
from coupling.run import base as base_lib
from coupling.run import context
from coupling.run import other_labels
from coupling.run import steps
from coupling.run import trained
from coupling.run import training_data
from coupling.runtime import distributed
from coupling.runtime import progress
from coupling.runtime import workdir as workdir_lib
from coupling.training import compiled
from coupling.training import examples
from coupling.training import train_loop
from coupling.training import tree_batches
from data import loader
from data import trees

Experiment = schema.Experiment
Path = pathlib.Path
Parts = dict[str, tuple[loader.Arrays, int]]


@contextlib.contextmanager
def open_stage(
  e: Experiment, workdir: Path, seed: int, run: str
) -> Iterator[tuple[workdir_lib.Stage, dict[str, workdir_lib.Stage]]]:
  """A run's train stage, opened, and the stages that it needs."""
  root, config = workdir / f'seed{seed}', e.runs[run]
  base_lib.check_trainable(e, seed)
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


def make(
  e: Experiment,
  workdir: Path,
  seed: int,
  run: str,
  stage: workdir_lib.Stage,
  needs: dict[str, workdir_lib.Stage],
) -> train_loop.Training:
  """How a run is trained, on what, and where it is kept.

  Args:
    e: the experiment.
    workdir: its folder.
    seed, run: of the training.
    stage: that keeps it.
    needs: stages that it is made from.

  Raises:
    ConfigError: labels or objectives that leave nothing to train on.
  """
  config, template = e.runs[run], context.questions(e)
  try:
    found = training_data.training_sources(
      e, seed, config, needs['label'], needs['target']
    )
    parts = examples.training_parts(config, context.format(e), template, *found)
  except schema.ConfigError as error:
    raise schema.ConfigError(f'runs.{run}: {error}') from error
  base = context.base_params(e, workdir, seed)
  return of_parts(
    f'seed {seed} · {run} · train',
    config,
    context.decoder(e),
    parts,
    seed,
    base,
    steps.start(e, workdir, seed, run) or base,
    e.mesh,
    stage.path(trained.FOLDER),
    workdir / 'tensorboard' / f'seed{seed}' / run,
  )


def of_parts(
  title: str,
  config: schema.Train,
  model: decoder.DecoderConfig,
  parts: Parts,
  seed: int,
  base: decoder.Params,
  start: decoder.Params,
  mesh: schema.Mesh,
  folder: Path,
  log: Path,
) -> train_loop.Training:
  """A training on what examples.training_parts has made.

  Args:
    title: for the progress line.
    config: of the training.
    model: M_0's shape.
    parts: what is drawn from, and sizes of batches.
    seed: of the experiment.
    base: M_0.
    start: the weights to train, as they start: fresh adapters, or M_0's.
    mesh: axes.
    folder: of the checkpoints.
    log: TensorBoard folder.
  """
  data_seed, plan = steps.train_seed(seed, config), None
  if config.trees:
    multiple = sharding.batch_parts(sharding.make_mesh(mesh)) * config.loop.accumulation
    pools = train_loop.shuffled(parts, data_seed)
    plan = tree_batches.plan(pools, config.loop.steps, multiple)
  return train_loop.Training(
    title=title,
    model=compiled.decoder(model, config),
    low_rank=config.lora,
    objectives=config.objectives,
    optimizer=config.optimizer,
    loop=config.loop,
    mesh_axes=mesh,
    params=start,
    frozen=base if config.lora.rank else {},
    parts=parts,
    data_seed=data_seed,
    plan=plan,
    folder=folder,
    log=log,
  )


def tokens(made: train_loop.Training) -> dict[str, int] | None:
  """See trees.tokens, of the pairs drawn from; says what it comes to."""
  if made.plan is None:
    return None
  pools = train_loop.shuffled(made.parts, made.data_seed)
  filling = tree_batches.filling(pools, made.loop.steps, made.plan)
  found = trees.tokens(
    [rows[tree_batches.TREES] for rows, _ in made.parts.values()], filling
  )
  per_pair = found['trees'] / found['pairs']
  progress.line(made.title, f'{per_pair:.0f} tokens a pair, {filling:.0%} filling')
  return found
