"""Prefix trees of token sequences, and rows that hold several of them.

Sequences that begin alike (a prompt with and without its cue, the explanation question
about it) are laid out as one tree (DESIGN section 5, counterfactual trees): what they
share stands there once, and branches follow in depth-first order. Positions count from
the root, so each sequence is numbered as it is alone. One integer per token tells who
sees it: `end`, the exclusive end of its subtree,

  visible[q, k] = (k <= q) & (q < end[k]),

and in a row that holds several trees no tree sees another. Shapes: N trees or n of a
batch, T tokens of a tree or row, R rows, C readings.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Trees(NamedTuple):
  """N trees, each filled up on the right; filling sees itself alone."""

  tokens_NxT: np.ndarray  # int32
  position_NxT: np.ndarray  # int32, from the root
  end_NxT: np.ndarray  # int32
  size_N: np.ndarray  # int32, tokens of a tree
  apart_N: np.ndarray  # int32, tokens of its sequences, each standing alone


class Packing(NamedTuple):
  """The shape of every packed batch of a run."""

  rows: int
  length: int


def build(
  groups: Sequence[Sequence[Sequence[int]]], pad_token: int
) -> tuple[Trees, list[list[np.ndarray]]]:
  """A tree for each group of token sequences.

  Args:
    groups: sequences that are to share what they can, each of one token or more.
    pad_token: fills rows.

  Returns:
    The trees, and where each sequence of each group lies in its tree: the place of
    every token of it.
  """
  grown = [_grow([np.asarray(x, np.int32) for x in group]) for group in groups]
  size_N = np.array([len(tokens) for (tokens, _, _), _ in grown], np.int32)
  T = int(size_N.max())
  columns = zip(*(tree for tree, _ in grown))
  tokens_NxT, position_NxT, end_NxT = (
    np.stack([np.pad(x, (0, T - len(x))) for x in column]) for column in columns
  )
  filling_NxT = np.arange(T) >= size_N[:, None]
  tokens_NxT[filling_NxT] = pad_token
  end_NxT = np.where(filling_NxT, np.arange(1, T + 1), end_NxT).astype(np.int32)
  apart_N = np.array([sum(map(len, group)) for group in groups], np.int32)
  trees = Trees(tokens_NxT, position_NxT, end_NxT, size_N, apart_N)
  return trees, [places for _, places in grown]


def cut(trees: dict[str, np.ndarray], step: int = 64) -> dict[str, np.ndarray]:
  """Rows no longer than the largest of their trees needs, in steps of so many tokens.

  So trees of similar sizes have one of a few lengths, for each of which a program is
  compiled.

  Args:
    trees: tokens, position and end [B, T], size [B], and any other arrays.
    step: of the lengths.
  """
  length = -(-int(trees['size'].max()) // step) * step
  return trees | {
    name: trees[name][:, :length] for name in ('tokens', 'position', 'end')
  }


def _grow(
  sequences: Sequence[np.ndarray],
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], list[np.ndarray]]:
  """Tokens, positions and ends of one tree, and the places of each sequence."""
  # In the order of their tokens, each shares the most with the one before it.
  order = sorted(range(len(sequences)), key=lambda i: sequences[i].tolist())
  tokens, positions, places = [], [], [np.zeros(0, np.int64)] * len(sequences)
  end = np.zeros(sum(map(len, sequences)), np.int32)
  size, before, path = 0, sequences[order[0]][:0], np.zeros(0, np.int64)
  for i in order:
    sequence = sequences[i]
    shared = _shared(before, sequence)
    end[path[shared:]] = size  # what branches off here closes
    new = len(sequence) - shared
    tokens.append(sequence[shared:])
    positions.append(np.arange(shared, len(sequence), dtype=np.int32))
    path = np.concatenate([path[:shared], np.arange(size, size + new)])
    size, before, places[i] = size + new, sequence, path
  end[path] = size
  return (np.concatenate(tokens), np.concatenate(positions), end[:size]), places


def _shared(a: np.ndarray, b: np.ndarray) -> int:
  """How many tokens two sequences share at their beginning."""
  short = min(len(a), len(b))
  differ = np.flatnonzero(a[:short] != b[:short])
  return int(differ[0]) if len(differ) else short


def arrange(size_n: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
  """First-fit decreasing: a row and an offset for every tree.

  Args:
    size_n: tokens of each tree, at most `length`.
    length: of a row.

  Returns:
    row_n and offset_n; rows are numbered from 0 without gaps.
  """
  row_n, offset_n = np.zeros_like(size_n), np.zeros_like(size_n)
  used_R = np.zeros(len(size_n), np.int64)  # no more rows than trees
  for i in np.argsort(-size_n, kind='stable'):
    row = int(np.argmax(used_R + size_n[i] <= length))
    row_n[i], offset_n[i] = row, used_R[row]
    used_R[row] += size_n[i]
  return row_n, offset_n


def pack(
  trees: Trees, row_n: np.ndarray, offset_n: np.ndarray, packing: Packing, pad: int
) -> dict[str, np.ndarray]:
  """Rows that hold the trees.

  Returns:
    tokens, position and end [R, T]; of an end, filling sees itself alone.
  """
  R, T = packing
  within_nxT = np.arange(trees.tokens_NxT.shape[1]) < trees.size_N[:, None]
  start_n = row_n.astype(np.int64) * T + offset_n
  place = (start_n[:, None] + np.arange(within_nxT.shape[1]))[within_nxT]
  tokens = np.full(R * T, pad, np.int32)
  position = np.zeros(R * T, np.int32)
  end = np.tile(np.arange(1, T + 1, dtype=np.int32), R)
  tokens[place] = trees.tokens_NxT[within_nxT]
  position[place] = trees.position_NxT[within_nxT]
  end[place] = (trees.end_NxT + offset_n[:, None])[within_nxT]
  found = {'tokens': tokens, 'position': position, 'end': end}
  return {name: x.reshape(R, T) for name, x in found.items()}


def slots(row_m: np.ndarray) -> np.ndarray:
  """int [m]: the how-manieth of its row each reading is."""
  order_m = np.argsort(row_m, kind='stable')
  sorted_m = row_m[order_m]
  first_m = np.searchsorted(sorted_m, sorted_m)
  slot_m = np.empty_like(row_m)
  slot_m[order_m] = np.arange(len(row_m)) - first_m
  return slot_m


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
  dealt = np.full((*shape, *value_nxC.shape[2:]), fill, value_nxC.dtype)
  dealt[row_m, slots(row_m)] = value_nxC[kept_nxC]
  return dealt
