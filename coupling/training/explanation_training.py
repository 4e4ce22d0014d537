"""An explanation training: a model, what it draws from, and where it is kept."""

import pathlib

from coupling.config import schema
from coupling.model import decoder
from coupling.model import sharding
from coupling.model.architecture import DecoderConfig
from coupling.training import compiled
from coupling.training import train_loop
from coupling.training import tree_batches
from data import loader

Parts = dict[str, tuple[loader.Arrays, int]]


def make(
  title: str,
  config: schema.Train,
  model: DecoderConfig,
  parts: Parts,
  data_seed: int,
  base: decoder.Params,
  start: decoder.Params,
  mesh: schema.Mesh,
  folder: pathlib.Path,
  log: pathlib.Path,
) -> train_loop.Training:
  """A training on what examples.training_parts has made.

  Args:
    title: for the progress line.
    config: of the training.
    model: M_0's shape.
    parts: what is drawn from, and sizes of batches.
    data_seed: of the order of the data.
    base: M_0.
    start: the weights to train, as they start: fresh adapters, or M_0's.
    mesh: axes.
    folder: of the checkpoints.
    log: TensorBoard folder.
  """
  plan = None
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
