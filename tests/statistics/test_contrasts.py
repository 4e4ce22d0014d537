"""Comparisons of two evaluations, by hand and with planted explainers."""

import dataclasses

import numpy as np
import pytest

from coupling.elicit.explanation import INVALID
from coupling.statistics import contrasts
from coupling.statistics.scores import coupling
from tests.simulated import BASE, CURRENT, make, random_items, replace_stated, values


def test_follow_rate_by_hand():
  # Truths at s: (0,0) everywhere; at t: moved to (1,1) on items 0-3, still on 4-6.
  before = make(
    [0] * 7, [0] * 7, [(0, 0), (0, 0), (0, 0), (1, 1), (0, 0), (2, 1), (3, 1)]
  )
  after = make(
    [0] * 7,
    [1, 1, 1, 1, 0, 0, 0],
    [(1, 1), (2, 1), (0, 0), (1, 1), (0, 0), (0, 0), (3, 1)],
  )
  # An M_0 whose truth is nowhere that at t.
  found = values(contrasts.follow_rate(before, after, make([2] * 7, [3] * 7)))
  # Items 3 and 4 were said beforehand: in no cell.
  assert found['moved_truth.n.'] == 3
  assert found['moved_truth.followed.value.'] == pytest.approx(1 / 3)
  assert found['moved_truth.statement_moved.value.'] == pytest.approx(2 / 3)
  assert found['still_truth.n.'] == 2
  assert found['still_truth.statement_moved.value.'] == 0.5
  assert found['still_truth.moved_to_truth.value.'] == 0.5
  # M_0 as at s, but for items 0 and 5: there the truth at t is M_0's.
  orig = make([0] * 7, [1, 0, 0, 0, 1, 0, 1])
  found = values(contrasts.follow_rate(before, after, orig))
  assert found['moved_truth.n.'] == 2
  assert found['moved_truth.followed.value.'] == 0
  assert found['still_truth.n.'] == 1
  assert found['still_truth.moved_to_truth.value.'] == 0


def test_cross_accuracy_by_hand():
  found = contrasts.cross_accuracy(explainer=CURRENT, behaver=BASE)
  assert found.value == pytest.approx(3 / 6)
  assert found._asdict() == coupling(CURRENT, BASE)['orig_accuracy']


def test_sibling_by_hand():
  found = values(contrasts.sibling(CURRENT, BASE))
  assert found['own_accuracy.value.'] == found['sibling_accuracy.value.'] == 0.5
  assert found['difference.value.'] == 0.0
  assert found['differing.n.'] == 3
  for side in ('own', 'sibling', 'neither'):
    assert found[f'differing.{side}.value.'] == pytest.approx(1 / 3)


def test_introspection_beats_the_sibling_and_common_drift_does_not():
  rng = np.random.default_rng(4)
  items, other = random_items(rng, groups=40, size=25)
  own = contrasts.sibling(replace_stated(items, items.truth), other)
  assert own['difference']['low'] > 0.3
  assert own['differing']['own']['value'] == 1.0
  third, _ = random_items(rng, groups=40, size=25)
  stranger = contrasts.sibling(replace_stated(items, third.truth), other)
  assert stranger['difference']['low'] < 0.05 and stranger['difference']['high'] > -0.05


def test_swap_test_by_hand():
  # Answers differ on items 0-4: both "changed" flip, one of three "unchanged" flips.
  own = [(0, 1), (0, 1), (1, 0), (1, 0), (1, 0), (0, 0)]
  other = [(0, 0), (0, 0), (0, 1), (0, 0), (INVALID, INVALID), (0, 1)]
  after = make([1, 1, 1, 1, 1, 0], [0] * 6, own)
  swapped = make([0] * 6, [0] * 6, other)
  found = values(contrasts.swap_test(after, swapped))
  assert found['n.'] == 5
  assert found['change_rate_own.value.'] == 2 / 5
  assert found['change_rate_swapped.value.'] == 1 / 5
  assert found['to_unchanged.value.'] == 1.0
  assert found['to_changed.value.'] == pytest.approx(1 / 3)
  same = contrasts.swap_test(after, after)
  assert same['n'] == 0 and same['to_changed']['value'] is None


def test_companion_by_hand():
  # M_0: (0,0) everywhere. The shift moves items 0-3 to (1,1); drift moved 3 already.
  orig = make([0] * 6, [0] * 6)
  told = [(0, 0), (0, 0), (1, 1), (1, 1), (0, 0), (0, 0)]
  drifted = make([0] * 6, [0, 0, 0, 1, 0, 0], told)
  told = [(1, 1), (1, 0), (0, 0), (1, 1), (0, 0), (1, 1)]
  shifted = make([0] * 6, [1, 1, 1, 1, 0, 1], told)
  # The shift does not concern item 5, which drifted on its own.
  concerned_N = np.array([True] * 5 + [False])
  found = values(contrasts.companion(shifted, drifted, orig, concerned_N))
  assert found['label.n.'] == found['answer.n.'] == found['change.n.'] == 3
  expected = {
    'label': (1 / 3, 1 / 3, 1 / 3),
    'answer': (2 / 3, 1 / 3, 0),
    'change': (1 / 3, 2 / 3, 0),
  }
  for view, shares in expected.items():
    for side, side_share in zip(('new', 'old', 'neither'), shares, strict=True):
      assert found[f'{view}.{side}.value.'] == pytest.approx(side_share)
    new, old, _ = shares
    assert found[f'{view}.difference.value.'] == pytest.approx(new - old)
    assert found[f'{view}.gain.value.'] == pytest.approx(new - 1 / 3)
    assert found[f'{view}.companion.difference.value.'] == pytest.approx(-1 / 3)
    assert found[f'{view}.companion.new.value.'] == pytest.approx(1 / 3)
    assert found[f'{view}.companion.old.value.'] == pytest.approx(2 / 3)
    # Denial states (0, 0), which is old on all three.
    assert found[f'{view}.denied.difference.value.'] == -1
    assert found[f'{view}.denied.gain.value.'] == pytest.approx(new - old + 1)
  unnamed = [
    dataclasses.replace(items, states_answer=False)
    for items in (shifted, drifted, orig)
  ]
  found = contrasts.companion(*unnamed, concerned_N)
  assert found.keys() == {'label', 'change'}
