"""Greedy decoding with a key/value cache, token by token or from drafts.

Where the likely continuations are known beforehand, one pass over all of them tells
which one is greedy (speculative decoding, Leviathan et al. 2023, with the drafts as a
prefix forest); only in batches where some row says another do tokens come one by one.
Shapes: B rows, T tokens
of a prompt, G of a continuation, M drafts, X tokens of a forest, S slots.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from coupling import models
from coupling import sharding
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
  """Prompts that were read."""

  hidden_BxD: jax.Array  # at the last token
  depth_B: jax.Array  # its position
  seen_BxT: jax.Array  # slots of the cache that a continuation sees
  cache: models.Cache


class Drafts(NamedTuple):
  """Continuations that are expected; see `drafts`."""

  tokens_BxMxG: Any  # numpy.ndarray or jax.Array
  forest: trees.Rows  # [B, X]: all their tokens but the last of each
  place_BxMxF: Any  # where in it they lie; F = G - 1


def drafts(tokens_NxMxG: np.ndarray, end_tokens: tuple[int, ...]) -> Drafts:
  """Drafts in forests, where what several begin with stands once.

  Args:
    tokens_NxMxG: filled up after their ends; negative where a row has fewer.
    end_tokens: tokens that end a draft.
  """
  N, M, G = tokens_NxMxG.shape
  sets, set_N = np.unique(tokens_NxMxG.reshape(N, -1), axis=0, return_inverse=True)
  sets = sets.reshape(-1, M, G)
  last = np.isin(sets, end_tokens) | (np.arange(G) == G - 1) | (sets < 0)
  length_SxM = np.argmax(last, axis=-1)  # without the last
  groups = [[x[:n] for x, n in zip(*one)] for one in zip(sets, length_SxM)]
  found, places = trees.build(groups)
  place_SxMxF = np.zeros((len(sets), M, G - 1), np.int32)
  for place_MxF, place in zip(place_SxMxF, places):
    for place_F, x in zip(place_MxF, place):
      place_F[: len(x)] = x
  forest = trees.cut(found, int(found.size.max())).rows
  set_N = set_N.ravel()
  return Drafts(tokens_NxMxG, loader.take(forest, set_N), place_SxMxF[set_N])


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
  config: models.DecoderConfig,
  params: models.Params,
  begun: Begun,
  mesh: jax.sharding.Mesh,
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
    mesh: devices that the prompts are split over.
    max_new_tokens: G, at least 1.
    end_tokens: tokens that end a row; they are part of the output.
    fill: what follows an end token.

  Returns:
    int32 [B, G].
  """
  hidden_BxD, depth_B, seen_BxT, cache = begun
  B, G = len(depth_B), max_new_tokens
  likeliest = lambda x: jnp.argmax(models.unembed(config, params, x), axis=-1)
  token_B = likeliest(hidden_BxD)
  ends = jnp.array(end_tokens, jnp.int32)
  generated_BxG = jnp.full((B, G), fill, jnp.int32).at[:, 0].set(token_B)
  if G == 1:
    return generated_BxG
  # A slot for every generated token but the last; the prompts' cache is never copied.
  own = jax.lax.with_sharding_constraint(
    cache.unset(G - 1), sharding.cache_shardings(mesh, config)
  )

  def unfinished(carry):
    g, _, _, done_B, _ = carry
    return (g < G) & ~jnp.all(done_B)

  def step(carry):
    g, token_B, own, done_B, generated_BxG = carry
    written_S = jnp.arange(G) < g - 1
    itself_S = jnp.arange(G) == G - 1
    own_BxS = jnp.broadcast_to(written_S | itself_S, (B, G))
    out = models.apply(
      config,
      params,
      token_B[:, None],
      positions_BxT=(depth_B + g)[:, None],
      longest=config.learned_positions,
      mask_BxTxS=jnp.concatenate([seen_BxT, own_BxS], axis=1)[:, None],
      caches=[cache, own],
      keep=True,
    )
    token_B = jnp.where(done_B, fill, likeliest(out.hidden_BxCxD[:, 0]))
    generated_BxG = generated_BxG.at[:, g].set(token_B)
    done_B |= jnp.isin(token_B, ends)
    return g + 1, token_B, own.write(out.cache, g - 1), done_B, generated_BxG

  carry = (1, token_B, own, jnp.isin(token_B, ends), generated_BxG)
  return jax.lax.while_loop(unfinished, step, carry)[-1]


def drafted(
  config: models.DecoderConfig,
  params: models.Params,
  begun: Begun,
  expected: Drafts,
  mesh: jax.sharding.Mesh,
  *,
  end_tokens: tuple[int, ...],
  fill: int,
) -> tuple[jax.Array, jax.Array]:
  """What `greedy` gives, of as many tokens as drafts have, but for rounding.

  All drafts are read in one pass. A row whose likeliest tokens are those of a draft
  goes on as that draft; only in batches with others is anything generated. Two tokens
  take no more than one pass anyhow, and are always generated.

  Args:
    config: the decoder's shape.
    params: its weights.
    begun: of `begin`.
    expected: of `drafts`; what follows the end of one is filling.
    mesh: devices that the prompts are split over.
    end_tokens: tokens that end a continuation.
    fill: what follows an end token.

  Returns:
    int32 [B, G]; and hidden states [B, M, G, D], after which the drafts' tokens come.
  """
  draft_BxMxG, forest, place_BxMxF = expected
  B, M, G = draft_BxMxG.shape
  hidden_BxCxD = begun.hidden_BxD[:, None]
  before_BxMxG = jnp.pad(place_BxMxF + 1, ((0, 0), (0, 0), (1, 0)))  # 0: the prompt
  if G > 1:
    after_BxXxD = _after(config, params, begun, forest)
    hidden_BxCxD = jnp.concatenate([hidden_BxCxD, after_BxXxD], axis=1)
  flat_BxMG = before_BxMxG.reshape(B, -1)
  hidden_BxMGxD = jnp.take_along_axis(hidden_BxCxD, flat_BxMG[..., None], axis=1)
  hidden_BxMxGxD = hidden_BxMGxD.reshape(B, M, G, -1)

  def generated():
    how = dict(max_new_tokens=G, end_tokens=end_tokens, fill=fill)
    return greedy(config, params, begun, mesh, **how)

  if G <= 2:
    return generated(), hidden_BxMxGxD
  # Logits of a few places at a time: of all, they might not fit.
  likeliest_CxB = jax.lax.map(
    lambda x: jnp.argmax(models.unembed(config, params, x), axis=-1),
    jnp.moveaxis(hidden_BxCxD, 1, 0),
    batch_size=8,
  )
  likeliest_BxMxG = jnp.take_along_axis(likeliest_CxB.T, flat_BxMG, 1).reshape(B, M, G)
  ends_BxMxG = jnp.isin(draft_BxMxG, jnp.array(end_tokens, jnp.int32))
  over_BxMxG = jnp.cumsum(ends_BxMxG, axis=-1) > ends_BxMxG
  as_drafted_BxM = jnp.all((likeliest_BxMxG == draft_BxMxG) | over_BxMxG, axis=-1)
  found_B = jnp.any(as_drafted_BxM, axis=-1)
  draft_B = jnp.argmax(as_drafted_BxM, axis=-1)
  draft_BxG = jnp.take_along_axis(draft_BxMxG, draft_B[:, None, None], axis=1)[:, 0]
  said_BxG = jax.lax.cond(
    jnp.all(found_B),
    lambda: draft_BxG,
    lambda: jnp.where(found_B[:, None], draft_BxG, generated()),
  )
  return said_BxG, hidden_BxMxGxD


def _after(
  config: models.DecoderConfig,
  params: models.Params,
  begun: Begun,
  forest: trees.Rows,
) -> jax.Array:
  """Hidden states [B, X, D] of forests that continue prompts, in one pass."""
  own_BxXxX = models.tree_mask(forest.end)
  prompt_BxXxT = jnp.broadcast_to(
    begun.seen_BxT[:, None], (*own_BxXxX.shape[:2], begun.seen_BxT.shape[1])
  )
  return models.apply(
    config,
    params,
    forest.tokens,
    positions_BxT=begun.depth_B[:, None] + 1 + forest.position,
    longest=config.learned_positions,
    mask_BxTxS=jnp.concatenate([prompt_BxXxT, own_BxXxX], axis=-1),
    caches=[begun.cache],
  ).hidden_BxCxD
