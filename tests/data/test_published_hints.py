"""The published counterfactual sets: their pairs, and their model's answers."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data import builder, hint_mmlu, mmlu, pairs, published_hints, readers
from tests.published import row, write


def test_pairs_and_answers_come_from_the_rows(tmp_path):
  answers = [(' C', 'B'), ('A', 'A'), ('(D)', ' D.'), ('B', 'C')]
  nulls = [None, False, None, True]
  rows = [
    row(i, 'ABCD'[i % 4], *answers[i % 4], changed=nulls[i % 4]) for i in range(80)
  ]
  config = write(tmp_path, rows)
  by_split = builder.split(published_hints.make(config, 0))
  made = [p for found in by_split.values() for p in found]
  assert len(made) == 80
  shuffled = [made[i] for i in np.random.default_rng(0).permutation(80)]
  behavior_N, counterfactual_N = published_hints.behaviors(config, shuffled)
  assert behavior_N.dtype == counterfactual_N.dtype == np.int32
  for pair, x, without in zip(shuffled, behavior_N, counterfactual_N):
    i = int(pair.prompt.split('?')[0].split()[-1])
    assert pair.prompt == rows[i]['hint_user_prompt']
    assert pair.counterfactual == rows[i]['original_user_prompt']
    assert pairs.remove_cue(pair.prompt, pair.cue, pairs.cue_start(pair)) == (
      pair.counterfactual
    )
    assert pair.cue_option == i % 4 and 'I think the answer is' in pair.cue
    assert (x, without) == [(2, 1), (0, 0), (3, 3), (1, 2)][i % 4]


def test_a_null_label_is_what_the_answers_say(tmp_path):
  """Not False, as a careless reader has it."""
  config = write(tmp_path, [row(0, with_hint='C', without='B', changed=None)])
  [pair] = published_hints.make(config, 0)
  [x], [without] = published_hints.behaviors(config, [pair])
  assert x != without


@pytest.mark.parametrize('answer', ['', ' ', None, 'The', 'E', 'AB', 'Answer'])
def test_an_answer_that_is_no_letter_leaves_the_row_out(tmp_path, answer):
  config = write(tmp_path, [row(0), row(1, with_hint=answer), row(2, without=answer)])
  with pytest.warns(UserWarning, match='2 rows left out'):
    assert len(list(published_hints.make(config, 0))) == 1


def test_its_questions_are_split_as_those_of_mmlu(tmp_path):
  config = write(tmp_path, [row(3)])
  [pair] = published_hints.make(config, 0)
  question = mmlu.Question(row(3)['question'], ('a', 'b', 'c', 'd'), 0, 'x')
  assert pair.group == question.group
  assert published_hints.QUESTIONS is hint_mmlu.QUESTIONS


@pytest.mark.parametrize(
  'changes, error',
  [
    ({'changed': False}, "row 1, field changed_pred_bc_hint: False, but .*'C' and 'B'"),
    ({'original_user_prompt': 'other'}, 'row 1: original_user_prompt is not hint_user'),
    ({'hint_user_prompt': None}, "row 1, field 'hint_user_prompt': expected text"),
    ({'question': ''}, "row 1, field 'question': expected text"),
    ({'hinted': 'E'}, 'should name one option'),
  ],
)
def test_bad_rows_are_errors_that_say_where(tmp_path, changes, error):
  config = write(tmp_path, [row(0, **changes)])
  with pytest.raises(readers.DataError, match=error):
    list(published_hints.make(config, 0))


def test_answers_for_other_pairs_are_refused(tmp_path):
  config = write(tmp_path, [row(0)])
  [pair] = published_hints.make(config, 0)
  (tmp_path / 'other').mkdir()
  other = write(tmp_path / 'other', [row(1)])
  with pytest.raises(readers.DataError, match='no answers for the pair from .*row 1'):
    published_hints.behaviors(other, [pair])


def test_another_parquet_file_is_an_error_that_names_the_missing_column(tmp_path):
  pq.write_table(pa.table({'question': ['q'], 'answer': [0]}), tmp_path / 'x.parquet')
  with pytest.raises(readers.DataError, match="row 1: no field 'hint_user_prompt'"):
    list(published_hints.make(published_hints.Config(path=str(tmp_path)), 0))
