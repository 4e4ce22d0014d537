"""Answers kept as they come, one line of JSON each, so that nothing is asked twice."""

import json
import os
import pathlib
import threading
from typing import Any

from coupling.runtime import progress
from coupling.runtime.files import WorkdirError


class AnswerLog:
  """A file of answers by the digests of their requests; threads may share it.

  Lines are only added, each in one write that is on the disk before `keep` returns. A
  line that was cut by a kill, or is damaged, is left out: its request is asked anew.
  """

  def __init__(self, path: pathlib.Path):
    """Reads what is kept already; raises WorkdirError where the file cannot be read."""
    self.path = path
    self._lock = threading.Lock()
    self._answers: dict[str, dict[str, Any]] = {}
    try:
      data = path.read_bytes() if path.exists() else b''
    except OSError as error:
      raise WorkdirError(f'{path}: cannot be read ({error}); restore it') from error
    self._torn = bool(data) and not data.endswith(b'\n')
    bad = 0
    for line in data.splitlines():
      try:
        kept = json.loads(line)
        self._answers[kept['request']] = dict(kept['answer'])
      except (ValueError, TypeError, LookupError):
        bad += bool(line)
    if bad:
      progress.line(f'WARNING: {path}: {bad} unreadable lines; these are asked anew')

  def __contains__(self, request: str) -> bool:
    return request in self._answers

  def __getitem__(self, request: str) -> dict[str, Any]:
    return self._answers[request]

  def __len__(self) -> int:
    return len(self._answers)

  def keep(self, request: str, answer: dict[str, Any]) -> None:
    """Adds an answer; raises WorkdirError where the file cannot be written."""
    line = json.dumps({'request': request, 'answer': answer}).encode() + b'\n'
    with self._lock:
      try:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open('ab', buffering=0) as file:
          file.write(b'\n' * self._torn + line)
          os.fsync(file.fileno())
      except OSError as error:
        raise WorkdirError(
          f'{self.path}: cannot be written to ({error}); free some space, or choose '
          'another place, and run the same command again'
        ) from error
      self._torn = False
      self._answers[request] = answer
