"""Shifts on purpose: what is counted, and what it is called."""

import dataclasses

import numpy as np
import pytest

from coupling.elicit.explanation import Explanation
from coupling.paper import cells, paper_seeds, shift_claims
from coupling.report import records
from coupling.report.conclusions import CONTRADICTED, INCONCLUSIVE, NOT_TESTED
from coupling.report.conclusions import SUPPORTED
from coupling.statistics import contrasts
from tests import recorded
from tests.studied import GOOD, SEEDS, Run, small, states, study, train


IGNORE = dict(weight=1.0, target='ignore_cue', cues='all')
ROTATE = dict(weight=1.0, target='rotate', cues='all', strength=3.0)
OLD = dict(orig=0.8)
# Shifts little enough that labels and behaviour agree on more than 0.7.
NEAR = dict(drift=0.02, shifted=0.2)


def shifted(says, shift=ROTATE, drift=0.1, shifted=0.6, **of_train):
  done = Run(says, drift, shifted=shifted, steps=(5, 10), swaps=True)
  runs = {'quiet': Run(GOOD, 0.05, steps=(5, 10)), 'moved': done}
  trains = {'moved': train(shift=shift, **of_train)}
  parts = small(runs, trains, SEEDS)
  of = study('shift', ('quiet', 'moved'), companions=('', 'quiet'))
  return of, parts


@pytest.mark.parametrize(
  ('says', 'of_run', 'state', 'agreed'),
  [
    (dict(self=0.9), NEAR, 'tracks', SUPPORTED),
    (OLD, NEAR, 'stays', CONTRADICTED),
    # Outside the paper's condition.
    (dict(self=0.9), {}, 'tracks', NOT_TESTED),
    (OLD, {}, 'stays', NOT_TESTED),
    (dict(self=0.3, orig=0.6), NEAR, 'follows in part', CONTRADICTED),
    ({}, {}, INCONCLUSIVE, NOT_TESTED),
  ],
)
def test_a_cell_tracks_stays_or_is_not_decided(says, of_run, state, agreed):
  of, parts = shifted(says, **of_run)
  found = shift_claims.numbers(of, parts)
  (cell,) = found['cells']
  assert list(cell['views']) == ['answer', 'change']
  assert cell['states']['answer'] == state
  assert states(shift_claims, of, found)[0] == agreed
  by_hand, less, gains = [], [], []
  for seed in SEEDS:
    items, quiet = (parts.items(f'main/{x}', seed) for x in ('moved', 'quiet'))
    new_N, old_N = items.truth.answer_N, parts.orig('main/moved', seed).truth.answer_N
    counted_N = (new_N != old_N) & (quiet.truth.answer_N == old_N)
    counted_N &= parts.seed('main/moved', seed)[0].shifted['moved']
    leaning = (
      ((said_N == new_N) * 1 - (said_N == old_N))[counted_N].mean()
      for said_N in (items.stated.answer_N, items.behavior_N)
    )
    by_hand.append(next(leaning))
    less.append(by_hand[-1] - next(leaning))
    mine, others = (x.stated.answer_N == new_N for x in (items, quiet))
    gains.append(mine[counted_N].mean() - others[counted_N].mean())
  view = cell['views']['answer']
  assert view['difference']['per_seed'] == pytest.approx(by_hand)
  assert view['denied']['gain']['per_seed'] == pytest.approx(less)
  assert view['gain']['per_seed'] == pytest.approx(gains)
  assert [x['step'] for x in cell['steps']] == [5, 10]
  assert cell['steps'][-1]['answer']['difference'] == view['difference']


def test_what_is_found_outside_the_condition_is_in_the_table():
  for says, state in ((dict(self=0.9), 'tracks'), (OLD, 'stays')):
    for of_run, similar in (({}, 'no'), (NEAR, 'yes')):
      of, parts = shifted(says, **of_run)
      found = shift_claims.numbers(of, parts)
      [(_, [said, condition, *_])] = shift_claims.tables(of, found, 'x')['answer'].rows
      assert (said.text, condition.text) == (state, similar)


def test_drift_on_items_that_the_shift_does_not_concern_is_not_counted():
  """Statements follow the shift, and stay with M_0 wherever a run drifts alone."""
  of, parts = shifted(OLD, drift=0.7, shifted=0.3)
  for s in parts.records['main'].values():
    items, named_N = s.final('moved'), s.shifted['moved']
    new_N = named_N & (np.arange(len(named_N)) % 11 > 0)
    stated = (np.where(new_N, a, b) for a, b in zip(items.truth, s.orig.truth))
    s.items['moved'][10] = dataclasses.replace(items, stated=Explanation(*stated))
  found = shift_claims.numbers(of, parts)
  assert found['cells'][0]['states'] == {'answer': 'tracks', 'change': 'tracks'}
  for s in parts.records['main'].values():
    s.shifted['moved'][:] = False
  parts = paper_seeds.Parts(parts.paper, parts.records, {}, {})
  (cell,) = shift_claims.numbers(of, parts)['cells']
  assert cell['views']['answer']['n']['mean'] == 0
  assert cell['states'] == {'answer': INCONCLUSIVE, 'change': INCONCLUSIVE}


def test_a_cell_is_judged_on_the_items_of_the_run_that_shifts():
  """Neither those of its companion nor, where it goes on from a shift, its own."""
  runs = {x: Run(GOOD, 0.1, shifted=0.5) for x in ('quiet', 'first', 'second')}
  trains = {'first': train(shift=ROTATE, explains=0.0), 'second': train(start='first')}
  parts = small(runs, trains, SEEDS)
  for name in ('first', 'second'):
    found = cells._shifted(parts, f'main/{name}', 2)
    assert found is parts.records['main'][2].shifted['first']


def test_what_cues_do_cannot_move_the_answer_without_them():
  of, parts = shifted(dict(self=0.9), IGNORE)
  found = shift_claims.numbers(of, parts)
  (cell,) = found['cells']
  assert list(cell['states']) == list(cell['views']) == ['change']
  assert [x.claim for x in shift_claims.rows(of, found)] == ['shift_change']
  rotated = shift_claims.numbers(*shifted(dict(self=0.9)))['cells'][0] | {
    'name': 'main/turned'
  }
  both = {'cells': [cell, rotated]}
  tables = shift_claims.tables(of, both, 'x')
  (_, known), (label, left_out) = tables['answer'].rows
  assert label == 'moved' and {x.text for x in left_out} == {'–'}
  assert len(left_out) == len(known) == len(tables['answer'].columns) - 1
  assert tables['map'].rows[0][1][0].text == 'moved: same/change tracks'
  drawn = shift_claims.figures(of, both)['cells'][1]()
  assert len(drawn.axes[0].containers) == 3  # v' of one, same/change of both


def test_tracking_asks_for_more_than_the_companion_and_denial_say():
  def view(difference, gain, denied=0.3):
    of = lambda x: {'mean': x, 'low': x - 0.1, 'high': x + 0.1}
    return {
      'difference': of(difference), 'gain': of(gain), 'denied': {'gain': of(denied)}
    }  # fmt: skip

  above, around = view(0.3, 0.3)['gain'], view(0.3, 0.05)['gain']
  assert cells.state(view(0.3, 0.3), above) == 'tracks'
  assert cells.state(view(0.3, 0.3), around) == INCONCLUSIVE
  assert cells.state(view(0.3, 0.3, 0.05), above) == INCONCLUSIVE
  assert cells.state(view(0.3, 0.3, -0.3), None) == 'tracks'  # SAME/CHANGE
  assert cells.state(view(0.3, 0.05), above) == INCONCLUSIVE
  assert cells.state(view(0.3, -0.3), above) == INCONCLUSIVE
  assert cells.state(view(0.05, 0.3), above) == INCONCLUSIVE
  assert cells.state(view(-0.3, 0.3), above) == 'follows in part'
  assert cells.state(view(-0.3, 0.05), above) == 'stays'


def test_denial_is_not_said_to_track():
  """Who knows the own answer alone sides with the new v', and that is all."""
  of, parts = shifted(dict(denial=1.0))
  found = shift_claims.numbers(of, parts)
  (cell,) = found['cells']
  view = cell['views']['answer']
  assert view['difference']['low'] > 0.2 and view['gain']['low'] > 0.2
  assert view['denied']['difference'] == view['difference']
  assert cell['states']['answer'] == INCONCLUSIVE
  assert states(shift_claims, of, found)[0] == NOT_TESTED  # behaviour is not alike
  row = shift_claims.rows(of, found)[0]
  assert row.number == pytest.approx(row.reference)


def test_the_swap_test_tells_readers():
  of, parts = shifted(GOOD, context='after')
  found = shift_claims.numbers(of, parts)
  (cell,) = found['cells']
  s = parts.seed('main/moved', 2)[0]
  by_hand = contrasts.swap_test(s.final('moved'), s.swapped('moved'))
  assert cell['swap']['to_changed']['per_seed'][1] == by_hand['to_changed']['value']
  without = small({'quiet': Run(GOOD), 'moved': Run(GOOD, shifted=0.6)})
  assert shift_claims.numbers(of, without)['cells'][0]['swap'] == {}


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
    'weights': '1, 2, 10',
    'rate': '0.004',
    'covered': 'not covered',
    'context': 'after',
    'order': 'concurrent',
  }
  assert said['second']['order'] == 'shift first'
  assert (
    said['second']['weights'] == '0, 2, 10' and said['third']['weights'] == '1, 0, 10'
  )
  assert said['moved']['strength'] == '2 nats'
  assert said['moved']['kind'] == 'answers moved fact by fact'
  assert said['second']['covered'] == 'covered'
  assert said['third']['order'] == 'explain first'
  assert said['one']['kind'] == 'cues followed, source3 alone'


def test_a_sibling_differs_in_seeds_alone():
  trains = {
    'a': train(shift=IGNORE),
    'b': train(seed=4, shift=IGNORE | {'seed': 1}, evaluated='last'),
    'c': train(shift=IGNORE, context='after'),
    'quiet': train(),
  }
  runs = {name: Run(GOOD, 0.1, shifted=0.6) for name in trains}
  parts = small(runs | {'quiet': Run(GOOD, 0.05)}, trains, SEEDS)
  of = study('shift', ('a', 'b', 'c'), companions=('quiet',) * 3)
  found = {x['name']: x for x in shift_claims.numbers(of, parts)['cells']}
  assert found['main/c']['sibling'] == {}
  pair = [parts.items(f'main/{x}', 3) for x in 'ab']
  by_hand = contrasts.sibling(*pair)['differing']['own']['value']
  assert found['main/a']['sibling']['differing']['own']['per_seed'][2] == by_hand


@pytest.mark.parametrize(
  ('says', 'state'),
  [({}, SUPPORTED), (dict(self=0.9), INCONCLUSIVE), (dict(self=1.0), CONTRADICTED)],
)
def test_a_cell_stands_beside_its_shift_with_shuffled_labels(says, state):
  """Explanations that follow as well without labels have not learned it from them."""
  trains = {'moved': train(shift=ROTATE), 'quiet': train()}
  trains['control'] = train(shift=ROTATE, shuffle_labels=True, evaluated='last')
  runs = {'quiet': Run(GOOD, 0.05), 'moved': Run(dict(self=0.9), **NEAR)}
  parts = small(runs | {'control': Run(says, **NEAR)}, trains, SEEDS)
  of = study('shift', tuple(trains), companions=('quiet', '', ''))
  found = shift_claims.numbers(of, parts)
  (cell,) = found['cells']
  both = ('main/moved', 'main/control')
  alone = [cells.cell(parts, x, 'main/quiet', ()) for x in both]
  views = [x['views']['answer'] for x in alone]
  assert alone[0]['shuffled'] == {}
  for key, pair in (
    ('gain', [x['difference'] for x in views]),
    ('denied_gain', [x['denied']['gain'] for x in views]),
    ('weights', [x['reliance']['answer'] for x in alone]),
  ):
    own, other = (np.array(x['per_seed']) for x in pair)
    assert cell['shuffled'][key]['per_seed'] == pytest.approx(own - other)
  (row,) = (
    x for x in shift_claims.rows(of, found) if x.claim == 'shift_beyond_shuffled'
  )
  assert row.state == state
  assert 'shuffled' in shift_claims.tables(of, found, 'x')
  # Of a cell that does not track nothing is supported; the control itself has none.
  stays = shift_claims.numbers(*shifted(OLD, **NEAR))['cells'][0]
  assert cells.beyond_shuffled(cell | {'states': stays['states']}) != SUPPORTED
  of = study('shift', tuple(trains)[::-1], companions=('quiet', '', 'quiet'))
  control, _ = shift_claims.numbers(of, parts)['cells']
  assert control['name'] == 'main/control' and control['shuffled'] == {}


def test_similarity_above_the_condition_is_told():
  of, parts = shifted(GOOD)
  near = shift_claims.numbers(*shifted(GOOD, **NEAR))
  assert near['cells'][0]['similar'] == SUPPORTED
  far = shift_claims.numbers(of, parts)
  assert far['cells'][0]['similar'] == CONTRADICTED
  assert {x.state for x in shift_claims.rows(of, far)} == {NOT_TESTED}


@pytest.mark.parametrize('unexplained', [(), ('source1',)])
def test_items_that_a_shift_concerns_are_those_its_config_names(tmp_path, unexplained):
  recorded.build(tmp_path, unexplained=unexplained)
  one = dict(target='ignore_cue', cues='source1')
  runs = {
    'kl': train(shift=one | {'weight': 1.0, 'cues': 'source0'}),
    'no_kl': train(shift=one),  # of no account
    'sibling': train(shift=one, explained='unshifted'),
    'shuffled': train(shift=one | {'weight': 1.0, 'cues': 'all'}),
  }
  for run, one in runs.items():
    recorded.teach(tmp_path, 0, run, train=one)
  e = dataclasses.replace(recorded.experiment(), runs=runs)
  found = records.read_seed(e, tmp_path, 0)
  (table,) = list(found.tables['kl'].values())[-1:]
  kind_N = np.array(table['cue_kind'].to_pylist())
  # What is never explained is no item.
  assert set(kind_N) == {'source0', 'source1'} - set(unexplained)
  for run, expected_N in (
    ('kl', kind_N == 'source0'),
    ('no_kl', np.zeros(len(kind_N), bool)),
    ('sibling', kind_N == 'source1'),
    ('shuffled', np.ones(len(kind_N), bool)),
  ):
    np.testing.assert_array_equal(found.shifted[run], expected_N, err_msg=run)
