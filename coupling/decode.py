"""Greedy decoding with a key/value cache."""

import jax
import jax.numpy as jnp

from coupling import models


def greedy(
  config: models.DecoderConfig,
  params: models.Params,
  tokens_BxT: jax.Array,
  valid_BxT: jax.Array,
  *,
  max_new_tokens: int,
  end_tokens: tuple[int, ...] = (),
  fill: int = 0,
) -> jax.Array:
  """The likeliest continuation, token by token.

  Padding may stand on either side of a prompt. Decoding stops early once every row
  has produced an end token.

  Args:
    config: the decoder's shape.
    params: its weights.
    tokens_BxT: prompts.
    valid_BxT: False at padding.
    max_new_tokens: G, at least 1.
    end_tokens: tokens that end a row; they are part of the output.
    fill: what follows an end token.

  Returns:
    int32 [B, G].
  """
  B, T = tokens_BxT.shape
  G = max_new_tokens
  length_B = valid_BxT.sum(axis=1)
  # The cache has a slot for every prompt token and every generated token but the last.
  slots_BxS = jnp.concatenate([valid_BxT, jnp.zeros((B, G - 1), bool)], axis=1)
  prompt_mask_BxTxS = jnp.pad(
    models.causal_mask(valid_BxT), ((0, 0), (0, 0), (0, G - 1))
  )
  last_B = jnp.max(jnp.where(valid_BxT, jnp.arange(T), 0), axis=1)
  out = models.apply(
    config,
    params,
    tokens_BxT,
    valid_BxT,
    rows_BxC=last_B[:, None],
    mask_BxTxS=prompt_mask_BxTxS,
    cache=models.Cache.empty(config, B, T + G - 1),
  )
  logits_BxV = models.unembed(config, params, out.hidden_BxCxD[:, 0])
  token_B = jnp.argmax(logits_BxV, axis=-1)
  ends = jnp.array(end_tokens, jnp.int32)
  generated_BxG = jnp.full((B, G), fill, jnp.int32).at[:, 0].set(token_B)
  done_B = jnp.isin(token_B, ends)

  def unfinished(carry):
    g, _, _, _, done_B, _ = carry
    return (g < G) & ~jnp.all(done_B)

  def step(carry):
    g, token_B, slots_BxS, cache, done_B, generated_BxG = carry
    slots_BxS = slots_BxS.at[:, T + g - 1].set(True)
    out = models.apply(
      config,
      params,
      token_B[:, None],
      positions_BxT=(length_B + g - 1)[:, None],
      mask_BxTxS=slots_BxS[:, None],
      cache=cache,
    )
    logits_BxV = models.unembed(config, params, out.hidden_BxCxD[:, 0])
    token_B = jnp.where(done_B, fill, jnp.argmax(logits_BxV, axis=-1))
    generated_BxG = generated_BxG.at[:, g].set(token_B)
    done_B |= jnp.isin(token_B, ends)
    return g + 1, token_B, slots_BxS, out.cache, done_B, generated_BxG

  carry = (1, token_B, slots_BxS, out.cache, done_B, generated_BxG)
  return jax.lax.while_loop(unfinished, step, carry)[-1]
