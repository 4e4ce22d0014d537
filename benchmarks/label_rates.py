"""What labels say by kind of cue: changed, cue followed, which options are answered.

  python -m benchmarks.label_rates --label=runs/facts/seed0/label

Reads a finished folder of the label stage, all of its splits, and prints two tables in
Markdown; no model is asked. `changed`: M_0's answers with and without the cue differ.
`followed`: the answer with the cue is what it speaks for (of a cue against an option,
another one). `so without it`: that of the answer without the cue, for comparison.
Brackets: 95% intervals, Wilson's at the effective number of pairs, which come in
groups (intervals.clustered_wilson).
"""

from collections.abc import Sequence
import pathlib

from absl import app
from absl import flags
import numpy as np
import pyarrow as pa

from coupling.elicit import label_set
from coupling.runtime import workdir
from coupling.statistics import intervals
from data import pairs as pairs_lib
from data import splits

LABEL = flags.DEFINE_string('label', None, 'Folder of the label stage.', required=True)

COLUMNS = ('cue_kind', 'cue_option', 'options', 'group', *label_set.LABEL)
ALL = 'all'


def read(folder: pathlib.Path) -> tuple[pa.Table, tuple[str, ...]]:
  """The labels of every split, and the kinds of cues that speak against an option."""
  stage = workdir.finished_stage(folder)
  tables = [label_set.read_table(folder, split, COLUMNS) for split in splits.SHARES]
  return pa.concat_tables(tables), tuple(stage.config['questions']['against'])


def tables(table: pa.Table, against: Sequence[str] = ()) -> list[str]:
  """The lines of both tables.

  Args:
    table: COLUMNS of the labels.
    against: kinds of cues that speak against their option.
  """
  column = {name: np.array(table[name].to_pylist()) for name in COLUMNS[:2]}
  group_N = np.array(table['group'].to_pylist())
  with_N, without_N = (table[name].to_numpy() for name in label_set.LABEL)
  against_N = np.isin(column['cue_kind'], list(against))
  names_N = column['cue_option'] != pairs_lib.NO_OPTION
  rates = {
    'changed': (with_N != without_N, np.full(len(table), True)),
    'followed': ((with_N == column['cue_option']) != against_N, names_N),
    'so without it': ((without_N == column['cue_option']) != against_N, names_N),
  }
  slots = _slots(table['options'].to_pylist())
  rows = {kind: column['cue_kind'] == kind for kind in sorted({*column['cue_kind']})}
  rows[ALL] = np.full(len(table), True)

  def line(name: str, row_N: np.ndarray, cells: list[tuple]) -> str:
    shares = [_share(is_N[row_N & of_N], group_N[row_N & of_N]) for is_N, of_N in cells]
    return '| ' + ' | '.join([name, str(row_N.sum()), *shares]) + ' |'

  def answers(answer_N: np.ndarray) -> list[tuple]:
    return [(answer_N == k, rows[ALL]) for k in range(len(slots))]

  return [
    *_head('cue', 'n', *rates),
    *(line(name, row_N, [*rates.values()]) for name, row_N in rows.items()),
    '',
    *_head('answers with the cue', 'n', *slots),
    *(line(name, row_N, answers(with_N)) for name, row_N in rows.items()),
    line('without it', rows[ALL], answers(without_N)),
  ]


def _slots(options: list[list[str]]) -> list[str]:
  """Names of the options where all pairs have the same, else their places."""
  if len({*map(tuple, options)}) == 1:
    return options[0]
  return [f'option {k + 1}' for k in range(max(map(len, options)))]


def _head(*names: str) -> list[str]:
  return ['| ' + ' | '.join(names) + ' |', '|---' * len(names) + '|']


def _share(is_N: np.ndarray, group_N: np.ndarray) -> str:
  """Percent, and its interval; a dash where there is none."""
  value, *bounds = intervals.clustered_wilson(is_N, group_N)
  if value is None:
    return '–'
  if None in bounds:
    return f'{100 * value:.0f}'
  low, high = bounds
  return f'{100 * value:.0f} [{100 * low:.0f}, {100 * high:.0f}]'


def main(_) -> None:
  print('\n'.join(tables(*read(pathlib.Path(LABEL.value)))))


if __name__ == '__main__':
  app.run(main)
