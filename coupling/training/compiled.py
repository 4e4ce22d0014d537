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

from coupling.config import schema
from coupling.model import decoder as decoder_lib
from coupling.model import sharding
from coupling.model.architecture import DecoderConfig
from coupling.training import train_step


class Settings(NamedTuple):
  """All that a training compiles to, but for the devices."""

  model: DecoderConfig
  low_rank: schema.Lora | None  # adapters to train, if any
  form: train_step.Form
  optimizer: schema.Optimizer  # but for its learning rate
  steps: int  # of the whole training; the schedule depends on them
  accumulation: int  # microbatches per step


class Program(NamedTuple):
  """Several steps of a training in one dispatch, split over all devices.

  Attributes:
    init: from weights to train, which are copied, to the state before the first step.
    run: (state, frozen weights, numbers, batches) -> (state, metrics). Batches and
      metrics have a leading axis of steps; the state is donated.
    like: shapes and shardings of the state, without memory.
    frozen: likewise of the weights that are not trained.
    batch_sharding: of batches with their axis of steps.
  """

  init: Callable[[decoder_lib.Params], train_step.State]
  run: Callable[
    [train_step.State, decoder_lib.Params, train_step.Hyper, train_step.Batch],
    tuple[train_step.State, train_step.Metrics],
  ]
  like: train_step.State
  frozen: decoder_lib.Params
  batch_sharding: jax.sharding.Sharding


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
def program(settings: Settings, mesh: jax.sharding.Mesh) -> Program:
  """The program of a training; the same settings compile once."""
  model, form = settings.model, settings.form

  def make_losses(beta):
    if form == train_step.PRETRAINING:
      return train_step.base_losses(model)
    return train_step.explanation_losses(model, form, beta)

  def make_optimizer(peak):
    return train_step.make_optimizer(settings.optimizer, settings.steps, peak)

  def init(params):
    opt_state = make_optimizer(1.0).init(params)  # the same for every rate
    return {'params': params, 'opt_state': opt_state, 'step': jnp.int32(0)}

  def run(state, frozen, hyper, batches):
    optimizer = make_optimizer(hyper.learning_rate)
    step = functools.partial(
      train_step.train_step,
      make_losses(hyper.beta),
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
  like = sharding.placed(mesh, jax.eval_shape(init, trained))
  frozen = sharding.placed(mesh, frozen)
  places, frozen_places = jax.tree.map(lambda x: x.sharding, (like, frozen))
  batch_sharding = sharding.batch_sharding(mesh, leading=1)
  everywhere = sharding.replicated(mesh)
  run = jax.jit(
    sharding.on(mesh)(run),
    in_shardings=(places, frozen_places, everywhere, batch_sharding),
    out_shardings=(places, everywhere),
    donate_argnums=0,
  )
  init = jax.jit(init, out_shardings=places)
  return Program(init, run, like, frozen, batch_sharding)
