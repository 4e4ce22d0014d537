"""Speculative decoding (Leviathan et al. 2023), with the drafts as a prefix forest.

Where the likely continuations are known beforehand, one pass over all of them tells
which one is greedy. Only in batches where some row says another do tokens come one by
one. Shapes: B rows, T tokens of a prompt, G of a continuation, M drafts, F = G - 1 of
their tokens that are read, X tokens of a forest, U distinct sets of drafts.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from coupling.model import attention
from coupling.model import decoder
from coupling.model import generate
from coupling.model import layers
from coupling.model.architecture import DecoderConfig
from data import loader
from data import trees


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


class Followed(NamedTuple):
  """What of the drafts is greedy."""

  draft_BxG: jax.Array  # the one that is, where there is one
  found_B: jax.Array  # whether there is
  after_BxMxFxD: jax.Array  # hidden states after their tokens; undefined past an end


def follow(
  config: DecoderConfig,
  params: decoder.Params,
  begun: generate.Begun,
  drafts: Drafts,
  *,
  end_tokens: tuple[int, ...],
  fill: int,
) -> Followed:
  """Reads all drafts in one pass, and tells which one the model would give.

  Args:
    config: the decoder's shape.
    params: its weights.
    begun: of `generate.begin`.
    drafts: of `make_drafts`.
    end_tokens: tokens that end a draft.
    fill: what follows an end token.
  """
  draft_BxMxG, forest, place_BxMxF = drafts
  B, M, G = draft_BxMxG.shape
  hidden_BxCxD = begun.hidden_BxD[:, None]
  if G > 1:
    own_BxXxX = attention.tree_mask(forest.end)
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
    lambda x: generate.likeliest(config, params, x),
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
  config: DecoderConfig,
  params: decoder.Params,
  begun: generate.Begun,
  drafts: Drafts,
  mesh: jax.sharding.Mesh,
  *,
  end_tokens: tuple[int, ...],
  fill: int,
) -> tuple[jax.Array, jax.Array]:
  """What `generate.greedy` gives, of as many tokens as drafts have, but for rounding.

  A row whose likeliest tokens are those of a draft is that draft, whatever others in
  its batch say. Two tokens take no more than one pass anyhow, and are generated.

  Args: see `follow`, and `generate.greedy` for the mesh.

  Returns:
    int32 [B, G], and `after_BxMxFxD` of `follow`.
  """
  G = drafts.tokens_BxMxG.shape[-1]
  how = dict(end_tokens=end_tokens, fill=fill)
  draft_BxG, found_B, after_BxMxFxD = follow(config, params, begun, drafts, **how)
  if G <= 2:
    said_BxG = generate.greedy(config, params, begun, mesh, max_new_tokens=G, **how)
    return said_BxG, after_BxMxFxD

  def others():
    said_BxG = generate.greedy(
      config, params, begun, mesh, max_new_tokens=G, done_B=found_B, **how
    )
    return jnp.where(found_B[:, None], draft_BxG, said_BxG)

  said_BxG = jax.lax.cond(jnp.all(found_B), lambda: draft_BxG, others)
  return said_BxG, after_BxMxFxD
