"""Published counterfactual sets on MMLU: prompts, hints, and what a model answered.

Reads the Parquet files of Transluce/input_ablation_llama_3.1_8b_instruct_mmlu_hint and
Transluce/input_ablation_qwen3_8b_mmlu_hint (arXiv 2511.08579): hinted prompts, the same
without the hint, and the answers of the model that the set was made with. The answers
give a foreign label set: `behaviors`.

Their `changed_pred_bc_hint` is null in about a quarter of the rows, so what changed is
always told from the two answers, and checked against the column where it is given. Rows
where an answer is no option letter have no behaviour: they are left out and counted.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import pathlib
import re
import warnings

import numpy as np
import tensorflow_datasets as tfds

from data import builder as builder_lib
from data import hint_mmlu
from data import mmlu
from data import pairs
from data import readers
from data import splits

COLUMNS = ('question', 'hint_user_prompt', 'original_user_prompt')
WITH_HINT, WITHOUT_HINT = 'random_hint_prediction', 'zeroshot_prediction'
CHANGED = 'changed_pred_bc_hint'

QUESTIONS = hint_mmlu.QUESTIONS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """Where the set is."""

  path: str  # a .parquet file, or a folder of them


def questions(config: Config) -> pairs.Questions:
  del config  # all that it can say is asked for alike
  return QUESTIONS


def make(config: Config, seed: int) -> Iterator[pairs.Pair]:
  """The pairs of the set, in the order of the files; nothing is drawn."""
  del seed
  for row, _ in _rows(config.path):
    x, without = (row.text(column) for column in COLUMNS[1:])
    cue = _cue(row, x, without)
    yield pairs.Pair(
      prompt=x,
      counterfactual=without,
      cue=cue,
      cue_kind='published',
      cue_option=_hinted(row, cue),
      options=mmlu.LETTERS,
      group=splits.content_hash(row.text('question')),
      provenance=row.source(config.path),
    )


def behaviors(
  config: Config, items: Sequence[pairs.Pair]
) -> tuple[np.ndarray, np.ndarray]:
  """What the set's own model answered on the pairs of this task.

  Args:
    config: that the pairs were made with.
    items: pairs of any split, in any order.

  Returns:
    behavior_N, counterfactual_behavior_N: option indices, int32.

  Raises:
    DataError: a pair that is not of this set.
  """
  answers = {
    (row.source(config.path), row.text(COLUMNS[1])): answer
    for row, answer in _rows(config.path)
  }
  keys = [(pair.provenance, pair.prompt) for pair in items]
  for pair, key in zip(items, keys):
    if key not in answers:
      raise readers.DataError(
        f'{config.path}: holds no answers for the pair from {pair.provenance}; label '
        'pairs that were made from this path.'
      )
  behavior_Nx2 = np.array([answers[key] for key in keys], np.int32)
  return behavior_Nx2[:, 0], behavior_Nx2[:, 1]


def builder(
  config: Config, seed: int, data_dir: str | pathlib.Path
) -> tfds.core.GeneratorBasedBuilder:
  return builder_lib.build(make, config, seed, data_dir)


def _rows(path: str) -> Iterator[tuple[readers.Row, tuple[int, int]]]:
  """Rows with the indices of the answers with and without the hint."""
  left_out = 0
  for file in readers.files(path, ('.parquet',)):
    for row in readers.rows(file, (*COLUMNS, WITH_HINT, WITHOUT_HINT, CHANGED)):
      answer = tuple(_letter(row.values[name]) for name in (WITH_HINT, WITHOUT_HINT))
      changed = row.values[CHANGED]
      if None in answer:
        left_out += 1
        continue
      if changed is not None and changed != (answer[0] != answer[1]):
        raise readers.DataError(
          f'{row.where}, field {CHANGED}: {changed}, but the answers are '
          f'{row.values[WITH_HINT]!r} and {row.values[WITHOUT_HINT]!r}; correct or '
          'remove the row.'
        )
      yield row, answer
  if left_out:
    warnings.warn(
      f'{path}: {left_out} rows left out, where an answer is no letter A-D',
      stacklevel=2,
    )


def _letter(answer: str | None) -> int | None:
  """The option that an answer names: 'B', ' B', '(B)', 'B.'; None where it is none."""
  found = re.fullmatch(r'\s*\(?([A-D])\)?[.:]?\s*', answer or '')
  return mmlu.LETTERS.index(found[1]) if found else None


def _cue(row: readers.Row, x: str, without: str) -> str:
  """The span by which two prompts differ, taken as far back as it goes."""
  start = next((i for i, (a, b) in enumerate(zip(x, without)) if a != b), len(without))
  cue = x[start : start + len(x) - len(without)]
  if not cue or pairs.remove_cue(x, cue, start) != without:
    raise readers.DataError(
      f'{row.where}: original_user_prompt is not hint_user_prompt with one span taken '
      'out; correct or remove the row.'
    )
  return cue


def _hinted(row: readers.Row, cue: str) -> int:
  letters = re.findall(r'\(([A-D])\)', cue)
  if len(letters) != 1:
    raise readers.DataError(
      f'{row.where}: the hint {cue!r} should name one option, (A) to (D); correct '
      'or remove the row.'
    )
  return mmlu.LETTERS.index(letters[0])
