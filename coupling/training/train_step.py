"""The train step; pretraining and explanation training alike.

The step is a pure function of (state, numbers, batch). A batch is a dict of named
parts; each objective reads one part and returns (sum, count). Settings that are mere
numbers (`Hyper`) are inputs of the compiled step: other numbers compile nothing anew.
"""

from collections.abc import Callable, Sequence
import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from coupling.config import schema
from coupling.elicit import behavior
from coupling.elicit import options
from coupling.model import decoder
from coupling.model import lora
from coupling.model.architecture import DecoderConfig
from coupling.training import loss
from coupling.training import preference_loss
from coupling.training import tree_batches

State = dict[str, Any]  # params, opt_state, step
Batch = dict[str, Any]
Metrics = dict[str, jax.Array]
# [B, C, V] of the parts of a batch that are read; `reference`: M_0's of `behavior`;
# `preference`: log-probabilities of replies, [B, 2].
Logits = dict[str, jax.Array]
Number = np.float32 | jax.Array


class Hyper(NamedTuple):
  """The numbers of a training, which its program takes as inputs."""

  learning_rate: Number  # the schedule's peak
  weights: dict[str, Number]  # of the loss's terms
  beta: Number  # of dpo; 0 where that is no term


class Losses(NamedTuple):
  """One forward pass, and the terms that are computed from it."""

  forward: Callable[[decoder.Params, Batch], Logits]
  terms: dict[str, Callable[[Logits, Batch], loss.SumCount]]


class Form(NamedTuple):
  """What a program depends on of the objectives: not on weights, nor on what is asked.

  Whom a shift concerns, and where it leads, is a matter of the batches.
  """

  terms: tuple[str, ...]
  direction: str = ''  # this and the next are of behavior_kl, where it is a term
  support: str = ''
  reference: str = ''


PRETRAINING = Form(('answer_xent',))
TOTALS = ('loss', 'gradient_norm')  # metrics beside the terms


def hyper(objectives: schema.Objectives | None, optimizer: schema.Optimizer) -> Hyper:
  """The numbers of a training; objectives are None for pretraining."""
  weights = {k: np.float32(weight) for k, weight in _weights(objectives).items()}
  beta = objectives.dpo.beta if 'dpo' in weights else 0.0
  return Hyper(np.float32(optimizer.learning_rate), weights, np.float32(beta))


def form(objectives: schema.Objectives | None) -> Form:
  """The terms that are there, and how they are computed."""
  if objectives is None:
    return PRETRAINING
  terms = tuple(_weights(objectives))
  kl = objectives.behavior_kl
  of_kl = (kl.direction, kl.support, kl.reference) if kl.weight else ()
  return Form(terms, *of_kl)


def _weights(objectives: schema.Objectives | None) -> dict[str, float]:
  """Weights of the terms; those of weight 0 are left out, with their forward passes."""
  if objectives is None:
    return dict.fromkeys(PRETRAINING.terms, 1.0)
  names = [field.name for field in dataclasses.fields(objectives)]
  weights = {name: getattr(objectives, name).weight for name in names}
  return {name: weight for name, weight in weights.items() if weight}


def make_optimizer(
  config: schema.Optimizer, steps: int, peak: float | Number
) -> optax.GradientTransformation:
  """AdamW with clipping by global norm and the configured schedule.

  Args:
    config: its settings but for the learning rate.
    steps: of the whole training.
    peak: the highest learning rate; may be traced.
  """
  warmup = config.warmup_steps
  if config.schedule == 'cosine':
    rise = optax.linear_schedule(0.0, peak, warmup)
    decay = optax.cosine_decay_schedule(peak, steps - warmup)
    schedule = optax.join_schedules([rise, decay], [warmup])
  elif warmup:
    schedule = optax.warmup_constant_schedule(0.0, peak, warmup)
  else:  # with a warm-up of no steps optax would stay at the rate that it begins with
    schedule = optax.constant_schedule(peak)
  adamw = optax.adamw(
    schedule, b1=config.b1, b2=config.b2, weight_decay=config.weight_decay
  )
  return optax.chain(optax.clip_by_global_norm(config.clip_norm), adamw)


def base_losses(model: DecoderConfig) -> Losses:
  """Pretraining: cross-entropy of the answers in the corpus."""

  def forward(params, batch):
    return {'corpus': behavior.read_logits(model, params, batch['corpus'])}

  def answer_xent(logits, batch):
    part = batch['corpus']
    return loss.token_xent(logits['corpus'], part['target'], part['mask'])

  return Losses(forward, {'answer_xent': answer_xent})


def _read(
  model: DecoderConfig, params: decoder.Params, batch: Batch, names: Sequence[str]
) -> Logits:
  """Of parts with questions of their own, or of the trees whose rows they read."""
  if tree_batches.TREES not in batch:
    return {name: behavior.read_logits(model, params, batch[name]) for name in names}
  parts = {name: batch[name] for name in names}
  return behavior.read_trees(model, params, batch[tree_batches.TREES], parts)


def _on_support(support: str, part: Batch, logits_BxCxV: jax.Array) -> jax.Array:
  """Logits over what the KL is over, [B, C, V or K]."""
  if part['read'].ndim == 3:  # by options.look_up
    return options.logprobs(logits_BxCxV, part)
  if support == 'options':
    return behavior.restrict(logits_BxCxV, part['options'])
  return logits_BxCxV


def explanation_losses(
  model: DecoderConfig, form: Form, beta: Number | None = None
) -> Losses:
  """The multi-task loss of explanation training.

  Batches have an `explanation` part (see encoding.questions) and a `behavior` part
  with, beside the questions, `mask` [B, C]: positions that count; `options` [B, C, K];
  `reference` [B, C, V or K] (M_0's log-probabilities over the KL's support); and
  `shift_target` [B, C, K], `shift_mask` [B, C]; see
  behavior_shift.Shift. Where there is a part `trees`, these parts have no questions of
  their own, but read its rows. A `preference` part: see preference_reference.prepared.
  `beta` is of dpo, where that is a term.
  """
  read = functools.partial(_read, model)

  def forward(params, batch):
    logits = read(params, batch, [name for name in tree_batches.READ if name in batch])
    if form.reference == 'adapters_off':
      base = decoder.without_adapters(params)
      logits['reference'] = read(base, batch, ['behavior'])['behavior']
    if 'dpo' in form.terms:
      part = preference_loss.PART
      logits[part] = preference_loss.logprobs(model, params, batch[part])
    return logits

  def explanation_xent(logits, batch):
    part = batch['explanation']
    return loss.token_xent(logits['explanation'], part['target'], part['mask'])

  def behavior_kl(logits, batch):
    part = batch['behavior']
    on_support = functools.partial(_on_support, form.support, part)
    if form.reference == 'adapters_off':
      reference_BxCxV = jax.nn.log_softmax(on_support(logits['reference']))
    else:
      reference_BxCxV = part['reference']
    return loss.behavior_kl(
      on_support(logits['behavior']), reference_BxCxV, part['mask'], form.direction
    )

  def behavior_xent(logits, batch):
    part, found = batch['behavior'], logits['behavior']
    if part['read'].ndim == 3:
      logprobs_BxCxK = options.logprobs(found, part)
    else:
      logprobs_BxCxK = behavior.restrict(jax.nn.log_softmax(found), part['options'])
    return loss.option_xent(logprobs_BxCxK, part['shift_target'], part['shift_mask'])

  terms = {
    'explanation_xent': explanation_xent,
    'behavior_kl': behavior_kl,
    'behavior_xent': behavior_xent,
  }
  terms = {name: term for name, term in terms.items() if name in form.terms}
  if 'dpo' in form.terms:
    terms |= preference_loss.terms(beta)
  return Losses(forward, terms)


def train_step(
  losses: Losses,
  weights: dict[str, Number],
  optimizer: optax.GradientTransformation,
  accumulation: int,
  frozen: decoder.Params,
  state: State,
  batch: Batch,
) -> tuple[State, Metrics]:
  """One step: loss = sum over terms of weight * sum / count, over the whole batch.

  Args:
    losses: the forward pass and the terms.
    weights: name -> its weight; a term without one is a metric alone.
    optimizer: an optax optimizer.
    accumulation: microbatches that the batch's rows are dealt into.
    frozen: weights that are not trained, beside those of the state.
    state: params, opt_state, step.
    batch: parts with a leading batch axis that `accumulation` divides.

  Returns:
    The next state and metrics: the loss, each term's mean, the gradient's norm.
  """
  params = state['params']
  forward, terms = losses
  # The counts do not depend on the logits: XLA drops the unused forward pass.
  logits = forward(frozen | params, batch)
  counts = {name: term(logits, batch)[1] for name, term in terms.items()}

  def micro_loss(params, part):
    logits = forward(frozen | params, part)
    sums = {name: term(logits, part)[0] for name, term in terms.items()}
    means = {name: total / jnp.maximum(counts[name], 1) for name, total in sums.items()}
    weighed = [weights[name] * mean for name, mean in means.items() if name in weights]
    return sum(weighed), means

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


def fresh_adapters(
  model: DecoderConfig, low_rank: schema.Lora | None, seed: int
) -> decoder.Params:
  """Fresh adapters, where the config asks for some; of M_0 they change nothing."""
  if low_rank is None or not low_rank.rank:
    return {}
  adapters = lora.init(
    model,
    rank=low_rank.rank,
    alpha=low_rank.alpha,
    targets=low_rank.targets,
    first=low_rank.layers,
    seed=seed,
  )
  return {decoder.ADAPTERS: adapters}
