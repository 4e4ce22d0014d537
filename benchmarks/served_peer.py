r"""A server against this program's own decoder, of the same weights: answers and time.

  python -m benchmarks.served_peer --url=http://127.0.0.1:8000/v1 --model=NAME \
    --own=FOLDER --mmlu=DATA/mmlu

asks both about facts, where answers are greedy replies, and (with --mmlu) about
Hint-MMLU, where they are the likeliest of the option letters. docs/experiments.md has
what vLLM gave. --own is asked twice: the first time programs are compiled.
"""

from collections.abc import Sequence
import time
from typing import NamedTuple

from absl import app
from absl import flags
import numpy as np

import coupling as cp
from coupling.config import schema
from coupling.elicit import backend
from coupling.elicit import models
from coupling.run import api_label
from coupling.statistics import intervals

URL = flags.DEFINE_string('url', None, 'Of the server, up to /v1.', required=True)
MODEL = flags.DEFINE_string('model', None, 'Its name of the model.', required=True)
OWN = flags.DEFINE_string('own', None, 'The same weights for cp.load.', required=True)
MMLU = flags.DEFINE_string('mmlu', '', "MMLU's CSV files.")
PAIRS = flags.DEFINE_integer('pairs', 100, 'Of each task, each of another question.')
SHORT = schema.Label(reply_tokens=12, stop_if_constant=False)


class Said(NamedTuple):
  """What a model does on N pairs, x and x∖C.

  Attributes:
    labels: of them.
    chosen_Nx2: int, places of options; one behind the last: none, or several.
    replies_Nx2: texts; [N, 0] where none are written.
    logprobs_Nx2xS: of option letters, as far as the server tells them.
    seconds: that it took.
  """

  labels: api_label.Labels
  chosen_Nx2: np.ndarray
  replies_Nx2: np.ndarray
  logprobs_Nx2xS: np.ndarray
  seconds: float


def ask(
  model: models.Model | backend.Asked, pairs: Sequence[cp.Pair], read: str
) -> Said:
  """Asks a model about pairs; `read`: see schema.Behavior."""
  start = time.perf_counter()
  labels = cp.label(model, pairs, behavior=schema.Behavior(read=read), config=SHORT)
  seconds = time.perf_counter() - start
  found = list(labels.behaviors.values())
  chosen = [np.stack([x.behavior_N, x.counterfactual_behavior_N], 1) for x in found]
  replies, logprobs = zip(*((x.replies_Nx2, x.logprobs_Nx2xS) for x in found))
  return Said(labels, *map(np.concatenate, (chosen, replies, logprobs)), seconds)


def row(task: str, served: Said, own: Said) -> str:
  """Of the table that is printed."""
  same_Nx2 = served.chosen_Nx2 == own.chosen_Nx2
  low, high = intervals.wilson(same_Nx2.sum(), same_Nx2.size)
  if own.replies_Nx2.size:
    more = f'{(served.replies_Nx2 == own.replies_Nx2).sum()} replies letter by letter'
    more += f'; {len({*served.replies_Nx2.ravel()})} different ones'
  else:
    apart = np.abs(served.logprobs_Nx2xS - own.logprobs_Nx2xS)
    more = f'log-probabilities differ by {apart.max():.1e} at most'
  agreed = f'{same_Nx2.sum()} of {same_Nx2.size} [{low:.1%}, {high:.1%}]'
  times = f'{served.seconds:.1f} | {own.seconds:.1f}'
  ratio = served.seconds / own.seconds
  return f'| {task} | {len(same_Nx2)} | {agreed} | {more} | {times} | {ratio:.2f} |'


def main(_) -> None:
  every = cp.tasks.facts(seed=0, per_answer=1, hints_per_question=1)
  tasks = {'facts': (every[:: max(1, len(every) // PAIRS.value)], 'reply')}
  if MMLU.value:
    tasks['hint_mmlu'] = cp.tasks.hint_mmlu(seed=0, path=MMLU.value), 'first_token'
  served = cp.load(URL.value, model=MODEL.value, system='')
  own = cp.load(OWN.value)
  print('| task | pairs | same behaviours | and | server, s | here, s | ratio |')
  print('|---|---|---|---|---|---|---|', flush=True)
  for task, (pairs, read) in tasks.items():
    pairs = pairs[: PAIRS.value]
    theirs, _, ours = (ask(x, pairs, read) for x in (served, own, own))
    print(row(task, theirs, ours), flush=True)


if __name__ == '__main__':
  app.run(main)
