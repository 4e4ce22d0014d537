"""Behaviours and explanations of a backend, from its texts: M_0 and M_t alike.

What behavior.py and evaluation.py are for this program's own decoder.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from scipy import special

from coupling.config import schema
from coupling.elicit import backend as backend_lib
from coupling.elicit import encoding
from coupling.elicit import evaluation
from coupling.elicit import explanation
from coupling.elicit import options as options_lib
from coupling.elicit import statements
from coupling.runtime import interrupt
from data import asking
from data import pairs as pairs_lib

Pairs = Sequence[pairs_lib.Pair]


def prompts(template: pairs_lib.Questions, items: Pairs) -> list[str]:
  """What asks for behaviours, on x and x∖C in turn; DataError at half a character."""
  texts = [x for pair in items for x in (pair.prompt, pair.counterfactual)]
  return [asking.valid(template.behavior.format(prompt=x)) for x in texts]


def expect(model: backend_lib.Asked, asked: Sequence[str], max_tokens: int) -> None:
  """Lets a backend say beforehand what it will be asked, where it can."""
  if say := getattr(model.backend, 'expect', None):
    say(asked, max_tokens)


def behaviors(
  model: backend_lib.Asked,
  items: Pairs,
  template: pairs_lib.Questions,
  how: options_lib.How,
  reply_tokens: int,
  batch: int,
) -> explanation.Behaviors:
  """B(M), by `choose`, or by replies where the template reads these.

  Args:
    model: that is asked.
    items: N pairs.
    template: how the task asks.
    how: choices are read; its prior alone counts.
    reply_tokens: of a reply, at most.
    batch: pairs that are asked together.

  Raises:
    ConfigError: answers of a wrong shape, or none.
    Interrupted: between two batches.
  """
  asked = prompts(template, items)
  options = [pair.options for pair in items for _ in range(2)]
  found = []
  for first in range(0, len(asked), 2 * batch):
    interrupt.check()
    here = slice(first, first + 2 * batch)
    if template.detect is None:
      found += backend_lib.choose(model, asked[here], options[here])
    else:
      found += backend_lib.generate(model, asked[here], reply_tokens)
  N, none_Nx2 = len(items), np.zeros((len(items), 0), object)
  if template.detect is not None:
    chosen_Nx2 = np.asarray(template.detect(found, options), np.int32).reshape(N, 2)
    replies_Nx2 = np.array([x.strip() for x in found], object).reshape(N, 2)
    return explanation.Behaviors(
      *chosen_Nx2.T, np.zeros((N, 2, 0), np.float32), replies_Nx2
    )
  K = max(map(len, options))
  logprobs_2NxK = np.full((2 * N, K), -np.inf)
  for row_K, numbers in zip(logprobs_2NxK, found):
    row_K[: len(numbers)] = numbers
  if how.prior:
    options_lib.check_slots(how, K)
    logprobs_2NxK -= np.array(how.prior[:K])
  logprobs_2NxK = special.log_softmax(logprobs_2NxK, axis=1)
  chosen_Nx2 = logprobs_2NxK.argmax(axis=1).astype(np.int32).reshape(N, 2)
  logprobs_Nx2xK = logprobs_2NxK.astype(np.float32).reshape(N, 2, K)
  return explanation.Behaviors(*chosen_Nx2.T, logprobs_Nx2xK, none_Nx2)


def evaluate(
  model: backend_lib.Asked,
  items: Pairs,
  row_N: np.ndarray,
  template: pairs_lib.Questions,
  how: options_lib.How,
  reply_tokens: int,
  orig: explanation.Explanation,
  target: explanation.Explanation,
  config: schema.Evaluate,
) -> tuple[pa.Table, evaluation.Counts]:
  """What a backend does, then what it says of it, asked before any answer.

  Args:
    model, items, template, how, reply_tokens: see `behaviors`, as for errors.
    row_N: places of the pairs in their split.
    orig: E(M_0).
    target: the labels trained on.
    config: its batch counts.

  Returns:
    The table and the counts of evaluator.Evaluator.run.
  """
  asked = prompts(template, items)
  expect(model, asked, reply_tokens if template.detect else 0)
  did = behaviors(model, items, template, how, reply_tokens, config.batch)
  why = [*map(asking.valid, encoding.explanation_texts(template, items, None))]
  longest = statements.longest(items, template) + 1  # what is cut is then no statement
  expect(model, why, longest)
  texts = []
  for first in range(0, len(why), config.batch):
    interrupt.check()
    texts += backend_lib.generate(model, why[first : first + config.batch], longest)
  texts = [x.strip() for x in texts]
  stated = statements.parse_texts(texts, items, template, did.behavior_N)
  counts = explanation.outcomes(
    stated, did.explanation, orig, target, template.states_answer
  )
  said = {'stated_answer': stated.answer_N, 'stated_changed': stated.changed_N}
  table = evaluation.records(evaluation.did_items(did) | said, row_N, texts)
  return table, {name: int(np.sum(x_N)) for name, x_N in counts.items()}
