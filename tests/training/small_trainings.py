"""Trainings of seconds, and what they leave in their folders."""

import dataclasses
import functools
import json
import pathlib
import struct

import jax
import numpy as np
from tensorboardX.proto import event_pb2

from benchmarks import interruptions
from coupling.config import schema
from coupling.model import decoder
from coupling.training import train_loop
from tests.training import test_train_step

MODEL = dataclasses.replace(
  test_train_step.MODEL, width=8, depth=1, num_heads=2, num_kv_heads=1, mlp_dim=16
)
LOOP = test_train_step.LOOP  # 8 steps, two at a time, kept every 4
BATCH = 8


def objectives(held: float, shift: float = 0.3) -> schema.Objectives:
  """With these weights of the KL and of the shift."""
  of = test_train_step.EVERY
  return dataclasses.replace(
    of,
    behavior_kl=dataclasses.replace(of.behavior_kl, weight=held),
    behavior_xent=dataclasses.replace(of.behavior_xent, weight=shift),
  )


@functools.cache
def init(seed: int) -> decoder.Params:
  return decoder.init(MODEL, seed)


def training(folder: pathlib.Path, run: int, **changes) -> train_loop.Training:
  """Runs differ in rate, weights, data, seeds, M_0 and folders: in no program."""
  rows = test_train_step.make_batch(100 + run)  # 16 rows, of which 8 are a batch
  fields = dict(
    title=f'run {run}',
    model=MODEL,
    low_rank=None,
    objectives=objectives(held=0.5 + run, shift=0.3 / (1 + run)),
    optimizer=dataclasses.replace(
      test_train_step.OPTIMIZER, learning_rate=1e-2 * (1 + run)
    ),
    loop=LOOP,
    mesh_axes=schema.Mesh(data=-1, fsdp=1),
    params=init(run),
    frozen={},
    parts={name: (part, BATCH) for name, part in rows.items()},
    data_seed=run,
    plan=None,
    folder=folder / f'run{run}' / 'checkpoints',
    log=folder / f'run{run}' / 'log',
  )
  return train_loop.Training(**fields | changes)


def kept(folder: pathlib.Path) -> dict[int, dict]:
  """All that is kept of a run: step -> parameters, optimizer, position."""
  found = {}
  for path in sorted(p for p in folder.iterdir() if p.is_dir()):
    items = ('params', 'optimizer')
    trees = {name: interruptions.read(path / name) for name in items}
    position = json.loads((path / 'position' / 'metadata').read_text())
    files = sorted(p.name for p in path.iterdir())
    found[int(path.name)] = trees | {'position': position, 'files': files}
  return found


def logged(folder: pathlib.Path) -> dict[tuple[str, int], float]:
  """(metric, step) -> what the log said last."""
  found = {}
  for path in sorted(folder.glob('events*'), key=lambda p: p.stat().st_mtime_ns):
    data = path.read_bytes()
    while data:  # records of TFRecord: length, its CRC, content, its CRC
      (length,) = struct.unpack('<Q', data[:8])
      event = event_pb2.Event.FromString(data[12 : 12 + length])
      for value in event.summary.value:
        found[value.tag, event.step] = value.simple_value
      data = data[16 + length :]
  return found


def compare(found, want) -> None:
  """Trees that are equal bit for bit."""
  assert jax.tree.structure(found) == jax.tree.structure(want)
  jax.tree.map(np.testing.assert_array_equal, found, want)
