"""Coupling statistics: hand computations, invariances, planted explainers."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from benchmarks.calibration import calibrate
from coupling.elicit.explanation import INVALID, Explanation, agree, phi
from coupling.statistics import contrasts
from coupling.statistics.items import Items, label_class
from coupling.statistics.scores import by_stratum, coupling
from tests.simulated import BASE, CURRENT, make, random_items, values

SEEDS = st.integers(0, 2**32 - 1)


# --- items ---------------------------------------------------------------------------


@pytest.mark.parametrize(
  'change, message',
  [
    ({'group_N': np.zeros(0, int)}, 'empty'),
    ({'behavior_N': np.zeros(4, int)}, 'behavior_N has shape'),
    ({'behavior_N': np.zeros(3)}, 'behavior_N must hold integers'),
    ({'counterfactual_behavior_N': np.full(3, -1)}, 'counterfactual_behavior_N must'),
    ({'surface': {'cue': np.zeros(2, int)}}, r"surface\['cue'\] has shape"),
    ({'stated': Explanation(np.zeros(3, int), np.full(3, 2))}, 'changed_N must hold'),
    ({'stated': Explanation(np.zeros(2, int), np.zeros(3, int))}, 'stated.answer_N'),
  ],
)
def test_items_refuse(change, message):
  items = make([0, 1, 2], [0, 1, 2])
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(items, **change)


def cued(*cue):
  return make([0, 0], [0, 1], surface={'cue': np.array(cue)})


@pytest.mark.parametrize(
  'items, other, message',
  [
    (make([0, 1], [0, 1]), make([0, 0], [0, 1], groups=[0, 0]), 'group_N'),
    (make([0, 1], [0, 1]), make([0, 0], [0, 1], states_answer=False), 'states_answer'),
    (make([0, 1], [0, 1]), cued(0, 1), 'surface features'),
    (cued(0, 1), cued(1, 1), r"surface\['cue'\]"),
  ],
)
def test_different_items_are_not_compared(items, other, message):
  for compare in (coupling, contrasts.sibling):
    with pytest.raises(ValueError, match=message):
      compare(items, other)


@settings(deadline=None)
@given(SEEDS, st.booleans())
def test_classes_are_equal_where_explanations_agree(seed, states_answer):
  first, second = random_items(np.random.default_rng(seed), 4, 8, states_answer)
  for stated in (first.stated, second.truth):
    np.testing.assert_array_equal(
      label_class(stated, states_answer) == label_class(first.truth, states_answer),
      agree(stated, first.truth, states_answer),
    )


# --- one checkpoint ------------------------------------------------------------------


def test_coupling_by_hand():
  result = coupling(CURRENT, BASE, target=phi(np.array([0] * 6), np.array([1] * 6)))
  value = {
    key: part['value']
    for key, part in result.items()
    if isinstance(part, dict) and 'value' in part
  }
  assert (result['n'], result['groups']) == (6, 3)
  assert value == pytest.approx(
    {
      'self_accuracy': 3 / 6,  # items 0, 1, 2
      'orig_accuracy': 3 / 6,  # items 0, 1, 4
      'target_accuracy': 2 / 6,  # (1, 1): items 0, 5
      'gap': 0.0,
      'gap_answer': 5 / 6 - 3 / 6,  # self 0, 1, 2, 4, 5; orig 0, 1, 4
      'balanced_self': (2 / 3 + 1 / 3) / 2,
      'balanced_orig': (2 / 2 + 1 / 4) / 2,
      'balanced_gap': 1 / 2 - 5 / 8,
      'drift': 3 / 6,
      'behavior_similarity': 1 / 6,
      'invalid': 1 / 6,
    }
  )
  assert result['gap_test']['self_only'] == result['gap_test']['orig_only'] == 1
  assert result['gap_test']['mcnemar_p'] == 1.0
  moved = result['moved']
  assert (moved['n'], moved['groups']) == (3, 2)
  sides = [moved[side]['value'] for side in ('self', 'orig', 'neither', 'ratio')]
  assert sides == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1.0])
  rates = {key: part['value'] for key, part in result['change_rate'].items()}
  assert rates == pytest.approx({'base': 4 / 6, 'current': 3 / 6, 'stated': 2 / 6})
  agreement = {key: part['value'] for key, part in result['behavior_agreement'].items()}
  assert agreement == pytest.approx({'prompt': 5 / 6, 'counterfactual': 4 / 6})


def test_precision_is_of_the_stated_and_recall_of_the_true():
  # 1 of 2 stated changed is truly changed; 1 of 4 truly changed is stated changed.
  truth = Explanation(np.array([1, 1, 1, 1, 0, 0]), np.array([1, 1, 1, 1, 0, 0]))
  stated = Explanation(
    np.array([1, 1, 0, INVALID, 0, 0]), np.array([1, 0, 0, INVALID, 1, 0])
  )
  assert by_stratum(stated, truth, states_answer=True) == pytest.approx({
    "changed": pytest.approx({
      "n": 4, "exact_match": 1 / 4, "precision": 1 / 2, "recall": 1 / 4,
      "f1": 2 / (2 + 4), "invalid": 1 / 4,
    }),
    "unchanged": pytest.approx({
      "n": 2, "exact_match": 1 / 2, "precision": 1 / 3, "recall": 1 / 2,
      "f1": 2 / (3 + 2), "invalid": 0.0,
    }),
    "balanced_accuracy": (1 / 4 + 1 / 2) / 2,
  })  # fmt: skip


def test_exact_match_asks_for_the_answer_too():
  truth, stated = (
    Explanation(np.array(answer), np.ones(2, int)) for answer in ([0, 1], [0, 2])
  )
  changed = by_stratum(stated, truth, states_answer=True)['changed']
  assert (changed['recall'], changed['exact_match']) == (1.0, 0.5)


def test_answers_that_unchanged_does_not_name_are_left_out():
  # "Unchanged" names no answer here; item 1 names option 2, item 2 did not parse.
  items = make(
    [0, 0, 0, 0],
    [0, 2, 0, 1],
    [(0, 0), (2, 1), (INVALID, INVALID), (0, 0)],
    states_answer=False,
  )
  orig = make([0, 0, 0, 0], [0, 1, 0, 1], states_answer=False)
  result = coupling(items, orig)
  assert result['gap_answer']['value'] == pytest.approx(1 / 2)
  assert result['gap']['value'] == pytest.approx(1 / 4)


def test_before_training_nothing_is_defined_about_movement():
  result = coupling(BASE, BASE)
  undefined = {'value': None, 'low': None, 'high': None}
  assert result['drift']['value'] == 0.0
  assert result["moved"] == {
    "n": 0, "groups": 0, "self": undefined, "orig": undefined, "neither": undefined,
    "ratio": undefined, "difference": undefined,
  }  # fmt: skip
  assert result['gap'] == {'value': 0.0, 'low': None, 'high': None}
  for weights in (result['reliance'], result['reliance_answer']):
    assert weights == dict.fromkeys(('self', 'orig', 'difference'), undefined)
  assert result['behavior_similarity'] == result['target_accuracy'] == undefined


def test_no_changed_items_leave_balanced_statistics_undefined():
  items = make([0, 1, 2], [0, 1, 2], [(0, 0), (1, 0), (2, 0)])
  result = coupling(items, items)
  assert result['balanced_self']['value'] is None
  assert result['balanced_gap']['value'] is None
  assert result['strata']['self']['balanced_accuracy'] is None
  assert result['strata']['self']['changed']['recall'] is None
  assert result['strata']['self']['unchanged']['recall'] == 1.0
  assert result['self_accuracy']['value'] == 1.0


def test_coupling_refuses_a_target_of_other_length():
  with pytest.raises(ValueError, match='target has shape'):
    coupling(CURRENT, BASE, target=phi(np.zeros(5, int), np.zeros(5, int)))


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.booleans())
def test_results_are_json_without_nan(seed, states_answer):
  items, orig = random_items(np.random.default_rng(seed), 3, 4, states_answer)
  result = coupling(items, orig, target=orig.truth)
  assert json.loads(json.dumps(result, allow_nan=False)) == result


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.booleans())
def test_order_of_items_does_not_matter(seed, states_answer):
  rng = np.random.default_rng(seed)
  items, orig = random_items(rng, states_answer=states_answer)
  order_N = rng.permutation(len(items.group_N))

  def reordered(items):
    return Items(
      items.group_N[order_N],
      {name: values_N[order_N] for name, values_N in items.surface.items()},
      items.behavior_N[order_N],
      items.counterfactual_behavior_N[order_N],
      Explanation(*(part_N[order_N] for part_N in items.stated)),
      items.states_answer,
    )

  before = values(coupling(items, orig))
  after = values(coupling(reordered(items), reordered(orig)))
  assert after == pytest.approx(before, abs=1e-9)


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.booleans())
def test_gap_is_antisymmetric(seed, states_answer):
  items, orig = random_items(np.random.default_rng(seed), states_answer=states_answer)
  forth, back = coupling(items, orig), coupling(orig, items)
  for name in ('gap', 'balanced_gap', 'gap_answer'):
    expected = (-back[name]['value'], -back[name]['high'], -back[name]['low'])
    assert tuple(forth[name].values()) == pytest.approx(expected, abs=1e-12)
  assert forth['self_accuracy'] == back['orig_accuracy']
  assert forth['balanced_self'] == back['balanced_orig']
  assert forth['moved']['self'] == back['moved']['orig']
  assert forth['moved']['neither'] == back['moved']['neither']
  assert forth['gap_test']['self_only'] == back['gap_test']['orig_only']
  assert forth['gap_test']['sign_flip_p'] == back['gap_test']['sign_flip_p']


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.booleans())
def test_only_moved_items_make_the_gap(seed, states_answer):
  items, orig = random_items(np.random.default_rng(seed), states_answer=states_answer)
  result = coupling(items, orig)
  moved = result['moved']
  advantage = moved['self']['value'] - moved['orig']['value']
  assert result['gap']['value'] == pytest.approx(result['drift']['value'] * advantage)
  sides = sum(moved[side]['value'] for side in ('self', 'orig', 'neither'))
  assert sides == pytest.approx(1.0)


# --- planted explainers --------------------------------------------------------------


def test_planted_mixtures_come_back_with_honest_coverage():
  # 200 simulations of benchmarks/calibration.py. Coverage at most 3.5 standard errors
  # of binomial(200, .95) too low; every estimate within 4 standard errors of the truth,
  # but for the corrected gap, which small strata shrink, and the quotient, whose bias
  # is of the order of its variance.
  for name, row in calibrate(sims=200, groups=64, seed=1).items():
    assert row['coverage'] >= 0.896, name
    if name not in ('moved self / orig', 'corrected gap'):
      assert abs(row['bias']) < 4 * row['sd'] / np.sqrt(200), name
