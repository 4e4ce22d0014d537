"""The explainer that reads inputs alone finds what inputs give, and nothing else."""

import numpy as np
import pyarrow as pa
import pytest
from scipy import sparse

from coupling.elicit.explanation import Explanation
from coupling.statistics import input_only

COLOURS = ('red', 'green', 'blue', 'white')


def pairs(n, seed):
  """Questions about a word, with a hint of some kind for one of four colours."""
  rng = np.random.default_rng(seed)
  words = rng.integers(20, size=n)
  kinds = rng.integers(3, size=n)
  options = [list(rng.permutation(COLOURS)) for _ in range(n)]
  hinted = rng.integers(4, size=n)
  return (
    pa.table(
      {
        'prompt': [
          f'Which is w{w}? I say {o[h]}.' for w, o, h in zip(words, options, hinted)
        ],
        'group': [f'g{i}' for i in range(n)],
        'cue_kind': [f'k{k}' for k in kinds],
        'cue_option': hinted,
        'options': options,
      }
    ),
    words,
    kinds,
  )


def by_input(n, seed):
  """v' is a colour of the word; the answer changes where the hint is of one kind."""
  table, words, kinds = pairs(n, seed)
  answer_N = np.array(
    [row.index(COLOURS[w % 4]) for row, w in zip(table['options'].to_pylist(), words)]
  )
  return table, Explanation(answer_N, (kinds == 1).astype(int))


def test_what_inputs_decide_is_found_on_held_out_items():
  train, labels = by_input(600, 0)
  test, truth = by_input(300, 1)
  stated = input_only.fit(train, labels).state(test)
  assert np.mean(stated.answer_N == truth.answer_N) > 0.95
  assert np.mean(stated.changed_N == truth.changed_N) > 0.95


def test_of_labels_that_inputs_do_not_decide_chance_is_left():
  """A quarter and a half, within 4 standard errors of 600 items."""
  train, *_ = pairs(600, 0)
  test, *_ = pairs(600, 1)
  rng = np.random.default_rng(2)
  draw = lambda: Explanation(rng.integers(4, size=600), rng.integers(2, size=600))
  stated, truth = input_only.fit(train, draw()).state(test), draw()
  assert abs(np.mean(stated.answer_N == truth.answer_N) - 0.25) < 0.07
  assert abs(np.mean(stated.changed_N == truth.changed_N) - 0.5) < 0.08


def test_scores_of_a_group_do_not_know_its_own_labels():
  """Other labels of one group move the scores of those alone that learn from it."""
  rng = np.random.default_rng(0)
  features_RxF = sparse.csr_matrix(rng.standard_normal((120, 5)))
  given_R, group_R = rng.random(120) < 0.4, np.repeat(np.arange(30), 4)
  before = input_only.unseen_scores(features_RxF, given_R, group_R)
  mine_R = group_R == 7
  after = input_only.unseen_scores(features_RxF, given_R ^ mine_R, group_R)
  unseen_R = group_R % 3 == 7 % 3
  np.testing.assert_array_equal(before[unseen_R], after[unseen_R])
  assert (before[~unseen_R] != after[~unseen_R]).all()


def test_it_is_the_same_each_time_and_of_labels_of_one_class_says_that_class():
  train, labels = by_input(100, 0)
  constant = labels._replace(changed_N=np.zeros(100, int))
  one, two = (input_only.fit(train, constant).state(train) for _ in range(2))
  np.testing.assert_array_equal(one, two)
  assert not one.changed_N.any()


def test_options_that_an_item_lacks_are_never_stated():
  train, labels = by_input(100, 0)
  few = [row[:2] for row in train['options'].to_pylist()]
  table = train.set_column(4, 'options', [few])
  table = table.set_column(3, 'cue_option', [np.zeros(100, int)])
  assert input_only.fit(train, labels).state(table).answer_N.max() == 1


def test_labels_of_other_pairs_are_refused():
  train, labels = by_input(10, 0)
  with pytest.raises(ValueError, match='9 pairs with 10 labels'):
    input_only.fit(train.slice(1), labels)
