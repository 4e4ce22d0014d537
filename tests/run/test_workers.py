"""Workers: order, errors, and what signals do, with real processes."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from coupling.run import workers as workers_lib
from coupling.run.workers import Task
from coupling.runtime import interrupt
from coupling.runtime.workdir import WorkdirError

ROOT = pathlib.Path(__file__).parents[2]


def note(folder, name, text=''):
  (pathlib.Path(folder) / name).write_text(f'{time.monotonic()} {text}')


def step(folder, name, seconds=0.0):
  note(folder, f'{name}.start', os.getpid())
  time.sleep(seconds)
  note(folder, f'{name}.end', os.environ.get('COUPLING_TEST', ''))


def long(folder, name):
  """Works until asked to stop, then saves."""
  note(folder, f'{name}.start', os.getpid())
  for _ in range(600):
    if interrupt.received():
      note(folder, f'{name}.saved')
      interrupt.check()
    time.sleep(0.05)


def long_worker_is_killed(folder, name, victim):
  """Kills the process that runs the task `victim`."""
  wait_for(folder, f'{victim}.start')
  os.kill(pid_of(folder, victim), signal.SIGKILL)
  long(folder, name)


class TwoArgumentsError(Exception):
  """Pickles, but does not unpickle."""

  def __init__(self, one, two):
    super().__init__(f'{one} {two}')


def fail(error):
  raise error


def fail_unpicklable():
  raise TwoArgumentsError('one', 'two')


def wait_for(folder, name, seconds=15.0):
  deadline = time.monotonic() + seconds
  while not (pathlib.Path(folder) / name).exists():
    assert time.monotonic() < deadline, f'{name} is not there after {seconds} s'
    time.sleep(0.02)


def pid_of(folder, name):
  return int((pathlib.Path(folder) / f'{name}.start').read_text().split()[1])


def alive(pid):
  """Whether the process runs; one that only waits to be reaped does not."""
  status = pathlib.Path(f'/proc/{pid}/status')
  try:
    return not re.search(r'^State:\s+Z', status.read_text(), re.MULTILINE)
  except (FileNotFoundError, ProcessLookupError):
    return False


def task(folder, name, *needs, seconds=0.0, function=step, kind='step'):
  args = (str(folder), name, seconds) if function is step else (str(folder), name)
  return Task(name, kind, needs, function, args)


def started(folder):
  times = {p.stem: float(p.read_text().split()[0]) for p in folder.glob('*.start')}
  return sorted(times, key=times.get)


MAIN = """
import sys
sys.path.insert(0, {tests!r})
from test_workers import *

if __name__ == "__main__":
  interrupt.install()
  folder = sys.argv[1]
  try:
    workers_lib.run([{tasks}], {workers}, {{}})
  except interrupt.Interrupted as error:
    print("Interrupted:", error, flush=True)
    sys.exit(9)
"""


@pytest.fixture
def program(tmp_path):
  """Starts a program of its own process group that runs tasks."""
  processes = []

  def start(tasks, workers):
    script = tmp_path / 'main.py'
    tests = str(pathlib.Path(__file__).parent)
    script.write_text(MAIN.format(tests=tests, tasks=tasks, workers=workers))
    process = subprocess.Popen(
      [sys.executable, script, tmp_path],
      env=os.environ | {'PYTHONPATH': str(ROOT)},
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      start_new_session=True,
    )
    processes.append(process)
    return process

  yield start
  for process in processes:
    process.kill()
    process.wait()


TWO = "task(folder, 'a', function=long), task(folder, 'b', function=long), "
THREE = TWO + "task(folder, 'c', function=long)"


def test_in_process_keeps_the_list_order_where_needs_allow(tmp_path, capsys):
  tasks = [
    task(tmp_path, 'report', 'b1', 'b2'),
    task(tmp_path, 'b1', 'a1'),
    task(tmp_path, 'a1'),
    task(tmp_path, 'a2'),
    task(tmp_path, 'b2', 'a2'),
  ]
  workers_lib.run(tasks, 1, {})
  assert started(tmp_path) == ['a1', 'b1', 'a2', 'b2', 'report']
  assert pid_of(tmp_path, 'a1') == os.getpid()
  lines = capsys.readouterr().err.splitlines()
  assert lines[0] == '1/5 stages   elapsed 0:00   ETA 0:00'
  assert lines[-1] == '5/5 stages   elapsed 0:00'


def test_workers_keep_needs_priority_and_environment(tmp_path, monkeypatch):
  monkeypatch.delenv('COUPLING_TEST', raising=False)
  tasks = [
    task(tmp_path, 'late', 'a', seconds=0.1),
    task(tmp_path, 'a', seconds=0.3),
    task(tmp_path, 'b', seconds=1.0),
    task(tmp_path, 'c'),
  ]
  workers_lib.run(tasks, 2, {'COUPLING_TEST': 'from the start'})
  assert 'COUPLING_TEST' not in os.environ
  times = {p.name: float(p.read_text().split()[0]) for p in tmp_path.iterdir()}
  assert times['a.end'] <= times['late.start']
  assert times['late.start'] < times['c.start']  # it is first in the list
  pids = {pid_of(tmp_path, name) for name in ('late', 'a', 'b', 'c')}
  assert len(pids) == 2 and os.getpid() not in pids
  assert 'from the start' in (tmp_path / 'a.end').read_text()
  assert not any(alive(pid) for pid in pids)


def test_eta_by_kind_without_skipped_tasks(monkeypatch, capsys):
  clock = [0.0]
  monkeypatch.setattr(workers_lib.time, 'monotonic', lambda: clock[0])
  kinds = ['skip', 'train', 'train', 'label', 'train', 'label', 'report']
  plan = workers_lib._Plan(
    [Task(str(i), k, (), fail, ()) for i, k in enumerate(kinds)], 2
  )
  for seconds, worked in [(0.1, False), (100, True), (200, True), (30, True)]:
    current = plan.start()
    clock[0] += seconds
    plan.finish(current, worked)
  # Left: train 150, label 30, report the mean of all, 110: 290 s on two workers.
  lines = capsys.readouterr().err.splitlines()
  assert lines[0] == '1/7 stages   elapsed 0:00'
  assert lines[-1] == '4/7 stages   elapsed 5:30   ETA 2:25'


def test_refuses_what_is_no_plan(tmp_path):
  one = task(tmp_path, 'a')
  with pytest.raises(ValueError, match='names are not unique'):
    workers_lib.run([one, one], 1, {})
  with pytest.raises(ValueError, match=r"a needs .'b'.: not among the tasks"):
    workers_lib.run([task(tmp_path, 'a', 'b')], 1, {})
  with pytest.raises(ValueError, match='cycle'):
    workers_lib.run([task(tmp_path, 'a', 'b'), task(tmp_path, 'b', 'a')], 1, {})
  with pytest.raises(ValueError, match='workers: found 0'):
    workers_lib.run([one], 0, {})
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('workers', [1, 2])
def test_an_error_names_its_task_and_stops_the_rest(tmp_path, workers):
  tasks = [
    Task('seed0/train', 'train', (), fail, (KeyError('loss'),)),
    *([task(tmp_path, 'a', function=long)] if workers == 2 else []),
    task(tmp_path, 'later'),
    task(tmp_path, 'after', 'seed0/train'),
  ]
  with pytest.raises(KeyError) as caught:
    workers_lib.run(tasks, workers, {})
  notes = '\n'.join(caught.value.__notes__)
  assert 'in seed0/train' in notes
  assert workers == 1 or ', in fail\n' in notes  # the worker's traceback
  assert not list(tmp_path.glob('after*')) and not list(tmp_path.glob('later*'))
  if workers == 2 and (tmp_path / 'a.start').exists():
    assert (tmp_path / 'a.saved').exists()


@pytest.mark.parametrize('workers', [1, 2])
def test_workdir_errors_stay_plain(workers):
  error = WorkdirError('workdir/base: train.rate: 1 there, 2 now')
  with pytest.raises(WorkdirError) as caught:
    workers_lib.run([Task('base', 'base', (), fail, (error,))], workers, {})
  assert str(caught.value) == str(error)


def test_an_error_that_does_not_survive_pickling():
  with pytest.raises(RuntimeError, match='TwoArgumentsError: one two') as caught:
    workers_lib.run([Task('base', 'base', (), fail_unpicklable, ())], 2, {})
  assert 'in base' in caught.value.__notes__


def test_a_killed_worker_is_named_and_the_others_save(tmp_path):
  tasks = [
    task(tmp_path, 'seed0/train', function=long),
    Task('b', 'b', (), long_worker_is_killed, (str(tmp_path), 'b', 'seed0/train')),
    task(tmp_path, 'later'),
  ]
  (tmp_path / 'seed0').mkdir()
  with pytest.raises(WorkdirError) as caught:
    workers_lib.run(tasks, 2, {})
  text = str(caught.value)
  pid = pid_of(tmp_path, 'seed0/train')
  assert text.startswith(f'seed0/train: its worker process {pid} was killed by SIGKILL')
  assert 'out of memory' in text and text.endswith('the same command again: it resumes')
  assert (tmp_path / 'b.saved').exists() and not (tmp_path / 'later.start').exists()


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize('workers', [1, 2])
def test_signal_to_the_parent_saves_and_stops(tmp_path, program, number, workers):
  process = program(THREE, workers)
  for name in 'ab'[:workers]:
    wait_for(tmp_path, f'{name}.start')
  process.send_signal(number)
  out, err = process.communicate(timeout=10)
  assert process.returncode == 9 and 'run the same command again: it resumes' in out
  assert 'saving and stopping' in err and 'Traceback' not in err
  assert {p.stem for p in tmp_path.glob('*.saved')} == set('ab'[:workers])
  assert not (tmp_path / 'c.start').exists()


def test_ctrl_c_on_a_terminal_reaches_all_and_still_saves(tmp_path, program):
  process = program(THREE, 2)
  for name in 'ab':
    wait_for(tmp_path, f'{name}.start')
  os.killpg(process.pid, signal.SIGINT)  # then the parent adds its SIGTERM
  out, err = process.communicate(timeout=10)
  assert process.returncode == 9 and 'Interrupted: stopped by SIGINT' in out
  assert err.count('saving and stopping') == 1 and 'Traceback' not in err
  assert {p.stem for p in tmp_path.glob('*.saved')} == {'a', 'b'}


@pytest.mark.parametrize('delay', [0.0, 0.04, 0.1])
def test_ctrl_c_while_workers_start(tmp_path, program, delay):
  process = program(f"*(note(folder, 'go') or ()), {THREE}", 2)
  wait_for(tmp_path, 'go')
  time.sleep(delay)
  os.killpg(process.pid, signal.SIGINT)
  out, err = process.communicate(timeout=10)
  assert process.returncode == 9 and 'Interrupted: stopped by SIGINT' in out
  assert 'Traceback' not in err
  assert len(list(tmp_path.glob('*.saved'))) == len(list(tmp_path.glob('*.start')))


STUBBORN = "Task('a', 'a', (), step, (folder, 'a', 60)), "


def test_second_ctrl_c_stops_at_once(tmp_path, program):
  process = program(STUBBORN + STUBBORN.replace("'a'", "'b'"), 2)
  for name in 'ab':
    wait_for(tmp_path, f'{name}.start')
  os.killpg(process.pid, signal.SIGINT)
  time.sleep(0.5)
  assert process.poll() is None  # the tasks do not look at the request
  os.killpg(process.pid, signal.SIGINT)
  _, err = process.communicate(timeout=5)
  assert process.returncode != 0 and 'KeyboardInterrupt' in err
  assert not any(alive(pid_of(tmp_path, name)) for name in 'ab')


def test_no_worker_outlives_a_killed_parent(tmp_path, program):
  process = program(STUBBORN + "task(folder, 'b')", 2)
  for name in 'ab':
    wait_for(tmp_path, f'{name}.start')
  pids = [pid_of(tmp_path, name) for name in 'ab']
  assert alive(pids[0])
  process.kill()
  process.wait()
  deadline = time.monotonic() + 3
  while any(alive(pid) for pid in pids):
    assert time.monotonic() < deadline
    time.sleep(0.05)
