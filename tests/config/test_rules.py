"""What is wrong with a config is refused by the fields, all of it at once."""

import functools
import operator
import re

import pytest

from configs import hint_mmlu, world
from coupling.config import schema, validate


def changed(changes, config=None):
  """A config, by default that of the world, with values at dotted paths."""
  config = config or world.get_config('seeds=1')
  with config.unlocked(), config.ignore_type():
    for path, value in changes.items():
      *sections, name = path.split('.')
      functools.reduce(operator.getitem, sections, config)[name] = value
  return config


def named(config):
  """The fields that the error names."""
  with pytest.raises(schema.ConfigError) as refused:
    validate.resolve(config)
  return {re.match(r'[\w.]+', problem)[0] for problem in refused.value.problems}


def runs(field, *names):
  return {f'runs.{x}.{field}' for x in names or ('kl', 'no_kl', 'sibling', 'shuffled')}


KL, SHIFTS = 'objectives.behavior_kl', ('behavior_xent', 'dpo')


@pytest.mark.parametrize(
  ('changes', 'fields'),
  [
    ({'seeds': ()}, {'seeds'}),
    ({'seeds': (1, 1)}, {'seeds'}),
    ({'base.loop.steps': 0}, {'base.loop.steps'}),
    ({'base.loop.steps': 1_005}, {'base.loop.steps'}),
    ({'base.model.num_kv_heads': 3}, {'base.model.num_heads'}),
    ({'base.model.head_dim': 5}, {'base.model.head_dim'}),
    ({'length.max_tokens': 17}, {'length.max_tokens'}),
    *(
      ({'task': {'module': x}}, {'task.module'})
      for x in ('', '.x', '..', 'a/b', '../x', 'data.none', 'data.loader', 3)
    ),
    *(
      ({'runs': {x: {}}, 'report': {'title': 'of one', 'main': x}}, {'runs'})
      for x in ('a/b', '/tmp/x', '')
    ),
    ({'task': {'module': 'data.hint_mmlu', 'path': 'x'}}, {'base'}),
    ({'task': {'module': 'data.hint_mmlu', 'hints_per_question': 0}}, {'task.path'}),
    ({'task.train_pairs': 0}, {'task.train_pairs'}),
    ({'label.source': 'there/{seed}'}, {'label.source'}),
    ({'label.source': 'task', 'train.loop.steps': 0}, {'label.source'}),
    ({'runs': {}}, {'runs'}),
    ({'runs': 3}, {'runs'}),
    ({'train.loop.checkpoint_every': 25}, runs('loop.checkpoint_every', 'kl', 'no_kl')),
    ({'train.optimizer.warmup_steps': 1_200}, runs('optimizer.warmup_steps')),
    ({'train.labels': 'step:7'}, runs('labels')),
    ({'train.labels': 'part:init'}, runs('labels')),
    ({'train.labels': 'x', 'train.context': 'after'}, runs('context')),
    ({'train.mixture': 0.5}, runs('mixture')),
    ({'train.attention': 'cudnn'}, runs('attention')),
    ({'train.objectives.explanation_xent.weight': 0.0}, runs('objectives', 'no_kl')),
    ({f'train.objectives.{x}.weight': 1.0 for x in SHIFTS}, runs('objectives')),
    (
      {'train.objectives.dpo.file': 'x', 'train.objectives.dpo.cues': 'src0'},
      runs('objectives.dpo.file'),
    ),
    (
      {f'train.{KL}.reference': 'adapters_off'},
      runs(f'{KL}.reference', 'kl', 'sibling', 'shuffled'),
    ),
    ({'train.start': 'nobody'}, runs('start')),
    ({'train.start': 'kl'}, runs('start', 'kl')),
    ({'train.labels': 'run:kl'}, runs('labels', 'kl')),
    (
      {'runs.sibling.labels': 'run:nobody'},
      {'runs.sibling.labels', 'report.sibling'},
    ),
    (
      {'runs.kl.labels': 'run:no_kl', 'runs.no_kl.start': 'kl'},
      {
        *('runs.kl.labels', 'runs.no_kl.start'),
        *('report.unregularised', 'report.sibling', 'report.shuffled'),
      },
    ),
    ({'report.main': ''}, {'report.main'}),
    ({'report.sibling': 'nobody'}, {'report.sibling'}),
    ({'runs.sibling.seed': 0}, {'report.sibling'}),
    ({'runs.sibling.behavior_batch': 32}, {'report.sibling'}),
    ({'runs.shuffled.shuffle_labels': False}, {'report.shuffled'}),
    ({'runs.shuffled.seed': 3}, {'report.shuffled'}),
    ({f'runs.no_kl.{KL}.weight': 0.1}, {'report.unregularised'}),
    ({'train.evaluated': 'last'}, {'runs.kl.evaluated'}),
  ],
)
def test_broken_rules_are_named_by_their_fields_alone(changes, fields):
  assert named(changed(changes)) == fields


@pytest.mark.parametrize(
  'changes',
  [
    {'train.lora.rank': 4, f'train.{KL}.reference': 'adapters_off'},
    {'base.model.learned_positions': 0, 'length.max_tokens': 17},  # rotary has no end
    {'train.loop.steps': 0, 'label.source': 'there/{seed}'},  # an audit
    {'train.loop.steps': 0, 'train.objectives.explanation_xent.weight': 0.0},
    {'report.unregularised': '', 'report.sibling': '', 'report.shuffled': ''},
    {'train.labels': 'step:250'},
  ],
)
def test_what_breaks_no_rule_passes(changes):
  config = changed(changes)
  assert bool(validate.resolve(config).trained) == bool(config.train.loop.steps)


def test_all_that_is_wrong_is_listed_at_once():
  config = changed(
    {
      'colour': 'red',
      'evaluate': 'test',
      'label.batch': 2.0,
      'seeds': (1, 'two'),
      'task.train_pairs': -5,
      'base.loop.steps': 1_005,
      'base.optimizer.b1': 0.5,
      'train.labels': 3,
      'runs': {
        'main': {'labels': '', 'loop': {'checkpoint_every': 25}},
        'typo': {'labels': '', 'objectives': {'behaviour_kl': {'weight': 0.0}}},
        'kind': {'seed': 'one'},
        'all': 1,
        'a/b': {'labels': ''},
      },
      'report.main': 'main',
    }
  )
  del config.mesh
  assert named(config) == {
    *('colour', 'evaluate', 'mesh', 'label.batch', 'seeds', 'task.train_pairs'),
    *('base.loop.steps', 'train.labels', 'runs.main.loop.checkpoint_every'),
    *('runs.typo.objectives.behaviour_kl', 'runs.kind.seed', 'runs.all', 'runs'),
    *('report.unregularised', 'report.sibling', 'report.shuffled'),
  }


def test_all_weights_are_not_trained_in_bfloat16():
  config = hint_mmlu.get_config('model=qwen3_8b,path=x')
  validate.resolve(config)
  config.train.lora.rank = 0
  assert named(config) == runs('lora.rank')
  config.base.param_dtype = 'float32'
  validate.resolve(config)


def test_a_part_may_take_the_labels_of_another():
  config = changed({'train.labels': 'part:init'})
  assert validate.resolve(config, part=True).runs['kl'].labels == 'part:init'


def test_the_base_is_of_the_kind_that_its_fields_tell():
  config = changed({'base': {'step': 'kl/train/checkpoints/8'}})
  found = validate.resolve(config).base
  assert found == schema.Trained(step='kl/train/checkpoints/8')
  assert named(changed({'base.checkpoint': 'x'}, config)) == {'base.checkpoint'}
  config = changed({'base': {'checkpoint': 'x', 'dtype': 'float64'}})
  assert named(config) == {'base.dtype'}
