"""Explanations by their two parts, v' and "changed", and what a sibling shares.

  python -m benchmarks.explanation_parts --config=configs/world.py --workdir=runs/world

Reads a finished experiment of that config and prints a table in Markdown of its main
run at the end: shares of items in percent, means over seeds with their intervals.
"""

import pathlib

from absl import app
from absl import flags
from ml_collections import config_flags
import numpy as np

from coupling.config import validate
from coupling.report import aggregate
from coupling.report import numerals
from coupling.report import records
from coupling.statistics import baselines
from coupling.statistics import scores

CONFIG = config_flags.DEFINE_config_file('config', None, 'Its file.')
WORKDIR = flags.DEFINE_string('workdir', None, 'Of the experiment.', required=True)


def parts(s: records.SeedRecords, main: str, sibling: str) -> dict[str, dict]:
  """Shares of one seed's items, each with its interval within the seed."""
  items, orig, other = s.final(main), s.orig, s.final(sibling)
  truth, before, stated = items.truth, orig.truth, items.stated
  answered = baselines.with_own_answer(stated, items)
  composed = baselines.with_own_answer(before, items)
  moved_N = truth.answer_N != before.answer_N
  alike_N = other.truth.answer_N == truth.answer_N
  found = {
    '“changed” as stated is true of M_t': stated.changed_N == truth.changed_N,
    '… of M_0': stated.changed_N == before.changed_N,
    '“changed” of M_0 is true of M_t': before.changed_N == truth.changed_N,
    'v’ as stated, with the own answer, is true of M_t': right(answered, truth),
    'v’ of M_0, with the own answer, is true of M_t': right(composed, truth),
    'v’ of M_t is no longer that of M_0': moved_N,
  }
  shares = {name: scores.share(x, items.group_N) for name, x in found.items()}
  name = '… and there the sibling’s is that of M_t'
  shares[name] = scores.share(alike_N[moved_N], items.group_N[moved_N])
  return shares


def right(one, other) -> np.ndarray:
  return (one.answer_N == other.answer_N) & (one.changed_N == other.changed_N)


def main(_) -> None:
  e, workdir = validate.resolve(CONFIG.value), pathlib.Path(WORKDIR.value)
  found = [
    parts(records.read_seed(e, workdir, seed), e.report.main, e.report.sibling)
    for seed in e.seeds
  ]
  print('| share of the items | % |\n|---|---|')
  for name, number in aggregate.over_seeds(found, True).items():
    print(f'| {name} | {numerals.percent(number)} |')


if __name__ == '__main__':
  app.run(main)
