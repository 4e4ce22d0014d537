"""When a checkpoint that somebody else writes is whole."""

import json
import os
import threading
import time

import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

from coupling.checkpoints import completeness
from coupling.checkpoints.hf_config import CheckpointError

TENSORS = {'a': np.arange(6.0).reshape(2, 3), 'b': np.ones(4, np.float32)}


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
  monkeypatch.setattr(completeness, 'SETTLED', 0.4)
  monkeypatch.setattr(completeness, 'POLL_SECONDS', 0.02)


def saved(folder, shards=1, state=True):
  """A checkpoint as a trainer leaves it."""
  folder.mkdir()
  names = [f'model-{i + 1:05}-of-{shards:05}.safetensors' for i in range(shards)]
  if shards == 1:
    names = ['model.safetensors']
  else:
    table = {f'a{i}': name for i, name in enumerate(names)}
    index = {'metadata': {}, 'weight_map': table}
    (folder / 'model.safetensors.index.json').write_text(json.dumps(index))
  for name in names:
    safetensors_numpy.save_file(TENSORS, folder / name)
  (folder / 'config.json').write_text('{}')
  if state:
    text = json.dumps({'global_step': 2, 'max_steps': 4})
    (folder / completeness.STATE).write_text(text)
  return folder


def waited(folder):
  started = time.monotonic()
  return completeness.wait(folder), time.monotonic() - started


@pytest.fixture
def slowly(monkeypatch):
  """So long that whoever does not wait is seen, on a busy machine too."""
  monkeypatch.setattr(completeness, 'SETTLED', 30.0)


@pytest.mark.parametrize('shards', [1, 3])
def test_what_a_trainer_finished_is_taken_at_once(tmp_path, slowly, shards):
  found, seconds = waited(saved(tmp_path / 'c', shards))
  assert found and seconds < completeness.SETTLED


def test_without_a_trainers_state_it_must_have_settled(tmp_path):
  folder = saved(tmp_path / 'c', state=False)
  found, seconds = waited(folder)
  assert found and seconds >= 0.9 * completeness.SETTLED


def test_what_has_lain_there_for_long_has_settled(tmp_path, slowly):
  folder = saved(tmp_path / 'c', state=False)
  long_ago = time.time() - 100
  for path in (*folder.iterdir(), folder):
    os.utime(path, (long_ago, long_ago))
  found, seconds = waited(folder)
  assert found and seconds < completeness.SETTLED


@pytest.mark.parametrize('cut', [4, 30, -1])
def test_weights_that_stay_short_are_an_error(tmp_path, cut):
  """Within the header's length, within the header, within the data."""
  path = saved(tmp_path / 'c') / 'model.safetensors'
  path.write_bytes(path.read_bytes()[:cut])
  with pytest.raises(CheckpointError) as refused:
    completeness.wait(path.parent)
  assert str(path) in str(refused.value)


def test_a_missing_shard_is_named(tmp_path):
  folder = saved(tmp_path / 'c', 3)
  (folder / 'model-00002-of-00003.safetensors').unlink()
  with pytest.raises(CheckpointError, match='model-00002-of-00003'):
    completeness.wait(folder)


def test_pickles_alone_are_refused_with_the_remedy(tmp_path):
  folder = saved(tmp_path / 'c')
  (folder / 'model.safetensors').rename(folder / 'pytorch_model.bin')
  with pytest.raises(CheckpointError, match='pytorch_model.bin.*pickle') as refused:
    completeness.wait(folder)
  assert 'save_pretrained' in str(refused.value)
  (folder / 'adapter_config.json').write_text('{}')
  (folder / 'pytorch_model.bin').rename(folder / 'adapter_model.bin')
  with pytest.raises(CheckpointError, match='adapter_model.bin'):
    completeness.wait(folder)


def test_half_a_state_is_none(tmp_path):
  folder = saved(tmp_path / 'c')
  text = (folder / completeness.STATE).read_text()
  (folder / completeness.STATE).write_text(text[:-3])
  assert completeness.state(folder) is None
  found, seconds = waited(folder)
  assert found and seconds >= 0.9 * completeness.SETTLED


def test_one_that_is_removed_while_it_is_waited_for_is_left_out(tmp_path, slowly):
  folder = tmp_path / 'c'
  folder.mkdir()
  threading.Timer(0.1, folder.rmdir).start()
  assert not completeness.wait(folder)


def test_a_writer_that_pauses_is_waited_for(tmp_path, monkeypatch):
  """Each pause is shorter than SETTLED, all together are longer."""
  monkeypatch.setattr(completeness, 'SETTLED', 1.5)
  folder, path = tmp_path / 'c', tmp_path / 'c' / 'model.safetensors'
  content = (saved(tmp_path / 'source') / 'model.safetensors').read_bytes()
  folder.mkdir()
  done = []

  def write():
    for end in range(0, len(content), len(content) // 8):
      path.write_bytes(content[:end])
      time.sleep(0.25)
    path.write_bytes(content)
    done.append(True)
    (folder / completeness.STATE).write_text('{}')

  writer = threading.Thread(target=write)
  writer.start()
  assert completeness.wait(folder) and done
  writer.join()
