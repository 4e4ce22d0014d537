"""Two processes of four devices each: the whole way, killed, resumed, and on others.

What they find is held against one process of eight devices and of one.
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks import interruptions
from coupling.checkpoints import kept_steps
from coupling.config import validate
from coupling.model import sharding
from coupling.run import base_model, pipeline, steps
from coupling.runtime import workdir as workdir_lib
from coupling.training import compiled
from tests import command, several_hosts
from tests.run import test_pipeline
from tests.training import small_trainings

pytestmark = [pytest.mark.usefixtures('few_optimizations'), pytest.mark.slow]

RUNS = ('all', 'lora')
SECONDS = 300  # in which any of these commands ends, or never


def environment(devices: int) -> dict[str, str]:
  flags = f'--xla_force_host_platform_device_count={devices}'
  return os.environ | {'XLA_FLAGS': flags, 'JAX_PLATFORMS': 'cpu'}


@contextlib.contextmanager
def two_processes(workdir: pathlib.Path, *flags: str, second: tuple[str, ...] = ()):
  """Both processes of one command, and where they write what they tell.

  Args:
    workdir: of the experiment.
    *flags: of both.
    second: flags of the second alone.
  """
  with socket.socket() as free:
    free.bind(('localhost', 0))
    port = free.getsockname()[1]
  processes, told = [], []
  for i, more in enumerate(((), second)):
    told.append(workdir.parent / f'{workdir.name}.stderr{i}')
    arguments = [
      *(sys.executable, 'main.py', '--config=tests/several_hosts.py'),
      *(f'--workdir={workdir}', '--distributed', '--num_processes=2'),
      *(f'--coordinator_address=localhost:{port}', f'--process_id={i}', *flags, *more),
    ]
    with told[-1].open('w') as stderr:
      processes.append(
        subprocess.Popen(
          arguments, cwd=interruptions.ROOT, stderr=stderr, env=environment(4)
        )
      )
  try:
    yield processes, told
  finally:
    for process in processes:
      process.kill()
      process.wait()


def together(workdir: pathlib.Path, *flags: str, **more) -> tuple[list[int], str]:
  """Exit codes of two processes that run a command, and what they told."""
  with two_processes(workdir, *flags, **more) as (processes, told):
    codes = [process.wait(SECONDS) for process in processes]
    return codes, '\n'.join(path.read_text() for path in told)


@pytest.fixture(scope='module')
def finished(tmp_path_factory) -> pathlib.Path:
  """The experiment, run by two processes from its beginning to its end."""
  workdir = tmp_path_factory.mktemp('hosts') / 'workdir'
  codes, told = together(workdir)
  assert codes == [0, 0], told
  return workdir


def copy(finished: pathlib.Path, to: pathlib.Path, *without: str) -> pathlib.Path:
  shutil.copytree(finished, to)
  for name in ('report', 'tensorboard', *without):
    shutil.rmtree(to / name)
  return to


def until(there, processes) -> None:
  """Waits for something that running processes make."""
  deadline = time.monotonic() + SECONDS
  while not there():
    assert all(process.poll() is None for process in processes), 'ended before'
    assert time.monotonic() < deadline, 'never made'
    time.sleep(0.01)


@pytest.fixture(scope='module')
def killed(finished, tmp_path_factory) -> pathlib.Path:
  """The same, both processes killed in the middle of the first training."""
  folder = tmp_path_factory.mktemp('killed') / 'workdir'
  workdir = copy(finished, folder, *(f'seed1/{run}' for run in RUNS))
  train = workdir / 'seed1' / 'all' / 'train'
  with two_processes(workdir) as (processes, _):
    until(lambda: kept_steps.is_kept(train / 'checkpoints', 10), processes)
    for process in processes:
      process.kill()
  assert not workdir_lib.is_finished(train)
  return workdir


def records(workdir: pathlib.Path) -> dict[str, dict[str, np.ndarray]]:
  """Columns of all items, by run and step."""
  found = {}
  for path in sorted(workdir.glob('seed1/*/evaluate/*.parquet')):
    table = pq.read_table(path)
    columns = {name: table[name].to_pylist() for name in table.column_names}
    found[str(path.relative_to(workdir))] = columns
  return found


def counts(workdir: pathlib.Path) -> dict[str, dict[str, int]]:
  paths = sorted(workdir.glob('seed1/*/evaluate/counts-*.json'))
  return {str(p.relative_to(workdir)): json.loads(p.read_text()) for p in paths}


def losses(workdir: pathlib.Path, run: str) -> dict[int, float]:
  """Step -> loss, as logged for TensorBoard."""
  logged = small_trainings.logged(workdir / 'tensorboard' / 'seed1' / run)
  return {step: x for (name, step), x in logged.items() if name == 'train/loss'}


def test_two_processes_go_the_whole_way_and_the_first_alone_writes(finished):
  assert (finished / 'report' / 'index.html').exists()
  found = records(finished)
  assert len(found) == 4  # steps 0, 10 and 20, and the end of the adapters
  items = {count['n'] for count in counts(finished).values()}
  assert items == {1520}  # the last of four batches is not full
  logs = list((finished / 'tensorboard').rglob('events*'))
  assert len(logs) == 5  # of the base, and of the training and evaluation of two runs
  told = finished.with_name('workdir.stderr1').read_text()
  assert 'steps' not in told and 'stages' not in told
  saved = finished / 'seed1' / 'all' / 'train' / 'checkpoints' / '20' / 'params'
  assert {'ocdbt.process_0', 'ocdbt.process_1'} <= {p.name for p in saved.iterdir()}


def test_killed_and_stopped_they_resume_and_end_bit_for_bit_the_same(
  finished, killed, tmp_path
):
  workdir = tmp_path / 'w'
  shutil.copytree(killed, workdir)
  train = workdir / 'seed1' / 'lora' / 'train'
  with two_processes(workdir) as (processes, told):
    until(lambda: kept_steps.is_kept(train / 'checkpoints', 0), processes)
    processes[1].send_signal(signal.SIGTERM)
    codes = [process.wait(SECONDS) for process in processes]
    texts = [path.read_text() for path in told]
  assert codes == [128 + signal.SIGTERM] * 2, texts
  assert all('stopped by SIGTERM' in text for text in texts)
  assert not workdir_lib.is_finished(workdir / 'seed1' / 'lora' / 'evaluate')
  codes, text = together(workdir)
  assert codes == [0, 0], text
  assert interruptions.differences(finished, workdir) == []


def again(finished: str, killed: str, folder: str) -> None:
  """One process, on all its devices: evaluates, trains, goes on from a checkpoint.

  Prints how many devices there are and whether a restored checkpoint has the very
  values that were saved.
  """
  e = validate.resolve(several_hosts.get_config())
  workdirs = {
    name: pathlib.Path(folder) / name for name in ('evaluated', 'trained', 'resumed')
  }
  stages = [f'seed1/{run}/evaluate' for run in RUNS]
  copy(pathlib.Path(finished), workdirs['evaluated'], *stages)
  copy(pathlib.Path(finished), workdirs['trained'], *(f'seed1/{x}' for x in RUNS))
  shutil.copytree(killed, workdirs['resumed'])
  kept = workdirs['resumed'] / 'seed1' / 'all' / 'train' / 'checkpoints'
  settings = compiled.of_run(base_model.decoder(e), e.runs['all'])
  like = compiled.program(settings, sharding.make_mesh(e.mesh)).like
  reader = kept_steps.Checkpoints(kept, keep_every=None)
  position = {'data_seed': steps.train_seed(1, e.runs['all'])}
  state = reader.restore(10, like, position)
  reader.close()
  raw = [interruptions.read(kept / '10' / x) for x in ('params', 'optimizer')]
  restored = jax.tree.leaves([state['params'], state['opt_state']])
  same = [np.array_equal(x, y) for x, y in zip(restored, jax.tree.leaves(raw))]
  for name, workdir in workdirs.items():
    stage = 'evaluate' if name == 'evaluated' else 'train'
    pipeline.run(e, workdir, stage, workers=1, follow=False)
  print(json.dumps([jax.device_count(), len(same), all(same)]))


@pytest.mark.parametrize('devices', [8, 1])
def test_one_process_finds_the_same_and_goes_on_from_their_checkpoint(
  finished, killed, tmp_path, devices
):
  arguments = f'{str(finished)!r}, {str(killed)!r}, {str(tmp_path)!r}'
  code = (
    f'from tests.runtime import test_distributed; test_distributed.again({arguments})'
  )
  count, leaves, same = json.loads(command.on_devices(devices, code))
  assert count == devices
  assert leaves > 20 and same  # on another mesh the very values that were saved
  assert counts(tmp_path / 'evaluated') == counts(finished)
  expected = records(finished)
  found = records(tmp_path / 'evaluated')
  assert found.keys() == expected.keys()
  for path, columns in found.items():
    for name, column in columns.items():
      if 'logprobs' in name:
        np.testing.assert_allclose(column, expected[path][name], rtol=1e-4, atol=1e-5)
      else:
        assert column == expected[path][name], (path, name)
  for run in RUNS:
    want = losses(finished, run)
    assert sorted(want) == list(range(2, 22, 2))
    for name in ('trained', 'resumed'):
      have = losses(tmp_path / name, run)
      assert sorted(have)[-5:] == sorted(want)[-5:]
      np.testing.assert_allclose(
        [have[step] for step in have], [want[step] for step in have], rtol=1e-4
      )


def test_an_error_of_the_first_process_is_that_of_both(finished, tmp_path):
  workdir = copy(finished, tmp_path / 'w')
  before = test_pipeline.contents(workdir)
  changed = '--config.train.optimizer.learning_rate=0.5'
  codes, told = together(workdir, '--stage=train', changed)
  assert codes == [1, 1]
  assert told.count('learning_rate: ') == 2, told
  assert 'Traceback' not in told
  assert test_pipeline.contents(workdir) == before


@pytest.mark.parametrize(
  'flags, named',
  [
    (['--distributed', '--workers=2'], '--workers'),
    (['--distributed', '--stage=export'], '--stage=export'),
    (['--distributed', '--stage=evaluate', '--follow'], '--follow'),
    (['--num_processes=2'], '--distributed'),
  ],
)
def test_flags_that_do_not_go_together_are_named(tmp_path, flags, named):
  found = command.run(*interruptions.command(tmp_path / 'w', *flags)[2:])
  assert found.returncode == 1
  assert named in found.stderr and 'Traceback' not in found.stderr
  assert not (tmp_path / 'w').exists()


@pytest.mark.parametrize(
  'second, named',
  [
    ('config.train.optimizer.learning_rate=0.5', 'the processes 1'),
    ('workdir={}/b', 'process 1 on'),
  ],
)
def test_processes_that_differ_or_share_no_workdir_are_refused(tmp_path, second, named):
  codes, told = together(tmp_path / 'a', second=(f'--{second.format(tmp_path)}',))
  assert codes == [1, 1]
  assert told.count(named) == 2 and 'Traceback' not in told, told
  assert not [*tmp_path.glob('*/*')]
