"""What a training keeps and logs; stopped, it goes on as if it had not been."""

import dataclasses
import shutil
import signal

import jax
import numpy as np
import pytest

from coupling.checkpoints import kept_steps
from coupling.config import schema
from coupling.runtime import distributed, interrupt
from coupling.training import compiled, train_loop, train_step
from tests.training import small_trainings as small, test_train_step

pytestmark = pytest.mark.usefixtures('few_optimizations')


def results(training: train_loop.Training) -> tuple[dict, dict]:
  return small.kept(training.folder), small.logged(training.log)


@pytest.fixture(scope='module')
def whole(tmp_path_factory) -> tuple[dict, dict]:
  """What the first run leaves, undisturbed."""
  training = small.training(tmp_path_factory.mktemp('whole'), 0)
  params = train_loop.fit(training)
  found = results(training)
  small.compare(jax.tree.map(np.asarray, params), found[0][8]['params'])
  return found


def steps_run(patch: pytest.MonkeyPatch) -> list[int]:
  """Collects the first step of every dispatch from now on."""
  found, dispatch = [], train_loop._Run.dispatch

  def noting(self, state, step):
    found.append(step)
    return dispatch(self, state, step)

  patch.setattr(train_loop._Run, 'dispatch', noting)
  return found


def test_steps_are_kept_and_dispatches_logged(whole):
  kept, logged = whole
  assert [*kept] == [0, 4, 8]
  assert len(logged) == 8 * 4  # metrics, dispatches


def test_runs_that_differ_in_numbers_trace_once(whole, tmp_path, monkeypatch):
  """Rates, weights, data and labels; what they come to is each run's own."""
  monkeypatch.setattr(train_step, 'train_step', lambda *x: pytest.fail('traced again'))
  other = small.training(tmp_path, 1)
  last = train_loop.fit(other)['embed']['embedding']
  assert not np.array_equal(last, whole[0][8]['params']['embed']['embedding'])


class Killed(Exception):
  pass


def test_a_killed_training_goes_on_from_the_latest_step(whole, tmp_path, monkeypatch):
  save, training = kept_steps.Checkpoints.save, small.training(tmp_path, 0)

  def save_until(self, state, position):
    if state['step'] == 8:
      raise Killed
    save(self, state, position)

  with monkeypatch.context() as patch:
    patch.setattr(kept_steps.Checkpoints, 'save', save_until)
    with pytest.raises(Killed):
      train_loop.fit(training)
  assert [*small.kept(training.folder)] == [0, 4]
  ran = steps_run(monkeypatch)
  train_loop.fit(training)
  assert ran == [4, 6]
  small.compare(results(training), whole)


def test_a_training_goes_on_from_before_a_step_that_is_gone(
  whole, tmp_path, monkeypatch
):
  training = small.training(tmp_path, 0)
  train_loop.fit(training)
  shutil.rmtree(training.folder / '4')
  ran = steps_run(monkeypatch)
  train_loop.fit(training)
  assert ran == [0, 2, 4, 6]
  small.compare(results(training), whole)


def test_a_signal_saves_and_the_training_goes_on_there(
  whole, tmp_path, monkeypatch, capsys
):
  training = small.training(tmp_path, 0)
  with monkeypatch.context() as patch:
    asked = iter([0, 0, signal.SIGTERM])  # in the third dispatch
    patch.setattr(distributed, 'stopping', lambda: next(asked))
    with pytest.raises(interrupt.Interrupted):
      train_loop.fit(training)
  assert [*small.kept(training.folder)] == [0, 4, 6]
  ran = steps_run(monkeypatch)
  train_loop.fit(training)
  assert ran == [6]
  small.compare(results(training), whole)
  told = capsys.readouterr().err.splitlines()
  assert any('run 0' in line and 'loss' in line for line in told)


def test_how_often_a_run_is_kept_changes_no_number(whole, tmp_path):
  rare = dataclasses.replace(small.LOOP, checkpoint_every=8)
  training = small.training(tmp_path, 0, loop=rare)
  train_loop.fit(training)
  kept, logged = whole
  small.compare(results(training), ({step: kept[step] for step in (0, 8)}, logged))


def test_runs_of_one_experiment_share_their_program_where_they_can(tmp_path):
  base = schema.Train(
    trees=False,
    behavior_batch=8,
    lora=schema.Lora(rank=0, alpha=1.0, targets=()),
    loop=small.LOOP,
    optimizer=test_train_step.OPTIMIZER,
    objectives=small.objectives(held=1.0),
  )
  of_run = lambda **changes: compiled.of_run(
    small.MODEL, dataclasses.replace(base, **changes)
  )
  within = lambda field, **changes: of_run(
    **{field: dataclasses.replace(getattr(base, field), **changes)}
  )
  alike = [
    small.training(tmp_path, 1).settings,  # as of its config
    of_run(seed=1),
    of_run(labels='elsewhere'),
    of_run(shuffle_labels=True),
    of_run(objectives=small.objectives(held=3.0)),
    within('optimizer', learning_rate=1.0),
    within('loop', checkpoint_every=8),
  ]
  assert {*alike} == {of_run()}
  others = [
    of_run(),
    of_run(objectives=small.objectives(held=0.0)),
    within('optimizer', warmup_steps=0),
    within('loop', steps=16),
    within('loop', accumulation=2),
    within('lora', rank=4),
  ]
  assert len({*others}) == len(others)
