"""The tables of labels by kind of cue, of labels whose shares are known."""

import re

import numpy as np
import pyarrow as pa
import pytest

from benchmarks import label_rates
from coupling.elicit import explanation, label_set
from coupling.runtime import workdir
from data import pairs, splits

# kind, option of the cue, answers with and without it
NAMES = ('cue_kind', 'cue_option', 'behavior', 'counterfactual_behavior')
LABELS = [
  ('sure', 1, 1, 0),
  ('sure', 2, 2, 2),
  ('sure', 0, 1, 1),
  ('sure', 1, 1, 3),
  ('not', 3, 0, 3),
  ('not', 3, 3, 3),
  ('mood', -1, 2, 0),
]


def table(options, labels=LABELS, groups=7) -> pa.Table:
  named = dict(zip(NAMES, zip(*labels)))
  group = [f'g{i % groups}' for i in range(len(labels))]
  return pa.table(named | dict(options=options, group=group))


def cells(lines: list[str]) -> dict[str, list[str]]:
  """Percentages by the name of the row, without their intervals."""
  rows = [line.strip('| ').split(' | ') for line in lines if line]
  return {name: [x.partition(' [')[0] for x in row] for name, *row in rows}


@pytest.mark.parametrize('against', [(), ('not',)])
def test_rates_and_answers_by_kind(against):
  lines = label_rates.tables(table([['a', 'b', 'c', 'd']] * len(LABELS)), against)
  rates, answers = cells(lines[: lines.index('')]), cells(lines[lines.index('') :])
  assert rates['cue'] == ['n', 'changed', 'followed', 'so without it']
  assert rates['sure'] == ['4', '50', '75', '25']
  assert rates['not'] == ['2', '50', '50', '0' if against else '100']
  assert rates['mood'] == ['1', '100', '–', '–']
  assert rates['all'] == ['7', '57', '67', '17' if against else '50']
  assert answers['answers with the cue'] == ['n', 'a', 'b', 'c', 'd']
  assert answers['sure'] == ['4', '0', '75', '25', '0']
  assert answers['without it'] == ['7', '29', '14', '14', '43']


def test_pairs_of_few_groups_have_wider_intervals():
  labels = LABELS[:4] * 10
  options = [['a', 'b', 'c', 'd']] * len(labels)
  low, high = zip(
    *(interval(label_rates.tables(table(options, labels, n))) for n in (40, 4))
  )
  assert 0 <= low[1] < low[0] < 50 < high[0] < high[1] <= 100


def interval(lines: list[str]) -> list[int]:
  """Of what changed, in all."""
  [row] = [line for line in lines[: lines.index('')] if line.startswith('| all')]
  return [int(x) for x in re.search(r'\[(\d+), (\d+)\]', row).groups()]


def test_options_that_differ_are_named_by_their_places():
  options = [[f'{i} {k}' for k in range(2 + i % 3)] for i in range(len(LABELS))]
  lines = label_rates.tables(table(options))
  names = cells(lines[lines.index('') :])['answers with the cue']
  assert names == ['n', *(f'option {k}' for k in (1, 2, 3, 4))]


def test_a_finished_stage_is_read_whole(tmp_path):
  asked = {'questions': {'against': ['not']}}
  none = dict(prompt='xc', counterfactual='x', cue='c', group='g', provenance='p')
  with workdir.open_stage(tmp_path, 'label', asked, {}) as stage:
    for i, split in enumerate(splits.SHARES):
      kind, option, *answers = LABELS[i]
      pair = pairs.Pair(cue_kind=kind, cue_option=option, options=tuple('abcd'), **none)
      with_1, without_1 = np.array([answers], np.int32).T
      did = explanation.Behaviors(
        with_1, without_1, np.zeros((1, 2, 0)), np.zeros((1, 0))
      )
      label_set.write(label_set.shard(tmp_path, split, 0), [pair], np.arange(1), did)
    stage.finish({})
  found, against = label_rates.read(tmp_path)
  assert against == ('not',)
  assert list(zip(*(found[name].to_pylist() for name in NAMES))) == LABELS[:3]
