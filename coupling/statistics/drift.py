"""Since which checkpoint explanations no longer describe what a model does.

Checkpoints 0, 1, … K come in order, all evaluated on the same N items in G groups.

*Explanations have parted from behaviour since k*: at k and at every later checkpoint
the whole interval of Self minus Self of checkpoint 0, paired by item, lies below zero.
*Behaviour has left the labels since k*: at k and at every later checkpoint the whole
interval of behaviour similarity lies below LIMIT.

Both kinds of intervals cover all checkpoints together (95%), so that a step is named
too early, or where there is none, at most so often. What comes back is not counted as
parted. Where explanations were poor from the first checkpoint on there is nothing to
part from: read Self itself beside this.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from coupling.elicit.explanation import Explanation, agree
from coupling.statistics import intervals
from coupling.statistics.intervals import CONFIDENCE, DRAWS, Interval
from coupling.statistics.items import Items, check_same_items

LIMIT = 0.7  # similarity up to which coupling is expected (paper)


def drift(
  items: Mapping[int, Items], labels: Explanation, seed: int = 0
) -> dict[str, Any]:
  """What changes over checkpoints, and since when.

  Args:
    items: step -> evaluation of the checkpoint, in order, at least one.
    labels: what behaviour is held against, for these items.
    seed: of the resampling.

  Returns:
    first: its step; steps: str(step) -> {self_change, similarity}, intervals as dicts,
    self_change undefined of the first; parted, dissimilar: {since, before}, the step
    and the one before it, or None.
  """
  steps = list(items)
  first, *others = items.values()
  for other in others:
    check_same_items(first, other)
  right_NxK = np.stack([1.0 * x.right(x.truth) for x in items.values()], axis=1)
  change_NxK = right_NxK[:, 1:] - right_NxK[:, :1]
  changes = [intervals.UNDEFINED]  # of the first, against which they are
  changes += simultaneous(change_NxK, first.group_N, seed)
  confidence = 1 - (1 - CONFIDENCE) / len(steps)  # Bonferroni
  similar = [
    intervals.clustered_wilson(
      agree(labels, x.truth, x.states_answer), x.group_N, confidence
    )
    for x in items.values()
  ]
  return {
    'first': steps[0],
    'steps': {
      str(step): {'self_change': change._asdict(), 'similarity': similarity._asdict()}
      for step, change, similarity in zip(steps, changes, similar, strict=True)
    },
    'parted': _since(steps, changes, 0.0),
    'dissimilar': _since(steps, similar, LIMIT),
  }


def _since(
  steps: Sequence[int], found: Sequence[Interval], limit: float
) -> dict[str, int | None]:
  """The first step from which on all intervals lie below a limit."""
  below = [x.high is not None and x.high < limit for x in found]
  number = next((k for k in range(len(steps)) if all(below[k:])), None)
  if number is None:
    return {'since': None, 'before': None}
  return {'since': steps[number], 'before': steps[number - 1] if number else None}


def simultaneous(
  values_NxK: np.ndarray,
  group_N: np.ndarray,
  seed: int = 0,
  draws: int = DRAWS,
  confidence: float = CONFIDENCE,
) -> list[Interval]:
  """Intervals of K means over the same items that cover all of them together.

  The bootstrap of intervals.studentised, with one quantile for all: that of the largest
  |mean* - mean| / s* over the columns of a resample (Romano and Wolf 2005, Econometrica
  73:1237, single step). Columns that move together cost little.

  Args:
    values_NxK: of the items, a column for each mean.
    group_N: the group of each item.
    seed: of the resampling.
    draws: number of resamples.
    confidence: that all K means lie in theirs.

  Returns:
    The means and their bounds; no bounds of a column whose groups do not vary, nor of
    any where they are too few.
  """
  groups = len(np.unique(group_N))
  weight_BxG = intervals.resampling_weights(groups, seed, draws)
  means, errors, t_KxB = [], [], []
  for values_N in np.transpose(values_NxK):
    pair_Nx2 = np.stack([values_N, np.ones(len(values_N))], axis=1)
    sums_Gx2 = intervals.group_sums(pair_Nx2, group_N)
    one = np.ones(1)
    (mean,), (error,) = intervals.sum_of_ratios(sums_Gx2, one, np.ones((1, groups)))
    mean_B, error_B = intervals.sum_of_ratios(sums_Gx2, one, weight_BxG)
    means.append(float(mean))
    errors.append(float(error) if groups > 1 else 0.0)
    with np.errstate(divide='ignore', invalid='ignore'):
      # Of a resample that does not vary: 0 / 0 says nothing, x / 0 is beyond all.
      t_KxB.append(
        np.nan_to_num(np.abs(mean_B - mean) / error_B, nan=0.0, posinf=np.inf)
      )
  vary = [k for k, error in enumerate(errors) if error > 0]
  if not vary:
    return [Interval(mean, None, None) for mean in means]
  largest_B = np.max([t_KxB[k] for k in vary], axis=0)
  quantile = float(np.quantile(largest_B, confidence, method='higher'))
  if not np.isfinite(quantile):
    return [Interval(mean, None, None) for mean in means]
  return [
    Interval(mean, mean - quantile * error, mean + quantile * error)
    if error > 0
    else Interval(mean, None, None)
    for mean, error in zip(means, errors)
  ]
