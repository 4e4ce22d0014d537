"""The workdir: what is refused, naming what is wrong; verification, locks and kills."""

import errno
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from coupling.runtime import files, interrupt, seals, workdir
from coupling.runtime.workdir import WorkdirError, finished_stage, open_stage

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = {'train': {'learning_rate': 0.002, 'widths': [1, 2]}, 'seed': 0}


@pytest.fixture(autouse=True)
def fresh_process():
  seals._sha256.cache_clear()


def make(folder, config=CONFIG, inputs=None, name='base', text='weights', info=None):
  with open_stage(folder, name, config, inputs or {}) as stage:
    if not stage.finished:
      stage.path('out.txt').write_text(text)
      stage.finish(info or {'count': 3})
  return stage


def begin(folder, finish=False):
  """A stage that has made something."""
  with open_stage(folder, 'base', CONFIG, {}) as stage:
    stage.path('half').write_text('half')
    if finish:
      stage.finish({})
  return stage


def refused(names, function, *args, **kwargs) -> None:
  """Whether it is refused, and all that is wrong is named."""
  with pytest.raises(WorkdirError) as caught:
    function(*args, **kwargs)
  assert not [name for name in names if str(name) not in str(caught.value)]


def manifest_of(folder):
  return json.loads((folder / 'manifest.json').read_text())


def spawn(code, *args):
  """A process that runs `code`, which prints a line when it is where it should be."""
  process = subprocess.Popen(
    [sys.executable, '-c', code, *map(str, args)],
    env=os.environ | {'PYTHONPATH': str(ROOT)},
    stdout=subprocess.PIPE,
    text=True,
  )
  assert process.stdout.readline() == 'ready\n'
  return process


HOLD = """
import sys, time, pathlib
from coupling.runtime.workdir import open_stage
with open_stage(pathlib.Path(sys.argv[1]), "base", {}, {}) as stage:
  stage.path("half").write_text("half")
  stage.path(".result.partial").write_text("to")
  print("ready", flush=True)
  time.sleep(60)
"""


def test_new_finished_skipped(tmp_path):
  folder = tmp_path / 'seed0' / 'base'
  with open_stage(folder, 'base', CONFIG, {}) as stage:
    assert not stage.finished
    started = manifest_of(folder)
    assert started['finished'] is False and started['stage'] == 'base'
    assert started['config'] == CONFIG and started['inputs'] == {}
    assert {'jax', 'jaxlib', 'flax', 'optax', 'numpy'} <= started['packages'].keys()
    assert started['python'].startswith('3.') and started['started']
    for name in ('deep/a.txt', '.cache/b.txt'):
      (folder / name).parent.mkdir()
      (folder / name).write_text(name)
    stage.finish({'count': 3, 'shape': (1, 2)})
    assert stage.finished and stage.info() == {'count': 3, 'shape': [1, 2]}
  assert list(manifest_of(folder)['files']) == ['deep/a.txt']
  assert manifest_of(folder)['seconds'] >= 0
  with open_stage(folder, 'base', CONFIG, {}) as again:
    assert again.finished and again.digest == stage.digest
    refused([folder, 'base'], again.finish, {})
  read = finished_stage(folder)
  assert (read.digest, read.info()) == (stage.digest, stage.info())


def test_digest_depends_on_what_was_made_and_from_what(tmp_path):
  one = make(tmp_path / '1')
  assert make(tmp_path / '2').digest == one.digest  # not on time and place
  others = [
    make(tmp_path / '3', text='other'),
    make(tmp_path / '4', config=CONFIG | {'seed': 1}),
    make(tmp_path / '5', name='other'),
    make(tmp_path / '6', inputs={'base': one}),
    make(tmp_path / '7', info={'weights': 'other'}),
  ]
  assert len({stage.digest for stage in [one, *others]}) == 6


def test_resumes_an_unfinished_stage(tmp_path):
  with pytest.raises(KeyError), open_stage(tmp_path, 'base', CONFIG, {}) as stage:
    stage.path('half').write_text('half')
    raise KeyError
  for use in (
    lambda: stage.digest,
    stage.info,
    lambda: finished_stage(tmp_path),
    lambda: make(tmp_path / 'label', {}, {'base': stage}, 'label'),  # as an input
  ):
    refused([tmp_path, 'base'], use)
  assert not (tmp_path / 'label').exists()
  with open_stage(tmp_path, 'base', CONFIG, {}) as stage:
    assert not stage.finished and stage.path('half').read_text() == 'half'
    stage.finish({})
  assert finished_stage(tmp_path).finished


def test_a_stage_that_made_nothing_takes_another_config(tmp_path):
  with open_stage(tmp_path, 'base', {'seed': 9}, {}):
    pass  # wrong data, say
  stage = begin(tmp_path)
  refused(['seed: 0'], make, tmp_path, {'seed': 9})
  begin(tmp_path, finish=True)
  stage.path('half').unlink()
  refused(['seed: 0'], make, tmp_path, {'seed': 9})  # finished: kept


@pytest.mark.parametrize('name', ['base', 'base/thesis.tex'])  # a file in its place
def test_refuses_what_is_no_stage(tmp_path, name):
  refused([tmp_path / 'base'], finished_stage, tmp_path / 'base')
  path = tmp_path / name
  path.parent.mkdir(exist_ok=True)
  path.write_text('x')
  refused([path.name, '--workdir'], make, tmp_path / 'base')
  assert path.read_text() == 'x' and os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize('read', [make, finished_stage])
def test_a_deleted_manifest_is_named(tmp_path, read):
  make(tmp_path)
  manifest, kept = tmp_path / 'manifest.json', tmp_path.with_name('kept.json')
  manifest.rename(kept)
  refused([manifest, 'out.txt'], read, tmp_path)
  kept.rename(manifest)
  assert finished_stage(tmp_path).finished


@pytest.mark.parametrize('finish', [True, False])
def test_names_every_changed_field(tmp_path, finish):
  begin(tmp_path, finish)
  manifest = tmp_path / 'manifest.json'
  before = manifest.read_bytes()
  new = {'train': {'learning_rate': 0.001, 'widths': [1, 2, 3]}, 'steps': True}
  named = [
    f'config.seed: 0 in {manifest}, absent now',
    f'config.steps: absent in {manifest}, true now',
    f'config.train.learning_rate: 0.002 in {manifest}, 0.001 now',
    f'config.train.widths[2]: absent in {manifest}, 3 now',
  ]
  refused(named, make, tmp_path, new)
  refused(['config.seed: 0 ', '0.0'], make, tmp_path, CONFIG | {'seed': 0.0})
  refused(['stage: "base"', '"label"'], make, tmp_path, name='label')
  assert manifest.read_bytes() == before


def test_refuses_another_input(tmp_path):
  one, two = make(tmp_path / '1'), make(tmp_path / '2', text='other')
  folder = tmp_path / 'label'
  for _ in range(2):
    make(folder, {}, {'seed0/base': one}, 'label')
  named = ['inputs.seed0/base', one.digest, folder]
  refused([*named, two.digest], make, folder, {}, {'seed0/base': two}, 'label')
  refused([*named, 'absent'], make, folder, {}, {}, 'label')


@pytest.mark.parametrize('finish', [True, False])
def test_refuses_a_torn_manifest(tmp_path, finish):
  begin(tmp_path, finish)
  manifest = tmp_path / 'manifest.json'
  whole = manifest.read_text()
  for text in (whole[: len(whole) // 2], '', 'null', '[]', '{"stage": 1}', '\0' * 9):
    manifest.write_text(text)
    for read in (make, finished_stage, workdir.is_finished):
      refused([manifest], read, tmp_path)
    assert manifest.read_text() == text


@pytest.mark.parametrize('reopen', [make, finished_stage])
def test_refuses_damaged_files(tmp_path, reopen):
  make(tmp_path)
  out = tmp_path / 'out.txt'
  for damage in (
    lambda: out.write_text('weight'),
    lambda: out.write_text('Weights'),
    lambda: out.unlink(),
  ):
    damage()
    seals._sha256.cache_clear()
    refused([f'{out}: damaged'], reopen, tmp_path)


def test_verifies_once_a_process(tmp_path, monkeypatch):
  reads = []
  sha256 = seals.sha256
  monkeypatch.setattr(seals, 'sha256', lambda p: reads.append(p) or sha256(p))
  for _ in range(3):
    make(tmp_path)
    finished_stage(tmp_path)
  assert len(reads) == 1


def test_lock_of_a_second_process(tmp_path, monkeypatch):
  monkeypatch.setattr(workdir, 'LOCK_SECONDS', 0.3)
  with spawn(HOLD, tmp_path) as holder:
    refused(['.lock', f'process {holder.pid} on '], make, tmp_path, {})
    monkeypatch.setattr(interrupt, '_received', [signal.SIGTERM])
    with pytest.raises(interrupt.Interrupted):
      make(tmp_path, {})
    holder.kill()


def test_waits_for_a_lock_that_is_soon_released(tmp_path):
  with spawn(HOLD.replace('60', '1'), tmp_path):
    start = time.monotonic()
    assert make(tmp_path, {}).finished
    assert 0.3 < time.monotonic() - start < 8


def test_lock_is_released_while_a_forked_child_lives(tmp_path, monkeypatch):
  monkeypatch.setattr(workdir, 'LOCK_SECONDS', 0.2)
  with open_stage(tmp_path, 'base', {}, {}):
    child = os.fork()
    if child == 0:
      time.sleep(30)
      os._exit(0)
  try:
    assert make(tmp_path, {}).finished
  finally:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_killed_inside_and_resumed(tmp_path):
  with spawn(HOLD, tmp_path) as process:
    process.send_signal(signal.SIGKILL)
  assert process.returncode == -signal.SIGKILL
  with open_stage(tmp_path, 'base', {}, {}) as stage:
    assert not stage.finished and stage.path('half').read_text() == 'half'
    stage.finish({})
  assert list(manifest_of(tmp_path)['files']) == ['half']  # no torn partial file


def test_killed_before_the_manifest_was_written(tmp_path):
  (tmp_path / '.lock').touch()
  (tmp_path / '.manifest.json.partial').write_text('{"sta')
  assert make(tmp_path).finished
  assert list(manifest_of(tmp_path)['files']) == ['out.txt']


class OrbaxLikeError(ValueError):
  pass


def caused(cause: Exception) -> Exception:
  error = RuntimeError('save failed')
  error.__cause__ = cause
  return error


@pytest.mark.parametrize(
  'error',
  [
    OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), 'some/file'),
    OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
    OrbaxLikeError('RESOURCE_EXHAUSTED: [OS error 28: No space left on device]'),
    caused(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))),
    MemoryError(),
    OrbaxLikeError('RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nmore'),
  ],
)
def test_a_full_disk_or_memory_is_one_short_error(tmp_path, error):
  with pytest.raises(WorkdirError, match=rf'{tmp_path}.*resumes') as caught:
    with open_stage(tmp_path, 'a', {}, {}):
      raise error
  assert '\n' not in str(caught.value) and caught.value.__cause__ is error
  with open_stage(tmp_path, 'a', {}, {}) as stage:  # the lock is released
    stage.finish({})


def test_other_errors_pass_unchanged(tmp_path):
  error = OSError(errno.EIO, 'I/O error')
  with pytest.raises(OSError) as caught, open_stage(tmp_path, 'a', {}, {}):
    raise error
  assert caught.value is error


def test_writes_are_whole_or_nothing(tmp_path, monkeypatch):
  path = tmp_path / 'a.json'
  files.write_json(path, {'b': 1, 'a': [None, 'é']})
  assert list(json.loads(path.read_text())) == ['a', 'b']
  before = path.read_bytes()

  def fail(_):
    raise OSError(errno.ENOSPC, 'No space left on device')

  monkeypatch.setattr(os, 'fsync', fail)
  with pytest.raises(OSError):
    files.write_bytes(path, b'new')
  assert path.read_bytes() == before and os.listdir(tmp_path) == ['a.json']


@pytest.mark.parametrize('bad', [float('nan'), float('inf'), {1, 2}, b'x'])
def test_json_names_the_field_that_it_refuses(tmp_path, bad):
  path = tmp_path / 'a.json'
  rows = {'rows': [{'loss': 1.0}, {'loss': bad}]}
  refused([path, 'rows[1].loss', repr(bad)], files.write_json, path, rows)
  assert os.listdir(tmp_path) == []
  refused(['config.rate', repr(bad)], make, tmp_path / 'stage', {'rate': bad})
