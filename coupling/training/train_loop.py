"""The loop around the train step: batches in, checkpoints and logs out."""

import contextlib
import dataclasses
import pathlib

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
from coupling.training import preference_loss
from coupling.training import train_step
from coupling.training import tree_batches
from data import loader

# Part of a batch -> the field of the config that sets its size.
BATCH_FIELDS = {
  'corpus': 'base.batch',
  'explanation': 'train.explanation_batch',
  'behavior': 'train.behavior_batch',
  preference_loss.PART: 'train.objectives.dpo.batch',
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
  plan: tree_batches.Plan | None  # of batches of trees; None: no part is of trees
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


def fit(training: Training) -> decoder.Params:
  """Trains a run to the end, from the latest step that it has kept; its weights.

  Raises:
    ConfigError: a mesh that does not divide the batches.
    Interrupted: after saving, when a signal asked for it.
    NonFiniteError: at the first dispatch with a step in which the loss, one of its
      terms or the gradient is not finite, or a state to be saved is not; what was
      kept before stays.
  """
  loop = training.loop
  with contextlib.ExitStack() as stack:
    enter = lambda resource: stack.enter_context(contextlib.closing(resource))
    run = enter(_Run(training))
    kept = distributed.first(run.latest)
    state = run.begin(kept)
    if kept is None:
      run.save(state)
    step = kept or 0
    log = enter(_Log(training, step))
    running = None  # step and metrics of the last dispatch, which may not be done yet

    def log_and_check():
      if running is not None:
        step, metrics = running
        metrics = jax.device_get(metrics)
        log.write(step, metrics)
        if bad := divergence.first(step, metrics):
          raise run.failure(bad.found, bad.updates)

    while step < loop.steps:
      state, metrics = run.dispatch(state, step)
      # Read only now, so that a device never waits for the next batches.
      log_and_check()
      run.poll()
      step += loop.steps_per_dispatch
      running = step, metrics
      stopping = distributed.stopping()
      if stopping or step % loop.checkpoint_every == 0 or step == loop.steps:
        log_and_check()
        running = None
        run.save(state)
      if stopping:
        break
  if step < loop.steps:
    raise interrupt.Interrupted(stopping)
  return state['params']


def _make_mesh(training: Training) -> jax.sharding.Mesh:
  """The run's mesh; ConfigError where it does not divide the run's batches."""
  mesh = sharding.make_mesh(training.mesh_axes)
  for name, (rows, batch) in training.parts.items():
    if tree_batches.TREES in rows:
      continue  # which was planned for
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


def _packed(drawn: train_step.Batch, plan: tree_batches.Plan) -> train_step.Batch:
  """The trees of a draw in rows, and the parts that are none as they are."""
  trees = [x for x in drawn.values() if tree_batches.TREES in x]
  others = {k: x for k, x in drawn.items() if tree_batches.TREES not in x}
  return tree_batches.pack(trees, plan) | others


class _Run:
  """A run within the loop: its steps and its checkpoints."""

  def __init__(self, training: Training):
    self._training = training
    self._program = compiled.program(training.settings, _make_mesh(training))
    self._hyper = train_step.hyper(training.objectives, training.optimizer)
    self._data = shuffled(training.parts, training.data_seed)
    self._position = {'data_seed': training.data_seed}
    self._checkpoints = kept_steps.Checkpoints(
      training.folder, training.loop.checkpoint_every
    )

  def latest(self) -> int | None:
    """The last step that can be resumed: of those up to the first missing one."""
    kept, loop = self._checkpoints.steps(), self._training.loop
    due = range(0, loop.steps, loop.checkpoint_every)
    missing = min((step for step in due if step not in kept), default=loop.steps)
    return max((step for step in kept if step <= missing), default=None)

  def begin(self, step: int | None) -> train_step.State:
    """The state at a kept step, the last from now on; at None, before the first."""
    self._checkpoints.drop_after(step)
    if step is not None:
      return self._checkpoints.restore(step, self._program.like, self._position)
    return distributed.settled(self._program.init(self._training.params))

  def dispatch(
    self, state: train_step.State, step: int
  ) -> tuple[train_step.State, train_step.Metrics]:
    """The state some steps on, and their metrics, which may not be there yet."""
    batches = distributed.put(self._batches(step), self._program.batch_sharding)
    return distributed.settled(
      self._program.run(state, self._training.frozen, self._hyper, batches)
    )

  def _batches(self, step: int) -> train_step.Batch:
    """Those of one dispatch, with a leading axis of steps."""
    plan = self._training.plan
    drawn = [
      {name: part[step + i] for name, part in self._data.items()}
      for i in range(self._training.loop.steps_per_dispatch)
    ]
    if plan is not None:
      drawn = [_packed(parts, plan) for parts in drawn]
    return jax.tree.map(lambda *x: np.stack(x), *drawn)

  def save(self, state: train_step.State) -> None:
    try:
      self._checkpoints.save(state, self._position)
    except finite.NonFiniteError as error:
      raise self.failure(str(error), int(state['step'])) from error

  def failure(self, found: str, updates: int) -> finite.NonFiniteError:
    """The error for what was found not finite after so many updates."""
    self._checkpoints.settle()
    last = distributed.first(self.latest) if self._training.lasting else None
    return divergence.error(self._training, found, updates, last)

  def poll(self) -> None:
    self._checkpoints.poll()

  def close(self) -> None:
    self._checkpoints.close()


class _Log:
  """A TensorBoard log and a line of progress."""

  def __init__(self, training: Training, step: int):
    # What was logged after the checkpoint is logged again. Files are named by the
    # second, so that one resumed in the same second would lose what is there.
    self._writer = tensorboardX.SummaryWriter(
      str(training.log),
      purge_step=step + 1,
      filename_suffix=f'.{step}',
      write_to_disk=distributed.is_first(),
    )
    self._bar = progress.Progress(training.title, training.loop.steps, 'steps')
    self._bar.update(step)

  def write(self, step: int, metrics: train_step.Metrics) -> None:
    """Metrics of one dispatch, averaged over its steps."""
    means = {name: x.mean() for name, x in metrics.items()}
    for name, mean in means.items():
      self._writer.add_scalar(f'train/{name}', mean, step)
    self._bar.update(step, loss=means['loss'])

  def close(self) -> None:
    self._writer.close()
