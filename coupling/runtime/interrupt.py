"""Graceful interruption: finish the step, save, stop; the same command resumes."""

import contextlib
import multiprocessing
import os
import signal
import threading
import time

SIGNALS = (signal.SIGINT, signal.SIGTERM)

_received: list[int] = []


class Interrupted(Exception):
  """The user or the system asked the program to stop; what was done is saved."""

  def __init__(self, number: int):
    super().__init__(number)
    self.number = signal.Signals(number)

  def __str__(self) -> str:
    return f'stopped by {self.number.name}; run the same command again: it resumes'

  @property
  def exit_code(self) -> int:
    """As of a shell's child that was killed by the signal."""
    return 128 + self.number


def _receive(number, frame):
  del frame
  _received.append(number)
  if _received.count(signal.SIGINT) > 1:
    raise KeyboardInterrupt
  if len(_received) == 1 and multiprocessing.parent_process() is None:
    # Not print: a handler may run in the middle of another write to stderr.
    with contextlib.suppress(OSError):
      os.write(2, b'\nsaving and stopping; Ctrl-C again stops without saving\n')


def install() -> None:
  """Makes SIGINT and SIGTERM a request to stop; a second SIGINT stops at once."""
  for number in SIGNALS:
    signal.signal(number, _receive)


def received() -> int:
  """The signal that asked the process to stop; 0: none did."""
  return _received[0] if _received else 0


def check() -> None:
  """Raises Interrupted if the process was asked to stop."""
  if number := received():
    raise Interrupted(number)


def die_with_parent() -> None:
  """Ends this process within a second of its parent's death, even by SIGKILL."""
  parent = multiprocessing.parent_process()
  # A parent that died before this call has already been replaced in getppid.
  pid = parent.pid if parent else os.getppid()

  def watch():
    while os.getppid() == pid:
      time.sleep(0.5)
    os._exit(1)

  threading.Thread(target=watch, name='die_with_parent', daemon=True).start()
