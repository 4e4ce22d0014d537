"""A real server: llama.cpp's, of the same weights as this program's own decoder."""

import pytest

import coupling as cp
from benchmarks import serve
from benchmarks import served_peer

# The server multiplies numbers of a few bits, this program float32, so that near ties
# of a model that knows little fall otherwise: 40 of 48 agree here, and of one relation
# 80 of 82 (docs/experiments.md). Both intervals of 95% lie above 0.7, all of chance,
# about a third, below it.
AGREED = 0.7


def few(count: int) -> list[cp.Pair]:
  """Pairs of the facts, each of another question."""
  every = cp.tasks.facts(seed=0, per_answer=1, hints_per_question=1)
  return every[:: len(every) // count][:count]


@pytest.mark.slow
def test_a_server_and_the_own_decoder_do_the_same():
  pairs = few(24)
  own = served_peer.ask(cp.load(serve.MODEL), pairs, 'reply')
  with serve.serving() as url:
    model = cp.load(url, model=serve.MODEL, system='')
    served = served_peer.ask(model, pairs, 'reply')
    result = cp.evaluate(model, served.labels)
  print(served_peer.row('facts', served, own))
  assert served.chosen_Nx2.shape == (len(pairs), 2)
  assert (served.chosen_Nx2 == own.chosen_Nx2).mean() >= AGREED
  assert len({*served.replies_Nx2.ravel()}) > len(pairs) / 4
  assert all(result.items['statement'].to_pylist())
  # Asked again, it says the same.
  assert result.items['behavior'].equals(result.items['orig_behavior'])
