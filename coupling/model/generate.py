"""Greedy decoding with a key/value cache, token by token or from drafts.

Where the likely continuations are known beforehand, one pass over all of them tells
which one is greedy (speculative decoding, Leviathan et al. 2023, with the drafts as a
prefix forest). Only in batches where some row says another do tokens come one by one.
Shapes: B rows, T tokens of a prompt, G of a continuation, M drafts, F = G - 1 of their
tokens that are read, X tokens of a forest, S slots, U distinct sets of drafts.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from coupling.model import decoder
from coupling.model import layers
from coupling.model import sharding
from coupling.runtime import finite
from data import loader
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
    decoder.positions_of(valid_BxT),
    decoder.causal_mask(valid_BxT),
    jnp.max(jnp.where(valid_BxT, jnp.arange(T), 0), axis=1),
  )


def in_trees(rows: trees.Rows, last_B: jax.Array) -> Prompts:
  """The sequence of a prefix tree that ends at `last_B`, in rows of one tree each.

  Positions and those of the continuations must be below `learned_positions`, where a
  model has such.
  """
  return Prompts(rows.tokens, rows.position, decoder.tree_mask(rows.end), last_B)


class Begun(NamedTuple):
  """Prompts that were read."""

  hidden_BxD: jax.Array  # at the last token
  depth_B: jax.Array  # its position
  seen_BxT: jax.Array  # slots of the cache that a continuation sees
  cache: decoder.Cache


class Drafts(NamedTuple):
  """Continuations that are expected; see `make_drafts`."""

  tokens_BxMxG: Any  # numpy.ndarray or jax.Array
  forest: trees.Rows  # [B, X]: all their tokens but the last of each
  place_BxMxF: Any  # where in it they lie; anywhere, past a draft's end


def make_drafts(tokens_NxMxG: np.ndarray, end_tokens: tuple[int, ...]) -> Drafts:
  """Drafts in forests, where what several begin with stands once.

  Args:
    tokens_NxMxG: filled up after their ends; negative where a row has fewer.
    end_tokens: tokens that end a draft.
  """
  N, M, G = tokens_NxMxG.shape
  rows_NxMG = tokens_NxMxG.reshape(N, -1)
  sets_UxMG, set_N = np.unique(rows_NxMG, axis=0, return_inverse=True)
  sets_UxMxG, set_N = sets_UxMG.reshape(-1, M, G), set_N.ravel()
  last = np.isin(sets_UxMxG, end_tokens) | (np.arange(G) == G - 1) | (sets_UxMxG < 0)
  length_UxM = np.argmax(last, axis=-1)  # without the last
  groups = [[x[:n] for x, n in zip(*one)] for one in zip(sets_UxMxG, length_UxM)]
  found, places = trees.build(groups)
  place_UxMxF = np.zeros((len(groups), M, G - 1), np.int32)
  for place_MxF, place in zip(place_UxMxF, places):
    for place_F, x in zip(place_MxF, place):
      place_F[: len(x)] = x
  forest = trees.cut(found, int(found.size.max())).rows
  return Drafts(tokens_NxMxG, loader.take(forest, set_N), place_UxMxF[set_N])


def begin(
  config: decoder.DecoderConfig,
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
  config: decoder.DecoderConfig,
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
  token_B = _likeliest(config, params, hidden_BxD)
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
    token_B = _likeliest(config, params, out.hidden_BxCxD[:, 0])
    token_B = jnp.where(done_B, fill, token_B)
    generated_BxG = generated_BxG.at[:, g].set(token_B)
    done_B |= jnp.isin(token_B, ends)
    return g + 1, token_B, own.write(out.cache, g - 1), done_B, generated_BxG

  carry = (1, token_B, own, done_B | jnp.isin(token_B, ends), generated_BxG)
  return jax.lax.while_loop(unfinished, step, carry)[-1]


class Followed(NamedTuple):
  """What of the drafts is greedy."""

  draft_BxG: jax.Array  # the one that is, where there is one
  found_B: jax.Array  # whether there is
  after_BxMxFxD: jax.Array  # hidden states after their tokens; undefined past an end


def follow(
  config: decoder.DecoderConfig,
  params: decoder.Params,
  begun: Begun,
  drafts: Drafts,
  *,
  end_tokens: tuple[int, ...],
  fill: int,
) -> Followed:
  """Reads all drafts in one pass, and tells which one the model would give.

  Args:
    config: the decoder's shape.
    params: its weights.
    begun: of `begin`.
    drafts: of `make_drafts`.
    end_tokens: tokens that end a draft.
    fill: what follows an end token.
  """
  draft_BxMxG, forest, place_BxMxF = drafts
  B, M, G = draft_BxMxG.shape
  hidden_BxCxD = begun.hidden_BxD[:, None]
  if G > 1:
    own_BxXxX = decoder.tree_mask(forest.end)
    prompt_BxXxT = jnp.broadcast_to(
      begun.seen_BxT[:, None], (*own_BxXxX.shape[:2], begun.seen_BxT.shape[1])
    )
    after_BxXxD = decoder.apply(
      config,
      params,
      forest.tokens,
      positions_BxT=begun.depth_B[:, None] + 1 + forest.position,
      longest=config.learned_positions,  # as preflight.check has seen
      mask_BxTxS=jnp.concatenate([prompt_BxXxT, own_BxXxX], axis=-1),
      caches=[begun.cache],
    ).hidden_BxCxD
    hidden_BxCxD = jnp.concatenate([hidden_BxCxD, after_BxXxD], axis=1)
  # Logits of a few places at a time: of all, they might not fit.
  likeliest_CxB = jax.lax.map(
    lambda x: _likeliest(config, params, x),
    jnp.moveaxis(hidden_BxCxD, 1, 0),
    batch_size=8,
  )
  pick = lambda x, at: jnp.take_along_axis(x, at.reshape(B, -1), axis=1).reshape(
    at.shape
  )
  before_BxMxG = jnp.pad(place_BxMxF + 1, ((0, 0), (0, 0), (1, 0)))  # 0: the prompt
  likeliest_BxMxG = pick(likeliest_CxB.T, before_BxMxG)
  ends_BxMxG = jnp.isin(draft_BxMxG, jnp.array(end_tokens, jnp.int32))
  over_BxMxG = jnp.cumsum(ends_BxMxG, axis=-1) > ends_BxMxG
  greedy_BxM = jnp.all((likeliest_BxMxG == draft_BxMxG) | over_BxMxG, axis=-1)
  filled_BxMxG = jnp.where(over_BxMxG, fill, draft_BxMxG)
  chosen_Bx1x1 = jnp.argmax(greedy_BxM, axis=-1)[:, None, None]
  after_BxMFxD = layers.take(hidden_BxCxD, place_BxMxF.reshape(B, -1) + 1)
  return Followed(
    jnp.take_along_axis(filled_BxMxG, chosen_Bx1x1, axis=1)[:, 0],
    jnp.any(greedy_BxM, axis=-1),
    after_BxMFxD.reshape(B, M, G - 1, config.width),
  )


def greedy_from_drafts(
  config: decoder.DecoderConfig,
  params: decoder.Params,
  begun: Begun,
  drafts: Drafts,
  mesh: jax.sharding.Mesh,
  *,
  end_tokens: tuple[int, ...],
  fill: int,
) -> tuple[jax.Array, jax.Array]:
  """What `greedy` gives, of as many tokens as drafts have, but for rounding.

  A row whose likeliest tokens are those of a draft is that draft, whatever others in
  its batch say. Two tokens take no more than one pass anyhow, and are generated.

  Args: see `follow`, and `greedy` for the mesh.

  Returns:
    int32 [B, G], and `after_BxMxFxD` of `follow`.
  """
  G = drafts.tokens_BxMxG.shape[-1]
  how = dict(end_tokens=end_tokens, fill=fill)
  draft_BxG, found_B, after_BxMxFxD = follow(config, params, begun, drafts, **how)
  if G <= 2:
    said_BxG = greedy(config, params, begun, mesh, max_new_tokens=G, **how)
    return said_BxG, after_BxMxFxD

  def others():
    said_BxG = greedy(
      config, params, begun, mesh, max_new_tokens=G, done_B=found_B, **how
    )
    return jnp.where(found_B[:, None], draft_BxG, said_BxG)

  said_BxG = jax.lax.cond(jnp.all(found_B), lambda: draft_BxG, others)
  return said_BxG, after_BxMxFxD


def _likeliest(
  config: decoder.DecoderConfig, params: decoder.Params, hidden: jax.Array
) -> jax.Array:
  """The token [...] that follows hidden states [..., D], or finite.NOT_FINITE."""
  logits = decoder.unembed(config, params, hidden)
  return finite.mark(jnp.argmax(logits, axis=-1), logits)
