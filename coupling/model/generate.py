"""Greedy decoding with a key/value cache, token by token; see also speculative.py.

Shapes: B rows, T tokens of a prompt, G of a continuation, S slots.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from coupling.model import attention
from coupling.model import decoder
from coupling.model import sharding
from coupling.model.architecture import DecoderConfig
from coupling.model.kv_cache import Cache
from coupling.runtime import finite
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
    attention.positions_of(valid_BxT),
    attention.causal_mask(valid_BxT),
    jnp.max(jnp.where(valid_BxT, jnp.arange(T), 0), axis=1),
  )


def in_trees(rows: trees.Rows, last_B: jax.Array) -> Prompts:
  """The sequence of a prefix tree that ends at `last_B`, in rows of one tree each.

  Positions and those of the continuations must be below `learned_positions`, where a
  model has such.
  """
  return Prompts(rows.tokens, rows.position, attention.tree_mask(rows.end), last_B)


class Begun(NamedTuple):
  """Prompts that were read."""

  hidden_BxD: jax.Array  # at the last token
  depth_B: jax.Array  # its position
  seen_BxT: jax.Array  # slots of the cache that a continuation sees
  cache: Cache


def begin(
  config: DecoderConfig,
  params: decoder.Params,
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
  last_Bx1 = last_B[:, None]
  read_BxC = last_Bx1
  if rows_BxC is not None:
    read_BxC = jnp.concatenate([last_Bx1, rows_BxC], axis=1)
  out = decoder.apply(
    config,
    params,
    tokens_BxT,
    rows_BxC=read_BxC,
    positions_BxT=positions_BxT,
    longest=config.learned_positions,  # as preflight.check has seen
    mask_BxTxS=mask_BxTxT,
    keep=True,
  )
  begun = Begun(
    out.hidden_BxCxD[:, 0],
    jnp.take_along_axis(positions_BxT, last_Bx1, axis=1)[:, 0],
    jnp.take_along_axis(mask_BxTxT, last_Bx1[:, :, None], axis=1)[:, 0],
    out.cache,
  )
  rows, caches = sharding.batch_sharding(mesh), sharding.cache_shardings(mesh, config)
  begun = jax.lax.with_sharding_constraint(begun, Begun(rows, rows, rows, caches))
  return begun, out.hidden_BxCxD[:, 1:]


def greedy(
  config: DecoderConfig,
  params: decoder.Params,
  begun: Begun,
  mesh: jax.sharding.Mesh,
  *,
  max_new_tokens: int,
  end_tokens: tuple[int, ...] = (),
  fill: int = 0,
  done_B: jax.Array | bool = False,
) -> jax.Array:
  """The likeliest continuation, token by token.

  Decoding stops early once every row has produced an end token.

  Args:
    config: the decoder's shape.
    params: its weights.
    begun: of `begin`.
    mesh: devices that the prompts are split over.
    max_new_tokens: G, at least 1.
    end_tokens: tokens that end a row; they are part of the output.
    fill: what follows an end token.
    done_B: rows that need not go on; their first token counts alone.

  Returns:
    int32 [B, G]; finite.NOT_FINITE where logits are not finite.
  """
  hidden_BxD, depth_B, seen_BxT, cache = begun
  B, G = len(depth_B), max_new_tokens
  token_B = likeliest(config, params, hidden_BxD)
  ends = jnp.array(end_tokens, jnp.int32)
  generated_BxG = jnp.full((B, G), fill, jnp.int32).at[:, 0].set(token_B)
  if G == 1:
    return generated_BxG
  # A slot for every generated token but the last; the prompts' cache is never copied.
  own = jax.lax.with_sharding_constraint(
    cache.empty(G - 1), sharding.cache_shardings(mesh, config)
  )

  def unfinished(carry):
    g, _, _, done_B, _ = carry
    return (g < G) & ~jnp.all(done_B)

  def step(carry):
    g, token_B, own, done_B, generated_BxG = carry
    written_S = jnp.arange(G) < g - 1
    itself_S = jnp.arange(G) == G - 1
    own_BxS = jnp.broadcast_to(written_S | itself_S, (B, G))
    out = decoder.apply(
      config,
      params,
      token_B[:, None],
      positions_BxT=(depth_B + g)[:, None],
      longest=config.learned_positions,
      mask_BxTxS=jnp.concatenate([seen_BxT, own_BxS], axis=1)[:, None],
      caches=[cache, own],
      keep=True,
    )
    token_B = likeliest(config, params, out.hidden_BxCxD[:, 0])
    token_B = jnp.where(done_B, fill, token_B)
    generated_BxG = generated_BxG.at[:, g].set(token_B)
    done_B |= jnp.isin(token_B, ends)
    return g + 1, token_B, own.write(out.cache, g - 1), done_B, generated_BxG

  carry = (1, token_B, own, done_B | jnp.isin(token_B, ends), generated_BxG)
  return jax.lax.while_loop(unfinished, step, carry)[-1]


def likeliest(
  config: DecoderConfig, params: decoder.Params, hidden: jax.Array
) -> jax.Array:
  """The token [...] that follows hidden states [..., D], or finite.NOT_FINITE."""
  logits = decoder.unembed(config, params, hidden)
  return finite.mark(jnp.argmax(logits, axis=-1), logits)
