"""Whether a claim holds here: decided by intervals alone, never by point estimates.

Every rule names a statistic and where it must lie. The claim agrees where the whole
95% interval lies there, disagrees where the whole interval lies elsewhere, and is not
decided where the interval holds both, or where there is none.
"""

from collections.abc import Iterable
import dataclasses

from coupling.report.findings import sign

AGREES, DISAGREES, UNDECIDED = 'agrees', 'disagrees', 'not decided'
# "Vanishes" cannot be told from "is small" by any data; "less than half is left" can.
HALF = 0.5


@dataclasses.dataclass(frozen=True)
class Row:
  """One line of the summary: a claim, what was found, and whether that agrees."""

  claim: str
  here: str  # with its interval
  state: str
  rule: str  # when it agrees


def above(statistic: dict, zero: float = 0.0) -> str:
  """Whether a statistic lies above a number."""
  found = sign(statistic, zero)
  return {'above': AGREES, 'below': DISAGREES}.get(found, UNDECIDED)


def below(statistic: dict, zero: float = 0.0) -> str:
  """Whether a statistic lies below a number."""
  return opposite(above(statistic, zero))


def opposite(state: str) -> str:
  return {AGREES: DISAGREES, DISAGREES: AGREES}.get(state, UNDECIDED)


def lost(effect: dict, half: dict) -> str:
  """Whether less than half of an effect is left without its cause.

  Args:
    effect: with the cause. Unless it is above 0, nothing could be lost.
    half: half of the effect less what is left.
  """
  return above(half) if above(effect) == AGREES else UNDECIDED


def provided(state: str, *needed: str) -> str:
  """A state that agrees only where others agree too, and else is not decided."""
  return UNDECIDED if state == AGREES and set(needed) - {AGREES} else state


def between(statistic: dict, low: float, high: float) -> str:
  """Whether a statistic lies in a range: outside it on either side disagrees."""
  if sign(statistic, high) == 'above' or sign(statistic, low) == 'below':
    return DISAGREES
  inside = sign(statistic, low) == 'above' and sign(statistic, high) == 'below'
  return AGREES if inside else UNDECIDED


def every(states: Iterable[str]) -> str:
  """A claim of several parts: agrees where all do, disagrees where any does not."""
  found = set(states)
  if DISAGREES in found:
    return DISAGREES
  return AGREES if found == {AGREES} else UNDECIDED
