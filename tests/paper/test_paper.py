"""Studies of planted explainers: numbers, and what they decide."""

import copy
import dataclasses

import numpy as np
import pytest

from coupling.config import schema
from coupling.elicit.explanation import Explanation
from coupling.paper import collapse
from coupling.paper import control_claims
from coupling.paper import iterated_claims
from coupling.paper import paper_seeds
from coupling.paper import planted_claims
from coupling.paper import study_numbers
from coupling.paper import variety_claims
from coupling.report import conclusions
from coupling.report.conclusions import CONTRADICTED, INCONCLUSIVE, SUPPORTED
from coupling.runtime.workdir import WorkdirError
from coupling.statistics import intervals
from coupling.statistics import scores
from tests import patched
from tests import studied
from tests.studied import GOOD, NEUTRAL, SEEDS, STALE, Run
from tests.studied import small, states, study, train


# A planted behaviour.

PLANTED = study('planted', ('planting',), companions=('kl',))


def plant(says, companion=NEUTRAL, planted_share=0.9, **shift):
  runs = {'kl': Run(companion), 'planting': Run(says, planted=planted_share)}
  dpo = shift.pop('dpo', None)
  planting = train(shift=dict(weight=1.0, cues='unexplained') | shift)
  if dpo:
    planting = train(shift=dict(weight=0.0))
    terms = dataclasses.replace(planting.objectives, dpo=dpo)
    planting = dataclasses.replace(planting, objectives=terms)
  trains = {'planting': planting}
  parts = small(runs, trains, SEEDS)
  return parts, planted_claims.numbers(PLANTED, parts)


@pytest.mark.parametrize(
  ('says', 'share', 'state'),
  [
    (GOOD | {'self': 0.9}, 0.9, SUPPORTED),
    (dict(denial=0.95), 0.9, CONTRADICTED),
    (dict(orig=0.6), 0.9, INCONCLUSIVE),  # what the companion says
    (GOOD, 0.0, INCONCLUSIVE),
  ],
)
def test_planted_behaviour(says, share, state):
  parts, found = plant(says, planted_share=share)
  assert states(planted_claims, PLANTED, found) == [state]
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


@pytest.mark.parametrize(
  'shift', [dict(cues='source0'), dict(dpo=schema.DPO(weight=1.0, cues='source0'))]
)
def test_planting_by_a_kind_of_cue_counts_items_of_that_kind_alone(shift):
  parts, found = plant(GOOD | {'self': 0.9}, **shift)
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
  assert states(planted_claims, PLANTED, found) == [SUPPORTED]
  with pytest.raises(WorkdirError, match="no item has a cue of the kind 'source9'"):
    plant(GOOD, cues='source9')


# Rounds.

ROUNDS = ('kl', 'again_2', 'again_3')


def rounds(refreshed, fixed, second=None):
  runs = {'kl': Run(GOOD), 'fixed_2': Run(fixed), 'fixed_3': Run(fixed)}
  runs |= {'again_2': Run(second or refreshed), 'again_3': Run(refreshed)}
  of = study('iterated', ROUNDS, (1, 2, 3), 'round', ['', 'fixed_2', 'fixed_3'])
  found = iterated_claims.numbers(of, small(runs, seeds=SEEDS))
  return found, states(iterated_claims, of, found)


def test_refreshed_labels_that_help_agree_and_those_that_do_not_disagree():
  found, decided = rounds(dict(self=0.9), GOOD)
  assert decided[:3] == [SUPPORTED] * 3 and decided[3] != CONTRADICTED
  last = found['rounds'][-1]
  gains = zip(*(last[x]['self_accuracy']['per_seed'] for x in ('refreshed', 'fixed')))
  more = last['contrast']['self_accuracy']
  assert more['per_seed'] == pytest.approx([a - b for a, b in gains])
  # A difference of shares is none: its interval is not held between 0 and 1.
  plain = intervals.seed_interval(more['per_seed'])
  assert (more['low'], more['high']) == pytest.approx(plain[1:])
  assert rounds(STALE, GOOD)[1][:2] == [CONTRADICTED] * 2
  assert rounds(GOOD, STALE)[1][2] == CONTRADICTED
  assert rounds(GOOD, GOOD, second=STALE)[1][3] == CONTRADICTED  # it has not settled


@pytest.mark.parametrize(
  ('learns', 'state'), [(GOOD, SUPPORTED), (STALE, INCONCLUSIVE)]
)
def test_only_what_was_learned_settles(learns, state):
  found, _ = rounds(learns, GOOD)
  found['later']['self_accuracy'] |= dict(mean=0.0, low=-1e-4, high=1e-4)
  of = study('iterated', ROUNDS, (1, 2, 3), 'round')
  assert states(iterated_claims, of, found)[3] == state


# Variety.


def test_explanations_that_collapse_are_warned_of():
  runs = {
    'kl': Run(GOOD, changed=0.4),
    'few': Run(dict(self=0.5, denial=0.4), changed=0.04),
    'fewer': Run(dict(denial=1.0), changed=0.01),
  }
  of = study('variety', runs, (1.0, 0.05, 0.01))
  found = variety_claims.numbers(of, small(runs, seeds=SEEDS))
  assert states(variety_claims, of, found) == [SUPPORTED, SUPPORTED]
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


def test_collapse_without_a_warning_disagrees():
  runs = {'kl': Run(GOOD, changed=0.4), 'few': Run(dict(denial=1.0), changed=0.2)}
  of = study('variety', runs, (1.0, 0.2))
  found = variety_claims.numbers(of, small(runs, seeds=SEEDS))
  assert states(variety_claims, of, found) == [SUPPORTED, CONTRADICTED]
  number = variety_claims.rows(of, found)[1].number
  assert number == found['doses'][1]['excess']['said']['mean'] < 0


def test_collapse_is_decided_where_change_is_trained_at_all():
  runs = {
    'kl': Run(GOOD, changed=0.4),
    'few': Run(GOOD, changed=0.04),
    'none': Run(dict(denial=1.0), changed=0.0),
  }
  of = study('variety', ('none', 'few', 'kl'), (0.0, 0.05, 1.0))
  found = variety_claims.numbers(of, small(runs, seeds=SEEDS))
  assert [x['collapsed'] for x in found['doses']] == [
    CONTRADICTED,
    CONTRADICTED,
    SUPPORTED,
  ]
  assert states(variety_claims, of, found) == [CONTRADICTED, INCONCLUSIVE]


@pytest.mark.parametrize(
  ('doses', 'state'),
  [
    ([(CONTRADICTED, 'w'), (SUPPORTED, 'w')], SUPPORTED),
    ([(CONTRADICTED, ''), (CONTRADICTED, 'w'), (SUPPORTED, 'w')], SUPPORTED),
    ([(CONTRADICTED, ''), (SUPPORTED, 'w')], INCONCLUSIVE),  # no earlier than collapse
    ([(CONTRADICTED, 'w'), (INCONCLUSIVE, ''), (SUPPORTED, 'w')], INCONCLUSIVE),
    ([(INCONCLUSIVE, 'w'), (SUPPORTED, 'w')], INCONCLUSIVE),
    ([(CONTRADICTED, 'w'), (INCONCLUSIVE, 'w'), (SUPPORTED, 'w')], SUPPORTED),
    ([(SUPPORTED, 'w'), (CONTRADICTED, 'w')], INCONCLUSIVE),
    ([(CONTRADICTED, 'w'), (SUPPORTED, ''), (SUPPORTED, 'w')], CONTRADICTED),
    ([(CONTRADICTED, ''), (CONTRADICTED, 'w')], INCONCLUSIVE),
  ],
)
def test_the_warning_must_be_wherever_collapse_may_be(doses, state):
  found = [{'collapsed': c, 'warning': w} for c, w in doses]
  assert variety_claims.warned(found) == state


# What the regulariser does.

FOUR = study('collapse', ('kl', 'plain', 'no_kl', 'held'))


def collapsing(none, full=None):
  """`plain` follows no cue, knows its v', and says "changed" as M_0 would."""
  held = Run(GOOD, 0.1)
  runs = {'kl': Run(full or GOOD), 'plain': Run(GOOD, 0.3, 0.4), 'no_kl': none}
  runs |= {'held': held, 'shuffled': Run({})}
  trains = {
    'plain': train(kl=dict(prompts='counterfactual')),
    'no_kl': train(kl=dict(weight=0.0)),
    'held': train(practice=True),
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
  return collapse.numbers(FOUR, parts)


def test_class_collapse_is_told_from_loss_of_coupling():
  """`plain` keeps its v' and loses its classes, `no_kl` the reverse."""
  found = collapsing(Run(NEUTRAL))
  assert [x['kind'] for x in found['runs']] == [
    'KL on both prompts', 'KL without the cue alone', 'no KL',
    'KL, on held-out facts too',
  ]  # fmt: skip
  assert [x['collapsed'] for x in found['runs']] == [
    CONTRADICTED, SUPPORTED, CONTRADICTED, CONTRADICTED
  ]  # fmt: skip
  assert [x.get('lost') for x in found['runs']] == [None, CONTRADICTED, SUPPORTED, None]
  assert states(collapse, FOUR, found) == [
    SUPPORTED, CONTRADICTED, SUPPORTED, SUPPORTED, CONTRADICTED, SUPPORTED
  ]  # fmt: skip
  rates = found['runs'][1]['final']['change_rate']
  pairs = zip(rates['current']['per_seed'], rates['base']['per_seed'])
  excess = found['runs'][1]['rate']['excess']['per_seed']
  assert excess == pytest.approx([a - b / 2 for a, b in pairs])
  held = found['runs'][3]['contrast']
  gaps = [found['runs'][i]['final']['gap']['per_seed'] for i in (0, 3)]
  assert held['gap']['per_seed'] == pytest.approx([a - b for a, b in zip(*gaps)])


def test_a_gap_on_v_that_denial_has_does_not_keep_the_coupling():
  """Nearly all truths are "same", so v' is the own answer, and denial has a gap."""
  found = collapsing(Run(dict(denial=0.9), 0.6, 0.03))
  x = found['runs'][2]
  assert conclusions.above(x['half']['gap_answer']) == CONTRADICTED
  assert conclusions.above(x['half']['reliance_answer_difference']) == SUPPORTED
  assert x['lost'] == INCONCLUSIVE
  assert collapse.rows(FOUR, found)[-1].state == INCONCLUSIVE


def test_what_was_never_there_is_not_lost():
  found = collapsing(Run(NEUTRAL), NEUTRAL)
  assert [x.get('lost') for x in found['runs'][1:3]] == [INCONCLUSIVE, INCONCLUSIVE]


# All of them.


@pytest.fixture(scope='module')
def whole():
  paper, records = studied.paper()
  knows = lambda seed, table: records['main'][seed].orig.truth
  parts = paper_seeds.Parts(paper, records, {'main': knows}, patched.of_paper(paper))
  return study_numbers.numbers(parts, studied.PROVENANCE, [])


def test_every_kind_of_study_has_a_module(whole):
  assert {x['study']['kind'] for x in whole['studies'].values()} == set(
    study_numbers.BY_KIND
  )
  assert {x['study'] for x in whole['conclusions']} == {'controls', *whole['studies']}


def test_statistics_are_those_of_the_evaluation(whole):
  paper, records = studied.paper()
  gap = whole['studies']['noise']['numbers']['doses'][2]['final']['gap']
  expected = [
    scores.coupling(s.final('noise_50'), s.orig)['gap']['value']
    for s in records['main'].values()
  ]
  assert gap['per_seed'] == pytest.approx(expected)


def test_controls_stand_beside_the_main_run(whole):
  rows = {x['label']: x['final'] for x in whole['controls']['rows']}
  assert list(rows) == [
    'kl: main run', 'denial', 'majority', 'cue parrot',
    'sibling: sibling', 'shuffled: shuffled', 'no_kl: unregularised',
  ]  # fmt: skip
  assert rows['denial']['reliance']['difference']['mean'] == pytest.approx(0.0)
  assert rows['kl: main run']['reliance']['difference']['low'] > 0.3
  sibling = whole['controls']['sibling']
  smaller = {name: x['beyond_shared']['smaller']['mean'] for name, x in sibling.items()}
  assert smaller['explanations'] > 0.5 and smaller['denial'] == 0.0
  states = [x['state'] for x in whole['conclusions'] if x['study'] == 'controls']
  assert states == [SUPPORTED, SUPPORTED]
  weights = [rows[x]['reliance_answer']['difference']['mean'] for x in (
    'kl: main run', 'shuffled: shuffled'
  )]  # fmt: skip
  more = whole['controls']['over_shuffled']['reliance_answer_difference']
  assert more['mean'] == pytest.approx(weights[0] - weights[1])


@pytest.mark.parametrize('says', [dict(denial=0.9), {}])
def test_controls_are_not_exceeded_by_denial(says):
  runs = {name: Run(says) for name in ('kl', 'sibling')} | {'shuffled': Run({})}
  roles = dict(sibling='sibling', shuffled='shuffled')
  found = control_claims.numbers(small(runs, seeds=SEEDS, **roles))
  assert [x.state for x in control_claims.rows(found)] == [INCONCLUSIVE, INCONCLUSIVE]
  alone = control_claims.numbers(small({'kl': Run(says)}))
  assert control_claims.rows(alone) == []


def test_equal_records_give_equal_numbers(whole):
  paper, records = studied.paper()
  noise = dataclasses.replace(paper, studies={'noise': paper.studies['noise']})
  parts = paper_seeds.Parts(noise, copy.deepcopy(records), {}, {})
  again = study_numbers.numbers(parts, studied.PROVENANCE, [])
  assert again['studies']['noise'] == whole['studies']['noise']
  [first] = [x for x in again['conclusions'] if x['claim'] == 'noise_gap']
  assert first['state'] == SUPPORTED
