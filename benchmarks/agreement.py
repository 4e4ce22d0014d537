"""How far reports of a paper agree: verdicts of the same claims on other worlds.

  python -m benchmarks.agreement benchmarks/results/paper{_41,}.md

Reads the claim tables of report.md: the first report against the others together, of
which the first that has a claim counts. A verdict is that of the interval of 95%, each
claim alone, which does not depend on how many others there are. Prints how verdicts
cross, and the claims that differ. Numbers differ where their distance exceeds the root
of the sum of squares of the halves of both intervals: of two that do not, over five
worlds each, about 2% do.
"""

import collections
from collections.abc import Iterator
import math
import pathlib
import re
from typing import NamedTuple

from absl import app

ALONE = re.compile(r'alone: ([a-z ]+)')
NUMBER = re.compile(r'^(\S+?)%? \[(\S+), (\S+)\]$')
COLUMNS = ('Study', 'Claim', 'Number [95%]', 'State')
STATES = ('supported', 'contradicted', 'inconclusive', 'not tested')


class Verdict(NamedTuple):
  state: str
  told: str  # number and interval, as they stand in the table
  interval: tuple[float, float, float] | None


def read(path: pathlib.Path) -> dict[tuple[str, str], Verdict]:
  """The verdicts of a report by study and claim.

  Raises:
    ValueError: no table of claims, or a state that is none of STATES.
  """
  found = {}
  for cells in _rows(path.read_text()):
    study, claim, told, state = (cells[name] for name in COLUMNS)
    alone = ALONE.search(state)
    state = (alone[1] if alone else state).partition(',')[0].strip()
    if state not in STATES:
      raise ValueError(f'{path}: {claim!r}: the state {state!r} is none of {STATES}')
    found[study, claim] = Verdict(state, told, _interval(told))
  if not found:
    raise ValueError(f'{path}: no table with the columns {COLUMNS}: give a report.md')
  return found


def _rows(text: str) -> Iterator[dict[str, str]]:
  """The rows of the table that has COLUMNS."""
  heads = None
  for line in text.splitlines():
    cells = [x.strip() for x in line.strip('| ').split(' | ')]
    if not line.startswith('|'):
      heads = None
    elif set(COLUMNS) <= set(cells):
      heads = cells
    elif heads and not cells[0].startswith('---'):
      yield dict(zip(heads, cells))


def _interval(told: str) -> tuple[float, float, float] | None:
  match = NUMBER.match(told.replace('−', '-'))
  return tuple(map(float, match.groups())) if match else None


def differ(one: Verdict, other: Verdict) -> bool:
  """Whether two numbers differ by more than their intervals leave open."""
  if one.interval is None or other.interval is None:
    return False
  (a, *bounds), (b, *others) = one.interval, other.interval
  halves = ((high - low) / 2 for low, high in (bounds, others))
  return abs(a - b) > math.hypot(*halves)


def lines(first: dict, second: dict) -> Iterator[str]:
  """The report, in Markdown."""
  both = [key for key in first if key in second]
  lone = [
    sorted({*one} - {*other}) for one, other in ((first, second), (second, first))
  ]
  crossed = collections.Counter((first[k].state, second[k].state) for k in both)
  yield (
    f'{len(both)} claims are in both; {len(lone[0])} in the first alone, '
    f'{len(lone[1])} in the second alone.\n'
  )
  yield f'| first \\ second | {" | ".join(STATES)} |\n| --- |{" ---: |" * len(STATES)}'
  for state in STATES:
    counts = (str(crossed[state, other]) for other in STATES)
    yield f'| {state} | {" | ".join(counts)} |'
  yield ''
  for state in STATES[:2]:
    had = [k for k in both if first[k].state == state]
    yield f'First {state}: {len(had)}; second too: {crossed[state, state]}.'
  measured = [k for k in both if first[k].interval and second[k].interval]
  apart = sum(differ(first[k], second[k]) for k in measured)
  yield f'Numbers that differ: {apart} of {len(measured)}.\n'
  yield '| study | claim | first | second | numbers differ |\n' + '| --- ' * 5 + '|'
  for key in lone[0] + lone[1]:
    which = 'the first alone' if key in first else 'the second alone'
    yield f'| {" | ".join((*key, which))} | | |'
  for key in both:
    one, other = first[key], second[key]
    if one.state != other.state or differ(one, other):
      told = (f'{x.told} {x.state}' for x in (one, other))
      far = 'yes' if differ(one, other) else ''
      yield f'| {" | ".join((*key, *told, far))} |'


def main(argv: list[str]) -> None:
  if len(argv) < 3:
    raise app.UsageError('give two report.md, or more')
  first, *others = (read(pathlib.Path(x)) for x in argv[1:])
  print('\n'.join(lines(first, dict(collections.ChainMap(*others)))))


if __name__ == '__main__':
  app.run(main)
