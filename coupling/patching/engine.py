"""Activation patching: a run on x with activations of a run on x' in their place.

x and x' align token by token (aligned_prompts). Both are run, then x again with one
activation replaced, or several, at a position group. What comes of it is read from two
answers, that of x and that of x': d = log p(answer of x) - log p(answer of x').
Behaviours are answered by options, explanations by statements, teacher-forced. Shapes:
N pairs, S tokens from the first difference on, R runs, L layers, Z groups.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from coupling.model import decoder
from coupling.model import sharding
from coupling.model.architecture import DecoderConfig
from coupling.model.sites import SITES
from coupling.patching import aligned_prompts
from coupling.patching import chunks as chunks_lib
from coupling.patching import patched_runs
from coupling.patching.patched_runs import Activations
from coupling.runtime import finite
from coupling.runtime import interrupt
from coupling.statistics.effect_maps import EVERY_HEAD, Effects, Site
from data import loader
from data import positions


def sites(config: DecoderConfig) -> list[Site]:
  """Every site, layer, position group, and of the heads each alone."""
  return [
    Site(kind, layer, group, head)
    for kind in SITES
    for layer in range(config.depth)
    for group in positions.GROUPS
    for head in (range(config.num_heads) if kind == 'heads' else (EVERY_HEAD,))
  ]


def inert(config: DecoderConfig, asked: aligned_prompts.Asked, site: Site) -> bool:
  """Whether putting x' in a site's place changes nothing, as the decoder is built.

  So it is where both runs are alike, before their first difference, and where nothing
  is read any more: what a last layer adds at positions that predict no answer.
  """
  last = site.layer == config.depth - 1 and site.kind != 'residual'
  return site.group not in asked.live or (last and site.group != 'answer')


def maps(
  config: DecoderConfig,
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
  config: DecoderConfig,
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
  begin = patched_runs.begin(config, mesh, asked.prefix, end_tokens)
  sets = [*sets, ()]  # x itself
  chunks = chunks_lib.make(config, asked, sets, at_once)
  parts, order, done = [], [], 0
  for on_host, _, row_n in loader.batches(asked.arrays, batch):
    interrupt.check()
    rows = sharding.put_batch(mesh, on_host)
    begun, other_B = begin(params, rows)
    values = begun.other if means is None else _by_group(means, rows['group'])
    found = []
    for chunk in chunks:
      chosen = chunks_lib.masks(config, [sets[row] for row in chunk.rows], chunk)
      run = patched_runs.patched(
        config, mesh, chunk.first, chunk.column, at_once, end_tokens
      )
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
  config: DecoderConfig,
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
  begin = patched_runs.begin(config, mesh, asked.prefix, end_tokens)
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
