"""Behaviours, and explanations of what changed them: what is true, what agrees.

`phi` turns two behaviours, with and without the cue, into an explanation label.
The same function at M_0 gives the fixed labels E(M_0), at M_t the truth E(M_t);
a stated explanation is parsed into the same form, and `agree` compares any two.

Everything here is arithmetic on integer arrays and works on NumPy and JAX alike.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any, NamedTuple

import numpy as np

INVALID = -1

Array = Any  # numpy.ndarray or jax.Array


class Explanation(NamedTuple):
  """Explanations of N items, as two integer arrays.

  Attributes:
    answer_N: index of the option that the model gives, or is said to give,
      once the cue is removed; INVALID where a statement did not parse.
    changed_N: 1 where the answer changes when the cue is removed, 0 where it
      does not; INVALID where a statement did not parse.
  """

  answer_N: Array
  changed_N: Array


@dataclasses.dataclass(frozen=True)
class Behaviors:
  """B(M): what a model does on N pairs.

  Attributes:
    behavior_N: greedy behaviour on x, an option index.
    counterfactual_behavior_N: greedy behaviour on x∖C.
    logprobs_Nx2xS: log-probabilities on x and x∖C; S is 0 where there are none.
    replies_Nx2: greedy replies to x and x∖C, where they are read; else N x 0.
  """

  behavior_N: np.ndarray
  counterfactual_behavior_N: np.ndarray
  logprobs_Nx2xS: np.ndarray
  replies_Nx2: np.ndarray

  @property
  def explanation(self) -> Explanation:
    """E(M) = φ(B(M))."""
    return phi(self.behavior_N, self.counterfactual_behavior_N)

  def answers(self, options_N: Sequence[Sequence[str]]) -> np.ndarray:
    """What the model says on x, as text, object [N]: its reply, or its option."""
    if self.replies_Nx2.shape[1]:
      return self.replies_Nx2[:, 0]
    chosen = [options[k] for options, k in zip(options_N, self.behavior_N)]
    return np.array(chosen, object)


def phi(behavior_N: Array, counterfactual_behavior_N: Array) -> Explanation:
  """The explanation label of behaviours on x and x∖C: E(M) = φ(B(M))."""
  changed_N = (behavior_N != counterfactual_behavior_N).astype(behavior_N.dtype)
  return Explanation(counterfactual_behavior_N, changed_N)


def agree(stated: Explanation, truth: Explanation, states_answer: bool) -> Array:
  """Whether explanations agree, item by item.

  Args:
    stated: a stated explanation; where it is INVALID it agrees with nothing.
    truth: the labels to compare with, which are always valid.
    states_answer: True when every explanation names the answer without the cue
      (the built-in world: "v' SAME"), so that both parts must match. False when
      "unchanged" stands alone, so that two "unchanged" agree whatever the answer.

  Returns:
    bool [N].
  """
  same_change_N = stated.changed_N == truth.changed_N
  same_answer_N = stated.answer_N == truth.answer_N
  if states_answer:
    return same_change_N & same_answer_N
  return same_change_N & (same_answer_N | (truth.changed_N == 0))


def outcomes(
  stated: Explanation,
  truth: Explanation,
  orig: Explanation,
  target: Explanation,
  states_answer: bool,
) -> dict[str, Array]:
  """What is counted of stated explanations, bool [N] each.

  Args:
    stated: what is said.
    truth: E(M_t).
    orig: E(M_0).
    target: the labels trained on.
    states_answer: see `agree`.
  """
  return {
    'n': truth.changed_N >= 0,
    'self': agree(stated, truth, states_answer),
    'orig': agree(stated, orig, states_answer),
    'target': agree(stated, target, states_answer),
    'invalid': stated.changed_N == INVALID,
    'changed': truth.changed_N == 1,
    'moved': ~agree(truth, orig, states_answer),
  }
