"""Columns of label sets and evaluations: each must hold what its name says.

Whatever does not is an error that names the file, the row and the column, when the file
is read and not where a statistic stumbles over it.
"""

from collections.abc import Callable, Sequence
import pathlib
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from coupling.elicit.explanation import INVALID
from coupling.runtime import files
from coupling.runtime.files import WorkdirError
from data.pairs import NO_OPTION

OPTIONS, REFERENCE = 'options', 'reference'
STATEMENTS = 'statement_logprobs'  # of evaluations by likelihood
# Of evaluations whose behaviours are not read from replies.
ANSWERS = ('option_logprobs', 'counterfactual_option_logprobs')
TOLERANCE = 1e-3  # of the sum of a distribution
_CHUNK = 2**22  # log-probabilities looked at together


class _Kind(NamedTuple):
  words: str
  is_type: Callable[[pa.DataType], bool]
  # Least value, and whether the number of the row's options bounds it; None: no number.
  least: int | None = None
  of_options: bool = False


def _lists(of: Callable[[pa.DataType], bool]) -> Callable[[pa.DataType], bool]:
  def found(kind: pa.DataType) -> bool:
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_list(kind) for is_list in lists) and of(kind.value_type)

  return found


def _text(kind: pa.DataType) -> bool:
  return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _index(words: str, least: int) -> _Kind:
  return _Kind(words, pa.types.is_integer, least, True)


_TEXT = _Kind('text', _text)
_OPTION = _index('the index of one of the options', 0)
_STATED = _index(f'the index of one of the options, or {INVALID}', INVALID)
_CHANGED = _Kind(f'0, 1 or {INVALID}', pa.types.is_integer, INVALID)
_FLAG = _Kind('true or false', pa.types.is_boolean)
_KINDS = {
  'behavior': _OPTION,
  'counterfactual_behavior': _OPTION,
  'cue_option': _index(f'the index of one of the options, or {NO_OPTION}', NO_OPTION),
  OPTIONS: _Kind('a list of texts', _lists(_text)),
  'row': _Kind('a place in the split', pa.types.is_integer, 0),
  REFERENCE: _Kind(
    'log-probabilities of x, then as many of x∖C: either finite for each option and '
    '-inf beyond, or finite for the whole vocabulary; exponentials add up to 1',
    _lists(pa.types.is_floating),
    of_options=True,
  ),
  'replies': _Kind('two texts', _lists(_text)),
}
_KINDS |= {'answer': _Kind('an option', pa.types.is_integer, 0), 'changed': _CHANGED}
_KINDS |= {'explained': _FLAG, 'shifted': _FLAG}
_KINDS[STATEMENTS] = _Kind(
  'log-probabilities of two statements an option, -inf where there is none; '
  'exponentials add up to 1 at most',
  _lists(pa.types.is_floating),
  of_options=True,
)
_KINDS |= dict.fromkeys(
  ANSWERS,
  _Kind(
    'log-probabilities, finite for each option and -inf beyond; exponentials add up '
    'to 1',
    _lists(pa.types.is_floating),
    of_options=True,
  ),
)
_KINDS |= {f'{x}_answer': _STATED for x in ('stated', 'scored', 'swapped')}
_KINDS |= {f'{x}_changed': _CHANGED for x in ('stated', 'scored', 'swapped')}


def read(
  path: pathlib.Path,
  columns: Sequence[str],
  optional: Sequence[str] = (),
  size_N: np.ndarray | None = None,
) -> pa.Table:
  """Columns of a Parquet file, and what there is of the optional ones.

  Args:
    path: the file.
    columns: that it must have; those that `_KINDS` does not name are texts.
    optional: that it may have.
    size_N: number of options of each row; default: by the column `options`.

  Raises:
    WorkdirError: the file cannot be read, or lacks a column, or a column holds what is
      not of its kind; naming the file, the row from 0, the column and the remedy.
  """
  bounded = any(_kind(name).of_options for name in (*columns, *optional))
  bounded &= size_N is None
  needed = dict.fromkeys([*columns, *([OPTIONS] if bounded else [])])
  table = files.read_table(path, tuple(needed), tuple(optional))
  if not len(table):
    raise WorkdirError(
      f'{path}: no rows; move {path.parent} away and make it anew, or restore the file'
    )
  if bounded:
    _check(path, table, OPTIONS, None)
    size_N = pc.list_value_length(table[OPTIONS]).to_numpy()
  wanted = [name for name in (*columns, *optional) if name in table.column_names]
  for name in wanted:
    _check(path, table, name, size_N)
  return table.select(wanted)


def _kind(name: str) -> _Kind:
  return _KINDS.get(name, _TEXT)


def _check(
  path: pathlib.Path,
  table: pa.Table,
  name: str,
  size_N: np.ndarray | None,
) -> None:
  """Raises WorkdirError unless a column is of its kind; size_N: of the options."""
  kind, column = _kind(name), table[name]

  def fail(row: int, found: Any) -> None:
    raise WorkdirError(
      f'{path}: row {row}, column {name}: found {found!r}, expected {kind.words}; '
      f'move {path.parent} away and make it anew, or restore the file'
    )

  if len(column) and not kind.is_type(column.type):
    first = column[0].as_py()
    fail(0, first if first is not None else f'{column.type}')
  if column.null_count:
    fail(column.is_null().to_pylist().index(True), None)
  if kind is _FLAG:
    return
  if kind.least is None:
    if not _text(column.type) and pc.list_flatten(column).null_count:
      values = column.to_pylist()
      row = next(i for i, value in enumerate(values) if None in value)
      fail(row, values[row])
    if name == 'replies' and (pc.list_value_length(column).to_numpy() != 2).any():
      row = int(np.argmax(pc.list_value_length(column).to_numpy() != 2))
      fail(row, column[row].as_py())
    if name == REFERENCE or name in ANSWERS:
      _check_distributions(column, size_N, 2 if name == REFERENCE else 1, fail)
    if name == STATEMENTS:
      _check_statements(column, size_N, fail)
    return
  value_N = column.to_numpy()
  most_N = 2 if kind is _CHANGED else size_N if kind.of_options else np.inf
  wrong_N = (value_N < kind.least) | (value_N >= most_N)
  if wrong_N.any():
    row = int(np.argmax(wrong_N))
    fail(row, int(value_N[row]))


def matrix(column: pa.ChunkedArray) -> np.ndarray:
  """A column of lists of one length, [N, length]."""
  flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
  return flat.reshape(len(column), len(flat) // len(column))


def _check_widths(
  column: pa.ChunkedArray,
  size_N: np.ndarray,
  parts: int,
  fail: Callable[[int, Any], None],
) -> None:
  """Fails at the first list that has not `parts` numbers an option, as others have."""
  width_N = pc.list_value_length(column).to_numpy()
  wrong_N = (width_N != width_N[0]) | (width_N % parts > 0)
  wrong_N |= (width_N > 0) & (width_N < parts * size_N)
  if wrong_N.any():
    row = int(np.argmax(wrong_N))
    fail(row, f'{width_N[row]} numbers')


def _check_distributions(
  column: pa.ChunkedArray,
  size_N: np.ndarray,
  parts: int,
  fail: Callable[[int, Any], None],
) -> None:
  """Fails at the first row without P = `parts` distributions; see label_set.write."""
  _check_widths(column, size_N, parts, fail)
  logprobs_NxPS = matrix(column)
  S = logprobs_NxPS.shape[1] // parts
  if not S:
    return
  logprobs_NxPxS = logprobs_NxPS.reshape(-1, parts, S)
  rows = max(1, _CHUNK // (parts * S))
  for first in range(0, len(logprobs_NxPxS), rows):
    part_RxPxS = logprobs_NxPxS[first : first + rows].astype(np.float32)
    beyond_Rx1xS = np.arange(S) >= size_N[first : first + rows, None, None]
    absent_RxPxS = part_RxPxS == -np.inf
    of_options_RxP = (absent_RxPxS == beyond_Rx1xS).all(axis=2)
    with np.errstate(over='ignore'):
      total_RxP = np.exp(part_RxPxS).sum(axis=2, dtype=np.float64)
    good_RxP = of_options_RxP | ~absent_RxPxS.any(axis=2)
    good_RxP &= np.abs(total_RxP - 1) <= TOLERANCE  # not where it is NaN
    if not good_RxP.all():
      row, part = np.argwhere(~good_RxP)[0]
      fail(first + int(row), part_RxPxS[row, part, :8].tolist())


def _check_statements(
  column: pa.ChunkedArray, size_N: np.ndarray, fail: Callable[[int, Any], None]
) -> None:
  """Fails at the first row that has no likelihoods of an item's M = 2K statements."""
  _check_widths(column, size_N, 2, fail)
  logprobs_NxM = matrix(column).astype(np.float32)
  beyond_NxM = np.arange(logprobs_NxM.shape[1]) >= 2 * size_N[:, None]
  with np.errstate(over='ignore'):
    total_N = np.exp(logprobs_NxM).sum(axis=1)
  good_N = (total_N <= 1 + TOLERANCE) & ~np.any(
    beyond_NxM & (logprobs_NxM > -np.inf), axis=1
  )
  if not good_N.all():
    row = int(np.argmin(good_N))
    fail(row, logprobs_NxM[row, :8].tolist())
