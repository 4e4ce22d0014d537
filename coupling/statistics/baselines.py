"""Explainers that know nothing of the model, to compare a trained one with.

Each returns statements; `dataclasses.replace(items, stated=denial(items))` scores them.
"""

import numpy as np

from coupling.elicit.explanation import INVALID, Explanation
from coupling.statistics.items import Items


def denial(items: Items) -> Explanation:
  """States its own answer, unchanged, always."""
  return Explanation(items.behavior_N, np.zeros_like(items.behavior_N))


def majority(train_labels: Explanation, items: Items) -> Explanation:
  """States the most frequent training label, of "unchanged" and "changed to k".

  "Unchanged" is said of each item's own answer: where it is the most frequent label,
  this is denial and no second baseline. A tie goes to "unchanged", then to the
  first option.
  """
  if len(train_labels.changed_N) == 0:
    raise ValueError('majority: there are no training labels')
  changed_N = np.asarray(train_labels.changed_N) == 1
  count_K = np.bincount(np.asarray(train_labels.answer_N)[changed_N], minlength=1)
  if np.count_nonzero(~changed_N) >= count_K.max():
    return denial(items)
  return Explanation(
    np.full_like(items.behavior_N, count_K.argmax()), np.ones_like(items.behavior_N)
  )


def cue_parrot(items: Items, cue_option_N: np.ndarray) -> Explanation:
  """States the hinted option, "changed" iff it is not its own answer.

  Args:
    items: the evaluation.
    cue_option_N: the hinted option, INVALID where there is none; so is the statement.
  """
  if np.shape(cue_option_N) != np.shape(items.group_N):
    raise ValueError(
      f'cue_parrot: cue_option_N has shape {np.shape(cue_option_N)}, items '
      f'{np.shape(items.group_N)}'
    )
  changed_N = np.where(
    cue_option_N == INVALID, INVALID, cue_option_N != items.behavior_N
  )
  return Explanation(cue_option_N, changed_N)


def with_own_answer(explanation: Explanation, items: Items) -> Explanation:
  """Its answer without the cue, put together with the model's own answer with it."""
  answer_N = np.asarray(explanation.answer_N)
  return Explanation(answer_N, (answer_N != items.behavior_N).astype(answer_N.dtype))


def shuffled(explanation: Explanation, seed: int) -> Explanation:
  """Explanations dealt out anew over all items; answer and change stay together."""
  order_N = np.random.default_rng(seed).permutation(len(explanation.answer_N))
  return Explanation(explanation.answer_N[order_N], explanation.changed_N[order_N])
