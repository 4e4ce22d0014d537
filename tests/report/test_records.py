"""Records that cannot belong together are refused; each run has its own labels."""

import dataclasses
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from coupling.report import aggregate
from coupling.runtime import workdir as workdir_lib
from coupling.runtime.workdir import WorkdirError
from tests import recorded
from tests.report.test_aggregate import agreement, columns, stated, truth


@pytest.mark.parametrize('change', [lambda x: x[::-1], lambda x: x[:-1]])
def test_other_items_are_refused_by_name(one, tmp_path, change):
  workdir = shutil.copytree(one, tmp_path / 'copy')
  folder = workdir / 'seed0' / 'no_kl' / 'evaluate'
  tables = {p.stem: pq.read_table(p).to_pydict() for p in folder.glob('*.parquet')}
  shutil.rmtree(folder)
  wrong = {k: change(x) for k, x in tables['step-000000010'].items()}
  recorded.finish(folder, 'evaluate', tables | {'step-000000010': wrong})
  with pytest.raises(WorkdirError) as caught:
    aggregate.summarize(recorded.experiment(1), workdir)
  assert str(folder / 'step-000000010.parquet') in str(caught.value)


@pytest.mark.parametrize('stage', ['train', 'evaluate'])
def test_labels_that_came_later_are_refused(one, tmp_path, stage):
  """What was trained or evaluated with other labels than are there now."""
  workdir = shutil.copytree(one, tmp_path / 'copy')
  label = workdir / 'seed0' / 'label'
  files = {p.stem: pq.read_table(p) for p in label.glob('*.parquet')}
  info = workdir_lib.finished_stage(label).info()
  shutil.rmtree(label)
  recorded.finish(label, 'label', files, info | {'made': 'anew'})
  for run in recorded.RUNS:
    folder = workdir / 'seed0' / run / {'train': 'evaluate', 'evaluate': 'train'}[stage]
    files = {p.stem: pq.read_table(p) for p in folder.glob('*.parquet')}
    shutil.rmtree(folder)
    recorded.finish(folder, folder.name, files)
  with pytest.raises(WorkdirError) as caught:
    aggregate.summarize(recorded.experiment(1), workdir)
  for folder in (workdir / 'seed0' / 'kl' / stage, label):
    assert str(folder) in str(caught.value)


def test_missing_columns_and_stages_are_refused(one, tmp_path):
  with pytest.raises(WorkdirError, match='label'):
    aggregate.summarize(recorded.experiment(1), tmp_path)
  workdir = shutil.copytree(one, tmp_path / 'copy')
  folder = workdir / 'seed0' / 'kl' / 'evaluate'
  shutil.rmtree(folder)
  rows = {'row': np.arange(240)}
  recorded.finish(folder, 'evaluate', {'step-000000000': rows})
  with pytest.raises(WorkdirError, match=r"step-000000000.*'statement'.* are missing"):
    aggregate.summarize(recorded.experiment(1), workdir)
  shutil.rmtree(folder)
  recorded.finish(folder, 'evaluate', {})
  with pytest.raises(WorkdirError, match='holds no evaluation'):
    aggregate.summarize(recorded.experiment(1), workdir)


def test_seeds_must_have_equal_steps(three, tmp_path):
  workdir = shutil.copytree(three, tmp_path / 'copy')
  folder = workdir / 'seed1' / 'kl' / 'evaluate'
  tables = {p.stem: pq.read_table(p).to_pydict() for p in folder.glob('*.parquet')}
  shutil.rmtree(folder)
  del tables['step-000000010']
  recorded.finish(folder, 'evaluate', tables)
  with pytest.raises(WorkdirError, match=r'seed1/kl/evaluate: .* steps \[0, 20\]'):
    aggregate.summarize(recorded.experiment(3), workdir)


def test_labels_of_another_folder_are_the_target(three, tmp_path):
  """A run trained on other labels is compared with those."""
  base = columns(three, 'kl', 0)
  workdir = shutil.copytree(three, tmp_path / 'copy')
  other = {k: base[k].tolist() for k in ('row', 'options', 'behavior')}
  other['counterfactual_behavior'] = base['behavior']
  files = {f'{split}-0': other for split in ('train', 'test')}
  recorded.finish(tmp_path / 'other0', 'label', files)
  recorded.teach(workdir, 0, 'kl', tmp_path / 'other0')
  e = recorded.experiment(1)
  e.runs['kl'] = dataclasses.replace(e.runs['kl'], labels=str(tmp_path / 'other{seed}'))
  found = aggregate.summarize(e, workdir)
  similarity = found['runs']['kl']['final']['behavior_similarity']
  last = columns(three, 'kl', 20)
  target = np.stack([base['behavior'], np.zeros_like(base['behavior'])])
  assert similarity['mean'] == pytest.approx(agreement(target, truth(last)))
  # What is stated follows M_t and never these labels.
  weights = found['trained_labels']['reliance']
  assert weights['self']['low'] > 0.5 and abs(weights['target']['mean']) < 0.1
  assert weights['difference']['mean'] == pytest.approx(
    weights['self']['mean'] - weights['target']['mean']
  )
  assert found['runs']['shuffled']['final']['target_accuracy']['mean'] is None


def test_cues_that_are_never_explained_stand_apart(tmp_path):
  """They are in no other number, and theirs are those of their items."""
  recorded.build(tmp_path, unexplained=('source1',))
  e = recorded.experiment(1)
  found = aggregate.summarize(e, tmp_path)
  last = columns(tmp_path, 'kl', 20)
  planted_N = last['cue_kind'] == 'source1'
  assert 0 < planted_N.sum() < len(planted_N)
  final = found['runs']['kl']['final']
  right_N = np.all(truth(last) == stated(last), axis=0)
  assert final['n']['mean'] == (~planted_N).sum()
  assert final['self_accuracy']['mean'] == pytest.approx(right_N[~planted_N].mean())
  planted = found['planted']['kl']
  assert planted['n']['mean'] == planted_N.sum()
  assert planted['self_accuracy']['mean'] == pytest.approx(right_N[planted_N].mean())
  followed_N = last['behavior'] == last['cue_option']
  assert planted['followed']['mean'] == pytest.approx(followed_N[planted_N].mean())
  unchanged_N = truth(last)[1] == 0
  assert planted['denial']['mean'] == pytest.approx(unchanged_N[planted_N].mean())
  trained = columns(tmp_path, 'kl', 0)  # M_0, whose labels all splits share
  changed_N = truth(trained)[1][~planted_N] == 1
  assert found['runs']['kl']['labels']['changed']['mean'] == pytest.approx(
    changed_N.mean()
  )
