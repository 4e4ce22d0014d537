"""Counterfactual evaluation of one checkpoint: what it does, and what it says of it.

For every held-out pair: the behaviours on x and x∖C, and the greedy explanation,
parsed by exact match with the statements that the task allows; on demand also the
likeliest of these statements, the scored explanation. Counts are taken on the device;
every item is written to a Parquet file, so that statistics can be redone without a
model. Shapes: B items, K options, G tokens of a statement, M = 2K allowed statements
(2k + changed).
"""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa

from coupling.elicit import behavior
from coupling.elicit import encoding
from coupling.elicit import explanation
from coupling.elicit import options
from coupling.elicit import statements
from coupling.model import decoder
from coupling.model import generate
from coupling.model import scoring
from coupling.model import sharding
from coupling.model import speculative
from coupling.model.architecture import DecoderConfig
from coupling.runtime import distributed
from coupling.runtime import finite
from data import formats
from data import loader
from data import pairs as pairs_lib
from data import trees

Counts = dict[str, int]
Items = dict[str, np.ndarray]
# Of these, what is chosen by logits.
CHOICES = {'behavior', 'counterfactual_behavior', 'generated'}


def questions(
  format: formats.Format,
  items: Sequence[pairs_lib.Pair],
  template: pairs_lib.Questions,
  how: options.How = options.PLAIN,
) -> dict[str, Any]:
  """Arrays that ask for behaviours and explanations.

  Returns:
    Those of encoding.pair_questions; `explain`, the explanation question alone, where
    behaviours are read from replies; and `statements`, a speculative.Drafts of
    statements.tokens.

  Raises:
    ConfigError: see statements.check_ends.
  """
  arrays = encoding.pair_questions(format, items, template, how)
  allowed = statements.tokens(format, items, template)
  arrays['statements'] = speculative.make_drafts(allowed, format.end_tokens)
  if template.detect is not None:
    texts = encoding.explanation_texts(template, items, None)
    arrays['explain'] = encoding.questions(format, texts)
  return arrays


@dataclasses.dataclass(frozen=True)
class After:
  """How to ask for explanations once an answer on x stands in the context.

  Attributes:
    format: how the model is asked.
    template: how the task asks.
    items: the pairs.
    orig: M_0's behaviours, whose answers stand there in the swap test.
  """

  format: formats.Format
  template: pairs_lib.Questions
  items: Sequence[pairs_lib.Pair]
  orig: explanation.Behaviors

  def questions(self, did: explanation.Behaviors) -> dict[str, np.ndarray]:
    """Arrays that ask after the answers of these behaviours: see encoding.questions."""
    answers = did.answers([pair.options for pair in self.items])
    texts = encoding.explanation_texts(self.template, self.items, answers)
    return encoding.questions(self.format, texts)


@functools.lru_cache
def _begin(config: DecoderConfig, mesh: jax.sharding.Mesh) -> Callable:
  """The jitted reading of explanation questions that stand alone."""

  @jax.jit
  @sharding.on(mesh)
  def run(params, explain):
    prompts = generate.of_rows(explain['tokens'], explain['valid'])
    return generate.begin(config, params, prompts, mesh)[0]

  return run


@functools.lru_cache
def _explain(
  config: DecoderConfig,
  mesh: jax.sharding.Mesh,
  states_answer: bool,
  end_tokens: tuple[int, ...],
  pad_token: int,
  likelihood: bool,
) -> Callable:
  """The jitted explanations: (params, begun, rows, mask_B) -> (said, counts).

  `rows`: `behavior` on x, `statements`, `self`, `orig` and `target`.
  """

  @jax.jit
  @sharding.on(mesh)
  def run(params, begun, rows, mask_B):
    statements_BxMxG, behavior_B = rows['statements'].tokens_BxMxG, rows['behavior']
    generated_BxG, after_BxMxFxD = speculative.greedy_from_drafts(
      config,
      params,
      begun,
      rows['statements'],
      mesh,
      end_tokens=end_tokens,
      fill=pad_token,
    )
    truth, orig, target = rows['self'], rows['orig'], rows['target']
    stated = statements.parse(
      generated_BxG, statements_BxMxG, behavior_B, states_answer
    )
    outcomes = explanation.outcomes(stated, truth, orig, target, states_answer)
    said = {
      'stated_answer': stated.answer_N,
      'stated_changed': stated.changed_N,
      'generated': generated_BxG,
    }
    if likelihood:
      logprobs_BxM = scoring.statement_logprobs(
        *(config, params, begun.hidden_BxD, after_BxMxFxD),
        statements_BxMxG,
        end_tokens,
      )
      likeliest_B = jnp.argmax(logprobs_BxM, axis=-1)
      scored = statements.meaning(likeliest_B, behavior_B, states_answer)
      outcomes |= {
        'scored_self': explanation.agree(scored, truth, states_answer),
        'scored_orig': explanation.agree(scored, orig, states_answer),
        'scored_agrees_greedy': explanation.agree(stated, scored, states_answer),
      }
      said |= {
        'scored_answer': scored.answer_N,
        'scored_changed': scored.changed_N,
        'statement_logprobs': logprobs_BxM,
      }
    return said, {name: jnp.sum(x & mask_B) for name, x in outcomes.items()}

  return run


def evaluate(
  config: DecoderConfig,
  params: decoder.Params,
  arrays: dict[str, Any],
  batch: int,
  mesh: jax.sharding.Mesh,
  states_answer: bool,
  format: formats.Format,
  reply: behavior.Reply | None = None,
  likelihood: bool = False,
  after: After | None = None,
) -> tuple[Items, Counts]:
  """Evaluates one checkpoint: what it does, then what it says of it.

  Args:
    config: the decoder's shape.
    params: its weights at the checkpoint.
    arrays: of `questions`, with `orig` and `target`: Explanations E(M_0) and those of
      the label set trained on.
    batch: items per batch; the last partial batch is filled up and masked.
    mesh: devices to split batches over.
    states_answer: see explanation.agree.
    format: how the model is asked.
    reply: see behavior.behaviors.
    likelihood: also score every allowed statement.
    after: ask after the model's own answer; default: before any.

  Returns:
    The items, arrays of N rows, and the counts. With `likelihood`, items have
    `statement_logprobs` [N, M] of scoring.statement_logprobs and the likeliest
    statement as `scored_answer` and `scored_changed`; counts have `scored_self`,
    `scored_orig` and `scored_agrees_greedy`, where generation states the same. With
    `after`, items have the swap test's `swapped_answer` and `swapped_changed`: what is
    stated after M_0's answer.

  Raises:
    Interrupted: between two batches, when a signal asked for it.
    NonFiniteError: logits, or likelihoods, that are not finite.
  """
  sharding.check_batch(mesh, 'evaluate.batch', batch)
  params = sharding.put_params(mesh, params)
  ask = _Asking(config, params, mesh, batch, arrays)
  explain = functools.partial(
    _explain, config, mesh, states_answer, format.end_tokens, format.pad_token
  )
  if reply is None and after is None:
    return _collect(ask.at_once(), params, explain(likelihood), config.dtype)
  asked = {
    k: arrays[k] for k in ('pair', 'option_texts', *behavior.ASKED) if k in arrays
  }
  did = behavior.behaviors(config, params, asked, batch, mesh, 'options', reply)
  question = arrays['explain'] if after is None else after.questions(did)
  begun = ask.alone(question, did, did)
  said, counts = _collect(begun, params, explain(likelihood), config.dtype)
  if after is not None:
    begun = ask.alone(after.questions(after.orig), did, after.orig)
    swapped, _ = _collect(begun, params, explain(False), config.dtype)
    said |= {f'swapped_{k}': swapped[f'stated_{k}'] for k in ('answer', 'changed')}
  return did_items(did) | said, counts


def did_items(found: explanation.Behaviors) -> Items:
  """What a model does, as the records have it: with distributions, or replies."""
  items = {
    'behavior': found.behavior_N,
    'counterfactual_behavior': found.counterfactual_behavior_N,
  }
  if found.replies_Nx2.shape[1]:
    items['reply'], items['counterfactual_reply'] = found.replies_Nx2.T
  else:
    items['option_logprobs'] = found.logprobs_Nx2xS[:, 0]
    items['counterfactual_option_logprobs'] = found.logprobs_Nx2xS[:, 1]
  return items


class _Batch(NamedTuple):
  """Explanation questions, read and to be answered."""

  rows: dict[str, Any]  # on the devices
  mask_B: jax.Array
  row_n: np.ndarray  # which items the rows are that the mask admits
  begun: generate.Begun
  did: dict[str, jax.Array]  # what the model does, if that was asked together


@dataclasses.dataclass(frozen=True)
class _Asking:
  """A model, and the arrays that ask it, of `evaluate`."""

  config: DecoderConfig
  params: decoder.Params
  mesh: jax.sharding.Mesh
  batch: int
  arrays: dict[str, Any]

  @property
  def _own(self) -> dict[str, Any]:
    return {k: self.arrays[k] for k in ('statements', 'orig', 'target')}

  def at_once(self) -> Iterator[_Batch]:
    """What it does, and the explanation question begun, batch by batch."""
    asked = self._own | {k: self.arrays[k] for k in behavior.ASKED if k in self.arrays}
    for rows, mask_B, row_n in behavior.batches(asked, self.batch):
      rows, mask_B = sharding.put_batch(self.mesh, (rows, mask_B))
      did, begun = behavior.forced_choice(self.config, self.mesh)(self.params, rows)
      behavior_B, counterfactual_B = did['chosen'][:, 0], did['chosen'][:, 1]
      rows |= {
        'behavior': behavior_B,
        'self': explanation.phi(behavior_B, counterfactual_B),
      }
      did = {
        'behavior': behavior_B,
        'counterfactual_behavior': counterfactual_B,
        'option_logprobs': did['options'][:, 0],
        'counterfactual_option_logprobs': did['options'][:, 1],
      }
      yield _Batch(rows, mask_B, row_n, begun, did)
      del begun  # its cache, before the next is made

  def alone(
    self,
    question: dict[str, np.ndarray],
    did: explanation.Behaviors,
    of: explanation.Behaviors,
  ) -> Iterator[_Batch]:
    """The explanation question by itself, of a model whose behaviours are known.

    `of`: those whose answer on x "unchanged" stands for.
    """
    asked = self._own | {'self': did.explanation, 'behavior': of.behavior_N}
    begin = _begin(self.config, self.mesh)
    for rows, mask_B, row_n in loader.batches(
      asked | {'explain': question}, self.batch
    ):
      rows, mask_B = sharding.put_batch(self.mesh, (rows, mask_B))
      yield _Batch(rows, mask_B, row_n, begin(self.params, rows['explain']), {})


def _collect(
  batches: Iterator[_Batch], params: decoder.Params, explain: Callable, dtype: Any
) -> tuple[Items, Counts]:
  """Explanations of all items, with what was found beside them, and their counts."""
  parts, totals, order = [], None, []
  for one in batches:
    distributed.check()
    said, counts = distributed.settled(explain(params, one.begun, one.rows, one.mask_B))
    totals = counts if totals is None else jax.tree.map(jnp.add, totals, counts)
    parts.append(one.did | said)
    order.append(one.row_n)
    del one  # likewise
  rows = [
    {k: x[: len(row_n)] for k, x in distributed.fetch(part).items()}
    for part, row_n in zip(parts, order)
  ]
  found = {k: loader.in_order([row[k] for row in rows], order) for k in rows[0]}
  for k in CHOICES & found.keys():
    finite.check_choices(found[k], f'the field {k}', dtype)
  if 'statement_logprobs' in found:
    good_N = ~np.isnan(found['statement_logprobs']).any(axis=1)
    finite.check_pairs(good_N, 'the log-likelihoods of statements', dtype)
  return found, {name: int(x) for name, x in totals.items()}


def tokens(arrays: dict[str, Any]) -> dict[str, int] | None:
  """Tokens of the pairs' trees, and of their questions apart, where trees are asked."""
  return trees.tokens([arrays['trees']]) if 'trees' in arrays else None


def records(
  items: dict[str, np.ndarray], row_N: np.ndarray, texts: Sequence[str]
) -> pa.Table:
  """One row an item: its place in the split, what the model did, what it said."""
  said = {'row': row_N, 'statement': texts}
  return pa.table(said | {name: pa.array(list(x)) for name, x in items.items()})
