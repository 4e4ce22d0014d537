"""A task's own Config: its types, defaults and checks, through resolve."""

import dataclasses
import importlib

import pytest

from configs import world
from coupling.config import schema, validate

HEAD = """
from __future__ import annotations

import dataclasses
import datetime
from typing import Any, Literal, Optional, Union

from data.world import *


def frozen(cls):
  return dataclasses.dataclass(frozen=True, kw_only=True)(cls)

"""
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
CHECKED = """
@frozen
class Config:
  low: int
  high: int = 0

  def __post_init__(self):
    if self.low > self.high:
      raise ValueError({message})
"""
# One field of a type, and another.
ONE = '@frozen\nclass Config:\n  field: {} = None\n  other: int = 1\n'


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
  return refused.value.problems


def fields(resolved, source, **values):
  """Where the problems are: `field=value`, or the field."""
  found = problems(resolved, source, **values)
  return sorted(problem.partition(': ')[0] for problem in found)


def test_what_is_left_out_has_its_default(resolved):
  assert dataclasses.asdict(resolved(TYPES, count=0)) == {
    'count': 0,
    'maybe': None,
    'either': 3,
    'odd': 1,
    'mode': None,
    'names': ('made',),
    'flags': (),
    'part': {'share': 0.5, 'kinds': ('a',)},
  }


def test_values_take_the_type_of_a_union_that_they_have(resolved):
  part = dict(share=1, kinds=('b', 'a'))
  given = dict(maybe=2, either='s', odd=2, mode=2, flags=(True,), part=part)
  found = resolved(TYPES, count=-4, **given)  # counts are the task's to judge
  assert dataclasses.asdict(found) == given | {'count': -4, 'names': ('made',)}
  kinds = [type(x) for x in (found.maybe, found.odd, found.part.share)]
  assert kinds == [float, int, float]
  hash(found)


def test_values_of_other_types_are_all_named(resolved):
  part = dict(share='all', kinds=('c',), nothing=1)
  wrong = dict(count=True, maybe='no', either=1.5, odd=False, mode=2.5, flags=(1,))
  assert fields(resolved, TYPES, **wrong, names=('a', 2), part=part, more=0) == [
    'task.count=True',
    'task.either=1.5',
    'task.flags[0]=1',
    "task.maybe='no'",
    'task.mode=2.5',
    'task.more',
    'task.names[1]=2',
    'task.odd=False',
    "task.part.kinds[0]='c'",
    'task.part.nothing',
    "task.part.share='all'",
  ]
  assert fields(resolved, TYPES, part=3) == ['task.count', 'task.part=3']


@pytest.mark.parametrize(
  ('kind', 'given'),
  [
    *(('list[str]', ['a']), ('dict', {'a': 1}), ('set[int]', [1]), ('Any', [1])),
    *(('datetime.date', '2020-01-02'), ('complex', '1j'), ('bytes', 'a')),
    *(('Absent', 1), ('object()', 1)),
  ],
)
def test_types_that_no_manifest_keeps_are_refused(resolved, kind, given):
  [problem] = problems(resolved, ONE.format(kind), field=given)
  assert problem.startswith('task') and 'task_' in problem


def test_a_config_that_refuses_its_values_is_an_error_of_the_field(resolved):
  named = CHECKED.format(message="f'low={self.low}: must not exceed high'")
  assert resolved(named, low=0).high == 0
  [problem] = problems(resolved, named, low=2, high=1)
  assert problem == 'task.low=2: must not exceed high'
  unnamed = CHECKED.format(message="'these do not fit'")
  [problem] = problems(resolved, unnamed, low=2, high=1)
  assert problem.startswith('task={') and problem.endswith('}: these do not fit')


def test_a_config_is_not_asked_about_values_of_other_types(resolved):
  source = CHECKED.format(message="'x'")
  assert fields(resolved, source, low='a', high=1) == ["task.low='a'"]
  assert fields(resolved, source, high=1) == ['task.low']


@pytest.mark.parametrize(
  ('source', 'said'),
  [
    ('@dataclasses.dataclass\nclass Config:\n  field: int = 1\n', 'frozen'),
    ('class Config:\n  field: int = 1\n', 'frozen'),
    (CHECKED + 'del builder\n', "['builder']"),
    (CHECKED + 'del NEW_WORDS\n', "['NEW_WORDS'"),
  ],
)
def test_what_a_module_lacks_is_named(resolved, source, said):
  given = {'low': 0} if source.startswith(CHECKED) else {}
  [found] = problems(resolved, source.replace('{message}', '0'), **given)
  assert said in found
