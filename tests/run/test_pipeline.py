"""The whole way of the data on a tiny world: stages, errors, interruption."""

import ast
import json
import pathlib
import random
import shutil
import subprocess
import sys
import threading

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks import interruptions
from configs import world
from coupling.config import validate
from coupling.elicit import explanation, label_set
from coupling.run import evaluate_stage
from coupling.runtime import finite, seals, workdir as workdir_lib
from tests import command

pytestmark = pytest.mark.usefixtures('few_optimizations')


def run(workdir, *flags, config='seeds=1') -> command.Completed:
  return command.run(*interruptions.command(workdir, *flags, config=config)[2:])


def contents(folder: pathlib.Path) -> dict[str, bytes]:
  files = (p for p in folder.rglob('*') if p.is_file() and p.name != '.lock')
  return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def read_records(path: pathlib.Path) -> dict[str, np.ndarray]:
  table = pq.read_table(path)
  return {name: table[name].to_numpy() for name in table.column_names}


def leave_unfinished(folder: pathlib.Path, *lost: str) -> dict[str, int]:
  """A finished stage as one interrupted before it had made some files, without these.

  Returns:
    When each of the others was written, all but the manifest.
  """
  for name in lost:
    (folder / name).unlink()
  for part in {p.stem for p in folder.glob('*-*.*')}:  # as while it was unfinished
    seals.Seals(folder).put(part, *folder.glob(f'{part}.*'))
  path = folder / workdir_lib.MANIFEST
  manifest = json.loads(path.read_text())
  del manifest['info'], manifest['seconds']
  manifest |= {'finished': False, 'files': {}}
  path.write_text(json.dumps(manifest))
  return {name: (folder / name).stat().st_mtime_ns for name in artefacts(folder)}


def artefacts(folder: pathlib.Path) -> dict[str, bytes]:
  """What a stage made, without its manifest and the seals of its parts."""
  found = contents(folder).items()
  return {k: v for k, v in found if k != workdir_lib.MANIFEST and '.seals' not in k}


@pytest.fixture(scope='module')
def finished(tmp_path_factory) -> pathlib.Path:
  """A tiny experiment, run to its end; tests that change it copy it."""
  workdir = tmp_path_factory.mktemp('tiny') / 'workdir'
  found = run(workdir)
  assert found.returncode == 0, found.stderr
  return workdir


def test_a_second_run_does_nothing(finished):
  before = contents(finished)
  again = run(finished)
  assert again.returncode == 0, again.stderr
  assert contents(finished) == before


def test_counts_on_the_device_are_those_of_the_records(finished):
  labels = label_set.read(finished / 'seed1' / 'label', 'test').explanation
  folder = finished / 'seed1' / 'kl' / 'evaluate'
  records = read_records(folder / 'step-000000008.parquet')
  counts = json.loads((folder / 'counts-000000008.json').read_text())
  stated = explanation.Explanation(records['stated_answer'], records['stated_changed'])
  truth = explanation.phi(records['behavior'], records['counterfactual_behavior'])
  assert counts['n'] == len(records['behavior']) == 2560
  assert counts['self'] == explanation.agree(stated, truth, True).sum()
  assert counts['orig'] == explanation.agree(stated, labels, True).sum()
  assert counts['moved'] == (~explanation.agree(truth, labels, True)).sum()
  assert counts['changed'] == truth.changed_N.sum()
  scored = explanation.Explanation(records['scored_answer'], records['scored_changed'])
  assert counts['scored_self'] == explanation.agree(scored, truth, True).sum()
  assert counts['scored_orig'] == explanation.agree(scored, labels, True).sum()
  same = explanation.agree(stated, scored, True).sum()
  assert counts['scored_agrees_greedy'] == same
  likeliest_N = np.stack(records['statement_logprobs']).argmax(axis=1)
  np.testing.assert_array_equal(likeliest_N, 2 * scored.answer_N + scored.changed_N)
  report = json.loads((finished / 'report' / 'report.json').read_text())
  share = report['likelihood']['kl']['self_accuracy']['mean']
  assert share == counts['scored_self'] / counts['n']


def test_runs_differ_in_what_the_config_says_and_begin_alike(finished):
  def read(run_name, step):
    path = finished / 'seed1' / run_name / 'evaluate' / f'step-{step:09d}.parquet'
    return np.stack(read_records(path)['option_logprobs'])

  for other in ('no_kl', 'sibling', 'shuffled'):
    np.testing.assert_array_equal(read('kl', 0), read(other, 0))
    assert np.any(read('kl', 8) != read(other, 8))


@pytest.mark.slow
def test_killed_once_in_every_stage_it_ends_bit_for_bit_the_same(finished, tmp_path):
  rng = random.Random(0)
  kills = interruptions.disturbed(tmp_path / 'disturbed', 6, rng)
  assert len(kills) >= 4, kills  # the last may end by themselves first
  assert interruptions.differences(finished, tmp_path / 'disturbed') == []


def test_patching_is_done_where_it_is_asked_for(finished, tmp_path):
  """No run pays for it by itself, and what is done is not done again."""
  workdir = tmp_path / 'copy'
  shutil.copytree(finished, workdir)
  assert not list(workdir.rglob('patch'))
  few = ('--stage=patch', '--config.patch.pairs=8', '--config.patch.draws=2')
  done = run(workdir, *few)
  assert done.returncode == 0, done.stderr
  assert 'passes' in done.stderr and 'patch, moved' in done.stderr
  folder = workdir / 'seed1' / 'kl' / 'patch'
  before = contents(folder)
  names = {pathlib.Path(name).name for name in before}
  steps = [f'moved-{step:09d}' for step in (0, 8)]
  assert names == {
    *(f'{step}.{end}' for step in steps for end in ('json', 'parquet')),
    *('index.html', 'manifest.json'),
  }
  counts = json.loads((folder / f'{steps[1]}.json').read_text())['counts']
  assert 0 < counts['aligned'] <= counts['asked'] == 8 <= counts['changed']
  assert counts['passes'] > (10 + 4 * (2 + 4)) * counts['aligned']  # beside knock-outs
  again = run(workdir, *few)
  assert again.returncode == 0, again.stderr
  assert contents(folder) == before
  lost = [f'{steps[1]}.{end}' for end in ('json', 'parquet')]
  written = leave_unfinished(folder, *lost, 'index.html')
  resumed = run(workdir, *few)
  assert resumed.returncode == 0, resumed.stderr
  assert 'step 8' in resumed.stderr and 'step 0' not in resumed.stderr
  assert artefacts(folder) == {k: before[k] for k in {*written, *lost, 'index.html'}}
  assert all((folder / k).stat().st_mtime_ns == at for k, at in written.items())


def test_labels_that_are_there_are_not_asked_for_anew(finished, tmp_path):
  workdir = tmp_path / 'copy'
  shutil.copytree(finished, workdir)
  folder, lost = workdir / 'seed1' / 'label', 'train-000000256.parquet'
  before = artefacts(folder)
  written = leave_unfinished(folder, lost)
  assert 'train-000000000.parquet' in written
  found = run(workdir, '--stage=label')
  assert found.returncode == 0, found.stderr
  assert artefacts(folder) == before
  assert all((folder / k).stat().st_mtime_ns == at for k, at in written.items())
  label_set.read(folder, 'train')  # finished, with the digest that it had
  old, new = (
    json.loads((root / 'seed1' / 'label' / workdir_lib.MANIFEST).read_text())
    for root in (finished, workdir)
  )
  assert old['digest'] == new['digest']


def test_differences_are_seen(finished, tmp_path):
  shutil.copytree(finished, tmp_path / 'copy')
  path = tmp_path / 'copy' / 'report' / 'report.json'
  report = json.loads(path.read_text())
  report['added'] = 1
  path.write_text(json.dumps(report))
  assert interruptions.differences(finished, tmp_path / 'copy') == [
    'report/report.json'
  ]


@pytest.mark.parametrize(
  'flag, told, stage',
  [
    ('train.optimizer.learning_rate=0.5', ('kl.optimizer.learning_rate', '0.5'), 'run'),
    (
      *('train.optimizer.learning_rate=0.5', ('train.optimizer.learning_rate', '0.5')),
      'train',
    ),
    # What is there would serve, but not the report: told before new seeds are trained.
    ('seeds=(1, 5)', ('report was made with another config', 'seeds'), 'run'),
  ],
)
def test_a_changed_config_is_named_and_nothing_is_made(finished, flag, told, stage):
  before = contents(finished)
  found = run(finished, f'--config.{flag}', f'--stage={stage}')
  assert found.returncode != 0
  assert all(text in found.stderr for text in told)
  assert contents(finished) == before


@pytest.mark.parametrize(
  'flags, config, expected',
  [
    (('--config.train.optimizer.learning_rat=1',), 'seeds=1', 'learning_rat'),
    (('--config.train.objectives.behavior_kl.direction=up',), 'seeds=1', 'direction'),
    (('--config.base.loop.checkpoint_every=3',), 'seeds=1', 'base.loop.checkpoint'),
    ((), 'seed=1', "'seed' is unknown"),
    ((), 'seeds=x', 'expected int'),
    (('--stage=label',), 'seeds=1', 'seed1/prepare'),
    (('--config.label.batch=1073741824',), 'seeds=1', 'label.batch='),
    (('--config.seeds=(1000000000000000000000000000000,)',), 'seeds=1', 'seeds['),
    ((f'--workdir={"x" * 5000}',), 'seeds=1', '--workdir='),
  ],
)
def test_bad_input_is_named_before_any_work(tmp_path, flags, config, expected):
  found = run(tmp_path / 'w', *flags, config=config)
  assert found.returncode != 0
  assert expected in found.stderr and 'Traceback' not in found.stderr
  assert not list(tmp_path.rglob('*.parquet'))


def test_a_config_file_that_is_not_there_is_named(tmp_path):
  """By the command line itself, as a shell sees it; command.run does the same."""
  arguments = '--config=configs/none.py', '--workdir=w'
  found = subprocess.run(
    [sys.executable, 'main.py', *arguments],
    cwd=interruptions.ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert found.returncode == 1
  assert 'configs/none.py' in found.stderr and 'Traceback' not in found.stderr
  here = command.run(*arguments)
  assert here.returncode == 1 and found.stderr.endswith(here.stderr)


def test_a_training_of_another_config_is_not_evaluated(finished, tmp_path):
  copy = tmp_path / 'copy'
  shutil.copytree(finished, copy)
  shutil.rmtree(copy / 'seed1' / 'kl' / 'evaluate')
  found = run(copy, '--stage=evaluate', '--config.train.lora.alpha=3.0')
  assert found.returncode != 0
  assert 'train was made with another config' in found.stderr
  assert 'train.lora.alpha' in found.stderr and 'Traceback' not in found.stderr


def test_an_evaluation_that_fails_leaves_no_thread_of_its_log(
  finished, tmp_path, monkeypatch
):
  """It was still reading when its process ended, and said so before the error."""
  config = world.get_config('seeds=1')
  flags = (flag.removeprefix('--config.').split('=') for flag in interruptions.TINY)
  config.update_from_flattened_dict({k: ast.literal_eval(x) for k, x in flags})
  copy = tmp_path / 'copy'
  shutil.copytree(finished, copy)
  shutil.rmtree(copy / 'seed1' / 'kl' / 'evaluate')

  def fail(*_):
    raise finite.NonFiniteError('too large')

  monkeypatch.setattr(evaluate_stage.evaluation, 'evaluate', fail)
  before = set(threading.enumerate())
  with pytest.raises(finite.NonFiniteError, match='kl · evaluate'):
    evaluate_stage.evaluate(validate.resolve(config), copy, 1, 'kl')
  assert not [t for t in set(threading.enumerate()) - before if 'Event' in repr(t)]


def test_steps_of_two_trainings_are_not_mixed(tmp_path):
  folder, config = tmp_path / 'train', {'seed': 0}
  with workdir_lib.open_stage(folder, 'train', config, {}):
    pass
  begun = workdir_lib.begun(folder, config)
  assert begun and workdir_lib.begun(tmp_path / 'none', config) is None
  with pytest.raises(workdir_lib.WorkdirError, match='another config'):
    workdir_lib.begun(folder, {'seed': 1})
  with workdir_lib.open_stage(tmp_path / 'evaluate', 'evaluate', {}, {}) as stage:
    evaluate_stage._check_training(stage, folder, begun)
    evaluate_stage._check_training(stage, folder, begun)
    with pytest.raises(workdir_lib.WorkdirError, match='made from another'):
      evaluate_stage._check_training(stage, folder, 'at another time')
    stage.finish({})
  stage = workdir_lib.finished_stage(tmp_path / 'evaluate')
  assert not stage.manifest['files']  # when it was is no part of the result


def test_a_damaged_artefact_is_named(finished, tmp_path):
  copy = tmp_path / 'copy'
  shutil.copytree(finished, copy)
  torn = copy / 'seed1' / 'label' / 'train-000000000.parquet'
  torn.write_bytes(torn.read_bytes()[:-10])
  found = run(copy)
  assert found.returncode != 0
  assert 'train-000000000.parquet' in found.stderr
  assert 'Traceback' not in found.stderr


def test_the_second_behaviour_and_shifts_run_to_the_end(tmp_path):
  found = run(
    tmp_path / 'w',
    '--config.train.objectives.behavior_xent.weight=0.5',
    '--config.train.loop.accumulation=2',
    config='seeds=1,behavior=request,kl=0',
  )
  assert found.returncode == 0, found.stderr
  assert (tmp_path / 'w' / 'report' / 'index.html').exists()


def test_a_following_evaluation_evaluates_a_run_that_is_still_training(
  finished, tmp_path
):
  workdir = tmp_path / 'w'
  shutil.copytree(finished, workdir)
  for made in ('report', 'seed1/kl'):
    shutil.rmtree(workdir / made)
  follower = subprocess.Popen(
    interruptions.command(workdir, '--stage=evaluate', '--follow'),
    cwd=interruptions.ROOT,
    stderr=subprocess.PIPE,
    text=True,
  )
  trained = run(workdir, '--stage=train')
  assert trained.returncode == 0, trained.stderr
  _, errors = follower.communicate(timeout=120)
  assert follower.returncode == 0, errors
  name = pathlib.Path('seed1', 'kl', 'evaluate', 'step-000000008.parquet')
  found, expected = (read_records(w / name) for w in (workdir, finished))
  np.testing.assert_array_equal(found['behavior'], expected['behavior'])
