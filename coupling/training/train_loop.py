"""The loop around the train step: batches in, checkpoints and logs out.

One loop serves a run that has all devices (`fit`) and several runs at once (sweep.fit);
what they do on devices is given by `OnDevices`.
"""

from collections.abc import Callable, Iterable, Sequence
import contextlib
import dataclasses
import pathlib
from typing import NamedTuple

import jax
import numpy as np
import tensorboardX

from coupling.checkpoints import kept_steps
from coupling.config import schema
from coupling.model import decoder
from coupling.model import sharding
from coupling.model.architecture import DecoderConfig
from coupling.runtime import distributed
from coupling.runtime import finite
from coupling.runtime import interrupt
from coupling.runtime import progress
from coupling.training import compiled
from coupling.training import divergence
from coupling.training import train_step
from coupling.training import tree_batches
from data import loader

# Part of a batch -> the field of the config that sets its size.
BATCH_FIELDS = {
  'corpus': 'base.batch',
  'explanation': 'train.explanation_batch',
  'behavior': 'train.behavior_batch',
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
  """One run: how it is trained, from what, on what, and where it is kept."""

  title: str  # for the progress line
  model: DecoderConfig
  low_rank: schema.Lora | None  # adapters to train; None, or of rank 0: none
  objectives: schema.Objectives | None  # None: pretraining
  optimizer: schema.Optimizer
  loop: schema.Loop
  mesh_axes: schema.Mesh
  params: decoder.Params  # weights to train, as they start
  frozen: decoder.Params  # weights beside them that stay as they are
  parts: dict[str, tuple[loader.Arrays, int]]  # what is drawn -> rows, rows per batch
  data_seed: int  # of the order of the rows
  plan: (
    tree_batches.Plan | None
  )  # of batches of trees; None: the parts are those of a batch
  folder: pathlib.Path  # of the checkpoints
  log: pathlib.Path  # TensorBoard folder
  lasting: bool = True  # whether the folder outlives the process

  @property
  def settings(self) -> compiled.Settings:
    return compiled.settings(
      self.model,
      self.low_rank,
      self.objectives,
      self.optimizer,
      self.loop.steps,
      self.loop.accumulation,
    )

  @property
  def hyper(self) -> train_step.Hyper:
    return train_step.hyper(self.objectives, self.optimizer)


class OnDevices(NamedTuple):
  """What the loop asks of the devices, for one run or for several."""

  program: compiled.Program  # of one run: how it starts, and what is restored
  join: Callable[
    [Iterable[train_step.State]], train_step.State
  ]  # of the states of all runs
  split: Callable[[train_step.State], list[train_step.State]]  # and back
  # (joined state, each run's batches) -> (joined state, metrics of runs and steps)
  run: Callable[
    [train_step.State, list[train_step.Batch]],
    tuple[train_step.State, train_step.Metrics],
  ]


def fit(training: Training) -> decoder.Params:
  """Trains one run, or its latest checkpoint, to the end; returns its weights.

  Raises:
    Interrupted: after saving, when a signal asked for it.
    NonFiniteError: see `train_all`.
  """
  mesh = make_mesh(training)
  program = compiled.alone(training.settings, mesh)

  def run(state, batches):
    batches = distributed.put(batches[0], program.batch_sharding)
    done = program.run(state, training.frozen, training.hyper, batches)
    state, metrics = distributed.settled(done)
    return state, {name: x[None] for name, x in metrics.items()}

  (params,) = train_all(
    [training],
    OnDevices(program, lambda states: next(iter(states)), lambda state: [state], run),
  )
  return params


def make_mesh(training: Training) -> jax.sharding.Mesh:
  """The run's mesh; ConfigError where it does not divide the run's batches."""
  mesh = sharding.make_mesh(training.mesh_axes)
  if training.plan is not None:
    return mesh  # which was planned for
  for name, (_, batch) in training.parts.items():
    field, parts = BATCH_FIELDS[name], training.loop.accumulation
    sharding.check_batch(mesh, field, batch, parts)
  return mesh


def shuffled(
  parts: dict[str, tuple[loader.Arrays, int]], data_seed: int
) -> dict[str, loader.ShuffledBatches]:
  """The rows of each part in the order in which they are drawn."""
  return {
    name: loader.ShuffledBatches(rows, batch, data_seed)
    for name, (rows, batch) in parts.items()
  }


def train_all(trainings: Sequence[Training], on: OnDevices) -> list[decoder.Params]:
  """Trains runs of equal length to the end, from the latest step that all have kept.

  A run that has kept later steps is trained again from there.

  Raises:
    Interrupted: after saving all runs, when a signal asked for it.
    NonFiniteError: at the first dispatch with a step in which some run's loss, one of
      its terms or the gradient is not finite, or a state to be saved is not; what was
      kept before stays.
  """
  loop = trainings[0].loop
  with contextlib.ExitStack() as stack:
    enter = lambda resource: stack.enter_context(contextlib.closing(resource))
    runs = [enter(_Run(training)) for training in trainings]
    kept = distributed.first(_latest, runs)
    state = on.join(run.begin(on.program, kept) for run in runs)

    def save():
      for run, one in zip(runs, on.split(state)):
        run.save(one)

    if kept is None:
      save()
    step = kept or 0
    logs = enter(_Logs(trainings, step))
    running = None  # step and metrics of the last dispatch, which may not be done yet

    def log_and_check():
      if running is not None:
        step, metrics = running
        metrics = jax.device_get(metrics)
        logs.write(step, metrics)
        if bad := divergence.first(step, metrics):
          raise runs[bad.run].failure(bad.found, bad.updates)

    while step < loop.steps:
      state, metrics = on.run(state, [run.batches(step) for run in runs])
      # Read only now, so that a device never waits for the next batches.
      log_and_check()
      for run in runs:
        run.poll()
      step += loop.steps_per_dispatch
      running = step, metrics
      stopping = distributed.stopping()
      due = any(step % t.loop.checkpoint_every == 0 for t in trainings)
      if stopping or due or step == loop.steps:
        log_and_check()
        running = None
        save()
      if stopping:
        break
  if step < loop.steps:
    raise interrupt.Interrupted(stopping)
  return [one['params'] for one in on.split(state)]


class _Run:
  """A run within the loop: its batches and its checkpoints."""

  def __init__(self, training: Training):
    self._training = training
    self._data = shuffled(training.parts, training.data_seed)
    self._position = {'data_seed': training.data_seed}
    self._checkpoints = kept_steps.Checkpoints(
      training.folder, training.loop.checkpoint_every
    )

  def kept(self) -> set[int]:
    """Steps that can be resumed: those up to the first missing one."""
    kept, loop = self._checkpoints.steps(), self._training.loop
    due = range(0, loop.steps, loop.checkpoint_every)
    missing = min((step for step in due if step not in kept), default=loop.steps)
    return {step for step in kept if step <= missing}

  def begin(self, program: compiled.Program, step: int | None) -> train_step.State:
    """The state at a kept step, the last from now on; at None, before the first."""
    self._checkpoints.drop_after(step)
    if step is not None:
      return self._checkpoints.restore(step, program.like, self._position)
    return distributed.settled(program.init(self._training.params))

  def batches(self, step: int) -> train_step.Batch:
    """Those of one dispatch, with a leading axis of steps."""
    plan = self._training.plan
    drawn = [
      {name: part[step + i] for name, part in self._data.items()}
      for i in range(self._training.loop.steps_per_dispatch)
    ]
    if plan is not None:
      drawn = [tree_batches.pack([*parts.values()], plan) for parts in drawn]
    return jax.tree.map(lambda *x: np.stack(x), *drawn)

  def save(self, state: train_step.State) -> None:
    try:
      self._checkpoints.save(state, self._position)
    except finite.NonFiniteError as error:
      raise self.failure(str(error), int(state['step'])) from error

  def failure(self, found: str, updates: int) -> finite.NonFiniteError:
    """The error for what was found not finite after so many updates."""
    self._checkpoints.settle()
    last = max(distributed.first(self.kept), default=None)
    last = last if self._training.lasting else None
    return divergence.error(self._training, found, updates, last)

  def poll(self) -> None:
    self._checkpoints.poll()

  def close(self) -> None:
    self._checkpoints.close()


def _latest(runs: Sequence[_Run]) -> int | None:
  """The last step that all runs have kept; None: there is none."""
  return max(set.intersection(*(run.kept() for run in runs)), default=None)


class _Logs:
  """A TensorBoard log for each run, and one line of progress."""

  def __init__(self, trainings: Sequence[Training], step: int):
    # What was logged after the checkpoint is logged again.
    self._writers = [
      tensorboardX.SummaryWriter(
        str(training.log), purge_step=step + 1, write_to_disk=distributed.is_first()
      )
      for training in trainings
    ]
    first, count = trainings[0].title, len(trainings)
    title = first if count == 1 else f'{first} and {count - 1} other runs at once'
    self._bar = progress.Progress(title, trainings[0].loop.steps, 'steps')
    self._bar.update(step)

  def write(self, step: int, metrics: train_step.Metrics) -> None:
    """Metrics of one dispatch, of each run and step, averaged over its steps."""
    metrics = {name: x.mean(axis=1) for name, x in metrics.items()}
    for name, values in metrics.items():
      for writer, value in zip(self._writers, values):
        writer.add_scalar(f'train/{name}', value, step)
    worst = {'highest': np.max(metrics['loss'])} if len(self._writers) > 1 else {}
    self._bar.update(step, loss=np.median(metrics['loss']), **worst)

  def close(self) -> None:
    for writer in self._writers:
      writer.close()
