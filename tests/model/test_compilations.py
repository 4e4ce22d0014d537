"""What is compiled, and when: one program a training, one a length in evaluation.

Each program compiled takes minutes with a large model, so that none may come in the
middle of a run.
"""

import dataclasses

import jax
import numpy as np
import pytest

from coupling.config import schema
from coupling.elicit import evaluation, explanation
from coupling.model import decoder
from coupling.runtime import progress
from coupling.training import train_loop, train_step
from data import pairs, trees
from tests.elicit import test_evaluation
from tests.training import test_tree_batches
from tests import training_texts as texts

EVENT = '/jax/core/compile/backend_compile_duration'


@pytest.fixture
def compiled():
  """Names of the functions that are compiled, or read from the cache of the disk."""
  names = []

  def listen(event: str, seconds: float, **more) -> None:
    del seconds
    if event == EVENT:
      names.append(more['fun_name'])

  jax.monitoring.register_event_duration_secs_listener(listen)
  yield names
  jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize('with_trees', [True, False])
def test_a_training_compiles_its_step_once_and_nothing_after_its_first(
  compiled, monkeypatch, tmp_path, with_trees
):
  """Batches of trees of many lengths, or of questions of many, are of one shape."""
  config, _ = test_tree_batches.CASES['adapters_off']
  made = test_tree_batches.parts('adapters_off', with_trees)
  plan, _ = test_tree_batches.plan_of('adapters_off') if with_trees else (None, None)
  sizes = {
    len(x) for x in test_tree_batches.CHAT.prompts([p.prompt for p in texts.PAIRS])
  }
  assert len(sizes) > 3
  counted = []  # at each step that is told of
  update = progress.Progress.update

  def counting(self, done, **metrics):
    counted.append((done, len(compiled)))
    update(self, done, **metrics)

  monkeypatch.setattr(progress.Progress, 'update', counting)
  model = dataclasses.replace(test_tree_batches.model(), mlp_dim=24)  # of no other test
  adapters = train_step.fresh_adapters(model, config.lora, 0)
  train_loop.fit(
    train_loop.Training(
      title='counted',
      model=model,
      low_rank=config.lora,
      objectives=config.objectives,
      optimizer=config.optimizer,
      loop=config.loop,
      mesh_axes=schema.Mesh(fsdp=1),
      params=adapters,
      frozen=decoder.init(model, 0),
      parts=made,
      data_seed=7,
      plan=plan,
      folder=tmp_path / 'checkpoints',
      log=tmp_path / 'log',
    )
  )
  steps, counts = zip(*counted)
  assert steps == (0, 2, 4, 6)
  assert compiled.count('jit(run)') == 1
  # The first step is told of when the second is under way.
  assert counts[1] == counts[-1] == len(compiled)


def test_an_evaluation_compiles_once_for_each_length_of_rows(compiled):
  """Whatever the number of items of a length, and for all checkpoints."""
  config = dataclasses.replace(test_evaluation.CONFIG, mlp_dim=24)  # of no other test
  rng = np.random.default_rng(0)
  items = []
  for i, length in enumerate(rng.integers(1, 25, size=test_evaluation.N)):
    cue = ' '.join(['hint'] * length)
    options = test_evaluation.ANSWERS
    items.append(
      pairs.Pair(f'q{i} {cue}', f'q{i}', cue, 'hint', 0, options, f'q{i}', str(i))
    )
  template = test_evaluation.QUESTIONS[True]
  arrays = evaluation.questions(test_evaluation.FORMAT, items, template)
  none = np.zeros(len(items), np.int32)
  arrays |= dict.fromkeys(('orig', 'target'), explanation.Explanation(none, none))
  length_N = trees.bucket(arrays['trees'].size)
  lengths, count_L = np.unique(length_N, return_counts=True)
  batch = 8
  assert len(lengths) >= 4 and np.all(count_L % batch)  # the last of each is partial
  checkpoints = [decoder.init(config, seed) for seed in (0, 1)]
  before = len(compiled)
  found = []
  for params in checkpoints:
    evaluation.evaluate(
      config,
      params,
      arrays,
      batch,
      test_evaluation.MESH,
      True,
      test_evaluation.FORMAT,
      likelihood=True,
    )
    found.append(len(compiled))
  # What it does with the question begun, and what it says.
  assert compiled[before : found[0]].count('jit(run)') == 2 * len(lengths)
  assert found[1] == found[0]
