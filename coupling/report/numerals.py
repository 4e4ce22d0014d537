"""Numbers as the report prints them: percentages with one decimal, brackets for bounds.

A statistic is the dict {mean, low, high, per_seed} of aggregate.py.
"""

from collections.abc import Callable

UNDEFINED = '–'


def percent(statistic: dict) -> str:
  """A share: 71.9% [70.1, 73.6]."""
  return _printed(statistic, lambda x: _fixed(100 * x, '.1f'), '%')


def points(statistic: dict) -> str:
  """A difference of shares, in percentage points: +10.7 [+8.6, +12.7]."""
  return _printed(statistic, lambda x: _fixed(100 * x, '+.1f'), '')


def decimal(statistic: dict) -> str:
  """A number without a unit: 0.53 [0.48, 0.58]."""
  return _printed(statistic, lambda x: _fixed(x, '.2f'), '')


def signed(statistic: dict) -> str:
  """A difference of numbers without a unit: +0.21 [+0.15, +0.27]."""
  return _printed(statistic, lambda x: _fixed(x, '+.2f'), '')


def count(statistic: dict) -> str:
  """A number of items, or its mean over seeds."""
  return _printed(statistic, lambda x: f'{x:,.0f}', '')


def seconds(value: float) -> str:
  """A time: 45 s, 12 min 5 s."""
  minutes, rest = divmod(round(value), 60)
  return f'{minutes} min {rest} s' if minutes else f'{rest} s'


def _fixed(value: float, spec: str) -> str:
  text = format(value, spec)
  if not text.strip('+-0.'):
    text = text.lstrip('+-')  # no sign for what rounds to 0
  return text.replace('-', '−')


def _printed(statistic: dict, number: Callable[[float], str], unit: str) -> str:
  if statistic['mean'] is None:
    return UNDEFINED
  text = number(statistic['mean']) + unit
  if statistic['low'] is None:
    return text
  return f'{text} [{number(statistic["low"])}, {number(statistic["high"])}]'
