"""Kills a tiny experiment at random points of every stage; it must end the same.

  python -m benchmarks.interruptions --kills=50
  python -m benchmarks.interruptions --kills=3 --real

Each round starts the experiment in a new workdir and, stage by stage, waits until the
stage is under way, lets a random time pass and sends SIGINT, SIGTERM or SIGKILL. Then
it runs to the end, and parameters, records and report are compared, bit for bit, with
those of an undisturbed run. Prints one line a kill and the number of differences.
"""

import itertools
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

from absl import app
from absl import flags
import jax
import numpy as np
import orbax.checkpoint as ocp
import pyarrow.parquet as pq

from coupling.run import pipeline

KILLS = flags.DEFINE_integer('kills', 50, 'How often to kill.')
SEED = flags.DEFINE_integer('seed', 0, 'Of the kills.')
REAL = flags.DEFINE_bool('real', False, 'SmolLM2 on facts; else the built-in world.')

ROOT = pathlib.Path(__file__).parent.parent
MISSES = 5  # rounds without a kill, after which it ends with an error
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
# Seconds; less than most stages of the tiny experiments take.
LONGEST_DELAY, LONGEST_DELAY_REAL = 2.0, 20.0
REAL_CONFIG = 'configs/facts.py:quick=1,facts=1,hints=1,steps=4'
REAL_TINY = ('--config.label.shard=64', '--config.train.loop.checkpoint_every=2')
TINY = (
  '--config.task.train_pairs=512',
  '--config.base.documents=8',
  '--config.base.model.depth=1',
  '--config.base.loop.steps=8',
  '--config.base.loop.steps_per_dispatch=2',
  '--config.base.loop.checkpoint_every=4',
  '--config.base.optimizer.warmup_steps=2',
  '--config.label.shard=256',
  '--config.evaluate.likelihood=True',
  '--config.train.loop.steps=8',
  '--config.train.loop.steps_per_dispatch=2',
  '--config.train.loop.checkpoint_every=4',
  '--config.train.optimizer.warmup_steps=2',
)


def command(
  workdir: pathlib.Path, *more: str, config: str = 'seeds=1', real: bool = False
) -> list[str]:
  """The command line of a tiny experiment; `config`: arguments of configs/world.py."""
  given, tiny = f'configs/world.py:{config}', TINY
  if real:
    given, tiny = REAL_CONFIG, REAL_TINY
  script = [sys.executable, 'main.py', f'--config={given}']
  return [*script, f'--workdir={workdir}', *tiny, *more]


def complete(workdir: pathlib.Path, real: bool = False) -> None:
  """Runs the experiment to its end."""
  quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
  subprocess.run(command(workdir, real=real), cwd=ROOT, check=True, **quiet)


def under_way(workdir: pathlib.Path, stage: str) -> bool:
  """Whether a folder of this stage has been begun and is not finished."""
  # Not rglob: checkpoints come and go below these folders.
  found = [workdir.glob(f'{depth}/manifest.json') for depth in ('*', '*/*', '*/*/*')]
  for path in itertools.chain(*found):
    manifest = json.loads(path.read_text())
    if manifest['stage'] == stage and not manifest['finished']:
      return True
  return False


def kill_once(
  workdir: pathlib.Path, stage: str, rng: random.Random, real: bool = False
) -> str | None:
  """Starts or resumes the experiment and kills it once a stage is under way.

  Returns:
    The signal's name once the process is gone, or None if it ended by itself first.
  """
  number = rng.choice(SIGNALS)
  process = subprocess.Popen(
    command(workdir, real=real),
    cwd=ROOT,
    stderr=subprocess.DEVNULL,
    start_new_session=True,
  )
  while process.poll() is None and not under_way(workdir, stage):
    time.sleep(0.02)
  time.sleep(rng.uniform(0, LONGEST_DELAY_REAL if real else LONGEST_DELAY))
  alive = process.poll() is None
  if alive:
    os.kill(process.pid, number)
  process.wait()
  return number.name if alive else None


def disturbed(
  workdir: pathlib.Path, kills: int, rng: random.Random, real: bool = False
) -> list[str]:
  """Kills once in each stage, in their order, then completes; the kills that hit."""
  done = []
  stages = ('label', 'train', 'evaluate') if real else pipeline.RUN
  for stage in stages[:kills]:
    if name := kill_once(workdir, stage, rng, real):
      done.append(f'{name} in {stage}')
  complete(workdir, real)
  return done


def read(path: pathlib.Path):
  """A tree of a checkpoint as NumPy arrays, whatever devices it was written on."""
  with ocp.PyTreeCheckpointer() as reader:
    like = reader.metadata(path.resolve()).item_metadata.tree
    args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), like)
    return reader.restore(path.resolve(), restore_args=args)


def names(workdir: pathlib.Path) -> set[str]:
  """Files of a workdir, but for logs, hidden ones and those that Orbax names."""
  found = (x.relative_to(workdir) for x in workdir.rglob('*') if x.is_file())
  return {
    str(x)
    for x in found
    if not {'checkpoints', 'params', 'tensorboard'} & {*x.parts}
    and not any(part.startswith('.') for part in x.parts)
  }


def differences(a: pathlib.Path, b: pathlib.Path) -> list[str]:
  """Names of what differs between two finished workdirs, beside times."""
  found = sorted(names(a) ^ names(b))
  for path in sorted(a.rglob('*.parquet')):
    relative = path.relative_to(a)
    if str(relative) in found:
      continue
    if not pq.read_table(path).equals(pq.read_table(b / relative)):
      found.append(str(relative))
  for manifest in sorted(a.rglob('checkpoints')):
    relative = manifest.relative_to(a)
    step = max((p.name for p in manifest.iterdir() if p.name.isdigit()), key=int)
    for item in ('params', 'optimizer'):
      one, other = (read(root / relative / step / item) for root in (a, b))
      same = jax.tree.map(lambda x, y: np.array_equal(x, y), one, other)
      if not all(jax.tree.leaves(same)):
        found.append(f'{relative}/{step}/{item}')
  reports = [
    json.loads((root / 'report' / 'report.json').read_text()) for root in (a, b)
  ]
  for report in reports:
    del report['provenance']  # times
  if reports[0] != reports[1]:
    found.append('report/report.json')
  texts = [(root / 'report' / 'report.md').read_bytes() for root in (a, b)]
  if texts[0] != texts[1]:
    found.append('report/report.md')
  return found


def main(_) -> None:
  rng = random.Random(SEED.value)
  with tempfile.TemporaryDirectory() as folder:
    reference = pathlib.Path(folder) / 'undisturbed'
    complete(reference, REAL.value)
    left, differing, number, missed = KILLS.value, 0, 0, 0
    while left > 0:
      workdir = pathlib.Path(folder) / f'disturbed-{number}'
      kills = disturbed(workdir, left, rng, REAL.value)
      found = differences(reference, workdir)
      print(
        f'round {number}: {", ".join(kills)}: {found or "no difference"}', flush=True
      )
      left, differing, number = left - len(kills), differing + len(found), number + 1
      missed = 0 if kills else missed + 1
      if missed == MISSES:
        sys.exit(
          f'{MISSES} rounds without a kill, with {left} left: stages end before the '
          'delay; lower LONGEST_DELAY'
        )
  print(f'{KILLS.value} kills, {differing} differences')


if __name__ == '__main__':
  app.run(main)
