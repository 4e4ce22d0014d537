"""Behaviours: how a model is asked for them, and how they are read.

By forced choice, a behaviour is the distribution over an item's option tokens at the
answer position; the greedy behaviour is its argmax, an option index. By reply, it is
the option index that a detector finds in the greedy reply. M_0 and M_t are asked by the
same function. Shapes: N or B items, T tokens, C positions read, K options, V
vocabulary, S support of a distribution (vocabulary or options).
"""

from collections.abc import Callable, Iterator, Mapping
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

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
from data import trees as trees_lib


# Arrays of encoding.pair_questions for a forced choice; all from the third on are of a
# pair's options, alike on x and x∖C.
ASKED = ('trees', 'read', 'options', 'scale', 'prior')


@dataclasses.dataclass(frozen=True)
class Reply:
  """How behaviours are read from greedy replies.

  Attributes:
    format: decodes them.
    detect: see pairs.Questions.
    max_tokens: of a reply; a longer one is judged by its beginning.
  """

  format: formats.Format
  detect: pairs_lib.Detector
  max_tokens: int


def reply(
  format: formats.Format, template: pairs_lib.Questions, max_tokens: int
) -> Reply | None:
  """How behaviours are read from replies, where the task wants that."""
  return template.detect and Reply(format, template.detect, max_tokens)


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
    asked: of `encoding.pair_questions`.
    batch: pairs per batch, which the mesh divides.
    mesh: devices to split batches over.
    support: of the log-probabilities that are kept: vocabulary or options.
    reply: reads behaviours from greedy replies; default: by forced choice.

  Raises:
    Interrupted: between two batches, when a signal asked for it.
    NonFiniteError: after the first batch with logits that are not finite.
  """
  if reply is not None:
    asked = dict(asked)
    options_N = asked.pop('option_texts')
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
    found_2N = reply.detect(texts, np.repeat(options_N, 2).tolist())
    chosen_Nx2 = np.asarray(found_2N, np.int32).reshape(N, 2)
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

  (params, arrays of encoding.pair_questions) -> what M does: `chosen`
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
