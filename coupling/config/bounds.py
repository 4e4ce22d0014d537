"""The numbers that a field of the config may have, as its type."""

from collections.abc import Callable
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt
import numpy as np
import pydantic

MOST = 2**31 - 1  # of an integer: what seeds, steps and sizes are on a device


def _in_float32(value: float, check: Callable[[float], float]) -> float:
  """Refuses a number that is none, or out of its bounds, where it is used."""
  value = check(value)
  with np.errstate(over='ignore', under='ignore'):
    single = float(np.float32(value))
  if abs(single) < np.finfo(np.float32).tiny:
    single = 0.0  # as devices have it
  try:
    check(single)
    lost = value and not single
  except ValueError:
    lost = True
  if lost:
    raise ValueError(f'is {single:g} in float32, in which it is used')
  return value


_IN_FLOAT32 = pydantic.WrapValidator(_in_float32)
_FINITE = pydantic.AllowInfNan(False)

Natural = Annotated[int, Ge(0), Le(MOST)]
Count = Annotated[int, Ge(1), Le(MOST)]
Axis = Literal[-1] | Count
Finite = Annotated[float, _FINITE, _IN_FLOAT32]
Positive = Annotated[float, Gt(0), _FINITE, _IN_FLOAT32]
NotNegative = Annotated[float, Ge(0), _FINITE, _IN_FLOAT32]
Share = Annotated[float, Ge(0), Le(1), _IN_FLOAT32]
Decay = Annotated[float, Ge(0), Lt(1), _IN_FLOAT32]
# 0, which looks like "off", would train nothing without a word; 1e9, say, is "off".
Clip = Positive
