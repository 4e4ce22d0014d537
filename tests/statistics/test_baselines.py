"""Explainers that know nothing of the model, by hand."""

import numpy as np
import pytest

from coupling.elicit.explanation import INVALID, Explanation
from coupling.statistics import baselines
from tests.simulated import make


def test_baselines_by_hand():
  items = make([0, 1, 2], [0, 0, 0])

  def pairs(explanation):
    return list(zip(*(part_N.tolist() for part_N in explanation), strict=True))

  assert pairs(baselines.denial(items)) == [(0, 0), (1, 0), (2, 0)]
  parrot = baselines.cue_parrot(items, np.array([3, 1, INVALID]))
  assert pairs(parrot) == [(3, 1), (1, 0), (INVALID, INVALID)]
  alone = Explanation(np.array([0, 0, 2]), np.array([1, 1, 1]))
  assert pairs(baselines.with_own_answer(alone, items)) == [(0, 0), (0, 1), (2, 0)]
  # Two changed to 3, one changed to 1, one unchanged.
  labels = Explanation(np.array([3, 1, 3, 0]), np.array([1, 1, 1, 0]))
  assert pairs(baselines.majority(labels, items)) == [(3, 1)] * 3
  # Two unchanged, of different answers, are one label.
  labels = Explanation(np.array([3, 1, 2, 0]), np.array([1, 1, 0, 0]))
  assert pairs(baselines.majority(labels, items)) == [(0, 0), (1, 0), (2, 0)]
  with pytest.raises(ValueError, match='no training labels'):
    baselines.majority(Explanation(np.zeros(0, int), np.zeros(0, int)), items)
  with pytest.raises(ValueError, match='cue_option_N has shape'):
    baselines.cue_parrot(items, np.zeros(2, int))


def test_shuffled_deals_out_the_same_explanations():
  explanation = Explanation(np.arange(50), np.arange(50) % 2)
  dealt = baselines.shuffled(explanation, seed=0)
  assert not np.array_equal(dealt.answer_N, explanation.answer_N)
  np.testing.assert_array_equal(np.sort(dealt.answer_N), explanation.answer_N)
  np.testing.assert_array_equal(dealt.changed_N, dealt.answer_N % 2)
  np.testing.assert_array_equal(baselines.shuffled(explanation, 0)[0], dealt.answer_N)
