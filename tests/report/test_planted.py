"""What is concluded of a planted behaviour, and the run it is compared with."""

import copy
import dataclasses

import pytest

from configs import jabberwocky
from coupling.config.validate import resolve
from coupling.report import aggregate, planted, verdict
from coupling.report.conclusions import CONTRADICTED, INCONCLUSIVE, NOT_TESTED
from coupling.report.conclusions import SUPPORTED
from data import world
from tests import recorded


def statistic(mean, width=0.05):
  return {'mean': mean, 'low': mean - width, 'high': mean + width, 'per_seed': [mean]}


# As the paper has it: planted, explained at 79.8%, "changed" said where it is true.
SHOWN = dict(
  kl=dict(followed=0.9, self_accuracy=0.8, denial=0.3, changed=0.6, stated=0.7),
  explained_only=dict(
    followed=0.25, self_accuracy=0.9, denial=0.95, changed=0.05, stated=0.1
  ),
)


def described(term='behavior_xent', **changes):
  """A summary of `kl`, which plants, and its control; values as run__name=mean.

  `term`: of the loss, by which it is planted.
  """
  config = jabberwocky.get_config('path=mmlu,seeds=1')
  if term == 'dpo':
    objectives = config.train.objectives
    objectives.dpo.update(weight=1.0, target='follow_cue', cues='unexplained')
    objectives.behavior_xent.weight = 0.0
    control = config.runs.explained_only.objectives
    control.update(dpo=dict(weight=0.0))
  runs = {run: dataclasses.asdict(x) for run, x in resolve(config).runs.items()}
  values = copy.deepcopy(SHOWN)
  for path, mean in changes.items():
    run, name = path.split('__')
    values[run][name] = mean
  return {
    'roles': {'main': 'kl'},
    'config': {'runs': runs},
    'planted': {
      run: {name: statistic(mean) for name, mean in found.items()}
      for run, found in values.items()
    },
  }


def only(summary):
  [found] = planted.rows(summary)
  assert found.claim == 'planted' and found.about == 'kl'
  return found


@pytest.mark.parametrize('term', ['behavior_xent', 'dpo'])
def test_a_planted_behaviour_that_is_explained_is_said_to_be(term):
  found = only(described(term))
  assert found.state == SUPPORTED
  assert (found.number, found.low, found.high) == (0.8, 0.75, 0.8 + 0.05)
  assert found.reference == 0.3


@pytest.mark.parametrize(
  ('changes', 'state'),
  [
    (dict(explained_only__followed=0.81), NOT_TESTED),  # not shown to be planted
    (dict(kl__denial=0.71), INCONCLUSIVE),
    (dict(kl__denial=0.89), INCONCLUSIVE),
    (dict(kl__denial=0.91), CONTRADICTED),
    (dict(explained_only__stated=0.61), INCONCLUSIVE),
    (dict(kl__changed=0.71), INCONCLUSIVE),
    (dict(kl__changed=0.69), SUPPORTED),
    (dict(explained_only__stated=0.59), SUPPORTED),
    (dict(kl__denial=0.69), SUPPORTED),
    (dict(explained_only__followed=0.79), SUPPORTED),
  ],
)
def test_intervals_that_overlap_conclude_nothing(changes, state):
  assert only(described(**changes)).state == state


def test_without_intervals_nothing_is_concluded():
  summary = described()
  summary['planted']['kl']['followed'] |= {'low': None, 'high': None}
  assert only(summary).state == NOT_TESTED


def test_without_its_control_nothing_is_concluded():
  summary = described()
  del summary['config']['runs']['explained_only']
  assert only(summary).state == NOT_TESTED


def test_where_nothing_is_planted_there_is_no_row(tmp_path):
  for name, value in (('weight', 0.0), ('target', 'ignore_cue'), ('cues', 'explained')):
    summary = described()
    for train in summary['config']['runs'].values():
      train['objectives']['behavior_xent'][name] = value
    assert planted.rows(summary) == []
  recorded.build(tmp_path, unexplained=('source1',))
  summary = aggregate.summarize(recorded.experiment(1), tmp_path)
  assert 'planted' in summary
  assert 'planted' not in {x['claim'] for x in verdict.conclude(summary)}


def test_the_conclusions_of_records_hold_the_planted_behaviour(tmp_path):
  """The cues of source1 never explained; `kl` plants, `no_kl` is its control."""
  recorded.build(tmp_path, unexplained=('source1',))
  e = recorded.experiment(1, unregularised='')
  control = e.runs['kl']
  shift = dataclasses.replace(
    control.objectives.behavior_xent,
    weight=1.0,
    target='follow_cue',
    cues='unexplained',
  )
  without = dataclasses.replace(shift, weight=0.0)
  runs = {
    run: dataclasses.replace(
      control, objectives=dataclasses.replace(control.objectives, behavior_xent=x)
    )
    for run, x in (('kl', shift), ('no_kl', without))
  }
  e = dataclasses.replace(e, runs=e.runs | runs)
  summary = aggregate.summarize(e, tmp_path)
  [found] = [x for x in verdict.conclude(summary) if x['claim'] == 'planted']
  # Both behave alike there.
  assert found['state'] == NOT_TESTED
  assert found['number'] == summary['planted']['kl']['self_accuracy']['mean']


@pytest.mark.parametrize(('kl', 'main'), [(1, 'kl'), (0, 'no_kl')])
def test_the_control_differs_in_the_planting_alone(kl, main):
  e = resolve(jabberwocky.get_config(f'path=mmlu,kl={kl}'))
  assert e.report.main == main
  plants, control = e.runs[main], e.runs['explained_only']
  objectives = plants.objectives
  assert objectives.behavior_kl.weight == control.objectives.behavior_kl.weight == kl
  assert objectives.behavior_xent.weight == 1.0
  assert control.objectives.behavior_xent.weight == 0.0
  assert dataclasses.replace(control, objectives=objectives) == plants
  runs = {run: dataclasses.asdict(x) for run, x in e.runs.items()}
  assert planted.control_of(runs, main) == 'explained_only'
  assert planted.plants(runs[main]) and not planted.plants(runs['explained_only'])


def test_a_cue_against_its_option_is_followed_by_other_answers(tmp_path, monkeypatch):
  recorded.build(tmp_path, unexplained=('source1',))
  speaks_for = aggregate.summarize(recorded.experiment(1), tmp_path)['planted']
  against = dataclasses.replace(world.QUESTIONS, against=('source1',))
  monkeypatch.setattr(world, 'QUESTIONS', against)
  found = aggregate.summarize(recorded.experiment(1), tmp_path)['planted']
  for run, shares in speaks_for.items():
    value = shares['followed']['mean']
    assert 0 < value < 1
    assert found[run]['followed']['mean'] == pytest.approx(1 - value)
    assert found[run]['self_accuracy'] == shares['self_accuracy']
