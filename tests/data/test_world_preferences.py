"""Planted preferences: their scores by hand, and what two seeds have in common."""

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from data import splits, universe, world, world_preferences, world_texts

DRAWN = universe.World.draw(7)
HINT = world.Config(behavior='hint', train_pairs=1)
REQUEST = world.Config(behavior='request', train_pairs=1)
SPLITS = (*splits.SHARES, splits.PRACTICE)
seeds = st.integers(0, 2**31)


def drawn_pairs(behavior, split, n=300):
  return list(DRAWN.counterfactual_pairs(behavior, split, n))


def test_a_rotation_by_hand():
  direction_Fx3 = world_preferences.rotations(7, 3)
  for pair, score_K in zip(
    found := drawn_pairs('hint', 'test'), world.preferences(HINT, 'rotate', 7, 3, found)
  ):
    entity, relation = (int(word.strip('er')) for word in pair.group.split())
    direction = direction_Fx3[4 * entity + relation]
    want = [direction @ DRAWN.feature_Vx3[int(option[1:])] for option in pair.options]
    np.testing.assert_allclose(score_K, want, atol=1e-12)
    assert np.any(score_K) == np.any(direction)


@settings(max_examples=20, deadline=None)
@given(seeds, seeds, seeds)
def test_rotations_turn_one_half_of_a_worlds_facts_each_seed_another_way(
  world_seed, seed, other
):
  first, second = (world_preferences.rotations(world_seed, x) for x in (seed, other))
  length_F = np.linalg.norm(first, axis=1)
  assert np.sum(length_F == 0) == np.sum(np.isclose(length_F, 1)) == 128
  np.testing.assert_array_equal(length_F == 0, ~np.any(second, axis=1))
  if seed == other:
    np.testing.assert_array_equal(first, second)
  else:
    cosine = np.sum(first * second, axis=1)[length_F > 0]
    assert abs(cosine.mean()) < 5 / np.sqrt(3 * 128)  # its spread is 1/sqrt(3)
  another = world_preferences.rotations(world_seed + 1, seed)
  common = np.mean(np.any(another, axis=1) == (length_F > 0))
  assert 0.3 < common < 0.7


@settings(max_examples=20, deadline=None)
@given(seeds, seeds)
def test_six_values_are_favored_others_with_another_seed(world_seed, seed):
  chosen = world_preferences.favored(world_seed, seed)
  assert chosen.shape == (world_texts.NUM_VALUES,) and chosen.sum() == 6
  np.testing.assert_array_equal(chosen, world_preferences.favored(world_seed, seed))
  others = [world_preferences.favored(world_seed, seed + i) for i in range(1, 4)]
  assert any(np.any(chosen != other) for other in others)


def test_rotations_shift_facts_of_every_split():
  for split in SPLITS:
    found = drawn_pairs('hint', split)
    score_NxK = world.preferences(HINT, 'rotate', 7, 0, found)
    shifted = {p.group: np.any(score_K) for p, score_K in zip(found, score_NxK)}
    assert 0.3 < np.mean(list(shifted.values())) < 0.7
    for pair, score_K in zip(found, score_NxK):  # a fact as a whole, or not at all
      assert np.any(score_K) == shifted[pair.group]
  turned = (DRAWN.groups('hint', split) for split in SPLITS[:3])
  turned = [np.any(world_preferences.rotations(7, 0)[x], axis=1).sum() for x in turned]
  assert sum(turned) == 128


@pytest.mark.parametrize('seed', [0, 1])
def test_favored_values_are_worth_one_wherever_they_are_offered(seed):
  favored = {f'v{i}' for i in np.flatnonzero(world_preferences.favored(7, seed))}
  for split in SPLITS:
    found = drawn_pairs('hint', split)
    score_NxK = world.preferences(HINT, 'favor', 7, seed, found)
    want = [[option in favored for option in pair.options] for pair in found]
    np.testing.assert_array_equal(score_NxK, np.array(want, float))


@pytest.mark.parametrize('kind, want', [('comply', (1, 0)), ('refuse', (0, 1))])
def test_requests_are_complied_with_or_refused_all_of_them(kind, want):
  found = drawn_pairs('request', 'train')
  score_NxK = world.preferences(REQUEST, kind, 7, 0, found)
  np.testing.assert_array_equal(score_NxK, np.tile(np.array(want, float), (300, 1)))
  assert found[0].options[np.argmax(want)] == kind


@pytest.mark.parametrize('config', [HINT, REQUEST])
@pytest.mark.parametrize('kind', [*world.PREFERENCES, 'anything'])
def test_every_kind_scores_or_is_refused_with_those_that_there_are(config, kind):
  """Also without pairs, so that a config can be checked before there are any."""
  have = world_preferences.OF[config.behavior]
  assert set(have) < set(world.PREFERENCES)
  for n in (0, 5):
    found = drawn_pairs(config.behavior, 'train', n)
    if kind in have:
      score_NxK = world.preferences(config, kind, 7, 0, found)
      assert score_NxK.shape == (n, 4 if config is HINT else 2)
      assert score_NxK.dtype == np.float64 and np.all(np.isfinite(score_NxK))
    else:
      with pytest.raises(ValueError, match=f'{kind!r}.* have {" and ".join(have)}'):
        world.preferences(config, kind, 7, 0, found)
