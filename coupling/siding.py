"""Weights of two truths in what is stated, given the surface and the own answer.

Agreement with a truth cannot tell knowing it from knowing what goes with it. Whoever
knows only the own current answer and denies every change agrees more with E(M_t) than
with E(M_0), as the answer is a part of E(M_t): raw, balanced and v' gap and the
difference to a sibling are then above zero, and nothing is known of the cue's effect.
`siding_weights` asks what the statement tells beyond that.
"""

import numpy as np

from coupling import intervals
from coupling.explanation import Explanation
from coupling.items import Items, label_class

SELF, OTHER, DIFFERENCE = (1.0, 0.0), (0.0, 1.0), (1.0, -1.0)


def surface_strata(items: Items) -> np.ndarray:
  """Items of equal surface features and equal own answer share a number, int [N]."""
  stratum_N = np.zeros(len(items.group_N), int)
  for feature_N in (*items.surface.values(), items.behavior_N):
    # One feature at a time: sorting rows is several times slower.
    value_V, index_N = np.unique(feature_N, return_inverse=True)
    _, stratum_N = np.unique(stratum_N * len(value_V) + index_N, return_inverse=True)
  return stratum_N


def moments(items: Items, other: Explanation, answer_only: bool = False) -> np.ndarray:
  """Sums of every group that the weights are made of, [G, 5]: aa, ab, bb, ay, by.

  Args:
    items: evaluation of M_t.
    other: the second truth on the same items: E(M_0), or a sibling's E(M_t).
    answer_only: compare the counterfactual answers v' and not the whole labels.
      "Unchanged" that names no answer then stands for the item's own answer.

  Returns:
    With y, a, b the one-hot stated, own and other label classes (no class where
    INVALID), less their means over the item's stratum: sums of a.a, a.b, b.b, a.y, b.y.
  """
  if np.shape(other.answer_N) != np.shape(items.group_N):
    raise ValueError(
      f'siding: the other truth has shape {np.shape(other.answer_N)}, items '
      f'{np.shape(items.group_N)}'
    )
  explanations = items.stated, items.truth, other
  if answer_only:
    stated_N = items.stated.answer_N
    if not items.states_answer:
      unnamed_N = items.stated.changed_N == 0
      stated_N = np.where(unnamed_N, items.behavior_N, stated_N)
    classes_3xN = np.stack([stated_N, items.truth.answer_N, other.answer_N])
  else:
    classes_3xN = np.stack([label_class(x, items.states_answer) for x in explanations])
  label_C = np.unique(classes_3xN[classes_3xN >= 0])
  stratum_N = surface_strata(items)
  hot_Nx3C = np.hstack(1.0 * (classes_3xN[:, :, None] == label_C))
  mean_Sx3C = intervals.group_sums(hot_Nx3C, stratum_N)
  mean_Sx3C /= np.bincount(stratum_N)[:, None]
  stated_NxC, self_NxC, other_NxC = np.split(hot_Nx3C - mean_Sx3C[stratum_N], 3, axis=1)
  pairs = (
    (self_NxC, self_NxC),
    (self_NxC, other_NxC),
    (other_NxC, other_NxC),
    (self_NxC, stated_NxC),
    (other_NxC, stated_NxC),
  )
  products_Nx5 = np.stack([np.sum(x * y, axis=1) for x, y in pairs], axis=1)
  # Rounded, so that a pure reader of the surface has exactly 0.
  return intervals.group_sums(np.round(products_Nx5, 12), items.group_N)


def siding_weights(
  items: Items, other: Explanation, seed: int = 0, answer_only: bool = False
) -> dict:
  """How much of the statements follows the own truth, and how much another one.

  Partial regression: with y, a, b as in `moments`, the least squares of y on (a, b),

    [beta_self, beta_other] = [[aa, ab], [ab, bb]]^-1 [ay, by].

  An explainer that reads only the surface and its own answer states the same, or
  draws from the same distribution, all over a stratum: both weights are 0 in
  expectation, and exactly 0 where it draws nothing. A mixture that states E(M_t) with
  probability w, the other truth with probability v, and else what such an explainer
  says, has the weights w and v. In whole labels, knowledge of M_0's v' put together
  with the own current answer ("v'_0, and this changes my answer") earns weight on
  self, as its SAME/CHANGE part is current; on v' alone (`answer_only`) it does not.

  Args:
    items: evaluation of M_t.
    other: E(M_0), or the E(M_t) of a sibling, on the same items.
    seed: of the resampling.
    answer_only: as `moments` takes it.

  Returns:
    self, orig, difference (self - orig), with studentised cluster bootstraps.
    Undefined where the truths differ nowhere within strata, or one has no variation.
  """
  sums_1xGx5 = moments(items, other, answer_only)[None]
  found = {}
  for name, weights in (('self', SELF), ('orig', OTHER), ('difference', DIFFERENCE)):
    interval = intervals.regression_bootstrap(sums_1xGx5, [weights], seed)
    found[name] = _for_strata(interval, items)._asdict()
  return found


def _for_strata(
  interval: intervals.Interval, *evaluations: Items
) -> intervals.Interval:
  """The interval, wider by sqrt((N - 1) / (N - S - 2)) for N items in S strata.

  The means of the strata are estimated too, and take degrees of freedom that the
  bootstrap over groups does not see (Cameron and Miller 2015, J. Human Resources
  50:317, section III). Without any left there are no bounds.
  """
  n = len(evaluations[0].group_N)
  free = n - max(surface_strata(x).max() + 1 for x in evaluations) - 2
  value, low, high = interval
  if low is None or free <= 0:
    return intervals.Interval(value, None, None)
  factor = float(np.sqrt((n - 1) / free))
  return intervals.Interval(
    value, value - factor * (value - low), value + factor * (high - value)
  )


def contrast(
  first: tuple[Items, Explanation],
  second: tuple[Items, Explanation],
  seed: int = 0,
  answer_only: bool = False,
) -> dict:
  """Difference self - orig of one evaluation minus that of another, paired by group."""
  sums_2xGx5 = np.stack([moments(*x, answer_only) for x in (first, second)])
  opposite = [-weight for weight in DIFFERENCE]
  found = intervals.regression_bootstrap(sums_2xGx5, [DIFFERENCE, opposite], seed)
  return _for_strata(found, first[0], second[0])._asdict()
