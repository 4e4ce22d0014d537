"""What is compiled, and when: one program a training, one a length in evaluation.

Each program compiled takes minutes with a large model, so that none may come in the
middle of a run.
"""

import dataclasses

import jax
import numpy as np
import pytest

from coupling import config as config_lib
from coupling import evaluate
from coupling import explanation
from coupling import fit
from coupling import models
from coupling import progress
from coupling import train
from data import pairs
from data import trees
from tests import test_evaluate
from tests import test_packed
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
  config, _ = test_packed.CASES['adapters_off']
  made = test_packed.parts('adapters_off', with_trees)
  plan, _ = test_packed.plan_of('adapters_off') if with_trees else (None, None)
  sizes = {len(x) for x in test_packed.chat().prompts([p.prompt for p in texts.PAIRS])}
  assert len(sizes) > 3
  counted = []  # at each step that is told of
  update = progress.Progress.update

  def counting(self, done, **metrics):
    counted.append((done, len(compiled)))
    update(self, done, **metrics)

  monkeypatch.setattr(progress.Progress, 'update', counting)
  model = dataclasses.replace(test_packed.model(), mlp_dim=24)  # of no other test
  adapters = train.fresh_adapters(model, config.lora, 0)
  fit.fit(
    fit.Training(
      title='counted',
      model=model,
      low_rank=config.lora,
      objectives=config.objectives,
      optimizer=config.optimizer,
      loop=config.loop,
      mesh_axes=config_lib.Mesh(data=1, fsdp=1, tensor=1),
      params=adapters,
      frozen=models.init(model, 0),
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
  config = dataclasses.replace(test_evaluate.CONFIG, mlp_dim=24)  # of no other test
  rng = np.random.default_rng(0)
  items = []
  for i, length in enumerate(rng.integers(1, 25, size=test_evaluate.N)):
    cue = ' '.join(['hint'] * length)
    options = test_evaluate.ANSWERS
    items.append(
      pairs.Pair(f'q{i} {cue}', f'q{i}', cue, 'hint', 0, options, f'q{i}', str(i))
    )
  template = test_evaluate.QUESTIONS[True]
  arrays = evaluate.questions(test_evaluate.FORMAT, items, template)
  none = np.zeros(len(items), np.int32)
  arrays |= dict.fromkeys(('orig', 'target'), explanation.Explanation(none, none))
  length_N = trees.bucket(arrays['trees'].size)
  lengths, count_L = np.unique(length_N, return_counts=True)
  batch = 8
  assert len(lengths) >= 4 and np.all(count_L % batch)  # the last of each is partial
  checkpoints = [models.init(config, seed) for seed in (0, 1)]
  before = len(compiled)
  found = []
  for params in checkpoints:
    evaluate.evaluate(
      config,
      params,
      arrays,
      batch,
      test_evaluate.MESH,
      True,
      test_evaluate.FORMAT,
      likelihood=True,
    )
    found.append(len(compiled))
  # What it does with the question begun, and what it says.
  assert compiled[before : found[0]].count('jit(run)') == 2 * len(lengths)
  assert found[1] == found[0]
