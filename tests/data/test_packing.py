"""Trees share a row and see no other; readings go with them."""

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from data import packing, trees
from tests.data.test_trees import GROUPS, visible


@settings(deadline=None)
@given(GROUPS, st.integers(0, 12))
def test_packed_trees_are_the_trees_and_see_no_other(groups, room):
  found, _ = trees.build(groups)
  length = int(found.size.max()) + room
  row_n, offset_n = packing.arrange(found.size, length)
  shape = int(row_n.max()) + 2, length + 3  # a row is left empty, and some of each
  packed = packing.pack(found, row_n, offset_n, shape)
  taken = np.zeros(shape, bool)
  for i, size in enumerate(found.size):
    here = (row_n[i], slice(offset_n[i], offset_n[i] + size))
    assert not taken[here].any()
    taken[here] = True
    assert packed.tokens[here].tolist() == found.rows.tokens[i, :size].tolist()
    assert packed.position[here].tolist() == found.rows.position[i, :size].tolist()
    own = np.zeros((shape[1], shape[1]), bool)
    own[here[1], here[1]] = visible(found.rows.end[i])[:size, :size]
    sees = visible(packed.end[row_n[i]])
    np.testing.assert_array_equal(sees[here[1]], own[here[1]])
  for row, end_T in enumerate(packed.end):
    idle_T = ~taken[row]
    eye = np.eye(shape[1], dtype=bool)
    np.testing.assert_array_equal(visible(end_T)[idle_T], eye[idle_T])
    assert (packed.tokens[row, idle_T] == trees.FILL).all()


@settings(deadline=None)
@given(st.lists(st.integers(1, 10), min_size=1, max_size=40))
def test_first_fit_leaves_no_two_rows_that_would_fit_in_one(sizes):
  size_n = np.array(sizes)
  row_n, offset_n = packing.arrange(size_n, 10)
  used_R = np.bincount(row_n, weights=size_n)
  assert used_R.max() <= 10 and (used_R > 0).all()
  if len(used_R) > 1:
    assert np.sort(used_R)[:2].sum() > 10
  ends = offset_n + size_n
  assert (ends <= used_R[row_n]).all()


def test_a_tree_that_no_row_holds_is_refused():
  with pytest.raises(ValueError, match='A tree of 11 tokens is longer than a row, 10'):
    packing.arrange(np.array([3, 11]), 10)


@settings(deadline=None)
@given(st.data())
def test_readings_are_dealt_to_the_rows_of_their_trees(data):
  n, C = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 4))
  row_n = np.array(data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)))
  kept = data.draw(st.lists(st.booleans(), min_size=n * C, max_size=n * C))
  kept_nxC = np.array(kept).reshape(n, C)
  value_nxC = np.arange(n * C).reshape(n, C)
  dealt_RxC = packing.deal(value_nxC, kept_nxC, row_n, (3, n * C), fill=-1)
  for row in range(3):
    own_nxC = kept_nxC & (row_n == row)[:, None]
    wanted = value_nxC[own_nxC].tolist()
    assert dealt_RxC[row].tolist() == wanted + [-1] * (n * C - len(wanted))
