"""Weights of two truths: planted mixtures, surface readers, what is undefined."""

import dataclasses

import numpy as np
import pytest

from benchmarks.calibration import draw_behaviors, evaluation
from coupling import baselines, siding
from coupling.comparisons import pooled_sibling
from coupling.explanation import INVALID, Explanation
from coupling.statistics import coupling
from tests.simulated import make, random_items, replace_stated

UNDEFINED = {'value': None, 'low': None, 'high': None}
VIEWS = pytest.mark.parametrize('answer_only', [False, True])


@pytest.fixture(scope='module')
def world():
  """Behaviours of M_0 and M_t of which most stay: knowing one helps with the other."""
  behaviors = draw_behaviors(np.random.default_rng(0), 100)
  nothing = Explanation(*np.full((2, len(behaviors.group_N)), INVALID))
  return tuple(
    evaluation(behaviors, model, nothing)
    for model in (behaviors.current, behaviors.base, behaviors.sibling)
  )


def mixture(items, shares, explanations, seed=1):
  """Every statement drawn from one of the explanations."""
  rng = np.random.default_rng(seed)
  kind_N = rng.choice(len(shares), size=len(items.group_N), p=shares)
  stated = (np.choose(kind_N, parts) for parts in zip(*explanations, strict=True))
  return replace_stated(items, Explanation(*stated))


def value(found):
  return {name: interval['value'] for name, interval in found.items()}


@VIEWS
@pytest.mark.parametrize('shares', [(0.5, 0.2, 0.3), (0.1, 0.6, 0.3), (0.3, 0.3, 0.4)])
def test_weights_of_a_planted_mixture_come_back(world, shares, answer_only):
  items, orig, _ = world
  sources = (items.truth, orig.truth, baselines.denial(items))
  spoken = mixture(items, shares, sources)
  found = siding.siding_weights(spoken, orig.truth, answer_only=answer_only)
  expected = dict(zip(found, (*shares[:2], shares[0] - shares[1])))
  for name, interval in found.items():
    assert interval['low'] <= expected[name] <= interval['high']
    assert interval['value'] == pytest.approx(expected[name], abs=0.06)


@VIEWS
def test_weights_are_least_squares_with_a_dummy_for_every_stratum(world, answer_only):
  items, orig, _ = world
  spoken = mixture(items, (0.5, 0.5), (orig.truth, baselines.denial(items)))
  kept = slice(0, 600)
  _, stratum_N = np.unique(
    np.stack([*items.surface.values(), items.behavior_N]), axis=1, return_inverse=True
  )
  classes = [
    x.answer_N + (0 if answer_only else 10 * x.changed_N)
    for x in (spoken.stated, items.truth, orig.truth)
  ]
  dummy_NxS = stratum_N[kept, None] == np.unique(stratum_N[kept])
  columns, stated = [], []
  for one in np.unique(np.concatenate([x[kept] for x in classes])):
    said_N, self_N, orig_N = (1.0 * (x[kept] == one) for x in classes)
    project = lambda v: v - dummy_NxS @ np.linalg.lstsq(1.0 * dummy_NxS, v)[0]
    columns.append(np.stack([project(self_N), project(orig_N)], axis=1))
    stated.append(said_N)
  beta, *_ = np.linalg.lstsq(np.concatenate(columns), np.concatenate(stated))
  part = lambda x: dataclasses.replace(
    x,
    group_N=x.group_N[kept],
    surface={k: v[kept] for k, v in x.surface.items()},
    behavior_N=x.behavior_N[kept],
    counterfactual_behavior_N=x.counterfactual_behavior_N[kept],
    stated=Explanation(*(v[kept] for v in x.stated)),
  )
  found = siding.siding_weights(part(spoken), part(orig).truth, answer_only=answer_only)
  assert list(value(found).values())[:2] == pytest.approx(beta.tolist(), abs=1e-9)


@VIEWS
def test_readers_of_surface_and_own_answer_have_no_weight(world, answer_only):
  items, orig, _ = world
  rng = np.random.default_rng(2)
  table = rng.integers(4, size=(2, 4, 4)), rng.integers(2, size=(2, 4, 4))
  surface = (*items.surface.values(), items.behavior_N)
  for stated in (
    baselines.denial(items),
    baselines.cue_parrot(items, items.surface['cue_option']),
    Explanation(table[0][surface], table[1][surface]),
  ):
    reader = replace_stated(items, stated)
    found = siding.siding_weights(reader, orig.truth, answer_only=answer_only)
    assert value(found) == {'self': 0.0, 'orig': 0.0, 'difference': 0.0}


@VIEWS
def test_readers_that_draw_have_intervals_over_zero(world, answer_only):
  items, orig, _ = world
  noise = np.random.default_rng(3).integers(4, size=len(items.group_N))
  sources = (
    baselines.denial(items),
    baselines.cue_parrot(items, items.surface['cue_option']),
    Explanation(noise, noise % 2),
  )
  spoken = mixture(items, (0.6, 0.3, 0.1), sources)
  found = siding.siding_weights(spoken, orig.truth, answer_only=answer_only)
  for interval in found.values():
    assert interval['low'] <= 0 <= interval['high'] and abs(interval['value']) < 0.05


def test_denial_has_every_gap_and_no_weight(world):
  """Why no gap alone shows coupling."""
  items, orig, other = world
  result = coupling(replace_stated(items, baselines.denial(items)), orig)
  for gap in (result['gap'], result['gap_answer'], result['moved']['difference']):
    assert gap['low'] > 0
  assert value(result['siding']) == value(result['siding_answer'])
  assert value(result['siding'])['difference'] == 0.0
  pair = [replace_stated(x, baselines.denial(x)) for x in (items, other)]
  pooled = pooled_sibling(*pair)
  assert pooled['difference']['low'] > 0
  assert value(pooled['siding']) == {'own': 0.0, 'sibling': 0.0, 'difference': 0.0}


def test_old_answer_beside_the_own_one_is_caught_on_the_answer_alone(world):
  """Weight on self in whole labels, but none on v': why the verdict asks for both."""
  items, orig, _ = world
  old_N = orig.counterfactual_behavior_N
  stale = Explanation(old_N, (old_N != items.behavior_N).astype(int))
  result = coupling(replace_stated(items, stale), orig)
  assert result['gap']['low'] > 0 and result['siding']['difference']['low'] > 0
  expected = {'self': 0.0, 'orig': 1.0, 'difference': -1.0}
  assert value(result['siding_answer']) == pytest.approx(expected, abs=1e-9)


@VIEWS
def test_without_drift_weights_are_undefined(world, answer_only):
  items, *_ = world
  spoken = replace_stated(items, items.truth)
  found = siding.siding_weights(spoken, items.truth, answer_only=answer_only)
  assert found == dict.fromkeys(('self', 'orig', 'difference'), UNDEFINED)


def test_where_every_item_is_alone_in_its_stratum_weights_are_undefined():
  alone = {'item': np.arange(4)}
  items = make([0] * 4, [0, 1, 2, 3], [(0, 0)] * 4, surface=alone)
  orig = make([0] * 4, [1, 2, 3, 0], surface=alone)
  assert siding.siding_weights(items, orig.truth)['self'] == UNDEFINED


@pytest.mark.parametrize('answer_only', [False, True])
def test_pure_explainers_where_unchanged_names_no_answer(answer_only):
  items, orig = random_items(np.random.default_rng(4), 40, 30, states_answer=False)
  unnamed = Explanation(
    np.where(items.truth.changed_N == 1, items.truth.answer_N, INVALID),
    items.truth.changed_N,
  )
  found = siding.siding_weights(
    replace_stated(items, unnamed), orig.truth, answer_only=answer_only
  )
  expected = {'self': 1.0, 'orig': 0.0, 'difference': 1.0}
  assert value(found) == pytest.approx(expected, abs=1e-9)


def test_what_does_not_parse_has_no_class(world):
  items, orig, _ = world
  invalid = Explanation(*np.full((2, len(items.group_N)), INVALID))
  spoken = mixture(items, (0.6, 0.4), (items.truth, invalid))
  found = siding.siding_weights(spoken, orig.truth)
  assert found['self']['low'] <= 0.6 <= found['self']['high']
  assert found['orig']['low'] <= 0.0 <= found['orig']['high']


def test_the_other_way_round_the_weights_change_places(world):
  items, orig, other = world
  spoken = mixture(items, (0.5, 0.5), (items.truth, orig.truth))
  forth = siding.siding_weights(spoken, other.truth)
  again = siding.siding_weights(spoken, other.truth, seed=0)
  assert forth == again
  sums_Gx5 = siding.moments(spoken, other.truth)
  turned_Gx5 = siding.moments(spoken, other.truth)[:, [2, 1, 0, 4, 3]]
  assert sums_Gx5.shape == (100, 5)
  found = siding.intervals.regression_bootstrap(turned_Gx5[None], [siding.OTHER])
  assert found.value == pytest.approx(forth['self']['value'])


def test_contrast_is_the_difference_of_differences(world):
  items, orig, _ = world
  first, second = (
    (mixture(items, shares, (items.truth, orig.truth), seed), orig.truth)
    for seed, shares in ((5, (0.7, 0.3)), (6, (0.5, 0.5)))
  )
  found = siding.contrast(first, second)
  one, two = (siding.siding_weights(*x)['difference'] for x in (first, second))
  assert found['value'] == pytest.approx(one['value'] - two['value'])
  assert found['low'] <= 0.4 <= found['high'] and found['low'] > 0
  same = siding.contrast(first, first)
  assert same['value'] == 0.0


def test_other_lengths_are_refused(world):
  items, orig, _ = world
  short = Explanation(*(x[:3] for x in orig.truth))
  with pytest.raises(ValueError, match='the other truth has shape'):
    siding.siding_weights(items, short)
  with pytest.raises(ValueError, match=r'needs sums \[K, G, 5\]'):
    siding.intervals.regression_bootstrap(np.zeros((4, 5)), [siding.SELF])
