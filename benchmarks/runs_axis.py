"""How long runs take at once, over one after another.

  python -m benchmarks.runs_axis

Explanation training of the built-in world (configs/world.py) on made-up rows of its
shapes: the program of one run, dispatched for each run in turn, against one program of
all runs (compiled.together), with lax.map and with vmap. In every round each form takes
its turn; of the rounds' times the median is told. Prints milliseconds per step of one
run, the ratio to one after another (above 1: at once is faster), and the seconds until
the first dispatch is done (trace, compile, run).
"""

import statistics
import time

from absl import app
from absl import flags
import jax
import numpy as np

from configs import world
from coupling.config import validate
from coupling.model import decoder
from coupling.model import sharding
from coupling.run import base_model
from coupling.training import compiled
from coupling.training import train_step

ROUNDS = flags.DEFINE_integer('rounds', 5, 'Dispatches of every form that are timed.')
RUNS = flags.DEFINE_multi_integer('runs', [1, 4, 16], 'How many runs at once.')
TOKENS, WORDS = 12, 2  # lengths of the world's prompts and statements


def make_batches(config, vocabulary: int, seed: int) -> train_step.Batch:
  """Batches of one dispatch [S, B, ...] with the shapes of the world's."""
  rng, steps = np.random.default_rng(seed), config.loop.steps_per_dispatch

  def part(rows: int, read: int):
    draw = lambda *shape: rng.integers(1, vocabulary, (steps, rows, *shape), np.int32)
    last_C = np.arange(TOKENS - read, TOKENS, dtype=np.int32)
    return {
      'tokens': draw(TOKENS),
      'valid': np.ones((steps, rows, TOKENS), bool),
      'read': np.broadcast_to(last_C, (steps, rows, read)),
      'target': draw(read),
      'mask': np.ones((steps, rows, read), bool),
    }

  behavior = part(config.behavior_batch, 1)
  logits_SxBx1xV = rng.normal(size=(steps, config.behavior_batch, 1, vocabulary))
  behavior['reference'] = np.asarray(jax.nn.log_softmax(logits_SxBx1xV), np.float32)
  return {'explanation': part(config.explanation_batch, WORDS), 'behavior': behavior}


class InTurn:
  """Runs one after another, each by a dispatch of its own."""

  def __init__(self, settings, mesh, hypers, batches):
    program = compiled.alone(settings, mesh)
    self._run, self._hypers = program.run, hypers
    self._batches = jax.device_put(batches, program.batch_sharding)
    params = decoder.init(settings.model, 0)
    self._states = [program.init(params) for _ in hypers]

  def step(self):
    turns = zip(self._states, self._hypers, self._batches)
    done = [self._run(state, {}, hyper, batch) for state, hyper, batch in turns]
    self._states = [state for state, _ in done]
    return done


class AtOnce:
  """All runs by one dispatch."""

  def __init__(self, settings, mesh, hypers, batches, vectorised):
    self._run = compiled.together(settings, mesh, True, vectorised)
    self._hyper = sharding.stack_runs(mesh, hypers)
    self._batches = sharding.stack_runs(mesh, batches)
    start = compiled.alone(settings, mesh).init(decoder.init(settings.model, 0))
    self._state = sharding.stack_runs(mesh, [start] * len(hypers))

  def step(self):
    self._state, metrics = self._run(self._state, {}, self._hyper, self._batches)
    return self._state, metrics


def seconds(form) -> float:
  start = time.perf_counter()
  jax.block_until_ready(form.step())
  return time.perf_counter() - start


def main(_) -> None:
  e = validate.resolve(world.get_config())
  config, model, mesh = e.runs['kl'], base_model.decoder(e), sharding.make_mesh(e.mesh)
  settings = compiled.of_run(model, config)
  print(f'{jax.device_count()} x {jax.devices()[0].device_kind}')
  print('runs  form         ms/step  ratio  first s')
  for runs in RUNS.value:
    hypers = [train_step.hyper(config.objectives, config.optimizer)] * runs
    batches = [make_batches(config, model.vocab_size, seed) for seed in range(runs)]
    shared = settings, mesh, hypers, batches
    forms = {'in turn': InTurn(*shared)}
    if runs % mesh.size == 0:
      forms |= {'lax.map': AtOnce(*shared, False), 'vmap': AtOnce(*shared, True)}
    first = {name: seconds(form) for name, form in forms.items()}
    rounds = [
      {name: seconds(form) for name, form in forms.items()} for _ in range(ROUNDS.value)
    ]
    times = {name: statistics.median(row[name] for row in rounds) for name in forms}
    for name, total in times.items():
      per_step = 1e3 * total / (runs * config.loop.steps_per_dispatch)
      ratio = times['in turn'] / total
      print(f'{runs:4}  {name:10} {per_step:9.2f} {ratio:6.2f} {first[name]:8.1f}')


if __name__ == '__main__':
  app.run(main)
