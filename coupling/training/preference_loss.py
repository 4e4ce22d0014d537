"""DPO as a term of the loss: log-probabilities of replies, and what comes of them.

Shapes: B preferences, each with two replies (chosen, rejected); T tokens, C positions
read.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from coupling.elicit import options
from coupling.model import decoder
from coupling.model.architecture import DecoderConfig
from coupling.training import loss

PART = 'preference'  # of a batch, and of its logits: these are `logprobs`


def logprobs(
  model: DecoderConfig, params: decoder.Params, part: dict[str, jax.Array]
) -> jax.Array:
  """Log-probabilities of whole replies, summed over their tokens, float32 [B, 2].

  The end of turn is a token of a reply in a chat. `part`: of `rows`.
  """
  tokens, read, target, mask = (
    part[k].reshape(-1, part[k].shape[-1]) for k in ('tokens', 'read', 'target', 'mask')
  )
  hidden = decoder.apply(model, params, tokens, rows_BxC=read).hidden_BxCxD
  found = options.look_up(model, params, hidden, target[..., None])[..., 0]
  return jnp.sum(jnp.where(mask, found, 0.0), axis=-1).reshape(-1, 2)


def terms(
  beta: float | jax.Array,
) -> dict[str, Callable[[dict, dict[str, Any]], loss.SumCount]]:
  """The term `dpo` of (logits, batch), and two metrics that stand beside it.

  `beta`: see loss.reward_margin; may be traced.
  """

  def margin(logits, batch):
    return loss.reward_margin(logits[PART], batch[PART]['reference'], beta)

  def mean_of(value_B):
    return jnp.sum(value_B, dtype=jnp.float32), jnp.float32(len(value_B))

  return {
    'dpo': lambda *x: loss.dpo(margin(*x)),
    'dpo_accuracy': lambda *x: mean_of(margin(*x) > 0),
    'dpo_margin': lambda *x: mean_of(margin(*x)),
  }
