"""Log-likelihoods of given statements after one prompt.

Shapes: B items, M statements, G tokens of a statement, F = G - 1, V vocabulary.
"""

import jax
import jax.numpy as jnp

from coupling.model import decoder
from coupling.model.architecture import DecoderConfig


def statement_logprobs(
  config: DecoderConfig,
  params: decoder.Params,
  prompt_BxD: jax.Array,
  after_BxMxFxD: jax.Array,
  statements_BxMxG: jax.Array,
  end_tokens: tuple[int, ...],
) -> jax.Array:
  """Log-likelihoods of statements: sums over their tokens, not means per token.

  So exp() is the probability that sampling after the prompt says the statement. Its
  first end token is its last token and counts; what follows that is filling. Without
  an end token all G count, and nothing is said of what would come next.

  Args:
    config: the decoder's shape.
    params: its weights.
    prompt_BxD: hidden states after the prompt.
    after_BxMxFxD: and after each token of a statement but its last.
    statements_BxMxG: their tokens, negative where an item has fewer statements.
    end_tokens: tokens that end a statement.

  Returns:
    float32 [B, M], in nats; -inf where there is no statement, and where one repeats
    an earlier one of its item, so that every text counts once; NaN where a statement's
    is not finite.
  """
  M, target_BxMxG = statements_BxMxG.shape[1], jnp.maximum(statements_BxMxG, 0)

  def logprobs(hidden, target):
    """Of targets [B, X] after hidden states [B, X, D], or all after one [B, 1, D]."""
    logits = decoder.unembed(config, params, hidden)
    if hidden.shape[1] == 1:
      picked = jnp.take_along_axis(logits[:, 0], target, axis=-1)
    else:
      picked = jnp.take_along_axis(logits, target[..., None], axis=-1)[..., 0]
    return picked - jax.nn.logsumexp(logits, axis=-1)

  first_BxM = logprobs(prompt_BxD[:, None], target_BxMxG[:, :, 0])
  # Logits [B, F, V] of one statement at a time.
  rest_MxBxF = jax.lax.map(
    lambda x: logprobs(*x),
    (jnp.moveaxis(after_BxMxFxD, 1, 0), jnp.moveaxis(target_BxMxG[:, :, 1:], 1, 0)),
  )
  logprobs_BxMxG = jnp.concatenate(
    [first_BxM[:, :, None], jnp.moveaxis(rest_MxBxF, 0, 1)], axis=-1
  )
  ends_BxMxG = jnp.isin(statements_BxMxG, jnp.array(end_tokens, jnp.int32))
  counts_BxMxG = jnp.cumsum(ends_BxMxG, axis=-1) - ends_BxMxG == 0
  total_BxM = jnp.sum(jnp.where(counts_BxMxG, logprobs_BxMxG, 0), axis=-1)
  same_BxMxM = jnp.all(
    statements_BxMxG[:, :, None] == statements_BxMxG[:, None], axis=-1
  )
  new_BxM = jnp.argmax(same_BxMxM, axis=-1) == jnp.arange(M)
  there_BxM = statements_BxMxG[:, :, 0] >= 0
  total_BxM = jnp.where(jnp.isfinite(total_BxM), total_BxM, jnp.nan)
  return jnp.where(there_BxM & new_BxM, total_BxM, -jnp.inf)
