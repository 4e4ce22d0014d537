"""Trees hold their sequences and let each see its own prefix alone."""

from hypothesis import given, settings, strategies as st
import numpy as np

from data import trees

SEQUENCES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), min_size=1)
GROUPS = st.lists(SEQUENCES, min_size=1, max_size=6)


def visible(end_T):
  place_T = np.arange(len(end_T))
  return (place_T <= place_T[:, None]) & (place_T[:, None] < end_T)


@settings(deadline=None)
@given(GROUPS)
def test_every_sequence_is_what_its_last_token_sees(groups):
  found, places = trees.build(groups)
  for i, group in enumerate(groups):
    sees_TxT = visible(found.rows.end[i])
    for sequence, place in zip(group, places[i], strict=True):
      assert found.rows.tokens[i, place].tolist() == sequence
      assert found.rows.position[i, place].tolist() == [*range(len(sequence))]
      for count, last in enumerate(place):
        assert np.flatnonzero(sees_TxT[last]).tolist() == place[: count + 1].tolist()


@settings(deadline=None)
@given(GROUPS)
def test_what_is_shared_stands_there_once(groups):
  found, _ = trees.build(groups)
  for size, group in zip(found.size, groups):
    prefixes = {tuple(x[:n]) for x in group for n in range(1, len(x) + 1)}
    assert size == len(prefixes)


@settings(deadline=None)
@given(GROUPS)
def test_filling_sees_itself_alone(groups):
  found, _ = trees.build(groups)
  for tokens_T, end_T, size in zip(found.rows.tokens, found.rows.end, found.size):
    assert (tokens_T[size:] == trees.FILL).all()
    T = len(end_T)
    np.testing.assert_array_equal(visible(end_T)[size:], np.eye(T, dtype=bool)[size:])


@settings(deadline=None)
@given(st.integers(1, 5_000))
def test_buckets_are_few_and_at_most_half_longer_than_needed(size):
  length = int(trees.bucket(size))
  assert max(size, 8) <= length and (size < 8 or length <= 1.5 * size)
  assert trees.bucket(length) == length


def test_trees_are_cut_to_a_bucket_and_keep_their_tokens():
  groups = [[[1] * 30 + [2], [1] * 30 + [3]], [[1, 2], [1, 3]]]
  found, _ = trees.build(groups)
  assert found.rows.tokens.shape == (2, 32) and found.size.tolist() == [32, 3]
  assert found.apart.tolist() == [62, 4]
  short = trees.cut(found, int(trees.bucket(3)))
  assert short.rows.tokens[1].tolist() == [1, 2, 3] + [trees.FILL] * 5
  assert short.rows.end[1].tolist() == [3, 2, 3, 4, 5, 6, 7, 8]


def test_an_empty_sequence_has_no_place():
  found, places = trees.build([[[], [1, 2], []], [[]]])
  assert found.size.tolist() == [2, 0] and found.apart.tolist() == [2, 0]
  assert [[x.tolist() for x in place] for place in places] == [[[], [0, 1], []], [[]]]
