"""Sections of a config as dataclasses: strictly, and with all that is wrong.

By pydantic. An integer serves as a float, a list as a tuple, and what equals a choice
of a Literal as that choice; nothing else is converted. What a section leaves out has
the default of its field. Values are read as JSON, in which configs are kept.
"""

from collections.abc import Collection, Iterator
import dataclasses
import functools
import json
import re
import typing
from typing import Any

import pydantic

# As pydantic names them.
_MISSING, _UNKNOWN, _REFUSED = 'missing', 'unexpected_keyword_argument', 'value_error'


def read(kind: Any, values: Any, path: str, problems: list[str]) -> Any:
  """A section, or a single value, as its type has it.

  Args:
    kind: a dataclass, which may be a user's, or another type.
    values: of a dataclass: a dict.
    path: name of the section, as errors give it.
    problems: to which all that is wrong is added.

  Returns:
    The instance, or None where anything is wrong.
  """
  text = json.dumps([values], default=_plain)
  [given] = json.loads(text)
  if halves := [*_halves(given, path)]:
    problems += halves
    return None
  try:
    adapter = _adapter(kind)
  except (NameError, TypeError, pydantic.PydanticUserError) as e:
    problems.append(
      f'{path}: the types of {kind.__module__}.{kind.__qualname__} cannot be read '
      f'({e}): make it a frozen dataclass; import what they name, also at run time'
    )
    return None
  try:
    return adapter.validate_json(text)[0]
  except pydantic.ValidationError as e:
    said = {}  # members of a union each say something of one place
    for error in e.errors():
      where, what = _problem(kind, given, path, error)
      said.setdefault(where, []).append(what)
    problems += [f'{where}: {", or ".join(what)}' for where, what in said.items()]
    return None


@functools.cache
def _adapter(kind: Any) -> pydantic.TypeAdapter:
  # In a tuple, as a dataclass by itself takes no configuration from outside.
  config = pydantic.ConfigDict(strict=True, extra='forbid')
  adapter = pydantic.TypeAdapter(tuple[kind], config=config)
  adapter.rebuild()  # names that are not there are errors now, not at first use
  return adapter


def _plain(value: Any) -> Any:
  """What JSON lacks: a dataclass as a section, all else as a text."""
  return dataclasses.asdict(value) if dataclasses.is_dataclass(value) else repr(value)


def _halves(given: Any, path: str) -> Iterator[str]:
  """Problems of texts that hold half a character, which no file can."""
  if isinstance(given, str) and given.encode(errors='ignore').decode() != given:
    yield f'{path}={given!r}: holds half a character (a surrogate); write it whole'
  for step in _steps(given):
    yield from _halves(step, path)
    yield from _halves(given[step], _inside(path, step))


def _steps(given: Any) -> Collection:
  """What leads into a value: names of a section, places in a list."""
  if isinstance(given, list):
    return range(len(given))
  return given if isinstance(given, dict) else ()


def _inside(path: str, step: str | int) -> str:
  return f'{path}[{step}]' if isinstance(step, int) else f'{path}.{step}'


def _problem(kind: Any, given: Any, path: str, error: Any) -> tuple[str, str]:
  """Where an error of pydantic is, and what it says."""
  steps = [*error['loc'][1:]]  # without the place in the tuple
  name = steps.pop() if error['type'] in (_MISSING, _UNKNOWN) else ''
  for step in steps:
    if step in _steps(given):  # else it names a member of a union
      path, given = _inside(path, step), given[step]
      kind = typing.get_type_hints(kind)[step] if _known(kind) else None
  if error['type'] == _MISSING:
    return f'{path}.{name}', 'missing'
  if error['type'] == _UNKNOWN:
    return f'{path}.{name}', f'unknown field; known: {_known(kind)}'
  if error['type'] != _REFUSED:
    return f'{path}={given!r}', error['msg'].removeprefix('Input ')
  said = str(error['ctx']['error'])
  if re.match(r'\w*', said)[0] in _known(kind):  # `field=value: what`
    field, _, what = said.partition(': ')
    return f'{path}.{field}', what
  return f'{path}={given!r}', said


def _known(kind: Any) -> list[str]:
  """A dataclass's fields, sorted; none of another type."""
  if not dataclasses.is_dataclass(kind):
    return []
  return sorted(f.name for f in dataclasses.fields(kind) if f.init)
