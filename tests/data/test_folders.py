"""Folders as people have them: what is data there, what of it is read, what changed."""

import os
import gzip
import hashlib
import json
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs import aita as aita_config
from coupling.config import validate
from coupling.run import pipeline
from coupling.runtime import workdir
from data import aita, folders, hint_mmlu, mmlu, published_hints, readers, refusal
from tests import chat_checkpoints, published, real_data

SUBJECTS = ('abstract_algebra', 'anatomy', 'world_religions')
# What lies beside the data of people, and is none.
BESIDE = (
  *('README.md', '.gitattributes', '.DS_Store', '_SUCCESS', 'x.csv~'),
  *('.cache/huggingface/download/a.csv.metadata', '.cache/huggingface/x.csv'),
  *('.ipynb_checkpoints/x-checkpoint.csv', 'deep/.ipynb_checkpoints/x.jsonl'),
  *('__MACOSX/._x.csv', '._x.csv', '._x.parquet', '~$x.csv', '_temporary/0/x.parquet'),
  *('checkpoint-500/x.jsonl', 'checkpoints/x.csv', 'x-checkpoint.csv'),
)


def put(path: pathlib.Path, content: bytes = b'no data') -> pathlib.Path:
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(content)
  return path


def clutter(folder: pathlib.Path) -> None:
  for name in BESIDE:
    put(folder / name)


def question(text: str) -> dict:
  choices, answer = [f'{text} {letter}' for letter in 'wxyz'], len(text) % 4
  return {'question': text, 'subject': '', 'choices': choices, 'answer': answer}


def parquet(path: pathlib.Path, texts: list[str], column: str | None = None) -> None:
  """Questions as the hub has them; in one struct column, where that is named."""
  rows = [question(text) for text in texts]
  table = pa.Table.from_pylist([{column: row} for row in rows] if column else rows)
  path.parent.mkdir(parents=True, exist_ok=True)
  pq.write_table(table, path)


@pytest.fixture
def hub(tmp_path) -> pathlib.Path:
  """What `hf download cais/mmlu --repo-type dataset --local-dir` brings."""
  root = tmp_path / 'mmlu'
  clutter(root)
  shard = '-00000-of-00001.parquet'
  for split, count in (('test', 5), ('validation', 2), ('dev', 1)):
    every = []
    for subject in SUBJECTS:
      texts = [f'{subject} {split} {i}?' for i in range(count)]
      parquet(root / subject / f'{split}{shard}', texts)
      every += texts
    parquet(root / 'all' / f'{split}{shard}', every)
  auxiliary = [f'auxiliary {i}?' for i in range(4)]
  parquet(root / 'all' / f'auxiliary_train{shard}', auxiliary)
  parquet(root / 'auxiliary_train' / f'train{shard}', auxiliary, column='train')
  return root


def test_the_hubs_layout_gives_the_test_split_once(hub):
  with folders.noting() as noted:
    found = mmlu.read(str(hub))
  assert sorted(q.question for q in found) == sorted(
    f'{subject} test {i}?' for subject in SUBJECTS for i in range(5)
  )
  assert {q.source.split('/')[0] for q in found} == set(SUBJECTS)  # not `all`
  assert all(q.choices[0] == f'{q.question} w' for q in found)
  [listing] = noted.listings.values()
  left_out = listing['left_out']
  assert {why: len(names) for why, names in left_out.items()} == {
    folders.HIDDEN: 11,
    folders.COPY: 3,
    folders.KIND: 2,
    'split validation': 4,
    'split dev': 4,
    'split auxiliary_train': 2,
    'questions that other files hold too': 1,
  }
  assert len(noted.files) == 4


def test_other_splits_of_the_hubs_layout_are_read_when_asked_for(hub):
  for splits, count in (
    (('validation',), 6),
    (('dev',), 3),
    (('auxiliary_train',), 4),  # of which one file has its rows in a struct
    (('test', 'dev'), 18),
  ):
    found = [q.question for q in mmlu.read(str(hub), splits)]
    assert len(found) == len(set(found)) == count
  alone = mmlu.read(str(hub / 'auxiliary_train' / 'train-00000-of-00001.parquet'))
  assert [q.content for q in alone] == [
    q.content for q in mmlu.read(str(hub), ('auxiliary_train',))
  ]
  with pytest.raises(readers.DataError, match=r'split dev: .*task\.splits'):
    mmlu.read(str(hub / 'abstract_algebra'), ('train',))


def test_the_hubs_cache_is_a_folder_like_another(hub, tmp_path):
  """Its files are links below a hidden folder."""
  snapshot = tmp_path / '.cache' / 'snapshots' / 'abc'
  for file in hub.rglob('*.parquet'):
    if file.parent.name in (*SUBJECTS, 'all'):
      link = snapshot / file.relative_to(hub)
      link.parent.mkdir(parents=True, exist_ok=True)
      link.symlink_to(file)
  assert len(mmlu.read(str(snapshot))) == 15
  next(hub.glob('anatomy/test*')).unlink()
  with pytest.raises(readers.DataError, match='anatomy.*link to nothing'):
    mmlu.read(str(snapshot))


def test_a_pipe_is_left_out(hub):
  os.mkfifo(hub / 'anatomy' / 'pipe.parquet')
  assert len(mmlu.read(str(hub))) == 15


def test_a_folder_that_links_to_itself_is_read_once(hub):
  (hub / 'anatomy' / 'again').symlink_to(hub, target_is_directory=True)
  assert len(mmlu.read(str(hub))) == 15


@pytest.mark.parametrize(
  'name, split',
  [
    ('test-00000-of-00001.parquet', 'test'),
    ('abstract_algebra_test.csv', 'test'),
    ('TEST.CSV', 'test'),
    ('split=test/part-0.parquet', 'test'),
    ('test/physics.csv', 'test'),
    ('val/physics_val.csv', 'validation'),
    ('valid.csv.gz', 'validation'),
    ('a/dev/b/physics.csv', 'dev'),
    ('test/physics_dev.csv', 'dev'),
    ('train.parquet', 'train'),
    ('auxiliary_train/race.csv', 'auxiliary_train'),
    ('auxiliary_train/train-00000-of-00001.parquet', 'auxiliary_train'),
    ('all/auxiliary_train-00000-of-00001.parquet', 'auxiliary_train'),
    ('physics.csv', None),
    ('latest_devices.csv', None),
    ('all/questions.parquet', None),
  ],
)
def test_the_split_that_a_name_speaks_of(name, split):
  assert folders.named_split(pathlib.PurePath(name)) == split


def test_hive_folders_are_no_columns(tmp_path):
  parquet(tmp_path / 'split=test' / 'subject=3' / 'x.parquet', ['q?'])
  parquet(tmp_path / 'split=dev' / 'x.parquet', ['d?'])
  [row] = readers.rows(tmp_path / 'split=test' / 'subject=3' / 'x.parquet', ())
  assert row.values == question('q?')
  assert [q.question for q in mmlu.read(str(tmp_path))] == ['q?']


def test_suffixes_in_capitals_and_packed_files(tmp_path):
  rows = b'prompt\r\nfirst\r\n'
  for name, content in (
    ('A.CSV', rows),
    ('b.Csv.GZ', gzip.compress(rows.replace(b'first', b'second'))),
    ('C.JSONL', b'{"prompt": "third"}\r\n\r\n'),
    ('d.jsonl.gz', gzip.compress(b'{"prompt": "fourth"}')),
  ):
    put(tmp_path / name, content)
  pq.write_table(pa.table({'prompt': ['fifth']}), tmp_path / 'E.PARQUET')
  clutter(tmp_path)
  made = refusal.make(refusal.Config(paths=(str(tmp_path),)), 0)
  assert [(p.provenance, p.counterfactual) for p in made] == [
    ('A.CSV row 2', 'first'),
    ('C.JSONL row 1', 'third'),
    ('E.PARQUET row 1', 'fifth'),
    ('b.Csv.GZ row 2', 'second'),
    ('d.jsonl.gz row 1', 'fourth'),
  ]
  put(tmp_path / 'b.Csv.GZ', b'\x1f\x8b torn')
  with pytest.raises(readers.DataError, match=r'b\.Csv\.GZ: cannot be read.*again'):
    list(refusal.make(refusal.Config(paths=(str(tmp_path),)), 0))


def test_every_task_leaves_out_what_is_no_data(tmp_path):
  for name in ('aita', 'published', 'original'):
    clutter(tmp_path / name)
  row = {'prompt_title': 'R: NTA AI: NTA', 'prompt_body': 'post'}
  put(tmp_path / 'aita' / 'x.jsonl', json.dumps(row).encode())
  made = aita.make(aita.Config(path=str(tmp_path / 'aita')), 0)
  assert [p.counterfactual for p in made] == ['post']
  config = published.write(tmp_path / 'published', [published.row(0)])
  assert len(list(published_hints.make(config, 0))) == 1
  for name in ('dev/s_dev.csv', 'val/s_val.csv', 'test/s_test.csv'):
    put(tmp_path / 'original' / name, f'{name}?,w,x,y,z,B\n'.encode())
  made = hint_mmlu.make(hint_mmlu.Config(path=str(tmp_path / 'original')), 0)
  assert [p.provenance for p in made] == ['test/s_test.csv row 1 answer=B']


def test_the_real_layouts_give_the_test_split():
  for name, count in (('mmlu_csv', 29), ('mmlu_original_layout', 3)):
    with folders.noting() as noted:
      found = mmlu.read(real_data.path(name))
    sources = {q.source.split(' row ')[0] for q in found}
    assert len(sources) == count and all(s.startswith('test/') for s in sources)
    [listing] = noted.listings.values()
    assert len(listing['left_out']['split dev']) == count


# Files that change after the pairs were made of them.


@pytest.fixture
def posts(tmp_path) -> pathlib.Path:
  folder = tmp_path / 'posts'
  for part in 'ab':
    rows = [
      {'prompt_title': 'R: NTA AI: NTA', 'prompt_body': f'post {part} {i}'}
      for i in range(40)
    ]
    put(folder / f'{part}.jsonl', '\n'.join(map(json.dumps, rows)).encode())
  return folder


@pytest.fixture
def command(posts, tmp_path):
  """Runs a stage for two seeds."""
  chat_checkpoints.save(tmp_path / 'model')
  arguments = f'model=local,checkpoint={tmp_path / "model"},path={posts},seeds=2'
  e = validate.resolve(aita_config.get_config(arguments))
  return lambda stage: pipeline.run(e, tmp_path / 'work', stage, 1, False)


def test_what_was_read_is_told_and_noted(posts, command, tmp_path, capsys):
  clutter(posts)
  command('prepare')
  lines = [x for x in capsys.readouterr().err.splitlines() if 'read 2 files' in x]
  assert [line.split(' · ')[0] for line in lines] == ['seed 0', 'seed 1']
  for told in ('a.jsonl', 'b.jsonl', 'hidden: .DS_Store', 'kind: README.md'):
    assert told in lines[0]
  folder = tmp_path / 'work' / 'seed0' / 'prepare'
  files = workdir.finished_stage(folder).info()['data']['files']
  assert files == {
    str(path): {
      'size': path.stat().st_size,
      'sha256': hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    for path in (posts / 'a.jsonl', posts / 'b.jsonl')
  }


@pytest.mark.parametrize('stage', ['prepare', 'report'])
def test_a_data_file_that_changed_is_noticed(posts, command, stage):
  command('prepare')
  file = posts / 'b.jsonl'
  before = file.read_bytes()
  file.write_bytes(before.replace(b'post b 7', b'POST b 7'))
  with pytest.raises(workdir.WorkdirError, match=r'b\.jsonl is another file') as e:
    command(stage)
  assert 'restore the data' in str(e.value) and 'another --workdir' in str(e.value)
  file.write_bytes(before)
  put(posts / 'c.jsonl')
  with pytest.raises(workdir.WorkdirError, match=r'c\.jsonl is new'):
    command(stage)
  (posts / 'c.jsonl').rename(posts / '.c.jsonl')
  put(posts / 'NOTES.md')
  command('prepare')


def test_a_data_file_that_is_gone_is_told_and_no_error(posts, command, capsys):
  command('prepare')
  for file in ('a.jsonl', 'b.jsonl'):
    (posts / file).unlink()
    capsys.readouterr()
    command('prepare')
    assert str(posts / file) in capsys.readouterr().err
  posts.rmdir()
  command('prepare')


def test_pairs_of_an_unfinished_stage_are_made_of_the_data_as_they_are(
  posts, command, tmp_path, monkeypatch
):
  def kill(*_):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(workdir.Stage, 'finish', kill)
    with pytest.raises(KeyboardInterrupt):
      command('prepare')
  (posts / 'b.jsonl').unlink()
  command('prepare')
  info = workdir.finished_stage(tmp_path / 'work' / 'seed0' / 'prepare').info()
  assert [*info['data']['files']] == [str(posts / 'a.jsonl')]
