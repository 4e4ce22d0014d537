"""How much the stated explanations rely on one truth and how much on another.

Agreement with a truth cannot tell knowing it from knowing what goes with it. Whoever
knows only the own current answer and denies every change agrees more with E(M_t) than
with E(M_0), as the answer is a part of E(M_t): raw, balanced and v' gap and the
difference to a sibling are then above zero, and nothing is known of the cue's effect.
`siding_weights` asks what the statement says beyond that, and `beyond_shared` what it
says beyond everything that two models have in common.
"""

from typing import NamedTuple

import numpy as np

from coupling import intervals
from coupling.explanation import Explanation
from coupling.items import Items, check_same_items, label_class

SELF, OTHER, DIFFERENCE = (1.0, 0.0), (0.0, 1.0), (1.0, -1.0)


class Terms(NamedTuple):
  """What items add to a weight: a ratio of sums of numerators and denominators.

  Attributes:
    numerator_N, denominator_N: 0 for items of strata that say nothing of it.
    widen: factor of the interval for the parameters that each stratum takes.
  """

  numerator_N: np.ndarray
  denominator_N: np.ndarray
  widen: float

  def interval(self, group_N: np.ndarray, seed: int) -> intervals.Interval:
    return _interval([self], [1.0], group_N, seed)


def surface_strata(items: Items) -> np.ndarray:
  """Items of equal surface features and equal own answer share a number, int [N]."""
  stratum_N = np.zeros(len(items.group_N), int)
  for feature_N in (*items.surface.values(), items.behavior_N):
    # One feature at a time: sorting rows is several times slower.
    value_V, index_N = np.unique(feature_N, return_inverse=True)
    _, stratum_N = np.unique(stratum_N * len(value_V) + index_N, return_inverse=True)
  return stratum_N


def stated_answer(items: Items) -> np.ndarray:
  """v' as stated, int [N]; "unchanged" that names no answer stands for the own one."""
  if items.states_answer:
    return items.stated.answer_N
  unnamed_N = items.stated.changed_N == 0
  return np.where(unnamed_N, items.behavior_N, items.stated.answer_N)


def terms(
  items: Items,
  other: Explanation,
  coefficients: tuple[float, float],
  answer_only: bool = False,
) -> Terms:
  """What each item adds to c . (w_self, w_other) of `siding_weights`.

  The least squares of one stratum, c . M^-1 (a.y, b.y) with M = [[aa, ab], [ab, bb]],
  count as det M / (aa + 2 ab + bb), the inverse variance of their difference. So an
  item's numerator is l.y and its denominator l.d, where l = c . adj(M) (a, b) / (aa +
  2 ab + bb) is orthogonal to the direction that c does not ask about (for DIFFERENCE,
  a + b), and d = c . (a, b) / c . c is the one that it does. The fit of that other
  direction is taken from y, which changes no sum, only the residuals of the groups.
  """
  if np.shape(other.answer_N) != np.shape(items.group_N):
    raise ValueError(
      f'siding: the other truth has shape {np.shape(other.answer_N)}, items '
      f'{np.shape(items.group_N)}'
    )
  if answer_only:
    classes = stated_answer(items), items.truth.answer_N, other.answer_N
  else:
    explanations = items.stated, items.truth, other
    classes = [label_class(x, items.states_answer) for x in explanations]
  stratum_N = surface_strata(items)
  stated_NxC, self_NxC, other_NxC = _centred(classes, stratum_N)
  at = lambda x_NxC, y_NxC: _total(np.sum(x_NxC * y_NxC, axis=1), stratum_N)[:, None]
  aa_Nx1, ab_Nx1, bb_Nx1 = (
    at(x, y)
    for x, y in ((self_NxC, self_NxC), (self_NxC, other_NxC), (other_NxC, other_NxC))
  )
  varies_Nx1 = aa_Nx1 * bb_Nx1 - ab_Nx1**2 > 1e-9 * aa_Nx1 * bb_Nx1
  per_Nx1 = _divide(varies_Nx1, aa_Nx1 + 2 * ab_Nx1 + bb_Nx1)
  c_self, c_other = coefficients
  lever_NxC = (c_self * bb_Nx1 - c_other * ab_Nx1) * per_Nx1 * self_NxC
  lever_NxC += (c_other * aa_Nx1 - c_self * ab_Nx1) * per_Nx1 * other_NxC
  asked_NxC = (c_self * self_NxC + c_other * other_NxC) / (c_self**2 + c_other**2)
  rest_NxC = c_other * self_NxC - c_self * other_NxC
  denominator_N = np.sum(lever_NxC * asked_NxC, axis=1)
  total = denominator_N.sum()
  weight = np.sum(lever_NxC * stated_NxC) / total if total else 0.0
  fit_Nx1 = at(rest_NxC, stated_NxC - weight * asked_NxC)
  left_NxC = stated_NxC - _divide(fit_Nx1, at(rest_NxC, rest_NxC)) * rest_NxC
  parameters = stated_NxC.shape[1] / max(1, stated_NxC.shape[1] - 1)
  return Terms(
    # Rounded, so that a pure reader of the surface has exactly 0.
    np.round(np.sum(lever_NxC * left_NxC, axis=1), 12),
    denominator_N,
    _widen(stratum_N[varies_Nx1[:, 0]], parameters),
  )


def _centred(classes: list[np.ndarray], stratum_N: np.ndarray) -> list[np.ndarray]:
  """One-hot classes minus their means over the item's stratum; INVALID is no class."""
  classes_KxN = np.stack(classes)
  label_C = np.unique(classes_KxN[classes_KxN >= 0])
  hot_NxKC = np.hstack(1.0 * (classes_KxN[:, :, None] == label_C))
  mean_SxKC = intervals.group_sums(hot_NxKC, stratum_N)
  mean_SxKC /= np.bincount(stratum_N)[:, None]
  return np.split(hot_NxKC - mean_SxKC[stratum_N], len(classes), axis=1)


def _total(values_N: np.ndarray, stratum_N: np.ndarray) -> np.ndarray:
  """The sum over each item's stratum, [N]."""
  return np.bincount(stratum_N, values_N)[stratum_N]


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
  """The quotient, 0 where the denominator is no more than rounding."""
  some = denominator > 1e-9
  return np.where(some, numerator / np.where(some, denominator, 1.0), 0.0)


def _widen(stratum_N: np.ndarray, parameters: float) -> float:
  """sqrt((N - 1) / (N - parameters S - 1)) for N items in S strata; inf without any.

  What each stratum is fitted by takes degrees of freedom that the bootstrap over
  groups does not see (Cameron and Miller 2015, J. Human Resources 50:317, section III).
  """
  n, strata = len(stratum_N), len(np.unique(stratum_N))
  free = n - parameters * strata - 1
  return float(np.sqrt((n - 1) / free)) if free > 0 else np.inf


def _interval(
  found: list[Terms], coefficients: list[float], group_N: np.ndarray, seed: int
) -> intervals.Interval:
  """The weights' combination, its interval over groups widened for the strata."""
  value, low, high = intervals.cluster_bootstrap(
    np.stack([x.numerator_N for x in found], axis=1),
    np.stack([x.denominator_N for x in found], axis=1),
    group_N,
    coefficients,
    seed,
  )
  widen = max(x.widen for x in found)
  if low is None or not np.isfinite(widen):
    return intervals.Interval(value, None, None)
  low, high = value - widen * (value - low), value + widen * (high - value)
  return intervals.Interval(value, low, high)


def siding_weights(
  items: Items, other: Explanation, seed: int = 0, answer_only: bool = False
) -> dict:
  """How much of the statements follows the own truth, and how much another one.

  Estimand: w_self and w_other of the least squares y ~ w_self a + w_other b within
  strata of equal surface and own answer, where y, a, b are the one-hot stated, own and
  other label classes (none where INVALID) minus their means over the stratum. So a
  mixture that states E(M_t) with probability w, the other truth with probability v,
  and else what depends on the surface and the own answer alone, has the weights w, v.

  Weighting: strata count by the inverse variance of w_self - w_other in each, det M /
  (aa + 2 ab + bb) with M = [[aa, ab], [ab, bb]] the sums of products; so those count
  in which both truths vary.

  Not one regression over all strata: where the own answer is not the cue's option, the
  own v' hardly varies and the other does, and an explainer that states the own answer
  there, and elsewhere knows both truths alike, would seem to follow itself.

  What it cannot see: knowledge that M_t shares with its siblings and that is nearer to
  one truth than to the other (Westfall and Yarkoni 2016, PLoS ONE 11:e0152719; see
  `beyond_shared`); and on whole labels M_0's v' put together with the own current
  answer ("v'_0, and this changes my answer"), which earns weight on self, though not
  on v' alone (`answer_only`).

  Args:
    items: evaluation of M_t.
    other: E(M_0), or the labels trained on, for the same items.
    seed: of the resampling.
    answer_only: compare the counterfactual answers v' and not the whole labels.
      "Unchanged" that names no answer then stands for the item's own answer.

  Returns:
    self, orig, difference (self - orig), with studentised cluster bootstraps.
    Undefined where in no stratum both truths vary, each on its own.
  """
  names = {'self': SELF, 'orig': OTHER, 'difference': DIFFERENCE}
  return {
    name: terms(items, other, weights, answer_only)
    .interval(items.group_N, seed)
    ._asdict()
    for name, weights in names.items()
  }


def contrast(
  first: tuple[Items, Explanation],
  second: tuple[Items, Explanation],
  seed: int = 0,
  answer_only: bool = False,
) -> dict:
  """Difference self - orig of one evaluation minus that of another, paired by group."""
  found = [terms(*x, DIFFERENCE, answer_only) for x in (first, second)]
  return _interval(found, [1.0, -1.0], first[0].group_N, seed)._asdict()


def beyond_shared(items: Items, other: Items, seed: int = 0) -> dict:
  """How much of the difference of two models' v' shows in their explanations.

  Among items to which both models give one answer with the cue, the slope of the
  difference of their statements, y_1 - y_2, on that of their truths, a_1 - a_2 (one-hot
  v' minus the means over strata of equal surface and answer). An explainer that knows
  only what both models have in common (the labels, M_0, drift that both share, each
  the other's behaviour as well as its own) and its own answer says the same as its
  like in the other model, whatever the truths are: its slope is 0 in expectation. So is
  that of one which knows the base rates of its own model, as these are taken out by
  stratum. One that states its own v' with probability w, and else such things, has w;
  one that states the other's has -w. The sibling is a negative control (Lipsitch et al.
  2010, Epidemiology 21:383): it stands for all that is shared without being measured.

  Args:
    items, other: evaluations of two models on the same items.
    seed: of the resampling.

  Returns:
    n and groups of the items where answers are alike and v' differ, and slope.
  """
  check_same_items(items, other)
  alike_N = items.behavior_N == other.behavior_N
  classes = [x[alike_N] for x in (
    *map(stated_answer, (items, other)), items.truth.answer_N, other.truth.answer_N
  )]  # fmt: skip
  group_N = items.group_N[alike_N]
  differ_N = classes[2] != classes[3]
  slope = intervals.UNDEFINED
  if differ_N.any():
    stratum_N = np.unique(surface_strata(items)[alike_N], return_inverse=True)[1]
    said_NxC, also_NxC, self_NxC, other_NxC = _centred(classes, stratum_N)
    lever_NxC = self_NxC - other_NxC
    products = [lever_NxC * (said_NxC - also_NxC), lever_NxC**2]
    numerator_N, denominator_N = (np.sum(x, axis=1) for x in products)
    informative_N = _total(denominator_N, stratum_N) > 1e-9
    widen = _widen(stratum_N[informative_N], 1.0)
    found = Terms(np.round(numerator_N, 12), denominator_N, widen)
    slope = found.interval(group_N, seed)
  return {
    'n': int(np.count_nonzero(differ_N)),
    'groups': len(np.unique(group_N[differ_N])),
    'slope': slope._asdict(),
  }
