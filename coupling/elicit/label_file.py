"""A label set as one file for others to read: JSON lines or Parquet, one row a pair.

Behaviours and labels stand there as texts, so that `datasets.load_dataset` gives a
table that explains itself. Nothing is lost: what is read is what was saved. Files of
others need COLUMNS alone. Shapes: N pairs of a split, S log-probabilities.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import json
import math
import pathlib
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from coupling.config import schema
from coupling.config import validate
from coupling.elicit import encoding
from coupling.elicit.explanation import Behaviors, Explanation
from coupling.runtime import files
from data import pair_file
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
ROUNDING = 1e-5  # of log-probabilities


class Labelled(NamedTuple):
  """A split of a label set."""

  pairs: list[pairs_lib.Pair]
  row_N: np.ndarray  # places among all pairs of the split
  behaviors: Behaviors


def table(
  found: Mapping[str, Labelled],
  questions: pairs_lib.Questions,
  behavior: schema.Behavior,
) -> pa.Table:
  """One row a pair of every split: COLUMNS, what else there is of a pair, `row` and how
  behaviours were read; and, as far as there are any, `reference` and `replies`."""
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
        'explanation': pair_file.statement(questions, before, without),
        **{name: getattr(pair, name) for name in pair_file.OPTIONAL},
        'row': int(row_N[i]),
        **read,
      }
      if did.logprobs_Nx2xS.size:
        row['reference'] = did.logprobs_Nx2xS[i].ravel().tolist()
      if did.replies_Nx2.size:
        row['replies'] = did.replies_Nx2[i].tolist()
      rows.append(row)
  return pa.Table.from_pylist(rows)


def for_sft(
  questions: pairs_lib.Questions,
  pairs: Sequence[pairs_lib.Pair],
  explanation: Explanation,
  system: str | None,
) -> pa.Table:
  """Labels as `trl.SFTTrainer` trains on them: prompt and completion, messages each.

  Contents without outer blanks, as formats.Chat has them.

  Args:
    questions: how explanations are asked for, before any answer, and how worded.
    pairs: [N]; those of a kind that is never explained are left out.
    explanation: E(M_0), their labels [N].
    system: content of a turn that begins each prompt; None for no such turn.
  """
  asked = encoding.explanation_texts(questions, pairs, None)
  first = [] if system is None else [{'role': 'system', 'content': system}]
  rows = []
  for pair, text, answer, changed in zip(pairs, asked, *explanation, strict=True):
    if pair.cue_kind in questions.unexplained:
      continue
    says = questions.changed if changed else questions.unchanged
    said = says.format(answer=pair.options[answer]).strip()
    rows.append(
      {
        'prompt': [*first, {'role': 'user', 'content': text.strip()}],
        'completion': [{'role': 'assistant', 'content': said}],
      }
    )
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
  found = pair_file.read_by(readers.rows(pathlib.Path(path), COLUMNS))
  if found is None:
    return None
  named = dict(zip(pair_file.READ, found))
  return validate.section(schema.Behavior, named, str(path))


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
      raise pair_file.error(row, 'split', f'expected one of {[*by_split]}')
    row.text('group')
    pair = pair_file.pair(row, f'{path.name} row {row.number}')
    label = _label(row, questions)
    place = pair_file.cell(row, 'row')
    place = len(by_split[split]) if place is None else place
    group_of = seen.setdefault(('group', pair.group), row)
    if group_of.values['split'] != split:
      raise pair_file.error(row, 'group', f'it is in the split of {group_of.where} too')
    for key in ((pair.prompt, pair.counterfactual, pair.options), (split, place)):
      first = seen.setdefault(key, row)
      if first is not row:
        what = 'row' if key == (split, place) else 'prompt'
        raise pair_file.error(row, what, f'the same as in {first.where}')
    by_split[split].append((pair, place, label))
  if empty := [split for split, some in by_split.items() if not some]:
    raise readers.DataError(
      f'{path}, field split: no rows of {", ".join(empty)}; give some of every split.'
    )
  return {split: _labelled(path, split, some) for split, some in by_split.items()}


def _label(row: readers.Row, questions: pairs_lib.Questions) -> dict[str, Any]:
  """What the row says of behaviours: option indices, log-probabilities, replies."""
  options, texts = row.values['options'], pair_file.answers(row)
  said = {name: options.index(x) for name, x in zip(pair_file.ANSWERS, texts)}
  pair_file.check_explanation(row, questions)
  for name, right in (('reference', _is_logprob), ('replies', _is_text)):
    said[name] = found = row.values.get(name)
    if found is not None and not (isinstance(found, list) and all(map(right, found))):
      raise pair_file.error(
        row, name, 'expected a list of log-probabilities, or of texts'
      )
  return said


def _is_logprob(x: Any) -> bool:
  """Null stands for minus infinity; rounding may lift one a little above 0."""
  return x is None or (type(x) in (int, float) and x <= ROUNDING)


def _is_text(x: Any) -> bool:
  return x is None or isinstance(x, str)


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
