"""Statistics over many runs: hand computations and coverage."""

import json

import numpy as np
import pytest

from coupling import runs
from coupling.statistics import coupling
from tests.simulated import random_items


def test_zero_crossing_recovers_a_line():
  similarity_R = np.linspace(0.4, 0.9, 6)
  found = runs.zero_crossing(similarity_R, 0.5 * (similarity_R - 0.7))
  assert found['slope']['value'] == pytest.approx(0.5)
  crossing = found['crossing']
  assert tuple(crossing.values()) == pytest.approx((0.7, 0.7, 0.7), abs=1e-6)
  assert found['extrapolated'] is False


def test_zero_crossing_bounds_are_where_the_band_crosses_zero():
  similarity_R = np.array([0.3, 0.45, 0.5, 0.62, 0.8, 0.85])
  gap_R = np.array([-0.11, -0.06, -0.08, 0.01, 0.03, 0.09])
  crossing = runs.zero_crossing(similarity_R, gap_R)['crossing']
  design_Rx2 = np.stack([np.ones(6), similarity_R], axis=1)
  beta, residue, *_ = np.linalg.lstsq(design_Rx2, gap_R)
  covariance = np.linalg.inv(design_Rx2.T @ design_Rx2) * residue / 4
  for bound in (crossing['low'], crossing['high']):
    at = np.array([1, bound])
    assert (at @ beta) ** 2 == pytest.approx(2.776445**2 * at @ covariance @ at)
  assert crossing['low'] < crossing['value'] < crossing['high']


def test_zero_crossing_says_when_it_does_not_know():
  flat = runs.zero_crossing([0.4, 0.5, 0.6, 0.7, 0.8], [0.1, 0.2, 0.1, 0.2, 0.1])
  assert flat['slope']['value'] == pytest.approx(0.0)
  assert flat['crossing'] == {'value': None, 'low': None, 'high': None}
  assert flat['extrapolated'] is None
  two = runs.zero_crossing([0.4, 0.6], [-0.1, 0.1])
  assert two['slope']['value'] is None and two['n'] == 2
  same = runs.zero_crossing([0.5] * 4, [0.1, 0.2, 0.1, 0.2])
  assert same['slope']['value'] is None
  far = runs.zero_crossing(np.linspace(0.7, 0.9, 5), np.linspace(0.7, 0.9, 5))
  assert far['extrapolated'] is True
  with pytest.raises(ValueError, match='one similarity and one gap'):
    runs.zero_crossing([0.4, 0.6], [0.1])
  with pytest.raises(ValueError, match='finite'):
    runs.zero_crossing([0.4, 0.6, np.nan], [0.1, 0.1, 0.1])


def test_zero_crossing_covers():
  rng = np.random.default_rng(6)
  similarity_R = np.linspace(0.4, 0.95, 10)
  covered = []
  for _ in range(1000):
    gap_R = 0.4 * (similarity_R - 0.65) + rng.normal(0, 0.03, 10)
    crossing = runs.zero_crossing(similarity_R, gap_R)['crossing']
    if crossing['value'] is not None:
      covered.append(crossing['low'] <= 0.65 <= crossing['high'])
  assert len(covered) > 980
  assert 0.93 <= np.mean(covered) <= 0.97


def test_across_seeds_by_hand():
  def result(gap, recall):
    return {
      'gap': {'value': gap, 'low': gap - 1, 'high': gap + 1},
      'gap_test': {'self_only': 10, 'mcnemar_p': 0.5},
      'strata': {'recall': recall},
    }

  found = runs.across_seeds([result(1.0, None), result(2.0, 0.5), result(3.0, 0.5)])
  half = 4.302653 / np.sqrt(3)
  assert found['gap'] == {
    'mean': 2.0,
    'low': pytest.approx(2 - half),
    'high': pytest.approx(2 + half),
    'per_seed': [1.0, 2.0, 3.0],
  }
  assert found['gap_test'].keys() == {'self_only'}
  only = found['gap_test']['self_only']
  assert only == {'mean': 10.0, 'low': None, 'high': None, 'per_seed': [10] * 3}
  assert found["strata"]["recall"] == {
    "mean": None, "low": None, "high": None, "per_seed": [None, 0.5, 0.5]
  }  # fmt: skip
  one = runs.across_seeds([result(1.0, 0.2)])
  assert one['gap'] == {'mean': 1.0, 'low': None, 'high': None, 'per_seed': [1.0]}


def test_across_seeds_takes_real_results_and_refuses_mixtures():
  rng = np.random.default_rng(7)
  results = [coupling(*random_items(rng)) for _ in range(3)]
  found = runs.across_seeds(results)
  json.dumps(found, allow_nan=False)
  gaps = [result['gap']['value'] for result in results]
  assert found['gap']['mean'] == pytest.approx(np.mean(gaps))
  assert found['moved']['self']['per_seed'] == [
    result['moved']['self']['value'] for result in results
  ]
  with pytest.raises(ValueError, match='differ in the keys of results'):
    runs.across_seeds([results[0], {'gap': 1.0}])
  with pytest.raises(ValueError, match='no results'):
    runs.across_seeds([])


def test_shares_over_seeds_stay_between_0_and_1():
  def result(value):
    number = {'value': value, 'low': None, 'high': None}
    return {'drift': number, 'moved': {'self': number, 'difference': number}}

  found = runs.across_seeds([result(value) for value in (0.98, 0.9, 1.0)])
  plain = found['moved']['difference']
  assert plain['high'] > 1
  for share in (found['drift'], found['moved']['self']):
    assert 0 < share['low'] < share['mean'] == plain['mean'] < share['high'] < 1
    # Symmetric in log odds around the mean, as wide there as the delta method says.
    odds = [np.log(share[k] / (1 - share[k])) for k in ('low', 'mean', 'high')]
    half = (plain['high'] - plain['mean']) / (0.96 * 0.04)
    assert np.diff(odds) == pytest.approx([half, half])
  ones = runs.across_seeds([result(1.0)] * 3)['drift']
  assert ones['mean'] == 1.0 and ones['low'] is ones['high'] is None
  named = runs.across_seeds([{'kl': 0.9}, {'kl': 1.0}], shares=True)['kl']
  assert named['high'] < 1


def test_of_shared_items_no_interval_is_narrower_than_within_a_run():
  def result(gap, half):
    return {'gap': {'value': gap, 'low': gap - half, 'high': gap + 2 * half}, 'n': 3}

  near = [result(0.2, 0.1), result(0.21, 0.3)]
  plain = runs.across_seeds(near)['gap']
  shared = runs.across_seeds(near, shared_items=True)['gap']
  assert plain['low'] > shared['low'] == pytest.approx(0.205 - 0.2)
  assert plain['high'] < shared['high'] == pytest.approx(0.205 + 0.4)
  far = [result(0.2, 0.01), result(0.9, 0.01)]
  assert runs.across_seeds(far, shared_items=True) == runs.across_seeds(far)
