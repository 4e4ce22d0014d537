"""What the sides of smollm2.py are given: real pairs, and for peers their token ids.

Token ids of peers come from the chat format and the task's wording alone, not from the
arrays that this program makes of them. Shapes: N pairs, P prompts, K options, C places
that are read.
"""

from collections.abc import Sequence
import dataclasses
import pathlib
from typing import NamedTuple

import numpy as np

from configs import facts as facts_config
from coupling.config import schema
from coupling.config import validate
from coupling.elicit import options as options_lib
from coupling.elicit.explanation import Behaviors
from coupling.model.architecture import DecoderConfig
from coupling.run import base_model
from coupling.run import context
from data import facts
from data import formats
from data import pairs as pairs_lib


class Row(NamedTuple):
  """A sequence; at its last C places the tokens `wanted` [C, K] are looked up."""

  tokens: list[int]
  wanted: list[list[int]]


class Step(NamedTuple):
  """Of one train step."""

  explanations: list[Row]
  behaviors: list[list[Row]]  # of each prompt: one of each option, or one of all
  reference_PxK: np.ndarray  # M_0's log-probabilities


class Pair(NamedTuple):
  """The questions about a pair that is evaluated."""

  prompts: list[list[int]]  # x and x∖C
  explanation: list[int]
  options: list[list[int]]  # their texts, or first tokens


class Encoder(NamedTuple):
  """Puts pairs to a model, options by their whole texts or by first tokens."""

  format: formats.Format
  template: pairs_lib.Questions
  text: bool

  def pair(self, pair: pairs_lib.Pair) -> Pair:
    """What is asked about a pair."""
    asked = [
      self.template.behavior.format(prompt=x)
      for x in (pair.prompt, pair.counterfactual)
    ]
    asked.append(self.template.explanation.format(prompt=pair.prompt))
    *prompts, why = self.format.prompts(asked)
    ends = {*self.format.end_tokens}
    options = [
      [x for x in ids if x not in ends][: None if self.text else 1]
      for ids in self.format.answers(pair.options)
    ]
    return Pair(prompts, why, options)

  def step(self, pairs: Sequence[pairs_lib.Pair], did: Behaviors) -> Step:
    """What a step trains, of pairs on which M_0 did this."""
    explanations, behaviors = [], []
    for pair, answer, changed in zip(pairs, *did.explanation):
      asked = self.pair(pair)
      form = self.template.changed if changed else self.template.unchanged
      [said] = self.format.answers([form.format(answer=pair.options[answer])])
      explanations.append(_row(asked.explanation, said))
      for prompt in asked.prompts:
        if self.text:
          behaviors.append([_row(prompt, option) for option in asked.options])
        else:
          behaviors.append([Row(prompt, [[x for [x] in asked.options]])])
    reference_PxK = did.logprobs_Nx2xS.reshape(2 * len(pairs), -1)
    return Step(explanations, behaviors, reference_PxK)


def _row(prompt: list[int], answer: list[int]) -> Row:
  """A prompt with its answer, whose last token is predicted and never read."""
  return Row([*prompt, *answer[:-1]], [[x] for x in answer])


class Work(NamedTuple):
  """What all sides are given."""

  encoder: Encoder
  config: schema.Train
  model: DecoderConfig
  trained: Sequence[pairs_lib.Pair]
  reference: Behaviors  # of these, made up
  evaluated: Sequence[pairs_lib.Pair]

  @property
  def how(self) -> options_lib.How:
    text = self.encoder.text
    return options_lib.How(text=text, per_token=text)


def made_up(pairs: Sequence[pairs_lib.Pair]) -> Behaviors:
  """Behaviours drawn for pairs of as many options, and their distributions."""
  rng = np.random.default_rng(0)
  shape = len(pairs), 2, len(pairs[0].options)
  share_Nx2xK = rng.dirichlet(np.ones(shape[-1]), shape[:2]) + 0.01  # none is 0
  logprobs_Nx2xK = np.log(share_Nx2xK / share_Nx2xK.sum(-1, keepdims=True))
  logprobs_Nx2xK = logprobs_Nx2xK.astype(np.float32)
  chosen_Nx2 = logprobs_Nx2xK.argmax(-1).astype(np.int32)
  return Behaviors(*chosen_Nx2.T, logprobs_Nx2xK, np.zeros((len(pairs), 0), object))


def real(text: bool, evaluated: int) -> tuple[Work, pathlib.Path]:
  """The real model and facts, and the model's folder."""
  e = validate.resolve(facts_config.get_config())
  encoder = Encoder(base_model.format(e), context.questions(e), text)
  pairs = [
    pair
    for pair in facts.make(e.task.config, seed=0)
    if pair.cue_kind not in e.task.config.unexplained
    # Alike for both readings: pairs whose options differ in their first tokens.
    and len({x[0] for x in encoder.format.answers(pair.options)}) == len(pair.options)
  ]
  config = e.runs[e.report.main]
  optimizer = dataclasses.replace(config.optimizer, warmup_steps=0)
  config = dataclasses.replace(config, optimizer=optimizer)
  trained, held_out = pairs[evaluated:], pairs[:evaluated]
  work = Work(
    encoder, config, base_model.decoder(e), trained, made_up(trained), held_out
  )
  return work, base_model.checkpoint_folder(e)
