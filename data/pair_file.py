"""Pairs of a user's own file, and the answers that may come with them.

A .jsonl or .parquet file, one row a pair: COLUMNS, and what else there is of a pair
(OPTIONAL). A row that names its `split` is in that one, others where their group
belongs (data/splits.py). Files with ANSWERS, such as `Labels.save` writes, are a label
set too: `behaviors`.
"""

from collections.abc import Iterable, Iterator, Sequence
import dataclasses
import functools
import pathlib
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from data import builder as builder_lib
from data import pairs
from data import readers
from data import reply_options
from data import splits

COLUMNS = ('prompt', 'counterfactual', 'options')
# Of a pair; without them they are as of pairs that are given.
OPTIONAL = ('cue', 'cue_kind', 'cue_option', 'group', 'provenance')
ANSWERS = ('behavior', 'counterfactual_behavior')  # one of the options each
# How answers were read, alike in all rows: the fields of schema.Behavior.
READ = ('read', 'per_token', 'calibration')
_KINDS = {'cue_option': int, 'row': int}  # others are texts
_ASKED = pairs.Questions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """Where the pairs are, and how they are asked about: see pairs.Questions."""

  path: str  # a .jsonl or .parquet file, or a folder of them
  behavior: str = _ASKED.behavior
  explanation: str = _ASKED.explanation
  explanation_after: str = _ASKED.explanation_after
  unchanged: str = _ASKED.unchanged
  changed: str = _ASKED.changed
  unexplained: tuple[str, ...] = _ASKED.unexplained
  against: tuple[str, ...] = _ASKED.against


def questions(config: Config) -> pairs.Questions:
  return pairs.Questions(
    **{k: x for k, x in dataclasses.asdict(config).items() if k != 'path'}
  )


def make(config: Config, seed: int) -> Iterator[pairs.Pair]:
  """The pairs in the order of the rows; nothing is drawn."""
  del seed
  for row in rows(config.path):
    yield _bare(row, pair(row, row.source(config.path)))


def behaviors(
  config: Config, items: Sequence[pairs.Pair]
) -> tuple[np.ndarray, np.ndarray]:
  """The answers of the file on pairs of it: option indices, int32 [N], with and without
  the cue.

  Raises:
    DataError: a row has none, or one that is no option; two rows of one pair differ;
      an explanation of the file is not that of its answers; an answer could not be
      given as the items are asked.
  """
  asked, found = questions(config), {}
  for row in rows(config.path, (*COLUMNS, *ANSWERS)):
    said = answers(row)
    if row.values.get('explanation') is not None:
      check_explanation(row, asked)
    made = _bare(row, pair(row, ''))
    key = made.prompt, made.counterfactual, made.options
    first, before = found.setdefault(key, (row, said))
    for name, one, two in zip(ANSWERS, before, said):
      if one != two:
        raise error(row, name, f'{first.where}, of the same pair, has {one!r}')
  chosen = []
  for item in items:
    own = tuple(x for x in item.options if x != reply_options.UNNAMED)
    if (item.prompt, item.counterfactual, own) not in found:
      raise readers.DataError(f'{config.path}: no row has the pair {item.provenance}.')
    row, said = found[item.prompt, item.counterfactual, own]
    for name, text in zip(ANSWERS, said):
      if text not in item.options:
        raise error(row, name, f'these are asked for as one of {item.options}')
    chosen.append([item.options.index(text) for text in said])
  return tuple(np.array(chosen, np.int32).reshape(len(items), 2).T)


def builder(
  config: Config, seed: int, data_dir: str | pathlib.Path
) -> tfds.core.GeneratorBasedBuilder:
  by_split = functools.partial(_split, config.path)
  return builder_lib.build(make, config, seed, data_dir, by_split)


def rows(path: str, columns: Sequence[str] = COLUMNS) -> Iterator[readers.Row]:
  """Those of a file, or of all files of a folder; DataError as of readers.rows."""
  for file in readers.files(path, ('.jsonl', '.parquet')):
    yield from readers.rows(file, columns)


def pair(row: readers.Row, source: str) -> pairs.Pair:
  """The pair of a row; `source`: its provenance, where the row has none.

  Raises:
    DataError: a cell is of another kind, or the pair cannot be asked about.
  """
  options = row.values['options']
  if not isinstance(options, list) or not all(isinstance(x, str) for x in options):
    raise error(row, 'options', 'expected a list of texts')
  texts = {name: row.text(name) for name in COLUMNS[:2]}
  found = {name: cell(row, name) for name in OPTIONAL}
  given = {name: x for name, x in found.items() if x is not None}
  made = pairs.Pair(**{'provenance': source} | given | texts, options=options)
  try:
    builder_lib.check_asked(made)
  except readers.DataError as e:
    raise readers.DataError(f'{row.where}: {e}') from e
  return made


def answers(row: readers.Row) -> tuple[str, str]:
  """The answers with the cue and without; DataError where one is no option."""
  for name in ANSWERS:
    if row.values[name] not in row.values['options']:
      raise error(row, name, f'it is none of the options {row.values["options"]}')
  return tuple(row.values[name] for name in ANSWERS)


def statement(asked: pairs.Questions, before: str, without: str) -> str:
  """The explanation label of two behaviours, given as texts."""
  template = asked.unchanged if before == without else asked.changed
  return template.format(answer=without)


def check_explanation(row: readers.Row, asked: pairs.Questions) -> None:
  """Raises DataError unless a row's explanation is that of its answers."""
  want = statement(asked, *(row.values[name] for name in ANSWERS))
  if row.values['explanation'] != want:
    reason = f'the behaviours, and the questions given here, make it {want!r}'
    raise error(row, 'explanation', reason)


def read_by(found: Iterable[readers.Row]) -> tuple | None:
  """How the answers of rows were read, READ; None where a row does not say so.

  Raises:
    DataError: rows that differ in that.
  """
  said = {}
  for row in found:
    said.setdefault(tuple(row.values.get(x) for x in READ), row)
  if len(said) > 1:
    one, two = [*said.values()][:2]
    raise error(two, READ[0], f'read otherwise than {one.where}')
  how = next(iter(said), (None,))
  return None if None in how else how


def cell(row: readers.Row, name: str) -> Any:
  """An optional cell; None where it is empty or not there."""
  value, kind = row.values.get(name), _KINDS.get(name, str)
  if value is not None and type(value) is not kind:
    raise error(row, name, f'expected {kind.__name__}')
  if name == 'row' and value is not None and value < 0:
    raise error(row, name, 'expected a place, 0 or more')
  return value


def error(row: readers.Row, name: str, reason: str) -> readers.DataError:
  found = row.values.get(name)
  return readers.DataError(
    f'{row.where}, field {name}: found {found!r}: {reason}; correct or remove the row.'
  )


def _bare(row: readers.Row, made: pairs.Pair) -> pairs.Pair:
  """A row's pair without the option that stands for replies that name none."""
  if row.values.get('read') not in (None, 'reply'):
    return made
  own = tuple(x for x in made.options if x != reply_options.UNNAMED)
  return dataclasses.replace(made, options=own)


def _split(path: str, made: Iterable[pairs.Pair]) -> dict[str, list[pairs.Pair]]:
  """Pairs by the split that their rows name, else by their group.

  Raises:
    DataError: a split that is none, or a group in two of them.
  """
  said: dict[str, tuple[str | None, readers.Row]] = {}
  for row in rows(path):
    split = cell(row, 'split')
    if split not in (None, *splits.SHARES):
      raise error(row, 'split', f'expected one of {[*splits.SHARES]}')
    one, first = said.setdefault(pair(row, '').group, (split, row))
    if one != split:
      raise error(row, 'split', f'{first.where}, of the same group, has {one!r}')
  of = lambda group: said[group][0] or splits.split_of(group)
  return builder_lib.split(made, builder_lib.check_asked, of)
