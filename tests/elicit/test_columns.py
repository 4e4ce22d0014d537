"""Label sets and evaluations are read strictly: what holds something else is named."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coupling.elicit import label_set
from coupling.report import records
from coupling.run import label_stage
from coupling.runtime.workdir import WorkdirError
from data import pairs as pairs_lib, readers

N = 3
LABELS = {
  'prompt': [f'q{i} hint' for i in range(N)],
  'counterfactual': [f'q{i}' for i in range(N)],
  'cue': [' hint'] * N,
  'cue_kind': ['said'] * N,
  'cue_option': [0, 1, -1],
  'options': [['a', 'b'], ['a', 'b', 'c'], ['a', 'b']],
  'group': [f'g{i}' for i in range(N)],
  'provenance': ['x'] * N,
  'row': [0, 1, 4],
  'behavior': [0, 2, 1],
  'counterfactual_behavior': [1, 2, 0],
}
SAID = {
  'statement': ['s'] * N,
  'stated_answer': [1, 2, -1],
  'stated_changed': [1, 0, -1],
  'scored_answer': [1, 2, 0],
  'scored_changed': [1, 0, 0],
  # A statement that repeats an earlier one is none; so are those beyond the options.
  'statement_logprobs': [
    [-1.0, -2.0, -np.inf, -2.0, -np.inf, -np.inf],
    [-2.0] * 6,
    [-1.0, -2.0, -1.5, -2.0, -np.inf, -np.inf],
  ],
  'option_logprobs': [
    [-np.log(2)] * 2 + [-np.inf],
    [-np.log(3)] * 3,
    [0.0, -90.0, -np.inf],
  ],
}


def write(path, columns, **changes):
  table = pa.table({k: x for k, x in (columns | changes).items() if x is not None})
  pq.write_table(table, path)


def test_what_is_right_is_read(tmp_path):
  write(tmp_path / 'train-000000000.parquet', LABELS)
  found = label_set.read(tmp_path, 'train')
  assert found.behavior_N.tolist() == LABELS['behavior']
  assert label_set.read_pairs(tmp_path, 'train')[1].options == ('a', 'b', 'c')
  write(tmp_path / 'step-000000004.parquet', LABELS | SAID)
  table = records.read_evaluation(tmp_path / 'step-000000004.parquet', pa.table(LABELS))
  for name in ('scored_answer', 'statement_logprobs', 'option_logprobs'):
    assert table[name].to_pylist() == SAID[name]


BAD = [
  *(
    (name, row, found, values)
    for name in ('behavior', 'counterfactual_behavior')
    for row, found, values in (
      (0, '7', [7, 0, 0]),
      (2, '2', [0, 2, 2]),  # an option of another pair
      (1, '-1', [0, -1, 0]),
      (0, '1.0', [1.0, 0.0, 1.0]),
      (1, 'None', [0, None, 0]),
      (0, "'null'", [None] * N),
      (0, "'A'", ['A', 'B', 'A']),
      (0, 'True', [True, False, True]),
    )
  ),
  ('cue_option', 1, '3', [0, 3, 0]),
  ('cue_option', 1, '-2', [0, -2, 0]),
  ('options', 2, 'None', [['a'], ['b'], None]),
  ('options', 1, "['a', None]", [['a'], ['a', None], ['b']]),
  ('options', 0, "'a'", ['a', 'b', 'c']),
  ('prompt', 1, 'None', ['a', None, 'b']),
  ('group', 0, '1', [1, 2, 3]),
]
OPTIONAL = [
  ('stated_answer', 1, '3', [0, 3, 0]),
  ('stated_answer', 0, '-2', [-2, 0, 0]),
  ('stated_changed', 2, '2', [0, 1, 2]),
  ('scored_changed', 0, '0.5', [0.5, 0.0, 1.0]),
  ('swapped_answer', 0, '9', [9, 0, 0]),
  ('statement', 0, 'None', [None, 'a', 'b']),
  ('statement_logprobs', 1, "'4 numbers'", [[-2.0] * 6, [-2.0] * 4, [-2.0] * 6]),
  ('statement_logprobs', 1, "'4 numbers'", [[-2.0] * 4] * N),  # of three options
  ('statement_logprobs', 0, '[-2.0, -2.0, -2.0, -2.0, -2.0, -2.0]', [[-2.0] * 6] * N),
  ('statement_logprobs', 0, '[nan, nan, nan, nan, nan, nan]', [[np.nan] * 6] * N),
  ('option_logprobs', 1, "'2 numbers'", [[0.0, -np.inf]] * N),
  ('counterfactual_option_logprobs', 0, "'a'", ['a', 'b', 'c']),
]


@pytest.mark.parametrize('name, row, found, values', BAD)
def test_a_label_set_that_holds_something_else_is_refused(
  tmp_path, name, row, found, values
):
  path = tmp_path / 'train-000000000.parquet'
  write(path, LABELS, **{name: values})
  with pytest.raises(WorkdirError) as error:
    label_set.read(tmp_path, 'train')
    label_set.read_pairs(tmp_path, 'train')
  where = f'{path}: row {row}, column {name}: '
  assert f'{where}found {found}, expected' in str(error.value)
  assert f'move {tmp_path} away' in str(error.value)


@pytest.mark.parametrize('name, row, found, values', [*BAD[:16], *OPTIONAL])
def test_an_evaluation_that_holds_something_else_is_refused(
  tmp_path, name, row, found, values
):
  path = tmp_path / 'step-000000004.parquet'
  write(path, LABELS | SAID, **{name: values})
  with pytest.raises(WorkdirError) as error:
    records.read_evaluation(path, pa.table(LABELS))
  where = f'{path}: row {row}, column {name}: '
  assert f'{where}found {found}, expected' in str(error.value)


@pytest.mark.parametrize('name', ['behavior', 'options'])
def test_a_missing_column_and_a_torn_file_are_named(tmp_path, name):
  path = tmp_path / 'train-000000000.parquet'
  write(path, LABELS, **{name: None})
  with pytest.raises(WorkdirError, match=f"{path}: the columns .*'{name}'.*away"):
    label_set.read(tmp_path, 'train')
  write(path, LABELS)
  path.write_bytes(path.read_bytes()[:-9])
  with pytest.raises(WorkdirError, match=f'{path}: no readable Parquet .*away'):
    label_set.read(tmp_path, 'train')


THIRD = -np.log(3)
HALF = [-np.log(2), -np.log(2), -np.inf]
GOOD = [HALF * 2, [THIRD] * 6, HALF * 2]


def references(*rows, width: int | None = 6):
  kind = pa.list_(pa.float32()) if width is None else pa.list_(pa.float32(), width)
  return pa.array(rows, kind)


@pytest.mark.parametrize('dtype', [np.float16, np.float32, np.float64])
def test_reference_distributions_are_read(tmp_path, dtype):
  path = tmp_path / 'train-000000000.parquet'
  flat = pa.array(np.array(GOOD, dtype).ravel())
  write(path, LABELS, reference=pa.FixedSizeListArray.from_arrays(flat, 6))
  found = label_set.read(tmp_path, 'train').logprobs_Nx2xS
  np.testing.assert_array_equal(found, np.array(GOOD, dtype).reshape(3, 2, 3))
  whole = np.log(np.full((N, 2 * 50), 1 / 50, np.float32))  # of a vocabulary
  write(path, LABELS, reference=whole.tolist())
  np.testing.assert_array_equal(
    label_set.read(tmp_path, 'train').logprobs_Nx2xS, whole.reshape(N, 2, 50)
  )


@pytest.mark.parametrize(
  'row, second',
  [
    (0, [0.0, -np.inf, -np.inf]),  # an option that is there
    (0, [THIRD] * 3 + [-0.7] * 3),  # no distribution
    (0, HALF + [-np.inf] * 3),
    (0, HALF + [np.inf] * 3),
    (0, HALF + [0.0, np.log(1e-2), -np.inf]),
    (0, [50.0, 50.0, -np.inf] * 2),
    (0, HALF + [np.nan, np.nan, -np.inf]),
    (1, HALF * 2),  # its third option
    (1, [THIRD] * 4 + [-np.inf, THIRD]),
  ],
)
def test_what_is_no_reference_distribution_is_refused(tmp_path, row, second):
  path = tmp_path / 'train-000000000.parquet'
  rows = [*GOOD[:row], (second * 2)[:6], *GOOD[row + 1 :]]
  write(path, LABELS, reference=references(*rows))
  with pytest.raises(WorkdirError, match=f'{path}: row {row}, column reference: found'):
    label_set.read(tmp_path, 'train')


def test_lists_of_other_lengths_are_refused(tmp_path):
  path = tmp_path / 'train-000000000.parquet'
  for row, found in ((1, [THIRD] * 5), (1, [0.0] * 4), (1, [])):
    rows = [GOOD[0], found, GOOD[2]]
    write(path, LABELS, reference=references(*rows, width=None))
    with pytest.raises(WorkdirError, match=f'row {row}, column reference: found'):
      label_set.read(tmp_path, 'train')
  for width in (2, 3, 5):  # less than the options, or not of two
    write(path, LABELS, reference=references(*[[0.0] * width] * 3, width=None))
    with pytest.raises(WorkdirError, match='row 0, column reference: found'):
      label_set.read(tmp_path, 'train')
  write(path, LABELS, replies=[['a', 'b'], ['a', 'b'], ['a']])
  with pytest.raises(WorkdirError, match=r"row 2, column replies: found \['a'\]"):
    label_set.read(tmp_path, 'train')
  write(path, LABELS, reference=references(*GOOD, width=None))
  wide = references(*[[-np.log(4)] * 8] * 3, width=None)
  write(tmp_path / 'train-000000003.parquet', LABELS, reference=wide)
  with pytest.raises(WorkdirError, match=r'column reference: .*\[6, 8\] values'):
    label_set.read(tmp_path, 'train')


def test_no_rows_and_columns_that_are_there_twice_are_refused(tmp_path):
  path = tmp_path / 'train-000000000.parquet'
  pq.write_table(pa.table(LABELS).slice(0, 0), path)
  for read in (label_set.read, label_set.read_rows, label_set.read_pairs):
    with pytest.raises(WorkdirError, match=f'{path}: no rows'):
      read(tmp_path, 'train')
  table = pa.table(LABELS)
  for name in ('behavior', 'options'):
    pq.write_table(table.append_column(name, table[name]), path)
    with pytest.raises(
      WorkdirError, match=rf"{path}: the columns \['{name}'\] .*twice"
    ):
      label_set.read(tmp_path, 'train')


def test_tokens_beyond_what_a_label_set_keeps_are_told():
  options_NxK = np.array([[3, 9]])
  with pytest.raises(WorkdirError, match='column reference: 5 .* token 9'):
    label_set.on_support(np.zeros((1, 5), np.float32), options_NxK, 'options')


@pytest.mark.parametrize('rows', [[0, 1, -4], [0.0, 1.0, 4.0], [0, None, 4]])
def test_places_in_the_split_are_places(tmp_path, rows):
  path = tmp_path / 'train-000000000.parquet'
  write(path, LABELS, row=rows)
  with pytest.raises(WorkdirError, match=f'{path}: row ., column row: found'):
    label_set.read_rows(tmp_path, 'train')
  write(path, LABELS, row=[0, 1, 1])
  with pytest.raises(WorkdirError, match='column row: 1 pairs .* labelled twice'):
    label_set.read_explanation(tmp_path, 'train', np.array([0, 1]))


def test_files_of_other_types_and_names_are_named(tmp_path):
  write(tmp_path / 'train-000000000.parquet', LABELS)
  big = {k: pa.array(LABELS[k], pa.int32()) for k in ('behavior', 'row')}
  write(tmp_path / 'train-000000003.parquet', LABELS, **big)
  assert len(label_set.read_table(tmp_path, 'train', ('behavior',))) == 2 * N
  (tmp_path / 'step-4 (copy).parquet').write_bytes(b'')
  with pytest.raises(WorkdirError, match=r'step-4 \(copy\)\.parquet: no file of an'):
    records.evaluated_steps(tmp_path)


@pytest.mark.parametrize(
  'option_N, error',
  [
    ([0, 7, 0], 'x: found 7'),
    ([0, -1, 0], 'x: found -1'),
    ([0.0, 1.0, 0.0], r'x: found 0\.0 \(float64\)'),
    ([0, None, 0], r'x: found 0 \(object\)'),
    ([True, False, True], r'found True \(bool\)'),
    ([0, 1], r'shape \(2,\)'),
  ],
)
def test_behaviours_that_a_task_brings_along_are_options(option_N, error):
  write_columns = {k: LABELS[k] for k in label_set.PAIR}
  pairs = pairs_lib.from_columns(write_columns)
  good = np.zeros(N, int)
  label_stage._check('mine', pairs, (good, good))
  for chosen in ((good, option_N), (option_N, good)):
    with pytest.raises(readers.DataError, match=f'mine.behaviors, .*{error}'):
      label_stage._check('mine', pairs, chosen)
