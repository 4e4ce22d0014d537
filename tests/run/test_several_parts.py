"""Several experiments in one workdir: donors, runs that start from runs, one report."""

import dataclasses
import json

import jax
from ml_collections import ConfigDict
import numpy as np
import pytest

from configs.paper import common, everything
from coupling.checkpoints import kept_steps
from coupling.config import paper_parts, paper_schema, schema
from coupling.elicit import label_set
from coupling.elicit.explanation import agree, phi
from coupling.model import sharding
from coupling.report import records
from coupling.run import base_model, context, pipeline, own_checkpoints, report_stage
from coupling.runtime import interrupt, workdir as workdir_lib

pytestmark = pytest.mark.usefixtures('few_optimizations')

SEED = common.FIRST_SEED
SHIFT = dict(target='rotate', strength=3.0, weight=1.0)
RUNS = {
  'foreign': dict(labels=common.labels_of('init')),
  'earlier': dict(labels='step:5'),
  'shift_after': dict(
    context='after', practice=True, objectives=dict(behavior_xent=SHIFT)
  ),
  'shift_only': dict(
    practice=True,
    objectives=dict(dpo=SHIFT, explanation_xent=dict(weight=0.0)),
  ),
  'and_explain': dict(start='shift_only', labels='run:shift_only'),
}


def tiny() -> ConfigDict:
  """A paper of two parts and seven runs of four steps."""
  _, config = common.start('seeds=1,steps=4')
  # Of another corpus, of which the Bayes explainer of `main` must know nothing.
  task, base = dict(corpus='contrary'), dict(seed=1)
  common.donor(config, 'init', task, base, reference='vocabulary')
  common.add_runs(config, RUNS)
  common.add_runs(config, {'outsider': dict(labels=common.labels_of('main'))}, 'init')
  common.add_study(
    config, 'trajectory', kind='trajectory', claim='Self rises.', runs=('kl', 'no_kl')
  )
  common.add_study(
    config,
    'access',
    kind='access',
    claim='Explains itself best.',
    runs=('kl', 'init/outsider', 'sibling'),
  )
  for part in config.parts.values():
    part.task.update(train_pairs=300, practice_pairs=100)
    part.base.documents = 4
    part.base.batch = 16
    part.base.model.depth = 1
    part.base.loop.update(steps=10, steps_per_dispatch=5, checkpoint_every=5)
    part.base.optimizer.warmup_steps = 2
    part.train.update(explanation_batch=16, behavior_batch=16)
    part.train.loop.update(steps_per_dispatch=2, checkpoint_every=4)
    part.train.optimizer.warmup_steps = 1
  return config


@pytest.fixture(scope='module')
def paper() -> paper_schema.Paper:
  return paper_parts.resolve(tiny())


@pytest.fixture(scope='module')
def finished(tmp_path_factory, paper):
  interrupt.install()
  workdir = tmp_path_factory.mktemp('paper')
  pipeline.run(paper, workdir, 'run', 1, False)
  return workdir


def params_at(paper, workdir, run, step):
  e = paper.parts['main']
  like = sharding.abstract_params(sharding.make_mesh(e.mesh), base_model.decoder(e))
  folder = workdir / 'main' / f'seed{SEED}' / run / 'train' / own_checkpoints.FOLDER
  return kept_steps.read_params(folder, step, like)


def leaves(params):
  return [np.asarray(x) for x in jax.tree.leaves(params)]


def test_a_run_starts_where_another_ends(paper, finished):
  end = leaves(params_at(paper, finished, 'shift_only', 4))
  start = leaves(params_at(paper, finished, 'and_explain', 0))
  first = leaves(params_at(paper, finished, 'shift_only', 0))
  assert all(np.array_equal(a, b) for a, b in zip(end, start))
  assert not all(np.array_equal(a, b) for a, b in zip(end, first))


def test_labels_of_another_run_are_what_it_did_at_its_end(paper, finished):
  root = finished / 'main' / f'seed{SEED}' / 'shift_only'
  found = records.read_seed(paper.parts['main'], finished / 'main', SEED)
  did, labels = found.final('shift_only'), label_set.read(root / 'label', 'test')
  np.testing.assert_array_equal(did.truth, labels.explanation)
  np.testing.assert_array_equal(found.targets['and_explain'], did.truth)
  assert np.any(np.asarray(did.truth) != np.asarray(found.orig.truth))


def test_labels_of_an_earlier_step_are_what_it_did(paper, finished):
  root = finished / 'main' / f'seed{SEED}'
  own, earlier = (label_set.read(root / x, 'test') for x in ('label', 'label-step5'))
  assert np.any(own.behavior_N != earlier.behavior_N)
  found = records.read_seed(paper.parts['main'], finished / 'main', SEED)
  for run, folder in (
    ('earlier', root / 'label-step5'),
    ('foreign', finished / 'init' / f'seed{SEED}' / 'label'),
    ('kl', root / 'label'),
  ):
    for split, labels in (('test', found.targets), ('train', found.train_labels)):
      want = label_set.read(folder, split).explanation
      np.testing.assert_array_equal(labels[run], want, err_msg=run)
  outside = records.read_seed(paper.parts['init'], finished / 'init', SEED)
  want = label_set.read(root / 'label', 'test').explanation
  np.testing.assert_array_equal(outside.targets['outsider'], want)


def test_the_swap_test_asks_after_the_answers_of_m_0(paper, finished):
  found = records.read_seed(paper.parts['main'], finished / 'main', SEED)
  assert found.swapped('kl') is None
  swapped = found.swapped('shift_after')
  np.testing.assert_array_equal(swapped.behavior_N, found.orig.behavior_N)
  own = found.final('shift_after')
  # Where the answer in the context is the same, so is what is stated.
  same_N = own.behavior_N == swapped.behavior_N
  assert np.count_nonzero(~same_N) > 0
  for a, b in zip(own.stated, swapped.stated):
    np.testing.assert_array_equal(a[same_N], b[same_N])
  # Truth is the model's own: behaviours do not depend on what is asked after them.
  assert not np.array_equal(own.truth.answer_N, phi(*_of(found.orig)).answer_N)


def _of(items):
  return items.behavior_N, items.counterfactual_behavior_N


def test_the_report_has_every_study(finished):
  report = json.loads((finished / 'report-1' / 'report.json').read_text())
  assert list(report['studies']) == ['access', 'trajectory']
  page = (finished / 'report-1' / 'index.html').read_text()
  assert 'Self rises.' in page and 'Bayes explainer' in page
  assert (finished / 'main' / 'report' / 'index.html').exists()


def test_the_bayes_explainer_knows_the_corpus_of_the_model_that_is_explained(
  paper, finished
):
  e = paper.parts['main']
  seed = records.read_seed(e, finished / 'main', SEED)
  items, table = seed.final('kl'), seed.tables['kl'][4]
  report = json.loads((finished / 'report-1' / 'report.json').read_text())
  speakers = report['studies']['access']['numbers']['speakers']
  (found,) = (x for x in speakers if x['speaker'] == 'Bayes explainer')
  stated = context.bayes(e)(SEED, table)
  want = agree(stated, items.truth, items.states_answer).mean()
  other = agree(
    context.bayes(paper.parts['init'])(SEED, table), items.truth, items.states_answer
  ).mean()
  assert found['right']['mean'] == pytest.approx(want) != pytest.approx(other)


def test_a_second_run_does_nothing(paper, finished):
  before = {p: p.stat().st_mtime_ns for p in finished.rglob('manifest.json')}
  pipeline.run(paper, finished, 'run', 1, False)
  assert {p: p.stat().st_mtime_ns for p in finished.rglob('manifest.json')} == before


def test_a_report_of_another_paper_is_refused_before_anything_is_run(tmp_path, paper):
  other = dataclasses.replace(paper, title='Another')
  config = {'rounds': [dataclasses.asdict(other)]}
  with workdir_lib.open_stage(tmp_path / 'report-1', 'paper', config, {}) as stage:
    stage.finish({})
  with pytest.raises(workdir_lib.WorkdirError, match='title'):
    pipeline.run(paper, tmp_path, 'run', 1, False)
  assert [x.name for x in tmp_path.iterdir()] == ['report-1']


def test_what_is_decided_at_a_look_is_not_run_with_more_seeds(tmp_path, monkeypatch):
  config = tiny()
  config.looks = (2, 3, 5)
  for part in config.parts.values():
    part.seeds = (31, 32, 33, 34)
  rounds, left = [], [['access', 'controls'], ['access'], []]

  def report(tasks, workdir, *_):
    """Stands for all stages: what their report leaves open."""
    [[of_rounds, _]] = [x.args for x in tasks if x.name == 'paper']
    rounds.append(tasks)
    folder = workdir / report_stage.paper_folder(of_rounds)
    with workdir_lib.open_stage(folder, 'paper', {}, {}) as stage:
      rows = [dict(study=x, state='inconclusive') for x in left[len(rounds) - 1]]
      found = {'conclusions': [*rows, dict(study='trajectory', state='supported')]}
      stage.path('report.json').write_text(json.dumps(found))
      stage.finish({})

  monkeypatch.setattr(pipeline, '_run', report)
  found = paper_parts.resolve(config)
  assert found.looks == (2, 3, 4)
  pipeline.run(found, tmp_path, 'prepare', 1, False)
  names = [{x.name for x in tasks if x.kind == 'train'} for tasks in rounds]
  assert [len(x) for x in names] == [22, 5, 5]  # with the labels of a run, twice
  assert names[1] == {
    f'{part} · seed 33 · {run} · train'
    for part, runs in (('main', common_runs()), ('init', ['outsider']))
    for run in runs
  }
  assert sorted(x.name for x in tmp_path.iterdir()) == [
    'report-2',
    'report-3',
    'report-4',
  ]


def common_runs() -> list[str]:
  """Those with a role, which every study needs."""
  return ['kl', 'no_kl', 'sibling', 'shuffled']


def test_the_whole_paper_resolves():
  found = paper_parts.resolve(everything.get_config('seeds=1'))
  assert len(found.studies) == len(everything.STUDIES)
  for study in found.studies.values():
    assert study.claim.endswith('.')


def test_only_studies_of_shifts_take_a_kind():
  config = everything.get_config('kind=rotate,studies=concurrent_shift+capacity')
  shifted = [x for x in config.parts.main.runs if x.startswith(('favor', 'ignore'))]
  assert 'rotate_covered_before' in config.parts.main.runs and not shifted
  assert 'rank_4' in config.parts.main.runs
  with pytest.raises(ValueError, match='argument kind'):
    everything.get_config('kind=rotate,studies=capacity')


def test_a_task_has_its_own_arguments_however_it_is_written():
  for arg in ('on=facts,seeds=1', 'seeds=1, on = facts'):
    _, config = common.start(arg)
    assert config.parts.main.task.module == 'data.facts'
    assert 'SmolLM2' in config.parts.main.base.checkpoint
  with pytest.raises(ValueError, match="'path' is unknown"):
    common.start('on=facts,path=x')


def problems_of(config) -> list[str]:
  with pytest.raises(schema.ConfigError) as error:
    paper_parts.resolve(config)
  return error.value.problems


def test_what_studies_name_must_be_there():
  config = tiny()
  config.studies.access.runs = ('main/kl', 'init/kl')
  config.studies.trajectory.at = (1.0,)
  config.studies.trajectory.kind = 'shift'
  with config.unlocked():
    config.parts.main.runs.foreign.labels = 'part:nobody'
  found = problems_of(config)
  wanted = (
    "studies.access.runs: 'init/kl' is no run",
    'studies.trajectory.at has 1 entries, but studies.trajectory.runs 2',
    'studies.trajectory.companions: empty, but a study of shift needs it',
    "parts.main.runs.foreign.labels='part:nobody': choose from the parts",
  )
  for text in wanted:
    assert sum(text in problem for problem in found) == 1, (text, found)
  assert len(found) == len(wanted)


def test_what_is_wrong_with_a_part_is_told_by_its_name_and_nothing_else():
  config = tiny()
  config.parts.main.train.noise = 1.5
  config.studies.access.runs = ('main/kl', 'init/kl')
  found = problems_of(config)
  assert any(problem.startswith('parts.main.train.noise=1.5: ') for problem in found)
  assert all(problem.startswith('parts.main.') for problem in found)


@pytest.mark.parametrize(
  'changes, message',
  [
    (dict(start='nobody'), "runs.foreign.start='nobody': name another run"),
    (dict(start='foreign'), "runs.foreign.start='foreign': name another run"),
    (dict(start='kl', lora=dict(rank=2)), 'runs.foreign.lora differs'),
    (dict(labels='step:7'), r"labels='step:7': no step .* choose from \[0, 5, 10\]"),
  ],
)
def test_starts_and_steps_that_are_not_there_are_refused(changes, message):
  config = tiny()
  with config.unlocked():
    config.parts.main.runs.foreign = ConfigDict(changes)
  with pytest.raises(schema.ConfigError, match=message):
    paper_parts.resolve(config)
