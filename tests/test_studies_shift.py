"""Shifts on purpose: what is counted, and what it is called."""

import pytest

from coupling import comparisons
from coupling.studies import cells
from coupling.studies import shift
from coupling.studies.rules import AGREES, DISAGREES, UNDECIDED
from tests.studied import GOOD, SEEDS, STALE, Run, small, states, study, train


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
    'b': train(seed=4, shift=IGNORE | {'seed': 1}, evaluated='last'),
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
