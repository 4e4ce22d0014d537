"""Step-indexed batches: every row once an epoch, and no history."""

import collections

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from data import loader

sizes = st.tuples(st.integers(1, 12), st.integers(1, 15))


def arrays(n):
  """Nested arrays whose rows all carry the row's number."""
  rows_N = np.arange(n)
  return {'a': rows_N, 'part': {'b': np.c_[rows_N, 10 * rows_N], 'c': rows_N + 0.5}}


def rows_of(batch):
  """Row numbers of a batch, after checking that every leaf tells the same."""
  rows_B = batch['a']
  np.testing.assert_array_equal(batch['part']['b'], np.c_[rows_B, 10 * rows_B])
  np.testing.assert_array_equal(batch['part']['c'], rows_B + 0.5)
  return rows_B.tolist()


@given(sizes, st.integers(0, 9))
@settings(deadline=None, max_examples=50)
def test_every_epoch_covers_each_row_once(n_and_batch, seed):
  n, batch = n_and_batch
  batches = loader.ShuffledBatches(arrays(n), batch, seed)
  stream = [row for step in range(3 * n) for row in rows_of(batches[step])]
  assert len(stream) == 3 * n * batch  # every batch is full
  for start in range(0, len(stream) - n + 1, n):
    assert sorted(stream[start : start + n]) == list(range(n))


def test_epochs_and_seeds_have_orders_of_their_own():
  n = 20
  stream = rows_of(loader.ShuffledBatches(arrays(n), 3 * n, 0)[0])
  other = rows_of(loader.ShuffledBatches(arrays(n), 3 * n, 1)[0])
  epochs = {tuple(x[i : i + n]) for x in (stream, other) for i in (0, n, 2 * n)}
  assert len(epochs) == 6
  assert tuple(range(n)) not in epochs


@given(sizes, st.lists(st.integers(0, 40), min_size=1, max_size=6))
@settings(deadline=None, max_examples=50)
def test_a_batch_does_not_depend_on_what_was_read_before(n_and_batch, steps):
  n, batch = n_and_batch
  used = loader.ShuffledBatches(arrays(n), batch, 5)
  for step in steps:
    fresh = loader.ShuffledBatches(arrays(n), batch, 5)
    assert rows_of(used[step]) == rows_of(fresh[step])


@given(sizes)
@settings(deadline=None, max_examples=50)
def test_batches_cover_each_row_once_in_order(n_and_batch):
  n, batch = n_and_batch
  rows, count = [], 0
  for part, mask_B, row_n in loader.batches(arrays(n), batch):
    assert row_n.tolist() == rows_of(part)[: mask_B.sum()]
    part = rows_of(part)
    assert len(part) == batch and mask_B.shape == (batch,)
    first = part[0]
    assert all(row == first for row, real in zip(part, mask_B) if not real)
    rows += [row for row, real in zip(part, mask_B) if real]
    count += 1
  assert rows == list(range(n))
  assert count == -(-n // batch)


@given(sizes, st.data())
@settings(deadline=None, max_examples=50)
def test_batches_of_groups_cover_each_row_once_and_come_back_in_order(
  n_and_batch, data
):
  n, batch = n_and_batch
  group_N = np.array(data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)))
  found, rows, groups = [], [], []
  for part, mask_B, row_n in loader.batches(arrays(n), batch, group_N):
    assert len(set(group_N[row_n])) == 1 and mask_B.sum() == len(row_n)
    groups.append(group_N[row_n[0]])
    found.append(np.array(rows_of(part))[mask_B])
    rows.append(row_n)
  assert groups == sorted(groups, reverse=True)
  assert loader.in_order(found, rows).tolist() == [*range(n)]


def test_data_sets_of_other_lengths_become_one():
  one = {'a': np.ones((2, 1), int), 'b': {'options': np.ones((2, 3), int)}}
  two = {'a': np.ones((1, 2), int), 'b': {'options': np.ones((1, 1), int)}}
  found = loader.concatenate([one, two])
  assert found['a'].tolist() == [[1, 0], [1, 0], [1, 1]]
  assert found['b']['options'].tolist() == [[1, 1, 1], [1, 1, 1], [1, -1, -1]]
  Point = collections.namedtuple('Point', 'x y')
  points = [Point(np.zeros((1, n), int), np.full(1, n)) for n in (1, 3)]
  joined = loader.concatenate(points)
  assert type(joined) is Point and joined.x.shape == (2, 3)
  assert joined.y.tolist() == [1, 3]


def test_arrays_must_agree_on_their_length():
  assert loader.size(arrays(4)) == 4
  with pytest.raises(ValueError, match=r'different lengths \[3, 4\]'):
    loader.ShuffledBatches({'a': np.zeros(3), 'b': {'c': np.zeros(4)}}, 2, 0)
