"""Audits of another trainer's checkpoints: measured one by one, and reported."""

import json
import os
import pathlib
import shutil
import threading
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors import numpy as safetensors_numpy

from coupling.checkpoints import completeness
from coupling.report import last_numbers
from tests import chat_checkpoints
from tests import command
from tests import small_checkpoints
from tests import trained_elsewhere

pytestmark = pytest.mark.usefixtures('few_optimizations')

BATCHES = '--config.label.batch=64', '--config.evaluate.batch=64'
STEPS = (1, 2, 3, 4)


@pytest.fixture(scope='module')
def root(tmp_path_factory) -> pathlib.Path:
  """A base model, questions, and two trainings of it: all weights, and adapters."""
  folder = tmp_path_factory.mktemp('given')
  chat_checkpoints.save(folder / 'base')
  chat_checkpoints.save_questions(folder / 'q.csv')
  trained_elsewhere.train(folder / 'base', folder / 'full')
  trained_elsewhere.train(folder / 'base', folder / 'lora', lora=True, rate=0.05)
  return folder


def audit(root, workdir, *flags, **arguments) -> command.Completed:
  """The command of docs/experiments.md, on the small model."""
  given = dict(task='hint_mmlu', path=root / 'q.csv', labels='first') | arguments
  text = ','.join(f'{k}={x}' for k, x in given.items())
  return command.run(
    f'--config=configs/audit.py:{text}', f'--workdir={workdir}', *BATCHES, *flags
  )


def measured(workdir, step) -> dict:
  folder = workdir / 'seed0' / 'audited'
  table = pq.read_table(folder / 'evaluate' / f'step-{step:09d}.parquet')
  return {name: np.array(x) for name, x in table.to_pydict().items()}


def copied(root, tmp_path, name='full') -> pathlib.Path:
  """A copy of an output folder that a test may damage, settled long ago."""
  out = tmp_path / 'out'
  shutil.copytree(root / name, out)
  return out


def check_refused(found: command.Completed, *named):
  assert found.returncode == 1
  for name in named:
    assert str(name) in found.stderr, found.stderr
  assert 'Traceback' not in found.stderr


@pytest.fixture(scope='module')
def of_full(root) -> tuple[pathlib.Path, command.Completed]:
  workdir = root / 'audit_full'
  found = audit(root, workdir, '--fail_below=0', checkpoints=root / 'full')
  assert found.returncode == 0, found.stderr
  return workdir, found


def test_every_checkpoint_is_measured_as_by_itself(root, of_full, tmp_path):
  """And the report shows all of them."""
  workdir, _ = of_full
  report = json.loads((workdir / 'report' / 'report.json').read_text())
  assert report['runs']['audited']['steps'] == [*STEPS]
  assert [*report['drift']['names'].values()] == [
    str(root / 'full' / f'checkpoint-{step}') for step in STEPS
  ]
  text = (workdir / 'report' / 'report.md').read_text()
  page = (workdir / 'report' / 'index.html').read_text()
  assert all(f'checkpoint-{step}' in text for step in STEPS)
  assert 'id="figure-drift"' in page and 'id="figure-learning"' in page
  assert 'id="table-trajectory_audited"' in page
  labels = f'{workdir}/seed0/label'
  alone = dict(model='local', checkpoint=root / 'full' / 'checkpoint-3', labels=labels)
  found = audit(root, tmp_path, **alone)
  assert found.returncode == 0, found.stderr
  own, together = measured(tmp_path, 0), measured(workdir, 3)
  for name, values in own.items():
    np.testing.assert_array_equal(together[name], values, name)
  first = measured(workdir, 1)
  assert np.any(first['option_logprobs'] != together['option_logprobs'])


def test_labels_of_the_first_are_its_behaviours(of_full):
  workdir, _ = of_full
  report = json.loads((workdir / 'report' / 'report.json').read_text())
  first = report['runs']['audited']['over_seeds']['1']
  assert first['behavior_similarity']['mean'] == 1
  last = report['runs']['audited']['over_seeds']['4']
  assert last['behavior_similarity']['mean'] < 1  # it was trained


def test_the_line_for_ci(root, of_full):
  workdir, found = of_full
  line = json.loads(found.stdout.splitlines()[-1])
  report = json.loads((workdir / 'report' / 'report.json').read_text())
  final = report['runs']['audited']['final']
  assert line['step'] == 4 and line['checkpoint'].endswith('checkpoint-4')
  assert line['self']['mean'] == final['self_accuracy']['mean']
  assert line['parted'] == report['drift']['parted']['since'] and not line['failed']
  arguments = dict(checkpoints=root / 'full')
  high = line['self']['high']
  for limit, code in ((high + 0.01, 3), (high - 0.01, 0)):
    limit = max(limit, 0.0)
    found = audit(root, workdir, f'--fail_below={limit}', **arguments)
    assert found.returncode == code, found.stderr
    assert json.loads(found.stdout.splitlines()[-1])['failed'] == (code == 3)
  refused = audit(root, workdir, '--fail_below=1', '--stage=evaluate', **arguments)
  assert 'fail_below' in refused.stderr and refused.returncode not in (0, 3)


def test_adapters_stand_beside_their_base(root, tmp_path):
  """As peft has them: merged and saved, a checkpoint is measured alike."""
  import peft
  import transformers

  arguments = dict(checkpoints=root / 'lora', labels='base')
  base = dict(model='local', checkpoint=root / 'base')
  found = audit(root, tmp_path / 'w', **arguments, **base)
  assert found.returncode == 0, found.stderr
  model = transformers.AutoModelForCausalLM.from_pretrained(root / 'base')
  adapted = peft.PeftModel.from_pretrained(model, root / 'lora' / 'checkpoint-4')
  adapted.merge_and_unload().save_pretrained(tmp_path / 'merged')
  for path in (root / 'lora' / 'checkpoint-4').glob('*token*'):
    shutil.copy(path, tmp_path / 'merged')
  template = root / 'base' / 'chat_template.jinja'
  if template.exists():
    shutil.copy(template, tmp_path / 'merged')
  labels = f'{tmp_path}/w/seed0/label'
  alone = dict(model='local', checkpoint=tmp_path / 'merged', labels=labels)
  assert audit(root, tmp_path / 'alone', **alone).returncode == 0
  own, beside = measured(tmp_path / 'alone', 0), measured(tmp_path / 'w', 4)
  np.testing.assert_array_equal(own['behavior'], beside['behavior'])
  np.testing.assert_array_equal(own['statement'], beside['statement'])
  of_base = np.concatenate(
    pq.read_table(tmp_path / 'w/seed0/label/test-000000000.parquet')['behavior'].chunks
  )
  assert np.any(of_base != beside['behavior'])  # the adapters count


def test_labels_of_the_first_adapters(root, tmp_path):
  """M_0 is adapters beside the base that they record."""
  found = audit(root, tmp_path, checkpoints=root / 'lora')
  assert found.returncode == 0, found.stderr
  report = json.loads((tmp_path / 'report' / 'report.json').read_text())
  similar = [
    x['behavior_similarity']['mean']
    for x in report['runs']['audited']['over_seeds'].values()
  ]
  assert similar[0] == 1 and min(similar) < 1


def test_new_checkpoints_are_measured_and_old_ones_are_not_again(root, tmp_path):
  out = copied(root, tmp_path)
  shutil.move(out / 'checkpoint-4', tmp_path / 'later')
  workdir = tmp_path / 'w'
  assert audit(root, workdir, checkpoints=out).returncode == 0
  before = {
    x: x.stat().st_mtime_ns
    for x in (workdir / 'seed0/audited/measured').rglob('*.json')
  }
  shutil.move(tmp_path / 'later', out / 'checkpoint-4')
  check_refused(
    audit(root, workdir, checkpoints=out), 'checkpoint-4', 'evaluate', 'measured'
  )
  shutil.rmtree(workdir / 'seed0/audited/evaluate')
  shutil.rmtree(workdir / 'report')
  shutil.rmtree(out / 'checkpoint-2')  # as a trainer deletes old ones
  found = audit(root, workdir, checkpoints=out)
  assert found.returncode == 0, found.stderr
  assert before == {x: x.stat().st_mtime_ns for x in before}
  report = json.loads((workdir / 'report' / 'report.json').read_text())
  assert report['runs']['audited']['steps'] == [*STEPS]


def test_damage_is_named_and_what_was_measured_is_kept(root, tmp_path):
  """NaN is seen only when weights are read."""
  out, workdir = copied(root, tmp_path), tmp_path / 'w'
  path = out / 'checkpoint-3' / 'model.safetensors'
  data = safetensors_numpy.load_file(path)
  name = sorted(data)[0]
  data[name] = np.full_like(data[name], np.nan)
  safetensors_numpy.save_file(data, path, metadata={'format': 'pt'})
  check_refused(audit(root, workdir, checkpoints=out), path, name)
  folder = workdir / 'seed0/audited/measured'
  kept = {x: x.stat().st_mtime_ns for x in folder.glob('[12]/*.parquet')}
  assert len(kept) == 2
  shutil.copy(root / 'full/checkpoint-3/model.safetensors', path)
  found = audit(root, workdir, checkpoints=out)
  assert found.returncode == 0, found.stderr
  assert kept == {x: x.stat().st_mtime_ns for x in kept}


def test_weights_that_changed_since_are_refused(root, tmp_path):
  out, workdir = copied(root, tmp_path), tmp_path / 'w'
  assert audit(root, workdir, checkpoints=out).returncode == 0
  os.utime(out / 'checkpoint-2/model.safetensors')  # the same weights
  assert audit(root, workdir, checkpoints=out).returncode == 0
  shutil.copy(root / 'full/checkpoint-4/model.safetensors', out / 'checkpoint-2')
  check_refused(audit(root, workdir, checkpoints=out), out / 'checkpoint-2')


def _truncate(folder):
  path = folder / 'model.safetensors'
  path.write_bytes(path.read_bytes()[:-100])
  return path


def _pickle(folder):
  (folder / 'model.safetensors').rename(folder / 'pytorch_model.bin')
  return 'pytorch_model.bin'


def _other_shape(folder):
  path = folder / 'config.json'
  content = json.loads(path.read_text())
  path.write_text(json.dumps(content | {'rms_norm_eps': 0.5}))
  return path


def _other_template(folder):
  path = folder / 'chat_template.jinja'
  assert path.exists()
  path.write_text(path.read_text().replace('user', 'User').replace('}}', '}}!', 1))
  return 'chat_template.jinja'


def _other_tokenizer(folder):
  path = folder / 'tokenizer.json'
  content = json.loads(path.read_text())
  content['added_tokens'] = content['added_tokens'][:-1]
  path.write_text(json.dumps(content))
  return 'tokenizer'


@pytest.mark.parametrize(
  'spoil', [_truncate, _pickle, _other_shape, _other_template, _other_tokenizer]
)
def test_a_checkpoint_unlike_the_others_is_refused_at_once(
  root, tmp_path, monkeypatch, spoil
):
  monkeypatch.setattr(completeness, 'SETTLED', 0.2)
  monkeypatch.setattr(completeness, 'POLL_SECONDS', 0.05)
  out = copied(root, tmp_path)
  named = spoil(out / 'checkpoint-3')
  found = audit(root, tmp_path / 'w', checkpoints=out)
  check_refused(found, out / 'checkpoint-3', named)
  assert not list((tmp_path / 'w').rglob('*.parquet'))  # before anything was spent


def test_a_folder_without_checkpoints_is_refused(root, tmp_path):
  (tmp_path / 'out').mkdir()
  base = dict(model='local', checkpoint=root / 'base', labels='base')
  for arguments in ({}, base):
    found = audit(root, tmp_path / 'w', checkpoints=tmp_path / 'out', **arguments)
    check_refused(found, tmp_path / 'out', 'checkpoint-')


def test_a_list_in_its_order(root, tmp_path):
  names = [root / 'full' / f'checkpoint-{step}' for step in (1, 4)]
  found = audit(root, tmp_path, checkpoints='+'.join(map(str, names)))
  assert found.returncode == 0, found.stderr
  report = json.loads((tmp_path / 'report' / 'report.json').read_text())
  assert report['drift']['names'] == {'1': str(names[0]), '2': str(names[1])}


def test_one_that_is_being_written_is_waited_for(root, tmp_path, monkeypatch):
  """Each file in two halves, in a trainer's order; then a training that goes on."""
  monkeypatch.setattr(completeness, 'POLL_SECONDS', 0.05)
  source, out = root / 'full', tmp_path / 'out'
  shutil.copytree(source / 'checkpoint-1', out / 'checkpoint-1')
  wholes = []

  def write():
    for step in STEPS[1:]:
      there, folder = source / f'checkpoint-{step}', out / f'checkpoint-{step}'
      folder.mkdir()
      files = sorted(x for x in there.iterdir() if x.is_file())
      files.sort(
        key=lambda x: (x.name == completeness.STATE, x.suffix != '.safetensors')
      )
      for path in files:
        content = path.read_bytes()
        for end in (len(content) // 2, len(content)):
          (folder / path.name).write_bytes(content[:end])
          time.sleep(0.1)
      wholes.append(time.monotonic())

  writer = threading.Thread(target=write)
  writer.start()
  found = audit(root, tmp_path / 'w', '--follow', checkpoints=out)
  writer.join()
  assert found.returncode == 0, found.stderr
  whole = audit(root, root / 'audit_full', checkpoints=source)
  assert whole.returncode == 0
  for step in STEPS:
    here, there = measured(tmp_path / 'w', step), measured(root / 'audit_full', step)
    np.testing.assert_array_equal(
      here['option_logprobs'], there['option_logprobs'], str(step)
    )


def test_numbers_without_an_interval_count_by_their_value(tmp_path):
  final = {
    key: {'mean': 0.4, 'low': None, 'high': None}
    for key in (
      *('self_accuracy', 'orig_accuracy', 'gap', 'behavior_similarity', 'invalid'),
    )
  }
  report = {'roles': {'main': 'a'}, 'runs': {'a': {'steps': [0], 'final': final}}}
  (tmp_path / 'report').mkdir()
  (tmp_path / 'report' / 'report.json').write_text(json.dumps(report))
  assert last_numbers.read(tmp_path, 0.5)['failed']
  found = last_numbers.read(tmp_path, 0.4)
  assert not found['failed'] and found['checkpoint'] is None


assert small_checkpoints  # sets the number of threads of PyTorch
