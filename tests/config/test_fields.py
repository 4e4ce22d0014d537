"""A task's own Config: its types, defaults and checks, through resolve."""

import dataclasses
import importlib
import re

import pytest

from configs import world
from coupling.config import fields
from coupling.config import schema
from coupling.config import validate

HEAD = """
from __future__ import annotations

import dataclasses
from typing import Any, Literal, Optional, Union

from data.world import *


def frozen(cls):
  return dataclasses.dataclass(frozen=True, kw_only=True)(cls)

"""


@pytest.fixture
def resolved(tmp_path, monkeypatch):
  """From the source of a Config, and values, to the Config that they make."""
  monkeypatch.syspath_prepend(tmp_path)

  def resolve(source, **values):
    name = f'task_{tmp_path.name}'.replace('-', '_')
    (tmp_path / f'{name}.py').write_text(HEAD + source)
    importlib.invalidate_caches()
    config = world.get_config()
    config.task = dict(module=name, **values)
    try:
      return validate.resolve(config).task.config
    finally:
      monkeypatch.delitem(importlib.sys.modules, name, raising=False)

  return resolve


def problems(resolved, source, **values):
  with pytest.raises(schema.ConfigError) as refused:
    resolved(source, **values)
  return [line.strip() for line in str(refused.value).split('\n')[1:]]


TYPES = """
@frozen
class Part:
  share: float
  kinds: tuple[Literal['a', 'b'], ...] = ('a',)


@frozen
class Config:
  count: int
  maybe: Optional[float] = None
  either: int | str | None = 3
  odd: Union[float, int] = 1
  mode: Literal['x', 2] | None = None
  names: tuple[str, ...] = dataclasses.field(default_factory=lambda: ('made',))
  flags: tuple[bool, ...] = ()
  part: Part = dataclasses.field(default_factory=lambda: Part(share=0.5))
"""


def test_annotations_may_be_strings_and_what_is_left_out_has_its_default(resolved):
  found = dataclasses.asdict(resolved(TYPES, count=0))  # 0 is the task's to judge
  assert found == {
    'count': 0,
    'maybe': None,
    'either': 3,
    'odd': 1,
    'mode': None,
    'names': ('made',),
    'flags': (),
    'part': {'share': 0.5, 'kinds': ('a',)},
  }


def test_values_take_the_first_type_of_a_union_that_they_have(resolved):
  part = dict(share=1, kinds=('b', 'a'))
  given = dict(maybe=2, either='s', odd=2, mode=2, flags=(True,), part=part)
  found = resolved(TYPES, count=-4, **given)
  assert found.count == -4
  assert (found.maybe, type(found.maybe)) == (2.0, float)
  assert (found.odd, type(found.odd)) == (2, int)
  assert (found.either, found.mode, found.flags) == ('s', 2, (True,))
  assert (found.part.share, found.part.kinds) == (1.0, ('b', 'a'))
  assert type(found.part.share) is float
  hash(found)


def test_a_section_may_be_the_default_itself():
  given, found = schema.Lora(rank=1, alpha=1.0, targets=('q',)), []
  assert fields.build(schema.Lora, given, 'lora', found) is given
  assert not found


def test_values_of_other_types_are_all_named(resolved):
  found = problems(
    resolved,
    TYPES,
    count=True,
    maybe='no',
    either=1.5,
    odd=False,
    mode=2.0,
    names=('a', 2),
    flags=(1,),
    part=dict(share='all', kinds=('c',), nothing=1),
    more=0,
  )
  assert sorted(found) == sorted(
    [
      'task.count=True: expected int',
      "task.maybe='no': expected float or None",
      'task.either=1.5: expected int or str or None',
      'task.odd=False: expected float or int',
      "task.mode=2.0: expected one of ('x', 2) or None",
      "task.names=('a', 2): expected strings",
      'task.flags=(1,): expected booleans',
      "task.part.share='all': expected float",
      "task.part.kinds=('c',): expected several of ('a', 'b')",
      "task.part.nothing: unknown field; known: ['kinds', 'share']",
      "task.more: unknown field; known: ['count', 'either', 'flags', 'maybe', 'mode', "
      "'names', 'odd', 'part']",
    ]
  )
  assert problems(resolved, TYPES, part=3) == [
    'task.count: missing',
    'task.part: expected a section, found 3',
  ]


@pytest.mark.parametrize(
  'kind',
  ['Any', 'list[str]', 'dict', 'tuple[int, str]', 'tuple', 'str | list', 'set | None'],
)
def test_types_that_no_config_can_set_are_named_with_those_that_it_can(resolved, kind):
  source = f'@frozen\nclass Config:\n  field: {kind} = None\n  other: int = 1\n'
  [problem] = problems(resolved, source, other=2)
  assert re.match(r'task\.field: task_\w+\.Config gives it the type .*, which', problem)
  for supported in ('bool, int, float, str', 'Literal', 'tuple[T, ...]', 'dataclass'):
    assert supported in problem


def test_types_that_are_not_there_at_run_time_are_named(resolved):
  source = '@frozen\nclass Config:\n  field: Absent\n'
  [problem] = problems(resolved, source, field=1)
  assert problem.startswith('task: the types of task_')
  assert "name 'Absent' is not defined" in problem


CHECKED = """
@frozen
class Config:
  low: int
  high: int

  def __post_init__(self):
    if self.low > self.high:
      raise ValueError({message})
"""


def test_a_config_that_refuses_its_values_is_an_error_of_the_field(resolved):
  named = CHECKED.format(message="f'low={self.low}: must not exceed high'")
  assert resolved(named, low=0, high=0).high == 0
  assert problems(resolved, named, low=2, high=1) == [
    'task.low=2: must not exceed high'
  ]
  unnamed = CHECKED.format(message="'these do not fit'")
  [problem] = problems(resolved, unnamed, low=2, high=1)
  assert problem == "task: these do not fit (found {'low': 2, 'high': 1})"


def test_a_config_is_not_asked_about_values_of_other_types(resolved):
  source = CHECKED.format(message="'x'")
  assert problems(resolved, source, low='a', high=1) == ["task.low='a': expected int"]
  assert problems(resolved, source, low=1) == ['task.high: missing']


@pytest.mark.parametrize(
  'source, problem',
  [
    ('@dataclasses.dataclass\nclass Config:\n  field: int = 1\n', 'can be changed'),
    ('class Config:\n  field: int = 1\n', 'must be a frozen dataclass'),
    (TYPES + 'del builder\n', r"is no task: it lacks \['builder'\]"),
    (TYPES + 'del NEW_WORDS\n', r"no corpus to pretrain on \(it lacks \['NEW_WORDS'"),
  ],
)
def test_what_a_module_lacks_is_named(resolved, source, problem):
  count = {'count': 1} if source.startswith(TYPES) else {}
  [found] = problems(resolved, source, **count)
  assert re.search(problem, found)


@pytest.mark.parametrize(
  'module, values, problem',
  [
    ('data.world', dict(behavior='hint', train_pairs=0), 'task.train_pairs=0: must be'),
    (
      'data.hint_mmlu',
      dict(path='x', hints_per_question=0),
      'task.hints_per_question=0: must be at least 1',
    ),
  ],
)
def test_the_tasks_here_refuse_counts_of_nothing(module, values, problem):
  config = world.get_config()
  config.task = dict(module=module, **values)
  with pytest.raises(schema.ConfigError, match=problem):
    validate.resolve(config)


def test_a_limit_of_length_that_the_model_cannot_read_is_named():
  config = world.get_config()
  config.length.max_tokens = 17
  with pytest.raises(schema.ConfigError) as refused:
    validate.resolve(config)
  assert 'length.max_tokens=17 is more than base.model.learned_positions=16' in str(
    refused.value
  )
  config.base.model.learned_positions = 0  # rotary positions have no end
  validate.resolve(config)
