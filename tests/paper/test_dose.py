"""Doses and training: how the gap goes with them."""

import dataclasses

import pytest

from coupling.config.schema import ConfigError
from coupling.paper import dose, trajectory
from coupling.report.conclusions import CONTRADICTED, INCONCLUSIVE, SUPPORTED
from coupling.statistics import contrasts
from tests.studied import GOOD, NEUTRAL, SEEDS, STALE, Run, small, states, study, train


WEIGHTS = study('regularisation', ('no_kl', 'kl'), (0.0, 1.0), 'weight')


def controlled(runs, trains=None, shuffled=None):
  """Parts with a run of shuffled labels, which is at no dose."""
  runs = runs | {'shuffled': shuffled or Run({})}
  return small(runs, trains, SEEDS, shuffled='shuffled')


def weighted(with_it, without, shuffled=None):
  runs = {'no_kl': Run(without), 'kl': Run(with_it)}
  return dose.numbers(WEIGHTS, controlled(runs, shuffled=shuffled))


def test_regularisation_that_matters_agrees():
  found = weighted(GOOD, NEUTRAL)
  assert states(dose, WEIGHTS, found) == [SUPPORTED] * 5
  for key in ('gap', 'balanced_gap', 'gap_answer'):
    gaps = [x['final'][key]['per_seed'] for x in found['doses']]
    half = [b / 2 - a for a, b in zip(*gaps)]
    assert found['half'][key]['per_seed'] == pytest.approx(half)
    full = [b - a for a, b in zip(*gaps)]
    assert found['contrast'][key]['per_seed'] == pytest.approx(full)


def test_regularisation_without_consequence_disagrees():
  found = weighted(GOOD, GOOD)
  assert states(dose, WEIGHTS, found) == [SUPPORTED, SUPPORTED] + [CONTRADICTED] * 3
  # Where there is no effect with it, none is lost without.
  stale = weighted(STALE, STALE)
  assert states(dose, WEIGHTS, stale) == [CONTRADICTED] * 2 + [INCONCLUSIVE] * 3


@pytest.mark.parametrize(
  ('shuffled', 'state'),
  [
    (Run({}), SUPPORTED),
    (Run(GOOD), INCONCLUSIVE),
    (Run(dict(self=0.9)), CONTRADICTED),
  ],
)
def test_a_gap_must_exceed_that_of_shuffled_labels(shuffled, state):
  found = weighted(GOOD, NEUTRAL, shuffled)
  assert states(dose, WEIGHTS, found)[0] == state
  weights = [
    x['reliance_answer']['difference']['per_seed']
    for x in (found['doses'][1]['final'], found['shuffled'])
  ]
  more = found['doses'][1]['control']['reliance_answer_difference']
  assert more['per_seed'] == pytest.approx([a - b for a, b in zip(*weights)])


def test_a_gap_that_denial_has_is_no_coupling():
  """Its gap is well above that of shuffled labels, its weights are not."""
  found = weighted(dict(denial=0.9), NEUTRAL)
  with_it = found['doses'][1]
  assert with_it['final']['gap']['low'] > 0.02 < with_it['control']['gap']['low']
  # That its reliance is below the least that matters is shown.
  assert states(dose, WEIGHTS, found)[:2] == [INCONCLUSIVE, CONTRADICTED]


def test_without_shuffled_labels_a_gap_is_not_decided():
  parts = small({'no_kl': Run(NEUTRAL), 'kl': Run(GOOD)}, seeds=SEEDS)
  row, weights, *_ = dose.rows(WEIGHTS, dose.numbers(WEIGHTS, parts))
  assert row.state == INCONCLUSIVE and row.reference is None
  assert weights.state == SUPPORTED


def test_a_study_without_its_dose_is_refused():
  parts = small({'no_kl': Run(GOOD), 'kl': Run(GOOD)})
  wrong = dataclasses.replace(WEIGHTS, at=(0.0, 2.0))
  with pytest.raises(ConfigError, match='needs a run at 1'):
    dose.numbers(wrong, parts)


@pytest.mark.parametrize(
  ('last', 'state'), [(GOOD, SUPPORTED), (STALE, CONTRADICTED), (NEUTRAL, CONTRADICTED)]
)
def test_noise_is_survived_where_every_dose_has_a_gap(last, state):
  of = study('noise', ('kl', 'half'), (0.0, 0.5), 'noise')
  parts = controlled({'kl': Run(GOOD), 'half': Run(last)})
  found = dose.numbers(of, parts)
  assert states(dose, of, found) == [state, state]
  gap = dose.rows(of, found)[0]
  lows = [x['final']['gap']['low'] for x in found['doses']]
  assert gap.low == min(lows) and gap.reference == found['shuffled']['gap']['mean']


def ranked(low, high):
  runs = {'a': Run(low), 'b': Run(high), 'full': Run(GOOD)}
  trains = {'a': train(rank=4), 'b': train(rank=64), 'full': train(rank=0)}
  parts = controlled(runs, trains)
  return study('capacity', runs, (4, 64, 0), 'rank'), parts


def test_capacity_is_a_slope_on_the_log_of_the_rank_and_full_has_none():
  of, parts = ranked(NEUTRAL, GOOD)
  found = dose.numbers(of, parts)
  assert [x['label'] for x in found['doses']] == ['4', '64', 'full']
  first, last = (x['final']['gap']['per_seed'] for x in found['doses'][:2])
  slopes = [(b - a) / 4 for a, b in zip(first, last)]  # four doublings
  assert found['slope']['gap']['per_seed'] == pytest.approx(slopes)
  assert states(dose, of, found) == [SUPPORTED, SUPPORTED]
  assert found['width'] == 64


def test_capacity_without_consequence_is_not_called_a_threshold():
  of, parts = ranked(GOOD, GOOD)
  found = dose.numbers(of, parts)
  assert states(dose, of, found)[1] == CONTRADICTED
  of, parts = ranked(GOOD, STALE)
  found = dose.numbers(of, parts)
  assert states(dose, of, found) == [CONTRADICTED, CONTRADICTED]


def test_rates_are_a_slope_on_their_log():
  of = study('rates', ('a', 'b'), (1e-3, 4e-3), 'rate')
  parts = small({'a': Run(NEUTRAL), 'b': Run(GOOD)}, seeds=SEEDS)
  found = dose.numbers(of, parts)
  first, last = (x['final']['gap']['per_seed'] for x in found['doses'])
  slopes = [(b - a) / 2 for a, b in zip(first, last)]
  assert found['slope']['gap']['per_seed'] == pytest.approx(slopes)
  assert states(dose, of, found) == [SUPPORTED] * 3


# Over training.


@pytest.mark.parametrize(('says', 'state'), [(GOOD, SUPPORTED), (STALE, CONTRADICTED)])
def test_trajectory_ends_and_follows(says, state):
  of = study('trajectory', ('kl',))
  parts = controlled({'kl': Run(says, 0.5, steps=(0, 10, 20, 30))})
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
    rate = contrasts.follow_rate(first, last, parts.orig('main/kl', seed))
    followed = rate['moved_truth']['followed']['value']
    by_hand.append(followed - rate['still_truth']['moved_to_truth']['value'])
  assert span['excess']['per_seed'] == pytest.approx(by_hand)
  if says is GOOD:
    assert states(trajectory, of, found)[1] == SUPPORTED


def test_denial_is_not_said_to_follow():
  """It follows a truth that moves, as it knows the own answer, a part of it."""
  of = study('trajectory', ('kl',))
  parts = controlled({'kl': Run(dict(denial=0.9), 0.7, steps=(0, 10, 20))})
  found = trajectory.numbers(of, parts)
  span = found['runs'][0]['follow'][-1]
  assert span['excess']['low'] > 0.1
  assert states(trajectory, of, found)[1] == INCONCLUSIVE
