"""Which behaviours post-training shifts on purpose, and towards what.

One function serves the train step's targets, the choice of the pairs that are explained
and the records. No model and no JAX here. Shapes: N pairs, K options.
"""

from collections.abc import Sequence
import dataclasses
import importlib
from types import ModuleType

import numpy as np
from scipy import special

from coupling.config import schema
from data import pairs as pairs_lib

IGNORE, FOLLOW = 'ignore_cue', 'follow_cue'
ON_CUES = (IGNORE, FOLLOW)  # of x alone; all other targets are preferences of the task


@dataclasses.dataclass(frozen=True)
class Shift:
  """What schema.Shift wants.

  Attributes:
    shifted_Nx2: whether x and x∖C of a pair are shifted.
    target_Nx2xK: distributions over the options to shift them to; 0 where they are not.
  """

  shifted_Nx2: np.ndarray
  target_Nx2xK: np.ndarray

  @property
  def pairs_N(self) -> np.ndarray:
    """bool [N]: pairs of which anything is shifted."""
    return self.shifted_Nx2.any(axis=1)


def none(n: int) -> Shift:
  """No shift of n pairs."""
  return Shift(np.zeros((n, 2), bool), np.zeros((n, 2, 1), np.float32))


def preferences(task: ModuleType) -> tuple[str, ...]:
  """The preferences that a task can plant; a task may have none."""
  return getattr(task, 'PREFERENCES', ())


def scores(
  config: schema.Shift,
  task: schema.Task,
  seed: int,
  pairs: Sequence[pairs_lib.Pair],
) -> np.ndarray | None:
  """A preference's scores of the options, [N, K]; None where the target is none."""
  if config.target in ON_CUES:
    return None
  module = importlib.import_module(task.module)
  return module.preferences(task.config, config.target, seed, config.seed, pairs)


def make(
  config: schema.Shift,
  template: pairs_lib.Questions,
  pairs: Sequence[pairs_lib.Pair],
  counterfactual_behavior_N: np.ndarray,
  score_NxK: np.ndarray | None,
  logprobs_Nx2xK: np.ndarray | None,
) -> Shift:
  """The shift that an objective describes, whatever its weight.

  Args:
    config: the objective.
    template: how the task asks.
    pairs: of one split.
    counterfactual_behavior_N: M_0's answers on x∖C, option indices.
    score_NxK: of `scores`.
    logprobs_Nx2xK: M_0's log-probabilities over the options, which preferences need;
      None: only `shifted_Nx2` is wanted.
  """
  N, K = len(pairs), max((len(pair.options) for pair in pairs), default=0)
  chosen_N = _chosen(config.cues, template, pairs)
  if score_NxK is None:
    if config.target == IGNORE:
      option_N = np.asarray(counterfactual_behavior_N)
    else:
      option_N = np.array(
        [
          pairs_lib.NO_OPTION if p.cue_kind in template.against else p.cue_option
          for p in pairs
        ]
      )
    # A cue that speaks for no option shifts nothing.
    chosen_N = chosen_N & (option_N >= 0)
    shifted_Nx2 = np.stack([chosen_N, np.zeros(N, bool)], axis=1)
    target_NxK = np.eye(K, dtype=np.float32)[np.maximum(option_N, 0)]
    target_Nx2xK = np.stack([target_NxK] * 2, axis=1)
  else:
    chosen_N = chosen_N & np.any(score_NxK != 0, axis=1)
    shifted_Nx2 = np.stack([chosen_N] * 2, axis=1)
    target_Nx2xK = np.zeros((N, 2, K), np.float32)
    if logprobs_Nx2xK is not None:
      edited_Nx2xK = logprobs_Nx2xK + config.strength * score_NxK[:, None]
      target_Nx2xK = special.softmax(edited_Nx2xK, axis=-1).astype(np.float32)
  return Shift(shifted_Nx2, np.where(shifted_Nx2[..., None], target_Nx2xK, 0))


def _chosen(
  cues: str, questions: pairs_lib.Questions, pairs: Sequence[pairs_lib.Pair]
) -> np.ndarray:
  """bool [N]: the pairs whose cues may be shifted."""
  kind_N = np.array([pair.cue_kind for pair in pairs], object)
  unexplained_N = np.isin(kind_N, questions.unexplained)
  among = {'all': np.ones(len(pairs), bool), 'unexplained': unexplained_N}
  among['explained'] = ~unexplained_N
  return among.get(cues, kind_N == cues)
