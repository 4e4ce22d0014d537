"""Files of pairs: read as cp.Pair has them; what is wrong is named by file and row."""

import json
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs import audit
from data import pair_file
from data import readers
from data import reply_options
from data import splits

GROUPS = 40


def row(i, **changes):
  asked = f'Question {i}?'
  return {
    'prompt': f'{asked} I say Rome.',
    'counterfactual': asked,
    'options': ['Paris', 'Rome', 'Bern'],
    'behavior': 'Rome',
    'counterfactual_behavior': ['Bern', 'Rome'][i % 2],
  } | changes


def save(path, **changes) -> pathlib.Path:
  """Rows as lines of JSON; changes are of the third, '-' to leave out."""
  rows = [row(i) for i in range(GROUPS)]
  rows[2] = {k: x for k, x in (rows[2] | changes).items() if x != '-'}
  path.write_text(''.join(f'{json.dumps(x)}\n' for x in rows))
  return path


def read(path, **fields):
  """Pairs by split and answers, by the way of a command: config, pairs, labels."""
  audit.get_config(f'pairs={path},model=local,checkpoint=x')
  config = pair_file.Config(path=str(path), **fields)
  made = pair_file.builder(config, 0, path.parent).builder_config
  by_split = made.by_split(made.make(config, 0))
  every = [pair for found in by_split.values() for pair in found]
  return by_split, {
    (pair.prompt, *(pair.options[k] for k in chosen))
    for pair, *chosen in zip(every, *pair_file.behaviors(config, every))
  }


@pytest.mark.parametrize('kind', ['jsonl', 'parquet', 'folder'])
def test_rows_become_pairs_and_their_answers(kind, tmp_path):
  rows, path = [row(i) for i in range(GROUPS)], tmp_path / f'pairs.{kind}'
  if kind == 'folder':
    path.mkdir()
    for start in (0, 20):
      pq.write_table(
        pa.Table.from_pylist(rows[start : start + 20]), path / f'{start}.parquet'
      )
  elif kind == 'parquet':
    pq.write_table(pa.Table.from_pylist(rows), path)
  else:
    save(path)
  by_split, said = read(path)
  assert said == {
    (x['prompt'], x['behavior'], x['counterfactual_behavior']) for x in rows
  }
  for split, found in by_split.items():
    for pair in found:
      assert splits.split_of(pair.group) == split
      assert (pair.cue, pair.cue_option, pair.cue_kind) == (' I say Rome.', 1, 'cue')
  assert sum(map(len, by_split.values())) == GROUPS


def test_rows_say_what_a_pair_cannot_know(tmp_path):
  """Split, group and cue; two rows of one group are together."""
  path = tmp_path / 'a.jsonl'
  shares = [*splits.SHARES]
  rows = [
    row(i, group=f'g{i // 2}', split=shares[i // 2 % 3], cue_kind='said', cue_option=-1)
    for i in range(GROUPS)
  ]
  path.write_text(''.join(f'{json.dumps(x)}\n' for x in rows))
  by_split, _ = read(path)
  for split, found in by_split.items():
    assert {shares[int(pair.group[1:]) % 3] for pair in found} == {split}
    assert {(pair.cue_kind, pair.cue_option) for pair in found} == {('said', -1)}


def test_answers_that_were_read_from_replies(tmp_path):
  """Labels.save gives all pairs one option more, which is no option of the file's."""
  path, unnamed = tmp_path / 'a.jsonl', reply_options.UNNAMED
  how = {'read': 'reply', 'per_token': False, 'calibration': 'none'}
  rows = [row(i, **how, behavior=unnamed) for i in range(GROUPS)]
  for x in rows:
    x['options'].append(unnamed)
  path.write_text(''.join(f'{json.dumps(x)}\n' for x in rows))
  config = pair_file.Config(path=str(path))
  made = [*pair_file.make(config, 0)]
  assert {pair.options for pair in made} == {('Paris', 'Rome', 'Bern')}
  asked = reply_options.questions(pair_file.questions(config))
  items = reply_options.with_unnamed(asked, made)
  behavior_N, without_N = pair_file.behaviors(config, items)
  assert {*behavior_N} == {3} and without_N.tolist() == [2, 1] * (GROUPS // 2)
  with pytest.raises(readers.DataError, match='row 1, field behavior.*one of'):
    pair_file.behaviors(config, made)  # which are asked for by text


@pytest.mark.parametrize(
  ('options', 'said', 'want'),
  [
    (['yes', 'no'], {}, ('text', True)),
    (['A', 'B'], {}, ('first_token', False)),
    (['yes', 'no'], dict(read='reply', per_token=False), ('reply', False)),
  ],
)
def test_audits_read_as_the_answers_were_read(options, said, want, tmp_path):
  path, both = tmp_path / 'a.jsonl', dict(zip(pair_file.ANSWERS, options))
  said = said and said | dict(calibration='none')
  lines = [json.dumps(row(i, options=options, **both, **said)) for i in range(9)]
  path.write_text('\n'.join(lines))
  found = audit.get_config(f'pairs={path},model=local,checkpoint=x').behavior
  assert (found.read, found.per_token) == want


WRONG_ROWS = {
  'no prompt': (dict(prompt='-'), "no field 'prompt'"),
  'a prompt that is no text': (dict(prompt=3), "field 'prompt': expected text"),
  'an empty prompt': (dict(prompt=' '), "field 'prompt': expected text"),
  'no cue': (dict(prompt='Question 2?'), 'the same text'),
  'options as a text': (dict(options='Rome'), 'field options: .*a list of texts'),
  'numbers as options': (dict(options=[1, 2]), 'field options: .*a list of texts'),
  'one option': (dict(options=['Rome']), 'options=.*distinct'),
  'an option twice': (dict(options=['Rome', 'Rome']), 'options=.*distinct'),
  'an empty option': (dict(options=['Rome', '']), 'options=.*distinct'),
  'a cue of no option': (dict(cue_option=3), 'cue_option=3 is no index'),
  'a cue as a text': (dict(cue_option='Rome'), 'field cue_option: .*expected int'),
  'a group that is no text': (dict(group=7), 'field group: .*expected str'),
  'no such split': (dict(split='dev'), 'field split: .*train.*validation.*test'),
  'an answer that is no option': (dict(behavior='rome'), 'field behavior: .*none of'),
  'an answer as an index': (dict(behavior=1), 'field behavior: .*none of'),
  'another explanation': (
    dict(explanation='Rome, unchanged'),
    "field explanation: .*make it 'Bern, changed'",
  ),
  'another reading': (
    dict(read='text', per_token=True, calibration='none'),
    'field read: .*row 1',
  ),
}


@pytest.mark.parametrize('what', WRONG_ROWS)
def test_wrong_rows_are_named(what, tmp_path):
  changes, message = WRONG_ROWS[what]
  path = save(tmp_path / 'a.jsonl', **changes)
  with pytest.raises(ValueError, match=f'(?s){path} row 3.*{message}'):
    read(path)


def test_a_group_in_two_splits_is_named(tmp_path):
  path = save(tmp_path / 'a.jsonl')
  second = row(50, counterfactual='Question 2?', prompt='Question 2? Yes', split='test')
  path.write_text(f'{path.read_text()}{json.dumps(second)}\n')
  with pytest.raises(readers.DataError, match='row 41, field split: .*row 3.*None'):
    read(path)


@pytest.mark.parametrize('name', pair_file.ANSWERS)
def test_answers_that_contradict_are_named(name, tmp_path):
  path = save(tmp_path / 'a.jsonl')
  second = json.dumps(row(2)), json.dumps(row(2, **{name: 'Paris'}))
  path.write_text('\n'.join([path.read_text().rstrip(), *second]))
  with pytest.raises(readers.DataError, match=f'row 42, field {name}: .*row 3, .*same'):
    read(path)


GOOD = json.dumps(row(0))
WRONG_FILES = {
  'not there': ('a.jsonl', None, 'no such file'),
  'another kind': ('a.txt', GOOD, 'no file that ends in .jsonl or .parquet'),
  'empty': ('a.jsonl', '', 'holds no rows'),
  'cut off': ('a.jsonl', f'{GOOD}\n{GOOD[:40]}', 'row 2: no JSON'),
  'a list': ('a.jsonl', f'[{GOOD}]', 'row 1: expected a JSON object'),
  'no Parquet': ('a.parquet', GOOD, 'cannot be read as Parquet'),
  'a pointer': ('a.parquet', 'version https://git-lfs.github.com', 'git lfs pull'),
  'too few groups': ('a.jsonl', GOOD, "The split '.*' is empty"),
}


@pytest.mark.parametrize('what', WRONG_FILES)
def test_wrong_files_are_named(what, tmp_path):
  name, text, message = WRONG_FILES[what]
  path = tmp_path / name
  if text is not None:
    path.write_text(text)
  with pytest.raises(ValueError, match=message):
    read(path)


def test_labels_that_a_file_lacks_are_asked_for(tmp_path):
  path = save(tmp_path / 'a.jsonl', behavior='-')
  with pytest.raises(ValueError, match="labels='task': .*behavior.*labels=own"):
    read(path)
  given = f'pairs={path},model=local,checkpoint=x'
  assert audit.get_config(f'{given},labels=own').label.source == ''
