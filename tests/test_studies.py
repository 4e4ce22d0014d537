"""Studies of planted explainers: numbers, what they decide, and how it is told."""

import copy
import dataclasses

import numpy as np
import pytest

from coupling import comparisons
from coupling import runs as runs_lib
from coupling import statistics
from coupling.config import ConfigError
from coupling.explanation import Explanation
from coupling.studies import access
from coupling.studies import cells
from coupling.studies import collapse
from coupling.studies import dose
from coupling.studies import numbers as numbers_lib
from coupling.studies import parts as parts_lib
from coupling.studies import planted
from coupling.studies import rules
from coupling.studies import shift
from coupling.studies import sources
from coupling.studies import trajectory
from coupling.studies import variety
from coupling.workdir import WorkdirError
from tests import studied
from tests.studied import GOOD, NEUTRAL, STALE, Run, study, train
from tests.test_studies_rules import AGREES, DISAGREES, UNDECIDED, small

SEEDS = (1, 2, 3, 4)


def states(module, study_, found):
  return [row.state for row in module.rows(study_, found)]


# Doses.

WEIGHTS = study('regularisation', ('no_kl', 'kl'), (0.0, 1.0), 'weight')


def weighted(with_it, without):
  parts = small({'no_kl': Run(without), 'kl': Run(with_it)}, seeds=SEEDS)
  return dose.numbers(WEIGHTS, parts)


def test_regularisation_that_matters_agrees():
  found = weighted(GOOD, NEUTRAL)
  assert states(dose, WEIGHTS, found) == [AGREES] * 5
  for key in ('gap', 'balanced_gap', 'gap_answer'):
    gaps = [x['final'][key]['per_seed'] for x in found['doses']]
    half = [b / 2 - a for a, b in zip(*gaps)]
    assert found['half'][key]['per_seed'] == pytest.approx(half)
    full = [b - a for a, b in zip(*gaps)]
    assert found['contrast'][key]['per_seed'] == pytest.approx(full)


def test_regularisation_without_consequence_disagrees():
  found = weighted(GOOD, GOOD)
  assert states(dose, WEIGHTS, found) == [AGREES, AGREES] + [DISAGREES] * 3
  assert 'raw agreement' in dose.finding(WEIGHTS, found)
  stale = weighted(STALE, STALE)
  assert states(dose, WEIGHTS, stale)[:2] == [DISAGREES, DISAGREES]


def test_a_study_without_its_dose_is_refused():
  parts = small({'no_kl': Run(GOOD), 'kl': Run(GOOD)})
  wrong = dataclasses.replace(WEIGHTS, at=(0.0, 2.0))
  with pytest.raises(ConfigError, match='needs a run at 1'):
    dose.numbers(wrong, parts)


@pytest.mark.parametrize(
  ('last', 'state'), [(GOOD, AGREES), (STALE, DISAGREES), (NEUTRAL, UNDECIDED)]
)
def test_noise_is_survived_where_every_dose_has_a_gap(last, state):
  of = study('noise', ('kl', 'half'), (0.0, 0.5), 'noise')
  parts = small({'kl': Run(GOOD), 'half': Run(last)}, seeds=SEEDS)
  found = dose.numbers(of, parts)
  assert states(dose, of, found) == [state, state]
  told = dose.finding(of, found)
  assert ('of noise of 0, 0.5.' in told) == (state == AGREES)
  assert ('not shown to be at 0.5' in told) == (state != AGREES)


def ranked(low, high):
  runs = {'a': Run(low), 'b': Run(high), 'full': Run(GOOD)}
  trains = {'a': train(rank=4), 'b': train(rank=64), 'full': train(rank=0)}
  parts = small(runs, trains, SEEDS)
  return study('capacity', runs, (4, 64, 0), 'rank'), parts


def test_capacity_is_a_slope_on_the_log_of_the_rank_and_full_has_none():
  of, parts = ranked(NEUTRAL, GOOD)
  found = dose.numbers(of, parts)
  assert [x['label'] for x in found['doses']] == ['4', '64', 'full']
  first, last = (x['final']['gap']['per_seed'] for x in found['doses'][:2])
  slopes = [(b - a) / 4 for a, b in zip(first, last)]  # four doublings
  assert found['slope']['gap']['per_seed'] == pytest.approx(slopes)
  assert states(dose, of, found) == [AGREES, AGREES]
  assert found['width'] == 64
  told = dose.finding(of, found)
  assert 'From rank 64 on' in told and '100% of the model’s width of 64' in told


def test_capacity_without_consequence_is_not_called_a_threshold():
  of, parts = ranked(GOOD, GOOD)
  found = dose.numbers(of, parts)
  assert states(dose, of, found)[1] == DISAGREES
  assert 'From rank 4 on' in dose.finding(of, found)
  of, parts = ranked(GOOD, STALE)
  found = dose.numbers(of, parts)
  assert states(dose, of, found) == [DISAGREES, DISAGREES]
  assert 'not shown to be above zero' in dose.finding(of, found)


def test_rates_are_a_slope_on_their_log():
  of = study('rates', ('a', 'b'), (1e-3, 4e-3), 'rate')
  parts = small({'a': Run(NEUTRAL), 'b': Run(GOOD)}, seeds=SEEDS)
  found = dose.numbers(of, parts)
  first, last = (x['final']['gap']['per_seed'] for x in found['doses'])
  slopes = [(b - a) / 2 for a, b in zip(first, last)]
  assert found['slope']['gap']['per_seed'] == pytest.approx(slopes)
  assert states(dose, of, found) == [AGREES] * 3


# Over training.


@pytest.mark.parametrize(('says', 'state'), [(GOOD, AGREES), (STALE, DISAGREES)])
def test_trajectory_ends_and_follows(says, state):
  of = study('trajectory', ('kl',))
  parts = small({'kl': Run(says, 0.5, steps=(0, 10, 20, 30))}, seeds=SEEDS)
  found = trajectory.numbers(of, parts)
  (run,) = found['runs']
  assert [x['step'] for x in run['steps']] == [0, 10, 20, 30]
  spans = [(x['from'], x['to']) for x in run['follow']]
  assert spans == [(10, 20), (20, 30), (10, 30)]
  assert states(trajectory, of, found)[0] == state
  span = run['follow'][-1]
  by_hand = []
  for seed in SEEDS:
    first, last = (parts.items('main/kl', seed, step) for step in (10, 30))
    rate = comparisons.follow_rate(first, last)
    followed = rate['moved_truth']['followed']['value']
    by_hand.append(followed - rate['still_truth']['moved_to_truth']['value'])
  assert span['excess']['per_seed'] == pytest.approx(by_hand)
  if says is GOOD:
    assert states(trajectory, of, found)[1] == AGREES
    assert 'above zero from step 10 on' in trajectory.finding(of, found)
  else:
    assert 'not shown to be above zero at the end' in trajectory.finding(of, found)


# Labels of others.

FOREIGN = '{workdir}/init/seed{seed}/label'


def sourced(all_foreign):
  """Own labels, half and all labels of another model; who follows them all or not."""
  runs = {
    'kl': Run(dict(self=0.75, target=0.15)),
    'half': Run(dict(self=0.45, target=0.35), labels=0.5),
    'old': Run(dict(self=0.5, target=0.35), labels=0.3),
    'all': Run(all_foreign, labels=1.0),
  }
  trains = {
    'half': train(labels=FOREIGN, mixture=0.5),
    'old': train(labels='step:250'),
    'all': train(labels=FOREIGN),
  }
  parts = small(runs, trains, SEEDS)
  return study('sources', runs), parts


def test_the_crossing_is_that_of_similarity_and_self_less_target():
  of, parts = sourced(dict(self=0.2, target=0.6))
  found = sources.numbers(of, parts)
  x_SxR, y_SxR = [], []
  for seed in SEEDS:
    x, y = [], []
    for name in of.runs:
      items, target = parts.items(name, seed), parts.target(name, seed)
      same_N = (target.answer_N == items.truth.answer_N) & (
        target.changed_N == items.truth.changed_N
      )
      x.append(same_N.mean())
      y.append(items.right(items.truth).mean() - items.right(target).mean())
    x_SxR.append(x)
    y_SxR.append(y)
  expected = runs_lib.zero_crossing(x_SxR, y_SxR)['crossing']
  crossing = found['crossing']['crossing']
  assert crossing['mean'] == pytest.approx(expected['value'])
  assert crossing['low'] == pytest.approx(expected['low'])
  lines = [np.polyfit(x, y, 1) for x, y in zip(x_SxR, y_SxR)]
  assert crossing['per_seed'] == pytest.approx([-a / b for b, a in lines])
  kinds = [x['source'] for x in found['runs']]
  assert kinds == ['own labels', 'another model', 'own lineage', 'another model']
  assert [x['mixture'] for x in found['runs']] == [0.0, 0.5, 1.0, 1.0]


@pytest.mark.parametrize(
  ('all_foreign', 'follows'),
  [(dict(self=0.2, target=0.6), DISAGREES), (dict(self=0.6, target=0.1), AGREES)],
)
def test_all_labels_of_another_model(all_foreign, follows):
  of, parts = sourced(all_foreign)
  found = sources.numbers(of, parts)
  assert states(sources, of, found)[2:] == [follows, AGREES]
  own, all_ = (found['runs'][i]['final']['self_accuracy']['per_seed'] for i in (0, 3))
  fall = found['runs'][3]['fall']['self_accuracy']
  assert fall['per_seed'] == pytest.approx([b - a for a, b in zip(own, all_)])
  sign = 1 if follows == AGREES else -1
  assert sign * found['runs'][3]['weights']['whole']['mean'] > 0.2


def test_a_crossing_that_is_not_located_is_said_not_to_be():
  """All labels own: no slope to speak of."""
  runs = {name: Run(GOOD) for name in ('a', 'b', 'c')}
  parts, of = small(runs, seeds=SEEDS), study('sources', runs)
  found = sources.numbers(of, parts)
  assert found['crossing']['crossing']['mean'] is None
  row = sources.rows(of, found)[1]
  assert row.state == UNDECIDED and row.here == 'not located'
  assert 'is not located' in sources.finding(of, found)


@pytest.mark.parametrize(
  ('slope', 'crossing', 'seen', 'state'),
  [
    (0.5, 0.7, (0.4, 0.9), AGREES),
    (0.5, 0.4, (0.3, 0.9), DISAGREES),
    (-0.5, 0.7, (0.4, 0.9), DISAGREES),
    (0.05, 0.7, (0.4, 0.9), UNDECIDED),
    (0.5, 0.3, (0.4, 0.7), UNDECIDED),  # neither the crossing nor 0.8 was reached
    (0.5, 0.3, (0.4, 0.9), DISAGREES),
    (0.5, 0.7, (0.3, 0.6), UNDECIDED),
  ],
)
def test_about_asks_for_a_rise_and_for_runs_that_reach_it(slope, crossing, seen, state):
  of = lambda x, half: {'mean': x, 'low': x - half, 'high': x + half}
  outside = not seen[0] <= crossing <= seen[1]
  found = {'slope': of(slope, 0.1), 'crossing': of(crossing, 0.05)}
  assert sources.about(found | {'seen': seen, 'extrapolated': outside}) == state


# Shifts.

IGNORE = dict(weight=1.0, target='ignore_cue', cues='all')


def shifted(says, **of_train):
  done = Run(says, 0.1, shifted=0.6, steps=(5, 10), swaps=True)
  runs = {'quiet': Run(GOOD, 0.05, steps=(5, 10)), 'moved': done}
  trains = {'moved': train(shift=IGNORE, **of_train)}
  parts = small(runs, trains, SEEDS)
  of = study('shift', ('quiet', 'moved'), companions=('', 'quiet'))
  return of, parts


@pytest.mark.parametrize(
  ('says', 'state', 'agreed'),
  [(GOOD, 'tracks', AGREES), (STALE, 'stays', DISAGREES), ({}, UNDECIDED, UNDECIDED)],
)
def test_a_cell_tracks_stays_or_is_not_decided(says, state, agreed):
  of, parts = shifted(says)
  found = shift.numbers(of, parts)
  (cell,) = found['cells']
  assert cell['states']['answer'] == cell['states']['label'] == state
  assert states(shift, of, found)[0] == agreed
  by_hand = []
  for seed in SEEDS:
    items, quiet = (parts.items(f'main/{x}', seed) for x in ('moved', 'quiet'))
    new_N, old_N = items.truth.answer_N, parts.orig('main/moved', seed).truth.answer_N
    counted_N = (new_N != old_N) & (quiet.truth.answer_N == old_N)
    said_N = items.stated.answer_N[counted_N]
    new, old = ((said_N == x_N[counted_N]).mean() for x_N in (new_N, old_N))
    by_hand.append(new - old)
  assert cell['views']['answer']['difference']['per_seed'] == pytest.approx(by_hand)
  assert [x['step'] for x in cell['steps']] == [5, 10]
  last = cell['steps'][-1]['answer']['difference']
  assert last == cell['views']['answer']['difference']


def test_tracking_asks_for_more_than_the_companion_says():
  def view(difference, gain):
    of = lambda x: {'mean': x, 'low': x - 0.1, 'high': x + 0.1}
    return {'difference': of(difference), 'gain': of(gain)}

  assert cells.state(view(0.3, 0.3)) == 'tracks'
  assert cells.state(view(0.3, 0.05)) == UNDECIDED
  assert cells.state(view(0.3, -0.3)) != 'tracks'
  assert cells.state(view(0.05, 0.3)) == UNDECIDED
  assert cells.state(view(-0.3, 0.3)) == 'stays'


def test_denial_tracks_with_a_star():
  """Who knows the own answer alone follows v', and this is marked."""
  of, parts = shifted(dict(denial=1.0))
  found = shift.numbers(of, parts)
  (cell,) = found['cells']
  assert cell['states']['answer'] == 'tracks' and cell['beyond'] != AGREES
  denial = cell['denial']['answer']['difference']
  assert denial == cell['views']['answer']['difference']
  tables = shift.tables(of, found, 'x')
  assert 'v’ tracks*' in tables['map'].rows[0][1][0].text
  assert 'not shown beyond the own answer' in shift.finding(of, found)
  of, parts = shifted(GOOD)
  told = shift.finding(of, shift.numbers(of, parts))
  assert 'not shown beyond' not in told and 'v’: tracks in moved' in told


def test_the_swap_test_tells_readers():
  of, parts = shifted(GOOD, context='after')
  found = shift.numbers(of, parts)
  (cell,) = found['cells']
  s = parts.seed('main/moved', 2)[0]
  by_hand = comparisons.swap_test(s.final('moved'), s.swapped('moved'))
  assert cell['swap']['to_changed']['per_seed'][1] == by_hand['to_changed']['value']
  assert 'they read the answer' in shift.finding(of, found)
  without = small({'quiet': Run(GOOD), 'moved': Run(GOOD, shifted=0.6)})
  assert shift.numbers(of, without)['cells'][0]['swap'] == {}


def test_a_cell_says_what_was_done():
  trains = {
    'kl': train(),
    'free': train(shift=IGNORE, explained='unshifted', context='after'),
    'first': train(shift=IGNORE, explains=0.0),
    'moved': train(shift=IGNORE | {'strength': 2.0, 'target': 'rotate'}),
    'second': train(start='first'),
    'third': train(start='kl', shift=IGNORE, explains=0.0),
    'one': train(shift=IGNORE | {'cues': 'source3', 'target': 'follow_cue'}),
  }
  parts = small({name: Run(GOOD) for name in trains}, trains, (1,))
  said = {x: cells.described(parts, f'main/{x}') for x in trains}
  assert said['free'] == {
    'kind': 'cues ignored',
    'strength': '–',
    'weights': '1, 2, 1',
    'rate': '0.004',
    'covered': 'not covered',
    'context': 'after',
    'order': 'concurrent',
  }
  assert said['second']['order'] == 'shift first'
  assert (
    said['second']['weights'] == '0, 2, 1' and said['third']['weights'] == '1, 0, 1'
  )
  assert said['moved']['strength'] == '2 nats'
  assert said['moved']['kind'] == 'answers moved fact by fact'
  assert said['second']['covered'] == 'covered'
  assert said['third']['order'] == 'explain first'
  assert said['one']['kind'] == 'cues followed, source3 alone'


def test_a_sibling_differs_in_seeds_alone():
  trains = {
    'a': train(shift=IGNORE),
    'b': train(shift=IGNORE | {'seed': 1}, evaluated='last'),
    'c': train(shift=IGNORE, context='after'),
    'quiet': train(),
  }
  runs = {name: Run(GOOD, 0.1, shifted=0.6) for name in trains}
  parts = small(runs | {'quiet': Run(GOOD, 0.05)}, trains, SEEDS)
  of = study('shift', ('a', 'b', 'c'), companions=('quiet',) * 3)
  found = {x['name']: x for x in shift.numbers(of, parts)['cells']}
  assert found['main/c']['sibling'] == {}
  pair = [parts.items(f'main/{x}', 3) for x in 'ab']
  by_hand = comparisons.sibling(*pair)['differing']['own']['value']
  assert found['main/a']['sibling']['differing']['own']['per_seed'][2] == by_hand


def test_similarity_above_the_condition_is_told():
  of, parts = shifted(GOOD)
  near = small(
    {'quiet': Run(GOOD, 0.02), 'moved': Run(GOOD, 0.02, shifted=0.1)}, seeds=SEEDS
  )
  assert shift.numbers(of, near)['cells'][0]['similar'] == AGREES
  far = shift.numbers(of, parts)
  assert far['cells'][0]['similar'] == DISAGREES
  assert 'the paper’s condition is not met' in shift.finding(of, far)


# A planted behaviour.

PLANTED = study('planted', ('planting',), companions=('kl',))


def plant(says, companion=NEUTRAL, planted_share=0.9, cues='unexplained'):
  runs = {'kl': Run(companion), 'planting': Run(says, planted=planted_share)}
  trains = {'planting': train(shift=dict(weight=1.0, cues=cues))}
  parts = small(runs, trains, SEEDS)
  return parts, planted.numbers(PLANTED, parts)


@pytest.mark.parametrize(
  ('says', 'share', 'state'),
  [
    (GOOD | {'self': 0.9}, 0.9, AGREES),
    (dict(denial=0.95), 0.9, DISAGREES),
    (dict(orig=0.6), 0.9, UNDECIDED),  # what the companion says
    (GOOD, 0.0, UNDECIDED),
  ],
)
def test_planted_behaviour(says, share, state):
  parts, found = plant(says, planted_share=share)
  assert states(planted, PLANTED, found) == [state]
  (run,) = found['runs']
  items, other = (
    parts.seed(f'main/{x}', 2)[0].unexplained[x] for x in ('planting', 'kl')
  )
  right = items.right(items.truth).mean()
  assert run['shares']['self_accuracy']['per_seed'][1] == pytest.approx(right)
  swapped = dataclasses.replace(items, stated=other.stated)
  said = swapped.right(items.truth).mean()
  assert run['shares']['companion_says']['per_seed'][1] == pytest.approx(said)
  assert run['over']['companion_says']['per_seed'][1] == pytest.approx(right - said)
  followed = (items.behavior_N == items.surface['cue_option']).mean()
  assert run['shares']['followed']['per_seed'][1] == pytest.approx(followed)
  told = planted.finding(PLANTED, found)
  assert ('nothing follows' in told) == (share == 0.0)


def test_planting_by_a_kind_of_cue_counts_items_of_that_kind_alone():
  parts, found = plant(GOOD | {'self': 0.9}, cues='source0')
  (run,) = found['runs']
  items = parts.items('main/planting', 2)
  of_kind_N = items.surface['cue_kind'] == 0  # the test's source0
  assert 0.3 < of_kind_N.mean() < 0.7
  right_N = items.right(items.truth)
  shares = run['shares']
  assert shares['self_accuracy']['per_seed'][1] == right_N[of_kind_N].mean()
  followed_N = items.behavior_N == items.surface['cue_option']
  assert shares['followed']['per_seed'][1] == followed_N[of_kind_N].mean()
  said_N = parts.items('main/kl', 2).stated.answer_N == items.truth.answer_N
  said_N &= parts.items('main/kl', 2).stated.changed_N == items.truth.changed_N
  assert shares['companion_says']['per_seed'][1] == said_N[of_kind_N].mean()
  assert states(planted, PLANTED, found) == [AGREES]
  with pytest.raises(WorkdirError, match="no item has a cue of the kind 'source9'"):
    plant(GOOD, cues='source9')


# Variety.


def test_explanations_that_collapse_are_warned_of():
  runs = {
    'kl': Run(GOOD, changed=0.4),
    'few': Run(dict(self=0.5, denial=0.4), changed=0.04),
    'none': Run(dict(denial=1.0), changed=0.01),
  }
  of = study('variety', runs, (1.0, 0.05, 0.01))
  found = variety.numbers(of, small(runs, seeds=SEEDS))
  assert states(variety, of, found) == [AGREES, AGREES]
  assert [bool(x['warning']) for x in found['doses']] == [False, True, True]
  for x in found['doses']:
    rate = x['final']['change_rate']
    pairs = zip(rate['stated']['per_seed'], rate['current']['per_seed'])
    assert x['excess']['said']['per_seed'] == pytest.approx(
      [a - b / 10 for a, b in pairs]
    )
  most, least = (found['doses'][i]['final']['balanced_self'] for i in (0, -1))
  fall = found['fall']['balanced_self']['mean']
  assert fall == pytest.approx(most['mean'] - least['mean'])
  assert 'warns from' in variety.finding(of, found)


def test_collapse_without_a_warning_disagrees():
  runs = {'kl': Run(GOOD, changed=0.4), 'few': Run(dict(denial=1.0), changed=0.2)}
  of = study('variety', runs, (1.0, 0.2))
  found = variety.numbers(of, small(runs, seeds=SEEDS))
  assert states(variety, of, found) == [AGREES, DISAGREES]
  assert 'warns at no share' in variety.finding(of, found)


@pytest.mark.parametrize(
  ('doses', 'state'),
  [
    ([(DISAGREES, ''), (AGREES, 'w')], AGREES),
    ([(UNDECIDED, ''), (AGREES, 'w')], UNDECIDED),
    ([(UNDECIDED, 'w'), (AGREES, 'w')], AGREES),
    ([(AGREES, ''), (AGREES, 'w')], DISAGREES),
    ([(DISAGREES, ''), (DISAGREES, 'w')], UNDECIDED),
  ],
)
def test_the_warning_must_be_wherever_collapse_may_be(doses, state):
  found = [{'collapsed': c, 'warning': w} for c, w in doses]
  assert variety.warned(found) == state


# Privileged access.


def outsiders(says, other=None):
  """A main run, and a model of another part that was trained on the same labels."""
  main, seeds = {'kl': Run(GOOD), 'sibling': Run(GOOD)}, SEEDS
  trains = {name: train() for name in main}
  paper = studied.Paper(
    title='Two',
    parts={
      'main': studied.part(trains, seeds, sibling='sibling'),
      'init': studied.part({'outsider': train()}, seeds),
    },
    studies={},
  )
  records = {
    'main': {seed: studied.records(main, seed) for seed in seeds},
    'init': {
      seed: studied.records({'outsider': other or Run(says)}, seed) for seed in seeds
    },
  }
  return parts_lib.Parts(paper, records)


ACCESS = dataclasses.replace(study('access', ()), runs=('main/kl', 'init/outsider'))


def test_access_is_who_is_right_about_the_main_run():
  parts = outsiders(STALE)
  knows = lambda seed, table: Explanation(*parts.orig('main/kl', seed).truth)
  found = access.numbers(ACCESS, parts, knows)
  speakers = {x['speaker']: x for x in found['speakers']}
  others = ('init/outsider', 'sibling', 'Bayes explainer')
  told = [f'{who}{more}' for who in others for more in ('', ', told')]
  assert list(speakers)[:7] == ['itself', *told]
  items = parts.items('main/kl', 3)
  for who, name in (('itself', 'main/kl'), ('init/outsider', 'init/outsider')):
    said = dataclasses.replace(items, stated=parts.items(name, 3).stated)
    right_N = said.right(items.truth)
    assert speakers[who]['right']['per_seed'][2] == pytest.approx(right_N.mean())
    changed_N = items.truth.changed_N == 1
    halves = right_N[changed_N].mean(), right_N[~changed_N].mean()
    assert speakers[who]['balanced']['per_seed'][2] == pytest.approx(np.mean(halves))
    answer_N = said.stated.answer_N == items.truth.answer_N
    assert speakers[who]['answer']['per_seed'][2] == pytest.approx(answer_N.mean())
  orig_N = dataclasses.replace(items, stated=parts.orig('main/kl', 3).truth)
  right = orig_N.right(items.truth).mean()
  assert speakers['Bayes explainer']['right']['per_seed'][2] == pytest.approx(right)
  own, other = (speakers[x]['right']['per_seed'] for x in ('itself', 'init/outsider'))
  less = speakers['init/outsider']['less']['right']['per_seed']
  assert less == pytest.approx([a - b for a, b in zip(own, other)])
  rows = access.rows(ACCESS, found)
  assert rows[0].state == AGREES and len(rows) == 3


def test_one_who_is_told_says_changed_where_the_answers_differ():
  items = studied.records({'kl': Run(GOOD)}, 1).final('kl')
  answer_N = np.array([0, 1, 2, 3, -1] * 64)
  changed_N = np.array([0, 1, 0, 1, -1] * 64)
  told = access._told(items, Explanation(answer_N, changed_N))
  expected_N = np.where(changed_N == -1, -1, answer_N != items.behavior_N)
  assert told.changed_N.tolist() == expected_N.tolist()
  assert told.answer_N is answer_N
  unnamed = dataclasses.replace(items, states_answer=False)
  told = access._told(unnamed, Explanation(answer_N, changed_N))
  assert np.all(told.changed_N[changed_N == 0] == 0)
  differ_N = (answer_N != items.behavior_N)[changed_N == 1]
  assert told.changed_N[changed_N == 1].tolist() == differ_N.astype(int).tolist()


def test_who_is_as_good_once_told_is_no_privilege():
  """An outsider that knows v' as well, but not the own answer."""
  parts = outsiders(STALE)
  for seed in SEEDS:
    s, items = parts.records['init'][seed], parts.items('main/kl', seed)
    wrong = Explanation(items.stated.answer_N, 1 - items.truth.changed_N)
    old = s.items['outsider'][10]
    s.items['outsider'][10] = dataclasses.replace(old, stated=wrong)
  found = access.numbers(ACCESS, parts, None)
  row = access.rows(ACCESS, found)[0]
  assert row.state != AGREES
  speakers = {x['speaker']: x for x in found['speakers']}
  assert speakers['init/outsider']['less']['right']['low'] > 0


def test_without_a_bayes_explainer_there_is_no_row_of_it():
  found = access.numbers(ACCESS, outsiders(STALE), None)
  assert len(access.rows(ACCESS, found)) == 2
  assert 'Bayes' not in access.finding(ACCESS, found)


def test_an_outsider_of_other_labels_or_items_is_refused():
  other = outsiders(STALE, Run(STALE, labels=0.5))
  with pytest.raises(WorkdirError, match='its labels are not those of main/kl'):
    access.numbers(ACCESS, other, None)
  parts = outsiders(STALE)
  parts.records['init'][2] = studied.records({'outsider': Run(STALE)}, 9)
  with pytest.raises(WorkdirError, match=r'outsider \(seed 2\).*prompt'):
    access.numbers(ACCESS, parts, None)


# What the regulariser does.

THREE = study('collapse', ('kl', 'plain', 'no_kl'))


def collapsing(none):
  """`plain` follows no cue, knows its v', and says "changed" as M_0 would."""
  runs = {'kl': Run(GOOD), 'plain': Run(GOOD, 0.3, 0.4), 'no_kl': none}
  trains = {
    'plain': train(kl=dict(prompts='counterfactual')),
    'no_kl': train(kl=dict(weight=0.0)),
  }
  parts = small(runs, trains, SEEDS)
  for s in parts.records['main'].values():
    items, rng = s.final('plain'), np.random.default_rng(5)
    kept_N = rng.random(len(items.group_N)) < 0.05
    answer_N = items.counterfactual_behavior_N
    s.items['plain'][10] = dataclasses.replace(
      items,
      behavior_N=np.where(kept_N, items.behavior_N, answer_N),
      stated=Explanation(answer_N, s.orig.truth.changed_N),
    )
  return collapse.numbers(THREE, parts)


def test_class_collapse_is_told_from_loss_of_coupling():
  """`plain` keeps its v' and loses its classes, `no_kl` the reverse."""
  found = collapsing(Run(NEUTRAL))
  assert [x['kind'] for x in found['runs']] == [
    'KL on both prompts', 'KL without the cue alone', 'no KL'
  ]  # fmt: skip
  assert [x['collapsed'] for x in found['runs']] == [DISAGREES, AGREES, DISAGREES]
  assert [x['lost'] for x in found['runs'][1:]] == [DISAGREES, AGREES]
  assert states(collapse, THREE, found) == [
    AGREES, DISAGREES, AGREES, DISAGREES, AGREES
  ]  # fmt: skip
  rates = found['runs'][1]['final']['change_rate']
  pairs = zip(rates['current']['per_seed'], rates['base']['per_seed'])
  excess = found['runs'][1]['rate']['excess']['per_seed']
  assert excess == pytest.approx([a - b / 2 for a, b in pairs])
  told = collapse.finding(THREE, found)
  assert 'KL without the cue alone: behaviour collapses to one class' in told
  assert 'no KL: behaviour does not collapse' in told
  assert 'tells of classes, not of v’' in told


# All of them.


@pytest.fixture(scope='module')
def whole():
  paper, records = studied.paper()
  knows = lambda seed, table: records['main'][seed].orig.truth
  return numbers_lib.numbers(paper, records, knows)


def test_every_kind_of_study_has_a_module(whole):
  assert {x['study']['kind'] for x in whole['studies'].values()} == set(
    numbers_lib.BY_KIND
  )
  for name, found in whole['studies'].items():
    assert found['rows'] and found['finding'], name


def test_statistics_are_those_of_the_evaluation(whole):
  paper, records = studied.paper()
  gap = whole['studies']['noise']['numbers']['doses'][2]['final']['gap']
  expected = [
    statistics.coupling(s.final('noise_50'), s.orig)['gap']['value']
    for s in records['main'].values()
  ]
  assert gap['per_seed'] == pytest.approx(expected)


def test_controls_stand_beside_the_main_run(whole):
  rows = {x['label']: x['final'] for x in whole['controls']['rows']}
  assert list(rows) == [
    'kl: main run', 'denial', 'majority', 'cue parrot',
    'sibling: sibling', 'shuffled: shuffled', 'no_kl: unregularised',
  ]  # fmt: skip
  assert rows['denial']['siding']['difference']['mean'] == pytest.approx(0.0)
  assert rows['kl: main run']['siding']['difference']['low'] > 0.3
  sibling = whole['controls']['sibling']
  own = sibling['explanations']['siding']['difference']['mean']
  assert own > 0.5 > abs(sibling['denial']['siding']['difference']['mean'])


def test_equal_records_give_equal_numbers(whole):
  paper, records = studied.paper()
  knows = lambda seed, table: records['main'][seed].orig.truth
  studies = {'noise': paper.studies['noise']}
  again = numbers_lib.numbers(
    dataclasses.replace(paper, studies=studies), copy.deepcopy(records), knows
  )
  assert again['studies']['noise'] == whole['studies']['noise']
  assert again['studies']['noise']['rows'][0]['state'] == rules.AGREES
