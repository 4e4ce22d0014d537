"""Do behaviour and explanation share circuits? Statistics of two effect maps.

Shapes: N pairs, G groups of pairs, R sites, B resamples.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import stats

from coupling.statistics import intervals
from coupling.statistics.effect_maps import (
  COMPONENTS,
  SUMS,
  Effects,
  Maps,
  compared,
  top_count,
)

SPLITS = 100  # random halves of the groups, for reliability


def compare(
  behavior: Effects, explanation: Effects, group_N: np.ndarray, seed: int = 0
) -> dict[str, Any]:
  """How much two maps over the same sites have in common.

  Returns:
    size: correlation over sites of the sizes of both effects, with a studentised
    cluster bootstrap on Fisher's scale; signed: of the effects themselves; rank:
    Spearman's, of sizes; overlap: share of one map's top sites among the other's, and
    `chance`, what random sites would have; reliability of both maps: of sizes, split
    half over groups, by Spearman and Brown; `ceiling`: the root of their product, what
    noise leaves of a correlation of 1.
  """
  R, rng = behavior.patched_NxR.shape[1], np.random.default_rng(seed)
  if min(len(np.unique(group_N)), R) < 4:  # too few for halves, or a correlation
    nothing = intervals.UNDEFINED._asdict()
    names = ('size', 'signed', 'rank', 'overlap')
    plain = ('chance', 'reliability_behavior', 'reliability_explanation', 'ceiling')
    return dict.fromkeys(names, nothing) | dict.fromkeys(plain)
  groups = [intervals.group_sums(x.moved_NxR, group_N) for x in (behavior, explanation)]
  reliable = [_reliability(x_GxR, rng) for x_GxR in groups]
  return {
    'size': _correlation(*groups, True, seed)._asdict(),
    'signed': _correlation(*groups, False, seed)._asdict(),
    'rank': _resampled(_spearman, groups, seed)._asdict(),
    'overlap': _resampled(_overlap, groups, seed)._asdict(),
    'chance': top_count(R) / R,
    'reliability_behavior': reliable[0],
    'reliability_explanation': reliable[1],
    'ceiling': None
    if None in reliable
    else float(np.sqrt(np.prod(np.maximum(reliable, 0)))),
  }


def _correlation(
  first_GxR: np.ndarray, second_GxR: np.ndarray, sizes: bool, seed: int
) -> intervals.Interval:
  """Pearson's r over sites of two maps, the sums of the groups' rows."""

  def estimates(weight_BxG):
    """Fisher's z, and its standard error from the groups' influences."""
    units, lengths, signs = [], [], []
    for x_GxR in (first_GxR, second_GxR):
      total_BxR = weight_BxG @ x_GxR
      sign_BxR = np.sign(total_BxR) if sizes else np.ones_like(total_BxR)
      centred_BxR = total_BxR * sign_BxR
      centred_BxR -= centred_BxR.mean(axis=1, keepdims=True)
      length_Bx1 = np.linalg.norm(centred_BxR, axis=1, keepdims=True)
      units.append(centred_BxR / length_Bx1)
      lengths.append(length_Bx1)
      signs.append(sign_BxR)
    r_B = np.clip(np.sum(units[0] * units[1], axis=1), -1, 1)
    influence_BxG = 0
    for i, x_GxR in enumerate((first_GxR, second_GxR)):
      slope_BxR = (units[1 - i] - r_B[:, None] * units[i]) / lengths[i]
      influence_BxG += (slope_BxR * signs[i]) @ x_GxR.T
    G = len(first_GxR)
    variance_B = G / (G - 1) * np.sum(weight_BxG * influence_BxG**2, axis=1)
    return np.arctanh(r_B), np.sqrt(variance_B) / (1 - r_B**2)

  with np.errstate(divide='ignore', invalid='ignore'):
    found = intervals.studentised(
      estimates, len(first_GxR), seed, intervals.DRAWS, intervals.CONFIDENCE
    )
  return intervals.Interval(*(x if x is None else float(np.tanh(x)) for x in found))


def _spearman(first_BxR: np.ndarray, second_BxR: np.ndarray) -> np.ndarray:
  """Of sizes, row by row [B]."""
  ranks = (stats.rankdata(np.abs(x), axis=1) for x in (first_BxR, second_BxR))
  return _pearson(*ranks)


def _pearson(first_BxR: np.ndarray, second_BxR: np.ndarray) -> np.ndarray:
  """Row by row [B]; NaN where a row is constant."""
  units = []
  for x_BxR in (first_BxR, second_BxR):
    centred_BxR = x_BxR - x_BxR.mean(axis=1, keepdims=True)
    units.append(centred_BxR / np.linalg.norm(centred_BxR, axis=1, keepdims=True))
  return np.sum(units[0] * units[1], axis=1)


def _overlap(first_BxR: np.ndarray, second_BxR: np.ndarray) -> np.ndarray:
  """Share of one map's top sites among the other's, row by row [B]."""
  k = top_count(first_BxR.shape[1])
  tops = []
  for x_BxR in (first_BxR, second_BxR):
    order_BxR = np.argsort(-np.abs(x_BxR), axis=1, kind='stable')
    top_BxR = np.zeros(x_BxR.shape, bool)
    np.put_along_axis(top_BxR, order_BxR[:, :k], True, axis=1)
    tops.append(top_BxR)
  return np.sum(tops[0] & tops[1], axis=1) / k


def _resampled(
  statistic: Callable[[np.ndarray, np.ndarray], np.ndarray],
  groups: Sequence[np.ndarray],
  seed: int,
) -> intervals.Interval:
  """Percentile bootstrap over groups, for what has no derivative."""
  G = len(groups[0])
  with np.errstate(divide='ignore', invalid='ignore'):
    (value,) = statistic(*(x.sum(axis=0, keepdims=True) for x in groups))
    weight_BxG = np.random.default_rng(seed).multinomial(
      G, np.full(G, 1 / G), size=intervals.DRAWS
    )
    drawn_B = statistic(*(weight_BxG @ x for x in groups))
  drawn_B = drawn_B[np.isfinite(drawn_B)]
  if not np.isfinite(value) or not len(drawn_B):
    return intervals.UNDEFINED
  tail = (1 - intervals.CONFIDENCE) / 2
  bounds = np.quantile(drawn_B, [tail, 1 - tail])
  return intervals.Interval(float(value), *map(float, bounds))


def _reliability(x_GxR: np.ndarray, rng: np.random.Generator) -> float | None:
  """Split-half reliability of a map of sizes (Spearman 1910, Brown 1910)."""
  halves_2xSxR = np.stack(
    [
      [np.abs(x_GxR[half].sum(axis=0)) for half in np.array_split(order_G, 2)]
      for order_G in (rng.permutation(len(x_GxR)) for _ in range(SPLITS))
    ],
    axis=1,
  )
  with np.errstate(divide='ignore', invalid='ignore'):
    r = float(_pearson(*halves_2xSxR).mean())
  return 2 * r / (1 + r) if np.isfinite(r) and r > -1 else None


def cross(behavior: Maps, explanation: Maps) -> float | None:
  """Correlation of sizes of one model's behaviour map and another's explanation map.

  Both over the components that live in both; None where a map is constant.
  """
  among = compared(behavior.sites, behavior.live_R & explanation.live_R, COMPONENTS)
  maps = (behavior.behavior, explanation.explanation)
  sizes = (np.abs(x.moved_NxR.mean(axis=0)[among])[None] for x in maps)
  with np.errstate(divide='ignore', invalid='ignore'):
    (r,) = _pearson(*sizes)
  return float(r) if np.isfinite(r) else None


def statistics(maps: Maps) -> dict[str, Any]:
  """All numbers of one checkpoint, JSON-ready.

  Returns:
    n, groups: pairs and their clusters. behavior_whole, explanation_whole: mean d on x
    less that on x', in nats. sharing: `compare` over components; by_kind: sizes alone,
    for sums of components. knocked_out: see `_knocked_out`.
  """
  among = compared(maps.sites, maps.live_R, COMPONENTS)
  both = maps.behavior, maps.explanation

  def over(rows: np.ndarray) -> dict[str, Any]:
    picked = (x._replace(patched_NxR=x.patched_NxR[:, rows]) for x in both)
    return compare(*picked, maps.group_N)

  return {
    'n': len(maps.group_N),
    'groups': len(np.unique(maps.group_N)),
    'sites': len(among),
    **{
      f'{name}_whole': intervals.mean_interval(x.whole_N, maps.group_N)._asdict()
      for name, x in zip(('behavior', 'explanation'), both)
    },
    'sharing': over(among),
    'by_kind': {
      kind: over(compared(maps.sites, maps.live_R, (kind,)))['size'] for kind in SUMS
    },
    'knocked_out': _knocked_out(maps),
  }


def _knocked_out(maps: Maps) -> dict[str, Any]:
  """What mean-ablating the behaviour's top sites does, against as many random ones.

  Returns:
    For behaviour and explanation, how many nats of x less x' the top sites take with
    them where both prompts are ablated, so too random ones (mean of all draws), and
    their difference. flipped: share of pairs whose behaviour on x is no longer
    preferred. agrees: share of pairs whose explanation, as ablated, prefers what the
    ablated behaviour makes true. follows: that, less what would be without any tie
    between pairs (from the shares alone), less the same of the explanation as it was:
    above 0 where explanations move with the behaviour, pair by pair.
  """
  found = {}
  for name, own, other in (
    ('behavior', maps.behavior_without, maps.behavior_other_without),
    ('explanation', maps.explanation_without, maps.explanation_other_without),
  ):
    lost_NxS = own.whole_N[:, None] - (own.patched_NxR - other.patched_NxR)
    top_N, random_N = lost_NxS[:, 0], lost_NxS[:, 1:].mean(axis=1)
    found[name] = {
      key: intervals.mean_interval(x_N, maps.group_N)._asdict()
      for key, x_N in (
        ('top', top_N),
        ('random', random_N),
        ('difference', top_N - random_N),
      )
    }
  changed_N = maps.behavior_without.patched_NxR[:, 0] > 0
  now_N = maps.explanation_without.patched_NxR[:, 0] > 0
  before_N = maps.explanation_without.clean_N > 0
  tied_N = 2 * (_together(now_N, changed_N) - _together(before_N, changed_N))
  return found | {
    'flipped': intervals.mean_interval(~changed_N, maps.group_N)._asdict(),
    'agrees': intervals.mean_interval(now_N == changed_N, maps.group_N)._asdict(),
    'follows': intervals.mean_interval(tied_N, maps.group_N)._asdict(),
  }


def _together(first_N: np.ndarray, second_N: np.ndarray) -> np.ndarray:
  """Each pair's part of a covariance; agreement beyond chance is twice that."""
  return (first_N - first_N.mean()) * (second_N - second_N.mean())
