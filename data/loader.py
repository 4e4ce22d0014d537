"""Step-indexed batches: the batch of step i is a pure function of (data, seed, i).

So the position of a run is its step, and resuming needs nothing else.
"""

from collections.abc import Iterator, Sequence
import functools
from typing import Any

import numpy as np

Arrays = Any  # nested dicts and named tuples of NumPy arrays with a common first axis


def size(arrays: Arrays) -> int:
  """Number of rows; the arrays must agree on it."""
  sizes = set(_lengths(arrays))
  if len(sizes) != 1:
    raise ValueError(f'Arrays of different lengths {sorted(sizes)} are no data set.')
  return sizes.pop()


def take(arrays: Arrays, rows_B: np.ndarray) -> Arrays:
  """Some rows of every array; tuples keep their type."""
  if isinstance(arrays, dict):
    return {name: take(x, rows_B) for name, x in arrays.items()}
  if isinstance(arrays, tuple):
    return type(arrays)(*(take(x, rows_B) for x in arrays))
  return arrays[rows_B]


def _lengths(arrays: Arrays) -> Iterator[int]:
  if isinstance(arrays, np.ndarray):
    yield len(arrays)
  else:
    for part in arrays.values() if isinstance(arrays, dict) else arrays:
      yield from _lengths(part)


# What stands for nothing in arrays that others have longer; elsewhere it is 0.
NOTHING = {'options': -1, 'reference': -np.inf}


def fill_up(every: Sequence[Arrays]) -> list[Arrays]:
  """Data sets with the same names, further axes filled up to the longest of each."""
  return _fill_up('', every)


def _fill_up(name: str, every: Sequence[Arrays]) -> list[Arrays]:
  first = every[0]
  if isinstance(first, dict):
    columns = [_fill_up(k, [rows[k] for rows in every]) for k in first]
    return [dict(zip(first, row)) for row in zip(*columns)]
  if isinstance(first, tuple):
    columns = map(_fill_up, first._fields, zip(*every))
    return [type(first)(*row) for row in zip(*columns)]
  shape = np.max([x.shape[1:] for x in every], axis=0, initial=0)
  fill = NOTHING.get(name, 0)
  return [
    np.pad(
      x, [(0, 0), *zip([0] * len(shape), shape - x.shape[1:])], constant_values=fill
    )
    for x in every
  ]


def concatenate(every: Sequence[Arrays]) -> Arrays:
  """Several data sets as one, further axes filled up to the longest of each."""
  return _concatenate(fill_up(every))


def _concatenate(every: Sequence[Arrays]) -> Arrays:
  first = every[0]
  if isinstance(first, dict):
    return {name: _concatenate([x[name] for x in every]) for name in first}
  if isinstance(first, tuple):
    return type(first)(*map(_concatenate, zip(*every)))
  return np.concatenate(every)


class ShuffledBatches:
  """Endless epochs, each in an order of its own; `batches[step]` needs no history."""

  def __init__(self, arrays: Arrays, batch: int, seed: int):
    self.arrays = arrays
    self._size = size(arrays)
    self._batch = batch
    self._order = functools.lru_cache(2)(
      lambda epoch: np.random.default_rng((seed, epoch)).permutation(self._size)
    )

  def __getitem__(self, step: int) -> Arrays:
    return take(self.arrays, self.rows(step))

  def rows(self, step: int) -> np.ndarray:
    """Which rows are those of a step."""
    position_B = np.arange(step * self._batch, (step + 1) * self._batch)
    epoch_B, offset_B = np.divmod(position_B, self._size)
    rows_B = np.empty(self._batch, np.int64)
    for epoch in np.unique(epoch_B):
      here_B = epoch_B == epoch
      rows_B[here_B] = self._order(int(epoch))[offset_B[here_B]]
    return rows_B


def batches(
  arrays: Arrays, batch: int, group_N: np.ndarray | None = None
) -> Iterator[tuple[Arrays, np.ndarray, np.ndarray]]:
  """All rows once; yields (batch, mask_B, row_n).

  Every batch has `batch` rows: the last one of a group is filled up with copies of its
  first row, which `mask_B` marks False. row_n tells which rows the others are.

  Args:
    arrays: the rows.
    batch: rows per batch.
    group_N: batches are of one group; the highest comes first. Default: one of all.
  """
  group_N = np.zeros(size(arrays), int) if group_N is None else group_N
  for group in np.unique(group_N)[::-1]:
    rows_G = np.flatnonzero(group_N == group)
    for start in range(0, len(rows_G), batch):
      row_n = rows_G[start : start + batch]
      mask_B = np.arange(batch) < len(row_n)
      rows_B = np.pad(row_n, (0, batch - len(row_n)), constant_values=row_n[0])
      yield take(arrays, rows_B), mask_B, row_n


def in_order(found: Sequence[np.ndarray], rows: Sequence[np.ndarray]) -> np.ndarray:
  """What was found batch by batch, in the order of the rows that `batches` told."""
  return np.concatenate(found)[np.argsort(np.concatenate(rows))]
