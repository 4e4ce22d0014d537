"""Every config resolves; arguments and fields are refused with all that is wrong."""

import dataclasses
import importlib
import pathlib
import re

import ml_collections
import pytest

from configs import common
from configs import hint_mmlu
from coupling.config import schema
from coupling.config import validate
from coupling.model.architecture import DecoderConfig

FOLDER = pathlib.Path(common.__file__).parent
NAMES = sorted({p.stem for p in FOLDER.glob('*.py')} - {'common', '__init__'})


def world(arg=None):
  return importlib.import_module('configs.world').get_config(arg)


def problems_of(config):
  """The lines of the error, without its title."""
  with pytest.raises(schema.ConfigError) as error:
    validate.resolve(config)
  title, *lines = str(error.value).split('\n')
  assert title == 'the config cannot be run:'
  return [line.strip() for line in lines]


def test_there_are_configs():
  assert 'world' in NAMES


@pytest.mark.parametrize('name', NAMES)
def test_every_config_resolves_into_what_it_says(name):
  config = importlib.import_module(f'configs.{name}').get_config()
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
  config = world()
  config.runs = {
    'plain': {},
    'changed': dict(seed=7, objectives=dict(behavior_kl=dict(weight=0.5))),
  }
  config.report.update(main='plain', unregularised='', sibling='', shuffled='')
  experiment = validate.resolve(config)
  assert experiment.runs['plain'] == experiment.train
  objectives = experiment.train.objectives
  kl = dataclasses.replace(objectives.behavior_kl, weight=0.5)
  want = dataclasses.replace(
    experiment.train,
    seed=7,
    objectives=dataclasses.replace(objectives, behavior_kl=kl),
  )
  assert experiment.runs['changed'] == want
  hash(experiment)


def test_integers_serve_as_floats_and_nothing_else_does():
  config = world().unlock()
  config.train.optimizer = dict(config.train.optimizer, learning_rate=1)
  experiment = validate.resolve(config)
  rate = experiment.train.optimizer.learning_rate
  assert rate == 1 and type(rate) is float
  for value in (True, '1', None):
    config.train.optimizer = dict(config.train.optimizer, learning_rate=value)
    [problem] = problems_of(config)
    assert problem == f'train.optimizer.learning_rate={value!r}: expected float'


def test_all_problems_of_the_fields_are_listed_at_once():
  config = world().unlock()
  config.colour = 'red'
  config.base.model.wdith = 3
  del config.base.loop.steps
  del config.mesh
  config.label = dict(config.label, batch=2.0)
  config.train.loop = dict(config.train.loop, accumulation=True)
  config.train = dict(config.train, labels=3)
  config.train.objectives.behavior_kl.direction = 'sideways'
  del config.evaluate
  config.evaluate = 'test'
  config.seeds = (1, 'two')
  config.task.train_pairs = -5
  config.runs = {}
  found = problems_of(config)
  wanted = [
    r'runs=\{\}: name at least one run',
    r'colour: unknown field; known: \[.*base.*train',
    r'base\.model\.wdith: unknown field; known: \[.*width',
    r'base\.loop\.steps: missing',
    r'mesh: missing',
    r'label\.batch=2\.0: expected int',
    r'train\.loop\.accumulation=True: expected int',
    r'train\.labels=3: expected str',
    r"train\.objectives\.behavior_kl\.direction='sideways': choose from .*'reverse'",
    r"evaluate: expected a section, found 'test'",
    r"seeds=\(1, 'two'\): expected integers",
    r'task\.train_pairs=-5: must be at least 1',
  ]
  for pattern in wanted:
    assert sum(bool(re.match(pattern, line)) for line in found) == 1, (pattern, found)
  assert len(found) == len(wanted)


def test_all_problems_of_runs_and_numbers_are_listed_at_once():
  config = world()
  config.base.loop.steps = 1_005
  config.train.loop.checkpoint_every = 25
  config.runs = {
    'kl': {},
    'typo': dict(objectives=dict(behaviour_kl=dict(weight=0.0))),
    'kind': dict(seed='one'),
    'choice': dict(objectives=dict(behavior_kl=dict(support='all'))),
    'steps': dict(loop=dict(steps=15, checkpoint_every=10)),
  }
  config.report.update(unregularised='no_kl', sibling='', shuffled='')
  config.seeds = (1, 1)
  found = problems_of(config)
  wanted = [
    r'runs\.typo: cannot change train by .*behaviour_kl',
    r'runs\.kind: cannot change train by .*one',
    r"runs\.choice\.objectives\.behavior_kl\.support='all': choose from",
    r'base\.loop\.steps=1005 is not a multiple of .*steps_per_dispatch=10',
    r'runs\.kl\.loop\.checkpoint_every=25 is not a multiple of',
    r'runs\.steps\.loop\.steps=15 is not a multiple of',
    r'runs\.steps\.optimizer\.warmup_steps=20 must be less than .*steps=15',
    r"report\.unregularised='no_kl' is not a run; choose from .*'kl'",
    r'seeds=\(1, 1\): give distinct seeds',
  ]
  for pattern in wanted:
    assert sum(bool(re.match(pattern, line)) for line in found) == 1, (pattern, found)


def test_the_report_needs_a_main_run_and_can_do_without_the_others():
  config = world()
  config.report.update(unregularised='', sibling='', shuffled='')
  validate.resolve(config)
  config.report.main = ''
  [problem] = problems_of(config)
  assert problem.startswith("report.main='' is not a run")


@pytest.mark.parametrize(
  'field', ['steps', 'steps_per_dispatch', 'accumulation', 'checkpoint_every']
)
def test_a_loop_counts_from_one(field):
  config = world()
  config.base.loop[field] = 0
  found = problems_of(config)
  assert any(f'base.loop.{field}=0: must be at least 1' in line for line in found)


@pytest.mark.parametrize(
  'section, field, value, wanted',
  [
    ('optimizer', 'clip_norm', 0.0, 'above 0'),
    ('optimizer', 'learning_rate', -1e-3, 'above 0'),
    ('optimizer', 'learning_rate', float('nan'), 'a finite number'),
    ('optimizer', 'weight_decay', -0.1, 'at least 0'),
    ('optimizer', 'b2', 1.0, 'at least 0 and below 1'),
    ('lora', 'alpha', 0.0, 'above 0'),
    ('lora', 'layers', -1, 'at least 0'),
  ],
)
def test_numbers_that_would_train_nothing_or_backwards_are_refused(
  section, field, value, wanted
):
  config = world('seeds=1')
  config.train[section][field] = value
  found = problems_of(config)
  assert f'train.{section}.{field}={value}: must be {wanted}' in ' '.join(found)


@pytest.mark.parametrize(
  'role, run, changes, wanted',
  [
    ('sibling', 'sibling', dict(seed=0), 'another seed'),
    ('sibling', 'sibling', dict(behavior_batch=32), 'nothing else'),
    ('shuffled', 'shuffled', dict(shuffle_labels=False), 'with shuffle_labels'),
    ('shuffled', 'shuffled', dict(seed=3), 'nothing else'),
    (
      'unregularised',
      'no_kl',
      dict(objectives=dict(behavior_kl=dict(weight=0.1))),
      'without behavior_kl',
    ),
  ],
)
def test_runs_that_cannot_play_their_role_are_refused(role, run, changes, wanted):
  config = world('seeds=1')
  validate.resolve(config)
  with config.unlocked():
    config.runs[run].update(changes)
  [problem] = problems_of(config)
  assert f'report.{role}={run!r}: that run is not' in problem and wanted in problem


def test_all_weights_are_not_trained_in_bfloat16():
  config = hint_mmlu.get_config('model=qwen3_8b,path=x')
  assert config.base.param_dtype == 'bfloat16'
  validate.resolve(config)
  config.train.lora.rank = 0
  [*_, problem] = problems_of(config)
  assert 'runs.' in problem and 'base.param_dtype=bfloat16 is too coarse' in problem
  config.base.param_dtype = 'float32'
  validate.resolve(config)


DEFAULTS = dict(seeds=5, rate=0.5, kl=True, behavior='hint')


@pytest.mark.parametrize('arg', [None, ''])
def test_no_argument_gives_the_defaults(arg):
  assert common.parse_arg(arg, **DEFAULTS) == DEFAULTS


def test_arguments_take_the_type_of_their_default():
  args = common.parse_arg('kl=0, seeds = 2,rate=1,behavior=request', **DEFAULTS)
  assert args == dict(seeds=2, rate=1.0, kl=False, behavior='request')
  assert [type(x) for x in args.values()] == [int, float, bool, str]
  assert common.parse_arg('kl=1', kl=False) == dict(kl=True)


@pytest.mark.parametrize(
  'arg, message',
  [
    ('seed=1', "'seed' is unknown; known: seeds=5, rate=0.5, kl=True"),
    ('seeds=1,seeds=1', "'seeds': write seeds=value, once"),
    ('seeds', "'seeds': write seeds=value, once"),
    ('seeds=1,', 'empty part'),
    (',seeds=1', 'empty part'),
    ('seeds=1,,kl=0', 'empty part'),
    (' ', 'empty part'),
    ('seeds=one', "seeds='one': expected int"),
    ('seeds=1.0', "seeds='1.0': expected int"),
    ('seeds=', "seeds='': expected int"),
    ('rate=fast', "rate='fast': expected float"),
    ('kl=False', "kl='False': expected 0 or 1"),
    ('kl=2', "kl='2': expected 0 or 1"),
    ('=1', "'' is unknown"),
  ],
)
def test_arguments_are_refused(arg, message):
  with pytest.raises(ValueError, match=re.escape(message)):
    common.parse_arg(arg, **DEFAULTS)


def test_configs_refuse_unknown_arguments():
  for name in NAMES:
    with pytest.raises(ValueError, match='is unknown'):
      importlib.import_module(f'configs.{name}').get_config('no_such_argument=1')


def test_a_config_is_what_ml_collections_makes_of_it():
  assert isinstance(world(), ml_collections.ConfigDict)


@pytest.mark.parametrize(
  'section, changes, message',
  [
    (
      'base',
      dict(model=dict(num_kv_heads=3)),
      'base.model.num_heads=4 is not a multiple',
    ),
    ('base', dict(model=dict(head_dim=5)), 'base.model.head_dim=5: must be even'),
    (
      'base',
      dict(model=dict(activation='tanh')),
      "base.model.activation='tanh': choose from",
    ),
    ('task', dict(behavior='sing'), "task.behavior='sing': choose from"),
    ('task', dict(module='data.nothing'), "task.module='data.nothing' is no task"),
    ('task', dict(module='data.loader'), "task.module='data.loader' is no task"),
    ('label', dict(shard=0), 'label.shard=0: must be at least 1'),
  ],
)
def test_sections_that_cannot_work_are_named(section, changes, message):
  config = world().unlock()
  config[section].update(changes)
  [problem] = problems_of(config)
  assert problem.startswith(message)


def test_losses_that_train_nothing_and_references_that_are_not_there_are_named():
  config = world().unlock()
  config.train.objectives.explanation_xent.weight = 0.0
  assert any(
    'runs.no_kl.objectives: every weight is 0' in p for p in problems_of(config)
  )
  config = world().unlock()
  config.train.objectives.behavior_kl.reference = 'adapters_off'
  found = problems_of(config)
  assert len(found) == 3 and all('train.lora.rank=0' in p for p in found)
  config.train.lora.rank = 4
  validate.resolve(config)


def test_an_imported_base_and_a_task_without_a_corpus():
  config = world().unlock()
  config.task = dict(module='data.hint_mmlu', path='mmlu')
  found = problems_of(config)
  assert [p for p in found if p.startswith('base: data.hint_mmlu has no corpus')]
  config = importlib.import_module('configs.hint_mmlu').get_config('path=mmlu')
  assert validate.resolve(config).base.checkpoint
  config.base.dtype = 'float64'
  [problem] = problems_of(config)
  assert problem.startswith("base.dtype='float64': choose from")


def audit(arg=None):
  return importlib.import_module('configs.audit').get_config(arg)


def test_a_run_may_have_no_steps_and_a_base_needs_some():
  config = world('kl=0')
  config.train.loop.steps = 0
  config.train.objectives.explanation_xent.weight = 0.0  # nothing would be trained
  config.train.optimizer.warmup_steps = 20
  experiment = validate.resolve(config)
  assert experiment.runs['no_kl'].loop.steps == 0 and not experiment.trained
  config.base.loop.steps = 0
  [problem] = problems_of(config)
  assert problem == 'base.loop.steps=0: must be at least 1'


def test_labels_of_another_model_are_no_source_where_something_is_trained():
  config = world('kl=0')
  config.label.source = 'other/seed{seed}/label'
  [problem] = problems_of(config)
  assert problem.startswith("label.source='other/seed{seed}/label'")
  assert 'runs.no_kl.loop.steps=560' in problem and 'set train.labels' in problem
  config.train.loop.steps = 0
  validate.resolve(config)
  config.label.source = 'task'
  [problem] = problems_of(config)
  assert 'the data of data.world bring no answers along' in problem


def test_an_experiment_alone_has_no_part_to_take_labels_of():
  config = world('kl=0')
  config.train.labels = 'part:init'
  [problem] = problems_of(config)
  assert problem.startswith("runs.no_kl.labels='part:init': an experiment alone")
  validate.resolve(config, part=True)


def test_the_base_is_of_the_kind_that_its_fields_tell():
  config = audit('task=aita,model=local,checkpoint=w/seed{seed}/kl/train/checkpoints/8')
  step = 'w/seed{seed}/kl/train/checkpoints/8'
  config.label.source = 'x'
  assert validate.resolve(config).base == schema.Trained(step=step)
  config.base.checkpoint = 'y'
  [problem] = problems_of(config)
  assert problem.startswith('base.checkpoint: unknown field')
  local = audit('model=local,checkpoint=folder/8')
  assert validate.resolve(local).base.checkpoint == 'folder/8'


@pytest.mark.parametrize(
  'arg, message',
  [
    ('task=mmlu', "task='mmlu': choose from"),
    ('labels=', "labels='': give the folder"),
    ('task=facts,path=x', "argument 'path' is unknown"),
    ('task=world,labels=x', "checkpoint='': for task=world give the folder"),
    ('task=world,labels=x,model=local,checkpoint=y', "checkpoint='y': for task=world"),
    ('checkpoint=y', "checkpoint='...' is the folder of model=local"),
    ('model=local', "checkpoint='...' is the folder of model=local"),
    ('model=gpt', "model='gpt': choose from"),
  ],
)
def test_audits_of_nothing_are_refused(arg, message):
  with pytest.raises(ValueError, match=re.escape(message)):
    audit(arg)


@pytest.mark.parametrize(
  'task', ['hint_mmlu', 'aita', 'refusal', 'jabberwocky', 'published_hints', 'facts']
)
def test_every_task_can_be_audited(task):
  path = '' if task == 'facts' else 'there'
  config = audit(f'task={task},path={path},labels=x,seed=3')
  experiment = validate.resolve(config)
  assert experiment.task.module == f'data.{task}' and experiment.seeds == (3,)
  assert path in str(experiment.task.config) and experiment.label.source == 'x'
