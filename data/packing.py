"""Rows that hold several trees, none of which sees another.

Shapes: n trees, R rows of T tokens, C readings of a tree.
"""

import numpy as np

from data import trees as trees_lib


def arrange(size_n: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
  """First-fit decreasing: a row and an offset for every tree.

  Args:
    size_n: tokens of each tree.
    length: of a row.

  Returns:
    row_n and offset_n; rows are numbered from 0 without gaps.

  Raises:
    ValueError: a tree that is longer than a row.
  """
  if size_n.max() > length:
    raise ValueError(f'A tree of {size_n.max()} tokens is longer than a row, {length}.')
  row_n, offset_n = np.zeros_like(size_n), np.zeros_like(size_n)
  used_R = np.zeros(len(size_n), np.int64)  # no more rows than trees
  for i in np.argsort(-size_n, kind='stable'):
    row = int(np.argmax(used_R + size_n[i] <= length))
    row_n[i], offset_n[i] = row, used_R[row]
    used_R[row] += size_n[i]
  return row_n, offset_n


def pack(
  trees: trees_lib.Trees,
  row_n: np.ndarray,
  offset_n: np.ndarray,
  shape: tuple[int, int],
) -> trees_lib.Rows:
  """Rows of `shape`, R and T, that hold the trees."""
  R, T = shape
  width = trees.rows.tokens.shape[1]
  within_nxT = np.arange(width) < trees.size[:, None]
  start_n = row_n.astype(np.int64) * T + offset_n
  place = (start_n[:, None] + np.arange(width))[within_nxT]
  tokens = np.full(R * T, trees_lib.FILL, np.int32)
  position = np.zeros(R * T, np.int32)
  end = np.tile(np.arange(1, T + 1, dtype=np.int32), R)
  tokens[place] = trees.rows.tokens[within_nxT]
  position[place] = trees.rows.position[within_nxT]
  end[place] = (trees.rows.end + offset_n[:, None])[within_nxT]
  return trees_lib.Rows(*(x.reshape(R, T) for x in (tokens, position, end)))


def deal(
  value_nxC: np.ndarray,
  kept_nxC: np.ndarray,
  row_n: np.ndarray,
  shape: tuple[int, int],
  fill: float = 0,
) -> np.ndarray:
  """Readings of trees as those of their rows.

  Args:
    value_nxC: one value of any further shape for each reading.
    kept_nxC: readings that there are.
    row_n: of each tree.
    shape: R rows, and slots for readings in each.
    fill: of slots that are left.
  """
  row_m = np.broadcast_to(row_n[:, None], kept_nxC.shape)[kept_nxC]
  order_m = np.argsort(row_m, kind='stable')
  sorted_m = row_m[order_m]
  slot_m = np.arange(len(row_m)) - np.searchsorted(sorted_m, sorted_m)
  dealt = np.full((*shape, *value_nxC.shape[2:]), fill, value_nxC.dtype)
  dealt[sorted_m, slot_m] = value_nxC[kept_nxC][order_m]
  return dealt
