"""The workdir: every refusal with its message, verification, locks and kills."""

import errno
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from coupling.runtime import files
from coupling.runtime import interrupt
from coupling.runtime import seals
from coupling.runtime import workdir
from coupling.runtime.workdir import WorkdirError, finished_stage, open_stage

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = {'train': {'learning_rate': 0.002, 'widths': [1, 2]}, 'seed': 0}


@pytest.fixture(autouse=True)
def fresh_process():
  workdir._verified.clear()


def make(folder, config=CONFIG, inputs=None, name='base', text='weights', info=None):
  with open_stage(folder, name, config, inputs or {}) as stage:
    if not stage.finished:
      stage.path('out.txt').write_text(text)
      stage.finish(info or {'count': 3})
  return stage


def refusal(function, *args, **kwargs) -> str:
  with pytest.raises(WorkdirError) as caught:
    function(*args, **kwargs)
  return str(caught.value)


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
    (folder / 'deep').mkdir()
    (folder / '.cache').mkdir()
    (folder / 'deep' / 'a.txt').write_text('a')
    (folder / '.cache' / 'b.txt').write_text('b')
    stage.finish({'count': 3, 'shape': (1, 2)})
    assert stage.finished and stage.info() == {'count': 3, 'shape': [1, 2]}
  assert list(manifest_of(folder)['files']) == ['deep/a.txt']
  assert manifest_of(folder)['seconds'] >= 0
  with open_stage(folder, 'base', CONFIG, {}) as again:
    assert again.finished and again.digest == stage.digest
    assert 'finished already' in refusal(again.finish, {})
  read = finished_stage(folder)
  assert (read.name, read.digest) == ('base', stage.digest)
  assert read.info() == stage.info() and read.path('deep', 'a.txt').exists()


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
  assert 'base is not finished; run it first' in refusal(lambda: stage.digest)
  assert 'base is not finished; run it first' in refusal(stage.info)
  assert 'base is not finished; run it first' in refusal(finished_stage, tmp_path)
  with open_stage(tmp_path, 'base', CONFIG, {}) as stage:
    assert not stage.finished and stage.path('half').read_text() == 'half'
    stage.finish({})
  assert finished_stage(tmp_path).finished


def test_a_stage_that_made_nothing_takes_another_config(tmp_path):
  with open_stage(tmp_path, 'base', CONFIG, {}):
    pass  # wrong data, say
  other = CONFIG | {'seed': 9}
  with open_stage(tmp_path, 'base', other, {}) as stage:
    stage.path('half').write_text('half')
  assert 'base was made with another config' in refusal(make, tmp_path)
  with open_stage(tmp_path, 'base', other, {}) as stage:
    stage.finish({})
  stage.path('half').unlink()
  assert 'another config' in refusal(make, tmp_path)  # finished: kept


def test_refuses_a_folder_of_something_else(tmp_path):
  (tmp_path / 'thesis.tex').write_text('x')
  text = refusal(make, tmp_path)
  assert 'thesis.tex' in text and 'not a stage of this program' in text
  assert 'nothing is overwritten' in text and 'choose another --workdir' in text
  assert os.listdir(tmp_path) == ['thesis.tex']
  (tmp_path / '.lock').touch()  # a stage that lost its manifest
  assert 'not a stage of this program' in refusal(make, tmp_path)


@pytest.mark.parametrize('read', [make, finished_stage])
def test_a_deleted_manifest_is_named_with_what_to_do(tmp_path, read):
  make(tmp_path)
  (tmp_path / 'manifest.json').rename(tmp_path.with_name('kept.json'))
  text = refusal(read, tmp_path)
  assert text.startswith(f'{tmp_path / "manifest.json"}: missing, but out.txt is there')
  assert 'restore it' in text and f'move {tmp_path} away and run the same' in text
  tmp_path.with_name('kept.json').rename(tmp_path / 'manifest.json')
  assert finished_stage(tmp_path).finished


def test_refuses_a_file_as_folder(tmp_path):
  (tmp_path / 'file').write_text('x')
  text = refusal(make, tmp_path / 'file')
  assert str(tmp_path / 'file') in text and 'choose another --workdir' in text


@pytest.mark.parametrize('finish', [True, False])
def test_names_every_changed_field(tmp_path, finish):
  with open_stage(tmp_path, 'base', CONFIG, {}) as stage:
    stage.path('half').touch()
    if finish:
      stage.finish({})
  manifest = tmp_path / 'manifest.json'
  before = manifest.read_bytes()
  new = {'train': {'learning_rate': 0.001, 'widths': [1, 2, 3]}, 'steps': True}
  text = refusal(make, tmp_path, new)
  assert text.splitlines()[1:-1] == [
    f'  seed: 0 in {manifest}, absent now',
    f'  steps: absent in {manifest}, true now',
    f'  train.learning_rate: 0.002 in {manifest}, 0.001 now',
    f'  train.widths[2]: absent in {manifest}, 3 now',
  ]
  assert text.startswith('base was made with another config:')
  assert 'restore the value, use another --workdir, or move' in text
  assert 'seed: 0' in refusal(make, tmp_path, CONFIG | {'seed': 0.0})
  assert '"base"' in refusal(make, tmp_path, name='label')
  assert manifest.read_bytes() == before


def test_tuples_are_lists(tmp_path):
  make(tmp_path, {'widths': (1, 2)})
  assert make(tmp_path, {'widths': [1, 2]}).finished


def test_refuses_another_input(tmp_path):
  one, two = make(tmp_path / '1'), make(tmp_path / '2', text='other')
  folder = tmp_path / 'label'
  make(folder, {}, {'seed0/base': one}, 'seed0/label')
  make(folder, {}, {'seed0/base': one}, 'seed0/label')
  text = refusal(make, folder, {}, {'seed0/base': two}, 'seed0/label')
  assert text.startswith('seed0/label was made from another seed0/base: digest ')
  assert one.digest in text and two.digest in text and f'move {folder} away' in text
  text = refusal(make, folder, {}, {}, 'seed0/label')
  assert 'another seed0/base' in text and 'absent now' in text


def test_refuses_an_unfinished_input(tmp_path):
  with open_stage(tmp_path / 'base', 'base', {}, {}) as base:
    text = refusal(make, tmp_path / 'label', {}, {'base': base}, 'label')
  assert 'label needs base, which is not finished in' in text
  assert text.endswith('run base first') and not (tmp_path / 'label').exists()


def test_missing_stage(tmp_path):
  assert 'run it first' in refusal(finished_stage, tmp_path / 'base')


@pytest.mark.parametrize('finish', [True, False])
def test_refuses_a_torn_or_edited_manifest(tmp_path, finish):
  with open_stage(tmp_path, 'base', CONFIG, {}) as stage:
    if finish:
      stage.finish({})
  manifest = tmp_path / 'manifest.json'
  whole = manifest.read_text()
  torn = [whole[: len(whole) // 2], '', 'null', '[]', '{}', '{"digest": 1}', '\0' * 9]
  for text in torn:
    manifest.write_text(text)
    found = refusal(make, tmp_path)
    assert found.startswith(f'{manifest}: torn, or not a manifest of this program')
    assert f'restore it, or move {tmp_path} away to redo the stage' in found
  for edited in (whole.replace('0.002', '0.001'), whole.replace('"base"', '"b"')):
    manifest.write_text(edited)
    assert f'{manifest}: field digest: found ' in refusal(make, tmp_path)
    assert f'{manifest}: field digest: found ' in refusal(finished_stage, tmp_path)
  manifest.write_text(whole.replace(*[f'"finished": {w}' for w in ('true', 'false')]))
  if finish:
    assert 'edited' in refusal(make, tmp_path)


def test_refuses_damaged_files(tmp_path):
  make(tmp_path)
  out = tmp_path / 'out.txt'
  for damage, found in [
    (lambda: out.write_text('weight'), 'size 6, not 7'),
    (lambda: out.write_text('Weights'), 'another sha256'),
    (lambda: out.unlink(), 'missing'),
  ]:
    damage()
    for reopen in (make, finished_stage):
      workdir._verified.clear()
      text = refusal(reopen, tmp_path)
      assert text.startswith(f'{out}: damaged: {found}')
      assert f'move {tmp_path} away and run the same command again' in text


def test_verifies_once_a_process(tmp_path, monkeypatch):
  make(tmp_path)
  reads = []
  sha256 = seals.sha256
  monkeypatch.setattr(seals, 'sha256', lambda p: reads.append(p) or sha256(p))
  workdir._verified.clear()
  for _ in range(3):
    finished_stage(tmp_path)
    make(tmp_path)
  assert len(reads) == 1


def test_lock_of_a_second_process(tmp_path, monkeypatch):
  monkeypatch.setattr(workdir, 'LOCK_SECONDS', 0.3)
  with spawn(HOLD, tmp_path) as holder:
    text = refusal(make, tmp_path, {})
    assert f'.lock: held by process {holder.pid} on ' in text
    assert 'wait for it or stop it, and run the same command again' in text
    monkeypatch.setattr(interrupt, '_received', [signal.SIGTERM])
    with pytest.raises(interrupt.Interrupted):
      make(tmp_path, {})
    holder.kill()


def test_waits_for_a_lock_that_is_soon_released(tmp_path):
  with spawn(HOLD.replace('60', '1'), tmp_path):
    start = time.monotonic()
    assert make(tmp_path, {}).finished
    assert 0.3 < time.monotonic() - start < 8


def test_same_process_cannot_open_twice(tmp_path, monkeypatch):
  monkeypatch.setattr(workdir, 'LOCK_SECONDS', 0.2)
  with open_stage(tmp_path, 'base', {}, {}):
    assert f'process {os.getpid()} ' in refusal(make, tmp_path, {})


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


@pytest.mark.parametrize(
  'error',
  [
    OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), 'some/file'),
    OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
    OrbaxLikeError('RESOURCE_EXHAUSTED: [OS error 28: No space left on device]'),
  ],
)
def test_full_disk(tmp_path, error):
  with pytest.raises(WorkdirError) as caught, open_stage(tmp_path, 'a', {}, {}):
    raise error
  text = str(caught.value)
  assert text.startswith(f'{tmp_path}: the disk is full') and 'bytes are free' in text
  assert text.endswith('free space and run the same command again: it resumes')
  assert caught.value.__cause__ is error
  with open_stage(tmp_path, 'a', {}, {}) as stage:  # the lock is released
    stage.finish({})


@pytest.mark.parametrize(
  'error',
  [
    MemoryError(),
    OrbaxLikeError('RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nmore'),
  ],
)
def test_memory_that_does_not_suffice(tmp_path, error):
  with pytest.raises(WorkdirError) as caught, open_stage(tmp_path, 'a', {}, {}):
    raise error
  assert str(caught.value).startswith(f'{tmp_path}: memory') and 'label.batch' in str(
    caught.value
  )
  assert '\n' not in str(caught.value)


def test_full_disk_in_a_cause_and_before_the_folder_exists(tmp_path):
  folder = tmp_path / 'not' / 'yet'
  with pytest.raises(WorkdirError, match='disk is full'):
    with files.naming_shortage(folder):
      raise RuntimeError('save failed') from OSError(
        errno.ENOSPC, 'No space left on device'
      )


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
  text = refusal(files.write_json, path, {'rows': [{'loss': 1.0}, {'loss': bad}]})
  assert text.startswith(f'{path}: field rows[1].loss: found {bad!r}')
  assert os.listdir(tmp_path) == []
  text = refusal(make, tmp_path / 'stage', {'rate': bad})
  assert text.startswith('config of base: field rate: found')
