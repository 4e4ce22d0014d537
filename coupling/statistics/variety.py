"""How much labels and explanations vary.

Labels with too little variety collapse to the majority class (arXiv 2606.32038): where
nearly all say the same, saying that is nearly always right, and agreement measures the
base rate. No model and no JAX here.
"""

import numpy as np

from coupling.elicit.explanation import INVALID, Explanation
from coupling.statistics.items import Items, label_class

NOT_SHARES = ('bits', 'effective')  # of what `labels` returns


def labels(trained: Explanation, states_answer: bool, options: int) -> dict:
  """How much the labels of one training vary.

  Args:
    trained: the labels, one of each item trained on.
    states_answer: as `explanation.agree` takes it; where it is False, all "unchanged"
      are one label.
    options: the most options that an item has.

  Returns:
    n: labels. changed: the share that say so. commonest: the share of the commonest
    label. normalised: the entropy as a share of the largest possible one, in which
    all labels are equally frequent. bits: the entropy, -sum p log2 p over the labels'
    shares p. effective: 2 ** bits, how many equally frequent labels have that entropy.

  Raises:
    ValueError: there are no labels.
  """
  if len(trained.changed_N) == 0:
    raise ValueError('variety.labels: there are no labels')
  share_C = _shares(label_class(trained, states_answer))
  bits = float(np.sum(share_C * -np.log2(np.where(share_C > 0, share_C, 1))))
  possible = 2 * options if states_answer else 1 + options
  return {
    'n': len(trained.changed_N),
    'changed': float(np.mean(trained.changed_N == 1)),
    'commonest': float(share_C.max()),
    'normalised': float(bits / np.log2(possible)),
    'bits': bits,
    'effective': 2**bits,
  }


def statements(items: Items, trained: Explanation) -> dict[str, float]:
  """How far explanations are one statement, of "unchanged" and "changed to k".

  All "unchanged" are one here, whatever answer they name, as they are for
  `baselines.majority`: "my own answer, unchanged" is one rule for every item.

  Args:
    items: an evaluation; a statement that does not parse counts as an item alone.
    trained: the labels that the model was trained on, of items of their own.

  Returns:
    Shares: commonest, of what is stated most often; majority, of statements of the
    commonest label; labels and behavior, of the commonest among these.
  """
  stated_C, behaved_C, trained_C = (
    _shares(label_class(x, states_answer=False))
    for x in (items.stated, items.truth, trained)
  )
  majority = int(trained_C.argmax())
  return {
    'commonest': float(stated_C.max()),
    'majority': float(stated_C[majority]) if majority < len(stated_C) else 0.0,
    'labels': float(trained_C.max()),
    'behavior': float(behaved_C.max()),
  }


def _shares(class_N: np.ndarray) -> np.ndarray:
  """The share of each class among all items, invalid ones included."""
  return np.bincount(class_N[class_N != INVALID], minlength=1) / len(class_N)
