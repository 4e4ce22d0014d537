"""Explanation training and evaluation by `transformers` and `peft`, on a CPU.

As a careful user writes them. Training: sequences in order of length, a few at a time,
padded on the right (so that causal attention needs no mask and takes its fast way),
logits only where they are read, fused AdamW. Evaluation: prompts padded on the left;
the options' texts follow from the prompts' key/value cache, explanations are those of
`generate`. Shapes: B rows, T tokens, R places that are read, K options, G tokens.
"""

from collections.abc import Sequence
import contextlib
import pathlib

import numpy as np
import peft
import torch
from torch.nn import functional
from torch.nn.utils import rnn
from torch.utils import flop_counter
import transformers

from benchmarks import asked as asked_lib
from coupling.config import schema

TOGETHER = 24  # sequences of a training batch; more only adds padding


class Trainer:
  """Adapters in training, float32, beside a frozen model."""

  def __init__(
    self,
    folder: pathlib.Path,
    adapters: pathlib.Path,
    config: schema.Train,
    dtype: torch.dtype = torch.float32,
    autocast: bool = False,
  ):
    """Loads both.

    Args:
      folder: of the model.
      adapters: as peft saves them.
      config: of the training; its schedule is constant.
      dtype: of the frozen weights.
      autocast: products are of bfloat16.
    """
    self._model = peft.PeftModel.from_pretrained(
      load(folder, dtype), adapters, is_trainable=True
    )
    causal = self._model.get_base_model()
    self._decoder, self._head = causal.model, causal.lm_head
    self._autocast, self._objectives = autocast, config.objectives
    self._trained = [x for x in self._model.parameters() if x.requires_grad]
    settings = config.optimizer
    self._clip = settings.clip_norm
    self._optimizer = torch.optim.AdamW(
      self._trained,
      lr=settings.learning_rate,
      betas=(settings.b1, settings.b2),
      weight_decay=settings.weight_decay,
      fused=True,
    )
    self.tokens, self.flops = 0, 0.0  # of the last step, of the last one counted

  def step(self, step: asked_lib.Step) -> float:
    """The loss before the step."""
    self._optimizer.zero_grad(set_to_none=True)
    with self._precision():
      said, did = len(step.explanations), [x for rows in step.behaviors for x in rows]
      found = self._logprobs([*step.explanations, *did])
    xent = -torch.cat(found[:said]).mean()
    # Of one row a prompt, its options; of a row an option, its mean over the tokens.
    scores = torch.cat([x.mean(0) for x in found[said:]])
    reference_PxK = torch.from_numpy(step.reference_PxK)
    scores_PxK = scores.reshape(reference_PxK.shape)
    kl = functional.kl_div(
      scores_PxK.log_softmax(-1), reference_PxK, reduction='batchmean', log_target=True
    )
    weights = self._objectives
    loss = weights.explanation_xent.weight * xent + weights.behavior_kl.weight * kl
    loss.backward()
    torch.nn.utils.clip_grad_norm_(self._trained, self._clip)
    self._optimizer.step()
    return loss.item()

  def counted(self, step: asked_lib.Step) -> float:
    """The same; `flops` is then that of its matrix products."""
    with flop_counter.FlopCounterMode(display=False) as counter:
      loss = self.step(step)
    self.flops = float(counter.get_total_flops())
    return loss

  def _precision(self) -> contextlib.AbstractContextManager:
    if not self._autocast:
      return contextlib.nullcontext()
    return torch.autocast('cpu', torch.bfloat16)

  def _logprobs(self, rows: Sequence[asked_lib.Row]) -> list[torch.Tensor]:
    """Of each row, float32 log-probabilities [C, K] of what is wanted."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i].tokens))
    found, self.tokens = [torch.empty(0)] * len(rows), 0
    for start in range(0, len(rows), TOGETHER):
      batch = order[start : start + TOGETHER]
      tokens_BxT = rnn.pad_sequence(
        [torch.tensor(rows[i].tokens) for i in batch], batch_first=True
      )
      self.tokens += tokens_BxT.numel()
      out = self._decoder(input_ids=tokens_BxT, use_cache=False)
      counts = [len(rows[i].wanted) for i in batch]
      hidden_RxD = torch.cat(
        [
          x_TxD[len(rows[i].tokens) - n : len(rows[i].tokens)]
          for x_TxD, i, n in zip(out.last_hidden_state, batch, counts)
        ]
      )
      logits_RxV = self._head(hidden_RxD).float()
      total_R = logits_RxV.logsumexp(-1)
      parts = zip(batch, logits_RxV.split(counts), total_R.split(counts))
      for i, logits_CxV, total_C in parts:
        wanted_CxK = torch.tensor(rows[i].wanted)
        found[i] = logits_CxV.gather(1, wanted_CxK) - total_C[:, None]
    return found


class Evaluator:
  """A model in float32 that is evaluated."""

  def __init__(self, folder: pathlib.Path, ends: Sequence[int], fill: int, batch: int):
    """`ends`: tokens that end an explanation, `fill`: what follows; `batch`: pairs."""
    self._model = load(folder, torch.float32)
    self._ends, self._fill, self._batch = [*ends], fill, batch
    self.tokens = 0  # of the last evaluation

  @torch.inference_mode()
  def evaluate(self, pairs: Sequence[asked_lib.Pair], longest: int) -> np.ndarray:
    """Choices on x and x∖C by log-probability per token, explanations: [N, 2 + G]."""
    order = sorted(range(len(pairs)), key=lambda i: len(pairs[i].explanation))
    found = np.full((len(pairs), 2 + longest), self._fill, np.int32)
    self.tokens = 0
    for start in range(0, len(pairs), self._batch):
      rows = order[start : start + self._batch]
      few = [pairs[i] for i in rows]
      for column in range(2):
        chosen_B = self._chosen([x.prompts[column] for x in few], few)
        found[rows, column] = chosen_B.numpy()
      tokens_BxT, mask_BxT = self._padded([x.explanation for x in few])
      said_BxG = self._model.generate(
        tokens_BxT,
        attention_mask=mask_BxT,
        max_new_tokens=longest,
        do_sample=False,
        eos_token_id=self._ends,
        pad_token_id=self._fill,
      )[:, tokens_BxT.shape[1] :]
      self.tokens += tokens_BxT.numel() + len(few) * (said_BxG.shape[1] - 1)
      found[rows, 2 : 2 + said_BxG.shape[1]] = said_BxG.numpy()
    return found

  def _chosen(
    self, prompts: Sequence[list[int]], pairs: Sequence[asked_lib.Pair]
  ) -> torch.Tensor:
    """Choices of prompts, int [B]."""
    tokens_BxT, mask_BxT = self._padded(prompts)
    position_BxT = (mask_BxT.cumsum(1) - 1).clamp(min=0)
    out = self._model.model(
      input_ids=tokens_BxT,
      attention_mask=mask_BxT,
      position_ids=position_BxT,
      use_cache=True,
    )
    self.tokens += tokens_BxT.numel()
    options = [x for pair in pairs for x in pair.options]
    K = len(options) // len(pairs)
    wanted_BKxL = rnn.pad_sequence([torch.tensor(x) for x in options], True, -1)
    length_BK = (wanted_BKxL >= 0).sum(1)
    logits_BxV = self._model.lm_head(out.last_hidden_state[:, -1])
    first_BxK = wanted_BKxL[:, 0].reshape(-1, K)
    total_BK = logits_BxV.log_softmax(-1).gather(1, first_BxK).flatten()
    if wanted_BKxL.shape[1] > 1:
      tokens_BKxF = wanted_BKxL[:, :-1].clamp(min=0)
      self.tokens += tokens_BKxF.numel()
      out.past_key_values.batch_repeat_interleave(K)
      mask_BKxT = mask_BxT.repeat_interleave(K, 0)
      depth_BKx1 = mask_BKxT.sum(1, keepdim=True)
      more = self._model.model(
        input_ids=tokens_BKxF,
        attention_mask=torch.cat([mask_BKxT, torch.ones_like(tokens_BKxF)], 1),
        position_ids=depth_BKx1 + torch.arange(tokens_BKxF.shape[1]),
        past_key_values=out.past_key_values,
      )
      there_BKxF = wanted_BKxL[:, 1:] >= 0
      logits_RxV = self._model.lm_head(more.last_hidden_state[there_BKxF])
      wanted_Rx1 = wanted_BKxL[:, 1:][there_BKxF][:, None]
      found_R = logits_RxV.log_softmax(-1).gather(1, wanted_Rx1)[:, 0]
      total_BK = total_BK.index_add(0, there_BKxF.nonzero()[:, 0], found_R)
    return (total_BK / length_BK).reshape(-1, K).argmax(-1)

  def _padded(self, rows: Sequence[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows padded on the left, and where they are."""
    rows = [torch.tensor(x) for x in rows]
    tokens_BxT = rnn.pad_sequence(rows, True, self._fill, 'left')
    ones = [torch.ones_like(x) for x in rows]
    return tokens_BxT, rnn.pad_sequence(ones, True, 0, 'left')


def load(folder: pathlib.Path, dtype: torch.dtype) -> transformers.PreTrainedModel:
  """A model with SDPA attention."""
  return transformers.AutoModelForCausalLM.from_pretrained(
    folder, attn_implementation='sdpa', dtype=dtype
  ).eval()
