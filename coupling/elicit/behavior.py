"""Behaviours: the arrays that ask for them, and how they are read.

By forced choice, a behaviour is the distribution over an item's option tokens at the
answer position; the greedy behaviour is its argmax, an option index. By reply, it is
the option index that a detector finds in the greedy reply. M_0 and M_t are asked by the
same function. Shapes: N or B items, T tokens, C positions read, K options, V
vocabulary, S support of a distribution (vocabulary or options).
"""

import array
from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from coupling.config import schema
from coupling.elicit import explanation
from coupling.elicit import options as options_lib
from coupling.model import decoder
from coupling.model import generate
from coupling.model import sharding
from coupling.model.architecture import DecoderConfig
from coupling.runtime import distributed
from coupling.runtime import finite
from data import formats
from data import loader
from data import pairs as pairs_lib
from data import tokens as tokens_lib
from data import trees as trees_lib


# Arrays of `pair_questions` for a forced choice; all from the third on are of a pair's
# options, alike on x and x∖C.
ASKED = ('trees', 'read', 'options', 'scale', 'prior')


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


def reply(
  format: formats.Format, template: pairs_lib.Questions, max_tokens: int
) -> Reply | None:
  """How behaviours are read from replies, where the task wants that."""
  return template.detect and Reply(format, template.detect, max_tokens)


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
  prompts = _prompts(
    format, tuple(t if isinstance(t, str) else tuple(t) for t in texts)
  )
  if completions is None:
    answers = [[] for _ in prompts]
  else:
    distinct = list(dict.fromkeys(completions))  # answers are few, questions are many
    ids = dict(zip(distinct, format.answers(distinct)))
    answers = [ids[completion] for completion in completions]
  # The last token of a completion is a target only, never an input.
  rows = [prompt + _ids(answer[:-1]) for prompt, answer in zip(prompts, answers)]
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


@functools.lru_cache(maxsize=4)  # the runs of a seed ask the same
def _prompts(
  format: formats.Format, texts: tuple[formats.Turns, ...]
) -> list[array.array]:
  return [_ids(row) for row in format.prompts(texts)]


_ids = functools.partial(array.array, 'i')  # an eighth of a list


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
  how: options_lib.How = options_lib.PLAIN,
) -> dict[str, Any]:
  """What is asked about each pair, and its options.

  Returns:
    For a forced choice `trees`, a data.trees.Trees: the behaviour questions on x and
    x∖C and the explanation question before any answer; `read` [N, 2C + 1], what is read
    of these, in this order; and `options`, which are [N, K] of `option_tokens` where C
    is 1 and first tokens are read, and else those of options.readings, with what else
    that gives. For behaviours that are read from replies `pair`: see `questions`, with
    an axis of x and x∖C after the first, tokens [N, 2, T].
  """
  prompts = [text for p in items for text in (p.prompt, p.counterfactual)]
  asked = [template.behavior.format(prompt=x) for x in prompts]
  if template.detect is not None:
    rows = questions(format, asked)
    pair = {k: v.reshape(len(items), 2, *v.shape[1:]) for k, v in rows.items()}
    return {'pair': pair}
  ids = format.prompts(asked)
  explain = format.prompts(explanation_texts(template, items, None))
  if how.plain:
    options, suffixes = {'options': option_tokens(format, items)}, [((),)] * len(items)
  else:
    options = options_lib.readings(format, items, how)
    suffixes = options.pop('suffixes')
  groups = [
    [[*prompt, *suffix] for prompt in pair for suffix in after] + [why]
    for *pair, why, after in zip(ids[0::2], ids[1::2], explain, suffixes, strict=True)
  ]
  trees, places = trees_lib.build(groups)
  read_NxC = np.array([[x[-1] for x in place] for place in places], np.int32)
  return {'trees': trees, 'read': read_NxC, **options}


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
        raise schema.ConfigError(
          f'task: the pair from {pair.provenance!r} has the options {pair.options}. {e}'
        ) from e
    raise


def read_logits(
  config: DecoderConfig, params: decoder.Params, batch: dict[str, jax.Array]
) -> jax.Array:
  """float32 logits [B, C, V] at the positions that the batch reads."""
  hidden_BxCxD = decoder.apply(
    config, params, batch['tokens'], rows_BxC=batch['read']
  ).hidden_BxCxD
  return decoder.unembed(config, params, hidden_BxCxD)


def read_trees(
  config: DecoderConfig,
  params: decoder.Params,
  rows: trees_lib.Rows,
  parts: Mapping[str, Mapping[str, jax.Array]],
) -> dict[str, jax.Array]:
  """Logits at several sets of positions, in one pass over rows of prefix trees.

  Args:
    config: the decoder's shape.
    params: its weights.
    rows: of trees.
    parts: name -> `read`, positions [B, S] or [B, S, C], and where there are C of them
      `options` [B, S, C, K].

  Returns:
    name -> float32 logits [B, S, V]; or options.look_up's, [B, S, C, K].
  """
  reads = [x['read'].reshape(len(x['read']), -1) for x in parts.values()]
  hidden_BxRxD = decoder.apply_trees(
    config, params, rows, rows_BxC=jnp.concatenate(reads, axis=1)
  )
  ends = np.cumsum([x.shape[1] for x in reads])[:-1]
  found = {}
  for (name, part), hidden in zip(
    parts.items(), jnp.split(hidden_BxRxD, ends, axis=1), strict=True
  ):
    if part['read'].ndim == 2:
      found[name] = decoder.unembed(config, params, hidden)
    else:
      options = part['options']
      flat_BxRxK = options.reshape(*hidden.shape[:2], -1)
      looked = options_lib.look_up(config, params, hidden, flat_BxRxK)
      found[name] = looked.reshape(options.shape)
  return found


def restrict(logits_xV: jax.Array, options_xK: jax.Array) -> jax.Array:
  """Logits of the options [..., K]; -inf where an item has fewer than K (token -1)."""
  logits_xK = jnp.take_along_axis(logits_xV, jnp.maximum(options_xK, 0), axis=-1)
  return jnp.where(options_xK >= 0, logits_xK, -jnp.inf)


def choose(logits_xV: jax.Array, options_xK: jax.Array) -> jax.Array:
  """The greedy behaviour: index of the likeliest option, int32 [...].

  Where some logits are not finite it is finite.NOT_FINITE.
  """
  chosen_x = jnp.argmax(restrict(logits_xV, options_xK), axis=-1)
  return finite.mark(chosen_x, logits_xV).astype(jnp.int32)


def behaviors(
  config: DecoderConfig,
  params: decoder.Params,
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
    NonFiniteError: after the first batch with logits that are not finite.
  """
  if reply is not None:
    run = _greedy_replies(
      config, mesh, reply.max_tokens, reply.format.end_tokens, reply.format.pad_token
    )
  parts, order = [], []
  for rows, mask_B, row_n in batches(asked, batch):
    distributed.check()
    rows = sharding.put_batch(mesh, rows)
    if reply is None:
      out, _ = forced_choice(config, mesh)(params, rows)
      wanted = out['chosen'], out[support]
    else:
      wanted = (run(params, rows),)
    parts.append([x[mask_B] for x in distributed.fetch(wanted)])
    finite.check_choices(parts[-1][0], 'x and x∖C', config.dtype, row_n)
    order.append(row_n)
  found = [loader.in_order(x, order) for x in zip(*parts)]
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
) -> Iterator[tuple[dict[str, Any], np.ndarray, np.ndarray]]:
  """All pairs once, see loader.batches; trees in rows of a length of their own.

  So what is found of a pair does not depend on those it shares a batch with, and few
  programs serve all lengths. The longest come first: what does not fit fails at once.
  """
  if 'trees' not in asked:
    yield from loader.batches(asked, batch)
    return
  length_N = trees_lib.bucket(asked['trees'].size)
  for rows, mask_B, row_n in loader.batches(asked, batch, length_N):
    trees = trees_lib.cut(rows['trees'], int(length_N[row_n[0]]))
    yield rows | {'trees': trees}, mask_B, row_n


@functools.lru_cache
def forced_choice(config: DecoderConfig, mesh: jax.sharding.Mesh) -> Callable:
  """The jitted behaviours of a batch, read in one pass with the explanation question.

  (params, arrays of pair_questions) -> what M does: `chosen`
  [B, 2], options on x and x∖C, and log-probabilities over `options` and `vocabulary`,
  [B, 2, S]; and the explanation question, begun: a generate.Begun. M_0 and M_t are
  asked by this one program, so that both do the same where they are the same.
  """

  @jax.jit
  @sharding.on(mesh)
  def run(params, batch):
    read_BxC = batch['read']
    prompts = generate.in_trees(batch['trees'].rows, read_BxC[:, -1])
    begun, hidden_BxCxD = generate.begin(
      config, params, prompts, mesh, read_BxC[:, :-1]
    )
    first_Bx2xD = hidden_BxCxD[:, :: hidden_BxCxD.shape[1] // 2]
    logits_Bx2xV = decoder.unembed(config, params, first_Bx2xD)
    twice = {k: jnp.stack([batch[k]] * 2, axis=1) for k in ASKED[2:] if k in batch}
    if batch['options'].ndim == 2:
      chosen_Bx2 = choose(logits_Bx2xV, twice['options'])
      logits_Bx2xK = restrict(logits_Bx2xV, twice['options'])
    else:
      options_Bx2xCxK = twice['options']
      flat_BxRxK = options_Bx2xCxK.reshape(*hidden_BxCxD.shape[:2], -1)
      found_BxRxK = options_lib.look_up(config, params, hidden_BxCxD, flat_BxRxK)
      found_Bx2xCxK = found_BxRxK.reshape(options_Bx2xCxK.shape)
      logits_Bx2xK = options_lib.logprobs(found_Bx2xCxK, twice)
      best_Bx2 = jnp.argmax(logits_Bx2xK, axis=-1)
      flat_Bx2xX = found_Bx2xCxK.reshape(*best_Bx2.shape, -1)
      chosen_Bx2 = finite.mark(best_Bx2, flat_Bx2xX).astype(jnp.int32)
    did = {
      'chosen': chosen_Bx2,
      'vocabulary': jax.nn.log_softmax(logits_Bx2xV),
      'options': jax.nn.log_softmax(logits_Bx2xK),
    }
    return did, begun

  return lambda params, rows: run(params, {k: rows[k] for k in ASKED if k in rows})


@functools.lru_cache
def _greedy_replies(
  config: DecoderConfig,
  mesh: jax.sharding.Mesh,
  max_tokens: int,
  end_tokens: tuple[int, ...],
  fill: int,
) -> Callable:
  """The jitted greedy replies to one batch of pair questions, int32 [B, 2, G]."""

  @jax.jit
  @sharding.on(mesh)
  def run(params, batch):
    pair = jax.tree.map(_rows, batch['pair'])
    prompts = generate.of_rows(pair['tokens'], pair['valid'])
    begun, _ = generate.begin(config, params, prompts, mesh)
    generated_2BxG = generate.greedy(
      config,
      params,
      begun,
      mesh,
      max_new_tokens=max_tokens,
      end_tokens=end_tokens,
      fill=fill,
    )
    return generated_2BxG.reshape(-1, 2, max_tokens)

  return run


def _rows(x_Bx2xX: jax.Array) -> jax.Array:
  return x_Bx2xX.reshape(-1, *x_Bx2xX.shape[2:])
