"""One line of progress to stderr, now and then."""

import sys
import time

SECONDS = 5.0  # between two lines


def duration(seconds: float) -> str:
  """Seconds as m:ss, or h:mm:ss from one hour."""
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f'{hours}:{minutes:02}:{seconds:02}' if hours else f'{minutes}:{seconds:02}'


_silent = False


def silence() -> None:
  """Nothing is printed by this process any more: another tells the same."""
  global _silent
  _silent = True


def line(*parts: str) -> None:
  """Prints the parts as one line, in one write: processes share the terminal."""
  if _silent:
    return
  sys.stderr.write('   '.join(parts) + '\n')
  sys.stderr.flush()


class Progress:
  """Progress of one loop of `total` units, e.g. steps."""

  def __init__(self, label: str, total: int, unit: str):
    self._label, self._total, self._unit = label, total, unit
    self._first: tuple[float, int] | None = None
    self._printed = 0.0

  def update(self, done: int, **metrics) -> None:
    """Notes that `done` units are done; prints the first, the last, and every 5 s.

    Metrics are numbers or device scalars; they are read only when printed.
    """
    now = time.monotonic()
    if self._first is None:
      self._first = now, done
    elif done < self._total and now - self._printed < SECONDS:
      return
    self._printed = now
    parts = [self._label, f'{done}/{self._total} {self._unit}']
    # Resumed work was done before the first update and says nothing on the rate.
    seconds, units = now - self._first[0], done - self._first[1]
    if seconds > 0 and units > 0:
      rate = units / seconds
      parts += [
        f'{rate:.1f} {self._unit}/s' if rate >= 1 else f'{rate:.2g} {self._unit}/s',
        f'ETA {duration((self._total - done) / rate)}',
      ]
    line(*parts, *(f'{name} {float(value):.4g}' for name, value in metrics.items()))
