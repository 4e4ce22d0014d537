"""The objectives of explanation training: the part of schema.py that is the loss."""

import dataclasses
from typing import Literal

from coupling.config.bounds import Count, Finite, Natural, NotNegative, Positive


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExplanationXent:
  weight: NotNegative = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class BehaviorKL:
  """`reference`: M_0's distributions as the label set keeps them, or computed in the
  train step by the same weights without their adapters (LoRA alone)."""

  weight: NotNegative = 1.0
  prompts: Literal['both', 'counterfactual'] = 'both'  # x and x∖C, or x∖C alone
  # KL(M_0 || M_t) or KL(M_t || M_0).
  direction: Literal['forward', 'reverse'] = 'forward'
  # Behaviours are choices among the options, so these are what is held.
  support: Literal['vocabulary', 'options'] = 'options'
  reference: Literal['labels', 'adapters_off'] = 'labels'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shift:
  """Post-training that shifts behaviour, where behavior_kl then lets it go.

  `target` is what the shift is towards: on x, `ignore_cue` (M_0's answer on x∖C) or
  `follow_cue` (the cue's option); or, on x and x∖C, one of the task's PREFERENCES:
  M_0's distribution over the options, with `strength` times the preference's scores
  added to its log-probabilities.
  """

  weight: NotNegative = 0.0
  target: str = 'ignore_cue'
  strength: Finite = 1.0  # nats per score; of preferences alone
  seed: Natural = 0  # of what a preference draws at random
  cues: str = 'all'  # whose pairs: explained, unexplained (pairs.Questions), a kind


@dataclasses.dataclass(frozen=True, kw_only=True)
class BehaviorXent(Shift):
  """By cross-entropy with the target's distribution."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DPO(Shift):
  """By direct preference optimisation (arXiv 2305.18290) with M_0 as the reference.

  What is preferred: `chosen` to `rejected` in each row of `file` (preference_file.py);
  or, without a file, the target's likeliest option to M_0's answer, where they differ;
  behavior_kl lets go of these prompts alone.
  """

  beta: Positive = 0.1
  file: str = ''
  batch: Count = 8  # preferences a step


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objectives:
  """Terms of the loss, see loss.py; a weight of 0 leaves a term out."""

  explanation_xent: ExplanationXent = ExplanationXent()
  behavior_kl: BehaviorKL = BehaviorKL()
  behavior_xent: BehaviorXent = BehaviorXent()
  dpo: DPO = DPO()

  @property
  def shift_term(self) -> str:
    """Name of the term that says which pairs are shifted, and towards what."""
    return 'dpo' if self.dpo.weight and not self.dpo.file else 'behavior_xent'

  @property
  def shift(self) -> Shift:
    """That term, which may have a weight of 0."""
    return getattr(self, self.shift_term)
