"""Statistics of patching recover what was planted, and cover it."""

import numpy as np
import pytest

from coupling.patching import outcomes
from coupling.statistics import effect_maps, sharing
from coupling.statistics.effect_maps import EVERY_HEAD, Effects, Maps, Site

R, GROUPS, SIZE = 30, 40, 4
GROUP_N = np.repeat(np.arange(GROUPS), SIZE)


def planted(rng, r, noise=0.5, groups=GROUPS):
  """Effects of two maps whose true sizes correlate by exactly r over sites."""
  n = groups * SIZE
  first_R, second_R = np.linalg.qr((lambda x: x - x.mean(0))(rng.normal(size=(R, 2))))[
    0
  ].T
  truth = first_R, r * first_R + np.sqrt(1 - r**2) * second_R
  found = []
  for map_R in truth:
    sizes_R = 2 + 3 * map_R  # above 0: sizes are these, not their absolute values
    own = rng.normal(size=(n, R)) + np.repeat(rng.normal(size=(groups, R)), SIZE, 0)
    moved_NxR = sizes_R + noise * own
    whole_N = 5 + rng.normal(size=n)
    found.append(Effects(whole_N, 0 * whole_N, whole_N[:, None] - moved_NxR))
  return found


@pytest.mark.parametrize('r', [0.0, 0.5, 0.9, -0.6])
def test_a_planted_correlation_is_found(r):
  both = planted(np.random.default_rng(0), r, noise=0.01)
  found = sharing.compare(*both, GROUP_N)
  assert found['size']['value'] == pytest.approx(r, abs=0.01)
  assert found['signed']['value'] == pytest.approx(r, abs=0.01)
  assert found['ceiling'] == pytest.approx(1, abs=0.01)
  assert found['chance'] == 3 / R


def test_intervals_of_correlations_cover_them():
  hit = total = 0
  for seed in range(60):
    both = planted(np.random.default_rng(seed), 0.6, noise=0.3)
    found = sharing._correlation(
      *(sharing.intervals.group_sums(x.moved_NxR, GROUP_N) for x in both), True, seed
    )
    assert -1 <= found.low <= found.value <= found.high <= 1
    hit += found.low <= 0.6 <= found.high
    total += 1
  assert hit / total >= 0.85


def test_noise_is_seen_in_reliability_and_not_taken_for_sharing():
  rng = np.random.default_rng(3)
  noise = [
    Effects(np.ones(160), np.zeros(160), rng.normal(size=(160, R))) for _ in range(2)
  ]
  found = sharing.compare(*noise, GROUP_N)
  assert found['reliability_behavior'] < 0.5
  assert found['ceiling'] < 0.6
  assert found['size']['low'] < 0 < found['size']['high']
  quiet = sharing.compare(*planted(rng, 0.5, noise=0.1), GROUP_N)
  assert quiet['reliability_behavior'] > 0.95


def test_signs_count_where_signs_are_asked_for():
  first, second = planted(np.random.default_rng(1), 1.0, noise=0.01)
  turned = second._replace(
    patched_NxR=second.clean_N[:, None] + second.moved_NxR
  )  # fmt: skip
  found = sharing.compare(first, turned, GROUP_N)
  assert found['size']['value'] == pytest.approx(1, abs=0.01)
  assert found['signed']['value'] == pytest.approx(-1, abs=0.01)


def test_effects_are_ratios_of_means():
  clean_N, other_N = np.array([4.0, 2.0]), np.array([0.0, -2.0])
  patched_NxR = np.array([[4.0, 0.0, 2.0], [2.0, -2.0, 2.0]])
  np.testing.assert_allclose(
    effect_maps.effect([Effects(clean_N, other_N, patched_NxR)]), [0, 1, 0.25]
  )
  nothing = Effects(clean_N, clean_N, patched_NxR)
  assert np.isnan(effect_maps.effect([nothing])).all()


def test_pairs_are_used_where_each_run_prefers_its_own_answer():
  effects = Effects(
    np.array([1.0, 1, -1, 2]), np.array([-1.0, 1, -1, -3]), np.zeros((4, 0))
  )
  assert effect_maps.used(effects).tolist() == [True, False, False, True]


SITES = [
  Site('residual', 0, 'answer', EVERY_HEAD),
  *(Site('heads', 0, group, n) for group in ('answer', 'instruction') for n in (0, 1)),
  *(Site('mlp_out', layer, 'hint_source', EVERY_HEAD) for layer in range(5)),
]


def maps(rng, follows, n=40):
  """Maps in which the explanation of ablated models follows in a share of pairs."""
  clean_N, other_N = np.full(n, 2.0), -2 + 0.1 * rng.normal(size=n)
  both = Effects(clean_N, other_N, rng.normal(size=(n, len(SITES))))
  top_N = np.where(rng.random(n) < 0.5, -1.0, 1.0)
  said_N = np.where(rng.random(n) < follows, top_N, clean_N)
  random_NxD = np.full((n, 3), 2.0)
  without = [
    Effects(clean_N, other_N, np.concatenate([d_N[:, None], random_NxD], axis=1))
    for d_N in (top_N, said_N)
  ]
  # Of x', half of its own lead is lost with the top, nothing with random ones.
  other = Effects(other_N, clean_N, np.stack([other_N / 2, *3 * [other_N]], axis=1))
  without += [other, other]
  live_R = np.array([True] * (len(SITES) - 1) + [False])
  return Maps(SITES, np.arange(n), both, both, live_R, [[1]] * 4, *without)


def test_knocked_out_explanations_follow_as_planted():
  found = [
    sharing.statistics(maps(np.random.default_rng(5), x))['knocked_out']
    for x in (1.0, 0.0)
  ]
  flipped = found[0]['flipped']['value']
  assert 0.3 < flipped < 0.7
  assert found[0]['agrees']['value'] == 1
  # All agree, where those shares alone would have a part of them agree.
  by_chance = flipped**2 + (1 - flipped) ** 2
  assert found[0]['follows']['value'] == pytest.approx(1 - by_chance)
  assert found[1]['follows']['value'] == 0
  # Nats of x less x': 2 - top_N of x, and half of the lead of x'.
  assert found[0]['explanation']['top']['value'] == pytest.approx(
    3 * flipped + (1 - flipped) + 1, abs=0.05
  )
  assert found[0]['explanation']['random']['value'] == pytest.approx(0)
  assert found[1]['explanation']['difference']['value'] == pytest.approx(1, abs=0.05)


def test_an_explanation_that_collapses_does_not_follow():
  """All say "unchanged" once ablated; most behaviours flip: agreement, but no tie."""
  m = maps(np.random.default_rng(5), 1.0)
  silent = m.explanation_without._replace(patched_NxR=np.full((40, 4), -1.0))
  flips = m.behavior_without._replace(
    patched_NxR=np.where(np.arange(40) < 30, -1.0, 1.0)[:, None] * np.ones(4)
  )
  m = Maps(**vars(m) | {'explanation_without': silent, 'behavior_without': flips})
  found = sharing.statistics(m)['knocked_out']
  assert found['agrees']['value'] == 0.75
  assert found['follows']['value'] == 0


def test_random_sets_are_of_the_kinds_of_the_top():
  sites = [
    Site(kind, i, 'answer', 0) for kind in ('heads', 'mlp_out') for i in range(6)
  ]
  among, rng = np.arange(12), np.random.default_rng(0)
  drawn = [
    effect_maps.matched(sites, np.array([0, 7, 8]), among, rng) for _ in range(50)
  ]
  for some in drawn:
    assert len(set(some)) == 3 and not set(some) & {0, 7, 8}
    assert sorted(sites[i].kind for i in some) == ['heads', 'mlp_out', 'mlp_out']
  assert {i for some in drawn for i in some} == set(range(12)) - {0, 7, 8}
  few = effect_maps.matched(sites, np.array([6, 7, 8, 9, 10]), among, rng)
  assert len(set(few)) == 5 and 11 in few  # the one that is left, and heads


def test_too_few_pairs_have_no_sharing():
  m = maps(np.random.default_rng(0), 1.0, n=3)
  found = sharing.statistics(m)
  assert found['sharing']['size']['value'] is None and found['n'] == 3


def test_records_come_back_and_pairs_without_two_answers_do_not(tmp_path):
  m = maps(np.random.default_rng(2), 0.5)
  behavior = m.behavior._replace(other_N=np.where(np.arange(40) < 10, 1.0, -2.0))
  m = Maps(**vars(m) | {'behavior': behavior})
  at = outcomes.path(tmp_path, 'moved', 12)
  about = {'prompt': ['x'] * 40, 'group': [f'g{i // 2}' for i in range(40)]}
  outcomes.write(at, about, m, {'aligned': 40})
  found = outcomes.read_all(tmp_path)['moved'][12]
  assert found.sites == SITES and len(found.group_N) == 30
  assert len(np.unique(found.group_N)) == 15
  np.testing.assert_allclose(found.behavior.patched_NxR, m.behavior.patched_NxR[10:])
  np.testing.assert_allclose(
    found.explanation_without.patched_NxR, m.explanation_without.patched_NxR[10:]
  )
  outcomes.write(outcomes.path(tmp_path, 'moved', 13), {}, None, {'n': 0})
  assert outcomes.read_all(tmp_path)['moved'][13] is None
