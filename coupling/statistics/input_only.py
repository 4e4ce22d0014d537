"""An explainer that reads prompts and labels, and no model: what inputs alone give.

Two logistic regressions over hashed features of the text (scikit-learn): which option
is given without the cue, and whether that differs from the answer with it. Trained on
the labels that explanations are trained on, and scored on the same held-out items.
They have no randomness. No JAX.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import re

import numpy as np
import pyarrow as pa
from sklearn import feature_extraction
from sklearn import linear_model

from coupling.elicit.explanation import Explanation

FEATURES = 2**18  # that hashes are taken of
# Chosen on validation facts of data/facts.py, among 0.01 to 1: 66% of the answers.
INVERSE_PENALTY = 0.1
FOLDS = 3
_hasher = feature_extraction.FeatureHasher(FEATURES, input_type='string')


@dataclasses.dataclass(frozen=True)
class InputOnly:
  """The fitted classifiers; None where the labels know one class alone."""

  option: linear_model.LogisticRegression
  changed: linear_model.LogisticRegression | None
  constant: int  # `changed` of all labels, where there is no classifier

  def state(self, table: pa.Table) -> Explanation:
    """What it states of items, from the columns that `fit` reads."""
    rows = table.to_pylist()
    score_NxK = _scores(self.option, rows)
    answer_N = score_NxK.argmax(axis=1).astype(np.int32)
    if self.changed is None:
      return Explanation(answer_N, np.full(len(rows), self.constant, np.int32))
    found_N = self.changed.predict(_hashed(rows, score_NxK))
    return Explanation(answer_N, found_N.astype(np.int32))


def fit(table: pa.Table, labels: Explanation) -> InputOnly:
  """Fits the classifiers.

  Args:
    table: of N pairs: prompt, options, cue_kind, cue_option (none where negative), and
      group: pairs about one thing are seen together or not at all.
    labels: those trained on, of these pairs; some answer is not the only option.

  Raises:
    ValueError: there are no labels, or not one a pair.
  """
  if not len(table) or len(table) != len(labels.answer_N):
    raise ValueError(f'{len(table)} pairs with {len(labels.answer_N)} labels')
  rows = table.to_pylist()
  answer_N, changed_N = (np.asarray(x) for x in labels)
  option = _of_answers(rows, answer_N)
  groups, group_N = np.unique(table['group'].to_pylist(), return_inverse=True)
  if len(set(changed_N.tolist())) == 1 or len(groups) < FOLDS:
    return InputOnly(option, None, int(changed_N[0]))
  features = _hashed(rows, unseen_scores(rows, answer_N, group_N))
  return InputOnly(option, _classifier().fit(features, changed_N), 0)


def unseen_scores(
  rows: Sequence[dict], answer_N: np.ndarray, group_N: np.ndarray
) -> np.ndarray:
  """Scores [N, K] by classifiers that have seen no pair of a row's group.

  So they are as those of held-out items, which are of other groups.
  """
  fold_N, score_NxK = group_N % FOLDS, None
  for fold in range(FOLDS):
    seen = [row for row, x in zip(rows, fold_N) if x != fold]
    found = _scores(_of_answers(seen, answer_N[fold_N != fold]), rows)
    score_NxK = found if score_NxK is None else score_NxK
    score_NxK[fold_N == fold] = found[fold_N == fold]
  return score_NxK


def _classifier() -> linear_model.LogisticRegression:
  return linear_model.LogisticRegression(C=INVERSE_PENALTY, solver='liblinear')


def _of_answers(
  rows: Sequence[dict], answer_N: np.ndarray
) -> linear_model.LogisticRegression:
  """Of every option: whether it is given without the cue."""
  wanted = [
    k == answer
    for row, answer in zip(rows, answer_N)
    for k in range(len(row['options']))
  ]
  return _classifier().fit(_hasher.transform(_of_options(rows)), wanted)


def _scores(
  option: linear_model.LogisticRegression, rows: Sequence[dict]
) -> np.ndarray:
  """Log-odds of each option [N, K]; -inf where an item has fewer."""
  size_N = [len(row['options']) for row in rows]
  found = option.decision_function(_hasher.transform(_of_options(rows)))
  score_NxK = np.full((len(rows), max(size_N)), -np.inf)
  for i, part in enumerate(np.split(found, np.cumsum(size_N)[:-1])):
    score_NxK[i, : len(part)] = part
  return score_NxK


def _of_options(rows: Sequence[dict]) -> Iterator[list[str]]:
  """Features of every option of every item: its text, slot and hint, with the words."""
  for row in rows:
    words = _words(row['prompt'])
    for k, text in enumerate(row['options']):
      named = k == row['cue_option']
      yield [
        f'option={text}',
        f'slot={k}',
        f'cue={named} {row["cue_kind"]}',
        *(f'letters={text[i : i + 3]}' for i in range(len(text) - 2)),
        *(f'{word}&{text}' for word in words),
      ]


def _hashed(rows: Sequence[dict], score_NxK: np.ndarray):
  """Features of every item: its words and cue, and how likely the cue's option is."""
  best_N = score_NxK.argmax(axis=1)

  def features(row, best):
    words, kind, cue = _words(row['prompt']), row['cue_kind'], row['cue_option']
    named = row['options'][cue] if cue >= 0 else ''
    return [
      f'kind={kind}',
      f'slot={cue}',
      f'named={named}',
      f'likely={best == cue} {kind}',
      f'likely={best == cue}',
      *words,
      *(f'{a} {b}' for a, b in zip(words, words[1:])),
    ]

  return _hasher.transform(features(row, best) for row, best in zip(rows, best_N))


def _words(text: str) -> list[str]:
  return re.findall(r'\w+', text.casefold())
