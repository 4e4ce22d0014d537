"""The report of several given checkpoints, on records with a planted parting."""

import dataclasses

import numpy as np
import pytest

from coupling.elicit.explanation import INVALID, Explanation
from coupling.report import aggregate
from coupling.report import page
from coupling.report import provenance
from coupling.report import records
from coupling.report import tables
from coupling.report import verdict
from tests import recorded
from tests.pages import Page

RUN = 'kl'


def summarize(workdir, parted):
  """Of one run, whose explanations are none from its last checkpoint on, or as before.

  Nothing was trained: its steps are those of given checkpoints.
  """
  recorded.build(workdir, drift=0.5)
  e = recorded.experiment(1, main=RUN, unregularised='', sibling='', shuffled='')
  e = dataclasses.replace(e, runs={RUN: e.runs[RUN]})
  found = records.read_seed(e, workdir, 0)
  last = found.final(RUN)
  if parted:
    nothing_N = np.full(len(last.group_N), INVALID)
    last = dataclasses.replace(last, stated=Explanation(nothing_N, nothing_N))
  names = {step: f'out/checkpoint-{step}' for step in recorded.STEPS}
  items = {RUN: found.items[RUN] | {recorded.STEPS[-1]: last}}
  found = dataclasses.replace(found, items=items, checkpoints=names)
  train = e.runs[RUN]
  loop = dataclasses.replace(train.loop, steps=0)
  e = dataclasses.replace(e, runs={RUN: dataclasses.replace(train, loop=loop)})
  return aggregate.of_records(e, {0: found}, provenance.provenance(e, workdir))


def rows(summary):
  return {
    x['claim']: x for x in verdict.conclude(summary) if x['part'] == verdict.DRIFT
  }


@pytest.mark.parametrize('parted', [True, False])
def test_the_step_is_in_rows_tables_and_page(tmp_path, parted):
  summary = summarize(tmp_path, parted)
  found = rows(summary)['parted']
  assert summary['audit']
  assert found['state'] == ('supported' if parted else 'inconclusive')
  assert found['about'] == ('checkpoint-20' if parted else '')
  assert summary['drift']['parted']['since'] == (20 if parted else None)
  page.write(tmp_path, summary)
  text = (tmp_path / 'index.html').read_text()
  cells, markdown = Page(text).cells, (tmp_path / 'report.md').read_text()
  for step, entry in summary['drift']['steps'].items():
    for key, show in ((key, show) for _, key, show in tables.table_rows.DRIFT_COLUMNS):
      assert cells[f'drift.steps.{step}.{key}'] == show(entry[key])
    assert f'checkpoint-{step}' in markdown
  said = {label: row[0].text for label, row in tables.drift(summary).rows}
  assert said['checkpoint-10'] == 'no'
  assert said['checkpoint-20'] == ('yes' if parted else 'no')
  assert 'id="figure-drift"' in text and 'id="figure-learning"' in text


def test_similarity_is_held_against_the_papers_condition(tmp_path):
  summary = summarize(tmp_path, False)
  found = rows(summary)['dissimilar']
  last = summary['drift']['steps']['20']['similarity']
  assert found['number'] == last['mean'] and found['reference'] == verdict.SIMILARITY
  assert (found['state'] == 'supported') == (last['high'] < verdict.SIMILARITY)
  assert found['state'] != 'contradicted' or last['low'] > verdict.SIMILARITY


def test_other_reports_have_no_drift(tmp_path):
  recorded.build(tmp_path)
  summary = aggregate.summarize(recorded.experiment(1), tmp_path)
  assert 'drift' not in summary and not rows(summary)
