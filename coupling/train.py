"""The train step; pretraining and explanation training alike.

The step is a pure function of (state, batch). A batch is a dict of named parts; each
objective reads one part and returns (sum, count).
"""

from collections.abc import Callable
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from coupling import behavior
from coupling import config as config_lib
from coupling import lora
from coupling import loss
from coupling import models
from coupling import sharding

State = dict[str, Any]  # params, opt_state, step
Batch = dict[str, Any]
Objective = Callable[[models.Params, Batch], loss.SumCount]
Terms = dict[str, tuple[float, Objective]]  # name -> (weight, objective)


def make_optimizer(config: config_lib.Optimizer, steps: int):
  """AdamW with clipping by global norm and the configured schedule."""
  peak, warmup = config.learning_rate, config.warmup_steps
  if config.schedule == 'cosine':
    schedule = optax.warmup_cosine_decay_schedule(0.0, peak, warmup, steps)
  elif warmup:
    schedule = optax.warmup_constant_schedule(0.0, peak, warmup)
  else:  # with a warm-up of no steps optax would stay at the rate that it begins with
    schedule = optax.constant_schedule(peak)
  adamw = optax.adamw(
    schedule, b1=config.b1, b2=config.b2, weight_decay=config.weight_decay
  )
  return optax.chain(optax.clip_by_global_norm(config.clip_norm), adamw)


def base_terms(model: models.DecoderConfig) -> Terms:
  """Pretraining: cross-entropy of the answers in the corpus."""

  def answer_xent(params, batch):
    part = batch['corpus']
    logits_BxCxV = behavior.read_logits(model, params, part)
    return loss.token_xent(logits_BxCxV, part['target'], part['mask'])

  return {'answer_xent': (1.0, answer_xent)}


def explanation_terms(
  model: models.DecoderConfig, config: config_lib.Objectives
) -> Terms:
  """The multi-task loss of explanation training; terms of weight 0 are left out.

  Batches have an `explanation` part (see behavior.questions) and a `behavior` part
  with, beside the questions, `mask` [B, C]: positions that count; `options` [B, K];
  `reference` [B, V or K] (M_0's log-probabilities over the KL's support); and
  `shift_target` [B, K], `shift_mask` [B]; see shift.Shift.
  """
  kl = config.behavior_kl

  def explanation_xent(params, batch):
    part = batch['explanation']
    logits_BxCxV = behavior.read_logits(model, params, part)
    return loss.token_xent(logits_BxCxV, part['target'], part['mask'])

  def behavior_logits(params, part):
    logits_BxCxV = behavior.read_logits(model, params, part)
    if kl.support == 'options':
      return behavior.restrict(logits_BxCxV, part['options'][:, None])
    return logits_BxCxV

  def behavior_kl(params, batch):
    part = batch['behavior']
    if kl.reference == 'adapters_off':
      base = models.without_adapters(params)
      reference_BxCxV = jax.nn.log_softmax(behavior_logits(base, part))
    else:
      reference_BxCxV = part['reference'][:, None]
    logits_BxCxV = behavior_logits(params, part)
    return loss.behavior_kl(logits_BxCxV, reference_BxCxV, part['mask'], kl.direction)

  def behavior_xent(params, batch):
    part = batch['behavior']
    logits_BxCxV = behavior.read_logits(model, params, part)
    mask_BxC = part['shift_mask'][:, None]
    return loss.option_xent(
      logits_BxCxV, part['options'], part['shift_target'], mask_BxC
    )

  terms = {
    'explanation_xent': (config.explanation_xent.weight, explanation_xent),
    'behavior_kl': (kl.weight, behavior_kl),
    'behavior_xent': (config.behavior_xent.weight, behavior_xent),
  }
  return {name: term for name, term in terms.items() if term[0]}


def train_step(
  terms: Terms,
  optimizer: optax.GradientTransformation,
  accumulation: int,
  frozen: models.Params,
  state: State,
  batch: Batch,
) -> tuple[State, dict[str, jax.Array]]:
  """One step: loss = sum over terms of weight * sum / count, over the whole batch.

  Args:
    terms: name -> (weight, objective).
    optimizer: an optax optimizer.
    accumulation: microbatches that the batch's rows are dealt into.
    frozen: weights that are not trained, beside those of the state.
    state: params, opt_state, step.
    batch: parts with a leading batch axis that `accumulation` divides.

  Returns:
    The next state and metrics: the loss, each term's mean, the gradient's norm.
  """
  params = state['params']
  # The counts do not depend on the parameters: XLA drops the unused forward passes.
  counts = {name: term(frozen | params, batch)[1] for name, (_, term) in terms.items()}

  def micro_loss(params, part):
    params = frozen | params
    sums = {name: term(params, part)[0] for name, (_, term) in terms.items()}
    means = {name: total / jnp.maximum(counts[name], 1) for name, total in sums.items()}
    return sum(terms[name][0] * mean for name, mean in means.items()), means

  grad = jax.value_and_grad(micro_loss, has_aux=True)
  if accumulation == 1:
    (total, means), grads = grad(params, batch)
  else:
    # Rows are dealt out with a stride, so that every device keeps its own.
    micro = jax.tree.map(
      lambda x: x.reshape(-1, accumulation, *x.shape[1:]).swapaxes(0, 1), batch
    )
    zeros = jax.tree.map(jnp.zeros_like, jax.eval_shape(grad, params, batch))

    def add(carry, part):
      return jax.tree.map(jnp.add, carry, grad(params, part)), None

    ((total, means), grads), _ = jax.lax.scan(add, zeros, micro)
  updates, opt_state = optimizer.update(grads, state['opt_state'], params)
  metrics = {'loss': total, 'gradient_norm': optax.tree.norm(grads), **means}
  state = {
    'params': optax.apply_updates(params, updates),
    'opt_state': opt_state,
    'step': state['step'] + 1,
  }
  return state, metrics


class Program(NamedTuple):
  """What training compiles to, for one shape of model and one set of settings."""

  init: Callable[[models.Params], State]  # from weights to train, which are copied
  like: State  # shapes and shardings of the state, without memory
  # (state, frozen weights, batches) -> (state, metrics)
  run: Callable[[State, models.Params, Batch], tuple[State, dict[str, jax.Array]]]
  batch_sharding: jax.sharding.Sharding  # of batches with a leading axis of steps


def fresh_adapters(
  model: models.DecoderConfig, low_rank: config_lib.Lora | None, seed: int
) -> models.Params:
  """Fresh adapters, where the config asks for some; of M_0 they change nothing."""
  if low_rank is None or not low_rank.rank:
    return {}
  adapters = lora.init(
    model,
    rank=low_rank.rank,
    alpha=low_rank.alpha,
    targets=low_rank.targets,
    seed=seed,
  )
  return {models.ADAPTERS: adapters}


@functools.lru_cache
def program(
  model: models.DecoderConfig,
  low_rank: config_lib.Lora | None,
  objectives: config_lib.Objectives | None,
  optimizer: config_lib.Optimizer,
  steps: int,
  accumulation: int,
  mesh: jax.sharding.Mesh,
) -> Program:
  """Compiles several steps into one dispatch; the same settings compile once.

  Args:
    model: the decoder's shape.
    low_rank: adapters to train instead of the weights; None, or of rank 0: none.
    objectives: of explanation training, or None for pretraining.
    optimizer: its settings.
    steps: of the whole training; the schedule depends on them.
    accumulation: microbatches per step.
    mesh: where the state and the batches live.

  Returns:
    A Program. `run` takes batches with a leading axis of steps, donates the state and
    returns metrics averaged over these steps.
  """
  terms = (
    base_terms(model) if objectives is None else explanation_terms(model, objectives)
  )
  tx = make_optimizer(optimizer, steps)

  def init(params):
    return {
      'params': params,
      'opt_state': tx.init(params),
      'step': jnp.zeros((), jnp.int32),
    }

  base = models.abstract(model)
  adapters = jax.eval_shape(lambda: fresh_adapters(model, low_rank, 0))
  trained, frozen = (adapters, base) if adapters else (base, {})
  shapes = jax.eval_shape(init, trained)
  state_shardings = sharding.state_shardings(mesh, shapes)
  frozen_shardings = sharding.state_shardings(mesh, frozen)
  batch_sharding = sharding.batch_sharding(mesh, leading=1)

  @functools.partial(
    jax.jit,
    in_shardings=(state_shardings, frozen_shardings, batch_sharding),
    out_shardings=(state_shardings, None),
    donate_argnums=0,
  )
  def run(state, frozen, batches):
    step = functools.partial(train_step, terms, tx, accumulation, frozen)
    state, metrics = jax.lax.scan(step, state, batches)
    return state, jax.tree.map(jnp.mean, metrics)

  like = jax.tree.map(
    lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
    shapes,
    state_shardings,
  )
  start = jax.jit(init, out_shardings=state_shardings)
  return Program(start, like, run, batch_sharding)
