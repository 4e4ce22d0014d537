"""Trees hold their sequences, let each see its own prefix alone, and share a row."""

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import numpy as np

from data import trees

PAD = 9
SEQUENCES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), min_size=1)
GROUPS = st.lists(SEQUENCES, min_size=1, max_size=6)


def visible(end_T):
  place_T = np.arange(len(end_T))
  return (place_T <= place_T[:, None]) & (place_T[:, None] < end_T)


@settings(deadline=None)
@given(GROUPS)
def test_every_sequence_is_what_its_last_token_sees(groups):
  found, places = trees.build(groups, PAD)
  for i, group in enumerate(groups):
    sees_TxT = visible(found.end_NxT[i])
    for sequence, place in zip(group, places[i], strict=True):
      assert found.tokens_NxT[i, place].tolist() == sequence
      assert found.position_NxT[i, place].tolist() == [*range(len(sequence))]
      for count, last in enumerate(place):
        assert np.flatnonzero(sees_TxT[last]).tolist() == place[: count + 1].tolist()


@settings(deadline=None)
@given(GROUPS)
def test_what_is_shared_stands_there_once(groups):
  found, _ = trees.build(groups, PAD)
  for size, group in zip(found.size_N, groups):
    prefixes = {tuple(x[:n]) for x in group for n in range(1, len(x) + 1)}
    assert size == len(prefixes)


@settings(deadline=None)
@given(GROUPS)
def test_filling_sees_itself_alone(groups):
  found, _ = trees.build(groups, PAD)
  for tokens_T, end_T, size in zip(found.tokens_NxT, found.end_NxT, found.size_N):
    assert (tokens_T[size:] == PAD).all()
    T = len(end_T)
    np.testing.assert_array_equal(visible(end_T)[size:], np.eye(T, dtype=bool)[size:])


@settings(deadline=None)
@given(GROUPS, st.integers(0, 12))
def test_packed_trees_are_the_trees_and_see_no_other(groups, room):
  found, _ = trees.build(groups, PAD)
  length = int(found.size_N.max()) + room
  row_n, offset_n = trees.arrange(found.size_N, length)
  packing = trees.Packing(int(row_n.max()) + 2, length)  # a row is left empty
  packed = trees.pack(found, row_n, offset_n, packing, PAD)
  taken = np.zeros(packing, bool)
  for i, size in enumerate(found.size_N):
    here = (row_n[i], slice(offset_n[i], offset_n[i] + size))
    assert not taken[here].any()
    taken[here] = True
    assert packed['tokens'][here].tolist() == found.tokens_NxT[i, :size].tolist()
    assert packed['position'][here].tolist() == found.position_NxT[i, :size].tolist()
    own = np.zeros((length, length), bool)
    own[here[1], here[1]] = visible(found.end_NxT[i])[:size, :size]
    np.testing.assert_array_equal(
      visible(packed['end'][row_n[i]])[here[1]], own[here[1]]
    )
  for row, end_T in enumerate(packed['end']):
    idle_T = ~taken[row]
    eye = np.eye(length, dtype=bool)
    np.testing.assert_array_equal(visible(end_T)[idle_T], eye[idle_T])
    assert (packed['tokens'][row, idle_T] == PAD).all()


@settings(deadline=None)
@given(st.lists(st.integers(1, 10), min_size=1, max_size=40))
def test_first_fit_leaves_no_two_rows_that_would_fit_in_one(sizes):
  size_n = np.array(sizes)
  row_n, offset_n = trees.arrange(size_n, 10)
  used_R = np.bincount(row_n, weights=size_n)
  assert used_R.max() <= 10 and (used_R > 0).all()
  if len(used_R) > 1:
    assert np.sort(used_R)[:2].sum() > 10
  ends = offset_n + size_n
  assert (ends <= used_R[row_n]).all()


@settings(deadline=None)
@given(st.data())
def test_readings_are_dealt_to_the_rows_of_their_trees(data):
  n, C = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 4))
  row_n = np.array(data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)))
  kept = data.draw(st.lists(st.booleans(), min_size=n * C, max_size=n * C))
  kept_nxC = np.array(kept).reshape(n, C)
  value_nxC = np.arange(n * C).reshape(n, C)
  dealt_RxC = trees.deal(value_nxC, kept_nxC, row_n, (3, n * C), fill=-1)
  for row in range(3):
    wanted = [
      value_nxC[i, c]
      for i in range(n)
      for c in range(C)
      if row_n[i] == row and kept_nxC[i, c]
    ]
    assert dealt_RxC[row].tolist() == wanted + [-1] * (n * C - len(wanted))
