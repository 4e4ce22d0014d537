"""Held-out pairs, made ready once, on which any checkpoint is evaluated."""

from collections.abc import Sequence
import dataclasses
from typing import Any

import jax
import numpy as np
import pyarrow as pa

from coupling.config import schema
from coupling.elicit import behavior
from coupling.elicit import evaluation
from coupling.elicit.explanation import Behaviors, Explanation
from coupling.model import decoder
from coupling.model.architecture import DecoderConfig
from data import formats
from data import pairs as pairs_lib


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluator:
  """An evaluation of checkpoints.

  Attributes:
    format: how they are asked.
    template: how the task asks.
    pairs: held-out ones, N of them.
    row_N: their places in the split.
    asked: of evaluation.questions.
    orig: M_0's behaviours.
    target: the labels trained on.
    config: batch size, and whether statements are scored.
    context: whether explanations are asked for before or after the answer.
    reply_tokens: of a reply, where behaviours are read from replies.
  """

  format: formats.Format
  template: pairs_lib.Questions
  pairs: Sequence[pairs_lib.Pair]
  row_N: np.ndarray
  asked: dict[str, Any]
  orig: Behaviors
  target: Explanation
  config: schema.Evaluate
  context: str
  reply_tokens: int

  @property
  def arrays(self) -> dict[str, Any]:
    return self.asked | {'orig': self.orig.explanation, 'target': self.target}

  def run(
    self,
    model: DecoderConfig,
    params: decoder.Params,
    mesh: jax.sharding.Mesh,
  ) -> tuple[pa.Table, evaluation.Counts]:
    """A row an item, see evaluation.records; the counts of evaluation.evaluate."""
    after = None
    if self.context == 'after':
      after = evaluation.After(self.format, self.template, self.pairs, self.orig)
    items, counts = evaluation.evaluate(
      model,
      params,
      self.arrays,
      self.config.batch,
      mesh,
      self.template.states_answer,
      self.format,
      behavior.reply(self.format, self.template, self.reply_tokens),
      self.config.likelihood,
      after,
    )
    texts = self.format.decode(items['generated'])
    return evaluation.records(items, self.row_N, texts), counts
