"""A run's training: the stage that keeps it, and what it trains, from what, on what."""

from collections.abc import Iterator
import contextlib
import pathlib

from coupling import base as base_lib
from coupling import config as config_lib
from coupling import examples
from coupling import fit as fit_lib
from coupling import hosts
from coupling import inputs
from coupling import label_sets
from coupling import models
from coupling import packed
from coupling import programs
from coupling import progress
from coupling import sharding
from coupling import sources
from coupling import steps
from coupling import trained
from coupling import workdir as workdir_lib
from data import trees

Experiment = config_lib.Experiment
Path = pathlib.Path


@contextlib.contextmanager
def open_stage(
  e: Experiment, workdir: Path, seed: int, run: str
) -> Iterator[tuple[workdir_lib.Stage, dict[str, workdir_lib.Stage]]]:
  """A run's train stage, opened, and the stages that it needs."""
  root, config = workdir / f'seed{seed}', e.runs[run]
  base_lib.check_trainable(e, seed)
  needs = {k: inputs.stage(e, workdir, seed, k) for k in ('base', 'label')}
  needs['target'] = label_sets.of_run(e, workdir, seed, config)
  if config.start:
    of_start = inputs.stage_config(e, 'train', seed, config.start)
    first = root / config.start / 'train'
    needs['start'] = workdir_lib.finished_stage(first, of_start)
  described = inputs.stage_config(e, 'train', seed, run)
  folder = root / run / 'train'
  with hosts.open_stage(folder, 'train', described, needs) as stage:
    yield stage, needs


def make(
  e: Experiment,
  workdir: Path,
  seed: int,
  run: str,
  stage: workdir_lib.Stage,
  needs: dict[str, workdir_lib.Stage],
  base: models.Params,
) -> fit_lib.Training:
  """How a run is trained, on what, and where it is kept.

  Args:
    e: the experiment.
    workdir: its folder.
    seed, run: of the training.
    stage: that keeps it.
    needs: stages that it is made from.
    base: M_0; runs that share it share its memory.

  Raises:
    ConfigError: labels or objectives that leave nothing to train on.
  """
  config = e.runs[run]
  try:
    found = sources.training_sources(e, seed, config, needs['label'], needs['target'])
    parts = examples.training_parts(
      config, inputs.format(e), inputs.questions(e), *found
    )
  except config_lib.ConfigError as error:
    raise config_lib.ConfigError(f'runs.{run}: {error}') from error
  data_seed = steps.train_seed(seed, config)
  plan = None
  if config.trees:
    mesh = sharding.make_mesh(e.mesh)
    multiple = sharding.batch_parts(mesh) * config.loop.accumulation
    pools = fit_lib.shuffled(parts, data_seed)
    plan = packed.plan(pools, config.loop.steps, multiple)
  return fit_lib.Training(
    title=f'seed {seed} · {run} · train',
    model=programs.decoder(inputs.decoder(e), config),
    low_rank=config.lora,
    objectives=config.objectives,
    optimizer=config.optimizer,
    loop=config.loop,
    mesh_axes=e.mesh,
    params=steps.start(e, workdir, seed, run) or base,
    frozen=base if config.lora.rank else {},
    parts=parts,
    data_seed=data_seed,
    plan=plan,
    folder=stage.path(trained.FOLDER),
    log=workdir / 'tensorboard' / f'seed{seed}' / run,
  )


def tokens(made: fit_lib.Training) -> dict[str, int] | None:
  """See trees.tokens, of the pairs drawn from; says what it comes to."""
  if made.plan is None:
    return None
  pools = fit_lib.shuffled(made.parts, made.data_seed)
  filling = packed.filling(pools, made.loop.steps, made.plan)
  found = trees.tokens([rows[packed.TREES] for rows, _ in made.parts.values()], filling)
  per_pair = found['trees'] / found['pairs']
  progress.line(made.title, f'{per_pair:.0f} tokens a pair, {filling:.0%} filling')
  return found
