"""Argument strings of configs: `config.py:seeds=1,kl=0`, strictly parsed."""

from typing import Any


def parse_arg(arg: str | None, **defaults: Any) -> dict[str, Any]:
  """Parses `name=value,...` into the defaults' names and types.

  Args:
    arg: what follows the colon of --config, or None.
    **defaults: the arguments that the config knows; each value's type is the type of
      the argument. Booleans are written 0 or 1.

  Returns:
    name -> value.

  Raises:
    ValueError: an unknown or repeated argument, or a value that is not of the type.
  """
  values = dict(defaults)
  seen = set()
  for part in (arg or '').split(','):
    if not part.strip():
      if arg:
        raise ValueError(f'config argument {arg!r}: empty part; write name=value,...')
      continue
    name, equals, text = (x.strip() for x in part.partition('='))
    if name not in defaults:
      raise ValueError(
        f'config argument {name!r} is unknown; known: '
        + ', '.join(f'{k}={v!r}' for k, v in defaults.items())
      )
    if name in seen or not equals:
      raise ValueError(f'config argument {name!r}: write {name}=value, once')
    seen.add(name)
    kind = type(defaults[name])
    try:
      values[name] = {'0': False, '1': True}[text] if kind is bool else kind(text)
    except (KeyError, ValueError):
      wanted = '0 or 1' if kind is bool else kind.__name__
      raise ValueError(f'config argument {name}={text!r}: expected {wanted}') from None
  return values
