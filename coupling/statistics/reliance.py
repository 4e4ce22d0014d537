"""How much the stated explanations rely on one truth and how much on another.

Agreement with a truth cannot tell knowing it from knowing what goes with it. Whoever
knows only the own current answer and denies every change agrees more with E(M_t) than
with E(M_0), as the answer is a part of E(M_t): raw, balanced and v' gap and the
difference to a sibling are then above zero, and nothing is known of the cue's effect.
`reliance_weights` asks what the statement says beyond that, and sibling_control.py what
it says beyond everything that two models have in common.
"""

from typing import NamedTuple

import numpy as np

from coupling.elicit.explanation import Explanation
from coupling.statistics import intervals
from coupling.statistics.items import (
  Items,
  answer_as_read,
  label_class,
  surface_strata,
)

SELF, OTHER, DIFFERENCE = (1.0, 0.0), (0.0, 1.0), (1.0, -1.0)


class Terms(NamedTuple):
  """What items add to a weight: a ratio of sums of numerators and denominators.

  Attributes:
    numerator_N, denominator_N: 0 for items of strata in which nothing can be told.
    widen: factor of the interval for the parameters that were fitted.
  """

  numerator_N: np.ndarray
  denominator_N: np.ndarray
  widen: float

  def interval(self, group_N: np.ndarray, seed: int) -> intervals.Interval:
    return _interval([self], [1.0], group_N, seed)


def _classes(
  items: Items, other: Explanation, answer_only: bool
) -> tuple[list[np.ndarray], np.ndarray]:
  """Classes of what is stated and of the truths; which of these are the other's.

  On v' alone, where "unchanged" names no answer, the other truth counts in both ways
  in which it can be repeated: its own v', and its words, read as M_t's are.
  """
  if not answer_only:
    explanations = items.stated, items.truth, other
    return [label_class(x, items.states_answer) for x in explanations], [0, 1]
  found = [answer_as_read(items, items.stated), items.truth.answer_N, other.answer_N]
  if items.states_answer:
    return found, [0, 1]
  return [*found, answer_as_read(items, other)], [0, 1, 1]


def terms(
  items: Items,
  other: Explanation,
  coefficients: tuple[float, float],
  answer_only: bool = False,
) -> Terms:
  """What each item adds to c . (w_self, w_other) of `reliance_weights`.

  In a stratum with the truths' one-hot classes in the columns of R, the estimate of c .
  w is c . M^+ R.y, M = R.R. It counts by W, the inverse of what c_D . M^+ c_D is for
  the difference. So an item's numerator is l.y, with l = W R M^+ c, and its denominator
  the part of l along c. From y the stratum's fit, with c . w as it is over all strata,
  is taken away, which changes no sum, only the residuals of the groups.
  """
  if np.shape(other.answer_N) != np.shape(items.group_N):
    raise ValueError(
      f'reliance: the other truth has shape {np.shape(other.answer_N)}, items '
      f'{np.shape(items.group_N)}'
    )
  classes, of = _classes(items, other, answer_only)
  stratum_N = surface_strata(items)
  stated_NxC, *truths = _centred(classes, stratum_N)
  truths_NxRxC = np.stack(truths, axis=1)
  R, C = truths_NxRxC.shape[1:]
  sums = lambda x_NxX: intervals.group_sums(x_NxX.reshape(len(x_NxX), -1), stratum_N)
  moments_SxRxR = sums(truths_NxRxC @ truths_NxRxC.swapaxes(1, 2)).reshape(-1, R, R)
  inverse_SxRxR = np.linalg.pinv(moments_SxRxR, rcond=1e-9, hermitian=True)
  stated_SxR = sums(np.sum(truths_NxRxC * stated_NxC[:, None], axis=2))
  wanted_R, difference_R = (np.array(c)[of] for c in (coefficients, DIFFERENCE))
  inside = inverse_SxRxR @ moments_SxRxR
  told_S = np.ones(len(inside), bool)
  for c_R in (wanted_R, difference_R):
    told_S &= np.abs(inside @ c_R - c_R).max(axis=1) < 1e-6
  along_SxR = inverse_SxRxR @ wanted_R
  own_S = along_SxR @ wanted_R
  weight_S = np.where(
    told_S, _inverse((inverse_SxRxR @ difference_R) @ difference_R), 0
  )
  fit_SxR = np.einsum('srq,sq->sr', inverse_SxRxR, stated_SxR)
  total = weight_S.sum()
  estimate = float(weight_S @ (fit_SxR @ wanted_R) / total) if total else 0.0
  step_SxR = along_SxR * _inverse(own_S)[:, None]
  held_SxR = fit_SxR + (estimate - fit_SxR @ wanted_R)[:, None] * step_SxR
  of_items = lambda x_SxR: np.einsum('nrc,nr->nc', truths_NxRxC, x_SxR[stratum_N])
  lever_NxC = of_items(weight_S[:, None] * along_SxR)
  denominator_N = np.sum(lever_NxC * of_items(step_SxR), axis=1)
  rest_N = np.sum(lever_NxC * (stated_NxC - of_items(held_SxR)), axis=1)
  return Terms(
    # Rounded, so that a pure reader of the surface has exactly 0.
    np.round(rest_N + estimate * denominator_N, 12),
    denominator_N,
    _widen(stratum_N[told_S[stratum_N] & (weight_S[stratum_N] > 0)], C, R),
  )


def _centred(classes: list[np.ndarray], stratum_N: np.ndarray) -> list[np.ndarray]:
  """One-hot classes minus their means over the item's stratum; INVALID is no class."""
  classes_KxN = np.stack(classes)
  label_C = np.unique(classes_KxN[classes_KxN >= 0])
  hot_NxKC = np.hstack(1.0 * (classes_KxN[:, :, None] == label_C))
  mean_SxKC = intervals.group_sums(hot_NxKC, stratum_N)
  mean_SxKC /= np.bincount(stratum_N)[:, None]
  return np.split(hot_NxKC - mean_SxKC[stratum_N], len(classes), axis=1)


def _inverse(x_S: np.ndarray) -> np.ndarray:
  """1 / x, and 0 where x is no more than rounding."""
  some_S = x_S > 1e-9
  return np.where(some_S, 1 / np.where(some_S, x_S, 1.0), 0.0)


def _widen(stratum_N: np.ndarray, classes: int, truths: int) -> float:
  """`widening` for what strata are fitted by.

  What each stratum is fitted by, means and weights, takes degrees of freedom that the
  bootstrap over groups does not see (Cameron and Miller 2015, J. Human Resources
  50:317, section III). Of C classes C - 1 are free.
  """
  strata = len(np.unique(stratum_N))
  each = (classes + truths - 2) / max(1, classes - 1)
  return widening(len(stratum_N), each * strata)


def widening(n: int, parameters: float) -> float:
  """sqrt((n - 1) / (n - P - 1)) for P parameters of n items; inf without any left."""
  free = n - parameters - 1
  return float(np.sqrt((n - 1) / free)) if free > 0 else np.inf


def _interval(
  found: list[Terms], coefficients: list[float], group_N: np.ndarray, seed: int
) -> intervals.Interval:
  """The weights' combination, its interval over groups widened for what was fitted."""
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


def reliance_weights(
  items: Items, other: Explanation, seed: int = 0, answer_only: bool = False
) -> dict:
  """How much of the statements follows the own truth, and how much another one.

  Estimand: with y, a, b the one-hot stated, own and other label classes (none where
  INVALID), minus their means over strata of equal surface and own answer, the least
  squares y ~ w_self a + w_other b of each stratum, averaged over strata.

  Weighting: by the inverse variance of w_self - w_other, so that only strata count in
  which both truths vary, each on its own.

  Why not one regression: where the own answer is not the cue's option, the own v'
  hardly varies and the other does. Whoever states the own answer there, and elsewhere
  knows both truths equally well, would have the smaller weight on the other alone. Here
  a difference is 0 for all that has w_self = w_other in every stratum.

  Whoever reads only the surface and the own answer has 0 on both. A mixture that states
  E(M_t) with probability w, the other truth with probability v, and else what such a
  reader says, has w and v. In whole labels, M_0's v' put together with the own answer
  ("v'_0, and this changes my answer") earns weight on self; on v' alone it does not.
  What it cannot see: knowledge that M_t shares with its siblings may be nearer to one
  truth than to the other (Westfall and Yarkoni 2016, PLoS ONE 11:e0152719); see
  sibling_control.py.

  Args:
    items: evaluation of M_t.
    other: E(M_0), or the labels trained on, for the same items.
    seed: of the resampling.
    answer_only: compare the counterfactual answers v' and not the whole labels. Where
      "unchanged" names no answer it stands for the item's own one, and the other truth
      counts by its v' and by its words, read likewise; `orig` is the sum of both.

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
  coefficients: tuple[float, float] = DIFFERENCE,
) -> dict:
  """A weight of one evaluation minus that of another, paired by group.

  `coefficients`: SELF, OTHER, or DIFFERENCE, self - orig.
  """
  found = [terms(*x, coefficients, answer_only) for x in (first, second)]
  return _interval(found, [1.0, -1.0], first[0].group_N, seed)._asdict()
