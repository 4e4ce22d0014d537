"""Conclusions as rows of numbers, decided by intervals and never by point estimates.

A claim names a statistic and where it must lie. It is supported where the whole 95%
interval lies there, contradicted where the whole interval lies elsewhere, inconclusive
where the interval holds both, and not tested where there is no interval or no run to
compare with. All words are constants of a table of claims.
"""

from collections.abc import Iterable, Mapping
import dataclasses

from coupling.statistics import intervals

SUPPORTED, CONTRADICTED = 'supported', 'contradicted'
INCONCLUSIVE, NOT_TESTED, WARNING = 'inconclusive', 'not tested', 'warning'
# "Vanishes" cannot be distinguished from "is small" by data; "less than half is left"
# can.
HALF = 0.5


@dataclasses.dataclass(frozen=True)
class Claim:
  """What is constant of a claim."""

  text: str
  why: str  # it is supported, in one clause; of a warning: what can be done
  unit: str = 'points'  # of its number: a function of numerals
  against: str = ''  # what its reference is
  matters: float = 0.0  # the smallest effect above 0 that does, in its number's unit
  decides: bool = False  # whether a headline rests on it


@dataclasses.dataclass(frozen=True)
class Row:
  """A claim and what was found; `about`: which runs, where a claim is of several."""

  claim: str  # its key in the table of claims
  number: float | None
  low: float | None
  high: float | None
  reference: float | None  # what stands beside the number
  state: str
  about: str
  text: str
  why: str
  unit: str
  against: str
  matters: float
  decides: bool
  # Of its median over seeds, which one seed far off does not move; None: too few seeds.
  median_low: float | None
  median_high: float | None


def row(
  claims: Mapping[str, Claim],
  key: str,
  statistic: dict | None,
  state: str,
  reference: float | None = None,
  about: str = '',
) -> Row:
  """A row of a table of claims.

  Args:
    claims: the table.
    key: of the claim.
    statistic: {mean, low, high}; None where nothing was run.
    state: SUPPORTED, CONTRADICTED, INCONCLUSIVE or WARNING. An inconclusive one whose
      whole interval lies below what matters is contradicted.
    reference: what the number is to be seen beside.
    about: which runs or doses.
  """
  found = statistic or dict.fromkeys(('mean', 'low', 'high'))
  number, low, high = (found[name] for name in ('mean', 'low', 'high'))
  claim = claims[key]
  if state == INCONCLUSIVE:
    if low is None:
      state = NOT_TESTED
    elif claim.matters and high < claim.matters:
      state = CONTRADICTED
  constant = dataclasses.asdict(claim)
  return Row(
    key, number, low, high, reference, state, about, **constant, **_median(found)
  )


def _median(statistic: dict) -> dict[str, float | None]:
  per_seed = statistic.get('per_seed') or [None]
  low = high = None
  if None not in per_seed:
    _, low, high = intervals.median_interval(per_seed)
  return {'median_low': low, 'median_high': high}


def sign(statistic: dict, zero: float = 0.0) -> str:
  """Where an interval lies: 'above', 'below' or 'around' a number, or 'unknown'."""
  if statistic['low'] is None:
    return 'unknown'
  if statistic['low'] > zero:
    return 'above'
  return 'below' if statistic['high'] < zero else 'around'


def above(statistic: dict, zero: float = 0.0) -> str:
  """Whether a statistic lies above a number."""
  found = sign(statistic, zero)
  return {'above': SUPPORTED, 'below': CONTRADICTED}.get(found, INCONCLUSIVE)


def below(statistic: dict, zero: float = 0.0) -> str:
  """Whether a statistic lies below a number."""
  return opposite(above(statistic, zero))


def opposite(state: str) -> str:
  return {SUPPORTED: CONTRADICTED, CONTRADICTED: SUPPORTED}.get(state, INCONCLUSIVE)


def lost(effect: dict, half: dict) -> str:
  """Whether less than half of an effect is left without its cause.

  Args:
    effect: with the cause. Unless it is above 0, nothing could be lost.
    half: half of the effect minus what is left.
  """
  return above(half) if above(effect) == SUPPORTED else INCONCLUSIVE


def provided(state: str, *needed: str) -> str:
  """A state that is supported only where others are too, and else inconclusive."""
  return INCONCLUSIVE if state == SUPPORTED and set(needed) - {SUPPORTED} else state


def between(statistic: dict, low: float, high: float) -> str:
  """Whether a statistic lies in a range: outside it on either side contradicts."""
  if sign(statistic, high) == 'above' or sign(statistic, low) == 'below':
    return CONTRADICTED
  inside = sign(statistic, low) == 'above' and sign(statistic, high) == 'below'
  return SUPPORTED if inside else INCONCLUSIVE


def every(states: Iterable[str]) -> str:
  """A claim of several parts: supported where all are, contradicted where one is."""
  found = set(states)
  if CONTRADICTED in found:
    return CONTRADICTED
  return SUPPORTED if found == {SUPPORTED} else INCONCLUSIVE


def smallest(statistics: Iterable[dict]) -> dict:
  """The statistic that a claim of several depends on: the one that reaches lowest.

  One without an interval comes before all others.
  """
  lowest = lambda x: float('-inf') if x['low'] is None else x['low']
  return min(statistics, key=lowest)


def largest(statistics: Iterable[dict]) -> dict:
  """The same of a claim that all lie below zero: the one that reaches highest."""
  highest = lambda x: float('inf') if x['high'] is None else x['high']
  return max(statistics, key=highest)
