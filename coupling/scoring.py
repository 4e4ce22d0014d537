"""Log-likelihoods of given statements after one prompt.

A statement branches off after the prompt: it sees the prompt and its own earlier
tokens, and its positions continue from the fork. Shapes: B items, T prompt tokens, M
statements, G tokens of a statement, S = T + M (G - 1) slots, V vocabulary.
"""

import jax
import jax.numpy as jnp
import numpy as np

from coupling import models


def statement_logprobs(
  config: models.DecoderConfig,
  params: models.Params,
  hidden_BxMxGxD: jax.Array,
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
    hidden_BxMxGxD: hidden states before each of the tokens.
    statements_BxMxG: their tokens, negative where an item has fewer statements.
    end_tokens: tokens that end a statement.

  Returns:
    float32 [B, M], in nats; -inf where there is no statement, and where one repeats
    an earlier one of its item, so that every text counts once.
  """
  M = statements_BxMxG.shape[1]

  def logprobs(statement):  # one of each item at a time: logits [B, G, V]
    hidden_BxGxD, target_BxG = statement
    logits_BxGxV = models.unembed(config, params, hidden_BxGxD)
    picked_BxGx1 = jnp.take_along_axis(logits_BxGxV, target_BxG[..., None], axis=-1)
    return picked_BxGx1[..., 0] - jax.nn.logsumexp(logits_BxGxV, axis=-1)

  target_BxMxG = jnp.maximum(statements_BxMxG, 0)
  each = jnp.moveaxis(hidden_BxMxGxD, 1, 0), jnp.moveaxis(target_BxMxG, 1, 0)
  logprobs_BxMxG = jnp.moveaxis(jax.lax.map(logprobs, each), 0, 1)
  ends_BxMxG = jnp.isin(statements_BxMxG, jnp.array(end_tokens, jnp.int32))
  counts_BxMxG = jnp.cumsum(ends_BxMxG, axis=-1) - ends_BxMxG == 0
  total_BxM = jnp.sum(jnp.where(counts_BxMxG, logprobs_BxMxG, 0), axis=-1)
  same_BxMxM = jnp.all(
    statements_BxMxG[:, :, None] == statements_BxMxG[:, None], axis=-1
  )
  new_BxM = jnp.argmax(same_BxMxM, axis=-1) == jnp.arange(M)
  there_BxM = statements_BxMxG[:, :, 0] >= 0
  return jnp.where(there_BxM & new_BxM, total_BxM, -jnp.inf)


def tree(valid_BxT: jax.Array, M: int, X: int) -> tuple[jax.Array, jax.Array]:
  """Positions [B, S] and mask [B, S, S] of a prompt and M branches of X tokens."""
  B, T = valid_BxT.shape
  S = T + M * X
  forward_BxMxX = jnp.broadcast_to(
    valid_BxT.sum(axis=1)[:, None, None] + jnp.arange(X), (B, M, X)
  )
  positions_BxS = jnp.concatenate(
    [models.positions_of(valid_BxT), forward_BxMxX.reshape(B, -1)], axis=1
  )
  # A slot is seen up to the end of its subtree: all of it, or its branch.
  branch_ends_X = np.repeat(T + X * np.arange(1, M + 1), X)
  end_S = jnp.asarray(np.concatenate([np.full(T, S), branch_ends_X]))
  valid_BxS = jnp.pad(valid_BxT, ((0, 0), (0, M * X)), constant_values=True)
  end_BxS = jnp.where(valid_BxS, end_S, jnp.arange(S) + 1)  # padding: itself alone
  return positions_BxS, models.tree_mask(end_BxS)
