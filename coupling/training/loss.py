"""Terms of the loss. Every term returns (sum, count).

So a mean is right under padding, accumulation and sharding: sums and counts add up.
Shapes: B examples, C positions read per example, V vocabulary, K options.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import optax

SumCount = tuple[jax.Array, jax.Array]


def token_xent(
  logits_BxCxV: jax.Array, target_BxC: jax.Array, mask_BxC: jax.Array
) -> SumCount:
  """Cross-entropy -log p(target) in nats, over the positions that the mask admits."""
  xent_BxC = optax.softmax_cross_entropy_with_integer_labels(logits_BxCxV, target_BxC)
  return _masked(xent_BxC, mask_BxC)


def option_xent(
  logprobs_BxCxK: jax.Array, target_BxCxK: jax.Array, mask_BxC: jax.Array
) -> SumCount:
  """Cross-entropy -sum_k p_k log q(option k) in nats, q over all that may be said.

  Args:
    logprobs_BxCxK: log q of M_t; -inf where an item has fewer than K options.
    target_BxCxK: p, a distribution over the options.
    mask_BxC: positions that count.
  """
  q_BxCxK = jnp.where(jnp.isneginf(logprobs_BxCxK), 0.0, logprobs_BxCxK)
  return _masked(-jnp.sum(target_BxCxK * q_BxCxK, axis=-1), mask_BxC)


def behavior_kl(
  logits_BxCxV: jax.Array,
  reference_BxCxV: jax.Array,
  mask_BxC: jax.Array,
  direction: Literal['forward', 'reverse'],
) -> SumCount:
  """KL divergence in nats between M_0's and M_t's behaviour distributions.

  Args:
    logits_BxCxV: M_t's logits over the support (vocabulary, or the options; see
      behavior.restrict).
    reference_BxCxV: M_0's log-probabilities over the same support.
    mask_BxC: positions that count.
    direction: forward is KL(M_0 || M_t), reverse is KL(M_t || M_0).
  """
  p, q = reference_BxCxV, jax.nn.log_softmax(logits_BxCxV)
  if direction == 'reverse':
    p, q = q, p
  # Outside the support both are -inf; replaced before use, so gradients stay finite.
  support_BxCxV = reference_BxCxV != -jnp.inf  # NaN is not left out
  p, q = jnp.where(support_BxCxV, p, 0.0), jnp.where(support_BxCxV, q, 0.0)
  terms_BxCxV = jnp.where(support_BxCxV, jnp.exp(p) * (p - q), 0.0)
  return _masked(jnp.sum(terms_BxCxV, axis=-1), mask_BxC)


def dpo(margin_B: jax.Array) -> SumCount:
  """DPO's loss in nats (arXiv 2305.18290, equation 7), of `reward_margin`."""
  return _masked(-jax.nn.log_sigmoid(margin_B), jnp.ones_like(margin_B, bool))


def reward_margin(
  logprobs_Bx2: jax.Array, reference_Bx2: jax.Array, beta: float
) -> jax.Array:
  """The chosen reply's reward minus the rejected one's, [B].

  Args:
    logprobs_Bx2: M_t's log-probabilities of both replies, chosen first.
    reference_Bx2: M_0's.
    beta: of the reward, beta * log(M_t / M_0).
  """
  ratio_Bx2 = logprobs_Bx2 - reference_Bx2
  return beta * (ratio_Bx2[:, 0] - ratio_Bx2[:, 1])


def _masked(value: jax.Array, mask: jax.Array) -> SumCount:
  if value.shape != mask.shape:
    raise ValueError(f'The mask {mask.shape} is not of the values {value.shape}.')
  return jnp.sum(jnp.where(mask, value, 0.0)), jnp.sum(mask.astype(jnp.float32))
