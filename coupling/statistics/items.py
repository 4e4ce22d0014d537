"""The evaluation of one checkpoint on held-out items, as every statistic takes it."""

import dataclasses

import numpy as np

from coupling.elicit.explanation import INVALID, Explanation, agree, phi


@dataclasses.dataclass(frozen=True)
class Items:
  """One checkpoint's evaluation on N held-out items, as NumPy arrays.

  Attributes:
    group_N: the cluster of each item: its fact, post or question.
    surface: surface features by name, int [N] each: cue kind, hinted option.
    behavior_N: option that the model gives on x.
    counterfactual_behavior_N: option that it gives on x∖C.
    stated: its parsed explanations; INVALID where they did not parse.
    states_answer: whether every explanation names the answer without the cue, as
      `explanation.agree` takes it.
    against_N: whether a cue speaks against its option, bool [N]; None: none does.
    options_NxK: a number for the text of each option, where texts come again in other
      slots; None: an option is its slot.
  """

  group_N: np.ndarray
  surface: dict[str, np.ndarray]
  behavior_N: np.ndarray
  counterfactual_behavior_N: np.ndarray
  stated: Explanation
  states_answer: bool
  against_N: np.ndarray | None = None
  options_NxK: np.ndarray | None = None

  def __post_init__(self):
    arrays = {
      'group_N': self.group_N,
      'behavior_N': self.behavior_N,
      'counterfactual_behavior_N': self.counterfactual_behavior_N,
      'stated.answer_N': self.stated.answer_N,
      'stated.changed_N': self.stated.changed_N,
    } | {f'surface[{name!r}]': values_N for name, values_N in self.surface.items()}
    if np.size(self.group_N) == 0:
      raise ValueError('Items: group_N is empty; nothing was evaluated')
    for name, values_N in arrays.items():
      if np.shape(values_N) != (len(self.group_N),):
        raise ValueError(
          f'Items: {name} has shape {np.shape(values_N)}, but group_N has '
          f'({len(self.group_N)},)'
        )
      if not np.issubdtype(values_N.dtype, np.integer):
        raise ValueError(f'Items: {name} must hold integers, found {values_N.dtype}')
    for name in ('behavior_N', 'counterfactual_behavior_N'):
      if np.min(arrays[name]) < 0:
        raise ValueError(
          f'Items: {name} must hold option indices, found a negative one'
        )
    if np.shape(self.against_N) not in ((), np.shape(self.group_N)):
      raise ValueError(
        f'Items: against_N has shape {np.shape(self.against_N)}, but group_N has '
        f'{np.shape(self.group_N)}'
      )
    if not np.all(np.isin(self.stated.changed_N, (0, 1, INVALID))):
      raise ValueError('Items: stated.changed_N must hold 0, 1 or INVALID only')

  @property
  def truth(self) -> Explanation:
    """E(M): the explanation label of the model's own behaviours."""
    return phi(self.behavior_N, self.counterfactual_behavior_N)

  @property
  def followed_N(self) -> np.ndarray:
    """Whether the answer on x is what the cue speaks for, bool [N].

    Of a cue that speaks against an option: whether it is another one.
    """
    named_N = self.behavior_N == self.surface['cue_option']
    return named_N if self.against_N is None else named_N != self.against_N

  def right(self, truth: Explanation) -> np.ndarray:
    """Whether each statement agrees with some truth, bool [N]."""
    return agree(self.stated, truth, self.states_answer)


def check_same_items(first: Items, second: Items) -> None:
  """Raises ValueError unless two evaluations are of the same items, in one order."""
  if first.states_answer != second.states_answer:
    raise ValueError('evaluations differ in states_answer; they cannot be compared')
  if not np.array_equal(first.group_N, second.group_N):
    raise ValueError(
      f'evaluations of {len(first.group_N)} and {len(second.group_N)} items differ in '
      'group_N; evaluate both on the same items, in one order'
    )
  if first.surface.keys() != second.surface.keys():
    raise ValueError(
      f'surface features differ: {sorted(first.surface)}, {sorted(second.surface)}'
    )
  for name, values_N in first.surface.items():
    if not np.array_equal(values_N, second.surface[name]):
      raise ValueError(f'evaluations differ in surface[{name!r}]: not the same items')


def label_class(explanation: Explanation, states_answer: bool) -> np.ndarray:
  """One integer for each label that `agree` tells apart; INVALID where it is invalid.

  With states_answer, every pair (answer, changed); else "unchanged" or "changed to k".
  """
  answer_N, changed_N = explanation
  invalid_N = (changed_N == INVALID) | (
    (answer_N == INVALID) & (states_answer | (changed_N == 1))
  )
  class_N = 2 * answer_N + changed_N if states_answer else changed_N * (1 + answer_N)
  return np.where(invalid_N, INVALID, class_N)


def answer_as_read(items: Items, explanation: Explanation) -> np.ndarray:
  """v' of an explanation, int [N]; "unchanged" that names none is the own answer."""
  if items.states_answer:
    return explanation.answer_N
  unnamed_N = explanation.changed_N == 0
  return np.where(unnamed_N, items.behavior_N, explanation.answer_N)


def surface_strata(items: Items) -> np.ndarray:
  """Items of equal surface features and equal own answer share a number, int [N]."""
  stratum_N = np.zeros(len(items.group_N), int)
  for feature_N in (*items.surface.values(), items.behavior_N):
    # One feature at a time: sorting rows is several times slower.
    value_V, index_N = np.unique(feature_N, return_inverse=True)
    _, stratum_N = np.unique(stratum_N * len(value_V) + index_N, return_inverse=True)
  return stratum_N
