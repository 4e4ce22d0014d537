"""Explanation training in PyTorch: from texts and weights alone.

Masks come from the chat template's own account of what the assistant wrote, adapters
from `peft`, cross-entropy, divergences and AdamW from `torch`. Shapes: B rows,
T tokens, C positions read, S support (vocabulary or options), V vocabulary, K options.
"""

from collections.abc import Sequence
import dataclasses
import functools
import math

import torch
from torch import distributions
from torch.nn import functional
import transformers

from coupling.config import schema


@dataclasses.dataclass(frozen=True)
class Asked:
  """A question, with what is to be held to it; read by Trainer.

  Attributes:
    question: the user's turn.
    answer: the assistant's, to be learned or followed; None: where it would begin.
    options: what to choose from, where the answer is one of them.
    shift: the option that post-training shifts the behaviour to, which is then not
      held to M_0's; or None.
  """

  question: str
  answer: str | None = None
  options: tuple[str, ...] = ()
  shift: str | None = None


class Trainer:
  """Weights in training, beside the model that they started from."""

  def __init__(
    self,
    model: torch.nn.Module,
    base: torch.nn.Module,
    tokenizer: transformers.PreTrainedTokenizerFast,
    config: schema.Train,
  ):
    """`model` is trained where it requires gradients; `base` is M_0, never changed."""
    self._model, self._base, self._tokenizer = (
      model,
      base.requires_grad_(False),
      tokenizer,
    )
    self._objectives, self._clip = config.objectives, config.optimizer.clip_norm
    self._weights = [p for p in model.parameters() if p.requires_grad]
    settings, steps = config.optimizer, config.loop.steps
    self._optimizer = torch.optim.AdamW(
      self._weights,
      lr=settings.learning_rate,
      betas=(settings.b1, settings.b2),
      weight_decay=settings.weight_decay,
    )

    def share(step: int) -> float:
      if step < settings.warmup_steps:
        return step / settings.warmup_steps
      if settings.schedule == 'constant':
        return 1.0
      done = (step - settings.warmup_steps) / (steps - settings.warmup_steps)
      return (1 + math.cos(math.pi * done)) / 2

    self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, share)

  def step(
    self, explanations: Sequence[Asked], behaviors: Sequence[Asked]
  ) -> dict[str, float]:
    """One step; the terms, the loss and the gradient's norm before it."""
    weights = self._objectives
    terms = {
      'explanation_xent': self._explanation_xent(explanations),
      'behavior_kl': self._behavior_kl(behaviors),
    }
    loss = weights.explanation_xent.weight * terms['explanation_xent']
    loss = loss + weights.behavior_kl.weight * terms['behavior_kl']
    if weights.behavior_xent.weight:
      terms['behavior_xent'] = self._behavior_xent(behaviors)
      loss = loss + weights.behavior_xent.weight * terms['behavior_xent']
    self._optimizer.zero_grad()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(self._weights, self._clip)
    self._optimizer.step()
    self._schedule.step()
    found = {**terms, 'loss': loss, 'gradient_norm': norm}
    return {name: x.item() for name, x in found.items()}

  @torch.no_grad()
  def choice(self, asked: Asked) -> int:
    """M_0's greedy choice among the options, their index."""
    [logits_1xV] = self._logits(self._base, [asked])
    return int(logits_1xV[0, self._option_tokens(asked)].argmax())

  def _explanation_xent(self, rows: Sequence[Asked]) -> torch.Tensor:
    logits_CxV = torch.cat(self._logits(self._model, rows))
    target_C = [token for row in rows for token in self._written(row)]
    return functional.cross_entropy(logits_CxV, torch.tensor(target_C))

  def _behavior_kl(self, rows: Sequence[Asked]) -> torch.Tensor:
    kl = self._objectives.behavior_kl
    rows = [row for row in rows if row.shift is None]
    with torch.no_grad():
      base = self._logits(self._base, rows)
    divergences = []
    for row, p_CxS, q_CxS in zip(rows, base, self._logits(self._model, rows)):
      if kl.support == 'options':
        options_K = self._option_tokens(row)
        p_CxS, q_CxS = p_CxS[:, options_K], q_CxS[:, options_K]
      p, q = (distributions.Categorical(logits=x) for x in (p_CxS, q_CxS))
      if kl.direction == 'reverse':
        p, q = q, p
      divergences.append(distributions.kl_divergence(p, q))
    return torch.cat(divergences).mean()

  def _behavior_xent(self, rows: Sequence[Asked]) -> torch.Tensor:
    rows = [row for row in rows if row.shift is not None]
    if not rows:
      return torch.tensor(0.0)
    target_B = [self._first_token(row, row.shift) for row in rows]
    logits_BxV = torch.cat(self._logits(self._model, rows))
    return functional.cross_entropy(logits_BxV, torch.tensor(target_B))

  def _logits(
    self, model: torch.nn.Module, rows: Sequence[Asked]
  ) -> list[torch.Tensor]:
    """Of each row, the logits [C, V] that predict its answer, or its beginning."""
    ids, places = zip(*map(self._places, rows))
    batch = self._tokenizer.pad(
      {'input_ids': list(ids)}, padding_side='right', return_tensors='pt'
    )
    logits_BxTxV = model(**batch).logits
    return [logits_TxV[place] for logits_TxV, place in zip(logits_BxTxV, places)]

  def _places(self, row: Asked) -> tuple[list[int], list[int]]:
    """Token ids, and the positions that predict what the assistant writes."""
    if row.answer is None:
      asked = [{'role': 'user', 'content': row.question}]
      ids = self._tokenizer.apply_chat_template(
        asked, add_generation_prompt=True, enable_thinking=False
      )['input_ids']
      return ids, [len(ids) - 1]
    ids, written = _conversation(self._tokenizer, row.question, row.answer)
    return ids, [i - 1 for i, by_assistant in enumerate(written) if by_assistant]

  def _written(self, row: Asked) -> list[int]:
    ids, written = _conversation(self._tokenizer, row.question, row.answer)
    return [token for token, by_assistant in zip(ids, written) if by_assistant]

  def _first_token(self, row: Asked, option: str) -> int:
    return self._written(dataclasses.replace(row, answer=option))[0]

  def _option_tokens(self, row: Asked) -> list[int]:
    return [self._first_token(row, option) for option in row.options]


@functools.cache
def _conversation(
  tokenizer: transformers.PreTrainedTokenizerFast, question: str, answer: str
) -> tuple[list[int], list[int]]:
  """Token ids of a whole conversation, and 1 where the assistant wrote them."""
  turns = zip(('user', 'assistant'), (question, answer))
  found = tokenizer.apply_chat_template(
    [{'role': role, 'content': text} for role, text in turns],
    return_assistant_tokens_mask=True,
  )
  return found['input_ids'], found['assistant_masks']
