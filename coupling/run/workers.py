"""Runs tasks that depend on one another, on one process or on several.

Workers are plain processes on pipes, not a ProcessPoolExecutor: that one ends a
broken pool by SIGTERM, which here means "save and stop", fails every running task
when one worker dies, and cannot say which one it was.
"""

import contextlib
import dataclasses
import graphlib
import multiprocessing
import os
import pickle
import signal
import statistics
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing import connection, resource_tracker

from coupling.config.schema import ConfigError
from coupling.runtime import distributed
from coupling.runtime import interrupt
from coupling.runtime import progress
from coupling.runtime.finite import NonFiniteError
from coupling.runtime.workdir import WorkdirError
from data.readers import DataError


@dataclasses.dataclass(frozen=True)
class Task:
  """One call, `function(*args)`, both picklable, after the tasks named in `needs`.

  A function that had nothing to do returns False: its time is left out of the ETA.
  """

  name: str
  kind: str
  needs: tuple[str, ...]
  function: Callable
  args: tuple


class _Plan:
  """What is done, what may start, and how long the rest will take."""

  def __init__(self, tasks: list[Task], workers: int):
    self._waiting, self._done, self._workers = list(tasks), set(), workers
    self.left = {task.name: task.kind for task in tasks}
    self._seconds: dict[str, list[float]] = {}
    self._begun: dict[str, float] = {}
    self._start = time.monotonic()
    if len(self.left) < len(tasks):
      raise ValueError(f'workers: names are not unique: {[t.name for t in tasks]}')
    for task in tasks:
      if unknown := set(task.needs) - self.left.keys():
        raise ValueError(f'workers: {task.name} needs {unknown}: not among the tasks')
    graphlib.TopologicalSorter({t.name: t.needs for t in tasks}).prepare()  # no cycle

  def start(self) -> Task | None:
    """Takes the first task of the list that is ready."""
    ready = (task for task in self._waiting if self._done.issuperset(task.needs))
    if task := next(ready, None):
      self._waiting.remove(task)
      self._begun[task.name] = time.monotonic()
    return task

  def finish(self, task: Task, worked: bool) -> None:
    now = time.monotonic()
    self._done.add(task.name)
    del self.left[task.name]
    if worked:
      self._seconds.setdefault(task.kind, []).append(now - self._begun[task.name])
    parts = [f'{len(self._done)}/{len(self._done) + len(self.left)} stages']
    parts.append(f'elapsed {progress.duration(now - self._start)}')
    if self._seconds and self.left:
      seen = [s for seconds in self._seconds.values() for s in seconds]
      means = [statistics.mean(self._seconds.get(k, seen)) for k in self.left.values()]
      parts.append(f'ETA {progress.duration(sum(means) / self._workers)}')
    progress.line(*parts)


def _call(message: bytes) -> tuple[bool, Exception | None]:
  """Runs a task in a worker; its error is made fit to travel to the parent."""
  try:
    function, args = pickle.loads(message)
    return function(*args) is not False, None
  except (
    WorkdirError,
    ConfigError,
    DataError,
    NonFiniteError,
    interrupt.Interrupted,
  ) as error:
    return True, error
  except Exception as error:
    text = traceback.format_exc()
    with contextlib.suppress(Exception):
      error.add_note(text)
      pickle.loads(pickle.dumps(error))
      return True, error
    return True, RuntimeError(text)  # its class does not survive pickling


def _work(pipe: connection.Connection) -> None:
  """A worker process: runs what comes through the pipe until the parent closes it."""
  interrupt.install()
  interrupt.die_with_parent()
  signal.pthread_sigmask(signal.SIG_UNBLOCK, interrupt.SIGNALS)
  with contextlib.suppress(EOFError, ConnectionError, KeyboardInterrupt):
    while True:
      pipe.send(_call(pipe.recv_bytes()))


class _Worker:
  """The parent's end of a worker process."""

  def __init__(self):
    context = multiprocessing.get_context('spawn')
    self.pipe, theirs = context.Pipe()
    # Not a daemon: those may have no children, which data loaders need.
    self.process = context.Process(target=_work, args=(theirs,))
    # A signal must not kill a worker before it can save: it stays pending until
    # `_work` asks for it. Starting the tracker unblocks signals, so it goes first.
    resource_tracker.ensure_running()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, interrupt.SIGNALS)
    try:
      self.process.start()
    finally:
      signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    theirs.close()
    self.task: Task | None = None

  def start(self, task: Task) -> None:
    self.task = task
    with contextlib.suppress(ConnectionError):  # it died: `outcome` says so
      self.pipe.send_bytes(pickle.dumps((task.function, task.args)))

  def outcome(self) -> tuple[bool, Exception | None]:
    """What the task came to; waits for it."""
    try:
      return self.pipe.recv()
    except (EOFError, OSError):
      self.process.join()
      code = self.process.exitcode
      killed = f'was killed by {signal.Signals(-code).name}' if code < 0 else ''
      return True, WorkdirError(
        f'{self.task.name}: its worker process {self.process.pid} '
        f'{killed or f"ended with exit code {code}"}: probably out of memory, or '
        'killed by hand; free memory or use fewer workers, and run the same command '
        'again: it resumes'
      )


def _run_here(plan: _Plan) -> Exception | None:
  while not (number := distributed.stopping()) and (task := plan.start()):
    try:
      worked = task.function(*task.args) is not False
    except Exception as error:
      error.add_note(f'in {task.name}')
      return error
    plan.finish(task, worked)
  return interrupt.Interrupted(number) if number and plan.left else None


def _run_on_workers(plan: _Plan, workers: int, pool: list[_Worker]) -> Exception | None:
  """Runs tasks until all are done or one fails or a signal comes; the failure."""
  failure, told = None, False
  while True:
    stop = failure is not None or bool(interrupt.received())
    idle = [worker for worker in pool if not worker.task]
    while not stop and (idle or len(pool) < workers) and (task := plan.start()):
      if not idle:
        pool.append(_Worker())
        idle.append(pool[-1])
      idle.pop().start(task)
    busy = {worker.pipe: worker for worker in pool if worker.task}
    if not busy:
      return failure
    for worker in busy.values() if stop and not told else ():
      worker.process.terminate()
    told = stop
    for pipe in connection.wait(list(busy), timeout=0.2):
      task, (worked, error) = busy[pipe].task, busy[pipe].outcome()
      if error is None:
        plan.finish(task, worked)
      elif failure is None or isinstance(failure, interrupt.Interrupted):
        # An error while saving is worth more than the news of the interruption.
        error.add_note(f'in {task.name}')
        failure = error
      busy[pipe].task = None


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
  before = {name: os.environ[name] for name in variables if name in os.environ}
  os.environ.update(variables)
  try:
    yield
  finally:
    for name in variables:
      os.environ.pop(name, None)
    os.environ.update(before)


def run(tasks: list[Task], workers: int, environment: dict[str, str]) -> None:
  """Runs all tasks, on this process if `workers` is 1; the list's order is priority.

  Call `interrupt.install()` before; tasks call `interrupt.check()` where they have
  saved. A failure or a signal stops the rest: they save, and nothing new starts.

  Args:
    tasks: with unique names, and needs among themselves.
    workers: processes.
    environment: variables that workers have from their start (XLA_FLAGS); on this
      process they reach only what is read after this call.

  Raises:
    Interrupted: by SIGINT or SIGTERM, with tasks left to do.
    WorkdirError: a worker was killed, or a task raised it.
    Exception: the first that a task raised, with the task's name in its notes.
  """
  if workers < 1:
    raise ValueError(f'workers: found {workers}, needs at least 1')
  plan = _Plan(tasks, workers)
  failure, pool = None, []
  with _environment(environment):
    try:
      if workers > 1:
        failure = _run_on_workers(plan, workers, pool)
      else:
        failure = _run_here(plan)
    except BaseException:  # a second Ctrl-C
      for worker in pool:
        worker.process.kill()
      raise
    finally:
      for worker in pool:
        worker.pipe.close()
      for worker in pool:
        worker.process.join(10)
        worker.process.kill()
  if plan.left and (failure is None or isinstance(failure, interrupt.Interrupted)):
    interrupt.check()  # names the signal that came here, not the one passed on
  if failure is not None:
    raise failure
