"""The study of shared circuits decides what was planted."""

import numpy as np
import pytest

from coupling.paper import mechanism, paper_seeds
from coupling.report import patch_figures, plots
from coupling.report.conclusions import CONTRADICTED, INCONCLUSIVE, NOT_TESTED
from coupling.report.conclusions import SUPPORTED
from coupling.report.tables import lookup
from coupling.statistics import effect_maps, intervals, sharing
from tests import patched, studied

RUNS = ('kl', 'no_kl', 'shuffled')


@pytest.fixture(scope='module')
def planted():
  """The study, parts of three seeds, and maps in which all claims are true."""
  paper, _ = studied.paper(3)
  parts = studied.small(
    {'kl': studied.Run({}), 'no_kl': studied.Run({}), 'shuffled': studied.Run({})},
    seeds=(21, 22, 23),
  )
  return paper.studies['mechanism'], parts, patched.of_paper(paper)


def found_with(planted, contrasts=('moved',), **changes):
  """Numbers and states by claim, with other maps of some runs at their end."""
  study, parts, maps = planted
  maps = {
    name: {seed: {x: found[x] for x in contrasts} for seed, found in of.items()}
    for name, of in maps.items()
  }
  for run, make in changes.items():
    maps[f'main/{run}'] = {
      seed: found | {'moved': found['moved'] | {20: make(seed)}}
      for seed, found in maps[f'main/{run}'].items()
    }
  parts = paper_seeds.Parts(parts.paper, parts.records, {}, maps)
  found = mechanism.numbers(study, parts)
  return found, {(x.claim, x.about): x.state for x in mechanism.rows(study, found)}


def test_all_claims_agree_where_all_are_true(planted):
  found, states = found_with(planted)
  assert len(states) == 12 and set(states.values()) == {SUPPORTED}, states
  end = found['runs'][0]['steps'][-1]
  assert end['sharing']['size']['mean'] == pytest.approx(0.9, abs=0.05)
  assert end['knocked_out']['agrees']['mean'] == 1
  assert [x['name'] for x in found['runs']] == [f'main/{run}' for run in RUNS]


def test_each_half_of_an_explanation_has_its_own_verdicts(planted):
  """Same/change is not explained here, v' is."""
  found, states = found_with(
    planted,
    ('moved', 'question', 'removed'),
    kl=lambda seed: patched.maps(seed, 0.9, explains=False),
  )
  assert {about.startswith('v’') for _, about in states} == {True, False}
  for (_, about), state in states.items():
    assert (state == SUPPORTED) == about.startswith('v’'), states
  decided = {(x['name'], x['contrast']) for x in found['maps']}
  assert decided == {(f'main/{run}', c) for run in RUNS for c in ('moved', 'question')}


def test_without_an_explanation_nothing_is_decided(planted):
  found, states = found_with(
    planted, kl=lambda seed: patched.maps(seed, 0.9, explains=False)
  )
  assert SUPPORTED not in states.values()
  assert set(states.values()) <= {INCONCLUSIVE, NOT_TESTED}
  (kl,) = (x for x in found['maps'] if x['name'] == 'main/kl')
  assert {x['explanation'] for x in kl['sites']} == {None}


def test_what_shuffled_labels_share_too_is_not_explained_by_true_ones(planted):
  same = lambda seed: patched.maps(seed, 0.98, explains=False)
  _, states = found_with(planted, shuffled=same)
  assert states['beyond_map', 'shuffled'] == CONTRADICTED
  assert states['beyond_run', 'shuffled'] == CONTRADICTED
  # Whoever explains nothing has it too, so it is no evidence.
  assert states['shares_circuits', ''] == INCONCLUSIVE


def test_a_difference_of_thousandths_is_none(planted):
  """Near 1 it never comes by chance, and is worth nothing."""
  _, states = found_with(
    planted,
    kl=lambda seed: patched.maps(seed, 0.997),
    no_kl=lambda seed: patched.maps(seed, 0.993),
  )
  assert states['beyond_run', 'no_kl'] == CONTRADICTED


def test_explanations_that_stay_do_not_move_with_the_behaviour(planted):
  _, states = found_with(planted, kl=lambda seed: patched.maps(seed, 0.9, follows=0.0))
  assert states['moves_with_behavior', ''] == NOT_TESTED  # no interval
  # They move less than those of the run without the KL.
  assert states['moves_beyond', 'no_kl'] == CONTRADICTED


def test_a_run_without_pairs_is_left_out(planted):
  found, states = found_with(planted, no_kl=lambda seed: None)
  assert ('beyond_run', 'no_kl') not in states  # what it did at the start is no end
  assert ('beyond_run', 'shuffled') in states
  moved = {x['name']: x['steps'] for x in found['runs'] if x['contrast'] == 'moved'}
  assert [x['step'] for x in moved['main/no_kl']] == [0]
  study, parts, maps = planted
  nothing = {
    name: {seed: {'moved': {20: None}, 'question': {}} for seed in of}
    for name, of in maps.items()
  }
  parts = paper_seeds.Parts(parts.paper, parts.records, {}, nothing)
  assert mechanism.rows(study, mechanism.numbers(study, parts)) == []


def test_correlations_over_seeds_are_averaged_on_fishers_scale(planted):
  found, _ = found_with(planted)
  size = found['runs'][0]['steps'][-1]['sharing']['size']
  z = intervals.seed_interval(np.arctanh(size['per_seed']))
  assert size['mean'] == pytest.approx(np.tanh(z.value))
  assert (size['low'], size['high']) == pytest.approx((np.tanh(z.low), np.tanh(z.high)))
  assert size['high'] < 1


def test_maps_of_all_seeds_are_ratios_of_sums(planted):
  """A seed with almost nothing to patch does not drown the others."""
  _, _, maps = planted
  every = [maps['main/kl'][seed]['moved'][20].explanation for seed in (21, 22)]
  quiet = every[1]._replace(
    clean_N=every[1].clean_N * 1e-3,
    other_N=every[1].other_N * 1e-3,
    patched_NxR=every[1].clean_N[:, None] * 1e-3 - np.ones(len(patched.SITES)),
  )
  pooled_R, alone_R = effect_maps.effect([every[0], quiet]), effect_maps.effect([quiet])
  assert np.abs(alone_R).min() > 100 and np.abs(pooled_R).max() < 5


def test_tables_and_figures_hold_the_numbers(planted):
  study, _, _ = planted
  found, _ = found_with(planted)
  tables = mechanism.tables(study, found, 'here')
  whole = {'here': found}
  for table in tables.values():
    for _, cells in table.rows:
      for cell in cells:
        if cell.path:
          assert 'mean' in lookup(whole, cell.path), cell
  for key, (caption, draw) in mechanism.figures(study, found).items():
    text = plots.svg(key, caption, draw)
    assert '<image' not in text, key  # lines and letters, sharp in print
  heat = plots.svg('heat', 'h', lambda: patch_figures.heat(found['maps'][0]['sites']))
  value = next(
    x['behavior'] for x in found['maps'][0]['sites'] if x['kind'] == 'residual'
  )
  assert f'{value:.2f}' in heat


def test_a_cross_map_is_of_components_alone(planted):
  _, _, maps = planted
  one = maps['main/kl'][21]['moved'][20]
  among = effect_maps.compared(one.sites, one.live_R, effect_maps.COMPONENTS)
  assert len(among) == patched.AMONG.sum()
  assert sharing.cross(one, one) == pytest.approx(
    sharing.statistics(one)['sharing']['size']['value']
  )
