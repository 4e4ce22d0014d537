"""Progress lines: when they are printed, and what they say."""

import types

import pytest

from coupling.runtime import progress


@pytest.fixture
def clock(monkeypatch):
  now = types.SimpleNamespace(seconds=1000.0)
  fake = types.SimpleNamespace(monotonic=lambda: now.seconds)
  monkeypatch.setattr(progress, 'time', fake)
  return now


@pytest.mark.parametrize(
  'seconds, text',
  [(0, '0:00'), (59.6, '1:00'), (190, '3:10'), (3599.7, '1:00:00'), (3661, '1:01:01')],
)
def test_duration(seconds, text):
  assert progress.duration(seconds) == text


def test_line(clock, capsys):
  bar = progress.Progress('seed 0 · kl · train', 400, 'steps')
  bar.update(0)
  clock.seconds += 10
  bar.update(120, loss=1.23456, gap=0.1)
  first, second = capsys.readouterr().err.splitlines()
  assert first == 'seed 0 · kl · train   0/400 steps'
  assert second == (
    'seed 0 · kl · train   120/400 steps   12.0 steps/s   ETA 0:23   '
    'loss 1.235   gap 0.1'
  )


def test_resumed_work_does_not_count_in_the_rate(clock, capsys):
  bar = progress.Progress('train', 400, 'steps')
  bar.update(300)
  clock.seconds += 10
  bar.update(310)
  assert '1.0 steps/s   ETA 1:30' in capsys.readouterr().err


def test_prints_the_first_the_last_and_every_five_seconds(clock, capsys):
  bar = progress.Progress('train', 100, 'steps')
  for step in range(1, 101):  # 0.3 s a step
    bar.update(step)
    clock.seconds += 0.3
  lines = capsys.readouterr().err.splitlines()
  printed = [int(text.split()[1].split('/')[0]) for text in lines]
  assert printed == [1, 18, 35, 52, 69, 86, 100]


def test_metrics_are_read_only_when_printed(clock, capsys):
  class Scalar:
    reads = 0

    def __float__(self):
      Scalar.reads += 1
      return 2.0

  bar = progress.Progress('train', 100, 'steps')
  for step in range(10):
    bar.update(step, loss=Scalar())
  assert Scalar.reads == 1
  assert capsys.readouterr().err == 'train   0/100 steps   loss 2\n'
