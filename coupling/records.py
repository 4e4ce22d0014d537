"""Reads evaluations and label sets back, for statistics: no model and no JAX here.

All evaluations of one seed, of every run and checkpoint, are of the same items in one
order; whatever breaks that is an error that names the file.
"""

import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from coupling.explanation import Explanation
from coupling.items import Items
from coupling.workdir import WorkdirError

# What an item is about, and what a model did and said.
QUESTION = ('prompt', 'counterfactual', 'cue_kind', 'cue_option', 'options', 'group')
OUTCOME = ('behavior', 'counterfactual_behavior', 'stated_answer', 'stated_changed')


def read_evaluation(path: pathlib.Path) -> pa.Table:
  """One checkpoint's records: the columns QUESTION, OUTCOME and `statement`."""
  return _read(path, (*QUESTION, *OUTCOME, 'statement'))


def evaluated_steps(folder: pathlib.Path) -> dict[int, pathlib.Path]:
  """The files of an evaluate stage, by training step, in order."""
  paths = sorted(folder.glob('step-*.parquet'))
  if not paths:
    raise WorkdirError(
        f'{folder} holds no evaluation (no step-*.parquet): move it away and run '
        '--stage=evaluate again'
    )
  return {int(path.stem.removeprefix('step-')): path for path in paths}


def check_same_items(
    path: pathlib.Path, table: pa.Table, like_path: pathlib.Path, like: pa.Table
) -> None:
  """Raises WorkdirError where a file is not of the same items, in the same order.

  Args:
    path: the file to check.
    table: its rows.
    like_path: the file to compare with.
    like: its rows; every column of QUESTION that it has must be equal.
  """
  if len(table) != len(like):
    raise WorkdirError(
        f'{path}: found {len(table)} items, but {like_path} has {len(like)}. {_REMEDY}'
    )
  for name in QUESTION:
    if name in like.column_names and not table[name].equals(like[name]):
      pairs = zip(table[name].to_pylist(), like[name].to_pylist())
      row, (found, wanted) = next((i, p) for i, p in enumerate(pairs) if p[0] != p[1])
      raise WorkdirError(
          f'{path}: row {row}, column {name}: found {found!r}, but {like_path} has '
          f'{wanted!r}. {_REMEDY}'
      )


_REMEDY = (
    'Evaluations and labels of one seed must be of the same items in one order: move '
    'the stage that is wrong away and run the same command again.'
)


def items(table: pa.Table, states_answer: bool) -> Items:
  """One evaluation as the statistics take it; surface: cue kind and hinted option."""
  codes = {
      name: np.unique(table[name].to_numpy(zero_copy_only=False), return_inverse=True)[1]
      for name in ('group', 'cue_kind')
  }
  outcome = {name: table[name].to_numpy() for name in OUTCOME}
  return Items(
      group_N=codes['group'],
      surface={
          'cue_kind': codes['cue_kind'],
          'cue_option': table['cue_option'].to_numpy(),
      },
      behavior_N=outcome['behavior'],
      counterfactual_behavior_N=outcome['counterfactual_behavior'],
      stated=Explanation(outcome['stated_answer'], outcome['stated_changed']),
      states_answer=states_answer,
  )


def read_labels(folder: pathlib.Path, split: str) -> pa.Table:
  """B(M_0) on a split: group, behavior, counterfactual_behavior; no distributions."""
  paths = sorted(folder.glob(f'{split}-*.parquet'))
  if not paths:
    raise WorkdirError(
        f'{folder} holds no labels for the split {split!r} (no {split}-*.parquet): it '
        'must be a finished folder of the label stage'
    )
  columns = ('group', 'behavior', 'counterfactual_behavior')
  return pa.concat_tables([_read(path, columns) for path in paths])


def _read(path: pathlib.Path, columns: tuple[str, ...]) -> pa.Table:
  table = pq.read_table(path)
  if missing := [name for name in columns if name not in table.column_names]:
    raise WorkdirError(
        f'{path}: the columns {missing} are missing, found {table.column_names}; move '
        'the stage away and run the same command again to redo it'
    )
  return table.select(columns)
