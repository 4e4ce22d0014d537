"""What becomes of checkpoints that a kill, a copy or a full disk left unsealed."""

import contextlib
import errno
import os
import pathlib
import shutil
import threading
import time

import jax.numpy as jnp
from orbax.checkpoint._src.path import atomicity
import pytest

from benchmarks import interruptions
from coupling.checkpoints import kept_steps
from coupling.runtime import seals, workdir


def small(step: int) -> dict:
  return {
    'params': {'w': jnp.full(8, step, jnp.float32)},
    'opt_state': {'m': jnp.zeros(8)},
    'step': jnp.int32(step),
  }


def with_steps(folder: pathlib.Path, *every: int) -> list[pathlib.Path]:
  """Checkpoints of these steps; returns their folders."""
  saved = kept_steps.Checkpoints(folder, 4)
  with contextlib.closing(saved):
    for step in every:
      saved.save(small(step), {})
  return [folder / str(step) for step in every]


@pytest.mark.parametrize('lost', [(0, 4, 8), (4, 8), (0, 4)])
def test_checkpoints_that_lost_their_seals_stay_and_are_named(tmp_path, lost):
  kept = with_steps(tmp_path / 'c', 0, 4, 8)
  for step in lost:
    (tmp_path / '.seals' / f'c-{step}.json').unlink()
  with pytest.raises(workdir.WorkdirError, match=r'lack their seals in .*\.seals') as e:
    kept_steps.Checkpoints(tmp_path / 'c', 4)
  assert str(list(lost)) in str(e.value)
  assert all(path.is_dir() for path in kept)


def test_a_lone_checkpoint_that_lost_its_seal_stays_unless_it_is_the_first(tmp_path):
  (four,) = with_steps(tmp_path / 'c', 4)
  shutil.rmtree(tmp_path / '.seals')
  with pytest.raises(workdir.WorkdirError, match='lack their seals'):
    kept_steps.Checkpoints(tmp_path / 'c', 4)
  assert four.is_dir()


@pytest.mark.parametrize('every, lost', [((0,), 0), ((0, 4, 8), 8), ((0, 4, 8), 4)])
def test_what_a_kill_left_without_its_seal_is_set_aside(tmp_path, every, lost):
  with_steps(tmp_path / 'c', *every)
  for _ in range(2):  # killed there a second time
    (tmp_path / '.seals' / f'c-{lost}.json').unlink()
    again = kept_steps.Checkpoints(tmp_path / 'c', 4)
    with contextlib.closing(again):
      assert again.steps() == {*every} - {lost}
      assert not (tmp_path / 'c' / str(lost)).exists()
      aside = tmp_path / '.seals' / 'unsealed' / f'c-{lost}'
      assert interruptions.read(aside / 'params')['w'][0] == lost
      again.save(small(lost), {})
    assert (tmp_path / 'c' / str(lost)).is_dir()


@pytest.mark.parametrize('ask', ['poll', 'settle', 'save'])
def test_a_save_that_failed_in_the_background_is_never_sealed(
  tmp_path, monkeypatch, ask
):
  saved = kept_steps.Checkpoints(tmp_path / 'c', 4)
  saved.save(small(0), {})
  saved.settle()

  async def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  with monkeypatch.context() as patch:
    patch.setattr(atomicity.AtomicRenameTemporaryPath, 'finalize', full)
    saved.save(small(4), {})
    while saved._manager.is_saving_in_progress():
      time.sleep(0.01)
    then = {'poll': saved.poll, 'settle': saved.settle}
    then['save'] = lambda: saved.save(small(8), {})
    with pytest.raises(workdir.WorkdirError, match='c/4: .*could not be saved .*No s'):
      then[ask]()
  saved.close()
  assert [p.name for p in (tmp_path / '.seals').iterdir()] == ['c-0.json']
  again = kept_steps.Checkpoints(tmp_path / 'c', 4)
  with contextlib.closing(again):
    assert again.steps() == {0}
    again.save(small(4), {})
  assert kept_steps.is_kept(tmp_path / 'c', 4)


@pytest.mark.parametrize('item, noticed', [('params', True), ('optimizer', False)])
def test_of_an_unfinished_training_the_parameters_that_are_read_are_checked(
  tmp_path, item, noticed
):
  (folder,) = with_steps(tmp_path / 'c', 0)
  for path in (folder / item).rglob('*'):
    if path.is_file():
      path.write_bytes(path.read_bytes() + b' ')
  read = lambda: kept_steps.read_params(tmp_path / 'c', 0, small(0)['params'])
  if not noticed:
    assert read()['w'][0] == 0
    return
  with pytest.raises(workdir.WorkdirError, match='c/0/params/.*: damaged'):
    read()


def test_training_goes_on_while_a_checkpoint_is_hashed(tmp_path, monkeypatch):
  """And whoever settles or closes waits for the seal."""
  own, go = seals.digest, threading.Event()
  monkeypatch.setattr(seals, 'digest', lambda path: go.wait(60) and own(path))
  saved = kept_steps.Checkpoints(tmp_path / 'c', 4)
  saved.save(small(0), {})
  while saved._saving is not None:
    saved.poll()
  saved.poll()
  assert not saved.steps()
  go.set()
  saved.settle()
  assert saved.steps() == {0}
  saved.close()
