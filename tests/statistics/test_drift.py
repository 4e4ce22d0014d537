"""The step at which explanations part from behaviour, on planted truth."""

import dataclasses

import numpy as np
import pytest

from coupling.elicit.explanation import Explanation
from coupling.statistics import drift
from coupling.statistics import intervals
from tests import simulated

GROUPS, SIZE, OPTIONS = 40, 6, 4
STEPS = (100, 200, 300, 400, 500, 600)


def made(rng, right_at, similar_at=1.0):
  """Evaluations with a known share of right explanations at each step.

  Whether one is right differs between groups, and lasts from step to step in part.
  `similar_at`: share of behaviours that are the labels', by step or of all.
  """
  n = GROUPS * SIZE
  group_N = np.repeat(np.arange(GROUPS), SIZE)
  label_N = rng.integers(OPTIONS, size=n)
  lasting_N = rng.normal(size=GROUPS)[group_N] + rng.normal(size=n)
  found = {}
  for step, right in right_at.items():
    similar = similar_at[step] if isinstance(similar_at, dict) else similar_at
    score_N = (lasting_N + rng.normal(size=n)) / np.sqrt(3)
    right_N = score_N < _quantile(right)
    moved_N = rng.random(n) >= similar
    answer_N = np.where(moved_N, (label_N + 1) % OPTIONS, label_N)
    stated_N = np.where(right_N, answer_N, (answer_N + 2) % OPTIONS)
    items = simulated.make(answer_N, answer_N, [(0, 0)] * n, group_N)
    stated = Explanation(stated_N, np.zeros(n, int))
    found[step] = dataclasses.replace(items, stated=stated)
  return found, Explanation(label_N, np.zeros(n, int))


def _quantile(share):
  return intervals.special.ndtri(share)


def planted(parting, before=0.8, after=0.5):
  return {step: after if step >= parting else before for step in STEPS}


@pytest.mark.parametrize('parting', [200, 400, 600])
def test_the_planted_step_is_found(parting):
  found = [
    drift.drift(*made(np.random.default_rng(i), planted(parting)))['parted']
    for i in range(40)
  ]
  right = sum(x['since'] == parting for x in found)
  early = sum(x['since'] is not None and x['since'] < parting for x in found)
  assert right >= 36 and early <= 2
  before = STEPS[STEPS.index(parting) - 1]
  assert all(x['before'] == before for x in found if x['since'] == parting)


def test_nothing_parts_where_nothing_was_planted():
  """All steps are alike: something is named in at most 5% of the studies."""
  named = [
    drift.drift(*made(np.random.default_rng(i), planted(9_999)))['parted']['since']
    for i in range(400)
  ]
  false = sum(x is not None for x in named)
  assert false <= 20 + 2 * np.sqrt(400 * 0.05 * 0.95)


@pytest.mark.parametrize('differing', [0, 1, 2, 3, 40])
def test_a_checkpoint_that_hardly_differs_hides_no_other(differing):
  """The second differs from the first in few groups; then explanations part."""
  found, labels = made(np.random.default_rng(0), planted(300))
  change_N = found[100].group_N < differing
  answer_N = np.where(change_N, 99, found[100].stated.answer_N)
  stated = found[100].stated._replace(answer_N=answer_N)
  found[200] = dataclasses.replace(found[100], stated=stated)
  since = 200 if differing == 40 else 300
  assert drift.drift(found, labels)['parted']['since'] == since


def test_from_all_right_to_all_wrong_has_parted():
  found, labels = made(np.random.default_rng(0), {100: 1.0, 200: 0.0})
  change = drift.drift(found, labels)['steps']['200']['self_change']
  assert change['low'] == change['value'] == -1 and change['high'] < -0.5


def test_intervals_cover_all_checkpoints_together():
  rng, covered, each = np.random.default_rng(0), 0, []
  for _ in range(300):
    group_G = rng.normal(size=(30, 1, 5))
    values = (group_G + rng.normal(size=(30, 8, 5))).reshape(240, 5)
    found = drift.simultaneous(np.tanh(values), np.repeat(np.arange(30), 8))
    inside = [x.low <= 0 <= x.high for x in found]
    covered += all(inside)
    each += inside
  assert 0.92 <= covered / 300 <= 0.995
  assert np.mean(each) > 0.97  # singly they cover more, which is what it costs


def test_what_comes_back_has_not_parted():
  right_at = planted(9_999) | {300: 0.4, 400: 0.4}
  found = drift.drift(*made(np.random.default_rng(0), right_at))
  assert found['steps']['300']['self_change']['high'] < 0
  assert found['parted'] == {'since': None, 'before': None}


def test_similarity_below_the_limit():
  similar = dict(zip(STEPS, (0.95, 0.9, 0.8, 0.5, 0.5, 0.5)))
  found = drift.drift(*made(np.random.default_rng(0), planted(9_999), similar))
  assert found['dissimilar'] == {'since': 400, 'before': 300}
  at = {k: x['similarity']['value'] for k, x in found['steps'].items()}
  assert all(abs(at[str(k)] - x) < 0.1 for k, x in similar.items())


def test_changes_by_hand():
  """Four items: right 1 1 1 0 at first, then 1 0 0 0."""
  first = simulated.make([0] * 4, [0] * 4, [(0, 0)] * 3 + [(1, 0)], [0, 0, 1, 1])
  last = simulated.make([0] * 4, [0] * 4, [(0, 0)] + [(1, 0)] * 3, [0, 0, 1, 1])
  labels = Explanation(np.array([0, 0, 1, 1]), np.zeros(4, int))
  found = drift.drift({5: first, 7: last}, labels)
  assert found['first'] == 5
  assert found['steps']['5']['self_change']['value'] is None
  assert found['steps']['7']['self_change']['value'] == -0.5
  assert found['steps']['7']['similarity']['value'] == 0.5


def test_one_checkpoint_has_nothing_to_part_from():
  items, labels = made(np.random.default_rng(0), {100: 0.2})
  assert drift.drift(items, labels)['parted']['since'] is None


def test_a_checkpoint_without_a_difference_has_an_interval_about_none():
  items, labels = made(np.random.default_rng(0), {100: 0.8})
  found = drift.drift({100: items[100], 200: items[100]}, labels)
  change = found['steps']['200']['self_change']
  assert change['value'] == 0.0 and change['low'] == -change['high'] < 0
  assert found['parted']['since'] is None


def test_other_items_are_refused():
  one, labels = made(np.random.default_rng(0), {100: 0.8})
  other = dataclasses.replace(one[100], group_N=one[100].group_N[::-1])
  with pytest.raises(ValueError, match='group_N'):
    drift.drift({100: one[100], 200: other}, labels)
