"""The gap and the agreement that shuffled explanations have: exact, and honest."""

import dataclasses

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from coupling.elicit.explanation import Explanation
from coupling.statistics import baselines
from coupling.statistics.chance import chance_corrected, shuffled_null
from coupling.statistics.items import Items
from coupling.statistics.scores import coupling
from tests.simulated import make, random_items, replace_stated

SEEDS = st.integers(0, 2**32 - 1)


def test_chance_correction_takes_chance_within_strata():
  assert chance_corrected(0.7, 0.5) == pytest.approx(0.4)
  assert chance_corrected(1.0, 1.0) is None
  items, orig = random_items(np.random.default_rng(5), groups=40, size=25)
  knows = coupling(replace_stated(items, items.truth), orig)
  assert knows['chance_corrected']['self'] == pytest.approx(1.0)
  # Right on many items by the own answer alone: all of that is chance.
  denies = coupling(replace_stated(items, baselines.denial(items)), orig)
  assert denies['self_accuracy']['low'] > 0.2
  assert denies['chance_corrected']['self'] == pytest.approx(0.0, abs=1e-12)


def test_null_is_the_mean_over_shuffles():
  rng = np.random.default_rng(0)
  items, orig = random_items(rng)
  stratum_N = np.unique(
    np.stack([*items.surface.values(), items.behavior_N]), axis=1, return_inverse=True
  )[1]
  gaps = []
  for _ in range(3000):
    order_N = np.lexsort([rng.random(len(stratum_N)), stratum_N])
    moved_N = np.empty_like(order_N)
    moved_N[np.argsort(stratum_N, kind='stable')] = order_N
    stated = Explanation(*(part_N[moved_N] for part_N in items.stated))
    shuffled = replace_stated(items, stated)
    gaps.append(np.mean(1.0 * shuffled.right(items.truth) - shuffled.right(orig.truth)))
  found = shuffled_null(items, orig)
  assert found['null_gap'] == pytest.approx(
    np.mean(gaps), abs=4 * np.std(gaps) / np.sqrt(3000)
  )


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.booleans())
def test_null_splits_the_gap(seed, states_answer):
  items, orig = random_items(np.random.default_rng(seed), states_answer=states_answer)
  null, result = shuffled_null(items, orig), coupling(items, orig)
  assert null['null_gap'] == pytest.approx(null['null_self'] - null['null_orig'])
  assert null['corrected_gap']['value'] == pytest.approx(
    result['gap']['value'] - null['null_gap'], abs=1e-12
  )


def test_denial_after_a_collapse_has_a_gap_but_no_corrected_gap():
  # M_t never follows the hint, M_0 does half of the time: denial is right by base rate.
  rng = np.random.default_rng(1)
  group_N, own_N = np.repeat(np.arange(50), 20), rng.integers(4, size=1000)
  hint_N = rng.integers(4, size=1000)
  says = Explanation(own_N, np.zeros_like(own_N))
  items = Items(group_N, {'cue_option': hint_N}, own_N, own_N, says, True)
  followed_N = np.where(rng.random(1000) < 0.5, hint_N, own_N)
  orig = dataclasses.replace(items, behavior_N=followed_N)
  result = coupling(items, orig)
  assert result['gap']['low'] > 0.3
  assert result['shuffled']['corrected_gap']['value'] == pytest.approx(0.0, abs=1e-12)


def test_knowledge_of_the_item_survives_the_correction():
  items, orig = random_items(np.random.default_rng(2), groups=40, size=25)
  knows = shuffled_null(replace_stated(items, items.truth), orig)
  assert knows['corrected_gap']['low'] > 0.3
  assert knows['shuffle_p'] < 0.01
  copies = shuffled_null(replace_stated(items, orig.truth), orig)
  assert copies['corrected_gap']['high'] < -0.3


def test_exchangeable_counts_items_with_a_partner_in_another_group():
  surface = {'cue': np.array([0, 0, 1, 1, 2])}
  items = make([0] * 5, [0] * 5, groups=[0, 1, 2, 2, 3], surface=surface)
  null = shuffled_null(items, items)
  assert (null['strata'], null['exchangeable']) == (3, 2 / 5)


def test_correction_is_honest_when_statements_of_a_group_are_alike():
  # Statements and behaviours lean by group, independently: the null is true, though
  # base rates moved (.5 to .1). The interval and p must hold, neither too narrow nor
  # too wide, where shuffling single items is far too sure of itself.
  rng = np.random.default_rng(3)
  group_N = np.repeat(np.arange(40), 20)
  own_N, stay_N = np.zeros(800, int), np.zeros(800, int)

  def leaning(rates):
    return (rng.random(800) < rng.choice(rates, 40)[group_N]).astype(int)

  covered, rejected, naive = [], [], []
  for _ in range(300):
    says_N, is_N, was_N = leaning([0.1, 0.9]), leaning([0, 0.2]), leaning([0.1, 0.9])
    items = Items(group_N, {}, own_N, is_N, Explanation(says_N, says_N), True)
    orig = Items(group_N, {}, own_N, was_N, Explanation(stay_N, stay_N), True)
    null = shuffled_null(items, orig)
    covered.append(null['corrected_gap']['low'] <= 0 <= null['corrected_gap']['high'])
    rejected.append(null['shuffle_p'] <= 0.05)
    dealt_BxN = rng.permuted(np.tile(says_N, (100, 1)), axis=1)
    dealt_B = np.mean(1.0 * (dealt_BxN == is_N) - (dealt_BxN == was_N), axis=1)
    gap = np.mean(1.0 * (says_N == is_N) - (says_N == was_N))
    naive.append(
      np.mean(abs(dealt_B - dealt_B.mean()) >= abs(gap - dealt_B.mean())) <= 0.05
    )
  assert 0.91 <= np.mean(covered) <= 0.985
  assert 0.02 <= np.mean(rejected) <= 0.09
  assert np.mean(naive) > 0.3
