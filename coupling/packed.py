"""Batches in which the questions about one pair share what they begin with.

A draw is of pairs: the explanation question and the two behaviour questions of each
become a prefix tree (data.trees), and the trees of a draw are packed into rows. Which
pairs are drawn does not depend on how they are packed. Shapes: N pairs or n of a draw,
T tokens, R rows, C readings.
"""

from collections.abc import Mapping, Sequence
import dataclasses

import numpy as np

from coupling import train
from data import loader
from data import trees as trees_lib


@dataclasses.dataclass(frozen=True)
class Plan:
  """The shape of all batches of a run, so that one program serves them.

  Attributes:
    rows: of trees.
    length: tokens of a row.
    readings: part of a batch -> its readings in a row, at most.
    pad_token: fills rows.
  """

  rows: int
  length: int
  readings: Mapping[str, int] = dataclasses.field(hash=False)
  pad_token: int


def grow(
  asked: Mapping[str, loader.Arrays],
  members: Mapping[str, np.ndarray],
  pad_token: int,
) -> loader.Arrays:
  """Trees of pairs, and what is read in them.

  Args:
    asked: part of a batch -> questions, see behavior.questions, with any further arrays
      [M, C, ...] of what is read.
    members: part of a batch -> which of its questions are about each pair, [N, X].
    pad_token: fills rows.

  Returns:
    `trees`: a data.trees.Trees; and for each part its arrays without the questions,
    [N, X * C, ...], where `read` tells places in the tree.
  """
  sequences = {
    part: [row[valid].tolist() for row, valid in zip(x['tokens'], x['valid'])]
    for part, x in asked.items()
  }
  groups = [
    [sequences[part][row] for part, rows in zip(members, one) for row in rows]
    for one in zip(*members.values(), strict=True)
  ]
  trees, places = trees_lib.build(groups, pad_token)
  grown, first = {train.TREES: trees}, 0
  for part, member_NxX in members.items():
    N, X = member_NxX.shape
    kept = {
      name: x[member_NxX].reshape(N, -1, *x.shape[2:])
      for name, x in asked[part].items()
      if name not in ('tokens', 'valid')
    }
    read_NxXxC = kept['read'].reshape(N, X, -1)
    found_NxXxC = np.empty_like(read_NxXxC)
    for i, place in enumerate(places):
      for x in range(X):
        found_NxXxC[i, x] = place[first + x][read_NxXxC[i, x]]
    grown[part] = kept | {'read': found_NxXxC.reshape(N, -1)}
    first += X
  return grown


def plan(
  parts: Mapping[str, loader.ShuffledBatches],
  steps: int,
  multiple: int,
  pad_token: int,
) -> Plan:
  """The shape that the batches of all steps fit.

  Args:
    parts: what is drawn at each step, of `grow`.
    steps: of the run.
    multiple: what the rows must be a multiple of.
    pad_token: fills rows.
  """
  rows, readings = 1, dict.fromkeys(train.READ, 0)
  longest = max(int(x.arrays[train.TREES].size_N.max()) for x in parts.values())
  length = -(-longest // 8) * 8  # a round number is kinder to matrix units
  # For each pair of a part: its tokens, and what is read in it.
  numbers = {
    name: np.stack(
      [
        x.arrays[train.TREES].size_N,
        *(_readings(x.arrays, part) for part in train.READ),
      ]
    )
    for name, x in parts.items()
  }
  for step in range(steps):
    drawn = [numbers[name][:, x.rows(step)] for name, x in parts.items()]
    size_n, *counts = np.concatenate(drawn, axis=1)
    row_n, _ = trees_lib.arrange(size_n, length)
    rows = max(rows, int(row_n.max()) + 1)
    for part, count_n in zip(train.READ, counts):
      most = np.bincount(row_n, weights=count_n).max()
      readings[part] = max(readings[part], int(most))
  rows = -(-rows // multiple) * multiple
  return Plan(rows, length, {k: n for k, n in readings.items() if n}, pad_token)


def _readings(arrays: loader.Arrays, part: str) -> np.ndarray:
  """int [N]: how much is read of each pair."""
  if part not in arrays:
    return np.zeros(len(arrays[train.TREES].size_N), np.int64)
  return _read(arrays[part]).sum(axis=1)


def largest(plans: Sequence[Plan]) -> Plan:
  """A plan that has room for the batches of all."""
  first = plans[0]
  return Plan(
    max(plan.rows for plan in plans),
    max(plan.length for plan in plans),
    {part: max(plan.readings[part] for plan in plans) for part in first.readings},
    first.pad_token,
  )


def pack(drawn: Sequence[loader.Arrays], plan: Plan) -> train.Batch:
  """The batch of a draw.

  Args:
    drawn: trees and readings, of `grow`.
    plan: of the run.
  """
  every = loader.fill_up([x[train.TREES] for x in drawn])
  trees = trees_lib.Trees(*map(np.concatenate, zip(*every)))
  row_n, offset_n = trees_lib.arrange(trees.size_N, plan.length)
  packing = trees_lib.Packing(plan.rows, plan.length)
  batch = {train.TREES: trees_lib.pack(trees, row_n, offset_n, packing, plan.pad_token)}
  sizes = np.cumsum([len(x[train.TREES].size_N) for x in drawn])[:-1]
  places = list(zip(drawn, np.split(row_n, sizes), np.split(offset_n, sizes)))
  for part, slots in plan.readings.items():
    having = [(x[part], row, offset) for x, row, offset in places if part in x]
    rows_n = np.concatenate([row for _, row, _ in having])
    kept_nxC = np.concatenate([_read(x) for x, _, _ in having])
    batch[part] = {}
    for name in having[0][0]:
      values = [
        x[name] + offset[:, None] if name == 'read' else x[name]
        for x, _, offset in having
      ]
      # Nothing is read in a slot that is left, yet its gradient must be a number.
      fill = 0 if name == 'options' else loader.NOTHING.get(name, 0)
      batch[part][name] = trees_lib.deal(
        np.concatenate(values), kept_nxC, rows_n, (plan.rows, slots), fill
      )
  return batch


def _read(part: loader.Arrays) -> np.ndarray:
  """bool [n, C]: positions that some term of the loss reads."""
  return part['mask'] | part.get('shift_mask', False)
