"""Batches in which the questions about one pair share what they begin with.

A draw is of pairs: what is asked about each becomes a prefix tree (data.trees), and the
trees of a draw are packed into rows (data.packing). Which pairs are drawn does not
depend on how they are packed. Shapes: N pairs or n of a draw, C readings.
"""

from collections.abc import Mapping, Sequence
import dataclasses

import numpy as np

from data import loader
from data import packing
from data import trees as trees_lib

# Parts of a batch: what is read; and rows of trees, if it is read in these.
READ = ('explanation', 'behavior')
TREES = 'trees'
LONG_ROW = 512  # tokens; rows are not made longer than this to have less filling


@dataclasses.dataclass(frozen=True)
class Plan:
  """The shape of all batches of a run, so that one program serves them.

  Attributes:
    rows: how many.
    length: tokens of a row.
    readings: part of a batch -> its readings in a row, at most.
  """

  rows: int
  length: int
  readings: Mapping[str, int]


def grow(
  asked: Mapping[str, loader.Arrays],
  members: Mapping[str, np.ndarray],
) -> loader.Arrays:
  """Trees of pairs, and what is read in them.

  Args:
    asked: part of a batch -> questions, see encoding.questions, with any further arrays
      [M, C, ...] of what is read; or with `suffixes` and `options` of options.readings,
      C of each question, with arrays [M, 1, ...].
    members: part of a batch -> which of its questions are about each pair, [N, X].

  Returns:
    `trees`: a data.trees.Trees; and for each part its arrays without the questions,
    [N, X * C, ...], where `read` tells places in the tree.
  """
  sequences = {part: _sequences(x) for part, x in asked.items()}
  groups = [
    [x for part, rows in zip(members, one) for i in rows for x in sequences[part][i]]
    for one in zip(*members.values(), strict=True)
  ]
  trees, places = trees_lib.build(groups)
  grown, first = {TREES: trees}, 0
  for part, member_NxX in members.items():
    N, X = member_NxX.shape
    kept = {
      name: x[member_NxX].reshape(N, -1, *x.shape[2:])
      for name, x in asked[part].items()
      if name not in ('tokens', 'valid', 'suffixes')
    }
    if 'suffixes' in asked[part]:  # each sequence is read where it ends
      C = kept['options'].shape[-2]
      ends = [[x[-1] for x in place[first : first + X * C]] for place in places]
      grown[part] = kept | {'read': np.array(ends, np.int32).reshape(N, X, C)}
      first += X * C
      continue
    read_NxXxC = kept['read'].reshape(N, X, -1)
    found_NxXxC = np.empty_like(read_NxXxC)
    for i, place in enumerate(places):
      for x in range(X):
        found_NxXxC[i, x] = place[first + x][read_NxXxC[i, x]]
    grown[part] = kept | {'read': found_NxXxC.reshape(N, -1)}
    first += X
  return grown


def _sequences(asked: loader.Arrays) -> list[list[list[int]]]:
  """The token sequences of each question: one, or one with each of its suffixes."""
  rows = [row[valid].tolist() for row, valid in zip(asked['tokens'], asked['valid'])]
  if 'suffixes' not in asked:
    return [[row] for row in rows]
  C = asked['options'].shape[-2]
  return [
    [row + [*suffix] for suffix in suffixes + ((),) * (C - len(suffixes))]
    for row, suffixes in zip(rows, asked['suffixes'])
  ]


def plan(
  pools: Mapping[str, loader.ShuffledBatches],
  steps: int,
  multiple: int,
) -> Plan | None:
  """The shape that the batches of all steps fit; None where nothing is of `grow`.

  Args:
    pools: what is drawn from at each step.
    steps: of the run.
    multiple: what the rows must be a multiple of.
  """
  pools = _grown(pools)
  if not pools:
    return None
  parts = [part for part in READ if any(part in x.arrays for x in pools.values())]
  # For each pair of a pool: its tokens, and how much is read in it.
  numbers = {
    name: np.stack(
      [
        pool.arrays[TREES].size,
        *(_readings(pool.arrays, part) for part in parts),
      ]
    )
    for name, pool in pools.items()
  }
  draws = [
    np.concatenate([numbers[k][:, x.rows(step)] for k, x in pools.items()], axis=1)
    for step in range(steps)
  ]
  longest = max(int(x[0].max()) for x in numbers.values())
  lengths = _row_lengths(longest)
  plans = [_of_length(length, draws, parts, multiple) for length in lengths]
  return min(plans, key=lambda plan: plan.rows * plan.length)  # the shortest of equals


def _row_lengths(longest: int) -> list[int]:
  """Lengths that rows may have: one for the longest tree; where trees are short, more.

  Multiples of 8 are kinder to matrix units.
  """
  least = -(-longest // 8) * 8
  return [least, *range(least + 8, min(4 * least, LONG_ROW) + 1, 8)]


def _of_length(
  length: int, draws: Sequence[np.ndarray], parts: Sequence[str], multiple: int
) -> Plan:
  """The fewest rows of a length that hold every draw, of `numbers` in `plan`."""
  rows, most = 1, dict.fromkeys(parts, 1)
  for size_n, *counts in draws:
    row_n, _ = packing.arrange(size_n, length)
    rows = max(rows, int(row_n.max()) + 1)
    for part, count_n in zip(parts, counts):
      in_row_R = np.bincount(row_n, weights=count_n)
      most[part] = max(most[part], int(in_row_R.max()))
  return Plan(-(-rows // multiple) * multiple, length, most)


def filling(
  pools: Mapping[str, loader.ShuffledBatches], steps: int, plan: Plan
) -> float:
  """The share of a run's tokens that fill rows up."""
  size = sum(
    pool.arrays[TREES].size[pool.rows(step)].sum()
    for pool in _grown(pools).values()
    for step in range(steps)
  )
  return 1 - float(size) / (steps * plan.rows * plan.length)


def pack(drawn: Sequence[loader.Arrays], plan: Plan) -> loader.Arrays:
  """The batch of a draw.

  Args:
    drawn: trees and readings of each pool, of `grow`.
    plan: of the run.
  """
  trees = loader.concatenate([x[TREES] for x in drawn])
  row_n, offset_n = packing.arrange(trees.size, plan.length)
  shape = plan.rows, plan.length
  batch = {TREES: packing.pack(trees, row_n, offset_n, shape)}
  ends = np.cumsum([len(x[TREES].size) for x in drawn])[:-1]
  places = list(zip(drawn, np.split(row_n, ends), np.split(offset_n, ends)))
  for part, slots in plan.readings.items():
    having = [
      (x[part] | {'read': _moved(x[part]['read'], offset)}, row)
      for x, row, offset in places
      if part in x
    ]
    values = loader.concatenate([x for x, _ in having])
    rows_n = np.concatenate([row for _, row in having])
    kept_nxC = _read(values)
    batch[part] = {
      name: packing.deal(
        x,
        kept_nxC,
        rows_n,
        (plan.rows, slots),
        # Nothing is read in a slot that is left, yet its gradient must be a number.
        0 if name == 'options' else loader.NOTHING.get(name, 0),
      )
      for name, x in values.items()
    }
  return batch


def _grown(
  pools: Mapping[str, loader.ShuffledBatches],
) -> dict[str, loader.ShuffledBatches]:
  return {name: pool for name, pool in pools.items() if TREES in pool.arrays}


def _moved(read_nxX: np.ndarray, offset_n: np.ndarray) -> np.ndarray:
  return read_nxX + offset_n.reshape(-1, *[1] * (read_nxX.ndim - 1))


def _readings(arrays: loader.Arrays, part: str) -> np.ndarray:
  """int [N]: how much is read of each pair."""
  if part not in arrays:
    return np.zeros_like(arrays[TREES].size)
  return _read(arrays[part]).sum(axis=1)


def _read(part: loader.Arrays) -> np.ndarray:
  """bool [n, C]: positions that some term of the loss reads."""
  return part['mask'] | part.get('shift_mask', False)
