"""Behaviours by forced choice, and the arrays that ask for them.

A behaviour is the distribution over an item's option tokens at the answer position;
the greedy behaviour is its argmax, an option index. Shapes: N or B items, T tokens,
C positions read, K options, V vocabulary.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from coupling import loss
from coupling import models
from data import pairs as pairs_lib
from data import tokens as tokens_lib


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
    answers = tokens_lib.encode(tokenizer, completions, start=False)
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
    prompt, counterfactual: see `questions`; options_NxK: option tokens, -1 padded.
  """
  ask = lambda text: template.behavior.format(prompt=text)
  return {
    'prompt': questions(tokenizer, [ask(p.prompt) for p in items]),
    'counterfactual': questions(tokenizer, [ask(p.counterfactual) for p in items]),
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


def choose(logits_BxV: jax.Array, options_BxK: jax.Array) -> jax.Array:
  """The greedy behaviour: index of the likeliest option, int32 [B]."""
  logits_BxK = loss.restrict(logits_BxV, options_BxK)
  return jnp.argmax(logits_BxK, axis=-1).astype(jnp.int32)
