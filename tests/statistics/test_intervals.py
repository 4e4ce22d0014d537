"""Intervals and tests: hand computations, SciPy, invariances and coverage."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from coupling.statistics.intervals import (
  UNDEFINED,
  Interval,
  cluster_bootstrap,
  clustered_wilson,
  group_sums,
  mcnemar_exact,
  mean_interval,
  median_interval,
  seed_interval,
  seed_share_interval,
  sign_flip,
  wilson,
)


def correlated(rng, groups, size, spread=0.2):
  """Binary items around a group's own rate, of mean 0.6."""
  rate_G = np.clip(rng.normal(0.6, spread, groups), 0, 1)
  group_N = np.repeat(np.arange(groups), size)
  return rng.random(groups * size) < rate_G[group_N], group_N


@settings(deadline=None)
@given(st.integers(1, 300), st.floats(0, 1), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_wilson_is_scipys(n, share, confidence):
  successes = round(share * n)
  expected = stats.binomtest(successes, n).proportion_ci(confidence, method='wilson')
  assert wilson(successes, n, confidence) == pytest.approx(
    (expected.low, expected.high), abs=1e-12
  )


def test_wilson_by_hand():
  # z = 2, 10 of 20: center (.5 + 4 / 40) / (1 + 4 / 20) = .5,
  # half sqrt(4 * .25 / 20 + 16 / 1600) / 1.2 = sqrt(.06) / 1.2 = .204124.
  confidence = 2 * stats.norm.cdf(2) - 1
  assert wilson(10, 20, confidence) == pytest.approx((0.295876, 0.704124), abs=1e-6)


@pytest.mark.parametrize('n', [*range(2, 100), 399, 12_345])
def test_intervals_hold_their_share_where_all_agree(n):
  """To the last bit: a bar of an error has no negative length."""
  for share in (0.0, 1.0):
    value, low, high = clustered_wilson(np.full(n, share), np.arange(n))
    assert value == share and low <= share <= high
  for share in (0.0, 0.1, 0.7, 1.0):  # over seeds: no variation seen, none excluded
    assert seed_share_interval(np.full(n, share))[1:] == (None, None)


@pytest.mark.parametrize('successes, n', [(1, 0), (-1, 5), (6, 5)])
def test_wilson_refuses(successes, n):
  with pytest.raises(ValueError, match='wilson'):
    wilson(successes, n)


def test_group_sums_by_hand():
  sums_GxK = group_sums(np.array([[1, 10], [2, 20], [4, 40]]), np.array([7, 3, 7]))
  np.testing.assert_array_equal(sums_GxK, [[2, 20], [5, 50]])
  with pytest.raises(ValueError, match='3 values but 2 group'):
    group_sums(np.ones((3, 1)), np.array([0, 1]))


def test_clustered_wilson_by_hand():
  # Groups of 2: sums 2, 2, 1, 0 of p = 5/8. Residual sums .75, .75, -.25, -1.25;
  # variance = 4/3 * 2.75 / 64, independent 15/64/8, so deff = (4/3 * 2.75) / 1.875.
  correct_N = np.array([1, 1, 1, 1, 1, 0, 0, 0])
  deff = 4 / 3 * 2.75 / 1.875
  t_over_z = stats.t.ppf(0.975, 3) / stats.norm.ppf(0.975)
  effective = 8 / deff / t_over_z**2
  expected = wilson(0.625 * effective, effective)
  found = clustered_wilson(correct_N, np.array([0, 0, 1, 1, 2, 2, 3, 3]))
  assert found == pytest.approx((0.625, *expected))


def test_clustered_wilson_never_gains_from_clusters():
  # Each group has exactly half right: the ratio variance is 0, deff is floored at 1.
  groups = 30
  correct_N, group_N = np.tile([0, 1], groups), np.repeat(np.arange(groups), 2)
  _, low, high = clustered_wilson(correct_N, group_N)
  plain_low, plain_high = wilson(groups, 2 * groups)
  assert low < plain_low and high > plain_high  # by the t quantile alone
  assert high - low < 1.1 * (plain_high - plain_low)


def test_clustered_wilson_counts_groups_where_all_agree():
  group_N = np.repeat(np.arange(10), 50)
  value, low, high = clustered_wilson(np.ones(500), group_N)
  t_over_z = stats.t.ppf(0.975, 9) / stats.norm.ppf(0.975)
  effective = 10 / t_over_z**2
  assert (value, high) == (1.0, pytest.approx(1.0))
  assert low == pytest.approx(wilson(effective, effective)[0])


def test_undefined_is_none():
  one_group_N = np.zeros(3, int)
  assert clustered_wilson(np.zeros(0), np.zeros(0, int)) == UNDEFINED
  assert clustered_wilson(np.array([1, 1, 0]), one_group_N) == (2 / 3, None, None)
  assert mean_interval(np.array([1, 1, 0]), one_group_N) == (2 / 3, None, None)
  assert mean_interval(np.zeros(4), np.arange(4)) == (0.0, None, None)
  nothing_4x1 = np.zeros((4, 1))
  assert cluster_bootstrap(nothing_4x1, nothing_4x1, np.arange(4), [1.0]) == UNDEFINED


def test_one_informative_group_has_no_bounds():
  inside_Nx1 = np.array([1, 1, 1, 0, 0, 0])[:, None]
  hit_Nx1 = np.array([1, 0, 1, 0, 0, 0])[:, None]
  group_N = np.array([0, 0, 0, 1, 2, 3])
  found = cluster_bootstrap(hit_Nx1, inside_Nx1, group_N, [1.0])
  assert found == (pytest.approx(2 / 3), None, None)


def test_cluster_bootstrap_refuses_shapes():
  with pytest.raises(ValueError, match=r'must both be \[N, K\] = \[4, 2\]'):
    cluster_bootstrap(np.ones((4, 1)), np.ones((4, 1)), np.arange(4), [1.0, 1.0])


def test_bootstrap_distribution_is_scipys():
  # Groups of one item and a huge number of draws: the symmetric studentised interval
  # computed from SciPy's resamples of (mean, standard error).
  rng = np.random.default_rng(0)
  values_N = rng.exponential(size=25)

  def studentised(sample, axis):
    error = sample.std(axis=axis, ddof=1) / np.sqrt(sample.shape[axis])
    return np.abs(sample.mean(axis=axis) - values_N.mean()) / error

  resampled = stats.bootstrap(
    (values_N,), studentised, n_resamples=50_000, method='percentile', rng=rng
  )
  quantile = np.quantile(resampled.bootstrap_distribution, 0.95)
  half = quantile * stats.sem(values_N)
  value, low, high = cluster_bootstrap(
    values_N[:, None], np.ones((25, 1)), np.arange(25), [1.0], draws=50_000
  )
  assert value == pytest.approx(values_N.mean())
  assert (high - low) / 2 == pytest.approx(half, rel=0.03)
  assert value - low == pytest.approx(high - value)


def test_error_is_the_textbooks():
  # With equal groups the linearised error of a mean is that of the group means.
  rng = np.random.default_rng(1)
  hit_N, group_N = correlated(rng, 40, 25)
  means_G = hit_N.reshape(40, 25).mean(axis=1)
  value, low, high = mean_interval(hit_N, group_N)
  half_t = stats.t.ppf(0.975, 39) * stats.sem(means_G)
  assert value == pytest.approx(means_G.mean())
  assert (high - low) / 2 == pytest.approx(half_t, rel=0.06)


def test_mean_of_two_ratios():
  rng = np.random.default_rng(2)
  hit_N, group_N = correlated(rng, 20, 12)
  stratum_N = rng.integers(2, size=len(hit_N))
  within_Nx2 = stratum_N[:, None] == [0, 1]
  found = cluster_bootstrap(
    hit_N[:, None] & within_Nx2, within_Nx2, group_N, [0.5, 0.5]
  )
  expected = (hit_N[stratum_N == 0].mean() + hit_N[stratum_N == 1].mean()) / 2
  assert found.value == pytest.approx(expected)
  assert found.low < expected < found.high


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_order_and_names_of_groups_do_not_matter(seed):
  rng = np.random.default_rng(seed)
  hit_N, group_N = correlated(rng, 8, 5)
  # Group names may change as long as their order does not: resamples are seeded.
  order_N, renamed_N = rng.permutation(40), 3 * group_N + 100
  for interval in (clustered_wilson, mean_interval):
    found = interval(hit_N[order_N], renamed_N[order_N])
    assert found == pytest.approx(interval(hit_N, group_N))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_mean_interval_is_antisymmetric_and_scales(seed):
  rng = np.random.default_rng(seed)
  values_N, group_N = rng.normal(size=60), np.repeat(np.arange(12), 5)
  value, low, high = mean_interval(values_N, group_N)
  assert mean_interval(-values_N, group_N) == pytest.approx((-value, -high, -low))
  assert mean_interval(values_N * 3, group_N) == pytest.approx(
    (3 * value, 3 * low, 3 * high)
  )


def test_seed_interval_by_hand():
  # Mean 2, s = 1, t_2 = 4.3027.
  assert seed_interval([1.0, 2.0, 3.0]) == pytest.approx(
    (2.0, 2 - 4.302653 / np.sqrt(3), 2 + 4.302653 / np.sqrt(3))
  )
  assert seed_interval([0.5]) == Interval(0.5, None, None)
  assert seed_interval([0.5, 0.5]) == Interval(0.5, None, None)
  for values in ([], [1.0, np.nan], [[1.0, 2.0]]):
    with pytest.raises(ValueError, match='seed_interval'):
      seed_interval(values)


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_sign_test(b, c):
  expected = stats.binomtest(b, b + c).pvalue if b + c else 1.0
  assert mcnemar_exact(b, c) == pytest.approx(expected)


def test_sign_flip_is_exact_for_few_groups():
  # Four groups of one sign: 2 of 16 sign vectors are as extreme.
  difference_N, group_N = np.array([1, 1, 2, 1, 3]), np.array([0, 0, 1, 2, 3])
  p = sign_flip(difference_N, group_N, draws=40_000)
  assert p == pytest.approx(2 / 16, abs=0.01)
  assert sign_flip(np.zeros(6), np.arange(6)) == 1.0
  assert sign_flip(np.ones(40), np.arange(40), draws=99) == 1 / 100  # never 0


def test_sign_flip_keeps_its_size_where_mcnemar_does_not():
  # No difference on average, but groups lean to one side: 500 experiments.
  rng = np.random.default_rng(5)
  group_N = np.repeat(np.arange(40), 30)
  sign_flip_p, mcnemar_p = [], []
  for _ in range(500):
    lean_G = rng.choice([0.2, 0.8], 40)
    first_N = rng.random(1200) < lean_G[group_N]
    sign_flip_p.append(sign_flip(2.0 * first_N - 1, group_N))
    mcnemar_p.append(mcnemar_exact(first_N.sum(), (~first_N).sum()))
  assert 0.025 < np.mean(np.array(sign_flip_p) <= 0.05) < 0.08
  assert np.mean(np.array(mcnemar_p) <= 0.05) > 0.25


def test_sign_flip_has_power():
  rng = np.random.default_rng(6)
  difference_N = rng.normal(0.5, 1, 400)
  assert sign_flip(difference_N, np.repeat(np.arange(40), 10)) < 0.001


@pytest.mark.parametrize('groups', [64, 15])
def test_coverage(groups):
  # 400 simulations: an honest 95% interval falls outside 92-98% once in 300 times.
  rng = np.random.default_rng(groups)
  covered = {'wilson': 0, 'bootstrap': 0, 'independent': 0}
  for _ in range(400):
    hit_N, group_N = correlated(rng, groups, 40, spread=0.1)
    _, low, high = clustered_wilson(hit_N, group_N)
    covered['wilson'] += low <= 0.6 <= high
    _, low, high = mean_interval(hit_N, group_N)
    covered['bootstrap'] += low <= 0.6 <= high
    low, high = wilson(hit_N.sum(), len(hit_N))
    covered['independent'] += low <= 0.6 <= high
  assert 0.92 <= covered['wilson'] / 400 <= 0.98
  assert 0.92 <= covered['bootstrap'] / 400 <= 0.98
  assert covered['independent'] / 400 < 0.9  # ignoring groups undercovers


def test_shares_are_covered_where_one_group_has_a_third_of_the_items():
  """Zipf's sizes; groups differ, as those of a real text do."""
  rng = np.random.default_rng(0)
  size_G = np.maximum(1, 320 / np.arange(1, 41) ** 1.3).astype(int)
  assert 0.3 < size_G.max() / size_G.sum() < 0.4
  group_N = np.repeat(np.arange(len(size_G)), size_G)
  covered = 0
  for _ in range(400):
    share_G = rng.beta(2, 3, len(size_G))
    correct_N = rng.random(len(group_N)) < share_G[group_N]
    _, low, high = clustered_wilson(correct_N, group_N)
    covered += low <= 0.4 <= high
  assert 0.92 <= covered / 400 <= 0.98


def test_unequal_groups_by_hand():
  """Groups of 6 and 2 and 2: jackknife variance, and 100 / 44 groups' worth of t."""
  correct_N = np.array([1, 1, 1, 1, 1, 0, 1, 0, 0, 0])
  group_N = np.repeat([0, 1, 2], [6, 2, 2])
  # Sums of residuals about 0.6: 1.4, -0.2, -1.2.
  variance = 2 / 3 * ((1.4 / 4) ** 2 + (0.2 / 8) ** 2 + (1.2 / 8) ** 2)
  t = stats.t.ppf(0.975, 100 / 44 - 1) / stats.norm.ppf(0.975)
  effective = 0.24 / variance / t**2
  expected = wilson(0.6 * effective, effective)
  assert clustered_wilson(correct_N, group_N)[1:] == pytest.approx(expected)


def test_a_group_of_nearly_all_items_says_nothing():
  found = clustered_wilson(np.arange(600) % 2, np.repeat([0, 1], [599, 1]))
  assert found.low < 0.01 and found.high > 0.99


@pytest.mark.parametrize('seeds', [5, 6, 10, 20])
@pytest.mark.parametrize('share', [0.0, 0.1])
def test_intervals_of_a_median_cover_whatever_seeds_lie_far_off(seeds, share):
  rng = np.random.default_rng(seeds)
  off = lambda size: 30 * (rng.random(size) < share)
  values = rng.standard_normal((4_000, seeds)) + off((4_000, seeds))
  truth = np.median(rng.standard_normal(10**6) + off(10**6))
  bounds = [median_interval(x)[1:] for x in values]
  covered = np.mean([low <= truth <= high for low, high in bounds])
  assert covered > (0.925 if seeds == 5 else 0.94)


def test_the_median_interval_by_hand():
  assert median_interval([3.0, 1.0, 2.0, 9.0, 4.0]) == (3.0, 1.0, 9.0)
  assert median_interval([1.0, 2.0, 3.0, 4.0]) == (2.5, None, None)
  # Of 9 values the 2nd smallest and largest: P(Binomial(9, 1/2) < 2) is 0.0195.
  assert median_interval(np.arange(9.0)) == (4.0, 1.0, 7.0)
  test = stats.quantile_test(np.arange(30.0), q=0, p=0.5)
  assert median_interval(np.arange(30.0))[1:] == tuple(test.confidence_interval(0.95))
