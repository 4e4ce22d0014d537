"""Prefix trees of token sequences.

Sequences that begin alike (a prompt with and without its cue, the explanation question
about it) are laid out as one tree: what they share stands there once, and branches
follow in depth-first order. Positions count from the root, so each sequence is numbered
as it is alone. One integer per token tells who sees it: `end`, the exclusive end of its
subtree,

  visible[q, k] = (k <= q) & (q < end[k]).

Shapes: N trees, T tokens.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from data import tokens as tokens_lib

Array = Any  # numpy.ndarray or jax.Array
FILL = 0  # stands where a row has no tree; nothing sees it, so any token will do


class Rows(NamedTuple):
  """Rows of trees, int32 [N, T] each; what fills a row up sees itself alone."""

  tokens: Array
  position: Array  # from the root
  end: Array  # of the token's subtree, exclusive


class Trees(NamedTuple):
  """N trees, one a row."""

  rows: Rows
  size: Array  # int32 [N], tokens of a tree
  apart: Array  # int32 [N], tokens of its sequences, each standing alone


def build(
  groups: Sequence[Sequence[Sequence[int]]],
) -> tuple[Trees, list[list[np.ndarray]]]:
  """A tree for each group of token sequences.

  Args:
    groups: sequences that are to share what they can.

  Returns:
    The trees, in rows of a length among those of `bucket`; and where each sequence of
    each group lies in its tree: the place of every token of it.
  """
  grown = [_grow([np.asarray(x, np.int32) for x in group]) for group in groups]
  sizes = np.array([len(tree.tokens) for tree, _ in grown], np.int32)
  T = int(bucket(sizes.max()))
  fill = np.arange(1, T + 1, dtype=np.int32)
  rows = Rows(
    tokens_lib.pad([tree.tokens for tree, _ in grown], T, FILL),
    tokens_lib.pad([tree.position for tree, _ in grown], T, 0),
    np.stack([np.r_[tree.end, fill[len(tree.end) :]] for tree, _ in grown]),
  )
  apart = np.array([sum(map(len, group)) for group in groups], np.int32)
  return Trees(rows, sizes, apart), [places for _, places in grown]


def bucket(size: Array) -> np.ndarray:
  """The shortest of a few lengths that has room: 8, 12, 16, 24, 32, 48, 64, 96, ...

  Each is at most half longer than needed, and a program is compiled for each.
  """
  size = np.maximum(size, 8)
  power = 2 ** np.ceil(np.log2(size)).astype(np.int64)
  return np.where(size <= power * 3 // 4, power * 3 // 4, power)


def cut(trees: Trees, length: int) -> Trees:
  """Trees of no more than `length` tokens in rows of so many."""
  return trees._replace(rows=Rows(*(x[:, :length] for x in trees.rows)))


def tokens(every: Sequence[Trees], filling: float | None = None) -> dict[str, int]:
  """Pairs, tokens of their trees, of the rows that hold them, of sequences alone.

  Args:
    every: trees, one a pair.
    filling: share of the rows that fills them up; None: rows are those of `bucket`.
  """
  size = sum(int(x.size.sum()) for x in every)
  if filling is None:
    rows = sum(int(bucket(x.size).sum()) for x in every)
  else:
    rows = round(size / (1 - filling))
  return {
    'pairs': sum(len(x.size) for x in every),
    'trees': size,
    'rows': rows,
    'apart': sum(int(x.apart.sum()) for x in every),
  }


def _grow(sequences: Sequence[np.ndarray]) -> tuple[Rows, list[np.ndarray]]:
  """One tree [T], and the places of each sequence."""
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
  return Rows(np.concatenate(tokens), np.concatenate(positions), end[:size]), places


def _shared(a: np.ndarray, b: np.ndarray) -> int:
  """How many tokens two sequences share at their beginning."""
  short = min(len(a), len(b))
  differ = np.flatnonzero(a[:short] != b[:short])
  return int(differ[0]) if len(differ) else short
