"""A label set as one file for others to read: JSON lines or Parquet, one row a pair.

Behaviours and labels stand there as texts, so that `datasets.load_dataset` gives a
table that explains itself. Nothing is lost: what is read is what was saved. Files of
others need COLUMNS alone. Shapes: N pairs of a split, S log-probabilities.
"""

from collections.abc import Mapping
import dataclasses
import json
import math
import pathlib
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from coupling.config import schema
from coupling.config import validate
from coupling.elicit.explanation import Behaviors
from coupling.runtime import files
from data import builder
from data import pairs as pairs_lib
from data import readers
from data import splits

COLUMNS = (
  'split',
  'group',
  'prompt',
  'counterfactual',
  'options',
  'behavior',
  'counterfactual_behavior',
  'explanation',
)
# Of the pair and of its place; without them they are as of pairs that are given.
PAIR = ('cue', 'cue_kind', 'cue_option', 'provenance')
# How behaviours were read, alike in all rows: the fields of schema.Behavior.
READ = ('read', 'per_token', 'calibration')
ROUNDING = 1e-5  # of log-probabilities
_KINDS = {'cue': str, 'cue_kind': str, 'cue_option': int, 'provenance': str, 'row': int}


class Labelled(NamedTuple):
  """A split of a label set."""

  pairs: list[pairs_lib.Pair]
  row_N: np.ndarray  # places among all pairs of the split
  behaviors: Behaviors


def statement(questions: pairs_lib.Questions, before: str, without: str) -> str:
  """The explanation label of two behaviours, given as texts."""
  template = questions.unchanged if before == without else questions.changed
  return template.format(answer=without)


def table(
  found: Mapping[str, Labelled],
  questions: pairs_lib.Questions,
  behavior: schema.Behavior,
) -> pa.Table:
  """One row a pair of every split: COLUMNS, PAIR, `row` and READ; and, as far as there
  are any, `reference` and `replies`."""
  rows, read = [], dataclasses.asdict(behavior)
  for split, (pairs, row_N, did) in found.items():
    for i, pair in enumerate(pairs):
      chosen = did.behavior_N[i], did.counterfactual_behavior_N[i]
      before, without = (pair.options[k] for k in chosen)
      row = {'split': split} | {name: getattr(pair, name) for name in COLUMNS[1:4]}
      row |= {
        'options': list(pair.options),
        'behavior': before,
        'counterfactual_behavior': without,
        'explanation': statement(questions, before, without),
        **{name: getattr(pair, name) for name in PAIR},
        'row': int(row_N[i]),
        **read,
      }
      if did.logprobs_Nx2xS.size:
        row['reference'] = did.logprobs_Nx2xS[i].ravel().tolist()
      if did.replies_Nx2.size:
        row['replies'] = did.replies_Nx2[i].tolist()
      rows.append(row)
  return pa.Table.from_pylist(rows)


def write(path: str | pathlib.Path, found: pa.Table) -> None:
  """Writes a table, whole or not at all.

  Args:
    path: ends in .jsonl, where what is not finite becomes null, or in .parquet.
    found: the table.

  Raises:
    DataError: another ending.
  """
  path = pathlib.Path(path)
  if not path.parent.is_dir():
    raise readers.DataError(f'{path}: there is no folder {path.parent}; make it first.')
  if path.suffix == '.parquet':
    files.write_table(path, found)
  elif path.suffix == '.jsonl':
    lines = (json.dumps(_finite(row), ensure_ascii=False) for row in found.to_pylist())
    files.write_bytes(path, ''.join(f'{line}\n' for line in lines).encode())
  else:
    raise readers.DataError(f'{path}: name a file that ends in .jsonl or .parquet.')


def _finite(value: Any) -> Any:
  if isinstance(value, dict):
    return {name: _finite(x) for name, x in value.items()}
  if isinstance(value, list):
    return [_finite(x) for x in value]
  return None if isinstance(value, float) and not math.isfinite(value) else value


def behavior(path: str | pathlib.Path) -> schema.Behavior | None:
  """How the labels of a file were read; None where it does not say so.

  Raises:
    DataError: rows that differ in that.
  """
  said = {}
  for row in readers.rows(pathlib.Path(path), COLUMNS):
    said.setdefault(tuple(row.values.get(x) for x in READ), row)
  if len(said) > 1:
    one, two = [*said.values()][:2]
    raise _error(two, READ[0], f'read otherwise than {one.where}')
  found = [*said][0] if said else (None,)
  if None in found:
    return None
  return validate.section(schema.Behavior, dict(zip(READ, found)), str(path))


def read(
  path: str | pathlib.Path, questions: pairs_lib.Questions
) -> dict[str, Labelled]:
  """Split -> what `table` was made of, in the order of the file.

  Args:
    path: of a .jsonl or .parquet file.
    questions: that the labels are worded by.

  Raises:
    DataError: a column is missing; a cell is of another kind; a behaviour is none of
      the options; an explanation is not that of the behaviours; a pair, or its place,
      is there twice; a group is in two splits; a split is empty. Names file and row.
  """
  path = pathlib.Path(path)
  seen: dict[Any, readers.Row] = {}
  by_split: dict[str, list[tuple[pairs_lib.Pair, int, dict[str, Any]]]] = {
    split: [] for split in splits.SHARES
  }
  for row in readers.rows(path, COLUMNS):
    split = row.text('split')
    if split not in by_split:
      raise _error(row, 'split', f'expected one of {[*by_split]}')
    pair, label = _pair(row), _label(row, questions)
    place = _cell(row, 'row')
    place = len(by_split[split]) if place is None else place
    group_of = seen.setdefault(('group', pair.group), row)
    if group_of.values['split'] != split:
      raise _error(row, 'group', f'it is in the split of {group_of.where} too')
    for key in ((pair.prompt, pair.counterfactual, pair.options), (split, place)):
      first = seen.setdefault(key, row)
      if first is not row:
        what = 'row' if key == (split, place) else 'prompt'
        raise _error(row, what, f'the same as in {first.where}')
    by_split[split].append((pair, place, label))
  if empty := [split for split, some in by_split.items() if not some]:
    raise readers.DataError(
      f'{path}, field split: no rows of {", ".join(empty)}; give some of every split.'
    )
  return {split: _labelled(path, split, some) for split, some in by_split.items()}


def _pair(row: readers.Row) -> pairs_lib.Pair:
  options = row.values['options']
  if not isinstance(options, list) or not all(isinstance(x, str) for x in options):
    raise _error(row, 'options', 'expected a list of texts')
  texts = {name: row.text(name) for name in ('prompt', 'counterfactual', 'group')}
  found = {name: _cell(row, name) for name in PAIR}
  given = {name: x for name, x in found.items() if x is not None}
  where = {'provenance': f'{row.path.name} row {row.number}'}
  pair = pairs_lib.Pair(**where | given | texts, options=tuple(options))
  try:
    builder.check_asked(pair)
  except readers.DataError as e:
    raise readers.DataError(f'{row.where}: {e}') from e
  return pair


def _label(row: readers.Row, questions: pairs_lib.Questions) -> dict[str, Any]:
  """What the row says of behaviours: option indices, log-probabilities, replies."""
  options, said = row.values['options'], {}
  for name in ('behavior', 'counterfactual_behavior'):
    if row.values[name] not in options:
      raise _error(row, name, f'it is none of the options {options}')
    said[name] = options.index(row.values[name])
  want = statement(questions, *(row.values[name] for name in said))
  if row.values['explanation'] != want:
    reason = f'the behaviours, and the questions given here, make it {want!r}'
    raise _error(row, 'explanation', reason)
  for name, right in (('reference', _is_logprob), ('replies', _is_text)):
    said[name] = found = row.values.get(name)
    if found is not None and not (isinstance(found, list) and all(map(right, found))):
      raise _error(row, name, 'expected a list of log-probabilities, or of texts')
  return said


def _is_logprob(x: Any) -> bool:
  """Null stands for minus infinity; rounding may lift one a little above 0."""
  return x is None or (type(x) in (int, float) and x <= ROUNDING)


def _is_text(x: Any) -> bool:
  return x is None or isinstance(x, str)


def _cell(row: readers.Row, name: str) -> Any:
  """An optional cell; None where it is empty or not there."""
  value = row.values.get(name)
  if value is not None and type(value) is not _KINDS[name]:
    raise _error(row, name, f'expected {_KINDS[name].__name__}')
  if name == 'row' and value is not None and value < 0:
    raise _error(row, name, 'expected a place, 0 or more')
  return value


def _labelled(path: pathlib.Path, split: str, some: list) -> Labelled:
  pairs, row_n, said = zip(*some)
  lists = {}
  for name, kind, of_none in (
    ('reference', np.float32, -np.inf),
    ('replies', object, ''),
  ):
    found = [label[name] for label in said]
    widths = {None if x is None else len(x) for x in found}
    if len(widths) > 1 or (width := widths.pop() or 0) % 2:
      raise readers.DataError(
        f'{path}, field {name}: the rows of the split {split!r} should all have lists '
        'of one even length, or none'
      )
    cells = [[of_none if x is None else x for x in row or ()] for row in found]
    lists[name] = np.array(cells, kind).reshape(len(pairs), width)
  reference_NxS = lists['reference']
  return Labelled(
    [*pairs],
    np.array(row_n),
    Behaviors(
      *(
        np.array([x[k] for x in said], np.int32)
        for k in ('behavior', 'counterfactual_behavior')
      ),
      reference_NxS.reshape(len(pairs), 2, reference_NxS.shape[1] // 2),
      lists['replies'],
    ),
  )


def _error(row: readers.Row, name: str, reason: str) -> readers.DataError:
  found = row.values.get(name)
  return readers.DataError(
    f'{row.where}, field {name}: found {found!r}: {reason}; correct or remove the row.'
  )
