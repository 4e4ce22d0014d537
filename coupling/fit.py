"""The loop around the train step: batches in, checkpoints and logs out."""

import contextlib
import pathlib

import jax
import numpy as np
import tensorboardX

from coupling import checkpoint
from coupling import config as config_lib
from coupling import interrupt
from coupling import models
from coupling import programs
from coupling import progress
from coupling import sharding
from coupling import train
from data import loader

# Part of a batch -> the field of the config that sets its size.
BATCH_FIELDS = {
  'corpus': 'base.batch',
  'explanation': 'train.explanation_batch',
  'behavior': 'train.behavior_batch',
}


def fit(
  *,
  title: str,
  model: models.DecoderConfig,
  low_rank: config_lib.Lora | None,
  objectives: config_lib.Objectives | None,
  optimizer: config_lib.Optimizer,
  loop: config_lib.Loop,
  mesh_axes: config_lib.Mesh,
  params: models.Params,
  frozen: models.Params,
  parts: dict[str, tuple[loader.Arrays, int]],
  data_seed: int,
  folder: pathlib.Path,
  log: pathlib.Path,
) -> models.Params:
  """Trains `params`, or those of the latest checkpoint in `folder`, to the end.

  Args:
    title: for the progress line.
    model: the decoder's shape.
    low_rank, objectives: see programs.Settings.
    optimizer: its settings.
    loop: how long, how often.
    mesh_axes: axes of devices.
    params: weights to train, as they start.
    frozen: weights beside them that stay as they are.
    parts: name of a batch part -> (its rows, rows per batch).
    data_seed: of the order of the rows.
    folder: of the checkpoints.
    log: TensorBoard folder.

  Returns:
    The trained weights.

  Raises:
    Interrupted: after saving, when a signal asked for it.
  """
  mesh = sharding.make_mesh(mesh_axes)
  for name, (_, batch) in parts.items():
    sharding.check_batch(mesh, BATCH_FIELDS[name], batch, loop.accumulation)
  settings = programs.settings(
    model, low_rank, objectives, optimizer, loop.steps, loop.accumulation
  )
  program = programs.alone(settings, mesh)
  hyper = train.hyper(objectives, optimizer)
  batches = {
    name: loader.ShuffledBatches(rows, batch, data_seed)
    for name, (rows, batch) in parts.items()
  }
  position = {'data_seed': data_seed}
  checkpoints = checkpoint.Checkpoints(folder, loop.checkpoint_every)
  step = checkpoints.latest()
  if step is None:
    step, state = 0, program.init(params)
    checkpoints.save(state, position)
  else:
    state = checkpoints.restore(step, program.like, position)
  # What was logged after the checkpoint is logged again.
  writer = tensorboardX.SummaryWriter(str(log), purge_step=step + 1)
  bar = progress.Progress(title, loop.steps, 'steps')
  bar.update(step)
  with contextlib.closing(checkpoints), contextlib.closing(writer):
    running = None  # step and metrics of the last dispatch, which may not be done yet
    while step < loop.steps:
      rows = [
        {name: part[step + i] for name, part in batches.items()}
        for i in range(loop.steps_per_dispatch)
      ]
      stacked = jax.tree.map(lambda *x: np.stack(x), *rows)
      stacked = jax.device_put(stacked, program.batch_sharding)
      state, metrics = program.run(state, frozen, hyper, stacked)
      # Read only now, so that a device never waits for the next batches.
      _log(writer, bar, running)
      step += loop.steps_per_dispatch
      running = step, metrics
      stopping = interrupt.requested()
      if stopping or step % loop.checkpoint_every == 0 or step == loop.steps:
        checkpoints.save(state, position)
      if stopping:
        break
    _log(writer, bar, running)
  if step < loop.steps:
    interrupt.check()
  return state['params']


def _log(
  writer: tensorboardX.SummaryWriter,
  bar: progress.Progress,
  done: tuple[int, dict[str, jax.Array]] | None,
) -> None:
  """Metrics of one dispatch, once it is done."""
  if done is not None:
    step, metrics = done
    metrics = jax.device_get(metrics)
    for name, value in metrics.items():
      writer.add_scalar(f'train/{name}', value, step)
    bar.update(step, loss=metrics['loss'])
