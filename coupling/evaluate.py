"""Counterfactual evaluation of one checkpoint: what it does, and what it says of it.

For every held-out pair: the behaviours on x and x∖C, and the greedy explanation,
parsed by exact match with the statements that the task allows; on demand also the
likeliest of these statements, the scored explanation. Counts are taken on the device;
every item is written to a Parquet file, so that statistics can be redone without a
model. Shapes: B items, K options, G tokens of a statement, M = 2K allowed statements
(2k + changed).
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa

from coupling import behavior
from coupling import config as config_lib
from coupling import decode
from coupling import explanation
from coupling import files
from coupling import interrupt
from coupling import models
from coupling import scoring
from coupling import sharding
from data import formats
from data import pairs as pairs_lib
from data import tokens as tokens_lib

NO_TOKEN = -1  # fills statements of options that an item lacks; nothing matches it


def questions(
  format: formats.Format,
  items: Sequence[pairs_lib.Pair],
  template: pairs_lib.Questions,
) -> dict[str, Any]:
  """Arrays that ask for behaviours and explanations.

  Returns:
    Those of behavior.pair_questions, with explanations; `explain` (the explanation
    question alone); and `statements` [N, M, G]: the tokens of every statement that
    parses, each with what ends it and padded after that.

  Raises:
    ConfigError: see check_ends.
  """
  asked = behavior.explanation_texts(template, items, None)
  K = max(len(p.options) for p in items)
  forms = (template.unchanged, template.changed)
  options = dict.fromkeys(option for p in items for option in p.options)
  texts = [form.format(answer=option) for option in options for form in forms]
  ids = dict(zip(texts, format.answers(texts)))
  check_ends(format, ids)
  G = max(map(len, ids.values()))
  padded = {
    text: tokens_lib.pad([x], G, format.pad_token)[0] for text, x in ids.items()
  }
  statements_NxMxG = np.full((len(items), 2 * K, G), NO_TOKEN, np.int32)
  for row_MxG, pair in zip(statements_NxMxG, items):
    for k, option in enumerate(pair.options):
      for changed, form in enumerate(forms):
        row_MxG[2 * k + changed] = padded[form.format(answer=option)]
  return behavior.pair_questions(format, items, template, explain=True) | {
    'explain': behavior.questions(format, asked),
    'statements': statements_NxMxG,
  }


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
    """Arrays that ask after the answers of these behaviours: see behavior.questions."""
    answers = did.answers([pair.options for pair in self.items])
    texts = behavior.explanation_texts(self.template, self.items, answers)
    return behavior.questions(self.format, texts)


def check_ends(format: formats.Format, ids: Mapping[str, Sequence[int]]) -> None:
  """Raises ConfigError where a statement's tokens could go on, as longer ones do.

  Args:
    format: how the model is asked.
    ids: statements and their tokens.
  """
  longest = max(ids, key=lambda text: len(ids[text]))
  G = len(ids[longest])
  for text, tokens in ids.items():
    if len(tokens) != G and tokens[-1] not in format.end_tokens:
      raise config_lib.ConfigError(
        f'The statements of an explanation have different lengths, up to {G} tokens '
        f'({longest!r}; {text!r} has {len(tokens)}), and nothing that ends them: ask '
        "by a chat template (base.chat=True), or word the task's `unchanged` and "
        '`changed` so that they are equally long.'
      )


def parse(
  generated_BxG: jax.Array,
  statements_BxMxG: jax.Array,
  behavior_B: jax.Array,
  states_answer: bool,
) -> explanation.Explanation:
  """The explanation that a generation states; INVALID where it is no statement."""
  same_BxM = jnp.all(generated_BxG[:, None] == statements_BxMxG, axis=-1)
  stated = meaning(jnp.argmax(same_BxM, axis=-1), behavior_B, states_answer)
  valid_B = jnp.any(same_BxM, axis=-1)
  return explanation.Explanation(
    *(jnp.where(valid_B, x_B, explanation.INVALID) for x_B in stated)
  )


def meaning(
  statement_B: jax.Array, behavior_B: jax.Array, states_answer: bool
) -> explanation.Explanation:
  """The explanation that an allowed statement is, by its index 2k + changed.

  Where "unchanged" names no answer, the answer meant is the model's own on x.
  """
  answer_B, changed_B = statement_B // 2, statement_B % 2
  if not states_answer:
    answer_B = jnp.where(changed_B == 1, answer_B, behavior_B)
  return explanation.Explanation(answer_B, changed_B)


@functools.lru_cache
def _explain_batch(
  config: models.DecoderConfig,
  states_answer: bool,
  end_tokens: tuple[int, ...],
  pad_token: int,
  likelihood: bool,
  whole: bool,
) -> Callable:
  """The jitted explanations of a batch: (params, batch, mask_B) -> (said, counts).

  `whole`: with the behaviours of the batch, in one pass over its trees; else `self` and
  `behavior` are among its arrays.
  """

  @jax.jit
  def run(params, batch, mask_B):
    statements_BxMxG = batch['statements']
    greedy = functools.partial(
      decode.greedy,
      config,
      params,
      max_new_tokens=statements_BxMxG.shape[-1],
      end_tokens=end_tokens,
      fill=pad_token,
    )
    did = {}
    if whole:
      trees = batch['trees']
      prompts = decode.in_trees(trees, trees['read'][:, 2])
      generated_BxG, hidden_Bx2xD = greedy(prompts, rows_BxC=trees['read'][:, :2])
      logits_Bx2xV = models.unembed(config, params, hidden_Bx2xD)
      found = behavior.pair_choices(logits_Bx2xV, batch['options'])
      did = {'chosen': found['chosen'], 'logprobs': found['options']}
      behavior_B, counterfactual_B = found['chosen'].T
      batch = batch | {
        'behavior': behavior_B,
        'self': explanation.phi(behavior_B, counterfactual_B),
      }
    else:
      explain = batch['explain']
      prompts = decode.of_rows(explain['tokens'], explain['valid'])
      generated_BxG, _ = greedy(prompts)
    truth, orig, target = batch['self'], batch['orig'], batch['target']
    stated = parse(generated_BxG, statements_BxMxG, batch['behavior'], states_answer)
    agree = functools.partial(explanation.agree, stated, states_answer=states_answer)
    outcomes = {
      'n': jnp.ones_like(mask_B),
      'self': agree(truth),
      'orig': agree(orig),
      'target': agree(target),
      'invalid': stated.changed_N == explanation.INVALID,
      'changed': truth.changed_N == 1,
      'moved': ~explanation.agree(truth, orig, states_answer),
    }
    items = did | {
      'stated_answer': stated.answer_N,
      'stated_changed': stated.changed_N,
      'generated': generated_BxG,
    }
    if likelihood:
      logprobs_BxM = scoring.statement_logprobs(
        config, params, batch['explain'], statements_BxMxG, end_tokens
      )
      likeliest_B = jnp.argmax(logprobs_BxM, axis=-1)
      scored = meaning(likeliest_B, batch['behavior'], states_answer)
      outcomes |= {
        'scored_self': explanation.agree(scored, truth, states_answer),
        'scored_orig': explanation.agree(scored, orig, states_answer),
        'scored_agrees_greedy': agree(scored),
      }
      items |= {
        'scored_answer': scored.answer_N,
        'scored_changed': scored.changed_N,
        'statement_logprobs': logprobs_BxM,
      }
    return items, {name: jnp.sum(x & mask_B) for name, x in outcomes.items()}

  return run


def evaluate(
  config: models.DecoderConfig,
  params: models.Params,
  arrays: dict[str, Any],
  batch: int,
  mesh: jax.sharding.Mesh,
  states_answer: bool,
  format: formats.Format,
  reply: behavior.Reply | None = None,
  likelihood: bool = False,
  after: After | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, int]]:
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
    likelihood: also score every allowed statement, for one more forward pass.
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
  """
  sharding.check_batch(mesh, 'evaluate.batch', batch)
  params = sharding.put_params(mesh, params)
  compiled = functools.partial(
    _explain_batch, config, states_answer, format.end_tokens, format.pad_token
  )
  if reply is None and after is None:
    asked = arrays if likelihood else {k: arrays[k] for k in arrays if k != 'explain'}
    run = compiled(likelihood, True)
    said, counts = _in_batches(run, params, asked, batch, mesh)
    chosen_Nx2, logprobs_Nx2xK = said.pop('chosen'), said.pop('logprobs')
    nothing_Nx2 = np.zeros((len(chosen_Nx2), 0), object)
    did = explanation.Behaviors(*chosen_Nx2.T, logprobs_Nx2xK, nothing_Nx2)
  else:
    names = ('statements', 'orig', 'target')
    asked = {k: x for k, x in arrays.items() if k not in ('explain', *names)}
    did = behavior.behaviors(config, params, asked, batch, mesh, 'options', reply)
    asked = {name: arrays[name] for name in names} | {'self': did.explanation}

    def explain(question, behavior_N, likelihood):
      rows = asked | {'explain': question, 'behavior': behavior_N}
      return _in_batches(compiled(likelihood, False), params, rows, batch, mesh)

    question = arrays['explain'] if after is None else after.questions(did)
    said, counts = explain(question, did.behavior_N, likelihood)
    if after is not None:
      swapped, _ = explain(after.questions(after.orig), after.orig.behavior_N, False)
      said |= {f'swapped_{k}': swapped[f'stated_{k}'] for k in ('answer', 'changed')}
  items = {
    'behavior': did.behavior_N,
    'counterfactual_behavior': did.counterfactual_behavior_N,
    **said,
  }
  if reply is None:
    items['option_logprobs'] = did.logprobs_Nx2xS[:, 0]
    items['counterfactual_option_logprobs'] = did.logprobs_Nx2xS[:, 1]
  else:
    items['reply'], items['counterfactual_reply'] = did.replies_Nx2.T
  return items, counts


def _in_batches(
  run: Callable, params: models.Params, asked: dict[str, Any], batch: int, mesh
) -> tuple[dict[str, np.ndarray], dict[str, int]]:
  """What `_explain_batch` makes of all items, and its counts."""
  parts, totals = [], None
  for rows, mask_B in behavior.batches(asked, batch):
    interrupt.check()
    said, counts = run(params, *sharding.put_batch(mesh, (rows, mask_B)))
    totals = counts if totals is None else jax.tree.map(jnp.add, totals, counts)
    parts.append((said, mask_B))
  rows = [{k: v[mask] for k, v in jax.device_get(x).items()} for x, mask in parts]
  said = {
    name: behavior.in_order(np.concatenate([row[name] for row in rows]), asked)
    for name in rows[0]
  }
  return said, {name: int(x) for name, x in totals.items()}


def tokens(arrays: dict[str, Any]) -> dict[str, int] | None:
  """Tokens of the pairs' trees, and of their questions apart."""
  if 'trees' not in arrays:
    return None
  names = {'trees': 'size', 'apart': 'apart'}
  return {name: int(arrays['trees'][key].sum()) for name, key in names.items()}


def write_records(
  path: pathlib.Path,
  items: dict[str, np.ndarray],
  pairs: Sequence[pairs_lib.Pair],
  format: formats.Format,
) -> None:
  """One row an item: what it is about, what the model did, what it said."""
  table = pa.table(
    {
      'prompt': [p.prompt for p in pairs],
      'counterfactual': [p.counterfactual for p in pairs],
      'cue_kind': [p.cue_kind for p in pairs],
      'cue_option': [p.cue_option for p in pairs],
      'options': [list(p.options) for p in pairs],
      'group': [p.group for p in pairs],
      'statement': format.decode(items['generated']),
      **{name: pa.array(list(x)) for name, x in items.items()},
    }
  )
  files.write_table(path, table)
