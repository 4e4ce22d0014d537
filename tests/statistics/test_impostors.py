"""Explainers that do not track themselves pass no verdict; those that do, pass.

The whole table, of 300 experiments, is benchmarks/impostors.py's.
"""

import numpy as np
import pytest

from benchmarks import impostors, simulated_explainers as simulated
from coupling.statistics import reliance

EXPERIMENTS = 6


@pytest.fixture(scope='module')
def worlds():
  rng = np.random.default_rng(3)
  return [simulated.draw(rng) for _ in range(impostors.SEEDS)]


def halves(worlds, explain):
  """Slopes of both models, and the smaller, of every world: [S, 3]."""
  rng = np.random.default_rng(4)
  found = [impostors.checked(rng, w, explain)['beyond_shared'] for w in worlds]
  names = ('first', 'second', 'smaller')
  return np.array([[x[k]['value'] for k in names] for x in found])


def test_the_world_is_one_in_which_the_own_truth_hardly_varies_beside_the_cue(worlds):
  w = worlds[0]
  off_N = w.answer['main'] != w.cue_N
  assert np.mean(w.truth['main'][off_N] == w.answer['main'][off_N]) > 0.85
  assert np.mean(w.truth['base'][off_N] == w.answer['main'][off_N]) < 0.75


@pytest.mark.parametrize(
  'explain',
  [
    *(simulated.denial, simulated.shared_drift, simulated.both_scores, simulated.old),
    simulated.unless_cue(simulated.both_scores),
    simulated.unless_moved(simulated.shared_drift),
  ],
)
def test_two_functions_of_what_siblings_share_have_opposite_slopes(worlds, explain):
  first, second, smaller = halves(worlds, explain).T
  assert first + second == pytest.approx(np.zeros(len(worlds)), abs=1e-9)
  assert np.all(smaller <= 1e-9)


@pytest.mark.parametrize(
  ('explain', 'expected'), [(simulated.own_truth, 1.0), (simulated.of_sibling, -1.0)]
)
def test_knowing_the_own_or_the_siblings_truth_has_all_of_it(worlds, explain, expected):
  assert halves(worlds, explain) == pytest.approx(expected)


@pytest.mark.parametrize('name', simulated.IN_OTHER_WORLDS)
def test_biases_and_unequal_siblings_have_no_smaller_slope_above_zero(name):
  """Over 40 worlds: 3.3 of the mean's errors, in one of a thousand tests."""
  world, explain = simulated.IN_OTHER_WORLDS[name]
  rng = np.random.default_rng(6)
  smaller = halves([simulated.draw(rng, **world) for _ in range(40)], explain)[:, 2]
  assert smaller.mean() < 3.3 * smaller.std(ddof=1) / np.sqrt(len(smaller))


@pytest.mark.parametrize(
  'name', ['Bayes, a draw', '40% noise, else Bayes', 'base rates of the own behaviour']
)
def test_who_draws_has_no_slope(name):
  rng = np.random.default_rng(7)
  found = halves([simulated.draw(rng) for _ in range(40)], simulated.IMPOSTORS[name])
  for slope in found.T[:2]:
    assert abs(slope.mean()) < 3.3 * slope.std(ddof=1) / np.sqrt(len(slope))


def test_old_answers_known_as_well_as_the_own_ones_are_no_preference(worlds):
  """The kind of fault that one regression over all strata had."""
  explain = simulated.IMPOSTORS['self .3 as orig .3, own ≠ cue → own']
  rng = np.random.default_rng(5)
  found = []
  for w in worlds:
    said_N = explain(rng, w, 'main')
    items = impostors.evaluation(w, 'main', said_N)
    orig = impostors.evaluation(w, 'base', said_N).truth
    found.append(reliance.reliance_weights(items, orig, answer_only=True))
  mean = {k: np.mean([x[k]['value'] for x in found]) for k in found[0]}
  assert mean['self'] > 0.2 < mean['orig'] and abs(mean['difference']) < 0.06


def test_trackers_are_shown():
  tracker = 'self .35, orig .20, denial'
  chosen = {tracker: simulated.TRACKERS[tracker]}
  found = impostors.rates(EXPERIMENTS, 1, chosen)
  assert found[tracker]['shown'].sum() >= EXPERIMENTS - 1
