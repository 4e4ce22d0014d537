"""Explainers that do not track themselves pass no verdict; those that do, pass.

The whole table, of 300 experiments, is benchmarks/impostors.py's.
"""

import numpy as np
import pytest
from scipy import stats

from benchmarks import impostors
from coupling import siding

EXPERIMENTS = 12


@pytest.fixture(scope='module')
def worlds():
  rng = np.random.default_rng(3)
  return [impostors.draw(rng) for _ in range(impostors.SEEDS)]


def slopes(worlds, explain):
  rng = np.random.default_rng(4)
  found = [impostors.checked(rng, w, explain)['beyond_shared'] for w in worlds]
  return [x['slope']['value'] for x in found]


def test_the_world_is_one_in_which_the_own_truth_hardly_varies_beside_the_cue(worlds):
  w = worlds[0]
  off_N = w.answer['main'] != w.cue_N
  assert np.mean(w.truth['main'][off_N] == w.answer['main'][off_N]) > 0.85
  assert np.mean(w.truth['base'][off_N] == w.answer['main'][off_N]) < 0.75


@pytest.mark.parametrize(
  'explain',
  [
    *(impostors.denial, impostors.shared_drift, impostors.both_scores, impostors.old),
    impostors.unless_cue(impostors.both_scores),
    impostors.unless_moved(impostors.shared_drift),
  ],
)
def test_a_function_of_what_siblings_share_has_no_slope_at_all(worlds, explain):
  assert slopes(worlds, explain) == pytest.approx([0.0] * len(worlds), abs=1e-9)


@pytest.mark.parametrize(
  ('explain', 'expected'), [(impostors.own_truth, 1.0), (impostors.of_sibling, -1.0)]
)
def test_knowing_the_own_or_the_siblings_truth_has_all_of_it(worlds, explain, expected):
  assert slopes(worlds, explain) == pytest.approx([expected] * len(worlds))


def test_old_answers_known_as_well_as_the_own_ones_are_no_preference(worlds):
  """The kind of fault that one regression over all strata had."""
  explain = impostors.IMPOSTORS['self .3 as orig .3, own ≠ cue → own']
  rng = np.random.default_rng(5)
  found = []
  for w in worlds:
    said_N = explain(rng, w, 'main')
    items = impostors.evaluation(w, 'main', said_N)
    orig = impostors.evaluation(w, 'base', said_N).truth
    found.append(siding.siding_weights(items, orig, answer_only=True))
  mean = {k: np.mean([x[k]['value'] for x in found]) for k in found[0]}
  assert mean['self'] > 0.2 < mean['orig'] and abs(mean['difference']) < 0.06


def test_impostors_are_not_shown_and_trackers_are():
  noisy = ('Bayes, a draw', '40% noise, else Bayes', 'base rates of the own behaviour')
  chosen = {name: impostors.IMPOSTORS[name] for name in noisy}
  tracker = 'self .35, orig .20, denial'
  chosen[tracker] = impostors.TRACKERS[tracker]
  found = impostors.rates(EXPERIMENTS, 1, chosen)
  shown = {name: int(x['shown'].sum()) for name, x in found.items()}
  assert shown.pop(tracker) >= EXPERIMENTS - 1
  # At a rate of 5%, more are shown in one of a thousand such tests.
  assert max(shown.values()) <= stats.binom.ppf(0.999, EXPERIMENTS, 0.05)
