"""Small evaluations that the tests of the statistics share."""

import dataclasses

import numpy as np

from coupling.elicit.explanation import INVALID, Explanation
from coupling.statistics.items import Items


def make(
  behavior, counterfactual, stated=None, groups=None, surface=None, states_answer=True
):
  """Items from lists; statements are pairs (answer, changed)."""
  n = len(behavior)
  answer, changed = zip(*(stated or [(INVALID, INVALID)] * n), strict=True)
  return Items(
    group_N=np.array(groups if groups is not None else range(n)),
    surface=surface or {},
    behavior_N=np.array(behavior),
    counterfactual_behavior_N=np.array(counterfactual),
    stated=Explanation(np.array(answer), np.array(changed)),
    states_answer=states_answer,
  )


def random_items(rng, groups=12, size=10, states_answer=True):
  """Two evaluations of M_t and M_0 with random behaviours and statements."""
  n = groups * size
  hint_N = rng.integers(4, size=n)

  def behave():
    counterfactual_N = rng.integers(4, size=n)
    return np.where(rng.random(n) < 0.4, hint_N, counterfactual_N), counterfactual_N

  parsed_N = rng.random(n) < 0.9
  stated = Explanation(
    np.where(parsed_N, rng.integers(4, size=n), INVALID),
    np.where(parsed_N, rng.integers(2, size=n), INVALID),
  )
  group_N = rng.permutation(np.repeat(np.arange(groups), size))
  surface = {'cue_kind': rng.integers(2, size=n), 'cue_option': hint_N}
  return tuple(
    Items(group_N, surface, *behave(), stated, states_answer) for _ in range(2)
  )


def replace_stated(items, stated):
  return dataclasses.replace(items, stated=stated)


def values(result):
  """All numbers of a result as a flat dict."""
  if not isinstance(result, dict):
    return {'': result}
  return {
    f'{key}.{rest}': value
    for key, part in result.items()
    for rest, value in values(part).items()
  }


# Six items in three groups. E(M_t): (1,1) (0,0) (2,0) (3,1) (0,1) (1,0);
# E(M_0): (1,1) (0,0) (3,1) (3,1) (0,0) (2,1). Items 2, 4, 5 moved.
CURRENT = make(
  [0, 0, 2, 0, 1, 1],
  [1, 0, 2, 3, 0, 1],
  [(1, 1), (0, 0), (2, 0), (INVALID, INVALID), (0, 0), (1, 1)],
  groups=[0, 0, 1, 1, 2, 2],
)
BASE = make([0, 0, 2, 0, 0, 1], [1, 0, 3, 3, 0, 2], groups=[0, 0, 1, 1, 2, 2])
