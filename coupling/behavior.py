"""Behaviours by forced choice, and the arrays that ask for them.

A behaviour is the distribution over an item's option tokens at the answer position;
the greedy behaviour is its argmax, an option index. M_0 and M_t are asked by the same
function. Shapes: N or B items, T tokens, C positions read, K options, V vocabulary,
S support of a distribution (vocabulary or options).
"""

from collections.abc import Callable, Sequence
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from coupling import explanation
from coupling import models
from coupling import sharding
from data import loader
from data import pairs as pairs_lib
from data import tokens as tokens_lib


@dataclasses.dataclass(frozen=True)
class Behaviors:
  """B(M): what a model does on N pairs.

  Attributes:
    behavior_N: greedy behaviour on x, an option index.
    counterfactual_behavior_N: greedy behaviour on x∖C.
    logprobs_Nx2xS: log-probabilities on x and x∖C.
  """

  behavior_N: np.ndarray
  counterfactual_behavior_N: np.ndarray
  logprobs_Nx2xS: np.ndarray

  @property
  def explanation(self) -> explanation.Explanation:
    """E(M) = φ(B(M))."""
    return explanation.phi(self.behavior_N, self.counterfactual_behavior_N)


def questions(
  tokenizer: tokens_lib.Tokenizer,
  texts: Sequence[str],
  completions: Sequence[str] | None = None,
) -> dict[str, np.ndarray]:
  """Arrays that put questions to a model, with or without the answers to learn.

  Args:
    tokenizer: of the model.
    texts: what is asked, up to the answer position.
    completions: the answers to be learned; default: none, only asked.

  Returns:
    tokens_NxT, padded on the right, valid_NxT, and read_NxC: the positions whose
    prediction is wanted (C is 1, or the longest completion), with target_NxC and
    mask_NxC where there are completions.
  """
  prompts = tokens_lib.encode(tokenizer, texts, start=True)
  if completions is None:
    answers = [[] for _ in prompts]
  else:
    distinct = list(dict.fromkeys(completions))  # answers are few, questions are many
    ids = dict(zip(distinct, tokens_lib.encode(tokenizer, distinct, start=False)))
    answers = [ids[completion] for completion in completions]
  # The last token of a completion is a target only, never an input.
  rows = [prompt + answer[:-1] for prompt, answer in zip(prompts, answers)]
  length_N = np.array([len(row) for row in rows])
  tokens_NxT = tokens_lib.pad(rows, length_N.max(), tokenizer.pad_token_id)
  width = max(1, max(map(len, answers)))
  last_N = np.array([len(prompt) for prompt in prompts]) - 1
  read_NxC = np.minimum(last_N[:, None] + np.arange(width), length_N[:, None] - 1)
  arrays = {
    'tokens': tokens_NxT,
    'valid': np.arange(tokens_NxT.shape[1]) < length_N[:, None],
    'read': read_NxC.astype(np.int32),
  }
  if completions is not None:
    arrays['target'] = tokens_lib.pad(answers, width, tokenizer.pad_token_id)
    arrays['mask'] = np.arange(width) < np.array([len(a) for a in answers])[:, None]
  return arrays


def pair_questions(
  tokenizer: tokens_lib.Tokenizer,
  items: Sequence[pairs_lib.Pair],
  template: pairs_lib.Questions,
) -> dict[str, dict[str, np.ndarray] | np.ndarray]:
  """The two behaviour questions of each pair and its options.

  Returns:
    pair: see `questions`, with an axis of x and x∖C after the first: tokens [N, 2, T];
    options_NxK: option tokens, -1 padded.
  """
  prompts = [text for p in items for text in (p.prompt, p.counterfactual)]
  asked = questions(tokenizer, [template.behavior.format(prompt=x) for x in prompts])
  return {
    'pair': {k: v.reshape(len(items), 2, *v.shape[1:]) for k, v in asked.items()},
    'options': tokens_lib.option_tokens(tokenizer, [p.options for p in items]),
  }


def read_logits(
  config: models.DecoderConfig, params: models.Params, batch: dict[str, jax.Array]
) -> jax.Array:
  """float32 logits [B, C, V] at the positions that the batch reads."""
  hidden_BxCxD = models.apply(
    config, params, batch['tokens'], rows_BxC=batch['read']
  ).hidden_BxCxD
  return models.unembed(config, params, hidden_BxCxD)


def pair_logits(
  config: models.DecoderConfig, params: models.Params, pair: dict[str, jax.Array]
) -> jax.Array:
  """float32 logits [B, 2, V] at the answer positions of x and of x∖C, in one pass."""
  batch = {k: x.reshape(-1, *x.shape[2:]) for k, x in pair.items()}
  logits_2BxV = read_logits(config, params, batch)[:, 0]
  return logits_2BxV.reshape(-1, 2, logits_2BxV.shape[-1])


def restrict(logits_BxV: jax.Array, options_BxK: jax.Array) -> jax.Array:
  """Logits of the options [B, K]; -inf where an item has fewer than K (token -1)."""
  logits_BxK = jnp.take_along_axis(logits_BxV, jnp.maximum(options_BxK, 0), axis=-1)
  return jnp.where(options_BxK >= 0, logits_BxK, -jnp.inf)


def choose(logits_xV: jax.Array, options_xK: jax.Array) -> jax.Array:
  """The greedy behaviour: index of the likeliest option, int32 [...]."""
  return jnp.argmax(restrict(logits_xV, options_xK), axis=-1).astype(jnp.int32)


@functools.lru_cache
def _forced_choice(config: models.DecoderConfig) -> Callable:
  """The jitted behaviours of one batch of pair questions, and log-probabilities."""

  @jax.jit
  def run(params, batch):
    logits_Bx2xV = pair_logits(config, params, batch['pair'])
    options_Bx2xK = jnp.stack([batch['options']] * 2, axis=1)
    return choose(logits_Bx2xV, options_Bx2xK), {
      'vocabulary': jax.nn.log_softmax(logits_Bx2xV),
      'options': jax.nn.log_softmax(restrict(logits_Bx2xV, options_Bx2xK)),
    }

  return run


def behaviors(
  config: models.DecoderConfig,
  params: models.Params,
  asked: dict[str, Any],
  batch: int,
  mesh: jax.sharding.Mesh,
  support: str,
) -> Behaviors:
  """B(M): what a model does on pairs, in batches.

  Args:
    config: the decoder's shape.
    params: its weights, on the mesh.
    asked: of `pair_questions`.
    batch: pairs per batch, which the mesh divides.
    mesh: devices to split batches over.
    support: of the log-probabilities that are kept: vocabulary or options.
  """
  run = _forced_choice(config)
  parts = []
  for rows, mask_B in loader.batches_in_order(asked, batch):
    chosen_Bx2, logprobs = run(params, sharding.put_batch(mesh, rows))
    out = jax.device_get((chosen_Bx2, logprobs[support]))
    parts.append([x[mask_B] for x in out])
  chosen_Nx2, logprobs_Nx2xS = (np.concatenate(x) for x in zip(*parts))
  return Behaviors(chosen_Nx2[:, 0], chosen_Nx2[:, 1], logprobs_Nx2xS)
