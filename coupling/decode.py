"""Greedy decoding with a key/value cache."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from coupling import models
from coupling import sharding
from data import trees


class Prompts(NamedTuple):
  """What continuations follow, one a row."""

  tokens_BxT: jax.Array
  positions_BxT: jax.Array
  mask_BxTxT: jax.Array  # who sees whom
  last_B: jax.Array  # the place that is continued; what it sees is the prompt


def of_rows(tokens_BxT: jax.Array, valid_BxT: jax.Array) -> Prompts:
  """One prompt a row; padding, where `valid` is False, may stand on either side."""
  T = tokens_BxT.shape[1]
  return Prompts(
    tokens_BxT,
    models.positions_of(valid_BxT),
    models.causal_mask(valid_BxT),
    jnp.max(jnp.where(valid_BxT, jnp.arange(T), 0), axis=1),
  )


def in_trees(rows: trees.Rows, last_B: jax.Array) -> Prompts:
  """The sequence of a prefix tree that ends at `last_B`, in rows of one tree each.

  Positions and those of the continuations must be below `learned_positions`, where a
  model has such.
  """
  return Prompts(rows.tokens, rows.position, models.tree_mask(rows.end), last_B)


class Begun(NamedTuple):
  """Prompts that were read, and the likeliest token after each."""

  token_B: jax.Array
  depth_B: jax.Array  # position of the last token
  seen_BxT: jax.Array  # slots of the cache that a continuation sees
  cache: models.Cache


def begin(
  config: models.DecoderConfig,
  params: models.Params,
  prompts: Prompts,
  mesh: jax.sharding.Mesh,
  rows_BxC: jax.Array | None = None,
) -> tuple[Begun, jax.Array]:
  """Reads prompts.

  Args:
    config: the decoder's shape.
    params: its weights.
    prompts: what is continued.
    mesh: devices that the prompts are split over, and the cache with them, which the
      compiler may otherwise put whole on each.
    rows_BxC: further places of the prompts whose hidden states are wanted.

  Returns:
    What `greedy` continues, and the hidden states [B, C, D] of these places.
  """
  tokens_BxT, positions_BxT, mask_BxTxT, last_B = prompts
  B, T = tokens_BxT.shape
  last_Bx1 = last_B[:, None]
  read_BxC = last_Bx1
  if rows_BxC is not None:
    read_BxC = jnp.concatenate([last_Bx1, rows_BxC], axis=1)
  out = models.apply(
    config,
    params,
    tokens_BxT,
    rows_BxC=read_BxC,
    positions_BxT=positions_BxT,
    longest=config.learned_positions,  # as checks.check has seen
    mask_BxTxS=mask_BxTxT,
    keep=True,
  )
  logits_BxV = models.unembed(config, params, out.hidden_BxCxD[:, 0])
  begun = Begun(
    jnp.argmax(logits_BxV, axis=-1),
    jnp.take_along_axis(positions_BxT, last_Bx1, axis=1)[:, 0],
    jnp.take_along_axis(mask_BxTxT, last_Bx1[:, :, None], axis=1)[:, 0],
    out.cache,
  )
  begun = jax.lax.with_sharding_constraint(begun, _shardings(config, mesh))
  return begun, out.hidden_BxCxD[:, 1:]


def _shardings(config: models.DecoderConfig, mesh: jax.sharding.Mesh) -> Begun:
  rows = sharding.batch_sharding(mesh)
  return Begun(rows, rows, rows, sharding.cache_shardings(mesh, config))


def greedy(
  config: models.DecoderConfig,
  params: models.Params,
  begun: Begun,
  *,
  max_new_tokens: int,
  end_tokens: tuple[int, ...] = (),
  fill: int = 0,
) -> jax.Array:
  """The likeliest continuation, token by token.

  Decoding stops early once every row has produced an end token.

  Args:
    config: the decoder's shape.
    params: its weights.
    begun: of `begin`.
    max_new_tokens: G, at least 1.
    end_tokens: tokens that end a row; they are part of the output.
    fill: what follows an end token.

  Returns:
    int32 [B, G].
  """
  token_B, depth_B, seen_BxT, cache = begun
  B, T = seen_BxT.shape
  G = max_new_tokens
  # A further slot for every generated token but the last.
  cache, slots_BxS = cache.longer(G - 1), jnp.pad(seen_BxT, ((0, 0), (0, G - 1)))
  ends = jnp.array(end_tokens, jnp.int32)
  generated_BxG = jnp.full((B, G), fill, jnp.int32).at[:, 0].set(token_B)
  done_B = jnp.isin(token_B, ends)

  def unfinished(carry):
    g, _, _, _, done_B, _ = carry
    return (g < G) & ~jnp.all(done_B)

  def step(carry):
    g, token_B, slots_BxS, cache, done_B, generated_BxG = carry
    mask_BxS = jnp.pad(slots_BxS, ((0, 0), (0, 1)), constant_values=True)  # and itself
    out = models.apply(
      config,
      params,
      token_B[:, None],
      positions_BxT=(depth_B + g)[:, None],
      longest=config.learned_positions,
      mask_BxTxS=mask_BxS[:, None],
      cache=cache,
      keep=True,
    )
    logits_BxV = models.unembed(config, params, out.hidden_BxCxD[:, 0])
    token_B = jnp.where(done_B, fill, jnp.argmax(logits_BxV, axis=-1))
    generated_BxG = generated_BxG.at[:, g].set(token_B)
    done_B |= jnp.isin(token_B, ends)
    slot = T + g - 1  # of the token that was read
    cache, slots_BxS = cache.write(out.cache, slot), slots_BxS.at[:, slot].set(True)
    return g + 1, token_B, slots_BxS, cache, done_B, generated_BxG

  carry = (1, token_B, slots_BxS, cache, done_B, generated_BxG)
  return jax.lax.while_loop(unfinished, step, carry)[-1]
