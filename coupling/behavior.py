"""Behaviours: the arrays that ask for them, and how they are read.

By forced choice, a behaviour is the distribution over an item's option tokens at the
answer position; the greedy behaviour is its argmax, an option index. By reply, it is
the option index that a detector finds in the greedy reply. M_0 and M_t are asked by the
same function. Shapes: N or B items, T tokens, C positions read, K options, V
vocabulary, S support of a distribution (vocabulary or options).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from coupling import config as config_lib
from coupling import decode
from coupling import explanation
from coupling import interrupt
from coupling import models
from coupling import sharding
from data import formats
from data import loader
from data import pairs as pairs_lib
from data import tokens as tokens_lib
from data import trees as trees_lib


@dataclasses.dataclass(frozen=True)
class Reply:
  """How behaviours are read from greedy replies.

  Attributes:
    format: decodes them.
    detect: replies -> option indices.
    max_tokens: of a reply; a longer one is judged by its beginning.
  """

  format: formats.Format
  detect: Callable[[Sequence[str]], np.ndarray]
  max_tokens: int


def questions(
  format: formats.Format,
  texts: Sequence[formats.Turns],
  completions: Sequence[str] | None = None,
) -> dict[str, np.ndarray]:
  """Arrays that put questions to a model, with or without the answers to learn.

  Args:
    format: how the model is asked.
    texts: what is asked, up to the answer position.
    completions: the answers to be learned; default: none, only asked.

  Returns:
    tokens_NxT, padded on the right, valid_NxT, and read_NxC: the positions whose
    prediction is wanted (C is 1, or the longest completion), with target_NxC and
    mask_NxC where there are completions.
  """
  prompts = format.prompts(texts)
  if completions is None:
    answers = [[] for _ in prompts]
  else:
    distinct = list(dict.fromkeys(completions))  # answers are few, questions are many
    ids = dict(zip(distinct, format.answers(distinct)))
    answers = [ids[completion] for completion in completions]
  # The last token of a completion is a target only, never an input.
  rows = [prompt + answer[:-1] for prompt, answer in zip(prompts, answers)]
  length_N = np.array([len(row) for row in rows])
  tokens_NxT = tokens_lib.pad(rows, length_N.max(), format.pad_token)
  width = max(1, max(map(len, answers)))
  last_N = np.array([len(prompt) for prompt in prompts]) - 1
  read_NxC = np.minimum(last_N[:, None] + np.arange(width), length_N[:, None] - 1)
  arrays = {
    'tokens': tokens_NxT,
    'valid': np.arange(tokens_NxT.shape[1]) < length_N[:, None],
    'read': read_NxC.astype(np.int32),
  }
  if completions is not None:
    arrays['target'] = tokens_lib.pad(answers, width, format.pad_token)
    arrays['mask'] = np.arange(width) < np.array([len(a) for a in answers])[:, None]
  return arrays


def explanation_texts(
  template: pairs_lib.Questions,
  items: Sequence[pairs_lib.Pair],
  answers: Sequence[str] | None,
) -> list[formats.Turns]:
  """What asks for explanations, before or after an answer stands in the context.

  Args:
    template: how the task asks.
    items: the pairs.
    answers: the answers on x; None: asked before any.
  """
  if answers is None:
    return [template.explanation.format(prompt=pair.prompt) for pair in items]
  return [
    (template.behavior.format(prompt=pair.prompt), answer, template.explanation_after)
    for pair, answer in zip(items, answers, strict=True)
  ]


def pair_questions(
  format: formats.Format,
  items: Sequence[pairs_lib.Pair],
  template: pairs_lib.Questions,
  explain: bool = False,
) -> dict[str, dict[str, np.ndarray] | np.ndarray]:
  """The two behaviour questions of each pair and its options.

  Args:
    format: how the model is asked.
    items: the pairs.
    template: how the task asks.
    explain: also ask for explanations, before any answer, where the behaviour is a
      forced choice.

  Returns:
    For a forced choice `trees`: those of data.trees.Trees, one a pair, and `read`
    [N, 2 or 3], the last tokens of the questions on x and x∖C, and of that for the
    explanation; and `options` [N, K] of `option_tokens`. For
    behaviours that are read from replies `pair`: see `questions`, with an axis of x and
    x∖C after the first, tokens [N, 2, T].
  """
  prompts = [text for p in items for text in (p.prompt, p.counterfactual)]
  asked = [template.behavior.format(prompt=x) for x in prompts]
  if template.detect is not None:
    rows = questions(format, asked)
    pair = {k: v.reshape(len(items), 2, *v.shape[1:]) for k, v in rows.items()}
    return {'pair': pair}
  ids = format.prompts(asked)
  branches = [ids[0::2], ids[1::2]]
  if explain:
    branches.append(format.prompts(explanation_texts(template, items, None)))
  trees, places = trees_lib.build(list(zip(*branches)), format.pad_token)
  return {
    'trees': {
      'tokens': trees.tokens_NxT,
      'position': trees.position_NxT,
      'end': trees.end_NxT,
      'size': trees.size_N,
      'apart': trees.apart_N,
      'read': np.array([[x[-1] for x in place] for place in places], np.int32),
    },
    'options': option_tokens(format, items),
  }


def option_tokens(
  format: formats.Format, items: Sequence[pairs_lib.Pair]
) -> np.ndarray:
  """First answer token of each pair's options [N, K]: see tokens.option_tokens.

  Raises:
    ConfigError: options that a forced choice cannot tell apart, and whose they are.
  """
  try:
    return format.option_tokens([p.options for p in items])
  except ValueError:
    for pair in {p.options: p for p in items}.values():
      try:
        format.option_tokens([pair.options])
      except ValueError as e:
        raise config_lib.ConfigError(
          f'task: the pair from {pair.provenance!r} has the options {pair.options}. {e}'
        ) from e
    raise


def read_logits(
  config: models.DecoderConfig, params: models.Params, batch: dict[str, jax.Array]
) -> jax.Array:
  """float32 logits [B, C, V] at the positions that the batch reads."""
  hidden_BxCxD = models.apply(
    config, params, batch['tokens'], rows_BxC=batch['read']
  ).hidden_BxCxD
  return models.unembed(config, params, hidden_BxCxD)


def read_trees(
  config: models.DecoderConfig,
  params: models.Params,
  rows: dict[str, jax.Array],
  reads: Mapping[str, jax.Array],
) -> dict[str, jax.Array]:
  """Logits at several sets of positions, in one pass over rows of prefix trees.

  Args:
    config: the decoder's shape.
    params: its weights.
    rows: tokens, position and end [B, T]: see data.trees.
    reads: name -> positions [B, C].

  Returns:
    name -> float32 logits [B, C, V].
  """
  read_BxC = jnp.concatenate(list(reads.values()), axis=1)
  hidden_BxCxD = models.apply_trees(config, params, rows, rows_BxC=read_BxC)
  widths = np.cumsum([read.shape[1] for read in reads.values()])[:-1]
  parts = jnp.split(hidden_BxCxD, widths, axis=1)
  return {name: models.unembed(config, params, x) for name, x in zip(reads, parts)}


def restrict(logits_xV: jax.Array, options_xK: jax.Array) -> jax.Array:
  """Logits of the options [..., K]; -inf where an item has fewer than K (token -1)."""
  logits_xK = jnp.take_along_axis(logits_xV, jnp.maximum(options_xK, 0), axis=-1)
  return jnp.where(options_xK >= 0, logits_xK, -jnp.inf)


def choose(logits_xV: jax.Array, options_xK: jax.Array) -> jax.Array:
  """The greedy behaviour: index of the likeliest option, int32 [...]."""
  return jnp.argmax(restrict(logits_xV, options_xK), axis=-1).astype(jnp.int32)


def behaviors(
  config: models.DecoderConfig,
  params: models.Params,
  asked: dict[str, Any],
  batch: int,
  mesh: jax.sharding.Mesh,
  support: str,
  reply: Reply | None = None,
) -> explanation.Behaviors:
  """B(M): what a model does on pairs, in batches.

  Args:
    config: the decoder's shape.
    params: its weights, on the mesh.
    asked: of `pair_questions`.
    batch: pairs per batch, which the mesh divides.
    mesh: devices to split batches over.
    support: of the log-probabilities that are kept: vocabulary or options.
    reply: reads behaviours from greedy replies; default: by forced choice.

  Raises:
    Interrupted: between two batches, when a signal asked for it.
  """
  if reply is None:
    run = _forced_choice(config)
  else:
    run = _greedy_replies(
      config, reply.max_tokens, reply.format.end_tokens, reply.format.pad_token
    )
  parts = []
  for rows, mask_B in batches(asked, batch):
    interrupt.check()
    out = run(params, sharding.put_batch(mesh, rows))
    wanted = (out['chosen'], out[support]) if reply is None else (out['generated'],)
    parts.append([x[mask_B] for x in jax.device_get(wanted)])
  found = [in_order(np.concatenate(x), asked) for x in zip(*parts)]
  if reply is None:
    chosen_Nx2, logprobs_Nx2xS = found
    replies_Nx2 = np.zeros((len(chosen_Nx2), 0), object)
  else:
    N, _, G = found[0].shape
    texts = reply.format.decode(found[0].reshape(-1, G))
    replies_Nx2 = np.array(texts, object).reshape(N, 2)
    chosen_Nx2 = np.asarray(reply.detect(texts), np.int32).reshape(N, 2)
    logprobs_Nx2xS = np.zeros((N, 2, 0), np.float32)
  return explanation.Behaviors(
    chosen_Nx2[:, 0], chosen_Nx2[:, 1], logprobs_Nx2xS, replies_Nx2
  )


def batches(
  asked: dict[str, Any], batch: int
) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
  """All pairs once, as loader.batches_in_order has them; trees in order of their size.

  The largest come first, so that what does not fit a device fails at once.
  """
  if 'trees' in asked:
    asked, _ = loader.by_size(asked, asked['trees']['size'])
  for rows, mask_B in loader.batches_in_order(asked, batch):
    if 'trees' in rows:
      rows = rows | {'trees': trees_lib.cut(rows['trees'])}
    yield rows, mask_B


def in_order(found_N: np.ndarray, asked: dict[str, Any]) -> np.ndarray:
  """What was found of the pairs in the order of `batches`, in their own."""
  if 'trees' not in asked:
    return found_N
  _, place_N = loader.by_size((), asked['trees']['size'])
  return found_N[place_N]


@functools.lru_cache
def _forced_choice(config: models.DecoderConfig) -> Callable:
  """The jitted behaviours of one batch of pair questions, and log-probabilities."""

  @jax.jit
  def run(params, batch):
    trees = batch['trees']
    reads = {'pair': trees['read'][:, :2]}
    logits_Bx2xV = read_trees(config, params, trees, reads)['pair']
    return pair_choices(logits_Bx2xV, batch['options'])

  return run


def pair_choices(
  logits_Bx2xV: jax.Array, options_BxK: jax.Array
) -> dict[str, jax.Array]:
  """Greedy behaviours on x and x∖C, and log-probabilities over both supports."""
  options_Bx2xK = jnp.stack([options_BxK] * 2, axis=1)
  return {
    'chosen': choose(logits_Bx2xV, options_Bx2xK),
    'vocabulary': jax.nn.log_softmax(logits_Bx2xV),
    'options': jax.nn.log_softmax(restrict(logits_Bx2xV, options_Bx2xK)),
  }


@functools.lru_cache
def _greedy_replies(
  config: models.DecoderConfig, max_tokens: int, end_tokens: tuple[int, ...], fill: int
) -> Callable:
  """The jitted greedy replies to one batch of pair questions, int32 [B, 2, G]."""

  @jax.jit
  def run(params, batch):
    pair = jax.tree.map(_rows, batch['pair'])
    generated_2BxG, _ = decode.greedy(
      config,
      params,
      decode.of_rows(pair['tokens'], pair['valid']),
      max_new_tokens=max_tokens,
      end_tokens=end_tokens,
      fill=fill,
    )
    return {'generated': generated_2BxG.reshape(-1, 2, max_tokens)}

  return run


def _rows(x_Bx2xX: jax.Array) -> jax.Array:
  return x_Bx2xX.reshape(-1, *x_Bx2xX.shape[2:])
