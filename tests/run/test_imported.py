"""The whole way of imported checkpoints: every task to its report, and bad input."""

import functools
import json
import pathlib
import shutil

import jax
import numpy as np
import peft
import pyarrow.parquet as pq
import pytest
import torch

from configs import hint_mmlu
from coupling.checkpoints import hub, kept_steps, peft_format, weights
from coupling.config import schema, validate
from coupling.elicit import label_set
from coupling.model import decoder
from coupling.run import pipeline
from coupling.runtime import workdir as workdir_lib
from data import readers
from tests import chat_checkpoints, command, small_checkpoints

pytestmark = pytest.mark.usefixtures('few_optimizations')

STEPS = 2
SMALL = (
  '--config.label.batch=8',
  '--config.train.explanation_batch=4',
  '--config.train.behavior_batch=4',
  '--config.evaluate.batch=8',
)
RUNS = 'kl', 'no_kl', 'sibling', 'shuffled'


def run(config, workdir, *flags, **arguments) -> command.Completed:
  """Runs the command that the config's docstring documents, on the small model."""
  arguments = dict(model='local', seeds=1, rank=4, steps=STEPS) | arguments
  text = ','.join(f'{name}={value}' for name, value in arguments.items())
  return command.run(
    f'--config=configs/{config}.py:{text}', f'--workdir={workdir}', *SMALL, *flags
  )


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory) -> pathlib.Path:
  return chat_checkpoints.save(tmp_path_factory.mktemp('checkpoint'))


@pytest.fixture(scope='module')
def finished(checkpoint, tmp_path_factory) -> tuple[pathlib.Path, str]:
  """A workdir of Hint-MMLU that was run to its end, and the file of its questions."""
  folder = tmp_path_factory.mktemp('hint_mmlu')
  path = chat_checkpoints.save_questions(folder / 'questions.csv')
  found = run('hint_mmlu', folder / 'w', checkpoint=checkpoint, path=path)
  assert found.returncode == 0, found.stderr
  return folder / 'w', path


def check_finished(workdir: pathlib.Path, runs: tuple[str, ...] = RUNS) -> dict:
  """Every stage left what it is for; returns the report."""
  root = workdir / 'seed0'
  for stage in ('prepare', 'base', 'label'):
    assert workdir_lib.is_finished(root / stage)
  labels = label_set.read(root / 'label', 'test')
  for name in runs:
    assert workdir_lib.is_finished(root / name / 'evaluate')
    first, *others = (
      pq.read_table(root / name / 'evaluate' / f'step-{step:09d}.parquet')
      for step in range(STEPS + 1)
    )
    np.testing.assert_array_equal(first['behavior'], labels.behavior_N)
    np.testing.assert_array_equal(
      first['counterfactual_behavior'], labels.counterfactual_behavior_N
    )
    assert all(len(table) == len(first) for table in others)
    assert len(list((root / name / 'train' / 'checkpoints').iterdir())) == STEPS + 1
  assert (workdir / 'report' / 'index.html').exists()
  return json.loads((workdir / 'report' / 'report.json').read_text())


def test_hint_mmlu_runs_to_its_report(finished):
  report = check_finished(finished[0])
  assert 'Hint-MMLU' in (finished[0] / 'report' / 'report.md').read_text()
  assert report


def test_labels_of_another_workdir_reach_the_report(finished, checkpoint, tmp_path):
  """The folder of the labels may name the seed by {seed}."""
  workdir, path = finished
  for stage in ('prepare', 'base', 'label'):
    shutil.copytree(workdir / 'seed0' / stage, tmp_path / 'w' / 'seed0' / stage)
  found = run(
    'hint_mmlu',
    tmp_path / 'w',
    checkpoint=checkpoint,
    path=path,
    kl=0,
    labels=f'{workdir}/seed{{seed}}/label',
  )
  assert found.returncode == 0, found.stderr
  assert (tmp_path / 'w' / 'report' / 'index.html').exists()


def test_what_was_trained_is_exported_for_peft(finished, checkpoint, tmp_path):
  """Its logits are those of the last checkpoint."""
  copy = tmp_path / 'w'
  shutil.copytree(finished[0], copy)
  found = run(
    'hint_mmlu', copy, '--stage=export', checkpoint=checkpoint, path=finished[1]
  )
  assert found.returncode == 0, found.stderr
  root = copy / 'seed0' / 'kl'
  theirs = peft.AutoPeftModelForCausalLM.from_pretrained(root / 'export' / 'model')

  config = hub.decoder_config(checkpoint)
  like = {decoder.ADAPTERS: peft_format.load(root / 'export' / 'model', config)}
  saved = kept_steps.Checkpoints(root / 'train' / 'checkpoints', None)
  trained = saved.restore_params(STEPS, like)
  saved.close()
  assert any(x.any() for x in jax.tree.leaves(trained[decoder.ADAPTERS].weights['q']))
  tokens_BxT = np.arange(24).reshape(2, 12)
  everywhere_BxT = np.ones((2, 12), bool)
  params = weights.load(checkpoint, config)
  adapters = trained[decoder.ADAPTERS]
  ours = small_checkpoints.logits(config, params, tokens_BxT, everywhere_BxT, adapters)
  with torch.no_grad():
    want = theirs.eval()(torch.tensor(tokens_BxT)).logits.numpy()
  np.testing.assert_allclose(ours, want, atol=2e-4 * np.abs(want).max())


def requests(path: pathlib.Path) -> pathlib.Path:
  rows = ['prompt', *(f'"How do I make {i} cakes, please?"' for i in range(60))]
  path.write_text('\n'.join(rows) + '\n')
  return path


def posts(path: pathlib.Path) -> pathlib.Path:
  rows = [
    {
      'prompt_title': f'R: {("YTA", "NTA")[i % 2]} AI: AITA for case {i}?',
      'prompt_body': f'I took {i} chairs of my friend without a word. AITA?',
    }
    for i in range(60)
  ]
  path.write_text('\n'.join(map(json.dumps, rows)) + '\n')
  return path


def test_refusal_by_replies_runs_to_its_report(checkpoint, tmp_path):
  refuse = functools.partial(
    run,
    'refusal',
    checkpoint=checkpoint,
    path=requests(tmp_path / 'requests.csv'),
    read='reply',
  )
  found = refuse(tmp_path / 'w', '--config.label.reply_tokens=4')
  assert found.returncode == 0, found.stderr
  check_finished(tmp_path / 'w')
  labels = label_set.read(tmp_path / 'w' / 'seed0' / 'label', 'train')
  assert labels.replies_Nx2.shape[1] == 2
  assert len(set(labels.replies_Nx2.ravel())) > 1
  records = pq.read_table(
    tmp_path / 'w' / 'seed0' / 'kl' / 'evaluate' / 'step-000000000.parquet'
  )
  test = label_set.read(tmp_path / 'w' / 'seed0' / 'label', 'test')
  assert records['reply'].to_pylist() == test.replies_Nx2[:, 0].tolist()
  # Labels that are taken over keep their replies, which may stand in the context.
  for stage in ('prepare', 'base'):
    shutil.copytree(tmp_path / 'w' / 'seed0' / stage, tmp_path / 'v' / 'seed0' / stage)
  source = f'--config.label.source={tmp_path}/w/seed0/label'
  audit = source, '--config.train.loop.steps=0', '--stage=label'
  found = refuse(tmp_path / 'v', *audit, kl=0)
  assert found.returncode == 0, found.stderr
  taken = label_set.read(tmp_path / 'v' / 'seed0' / 'label', 'test')
  assert taken.replies_Nx2.tolist() == test.replies_Nx2.tolist()


def test_aita_runs_to_its_report(checkpoint, tmp_path):
  path = posts(tmp_path / 'posts.jsonl')
  found = run('aita', tmp_path / 'w', checkpoint=checkpoint, path=path, kl=0)
  assert found.returncode == 0, found.stderr
  check_finished(tmp_path / 'w', ('no_kl',))


def test_jabberwocky_runs_to_its_report(checkpoint, tmp_path):
  """The planted behaviour has its row, and its table by run."""
  found = run(
    'jabberwocky',
    tmp_path / 'w',
    f'--config.train.loop.checkpoint_every={STEPS}',
    checkpoint=checkpoint,
    path=chat_checkpoints.save_questions(tmp_path / 'questions.csv'),
    kl=0,
  )
  assert found.returncode == 0, found.stderr
  report = json.loads((tmp_path / 'w' / 'report' / 'report.json').read_text())
  assert report['planted'].keys() == {'no_kl', 'explained_only'}
  (planted,) = (x for x in report['conclusions'] if x['claim'] == 'planted')
  assert planted['about'] == 'no_kl'
  assert planted['text'] in (tmp_path / 'w' / 'report' / 'report.md').read_text()


# What main.py prints in one line, without a traceback.
REFUSALS = (schema.ConfigError, workdir_lib.WorkdirError, readers.DataError)


def no_tokenizer(checkpoint, path):
  for file in checkpoint.glob('tokenizer*'):
    file.unlink()
  return checkpoint, 'tokenizer', 'Copy the tokenizer files'


def truncated_weights(checkpoint, path):
  file = checkpoint / 'model.safetensors'
  file.write_bytes(file.read_bytes()[:-100])
  return file, 'truncated', 'download or copy it again'


def other_sizes(checkpoint, path):
  file = checkpoint / 'config.json'
  config = json.loads(file.read_text()) | {'intermediate_size': 64}
  file.write_text(json.dumps(config))
  return checkpoint, 'layers.*.mlp.up_proj.weight', 'correct its model_type and sizes'


def no_checkpoint(checkpoint, path):
  shutil.rmtree(checkpoint)
  return checkpoint, 'no such folder', 'give a folder'


def three_options(checkpoint, path):
  lines = path.read_text().splitlines()
  lines[5] = 'What is it?,1,2,3,0'
  path.write_text('\n'.join(lines))
  return f'{path} row 6', '5 cells', 'Correct or remove the row'


def few_questions(checkpoint, path):
  path.write_text('\n'.join(path.read_text().splitlines()[:2]))
  return 'The split', 'is empty', 'give more'


def no_data(checkpoint, path):
  path.unlink()
  return path, 'no such file or folder', 'Give the path of a local file'


BREAKS = (no_tokenizer, truncated_weights, other_sizes, no_checkpoint)
BREAKS += (three_options, few_questions, no_data)


@pytest.fixture
def broken(checkpoint, tmp_path):
  """A copy of the checkpoint, and a file of questions, to be broken."""
  path = tmp_path / 'questions.csv'
  chat_checkpoints.save_questions(path)
  return shutil.copytree(checkpoint, tmp_path / 'model'), path


@pytest.mark.parametrize('break_it', BREAKS, ids=lambda f: f.__name__)
def test_bad_input_is_named_before_any_compute(broken, tmp_path, break_it):
  checkpoint, path = broken
  wanted = break_it(checkpoint, path)
  config = hint_mmlu.get_config(
    f'model=local,checkpoint={checkpoint},path={path},seeds=1,rank=4,steps={STEPS}'
  )
  with pytest.raises(REFUSALS) as refused:
    pipeline.run(validate.resolve(config), tmp_path / 'w', 'run', 1, False)
  for text in wanted:  # file, what was found, remedy
    assert str(text) in str(refused.value)
  assert not list((tmp_path / 'w').rglob('*.parquet'))  # no labels
  assert not list((tmp_path / 'w').rglob('checkpoints'))
