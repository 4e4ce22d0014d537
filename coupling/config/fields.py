"""Values of a config as the fields of a dataclass; all that do not fit are listed."""

from collections.abc import Callable
import contextlib
import dataclasses
import re
import types
import typing
from typing import Any, Literal, Union

# Types that a field may have, and what several such values are called.
_PLAIN = {bool: 'booleans', int: 'integers', float: 'numbers', str: 'strings'}
SUPPORTED = (
  'bool, int, float, str, Literal[...], tuple[T, ...] of one of these, a union of '
  'these or with None, or a dataclass of such fields'
)
_UNIONS = (Union, types.UnionType)

# From a field's path and its value, of the right type, to what is wrong with it.
Check = Callable[[str, Any], str | None]


def build(
  cls: type, values: Any, path: str, problems: list[str], check: Check | None = None
) -> Any:
  """A section of a config as its dataclass.

  What the section leaves out has the default of its field. A class that checks itself,
  in `__post_init__`, is made only where all values are of their types; other classes
  wherever no field is missing, so that more can be said of what is there.

  Args:
    cls: the dataclass.
    values: the section, a dict.
    path: its name, as errors give it.
    problems: to which those found are added.
    check: of each value.

  Returns:
    The instance, or None where it cannot be made.
  """
  if isinstance(values, cls):  # a default of another dataclass
    return values
  if not isinstance(values, dict):
    problems.append(f'{path}: expected a section, found {values!r}')
    return None
  before = len(problems)
  fields = [f for f in dataclasses.fields(cls) if f.init]
  required = {f.name for f in fields if not _has_default(f)}
  kinds = _types(cls, path, problems)
  problems += misnamed({f.name for f in fields}, required, values, f'{path}.')
  built = {
    name: value(kind, values[name], f'{path}.{name}', problems, check)
    for name, kind in kinds.items()
    if name in values
  }
  if not built.keys() >= required:
    return None
  if not hasattr(cls, '__post_init__'):
    return cls(**built)
  if len(problems) > before:
    return None
  try:
    return cls(**built)
  except ValueError as e:
    named = re.match(r'\w+', str(e))
    known = named and named[0] in kinds
    problems.append(f'{path}.{e}' if known else f'{path}: {e} (found {built})')
    return None


def misnamed(known: set, required: set, values: dict, prefix: str) -> list[str]:
  """Problems of a section's names: those that are unknown, those that are missing."""
  return [
    *(
      f'{prefix}{name}: unknown field; known: {sorted(known)}'
      for name in sorted(values.keys() - known)
    ),
    *(f'{prefix}{name}: missing' for name in sorted(required - values.keys())),
  ]


def value(
  kind: Any, given: Any, path: str, problems: list[str], check: Check | None = None
) -> Any:
  """A value as its field wants it; as it was given where it does not fit."""
  if dataclasses.is_dataclass(kind):
    return build(kind, given, path, problems, check)
  try:
    found = _as(kind, given)
  except TypeError:
    problems.append(f'{path}={given!r}: {_expected(kind)}')
    return given
  if check and (wrong := check(path, found)):
    problems.append(f'{path}={found!r}: {wrong}')
  return found


def _has_default(field: dataclasses.Field) -> bool:
  missing = dataclasses.MISSING
  return field.default is not missing or field.default_factory is not missing


def _types(cls: type, path: str, problems: list[str]) -> dict[str, Any]:
  """The types of a class's fields; without those that no config can set."""
  where = f'{cls.__module__}.{cls.__qualname__}'
  try:
    kinds = typing.get_type_hints(cls)  # annotations may be strings
  except (NameError, TypeError) as e:
    problems.append(
      f'{path}: the types of {where} cannot be read ({e}): import what they name, also '
      'at run time'
    )
    return {}
  names = [f.name for f in dataclasses.fields(cls) if f.init]
  usable = {
    name: kinds[name]
    for name in names
    if dataclasses.is_dataclass(kinds[name]) or _is_supported(kinds[name])
  }
  problems += [
    f'{path}.{name}: {where} gives it the type {kinds[name]}, which no config can set; '
    f'supported are {SUPPORTED}'
    for name in names
    if name not in usable
  ]
  return usable


def _is_supported(kind: Any) -> bool:
  origin, args = typing.get_origin(kind), typing.get_args(kind)
  if origin is tuple:
    of, *rest = args
    return rest == [...] and (of in _PLAIN or typing.get_origin(of) is Literal)
  if origin in _UNIONS:
    return all(map(_is_supported, args))
  return origin is Literal or kind is types.NoneType or kind in _PLAIN


def _as(kind: Any, given: Any) -> Any:
  """The value as the type has it; raises TypeError where it is of another."""
  origin, args = typing.get_origin(kind), typing.get_args(kind)
  if origin is Literal:
    if any(type(x) is type(given) and x == given for x in args):
      return given
  elif origin is tuple:
    if isinstance(given, (list, tuple)):
      return tuple(_as(args[0], x) for x in given)
  elif origin in _UNIONS:
    for member in sorted(args, key=lambda x: x is float):  # an int stays one if it may
      with contextlib.suppress(TypeError):
        return _as(member, given)
  elif kind is float and type(given) is int:
    return float(given)
  elif type(given) is kind:
    return given
  raise TypeError


def _expected(kind: Any) -> str:
  if typing.get_origin(kind) is Literal:
    return f'choose from {typing.get_args(kind)}'
  return f'expected {_words(kind)}'


def _words(kind: Any) -> str:
  origin, args = typing.get_origin(kind), typing.get_args(kind)
  if origin is Literal:
    return f'one of {args}'
  if origin is tuple:
    return _PLAIN.get(args[0]) or f'several of {typing.get_args(args[0])}'
  if origin in _UNIONS:
    return ' or '.join(map(_words, args))
  return 'None' if kind is types.NoneType else kind.__name__
