"""Log-likelihoods of given statements after one prompt, in one forward pass.

The prompt is there once and the statements branch off after it: a branch sees the
prompt and its own earlier tokens, and its positions continue from the fork. Shapes: B
items, T prompt tokens, M statements, G tokens of a statement, S = T + M (G - 1) slots,
V vocabulary.
"""

import jax
import jax.numpy as jnp
import numpy as np

from coupling import models


def statement_logprobs(
  config: models.DecoderConfig,
  params: models.Params,
  prompt: dict[str, jax.Array],
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
    prompt: of behavior.questions, without completions, padded on the right.
    statements_BxMxG: their tokens, negative where an item has fewer statements.
    end_tokens: tokens that end a statement.

  Returns:
    float32 [B, M], in nats; -inf where there is no statement, and where one repeats
    an earlier one of its item, so that every text counts once.

  Raises:
    ValueError: prompt and statement are longer than model.learned_positions.
  """
  B, M, G = statements_BxMxG.shape
  T = prompt['tokens'].shape[1]
  target_BxMxG = jnp.maximum(statements_BxMxG, 0)
  # The last token of a statement is a target only, never an input.
  branches_BxX = target_BxMxG[:, :, :-1].reshape(B, -1)
  slots_BxX = jnp.broadcast_to(T + jnp.arange(M * (G - 1)), branches_BxX.shape)
  positions_BxS, mask_BxSxS = tree(prompt['valid'], M, G - 1)
  hidden_BxCxD = models.apply(
    config,
    params,
    jnp.concatenate([prompt['tokens'], branches_BxX], axis=1),
    rows_BxC=jnp.concatenate([prompt['read'], slots_BxX], axis=1),
    positions_BxT=positions_BxS,
    longest=T + G - 1,
    mask_BxTxS=mask_BxSxS,
  ).hidden_BxCxD
  return read(config, params, hidden_BxCxD, statements_BxMxG, end_tokens)


def read(
  config: models.DecoderConfig,
  params: models.Params,
  hidden_BxCxD: jax.Array,
  statements_BxMxG: jax.Array,
  end_tokens: tuple[int, ...],
) -> jax.Array:
  """`statement_logprobs`, of the hidden states that they are read from.

  `hidden_BxCxD`: at the prompt's last token, then at every statement's tokens but its
  last; C is 1 + M (G - 1).
  """
  B, M, G = statements_BxMxG.shape
  target_BxMxG = jnp.maximum(statements_BxMxG, 0)
  fork_BxD = hidden_BxCxD[:, 0]
  after_BxMxXxD = hidden_BxCxD[:, 1:].reshape(B, M, G - 1, config.width)

  def logprobs(hidden, target):
    """Of targets [..., X] at hidden states that broadcast to [..., X, D]."""
    logits = models.unembed(config, params, hidden)
    picked = jnp.take_along_axis(logits, target, axis=-1)
    return picked - jax.nn.logsumexp(logits, axis=-1, keepdims=True)

  first_BxM = logprobs(fork_BxD, target_BxMxG[:, :, 0])
  # Logits [B, G - 1, V] of one statement at a time.
  rest_MxBxX = jax.lax.map(
    lambda x: logprobs(x[0], x[1][:, :, None])[:, :, 0],
    (jnp.moveaxis(after_BxMxXxD, 1, 0), jnp.moveaxis(target_BxMxG[:, :, 1:], 1, 0)),
  )
  logprobs_BxMxG = jnp.concatenate(
    [first_BxM[:, :, None], jnp.moveaxis(rest_MxBxX, 0, 1)], axis=-1
  )
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
