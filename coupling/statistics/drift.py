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
from scipy import special

from coupling.elicit.explanation import Explanation, agree
from coupling.statistics import intervals
from coupling.statistics.intervals import CONFIDENCE, Interval
from coupling.statistics.items import Items, check_same_items

LIMIT = 0.7  # similarity up to which coupling is expected (paper)


def drift(items: Mapping[int, Items], labels: Explanation) -> dict[str, Any]:
  """What changes over checkpoints, and since when.

  Args:
    items: step -> evaluation of the checkpoint, in order, at least one.
    labels: what behaviour is held against, for these items.

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
  changes += simultaneous(change_NxK, first.group_N)
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
  values_NxK: np.ndarray, group_N: np.ndarray, confidence: float = CONFIDENCE
) -> list[Interval]:
  """Intervals of K means of differences that cover all of them together.

  Student's t over groups, with two groups of half the average size more, in one of
  which all differences are 1 and in the other -1 (in the way of Agresti and Caffo 2000,
  American Statistician 54:280): so a checkpoint that hardly differs from the first, and
  one at which everything has changed, have bounds too. Bonferroni over the K means,
  which costs little for a handful.

  Args:
    values_NxK: of the items, each in [-1, 1], a column for each mean.
    group_N: the group of each item.
    confidence: that all K means lie in theirs.

  Returns:
    The means and their bounds, which hold them.
  """
  count = values_NxK.shape[1]
  ones_Nx1 = np.ones((len(values_NxK), 1))
  sums_GxK = intervals.group_sums(np.hstack([values_NxK, ones_Nx1]), group_N)
  sum_GxK, size_G = sums_GxK[:, :-1], sums_GxK[:, -1]
  size = size_G.mean() / 2
  sum_GxK = np.vstack([sum_GxK, np.full(count, size), np.full(count, -size)])
  size_G = np.append(size_G, [size, size])
  groups = len(size_G)
  center_K = sum_GxK.sum(axis=0) / size_G.sum()
  rest_GxK = sum_GxK - center_K * size_G[:, None]
  variance_K = groups / (groups - 1) * np.sum(rest_GxK**2, axis=0) / size_G.sum() ** 2
  quantile = special.stdtrit(groups - 1, 1 - (1 - confidence) / 2 / max(1, count))
  half_K = quantile * np.sqrt(variance_K)
  mean_K = values_NxK.mean(axis=0)
  low_K = np.maximum(center_K - half_K, -1)
  high_K = np.minimum(center_K + half_K, 1)
  return [
    Interval(float(mean), float(min(mean, low)), float(max(mean, high)))
    for mean, low, high in zip(mean_K, low_K, high_K)
  ]
