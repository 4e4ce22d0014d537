"""Every config resolves into what it says; its arguments are strictly parsed."""

import dataclasses
import importlib
import pathlib
import re

import pytest

from configs import common, world
from coupling.config import schema, validate
from coupling.model.architecture import DecoderConfig

FOLDER = pathlib.Path(common.__file__).parent
NAMES = sorted({p.stem for p in FOLDER.glob('*.py')} - {'common', '__init__'})
DEFAULTS = dict(seeds=5, rate=0.5, kl=True, behavior='hint')


def config_of(name, arg=None):
  return importlib.import_module(f'configs.{name}').get_config(arg)


@pytest.mark.parametrize('name', NAMES)
def test_every_config_resolves_into_what_it_says(name):
  config = config_of(name)
  experiment = validate.resolve(config)
  assert experiment.runs.keys() == set(config.runs)
  values = config.to_dict()
  del values['runs']
  resolved = dataclasses.asdict(experiment)
  del resolved['runs']
  task = resolved.pop('task')
  given = values.pop('task')  # what it leaves out has the defaults of the task
  found = {'module': task['module'], **task['config']}
  assert {name: found[name] for name in given} == given
  assert resolved == values
  if isinstance(experiment.base, schema.Pretrain):
    shape = dataclasses.asdict(experiment.base.model)
    DecoderConfig(vocab_size=10, **shape)


def test_runs_are_the_training_with_their_own_changes():
  config = world.get_config()
  changes = dict(seed=7, objectives=dict(behavior_kl=dict(weight=0.5)))
  config.runs = {'plain': {}, 'changed': changes}
  config.report.update(main='plain', unregularised='', sibling='', shuffled='')
  experiment = validate.resolve(config)
  assert experiment.runs['plain'] == experiment.train
  kl = dataclasses.replace(experiment.train.objectives.behavior_kl, weight=0.5)
  objectives = dataclasses.replace(experiment.train.objectives, behavior_kl=kl)
  want = dataclasses.replace(experiment.train, seed=7, objectives=objectives)
  assert experiment.runs['changed'] == want
  hash(experiment)


@pytest.mark.parametrize('arg', [None, ''])
def test_no_argument_gives_the_defaults(arg):
  assert common.parse_arg(arg, **DEFAULTS) == DEFAULTS


def test_arguments_take_the_type_of_their_default():
  args = common.parse_arg('kl=0, seeds = 2,rate=1,behavior=request', **DEFAULTS)
  assert args == dict(seeds=2, rate=1.0, kl=False, behavior='request')
  assert [type(x) for x in args.values()] == [int, float, bool, str]
  assert common.parse_arg('kl=1', kl=False) == dict(kl=True)


@pytest.mark.parametrize(
  ('arg', 'message'),
  [
    ('seed=1', "'seed' is unknown; known: seeds=5, rate=0.5, kl=True"),
    *((x, "'seeds': write seeds=value, once") for x in ('seeds=1,seeds=1', 'seeds')),
    *((x, 'empty part') for x in ('seeds=1,', ',seeds=1', 'seeds=1,,kl=0', ' ')),
    *((f'seeds={x}', f"seeds='{x}': expected int") for x in ('one', '1.0', '')),
    ('rate=fast', "rate='fast': expected float"),
    *((f'kl={x}', f"kl='{x}': expected 0 or 1") for x in ('False', '2')),
    ('=1', "'' is unknown"),
  ],
)
def test_arguments_are_refused(arg, message):
  with pytest.raises(ValueError, match=re.escape(message)):
    common.parse_arg(arg, **DEFAULTS)


def test_configs_refuse_unknown_arguments():
  for name in NAMES:
    with pytest.raises(ValueError, match='is unknown'):
      config_of(name, 'no_such_argument=1')


@pytest.mark.parametrize(
  ('arg', 'message'),
  [
    ('task=mmlu', "task='mmlu'"),
    ('labels=', "labels=''"),
    ('task=facts,path=x', "argument 'path'"),
    ('task=world,labels=x', "checkpoint=''"),
    ('task=world,labels=x,model=local,checkpoint=y', "checkpoint='y'"),
    ('checkpoint=y', "checkpoint='...'"),
    ('model=local', "checkpoint='...'"),
    ('model=gpt', "model='gpt'"),
  ],
)
def test_audits_of_nothing_are_refused(arg, message):
  with pytest.raises(ValueError, match=re.escape(message)):
    config_of('audit', arg)


@pytest.mark.parametrize(
  'task', ['hint_mmlu', 'aita', 'refusal', 'jabberwocky', 'published_hints', 'facts']
)
def test_every_task_can_be_audited(task):
  path = '' if task == 'facts' else 'there'
  config = config_of('audit', f'task={task},path={path},labels=x,seed=3')
  experiment = validate.resolve(config)
  assert experiment.task.module == f'data.{task}' and experiment.seeds == (3,)
  assert path in str(experiment.task.config) and experiment.label.source == 'x'
  local = config_of('audit', 'model=local,checkpoint=folder/8')
  assert validate.resolve(local).base.checkpoint == 'folder/8'
