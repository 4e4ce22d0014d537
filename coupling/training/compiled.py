"""What training compiles to.

A program depends on `Settings` and on the devices alone. Numbers (train_step.Hyper) and
data are its inputs.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from coupling.config import schema
from coupling.model import decoder as decoder_lib
from coupling.model import sharding
from coupling.model.architecture import DecoderConfig
from coupling.training import train_step

# (state, frozen weights, numbers, batches) -> (state, metrics)
Run = Callable[
  [train_step.State, decoder_lib.Params, train_step.Hyper, train_step.Batch],
  tuple[train_step.State, train_step.Metrics],
]


class Settings(NamedTuple):
  """All that a training compiles to, but for the devices."""

  model: DecoderConfig
  low_rank: schema.Lora | None  # adapters to train, if any
  form: train_step.Form
  optimizer: schema.Optimizer  # but for its learning rate
  steps: int  # of the whole training; the schedule depends on them
  accumulation: int  # microbatches per step


class Program(NamedTuple):
  """Several steps of one training in one dispatch, split over all devices."""

  init: Callable[
    [decoder_lib.Params], train_step.State
  ]  # from weights to train, copied
  like: train_step.State  # shapes and shardings of the state, without memory
  run: Run
  batch_sharding: jax.sharding.Sharding  # of batches with a leading axis of steps


class Functions(NamedTuple):
  """The pure functions behind a program, and its weights without memory."""

  init: Callable[[decoder_lib.Params], train_step.State]
  run: Run
  trained: decoder_lib.Params
  frozen: decoder_lib.Params


def settings(
  model: DecoderConfig,
  low_rank: schema.Lora | None,
  objectives: schema.Objectives | None,
  optimizer: schema.Optimizer,
  steps: int,
  accumulation: int,
) -> Settings:
  """What a training compiles to; objectives are None for pretraining."""
  optimizer = dataclasses.replace(optimizer, learning_rate=1.0)
  low_rank = low_rank if low_rank is not None and low_rank.rank else None
  form = train_step.form(objectives)
  return Settings(model, low_rank, form, optimizer, steps, accumulation)


def decoder(model: DecoderConfig, config: schema.Train) -> DecoderConfig:
  """A model as a run trains it."""
  return dataclasses.replace(model, remat=config.remat, attention=config.attention)


def of_run(model: DecoderConfig, config: schema.Train) -> Settings:
  """What a run of explanation training compiles to."""
  return settings(
    decoder(model, config),
    config.lora,
    config.objectives,
    config.optimizer,
    config.loop.steps,
    config.loop.accumulation,
  )


@functools.lru_cache
def alone(settings: Settings, mesh: jax.sharding.Mesh) -> Program:
  """The program of one training; the same settings compile once.

  `run` takes batches with a leading axis of steps, donates the state and returns
  metrics with such an axis.
  """
  functions = pure(settings)

  shapes = jax.eval_shape(functions.init, functions.trained)
  state_shardings = sharding.state_shardings(mesh, shapes)
  frozen_shardings = sharding.state_shardings(mesh, functions.frozen)
  batch_sharding = sharding.batch_sharding(mesh, leading=1)
  everywhere = sharding.replicated(mesh)
  run = jax.jit(
    sharding.on(mesh)(functions.run),
    in_shardings=(state_shardings, frozen_shardings, everywhere, batch_sharding),
    out_shardings=(state_shardings, everywhere),
    donate_argnums=0,
  )
  like = jax.tree.map(
    lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
    shapes,
    state_shardings,
  )
  start = jax.jit(functions.init, out_shardings=state_shardings)
  return Program(start, like, run, batch_sharding)


def pure(settings: Settings) -> Functions:
  """The functions of a training, to be compiled in one way or another."""
  model, form = settings.model, settings.form
  if form == train_step.PRETRAINING:
    losses = train_step.base_losses(model)
  else:
    losses = train_step.explanation_losses(model, form)

  def make_optimizer(peak):
    return train_step.make_optimizer(settings.optimizer, settings.steps, peak)

  def init(params):
    opt_state = make_optimizer(1.0).init(params)  # the same for every rate
    return {'params': params, 'opt_state': opt_state, 'step': jnp.int32(0)}

  def run(state, frozen, hyper, batches):
    optimizer = make_optimizer(hyper.learning_rate)
    step = functools.partial(
      train_step.train_step,
      losses,
      hyper.weights,
      optimizer,
      settings.accumulation,
      frozen,
    )
    return jax.lax.scan(step, state, batches)

  base = decoder_lib.abstract(model)
  adapters = jax.eval_shape(
    lambda: train_step.fresh_adapters(model, settings.low_rank, 0)
  )
  trained, frozen = (adapters, base) if adapters else (base, {})
  return Functions(init, run, trained, frozen)


@functools.lru_cache
def together(
  settings: Settings, mesh: jax.sharding.Mesh, one_base: bool, vectorised: bool
) -> Run:
  """The program of several runs at once; the same settings and number compile once.

  Every array has a leading axis of runs, which is dealt over all devices: each run
  lies whole on one device. Of batches and metrics see `alone`.

  Args:
    settings: of every run.
    mesh: its axes are all devices, to runs.
    one_base: the frozen weights are those of all runs, and have no axis of runs.
    vectorised: a device computes its runs at the same time; else one after another.
  """
  run = pure(settings).run
  runs, base = P(mesh.axis_names), P() if one_base else P(mesh.axis_names)

  def on_device(state, frozen, hyper, batches):
    if vectorised:
      axes = (0, None if one_base else 0, 0, 0)
      return jax.vmap(run, axes)(state, frozen, hyper, batches)
    if one_base:
      one = lambda x: run(x[0], frozen, x[1], x[2])
      return jax.lax.map(one, (state, hyper, batches))
    return jax.lax.map(lambda x: run(*x), (state, frozen, hyper, batches))

  dealt = jax.shard_map(
    on_device,
    mesh=mesh,
    in_specs=(runs, base, runs, runs),
    out_specs=(runs, runs),
    check_vma=False,  # a scan within begins with constants, which differ in that
  )
  return jax.jit(dealt, donate_argnums=0)
