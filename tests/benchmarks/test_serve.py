"""A real server: llama.cpp's, of the same weights as this program's own decoder."""

import numpy as np
import pytest

import coupling as cp
from benchmarks import serve
from coupling.config import schema
from data import facts

# The server multiplies numbers of a few bits, this program float32, so that near ties
# of a model that knows little fall otherwise: 40 of 48 agree here, and of one relation
# 80 of 82 (docs/experiments.md). Both intervals of 95% lie above 0.7, all of chance,
# about a third, below it.
AGREED = 0.7
REPLY = schema.Behavior(read='reply')
SHORT = schema.Label(reply_tokens=12, stop_if_constant=False)


def few(count: int) -> list[cp.Pair]:
  """Pairs of the facts, each of another question."""
  every = cp.tasks.facts(seed=0, per_answer=1, hints_per_question=1)
  return every[:: len(every) // count][:count]


@pytest.mark.slow
def test_a_server_and_the_own_decoder_do_the_same():
  pairs = few(24)
  questions = facts.questions(facts.Config())
  given = dict(questions=questions, behavior=REPLY, config=SHORT)
  own = cp.label(cp.load(serve.MODEL), pairs, **given)
  with serve.serving() as url:
    served = cp.load(url, model=serve.MODEL, system='')
    labels = cp.label(served, pairs, **given)
    result = cp.evaluate(served, labels)
  same = []
  for split, found in labels.behaviors.items():
    for name in ('behavior_N', 'counterfactual_behavior_N'):
      same.append(getattr(found, name) == getattr(own.behaviors[split], name))
  same = np.concatenate(same)
  print(f'{same.sum()} of {len(same)} behaviours agree')
  assert len(same) == 2 * len(pairs) and same.mean() >= AGREED
  replies = np.concatenate([x.replies_Nx2.ravel() for x in labels.behaviors.values()])
  assert len({*replies}) > len(pairs) / 4
  assert all(result.items['statement'].to_pylist())
  # Asked again, it says the same.
  assert result.items['behavior'].equals(result.items['orig_behavior'])
