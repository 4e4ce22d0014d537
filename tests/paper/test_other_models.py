"""Other models: their labels, and what they say of the main run."""

import dataclasses

import numpy as np
import pytest

from coupling.elicit.explanation import Explanation
from coupling.paper import access, paper_seeds, source_claims
from coupling.report.conclusions import CONTRADICTED, INCONCLUSIVE, NOT_TESTED
from coupling.report.conclusions import SUPPORTED
from coupling.runtime.workdir import WorkdirError
from coupling.statistics import across_seeds
from tests import studied
from tests.studied import GOOD, SEEDS, STALE, Run, small, states, study, train


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
  found = source_claims.numbers(of, parts)
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
  expected = across_seeds.zero_crossing(x_SxR, y_SxR)['crossing']
  crossing = found['lines']['raw']['crossing']
  assert crossing['mean'] == pytest.approx(expected['value'])
  assert crossing['low'] == pytest.approx(expected['low'])
  lines = [np.polyfit(x, y, 1) for x, y in zip(x_SxR, y_SxR)]
  assert crossing['per_seed'] == pytest.approx([-a / b for b, a in lines])
  kinds = [x['source'] for x in found['runs']]
  assert kinds == ['own labels', 'another model', 'own lineage', 'another model']
  assert [x['mixture'] for x in found['runs']] == [0.0, 0.5, 1.0, 1.0]
  answers = [x['weights']['answer']['per_seed'] for x in found['runs']]
  weights_SxR = np.transpose(answers)
  expected = across_seeds.zero_crossing(x_SxR, weights_SxR)
  line = found['lines']['weights']
  assert line['crossing']['mean'] == pytest.approx(expected['crossing']['value'])
  assert line['slope']['mean'] == pytest.approx(expected['slope']['value'])


@pytest.mark.parametrize(
  ('all_foreign', 'follows'),
  [(dict(self=0.2, target=0.6), CONTRADICTED), (dict(self=0.6, target=0.1), SUPPORTED)],
)
def test_all_labels_of_another_model(all_foreign, follows):
  of, parts = sourced(all_foreign)
  found = source_claims.numbers(of, parts)
  assert states(source_claims, of, found)[2:] == [follows, SUPPORTED]
  own, all_ = (found['runs'][i]['final']['self_accuracy']['per_seed'] for i in (0, 3))
  fall = found['runs'][3]['fall']['self_accuracy']
  assert fall['per_seed'] == pytest.approx([b - a for a, b in zip(own, all_)])
  sign = 1 if follows == SUPPORTED else -1
  assert sign * found['runs'][3]['weights']['answer']['mean'] > 0.2


def test_denial_does_not_follow_behaviour_under_foreign_labels():
  of, parts = sourced(dict(denial=0.9))
  found = source_claims.numbers(of, parts)
  assert found['runs'][3]['final']['target_gap']['low'] > 0.1
  assert states(source_claims, of, found)[2] == CONTRADICTED


def alike(says):
  """Runs on labels that agree with behaviour on 25 to 70%, and equal statements."""
  shares = (0.0, 0.3, 0.6, 1.0)
  runs = {f'run{i}': Run(says, labels=x) for i, x in enumerate(shares)}
  trains = {name: train(labels='step:250') for name in runs}
  of = study('sources', runs)
  return of, source_claims.numbers(of, small(runs, trains, SEEDS))


def test_a_perfect_follower_does_not_disagree():
  """Raw, its difference falls by arithmetic: (p - q)(1 - similarity)."""
  of, found = alike(dict(self=0.9))
  assert found['lines']['raw']['slope']['high'] < 0
  assert set(states(source_claims, of, found)) <= {INCONCLUSIVE, NOT_TESTED}


def test_an_imitator_has_no_crossing():
  """Raw, its difference rises to 0 where all agree."""
  of, found = alike(dict(target=0.9))
  assert found['lines']['raw']['slope']['low'] > 0
  assert SUPPORTED not in states(source_claims, of, found)
  line = found['lines']['weights']
  assert line['slope']['low'] < 0.1 and line['seen'][0] < 0.3


def test_a_fall_disagrees_only_where_labels_win():
  of = lambda x: {'mean': x, 'low': x - 0.1, 'high': x + 0.1}
  line = {'slope': of(-0.5), 'crossing': of(0.7), 'seen': (0.4, 0.9)}
  found = {'lines': {'weights': line | {'extrapolated': False}}}
  for weights, state in (((0.5, 0.3), INCONCLUSIVE), ((0.5, 0.05), INCONCLUSIVE),
                         ((0.5, -0.3), CONTRADICTED)):  # fmt: skip
    found['runs'] = [{'weights': {'answer': of(x)}} for x in weights]
    assert source_claims.rising(found) == source_claims.about(found) == state


def test_weights_that_are_not_defined_locate_nothing():
  of, found = alike(GOOD)
  found['runs'][1]['weights']['answer']['per_seed'][0] = None
  line = source_claims.crossing(found['runs'], 'weights.answer')
  assert line['slope']['mean'] is None and line['crossing']['mean'] is None


def test_a_crossing_that_is_not_located_is_said_not_to_be():
  """All labels own: no slope to speak of."""
  runs = {name: Run(GOOD) for name in ('a', 'b', 'c')}
  parts, of = small(runs, seeds=SEEDS), study('sources', runs)
  found = source_claims.numbers(of, parts)
  assert found['lines']['raw']['crossing']['mean'] is None
  row = source_claims.rows(of, found)[1]
  assert row.state == NOT_TESTED and row.number is None and row.reference == 0.7


@pytest.mark.parametrize(
  ('slope', 'crossing', 'seen', 'state'),
  [
    (0.5, 0.7, (0.4, 0.9), SUPPORTED),
    (0.5, 0.4, (0.3, 0.9), CONTRADICTED),
    (-0.5, 0.7, (0.4, 0.9), CONTRADICTED),
    (0.05, 0.7, (0.4, 0.9), INCONCLUSIVE),
    (0.5, 0.3, (0.4, 0.7), INCONCLUSIVE),  # neither the crossing nor 0.8 was reached
    (0.5, 0.3, (0.4, 0.9), CONTRADICTED),
    (0.5, 0.7, (0.3, 0.6), INCONCLUSIVE),
  ],
)
def test_about_asks_for_a_rise_and_for_runs_that_reach_it(slope, crossing, seen, state):
  of = lambda x, half: {'mean': x, 'low': x - half, 'high': x + half}
  outside = not seen[0] <= crossing <= seen[1]
  line = {'slope': of(slope, 0.1), 'crossing': of(crossing, 0.05), 'seen': seen}
  line |= {'extrapolated': outside}
  found = {'lines': {'weights': line}, 'runs': [{'weights': {'answer': of(-0.5, 0.1)}}]}
  assert source_claims.about(found) == state


# Privileged access.


def outsiders(says, other=None):
  """A main run, and a model of another part that was trained on the same labels."""
  main, seeds = {'kl': Run(GOOD), 'sibling': Run(GOOD)}, SEEDS
  trains = {name: train() for name in main}
  paper = studied.Paper(
    title='Two',
    looks=(len(seeds),),
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
  return paper_seeds.Parts(paper, records, {}, {})


ACCESS = dataclasses.replace(study('access', ()), runs=('main/kl', 'init/outsider'))


def test_access_is_who_is_right_about_the_main_run():
  parts = outsiders(STALE)
  knows = lambda seed, table: Explanation(*parts.orig('main/kl', seed).truth)
  parts.bayes['main'] = knows
  found = access.numbers(ACCESS, parts)
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
  assert rows[0].state == SUPPORTED and len(rows) == 3
  learned = {x['name']: x['target_accuracy'] for x in found['learned']}
  assert list(learned) == ['main/kl', 'init/outsider', 'main/sibling']
  for name, accuracy in learned.items():
    items = parts.items(name, 3)
    met = items.right(parts.target(name, 3)).mean()
    assert accuracy['per_seed'][2] == pytest.approx(met)
  assert [x.about for x in rows] == list(others)
  both = [speakers[f'init/outsider{x}']['less']['answer'] for x in ('', ', told')]
  assert rows[0].low == min(x['low'] for x in both)


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
  found = access.numbers(ACCESS, parts)
  row = access.rows(ACCESS, found)[0]
  assert row.state != SUPPORTED
  speakers = {x['speaker']: x for x in found['speakers']}
  assert speakers['init/outsider']['less']['right']['low'] > 0


def test_without_a_bayes_explainer_there_is_no_row_of_it():
  found = access.numbers(ACCESS, outsiders(STALE))
  assert len(access.rows(ACCESS, found)) == 2


def test_an_outsider_of_other_labels_or_items_is_refused():
  other = outsiders(STALE, Run(STALE, labels=0.5))
  with pytest.raises(WorkdirError, match='its labels are not those of main/kl'):
    access.numbers(ACCESS, other)
  parts = outsiders(STALE)
  parts.records['init'][2] = studied.records({'outsider': Run(STALE)}, 9)
  with pytest.raises(WorkdirError, match=r'outsider \(seed 2\).*prompt'):
    access.numbers(ACCESS, parts)
