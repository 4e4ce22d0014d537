"""Statistics over many runs: hand computations and coverage."""

import json

import numpy as np
import pytest

from coupling.statistics import across_seeds
from coupling.statistics.scores import coupling
from tests.simulated import random_items


def test_zero_crossing_recovers_lines():
  similarity_SxR = np.linspace(0.4, 0.9, 6) + np.array([[0.0], [0.02], [0.05]])
  slope_Sx1 = np.array([[0.4], [0.5], [0.6]])
  found = across_seeds.zero_crossing(similarity_SxR, slope_Sx1 * (similarity_SxR - 0.7))
  assert found['seeds'] == 3 and found['runs'] == 6
  assert found['slopes'] == pytest.approx([0.4, 0.5, 0.6])
  assert found['intercepts'] == pytest.approx([-0.28, -0.35, -0.42])
  assert found['slope']['value'] == pytest.approx(0.5)
  assert found['slope']['high'] == pytest.approx(0.5 + 4.302653 * 0.1 / np.sqrt(3))
  # Every line crosses at 0.7, so no other crossing is compatible with them.
  assert tuple(found['crossing'].values()) == pytest.approx((0.7, 0.7, 0.7), abs=1e-6)
  assert found['extrapolated'] is False


def test_zero_crossing_bounds_are_where_a_t_test_over_seeds_turns():
  rng = np.random.default_rng(2)
  similarity_SxR = rng.uniform(0.3, 0.9, (4, 6))
  gap_SxR = 0.4 * (similarity_SxR - 0.6) + rng.normal(0, 0.03, (4, 6))
  found = across_seeds.zero_crossing(similarity_SxR, gap_SxR)
  lines = [np.polyfit(x, y, 1) for x, y in zip(similarity_SxR, gap_SxR)]
  assert found['slopes'] == pytest.approx([b for b, _ in lines])
  crossing = found['crossing']
  for bound in (crossing['low'], crossing['high']):
    height_S = np.array([b * bound + a for b, a in lines])
    t = height_S.mean() / (height_S.std(ddof=1) / 2)
    assert abs(t) == pytest.approx(3.182446, rel=1e-5)
  b, a = np.mean(lines, axis=0)
  assert crossing['value'] == pytest.approx(-a / b)
  assert crossing['low'] < crossing['value'] < crossing['high']


def test_zero_crossing_says_when_it_does_not_know():
  undefined = {'value': None, 'low': None, 'high': None}
  x = np.linspace(0.4, 0.8, 5)
  flat = across_seeds.zero_crossing([x, x], [0.3 * x, -0.2 * x])
  assert flat['slope']['value'] == pytest.approx(0.05)
  assert flat['crossing'] == undefined and flat['extrapolated'] is None
  single = across_seeds.zero_crossing([x], [x - 0.6])
  assert single['slope']['value'] == pytest.approx(1.0)
  assert single['slope']['low'] is None and single['crossing'] == undefined
  one_run = across_seeds.zero_crossing([[0.4], [0.6]], [[-0.1], [0.1]])
  assert one_run['slope'] == one_run['crossing'] == undefined
  same = across_seeds.zero_crossing([x, [0.5] * 5], [x, x])
  assert same['slope'] == undefined
  far = across_seeds.zero_crossing([x + 0.3, x + 0.3], [x, 1.01 * x])
  assert far['extrapolated'] is True
  with pytest.raises(ValueError, match='for each seed and run'):
    across_seeds.zero_crossing([[0.4, 0.6]], [[0.1]])
  with pytest.raises(ValueError, match='for each seed and run'):
    across_seeds.zero_crossing([0.4, 0.6], [0.1, 0.2])
  with pytest.raises(ValueError, match='finite'):
    across_seeds.zero_crossing([[0.4, np.nan]], [[0.1, 0.1]])


def test_zero_crossing_covers_when_the_runs_of_a_seed_are_alike():
  rng = np.random.default_rng(6)
  covered, pooled = [], []
  for _ in range(1000):
    similarity_SxR = np.linspace(0.4, 0.95, 10) + rng.normal(0, 0.03, (5, 1))
    shared_Sx1 = rng.normal(0, 0.03, (5, 1))  # of all runs of a seed
    noise_SxR = shared_Sx1 + rng.normal(0, 0.02, (5, 10))
    gap_SxR = 0.4 * (similarity_SxR - 0.65) + noise_SxR
    crossing = across_seeds.zero_crossing(similarity_SxR, gap_SxR)['crossing']
    if crossing['value'] is not None:
      covered.append(crossing['low'] <= 0.65 <= crossing['high'])
      pooled.append(crossing['value'])
  assert len(covered) > 980
  assert 0.93 <= np.mean(covered) <= 0.97
  assert np.mean(pooled) == pytest.approx(0.65, abs=0.005)


def test_across_seeds_by_hand():
  def result(gap, recall):
    return {
      'gap': {'value': gap, 'low': gap - 1, 'high': gap + 1},
      'gap_test': {'self_only': 10, 'mcnemar_p': 0.5},
      'strata': {'recall': recall},
    }

  found = across_seeds.across_seeds(
    [result(1.0, None), result(2.0, 0.5), result(3.0, 0.5)]
  )
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
  one = across_seeds.across_seeds([result(1.0, 0.2)])
  assert one['gap'] == {'mean': 1.0, 'low': None, 'high': None, 'per_seed': [1.0]}


def test_across_seeds_takes_real_results_and_refuses_mixtures():
  rng = np.random.default_rng(7)
  results = [coupling(*random_items(rng)) for _ in range(3)]
  found = across_seeds.across_seeds(results)
  json.dumps(found, allow_nan=False)
  gaps = [result['gap']['value'] for result in results]
  assert found['gap']['mean'] == pytest.approx(np.mean(gaps))
  assert found['moved']['self']['per_seed'] == [
    result['moved']['self']['value'] for result in results
  ]
  with pytest.raises(ValueError, match='differ in the keys of results'):
    across_seeds.across_seeds([results[0], {'gap': 1.0}])
  with pytest.raises(ValueError, match='no results'):
    across_seeds.across_seeds([])


def test_shares_over_seeds_stay_between_0_and_1():
  def result(value):
    number = {'value': value, 'low': None, 'high': None}
    return {'drift': number, 'moved': {'self': number, 'difference': number}}

  found = across_seeds.across_seeds([result(value) for value in (0.98, 0.9, 1.0)])
  plain = found['moved']['difference']
  assert plain['high'] > 1
  for share in (found['drift'], found['moved']['self']):
    assert 0 < share['low'] < share['mean'] == plain['mean'] < share['high'] < 1
    # Symmetric in log odds around the mean, as wide there as the delta method says.
    odds = [np.log(share[k] / (1 - share[k])) for k in ('low', 'mean', 'high')]
    half = (plain['high'] - plain['mean']) / (0.96 * 0.04)
    assert np.diff(odds) == pytest.approx([half, half])
  ones = across_seeds.across_seeds([result(1.0)] * 3)['drift']
  assert ones['mean'] == 1.0 and ones['low'] is ones['high'] is None
  named = across_seeds.across_seeds([{'kl': 0.9}, {'kl': 1.0}], shares=True)['kl']
  assert named['high'] < 1
  with pytest.raises(ValueError, match='no shares'):
    across_seeds.across_seeds([{'kl': 0.9}, {'kl': -0.1}], shares=True)
  difference = across_seeds.across_seeds([{'drift': 0.1}, {'drift': 0.0}], False)
  assert difference['drift']['low'] < 0


def test_of_shared_items_the_interval_within_a_run_is_added_by_squares():
  def result(gap, below, above):
    return {'gap': {'value': gap, 'low': gap - below, 'high': gap + above}, 'n': 3}

  near = [result(0.2, 0.1, 0.2), result(0.21, 0.3, 0.6)]
  half = 0.205 - across_seeds.across_seeds(near)['gap']['low']
  shared = across_seeds.across_seeds(near, shared_items=True)['gap']
  assert shared['low'] == pytest.approx(0.205 - np.hypot(half, 0.2))
  assert shared['high'] == pytest.approx(0.205 + np.hypot(half, 0.4))
  # A difference may be below 0, a share not.
  far = [result(0.2, 0.5, 0.5), result(0.21, 0.5, 0.5)]
  assert across_seeds.across_seeds(far, shared_items=True)['gap']['low'] < 0
  shares = [{'drift': x['gap']} for x in far]
  assert across_seeds.across_seeds(shares, shared_items=True)['drift']['low'] == 0
  unknown = [*near, {'gap': {'value': 0.2, 'low': None, 'high': None}, 'n': 3}]
  found = across_seeds.across_seeds(unknown, shared_items=True)['gap']
  assert found['mean'] and found['low'] is found['high'] is None


def test_intervals_over_seeds_of_shared_items_cover():
  """Of errors that the seeds share and errors of their own, alike in size."""
  rng, covered = np.random.default_rng(0), []
  for _ in range(2_000):
    gap_S = rng.normal(0, 0.05) + rng.normal(0, 0.05, 5)
    within = [{'gap': dict(value=x, low=x - 0.098, high=x + 0.098)} for x in gap_S]
    found = across_seeds.across_seeds(within, shared_items=True)['gap']
    covered.append(found['low'] <= 0 <= found['high'])
  assert 0.94 < np.mean(covered) < 0.99
