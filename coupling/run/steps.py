"""The kept steps of a run: its weights at each, and waiting for those to come."""

from collections.abc import Callable, Iterator
import functools
import math
import pathlib
import time

from coupling.checkpoints import kept_steps as kept_steps_lib
from coupling.config import schema
from coupling.model import decoder
from coupling.model import sharding
from coupling.run import base_model
from coupling.run import context
from coupling.run import own_checkpoints
from coupling.runtime import interrupt
from coupling.runtime import progress
from coupling.runtime import workdir as workdir_lib
from coupling.training import train_step

Experiment = schema.Experiment
Path = pathlib.Path

POLL_SECONDS = 2.0  # how often a following evaluation looks for new checkpoints
TELL_SECONDS = 60.0  # how often it says that it waits


def train_seed(seed: int, config: schema.Train) -> int:
  """Of a run's data order and fresh adapters."""
  return context.sibling_seed(seed, config.seed)


def fresh_adapters(e: Experiment, seed: int, run: str) -> decoder.Params:
  """A run's adapters as they start; empty where all weights are trained."""
  config = e.runs[run]
  return train_step.fresh_adapters(
    base_model.decoder(e), config.lora, train_seed(seed, config)
  )


def read_trained(e: Experiment, workdir: Path, seed: int, run: str, step: int):
  """What a run trains, adapters or all weights, as it was at a kept step."""
  mesh, adapters = sharding.make_mesh(e.mesh), fresh_adapters(e, seed, run)
  like = base_model.kept_like(base_model.decoder(e), adapters, mesh)
  folder = workdir / f'seed{seed}' / run / 'train' / own_checkpoints.FOLDER
  return kept_steps_lib.read_params(folder, step, like)


def start(e: Experiment, workdir: Path, seed: int, run: str) -> decoder.Params:
  """What a run trains, as it starts: another run's end, or fresh adapters; else {},
  for all weights of M_0."""
  first = e.runs[run].start
  if first:
    last = e.runs[first].loop.steps
    return read_trained(e, workdir, seed, first, last)
  return sharding.put_params(sharding.make_mesh(e.mesh), fresh_adapters(e, seed, run))


def reader(
  e: Experiment, workdir: Path, seed: int, run: str
) -> Callable[[int], decoder.Params]:
  """From a kept step to all weights; a run of no steps has those of M_0."""
  config = e.runs[run]
  if config.loop.steps == 0:
    params = base_model.base_params(e, workdir, seed)
    return lambda step: params
  frozen = base_model.base_params(e, workdir, seed) if config.lora.rank else {}
  return lambda step: frozen | read_trained(e, workdir, seed, run, step)


def kept(train_folder: Path, config: schema.Train, follow: bool) -> Iterator[int]:
  """The steps to evaluate, in order, each once its checkpoint is there.

  Args:
    train_folder: of the train stage.
    config: what is trained; of no steps, step 0 is M_0, which has no checkpoint there.
    follow: wait for checkpoints that a running training still makes.
  """
  loop = config.loop

  def wait_until(there):
    told = -math.inf
    while follow and not there():
      interrupt.check()
      if time.monotonic() - told >= TELL_SECONDS:
        progress.line(f'waiting for {train_folder}, which has no new checkpoint yet')
        told = time.monotonic()
      time.sleep(POLL_SECONDS)

  saved = train_folder / own_checkpoints.FOLDER
  finished = functools.partial(workdir_lib.is_finished, train_folder)
  kept_steps = {loop.steps}
  if config.evaluated == 'kept':
    kept_steps.update(range(0, loop.steps, loop.checkpoint_every))
  for step in sorted(kept_steps) if loop.steps else ():
    wait_until(lambda: kept_steps_lib.is_kept(saved, step) or finished())  # noqa: B023
    yield step
  wait_until(finished)
  if loop.steps == 0:
    yield 0
