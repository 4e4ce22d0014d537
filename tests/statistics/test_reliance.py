"""Weights of two truths: planted mixtures, surface readers, what is undefined."""

import dataclasses

import numpy as np
import pytest

from benchmarks.calibration import draw_behaviors, evaluation
from coupling.elicit.explanation import INVALID, Explanation
from coupling.statistics import baselines, reliance, sibling_control
from coupling.statistics.contrasts import pooled_sibling
from coupling.statistics.scores import coupling
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
  found = reliance.reliance_weights(spoken, orig.truth, answer_only=answer_only)
  expected = dict(zip(found, (*shares[:2], shares[0] - shares[1])))
  for name, interval in found.items():
    assert interval['low'] <= expected[name] <= interval['high']
    assert interval['value'] == pytest.approx(expected[name], abs=0.06)


def part_of(items, kept):
  return dataclasses.replace(
    items,
    group_N=items.group_N[kept],
    surface={k: v[kept] for k, v in items.surface.items()},
    behavior_N=items.behavior_N[kept],
    counterfactual_behavior_N=items.counterfactual_behavior_N[kept],
    stated=Explanation(*(v[kept] for v in items.stated)),
  )


@VIEWS
def test_the_difference_is_least_squares_with_the_sum_free_in_every_stratum(
  world, answer_only
):
  """y ~ class and stratum + kappa_s (a + b) + difference (a - b) / 2, all at once."""
  items, orig, _ = (part_of(x, slice(0, 400)) for x in world)
  spoken = mixture(items, (0.5, 0.5), (orig.truth, baselines.denial(items)))
  _, stratum_N = np.unique(
    np.stack([*items.surface.values(), items.behavior_N]), axis=1, return_inverse=True
  )
  classes = [
    x.answer_N + (0 if answer_only else 10 * x.changed_N)
    for x in (spoken.stated, items.truth, orig.truth)
  ]
  labels = np.unique(np.concatenate(classes))
  said, own, other = (np.concatenate([1.0 * (x == k) for k in labels]) for x in classes)
  cell = np.concatenate([stratum_N + 1000 * k for k in range(len(labels))])
  stratum = np.tile(stratum_N, len(labels))
  dummies = 1.0 * (cell[:, None] == np.unique(cell))
  sums = (own + other)[:, None] * (stratum[:, None] == np.unique(stratum))
  columns = np.hstack([dummies, sums, ((own - other) / 2)[:, None]])
  expected = np.linalg.lstsq(columns, said)[0][-1]
  found = reliance.reliance_weights(spoken, orig.truth, answer_only=answer_only)
  assert value(found)['difference'] == pytest.approx(expected, abs=1e-9)
  assert value(found)['self'] - value(found)['orig'] == pytest.approx(expected)


def test_knowing_both_alike_where_the_own_truth_varies_is_no_preference():
  """And saying the own answer elsewhere, where the other truth varies alone."""
  rng = np.random.default_rng(0)
  n, shares = 20_000, (0.3, 0.3, 0.4)
  kind_N, behavior_N = rng.integers(2, size=n), rng.integers(4, size=n)
  surface = {'kind': kind_N}
  own_N = np.where(kind_N == 0, rng.integers(4, size=n), behavior_N)
  items = make(behavior_N, own_N, groups=np.arange(n) // 20, surface=surface)
  other_N = rng.integers(4, size=n)
  orig = make(behavior_N, other_N, groups=items.group_N, surface=surface)
  spoken = mixture(items, shares, (items.truth, orig.truth, baselines.denial(items)))
  stated_N = np.where(kind_N == 0, spoken.stated.answer_N, behavior_N)
  stated = Explanation(stated_N, (stated_N != behavior_N).astype(int))
  found = reliance.reliance_weights(
    replace_stated(items, stated), orig.truth, answer_only=True
  )
  assert found['difference']['low'] <= 0 <= found['difference']['high']
  expected = dict(zip(found, (*shares[:2], 0.0)))
  assert value(found) == pytest.approx(expected, abs=0.02)


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
    found = reliance.reliance_weights(reader, orig.truth, answer_only=answer_only)
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
  found = reliance.reliance_weights(spoken, orig.truth, answer_only=answer_only)
  for interval in found.values():
    assert interval['low'] <= 0 <= interval['high'] and abs(interval['value']) < 0.05


def test_denial_has_every_gap_and_no_weight(world):
  """Why no gap alone shows coupling."""
  items, orig, other = world
  result = coupling(replace_stated(items, baselines.denial(items)), orig)
  for gap in (result['gap'], result['gap_answer'], result['moved']['difference']):
    assert gap['low'] > 0
  assert value(result['reliance']) == value(result['reliance_answer'])
  assert value(result['reliance'])['difference'] == 0.0
  pair = [replace_stated(x, baselines.denial(x)) for x in (items, other)]
  pooled = pooled_sibling(*pair)
  assert pooled['difference']['low'] > 0
  assert pooled['beyond_shared']['smaller']['value'] == 0.0


def test_old_answer_beside_the_own_one_is_caught_on_the_answer_alone(world):
  """It has a gap, and in whole labels some weight on self, but none on v'."""
  items, orig, _ = world
  old_N = orig.counterfactual_behavior_N
  stale = Explanation(old_N, (old_N != items.behavior_N).astype(int))
  result = coupling(replace_stated(items, stale), orig)
  assert result['gap']['low'] > 0 and result['reliance']['self']['low'] > 0.2
  expected = {'self': 0.0, 'orig': 1.0, 'difference': -1.0}
  assert value(result['reliance_answer']) == pytest.approx(expected, abs=1e-9)


@VIEWS
def test_without_drift_weights_are_undefined(world, answer_only):
  items, *_ = world
  spoken = replace_stated(items, items.truth)
  found = reliance.reliance_weights(spoken, items.truth, answer_only=answer_only)
  assert found == dict.fromkeys(('self', 'orig', 'difference'), UNDEFINED)


def test_where_every_item_is_alone_in_its_stratum_weights_are_undefined():
  alone = {'item': np.arange(4)}
  items = make([0] * 4, [0, 1, 2, 3], [(0, 0)] * 4, surface=alone)
  orig = make([0] * 4, [1, 2, 3, 0], surface=alone)
  assert reliance.reliance_weights(items, orig.truth)['self'] == UNDEFINED


@pytest.mark.parametrize('answer_only', [False, True])
def test_pure_explainers_where_unchanged_names_no_answer(answer_only):
  items, orig = random_items(np.random.default_rng(4), 40, 30, states_answer=False)
  unnamed = Explanation(
    np.where(items.truth.changed_N == 1, items.truth.answer_N, INVALID),
    items.truth.changed_N,
  )
  found = reliance.reliance_weights(
    replace_stated(items, unnamed), orig.truth, answer_only=answer_only
  )
  expected = {'self': 1.0, 'orig': 0.0, 'difference': 1.0}
  assert value(found) == pytest.approx(expected, abs=1e-9)


def test_what_does_not_parse_has_no_class(world):
  items, orig, _ = world
  invalid = Explanation(*np.full((2, len(items.group_N)), INVALID))
  spoken = mixture(items, (0.6, 0.4), (items.truth, invalid))
  found = reliance.reliance_weights(spoken, orig.truth)
  assert found['self']['low'] <= 0.6 <= found['self']['high']
  assert found['orig']['low'] <= 0.0 <= found['orig']['high']


def test_the_other_way_round_the_weights_change_places(world):
  items, orig, other = world
  spoken = mixture(items, (0.5, 0.5), (items.truth, orig.truth))
  forth = reliance.reliance_weights(spoken, other.truth)
  again = reliance.reliance_weights(spoken, other.truth, seed=0)
  assert forth == again
  turned = replace_stated(other, spoken.stated)
  turned = dataclasses.replace(turned, behavior_N=spoken.behavior_N)
  back = reliance.reliance_weights(turned, items.truth, answer_only=True)
  forth = reliance.reliance_weights(spoken, turned.truth, answer_only=True)
  assert back['self']['value'] == pytest.approx(forth['orig']['value'])
  assert back['difference']['value'] == pytest.approx(-forth['difference']['value'])


@pytest.mark.parametrize('share', [0.05, 0.25, 0.6])
def test_what_siblings_share_cancels_and_own_knowledge_comes_back(world, share):
  items, _, other = world
  shared = Explanation(*np.maximum(items.truth, other.truth))
  spoken = [
    mixture(x, (share, 1 - share), (x.truth, shared), seed)
    for seed, x in enumerate((items, other))
  ]
  found = sibling_control.beyond_shared(*spoken)
  for which in ('first', 'second'):
    assert found[which]['low'] <= share <= found[which]['high']
  both = found['first']['value'], found['second']['value']
  assert found['smaller']['value'] == min(both)
  alike_N = items.behavior_N == other.behavior_N
  differ_N = items.counterfactual_behavior_N != other.counterfactual_behavior_N
  assert found['n'] == np.count_nonzero(alike_N & differ_N)
  assert found['groups'] == len(np.unique(items.group_N[alike_N & differ_N]))
  swapped = [replace_stated(x, y.truth) for x, y in ((items, other), (other, items))]
  assert sibling_control.beyond_shared(*swapped)['smaller']['value'] == pytest.approx(
    -1.0
  )


def test_preferences_of_the_own_model_are_no_knowledge_beyond_the_sibling(world):
  """For an option, or for its text, which stands in another slot on every item."""
  items, _, other = world
  ones_N = np.ones_like(items.group_N)
  always = [
    replace_stated(x, Explanation(k * ones_N, ones_N))
    for k, x in enumerate((items, other))
  ]
  found = sibling_control.beyond_shared(*always)
  assert abs(found['smaller']['value']) < 1e-9
  rng = np.random.default_rng(0)
  n, K, texts = 8000, 4, 12
  options_NxK = np.argsort(rng.random((n, texts)), axis=1)[:, :K]
  score_NxK = rng.normal(size=(n, K))
  surface = {'cue_kind': rng.integers(2, size=n)}
  models = []
  for _ in range(2):
    likes_V = rng.normal(size=texts)
    seen_NxK = score_NxK + likes_V[options_NxK]  # shared scores, and preferences
    v_N = (seen_NxK + rng.gumbel(size=(n, K))).argmax(axis=1)
    said_N = seen_NxK.argmax(axis=1)
    made = make(np.zeros(n, int), v_N, groups=np.arange(n) // 10, surface=surface)
    stated = Explanation(said_N, (said_N > 0).astype(int))
    models.append(dataclasses.replace(made, stated=stated, options_NxK=options_NxK))
  found = sibling_control.beyond_shared(*models)
  assert found['smaller']['low'] <= 0
  assert abs(found['first']['value']) < 0.06 > abs(found['second']['value'])
  slots = [dataclasses.replace(x, options_NxK=None) for x in models]
  assert sibling_control.beyond_shared(*slots)['smaller']['low'] > 0.05


def test_beyond_shared_by_hand():
  """Six items of one pair of options: nothing but the slot may be preferred."""
  # The first names its own v' on 3 of 4 items where that is 1, and on 1 of 2 others.
  own, also = [1, 1, 1, 1, 2, 2], [2, 2, 2, 2, 1, 1]
  said = [(1, 1), (1, 1), (1, 1), (2, 1), (2, 1), (1, 1)]
  groups = [0, 0, 1, 1, 2, 2]
  items = make([0] * 6, own, said, groups=groups)
  other = make([0] * 6, also, [(1, 1)] * 6, groups=groups)
  found = sibling_control.beyond_shared(items, other)
  # Mean stated 1 where own is 1: (3 - 1) / 4; where it is 2: (1 - 1) / 2.
  # Slope on own (1 or -1): (1/2 - 0) / 2.
  assert found['first']['value'] == pytest.approx(0.25)
  assert found['second']['value'] == pytest.approx(0.0)
  assert (found['n'], found['groups']) == (6, 3)
  assert sibling_control.beyond_shared(other, other)['smaller'] == UNDEFINED


@pytest.mark.parametrize('shares', [(0.25, 0.25), (0.25, 0.35), (0.35, 0.2)])
@pytest.mark.parametrize('options', [2, 4])
def test_unchanged_that_is_repeated_is_no_own_answer(shares, options):
  """Old labels repeated word for word: "unchanged" is then read as the own answer."""
  rng = np.random.default_rng(2)
  n = 30_000
  cue_N = rng.integers(options, size=n)

  def behave(before_N, share):
    v_N = np.where(rng.random(n) < share, rng.integers(options, size=n), before_N)
    return np.where(rng.random(n) < 0.4, cue_N, v_N), v_N

  old_N, old_v_N = behave(rng.integers(options, size=n), 1.0)
  own_N, own_v_N = behave(old_v_N, 0.5)
  surface = dict(cue_option=cue_N)
  groups = np.arange(n) // 20
  items = make(own_N, own_v_N, groups=groups, surface=surface, states_answer=False)
  orig = make(old_N, old_v_N, groups=groups, surface=surface, states_answer=False)
  denied = baselines.denial(items)
  rest = 1 - sum(shares)
  spoken = mixture(items, (*shares, rest), (items.truth, orig.truth, denied))
  found = reliance.reliance_weights(spoken, orig.truth, answer_only=True)
  expected = dict(zip(found, (*shares, shares[0] - shares[1])))
  for name, interval in found.items():
    assert interval['low'] <= expected[name] <= interval['high'], name


def test_contrast_is_the_difference_of_differences(world):
  items, orig, _ = world
  first, second = (
    (mixture(items, shares, (items.truth, orig.truth), seed), orig.truth)
    for seed, shares in ((5, (0.7, 0.3)), (6, (0.5, 0.5)))
  )
  found = reliance.contrast(first, second)
  one, two = (reliance.reliance_weights(*x)['difference'] for x in (first, second))
  assert found['value'] == pytest.approx(one['value'] - two['value'])
  assert found['low'] <= 0.4 <= found['high'] and found['low'] > 0
  same = reliance.contrast(first, first)
  assert same['value'] == 0.0


def test_other_lengths_are_refused(world):
  items, orig, _ = world
  short = Explanation(*(x[:3] for x in orig.truth))
  with pytest.raises(ValueError, match='the other truth has shape'):
    reliance.reliance_weights(items, short)
