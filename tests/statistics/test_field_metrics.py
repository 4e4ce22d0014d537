"""Metrics of related work: by hand, as scikit-learn has them, planted, ranges."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats
from sklearn import metrics as sklearn_metrics

from coupling.elicit.explanation import INVALID, Explanation
from coupling.statistics import baselines, field_metrics
from coupling.statistics.items import Items
from tests.simulated import BASE, CURRENT, make, random_items, replace_stated, values

SEEDS = st.integers(0, 2**32 - 1)
NOT_KNOWN = {'value': None, 'low': None, 'high': None}


def shuffled(items, order_N):
  """The same items in another order."""
  return Items(
    items.group_N[order_N],
    {k: v[order_N] for k, v in items.surface.items()},
    items.behavior_N[order_N],
    items.counterfactual_behavior_N[order_N],
    Explanation(*(x[order_N] for x in items.stated)),
    items.states_answer,
  )


def drawn(seed, states_answer=True, size=10):
  """Two evaluations, an observer's answers, readiness with ties, and distances."""
  rng = np.random.default_rng(seed)
  items, orig = random_items(rng, 12, size, states_answer)
  n = len(items.group_N)
  extra = rng.integers(4, size=n), rng.integers(-5, 5, size=n) / 2, rng.random(n)
  return items, orig, *extra


def value(found):
  return {
    k.removesuffix('.value.'): x for k, x in values(found).items() if '.value' in k
  }


# --- by hand -------------------------------------------------------------------------


def test_all_by_hand():
  """Truths of CURRENT: 1 0 0 1 1 0 changed; stated: 1 0 0 - 0 1."""
  readiness_N = np.array([3.0, 0.0, 1.0, 1.0, -1.0, 2.0])
  distance_N = np.array([1.0, 0.0, 0.0, 1.0, 0.5, 0.5])
  observer_N = np.array([1, 0, 0, 0, 0, 0])
  found = field_metrics.metrics(CURRENT, BASE, observer_N, readiness_N, distance_N)
  f1_changed, f1_unchanged = 2 * 1 / (3 + 2), 2 * 2 / (3 + 3)
  # Says changed: items 0 and 5. n = 6, hits 1, true 3, said 2.
  phi = (6 * 1 - 3 * 2) / np.sqrt(3 * 3 * 2 * 4)
  # Pairs (changed, unchanged): 3 beats all; 1 beats 0, ties with 1; -1 beats none.
  assert value(found) == pytest.approx(
    {
      'self.macro_f1': (f1_changed + f1_unchanged) / 2,
      'self.content_match': 5 / 6,  # all but the invalid one
      'self.content_match_changed': 2 / 3,
      'self.phi_cct': phi,
      'self.f_auroc': (3 + 1.5 + 0) / 9,
      'self.cct': stats.pearsonr(distance_N, [1, 0, 0, 0, 0, 1])[0],
      'self.nsg': (5 / 6 - 3 / 6) / (3 / 6),
      'self.nsg_inputs': (5 / 6 - 3 / 6) / (3 / 6),  # right on 0, 1, 4
      # E(M_0): 1 0 1 1 0 1 changed.
      'orig.macro_f1': (2 * 2 / (4 + 2) + 2 * 2 / (2 + 3)) / 2,
      'orig.content_match': 3 / 6,  # 0, 1, 4
      'orig.content_match_changed': 1 / 4,
      'orig.phi_cct': (6 * 2 - 4 * 2) / np.sqrt(4 * 2 * 2 * 4),
      'orig.f_auroc': 8 / 8,
      **dict.fromkeys(('orig.cct', 'orig.nsg', 'orig.nsg_inputs')),
    }
  )


def test_unchanged_that_names_no_answer_stands_for_the_own_one():
  """What is stated beside it counts where every explanation names an answer."""
  stated = [(3, 0), (3, 0), (2, 1), (INVALID, 1), (INVALID, INVALID)]
  for states_answer, right in ((False, [1, 0, 1, 0, 0]), (True, [0, 1, 1, 0, 0])):
    items = make([0, 1, 1, 2, 2], [0, 3, 2, 0, 2], stated, states_answer=states_answer)
    found = field_metrics.content_match(items, items.truth)
    assert found['value'] == pytest.approx(np.mean(right))
    changed = field_metrics.content_match(items, items.truth, changed=True)
    assert changed['value'] == pytest.approx(np.mean(right[1:4]))


def test_readiness_is_that_of_the_changed_statements():
  p_NxM = np.array([[0.1, 0.2, 0.3, 0.4], [0.5, 0.0, 0.0, 0.5]])  # 2k + changed
  with np.errstate(divide='ignore'):
    found_N = field_metrics.readiness(np.log(p_NxM))
  odds = [0.6 / 0.4, 0.5 / 0.5]
  np.testing.assert_allclose(found_N, np.log(odds), atol=1e-12)
  sure_NxM = np.array([[-90.0, 0.0, -np.inf, -40.0], [-80.0, 0.0, -np.inf, -40.0]])
  low, high = field_metrics.readiness(sure_NxM.astype(np.float32))[::-1]
  assert low < high  # both of probability 1 in float64


def test_total_variation_by_hand():
  with np.errstate(divide='ignore'):
    p_NxK = np.log([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.2, 0.3, 0.5]])
    q_NxK = np.log([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.3, 0.3, 0.4]])
  found_N = field_metrics.total_variation(p_NxK, q_NxK)
  np.testing.assert_allclose(found_N, [0.0, 1.0, 0.1], atol=1e-12)


# --- as others compute them ----------------------------------------------------------


@settings(deadline=None, max_examples=10)
@given(SEEDS, st.booleans())
def test_values_are_those_of_scikit_learn(seed, states_answer):
  items, orig, observer_N, readiness_N, distance_N = drawn(seed, states_answer)
  found = field_metrics.metrics(items, orig, observer_N, readiness_N, distance_N)
  said_N = items.stated.changed_N
  for name, truth in (('self', items.truth), ('orig', orig.truth)):
    true_N, part = truth.changed_N, value(found[name])
    assert part['macro_f1'] == pytest.approx(
      sklearn_metrics.f1_score(true_N, said_N, labels=[0, 1], average='macro')
    )
    assert part['phi_cct'] == pytest.approx(
      sklearn_metrics.matthews_corrcoef(true_N, said_N == 1)
    )
    assert part['f_auroc'] == pytest.approx(
      sklearn_metrics.roc_auc_score(true_N, readiness_N)
    )
  pearson = stats.pearsonr(distance_N, said_N == 1)[0]
  assert value(found)['self.cct'] == pytest.approx(pearson)


# --- planted truths ------------------------------------------------------------------


@pytest.mark.parametrize('states_answer', [True, False])
def test_perfect_explanations_have_one(states_answer):
  items, orig, observer_N, *_ = drawn(0, states_answer)
  items = replace_stated(items, items.truth)
  changed_N = items.truth.changed_N
  found = field_metrics.metrics(items, orig, observer_N, changed_N, 0.3 * changed_N)
  assert value(found['self']) == pytest.approx(dict.fromkeys(found['self'], 1.0))
  assert all(x is None or x < 1 for x in value(found['orig']).values())
  opposite = Explanation(items.truth.answer_N, 1 - changed_N)
  items = replace_stated(items, opposite)
  found = field_metrics.metrics(items, orig, observer_N, -changed_N, 0.3 * changed_N)
  assert value(found['self'])['phi_cct'] == pytest.approx(-1)
  assert value(found['self'])['cct'] == pytest.approx(-1)
  assert value(found['self'])['macro_f1'] == value(found['self'])['f_auroc'] == 0


@pytest.mark.parametrize('states_answer', [True, False])
def test_denial_correlates_with_nothing_and_gains_nothing(states_answer):
  items, orig, observer_N, _, distance_N = drawn(0, states_answer)
  items = replace_stated(items, baselines.denial(items))
  flat_N = np.zeros(len(distance_N))
  found = field_metrics.metrics(items, orig, observer_N, flat_N, distance_N)
  own = found['self']
  assert own['phi_cct'] == own['cct'] == found['orig']['phi_cct'] == NOT_KNOWN
  assert own['nsg']['value'] == 0 and own['f_auroc']['value'] == 0.5
  unchanged = np.mean(items.truth.changed_N == 0)
  assert own['content_match']['value'] == pytest.approx(unchanged)
  assert own['content_match_changed']['value'] == 0
  assert own['macro_f1']['value'] == pytest.approx(unchanged / (1 + unchanged))


def test_what_is_misleading_is_below_what_the_observer_knows():
  items = make([0, 0, 1, 1], [0, 0, 1, 0], [(1, 1), (1, 1), (0, 1), (0, 1)])
  found = field_metrics.simulatability_gain(items, items.behavior_N)
  assert found['value'] == pytest.approx((1 / 4 - 3 / 4) / (1 / 4))


def test_what_is_undefined_has_no_value():
  still = make([0, 1, 2, 0], [0, 1, 2, 0], [(0, 0), (1, 0), (2, 1), (0, 0)])
  found = field_metrics.metrics(still, still, still.behavior_N, np.arange(4.0))
  own = found['self']
  for name in ('phi_cct', 'f_auroc', 'cct', 'nsg', 'nsg_inputs'):
    assert own[name] == NOT_KNOWN, name
  assert own['content_match_changed'] == NOT_KNOWN
  assert own['macro_f1']['value'] == pytest.approx((2 * 3 / 7 + 0) / 2)
  silent = replace_stated(still, baselines.denial(still))
  assert field_metrics.macro_f1(silent, silent.truth) == NOT_KNOWN
  items, orig, observer_N, *_ = drawn(0)
  found = field_metrics.metrics(items, orig, observer_N)
  assert found['self']['f_auroc'] == found['orig']['f_auroc'] == NOT_KNOWN
  assert found['self']['cct'] == NOT_KNOWN


def test_evaluations_of_other_items_are_refused():
  items, orig, observer_N, *_ = drawn(0)
  other = dataclasses.replace(orig, group_N=orig.group_N + 1)
  with pytest.raises(ValueError, match='group_N'):
    field_metrics.metrics(items, other, observer_N)


# --- ranges, order, coverage ---------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(SEEDS, st.booleans(), st.integers(1, 4))
def test_ranges_and_order(seed, states_answer, size):
  items, orig, *extra = drawn(seed, states_answer, size)
  found = field_metrics.metrics(items, orig, *extra)
  for part in found.values():
    for name, interval in part.items():
      least = {'phi_cct': -1, 'cct': -1, 'nsg': -np.inf, 'nsg_inputs': -np.inf}
      if interval['value'] is not None:
        assert least.get(name, 0) <= interval['value'] <= 1, name
      if interval['low'] is not None:
        bounds = [
          least.get(name, 0),
          *(interval[k] for k in ('low', 'value', 'high')),
          1,
        ]
        assert bounds == sorted(bounds), name
  order_N = np.random.default_rng(seed).permutation(len(items.group_N))
  again = field_metrics.metrics(
    shuffled(items, order_N), shuffled(orig, order_N), *(x[order_N] for x in extra)
  )
  assert values(again) == pytest.approx(values(found))


def explained(rng, groups, size):
  """Items of groups that differ in how often they change and how well that is known.

  Returns the items and their readiness.
  """
  n, per_group = groups * size, lambda x_G: np.repeat(x_G, size)
  changed_N = 1 * (rng.random(n) < per_group(rng.beta(2, 2, groups)))
  knows_N = rng.random(n) < per_group(rng.beta(4, 2, groups))
  said_N = np.where(knows_N, changed_N, rng.integers(2, size=n))
  answer_N, group_N = np.zeros_like(changed_N), per_group(np.arange(groups))
  items = make(changed_N, answer_N, [*zip(answer_N, said_N)], group_N)
  return items, said_N + rng.normal(0, 0.7, n)


def test_intervals_cover_over_groups():
  """200 simulations: a 95% interval falls outside 91-99% once in 100 times."""
  rng, covered = np.random.default_rng(0), np.zeros(4)
  items, readiness_N = explained(rng, 20_000, 20)
  true_N, said_N = items.truth.changed_N, items.stated.changed_N
  wanted = (
    sklearn_metrics.f1_score(true_N, said_N, average='macro'),
    sklearn_metrics.matthews_corrcoef(true_N, said_N),
    sklearn_metrics.roc_auc_score(true_N, readiness_N),
    np.corrcoef(true_N + readiness_N, said_N)[0, 1],
  )
  for _ in range(200):
    items, readiness_N = explained(rng, 30, 20)
    found = (
      field_metrics.macro_f1(items, items.truth),
      field_metrics.phi_cct(items, items.truth),
      field_metrics.f_auroc(items, items.truth, readiness_N),
      field_metrics.cct(items, items.truth.changed_N + readiness_N),
    )
    covered += [x['low'] <= want <= x['high'] for x, want in zip(found, wanted)]
  assert np.all((covered / 200 >= 0.91) & (covered / 200 <= 0.99)), covered / 200
