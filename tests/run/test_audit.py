"""Audits: a checkpoint is scored against a label set, and nothing is trained."""

import dataclasses
import json
import pathlib

from ml_collections import ConfigDict
import numpy as np
import pyarrow.parquet as pq
import pytest

from configs import audit, hint_mmlu, published_hints, world
from coupling.config import schema, validate
from coupling.elicit import label_set
from coupling.run import base_model, export_stage, other_labels, pipeline
from coupling.run import own_checkpoints
from coupling.runtime import workdir as workdir_lib
from tests import chat_checkpoints, published

pytestmark = pytest.mark.usefixtures('few_optimizations')

STEPS = 8
WORLD_SEED, SEED = 1, 0  # of the two experiments below
ANSWERS = 'CB', 'AA', 'DA'  # published in turn: with the hint and without


def small(config, steps=STEPS):
  """The same experiment, in seconds."""
  loop = dict(steps=steps, steps_per_dispatch=1, checkpoint_every=4)
  config.train.loop.update(loop)
  config.train.optimizer.warmup_steps = 0
  if 'loop' in config.base:  # the world
    config.task.train_pairs = 256
    config.base.documents = 2
    config.base.loop.update(loop | dict(steps=2))
    config.base.optimizer.warmup_steps = 0
    config.base.model.depth = 1
  else:
    config.train.optimizer.learning_rate = 0.03  # moves answers in a few steps
    config.train.update(explanation_batch=8, behavior_batch=8)
    config.label.batch = config.evaluate.batch = 64
  return config


def run(config, workdir: pathlib.Path, stage='run') -> schema.Experiment:
  e = validate.resolve(config)
  pipeline.run(e, workdir, stage, workers=1, follow=False)
  return e


def audit_config(checkpoint, labels, seed, task='hint_mmlu', **arguments):
  """configs/audit.py, as a user calls it, with the small batches."""
  given = dict(task=task, model='local', checkpoint=checkpoint, labels=labels)
  given |= dict(seed=seed) | arguments
  config = audit.get_config(','.join(f'{k}={v}' for k, v in given.items()))
  if task == 'world':
    config.task.train_pairs = 256
  else:
    config.label.batch = config.evaluate.batch = 64
  return config


@pytest.fixture(scope='module')
def root(tmp_path_factory) -> pathlib.Path:
  return tmp_path_factory.mktemp('audit')


@pytest.fixture(scope='module')
def of_world(root) -> pathlib.Path:
  """A trained world: run no_kl, steps 0, 4 and 8."""
  run(small(world.get_config('seeds=1,kl=0')), root / 'world')
  return root / 'world'


def of_questions(root, **base) -> ConfigDict:
  """On a file of questions: training of the upper layer's adapters, of all weights."""
  config = hint_mmlu.get_config(
    f'model=local,checkpoint={root / "qwen"},path={root / "q.csv"},seeds=1,rank=4,'
    f'steps={STEPS},kl=0'
  ).unlock()
  config.runs = {'adapters': dict(lora=dict(layers=1)), 'all': dict(lora=dict(rank=0))}
  config.report.main = 'adapters'
  config.base = base or config.base
  return small(config)


@pytest.fixture(scope='module')
def of_qwen(root) -> pathlib.Path:
  """A small Qwen3 checkpoint, trained in both ways; its questions lie beside it."""
  chat_checkpoints.save(root / 'qwen')
  chat_checkpoints.save_questions(root / 'q.csv')
  for stage in ('prepare', 'base', 'label', 'train', 'evaluate', 'export'):
    run(of_questions(root), root / 'trained', stage)
  return root / 'trained'


def step_of(workdir, name='no_kl', step=STEPS) -> str:
  return f'{workdir}/seed{{seed}}/{name}/train/checkpoints/{step}'


def labels_of(workdir) -> str:
  return f'{workdir}/seed{{seed}}/label'


def evaluated(workdir, name, step, seed) -> tuple[dict, dict]:
  """Counts and records of an evaluation."""
  folder = workdir / f'seed{seed}' / name / 'evaluate'
  counts = json.loads((folder / f'counts-{step:09d}.json').read_text())
  records = pq.read_table(folder / f'step-{step:09d}.parquet').to_pydict()
  return counts, {name: np.array(x) for name, x in records.items()}


def check_same(audited, own):
  """The audit found, item by item, what the run's own evaluation had found."""
  counts, records = audited
  assert counts == own[0]
  assert records.keys() == own[1].keys()
  for name, values in own[1].items():
    np.testing.assert_array_equal(records[name], values, name)


def check_moved(workdir, name, step, seed):
  """Training changed something that an audit of another step would not show."""
  first, last = (evaluated(workdir, name, s, seed)[1] for s in (0, step))
  assert np.any(first['option_logprobs'] != last['option_logprobs'])
  assert np.any(first['statement'] != last['statement'])


@pytest.fixture(scope='module')
def audited(of_world) -> tuple[schema.Experiment, pathlib.Path]:
  """An audit of a step that is not the last."""
  config = audit_config(
    step_of(of_world, step=4), labels_of(of_world), WORLD_SEED, 'world'
  )
  workdir = of_world.parent / 'audited'
  return run(config, workdir), workdir


def test_an_audit_of_a_world_checkpoint_is_its_own_evaluation(of_world, audited):
  e, workdir = audited
  check_moved(of_world, 'no_kl', 4, WORLD_SEED)
  found = evaluated(workdir, 'audited', 0, WORLD_SEED)
  check_same(found, evaluated(of_world, 'no_kl', 4, WORLD_SEED))
  assert found[0]['moved'] > 0  # or swapping Self and Orig would not be seen
  there, here = (
    json.loads((w / 'report' / 'report.json').read_text()) for w in (of_world, workdir)
  )
  final = there['runs']['no_kl']['over_seeds']['4']
  last = here['runs']['audited']['final']
  assert {k: x for k, x in last.items() if k != 'field'} == final  # of last steps alone
  assert not (workdir / f'seed{WORLD_SEED}' / 'audited' / 'train/checkpoints').exists()
  with pytest.raises(schema.ConfigError, match='run audited has no steps'):
    export_stage.export(e, workdir, WORLD_SEED, 'audited')


@pytest.mark.parametrize('checkpoint', ['adapters', 'export'])
def test_audits_of_adapters_and_of_exported_weights(of_qwen, tmp_path, checkpoint):
  trained_by = 'all' if checkpoint == 'export' else checkpoint
  folder = step_of(of_qwen, trained_by)
  if checkpoint == 'export':
    folder = of_qwen / 'seed0' / 'all' / 'export' / 'model'
  path = of_qwen.parent / 'q.csv'
  run(audit_config(folder, labels_of(of_qwen), SEED, path=path), tmp_path)
  check_moved(of_qwen, trained_by, STEPS, SEED)
  own = evaluated(of_qwen, trained_by, STEPS, SEED)
  check_same(evaluated(tmp_path, 'audited', 0, SEED), own)


def test_labels_are_taken_over_and_their_source_and_the_checkpoint_are_inputs(
  of_world, audited
):
  root, here = (w / f'seed{WORLD_SEED}' for w in (of_world, audited[1]))
  for stage, key, source in (
    ('base', 'trained', root / 'no_kl' / 'train'),
    ('label', 'source', root / 'label'),
  ):
    manifest = json.loads((here / stage / 'manifest.json').read_text())
    digest = workdir_lib.finished_stage(source).digest
    assert manifest['inputs'][key] == digest
  for split in ('train', 'validation', 'test'):
    there, taken = (label_set.read(x / 'label', split) for x in (root, here))
    for name in ('behavior_N', 'counterfactual_behavior_N'):
      np.testing.assert_array_equal(getattr(taken, name), getattr(there, name))
    assert len(set(there.counterfactual_behavior_N)) > 1
    assert taken.logprobs_Nx2xS.shape[2] == 0  # no model was asked


def test_steps_that_are_not_kept_are_listed(of_world):
  base = schema.Trained(step=step_of(of_world, step=3))
  with pytest.raises(schema.ConfigError, match=r'base\.step=.*\[0, 4, 8\]'):
    own_checkpoints.find(base, WORLD_SEED)


def test_other_folders_are_no_checkpoints(of_world, tmp_path):
  for folder in (of_world, tmp_path / 'train/checkpoints/4', 'checkpoints/4', '4', ''):
    with pytest.raises(schema.ConfigError, match='not a checkpoint that this prog'):
      own_checkpoints.find(schema.Trained(step=str(folder)), WORLD_SEED)


def test_an_unfinished_training_is_refused(tmp_path):
  folder = tmp_path / 'seed0' / 'kl' / 'train'
  with workdir_lib.open_stage(folder, 'train', {}, {}):
    pass  # killed here
  base = schema.Trained(step=str(folder / 'checkpoints' / '4'))
  with pytest.raises(workdir_lib.WorkdirError, match='train is not finished'):
    own_checkpoints.find(base, 0)


def recorded(root, name, config, needs):
  """A finished stage without files."""
  folder = root / 'seed0' / name
  with workdir_lib.open_stage(folder, folder.name, config, needs) as stage:
    stage.finish({})
  return stage


def test_a_manifest_of_another_version_is_named(tmp_path):
  """Its fields are not those of this version's config."""
  config = dict(base=dict(checkpoint='x', colour='red'), seed=0)
  base = recorded(tmp_path, 'base', config, {})
  lora = dict(rank=0, alpha=1.0, targets=('q',))
  recorded(tmp_path, 'kl/train', dict(train=dict(lora=lora)), {'base': base})
  step = tmp_path / 'seed0/kl/train/checkpoints/4'
  step.mkdir(parents=True)
  with pytest.raises(workdir_lib.WorkdirError, match='base.colour') as refused:
    own_checkpoints.find(schema.Trained(step=str(step)), 0)
  assert str(tmp_path / 'seed0/base/manifest.json') in str(refused.value)


def test_a_base_that_was_made_anew_is_refused(tmp_path):
  base = recorded(tmp_path, 'base', dict(seed=0), {})
  recorded(tmp_path, 'kl/train', {}, {'base': base})
  (tmp_path / 'seed0/base/manifest.json').unlink()
  recorded(tmp_path, 'base', dict(seed=1), {})
  step = tmp_path / 'seed0/kl/train/checkpoints/4'
  step.mkdir(parents=True)
  with pytest.raises(workdir_lib.WorkdirError, match='trained from another .*base'):
    own_checkpoints.find(schema.Trained(step=str(step)), 0)


def test_a_checkpoint_that_was_trained_anew_is_refused(of_world, audited):
  """The base stage says of which training it took note."""
  e, workdir = audited
  base_model.base_params(e, workdir, WORLD_SEED)
  other = small(world.get_config('seeds=1,kl=0'), steps=2)
  for stage in ('prepare', 'base', 'label', 'train'):
    run(other, of_world.parent / 'other', stage)
  step = step_of(of_world.parent / 'other', step=2)
  changed = dataclasses.replace(e, base=schema.Trained(step=step))
  with pytest.raises(workdir_lib.WorkdirError, match='the training .* changed since'):
    base_model.base_params(changed, workdir, WORLD_SEED)


def test_adapters_are_not_trained_further(of_qwen, tmp_path):
  config = of_questions(of_qwen.parent, step=step_of(of_qwen, 'adapters'))
  with pytest.raises(schema.ConfigError, match='not be trained further') as refused:
    run(config, tmp_path)
  assert "['adapters', 'all']" in str(refused.value) and 'merge' in str(refused.value)
  assert not list(tmp_path.rglob('*.parquet'))


def test_training_goes_on_from_a_checkpoint_of_all_weights(of_world, tmp_path):
  """Step 0 is that checkpoint, and its behaviours are the labels."""
  config = small(world.get_config('seeds=1,kl=0'), steps=2).unlock()
  config.base = dict(step=step_of(of_world))
  run(config, tmp_path)
  _, own = evaluated(of_world, 'no_kl', STEPS, WORLD_SEED)
  _, first = evaluated(tmp_path, 'no_kl', 0, WORLD_SEED)
  _, last = evaluated(tmp_path, 'no_kl', 2, WORLD_SEED)
  np.testing.assert_array_equal(first['option_logprobs'], own['option_logprobs'])
  assert np.any(last['option_logprobs'] != own['option_logprobs'])
  labels = label_set.read(tmp_path / f'seed{WORLD_SEED}' / 'label', 'test')
  np.testing.assert_array_equal(labels.behavior_N, own['behavior'])
  # Its own checkpoints can be audited in their turn.
  run(
    audit_config(step_of(tmp_path, step=2), labels_of(tmp_path), WORLD_SEED, 'world'),
    tmp_path / 'again',
  )
  check_same(
    evaluated(tmp_path / 'again', 'audited', 0, WORLD_SEED),
    evaluated(tmp_path, 'no_kl', 2, WORLD_SEED),
  )


@pytest.fixture(scope='module')
def of_answers(of_qwen) -> pathlib.Path:
  """An audit of the small checkpoint against published answers; its data beside it."""
  folder = of_qwen.parent / 'published'
  folder.mkdir()
  rows = [published.row(i, 'ABCD'[i % 4], *ANSWERS[i % 3]) for i in range(60)]
  published.write(folder, rows)
  config = audit_config(
    of_qwen.parent / 'qwen', 'task', SEED, task='published_hints', path=folder
  )
  run(config, of_qwen.parent / 'answers')
  return of_qwen.parent / 'answers'


def test_published_answers_are_labels(of_answers):
  """Orig is what the set's own model answered."""
  counts, records = evaluated(of_answers, 'audited', 0, SEED)
  folder = of_answers / 'seed0' / 'label'
  for split in ('train', 'test'):
    pairs, found = label_set.read_pairs(folder, split), label_set.read(folder, split)
    chosen = zip(found.behavior_N, found.counterfactual_behavior_N)
    for pair, (x, without) in zip(pairs, chosen, strict=True):
      number = int(pair.prompt.split('?')[0].split()[-1])
      said = pair.options[x] + pair.options[without]
      assert said == ANSWERS[number % 3]
  answer_N = found.counterfactual_behavior_N
  changed_N = found.behavior_N != answer_N
  right_N = records['stated_changed'] == changed_N
  right_N &= ~changed_N | (records['stated_answer'] == answer_N)
  assert counts['orig'] == right_N.sum()
  assert len(label_set.read_pairs(folder, 'test')) == counts['n']


def test_published_answers_can_be_trained_on(of_answers, tmp_path):
  root = of_answers.parent
  config = published_hints.get_config(
    f'model=local,checkpoint={root / "qwen"},path={root / "published"},seeds=1,'
    f'rank=4,kl=0,labels={labels_of(of_answers)}'
  )
  small(config)
  for stage in ('prepare', 'base', 'label'):
    e = run(config, tmp_path, stage)
  target = other_labels.of_run(e, tmp_path, SEED, e.runs['no_kl'])
  assert target.path() == of_answers / 'seed0' / 'label'
  row_N = label_set.read_rows(tmp_path / 'seed0' / 'label', 'train')
  own = label_set.read(tmp_path / 'seed0' / 'label', 'train')
  found = label_set.read(target.path(), 'train', row_N)
  assert own.logprobs_Nx2xS.shape[2] == 4  # of M_0, which the KL holds to
  assert np.any(found.behavior_N != own.behavior_N)
