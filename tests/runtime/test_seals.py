"""A flipped bit in what an unfinished stage has made is never used in silence."""

import ast
import hashlib
import pathlib
import shutil

import jax
import numpy as np
import pytest

from benchmarks import interruptions
from configs import world
from coupling.checkpoints import hub
from coupling.config import validate
from coupling.run import base_model, patch_stage, base_stage, evaluate_stage
from coupling.run import label_stage, prepare_stage, train_stage
from coupling.runtime import files, seals, workdir as workdir_lib
from coupling.runtime.workdir import WorkdirError

PARTS = ('a.parquet', 'deep/0/b', 'deep/c')


@pytest.fixture
def sealed(tmp_path) -> seals.Seals:
  """Two parts: a file, and a folder."""
  for name in PARTS:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(b'content of ' + name.encode())
  found = seals.Seals(tmp_path)
  found.put('one', tmp_path / 'a.parquet')
  found.put('two', tmp_path / 'deep')
  return found


def flip(path: pathlib.Path, place: float = 0.5) -> bytes:
  """Flips one bit, for a new process to find; returns what was there."""
  before = path.read_bytes()
  data = bytearray(before)
  data[int(place * (len(data) - 1))] ^= 4
  path.write_bytes(data)
  seals._sha256.cache_clear()
  return before


@pytest.mark.parametrize('name', PARTS)
@pytest.mark.parametrize('place', [0, 0.5, 1])
def test_one_bit_is_noticed(sealed, tmp_path, name, place):
  sealed.check()
  flip(tmp_path / name, place)
  part, other = ('one', 'two') if name == 'a.parquet' else ('two', 'one')
  for of in ((), (part,), (part, name)):
    with pytest.raises(WorkdirError, match=f'{name}: damaged'):
      sealed.check(*of)
  sealed.check(other)
  sealed.check(part, 'elsewhere/')


def test_what_lacks_a_file_or_its_seal_is_made_again(sealed, tmp_path):
  assert sealed.has('one') and sealed.has('two') and not sealed.has('three')
  (tmp_path / 'deep' / 'c').unlink()
  assert not sealed.has('two') and sealed.knows('two')
  for _ in range(2):
    sealed.drop('one')
    assert not sealed.has('one') and not sealed.knows('one')
  flip(tmp_path / 'a.parquet')
  sealed.check()


@pytest.mark.parametrize('paths', [('missing',), ('empty',), ('a', 'missing')])
def test_what_is_not_there_cannot_be_sealed(tmp_path, paths):
  found = seals.Seals(tmp_path)
  (tmp_path / 'empty').mkdir()
  (tmp_path / 'a').write_bytes(b'a')
  with pytest.raises(WorkdirError, match=paths[-1]):
    found.put('part', *(tmp_path / path for path in paths))
  assert not found.has('part')


@pytest.mark.parametrize('content', [b'', b'{', b'\xff'])
def test_a_damaged_seal_is_named(sealed, tmp_path, content):
  (tmp_path / '.seals' / 'one.json').write_bytes(content)
  with pytest.raises(WorkdirError, match=r'\.seals/one\.json: damaged'):
    sealed.check()


def test_a_part_that_changes_while_the_stage_is_open_is_noticed(tmp_path):
  with pytest.raises(WorkdirError, match='out.txt: damaged'):
    with workdir_lib.open_stage(tmp_path, 'base', {}, {}) as stage:
      files.write_bytes(stage.path('out.txt'), b'content')
      stage.seal('out', stage.path('out.txt'))
      stage.path('out.txt').write_bytes(b'contents')
      stage.finish({})
  assert not workdir_lib.is_finished(tmp_path)
  (tmp_path / 'out.txt').unlink()
  with workdir_lib.open_stage(tmp_path, 'base', {}, {}) as stage:
    assert not stage.sealed('out')


def test_a_flipped_bit_in_the_cache_of_the_hub_is_noticed(tmp_path):
  blob = tmp_path / 'blobs' / hashlib.sha256(b'weights of a model').hexdigest()
  folder = tmp_path / 'snapshots' / 'abc'
  for path in (blob, folder):
    path.parent.mkdir(exist_ok=True)
  blob.write_bytes(b'weights of a model')
  folder.mkdir()
  (folder / 'model.safetensors').symlink_to(blob)
  expected = hashlib.sha256(bytes.fromhex(blob.name)).hexdigest()
  assert base_model.digest(folder) == expected
  flip(blob)
  with pytest.raises(hub.CheckpointError, match='model.safetensors: damaged.*again'):
    base_model.digest(folder)


# The stages, on a tiny world.


def tiny():
  config = world.get_config('seeds=1')
  given = (flag.removeprefix('--config.').split('=', 1) for flag in interruptions.TINY)
  config.update_from_flattened_dict({k: ast.literal_eval(v) for k, v in given})
  config.patch.update(contrasts=('moved',), checkpoints=1, pairs=2, draws=1)
  return validate.resolve(config)


class KilledError(Exception):
  pass


@pytest.fixture(scope='module')
def workdir(tmp_path_factory) -> pathlib.Path:
  return tmp_path_factory.mktemp('tiny')


STAGES = {
  'prepare': lambda e, w: prepare_stage.prepare(e, w, 0),
  'base': lambda e, w: base_stage.base(e, w, 0),
  'label': lambda e, w: label_stage.label(e, w, 0),
  'kl/train': lambda e, w: train_stage.train(e, w, 0, 'kl'),
  'kl/evaluate': lambda e, w: evaluate_stage.evaluate(e, w, 0, 'kl'),
  'kl/patch': lambda e, w: patch_stage.patch(e, w, 0, 'kl'),
}
# Made again by whoever resumes, whatever lies there.
REMADE = ('tokenizer', '.seals', '.training', 'prepare', 'index.html')


@pytest.mark.parametrize('name', STAGES)  # in this order: each is made from the others
def test_a_flipped_bit_of_an_unfinished_stage(workdir, name, monkeypatch):
  e, folder = tiny(), workdir / 'seed0' / name

  def kill(*_):
    raise KilledError

  with monkeypatch.context() as patch:
    patch.setattr(workdir_lib.Stage, 'finish', kill)
    with pytest.raises(KilledError):
      STAGES[name](e, workdir)
  ours = [p for p in folder.rglob('*') if p.is_file() and p.stat().st_size]
  ours = [p for p in ours if p.name not in ('manifest.json', '.lock')]
  held = [p for p in ours if not {*p.relative_to(folder.parent).parts} & {*REMADE}]
  assert held or name == 'prepare'
  for path in held:
    before = flip(path)
    with pytest.raises(WorkdirError, match=f'{path}: damaged'):
      STAGES[name](e, workdir)
    path.write_bytes(before)
  for path in set(ours) - set(held):
    if '.seals' not in path.parts and '.training' not in path.parts:
      flip(path)
  if name == 'kl/train':  # a step is lost, and those after it are trained again
    shutil.rmtree(folder / 'checkpoints' / '4')
  assert STAGES[name](e, workdir)
  assert not (folder / '.seals').exists()  # the manifest has the digests now
  undisturbed = workdir / 'undisturbed'
  for other in STAGES:
    if other == name:
      break
    source = workdir / 'seed0' / other
    shutil.copytree(source, undisturbed / 'seed0' / other, dirs_exist_ok=True)
  assert STAGES[name](e, undisturbed)
  roots = workdir / 'seed0', undisturbed / 'seed0'
  made = [workdir_lib.finished_stage(root / name) for root in roots]
  if arrays := {'base': 'params', 'kl/train': 'checkpoints/8/params'}.get(name):
    one, other = (interruptions.read(stage.path(arrays)) for stage in made)
    jax.tree.map(np.testing.assert_array_equal, one, other)
    assert sorted(p.name for p in made[0].path('checkpoints').iterdir()) == list('048')
  else:
    assert made[0].digest == made[1].digest
