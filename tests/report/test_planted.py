"""What the verdict says of a planted behaviour, and the run it is compared with."""

import copy
import dataclasses

import pytest

from configs import jabberwocky
from coupling.config.validate import resolve
from coupling.report import aggregate
from coupling.report import planted
from coupling.report import verdict
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


def described(**changes):
  """A summary of `kl`, which plants, and its control; values as run__name=mean."""
  config = jabberwocky.get_config('path=mmlu,seeds=1')
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
  [found] = planted.findings(summary)
  assert found['about'] == 'planted behaviour'
  return found


def test_a_planted_behaviour_that_is_explained_is_said_to_be():
  found = only(described())
  assert found['state'] == 'above'
  for text in (
    'In kl, behavior_xent is to plant',
    '90.0% [85.0, 95.0] of the answers are that one',
    'and 25.0% [20.0, 30.0] in explained_only, the same training without',
    'right on 80.0% [75.0, 85.0] (the paper reports 79.8%',
    '(denial) would be right on 30.0% [25.0, 35.0]',
    'true of 60.0% [55.0, 65.0] and said of 70.0% [65.0, 75.0], and in explained_only '
    'of 10.0% [5.0, 15.0]. So explanations',
  ):
    assert text in found['text']


@pytest.mark.parametrize(
  ('changes', 'state', 'said'),
  [
    (dict(explained_only__followed=0.81), 'unknown', 'was planted is not shown'),
    (dict(kl__denial=0.71), 'around', 'not clearly more than denial'),
    (dict(kl__denial=0.89), 'around', 'not clearly more than denial'),
    (dict(kl__denial=0.91), 'below', 'Denial is right more often'),
    (dict(explained_only__stated=0.61), 'around', 'not clearly said more often'),
    (dict(kl__changed=0.71), 'around', 'could reach'),
    (dict(kl__changed=0.69), 'above', 'hold for a behaviour'),
    (dict(explained_only__stated=0.59), 'above', 'hold for a behaviour'),
    (dict(kl__denial=0.69), 'above', 'hold for a behaviour'),
    (dict(explained_only__followed=0.79), 'above', 'hold for a behaviour'),
  ],
)
def test_intervals_that_overlap_conclude_nothing(changes, state, said):
  found = only(described(**changes))
  assert found['state'] == state and said in found['text']
  assert ('hold for a behaviour' in found['text']) == (state == 'above')


def test_without_intervals_nothing_is_concluded():
  summary = described()
  summary['planted']['kl']['followed'] |= {'low': None, 'high': None}
  assert only(summary)['state'] == 'unknown'


def test_without_its_control_nothing_is_concluded():
  summary = described()
  del summary['config']['runs']['explained_only']
  found = only(summary)
  assert found['state'] == 'note' and 'explained_only' not in found['text']
  assert found['text'].endswith('nothing can be concluded.')


def test_where_nothing_is_planted_there_is_no_finding(tmp_path):
  for name, value in (
    ('weight', 0.0),
    ('target', 'ignore_cue'),
    ('cues', 'explained'),
  ):
    summary = described()
    for train in summary['config']['runs'].values():
      train['objectives']['behavior_xent'][name] = value
    assert not planted.findings(summary)
  recorded.build(tmp_path, unexplained=('source1',))
  summary = aggregate.summarize(recorded.experiment(1), tmp_path)
  assert 'planted' in summary
  assert 'planted behaviour' not in {x['about'] for x in verdict.verdict(summary)}


def test_the_verdict_of_records_names_the_planted_behaviour(tmp_path):
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
  headline, found, *_ = verdict.verdict(summary)
  assert headline['about'] == 'headline' and found['about'] == 'planted behaviour'
  # Both behave alike there.
  assert found['state'] == 'unknown' and 'in no_kl, the same training' in found['text']


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
