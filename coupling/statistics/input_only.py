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
from scipy import sparse
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
    options_RxF, item_R = _options(rows)
    score_NxK = _by_item(self.option.decision_function(options_RxF), item_R, len(rows))
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
  options_RxF, item_R = _options(rows)
  given_R = _slots(item_R) == answer_N[item_R]
  option = _classifier().fit(options_RxF, given_R)
  groups, group_N = np.unique(table['group'].to_pylist(), return_inverse=True)
  if len(set(changed_N.tolist())) == 1 or len(groups) < FOLDS:
    return InputOnly(option, None, int(changed_N[0]))
  found_R = unseen_scores(options_RxF, given_R, group_N[item_R])
  features = _hashed(rows, _by_item(found_R, item_R, len(rows)))
  return InputOnly(option, _classifier().fit(features, changed_N), 0)


def unseen_scores(
  options_RxF: sparse.csr_matrix, given_R: np.ndarray, group_R: np.ndarray
) -> np.ndarray:
  """Log-odds [R] of options, by classifiers that have seen nothing of a row's group.

  So they are as those of held-out items, which are of other groups.
  """
  fold_R, score_R = group_R % FOLDS, np.zeros(len(group_R))
  for fold in range(FOLDS):
    own_R = fold_R == fold
    fitted = _classifier().fit(options_RxF[~own_R], given_R[~own_R])
    score_R[own_R] = fitted.decision_function(options_RxF[own_R])
  return score_R


def _classifier() -> linear_model.LogisticRegression:
  return linear_model.LogisticRegression(C=INVERSE_PENALTY, solver='liblinear')


def _options(rows: Sequence[dict]) -> tuple[sparse.csr_matrix, np.ndarray]:
  """Features of every option of every item [R, F], and which item it is of [R]."""
  item_R = np.repeat(np.arange(len(rows)), [len(row['options']) for row in rows])
  return _hasher.transform(_of_options(rows)), item_R


def _slots(item_R: np.ndarray) -> np.ndarray:
  """Of every option its place among those of its item [R]."""
  return np.arange(len(item_R)) - np.searchsorted(item_R, item_R)


def _by_item(score_R: np.ndarray, item_R: np.ndarray, items: int) -> np.ndarray:
  """Scores of each item's options [N, K]; -inf where it has fewer."""
  slot_R = _slots(item_R)
  score_NxK = np.full((items, slot_R.max() + 1), -np.inf)
  score_NxK[item_R, slot_R] = score_R
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
