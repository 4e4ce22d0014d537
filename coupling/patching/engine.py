"""Activation patching: a run on x with activations of a run on x' in their place.

x and x' align token by token (patch_prompts). Both are run, then x again with one
activation replaced, or several, at a position group. What comes of it is read from two
answers, that of x and that of x': d = log p(answer of x) - log p(answer of x').
Behaviours are answered by options, explanations by statements, teacher-forced.

What the runs share is computed once: the tokens before the first at which x and x'
differ, those before the answer where only that is patched, the layers below the first
that is patched, and in models that are not deep that layer's attention (patch_chunks).
Activations enter and leave through the sites of the one decoder. Shapes: B or N pairs,
P tokens of the prefix, S tokens from there on, X of two answers without their last, R
runs, L layers, Z groups.
"""

from collections.abc import Callable, Sequence
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from coupling.model import decoder
from coupling.model import scoring
from coupling.model import sharding
from coupling.patching import aligned_prompts
from coupling.patching import chunks as chunks_lib
from coupling.runtime import finite
from coupling.runtime import interrupt
from coupling.statistics.effect_maps import EVERY_HEAD, Effects, Site
from data import loader
from data import positions

Activations = dict[str, jax.Array]  # site -> [L, B, S + X, ...]


class _Begun(NamedTuple):
  """Both runs of a batch."""

  tokens_BxS: jax.Array  # of x, and of both answers
  positions_BxS: jax.Array
  mask_BxSxT: jax.Array
  prefix: decoder.Cache
  suffix: decoder.Cache  # of x
  own: Activations  # of x
  other: Activations  # of x'


def sites(config: decoder.DecoderConfig) -> list[Site]:
  """Every site, layer, position group, and of the heads each alone."""
  return [
    Site(kind, layer, group, head)
    for kind in decoder.SITES
    for layer in range(config.depth)
    for group in positions.GROUPS
    for head in (range(config.num_heads) if kind == 'heads' else (EVERY_HEAD,))
  ]


def inert(
  config: decoder.DecoderConfig, asked: aligned_prompts.Asked, site: Site
) -> bool:
  """Whether putting x' in a site's place changes nothing, as the decoder is built.

  So it is where both runs are alike, before their first difference, and where nothing
  is read any more: what a last layer adds at positions that predict no answer.
  """
  last = site.layer == config.depth - 1 and site.kind != 'residual'
  return site.group not in asked.live or (last and site.group != 'answer')


def maps(
  config: decoder.DecoderConfig,
  params: decoder.Params,
  asked: aligned_prompts.Asked,
  **how: Any,
) -> Effects:
  """`effects` of every site alone, in the order of `sites`; how: its arguments."""
  every = sites(config)
  live_R = np.array([not inert(config, asked, site) for site in every])
  found = effects(
    config, params, asked, [(s,) for s, live in zip(every, live_R) if live], **how
  )
  patched_NxR = np.repeat(found.clean_N[:, None], len(every), axis=1)
  patched_NxR[:, live_R] = found.patched_NxR
  return found._replace(patched_NxR=patched_NxR)


def effects(
  config: decoder.DecoderConfig,
  params: decoder.Params,
  asked: aligned_prompts.Asked,
  sets: Sequence[tuple[Site, ...]],
  *,
  batch: int,
  at_once: int,
  mesh: jax.sharding.Mesh,
  end_tokens: tuple[int, ...],
  means: dict[str, np.ndarray] | None = None,
  tell: Callable[[int], None] = lambda passes: None,
) -> Effects:
  """d of x, of x', and of x with each set of sites replaced.

  Args:
    config: the decoder's shape.
    params: its weights.
    asked: pairs of prompts, with their answers.
    sets: sites that are replaced together, in a run of their own.
    batch: pairs per batch, which the mesh divides.
    at_once: runs computed at the same time; of those which are short, more.
    mesh: devices to split batches over.
    end_tokens: tokens that end a statement.
    means: site -> [L, Z, ...], to stand in the place of activations; default: x'.
    tell: is told how many forward passes of a pair are done.

  Raises:
    Interrupted: between two batches, when a signal asked for it.
    NonFiniteError: a d that is not finite.
  """
  sharding.check_batch(mesh, 'patch.batch', batch)
  params = sharding.put_params(mesh, params)
  begin = _begin(config, mesh, asked.prefix, end_tokens)
  sets = [*sets, ()]  # x itself
  chunks = chunks_lib.make(config, asked, sets, at_once)
  parts, order, done = [], [], 0
  for on_host, _, row_n in loader.batches(asked.arrays, batch):
    interrupt.check()
    rows = sharding.put_batch(mesh, on_host)
    begun, other_B = begin(params, rows)
    values = begun.other
    if means is not None:
      values = _by_group(means, rows['group'])
    found = []
    for chunk in chunks:
      chosen = chunks_lib.masks(config, [sets[row] for row in chunk.rows], chunk)
      run = _patched(config, mesh, chunk.first, chunk.column, at_once, end_tokens)
      at_BxK = sharding.put_batch(mesh, chunk.columns(on_host['group']))
      found.append(run(params, rows, begun, values, chosen, at_BxK))
    patched_BxR = np.empty((batch, len(sets)), np.float32)
    for chunk, patched_RxB in zip(chunks, jax.device_get(found)):
      patched_BxR[:, chunk.rows] = patched_RxB.T
    found = patched_BxR[:, -1], jax.device_get(other_B), patched_BxR[:, :-1]
    parts.append([x[: len(row_n)] for x in found])
    _check_finite(config, sets[:-1], row_n, parts[-1])
    order.append(row_n)
    done += len(row_n) * (2 + len(sets))
    tell(done)
  clean_N, other_N, patched_NxR = (loader.in_order(x, order) for x in zip(*parts))
  return Effects(clean_N, other_N, patched_NxR)


def _check_finite(config, sets, row_n, found: Sequence[np.ndarray]) -> None:
  """Raises NonFiniteError, naming sites, for d of x, of x', and with sets replaced."""
  names = ['x', "x'", *(f'x with {some} replaced' for some in sets)]
  for name, d_n in zip(names, np.column_stack(found).T, strict=True):
    what = f'patching: the d of {name}'
    finite.check_pairs(np.isfinite(d_n), what, config.dtype, row_n)


def means(
  config: decoder.DecoderConfig,
  params: decoder.Params,
  asked: aligned_prompts.Asked,
  *,
  batch: int,
  mesh: jax.sharding.Mesh,
  end_tokens: tuple[int, ...],
) -> dict[str, np.ndarray]:
  """Mean activations of both runs, over pairs and the tokens of each group.

  Returns:
    site -> [L, Z, ...]; 0 for groups without tokens. What comes before the first
    difference is left out: it is never replaced.
  """
  params = sharding.put_params(mesh, params)
  begin = _begin(config, mesh, asked.prefix, end_tokens)
  total = None
  for rows, mask_B, _ in loader.batches(asked.arrays, batch):
    interrupt.check()
    rows, mask_B = sharding.put_batch(mesh, (rows, mask_B))
    begun, _ = begin(params, rows)
    found = _sums(begun.own, begun.other, rows['group'], mask_B)
    total = found if total is None else jax.tree.map(jnp.add, total, found)
  remedy = finite.overflow(config.dtype)
  finite.check(total[0], 'patching: sums of activations', remedy)
  sums, count_Z = jax.device_get(total)
  return {
    site: x / np.maximum(count_Z, 1).reshape(-1, *[1] * (x.ndim - 2))
    for site, x in sums.items()
  }


@functools.lru_cache
def _begin(
  config: decoder.DecoderConfig,
  mesh: jax.sharding.Mesh,
  prefix: int,
  end_tokens: tuple[int, ...],
) -> Callable:
  """The jitted runs on x and x': (params, rows) -> (_Begun, d [B] of x')."""
  batched = sharding.batch_sharding(mesh)
  stacked = sharding.batch_sharding(mesh, leading=1)
  of_cache = sharding.cache_shardings(mesh, config)
  places = _Begun(batched, batched, batched, of_cache, of_cache, stacked, stacked)

  @jax.jit
  @sharding.on(mesh)
  def run(params, rows):
    tokens_Bx2xT, answers_Bx2xG = rows['tokens'], rows['answers']
    B, _, G = answers_Bx2xG.shape
    positions_BxT, mask_BxTxT = _tree(rows['valid'], 2, G - 1)
    apply = functools.partial(
      decoder.apply, config, params, longest=config.learned_positions
    )
    prefix_cache = apply(
      tokens_Bx2xT[:, 0, :prefix],
      positions_BxT=positions_BxT[:, :prefix],
      mask_BxTxS=mask_BxTxT[:, :prefix, :prefix],
      keep=True,
    ).cache
    branches_BxX = answers_Bx2xG[:, :, :-1].reshape(B, -1)

    def one(tokens_BxT):
      tokens_BxS = jnp.concatenate([tokens_BxT[:, prefix:], branches_BxX], axis=1)
      out = apply(
        tokens_BxS,
        positions_BxT=positions_BxT[:, prefix:],
        mask_BxTxS=mask_BxTxT[:, prefix:],
        caches=[prefix_cache],
        keep=True,
        read=decoder.SITES,
      )
      return tokens_BxS, out

    tokens_BxS, own = one(tokens_Bx2xT[:, 0])
    _, other = one(tokens_Bx2xT[:, 1])
    begun = _Begun(
      tokens_BxS,
      positions_BxT[:, prefix:],
      mask_BxTxT[:, prefix:],
      prefix_cache,
      own.cache,
      own.activations,
      other.activations,
    )
    begun = jax.lax.with_sharding_constraint(begun, places)
    read_BxCxD = other.hidden_BxCxD[:, -_num_read(answers_Bx2xG) :]
    return begun, _contrast(config, params, read_BxCxD, answers_Bx2xG, end_tokens)

  return run


@functools.lru_cache
def _patched(
  config: decoder.DecoderConfig,
  mesh: jax.sharding.Mesh,
  first: int,
  column: int,
  at_once: int,
  end_tokens: tuple[int, ...],
) -> Callable:
  """The jitted patched runs: (params, rows, begun, values, chosen, at) -> d [R, B].

  They begin at a layer and at a column of the suffix. Of the layer before, where it is
  patched, only what follows its attention is computed, `at` some columns [B, K] where
  these are given.
  """

  @jax.jit
  @sharding.on(mesh)
  def run(params, rows, begun, values, chosen, at_BxK):
    answers_Bx2xG, group_BxS = rows['answers'], rows['group'][:, column:]
    own, values = (
      {site: x[:, :, column:] for site, x in every.items()}
      for every in (begun.own, values)
    )
    B, S = group_BxS.shape
    C, nothing_left = _num_read(answers_Bx2xG), first == config.depth
    read_BxC = jnp.broadcast_to(jnp.arange(S - C, S), (B, C))

    def through(start, stop, entering_BxSxD, patch, rows_BxC):
      caches = [begun.prefix.part(start, stop, begun.prefix.slots)]
      if column:
        caches.append(begun.suffix.part(start, stop, column))
      return decoder.apply(
        *decoder.some_layers(config, params, start, stop),
        begun.tokens_BxS[:, column:],
        rows_BxC=rows_BxC,
        positions_BxT=begun.positions_BxS[:, column:],
        longest=config.learned_positions,
        mask_BxTxS=begun.mask_BxSxT[:, column:],
        caches=caches,
        patch=patch,
        entering_BxTxD=entering_BxSxD,
      )

    def patch(masks, start, stop):
      return {
        site: decoder.Patch(values[site][start:stop], mask_LxZ[:, group_BxS])
        for site, mask_LxZ in masks.items()
      }

    def leave(masks):
      """What leaves the layer before; of the last layer, what is read."""
      before, at = first - 1, read_BxC if nothing_left else at_BxK
      masks = {k: x_Z[None] for k, x_Z in masks.items() if k != 'residual'}
      patches = patch(masks, before, first)
      heads = decoder.replace(own['heads'][before:first], *patches['heads'])
      patches['heads'] = decoder.Patch(heads, None)
      out = through(before, first, own['residual'][before], patches, at)
      if nothing_left:
        return out.hidden_BxCxD
      if at is None:
        return out.leaving_BxCxD
      row_Bx1 = jnp.arange(B)[:, None]
      return own['residual'][first].at[row_Bx1, at].set(out.leaving_BxCxD)

    def read(chosen):
      before, later = chosen
      x_BxSxD = leave(before) if before and first else own['residual'][first]
      if nothing_left:
        return x_BxSxD
      if before:
        mask_BxS = before['residual'][group_BxS]
        x_BxSxD = decoder.replace(x_BxSxD, values['residual'][first], mask_BxS)
      patches = patch(later, first, config.depth)
      return through(first, config.depth, x_BxSxD, patches, read_BxC).hidden_BxCxD

    contrast = lambda read_BxCxD: _contrast(
      config, params, read_BxCxD, answers_Bx2xG, end_tokens
    )
    # Logits of some runs at a time: of many short ones, they might not fit.
    read_RxBxCxD = jax.vmap(read)(chosen)
    R = len(read_RxBxCxD)
    return jax.lax.map(contrast, read_RxBxCxD, batch_size=R // -(-R // at_once))

  return run


def _num_read(answers_Bx2xG: jax.Array) -> int:
  """Columns that are read: the prompt's last, and both answers' tokens but the last."""
  return 1 + 2 * (answers_Bx2xG.shape[2] - 1)


def _contrast(
  config: decoder.DecoderConfig,
  params: decoder.Params,
  read_BxCxD: jax.Array,
  answers_Bx2xG: jax.Array,
  end_tokens: tuple[int, ...],
) -> jax.Array:
  """d [B], from the hidden states of the columns that are read."""
  (B, _, G), D = answers_Bx2xG.shape, read_BxCxD.shape[2]
  after_Bx2xFxD = read_BxCxD[:, 1:].reshape(B, 2, G - 1, D)
  logprobs_Bx2 = scoring.statement_logprobs(
    config, params, read_BxCxD[:, 0], after_Bx2xFxD, answers_Bx2xG, end_tokens
  )
  return logprobs_Bx2[:, 0] - logprobs_Bx2[:, 1]


@jax.jit
def _by_group(means: dict[str, jax.Array], group_BxS: jax.Array) -> Activations:
  """Means [L, Z, ...] at the positions of their groups."""
  return {site: x[:, group_BxS] for site, x in means.items()}


@jax.jit
def _sums(own: Activations, other: Activations, group_BxS: jax.Array, mask_B):
  """Sums over the tokens of both runs by group [L, Z, ...], and their number [Z]."""
  hot_BxSxZ = jax.nn.one_hot(group_BxS, len(positions.GROUPS)) * mask_B[:, None, None]
  sums = {
    site: sum(jnp.einsum('bsz,lbs...->lz...', hot_BxSxZ, x) for x in (own[site], x_))
    for site, x_ in other.items()
  }
  return sums, 2 * hot_BxSxZ.sum(axis=(0, 1))


def _tree(valid_BxT: jax.Array, M: int, X: int) -> tuple[jax.Array, jax.Array]:
  """Positions [B, S] and mask [B, S, S] of a prompt and M branches of X tokens."""
  B, T = valid_BxT.shape
  S = T + M * X
  forward_BxMxX = jnp.broadcast_to(
    valid_BxT.sum(axis=1)[:, None, None] + jnp.arange(X), (B, M, X)
  )
  positions_BxS = jnp.concatenate(
    [decoder.positions_of(valid_BxT), forward_BxMxX.reshape(B, -1)], axis=1
  )
  # A slot is seen up to the end of its subtree: all of it, or its branch.
  branch_ends_X = np.repeat(T + X * np.arange(1, M + 1), X)
  end_S = jnp.asarray(np.concatenate([np.full(T, S), branch_ends_X]))
  valid_BxS = jnp.pad(valid_BxT, ((0, 0), (0, M * X)), constant_values=True)
  end_BxS = jnp.where(valid_BxS, end_S, jnp.arange(S) + 1)  # padding: itself alone
  return positions_BxS, decoder.tree_mask(end_BxS)
