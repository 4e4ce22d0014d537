"""Files of labels: what is not as it should be is named by file, row and field."""

import json

import numpy as np
import pytest

from coupling.config import schema
from coupling.elicit import label_file
from coupling.elicit.explanation import Behaviors
from data import pairs
from data import readers

QUESTIONS = pairs.Questions()
OPTIONS = ('Paris', 'Rome', 'Bern')


def row(i, split, **changes):
  asked = f'Question {i}?'
  return {
    'split': split,
    'group': f'group {i}',
    'prompt': f'{asked} I say Rome.',
    'counterfactual': asked,
    'options': [*OPTIONS],
    'behavior': 'Rome',
    'counterfactual_behavior': 'Bern',
    'explanation': 'Bern, changed',
  } | changes


def save(path, *changes):
  """Three rows; changes of the first, the second, the third, '-' to leave out."""
  rows = [row(i, split) for i, split in enumerate(('train', 'validation', 'test'))]
  for i, change in enumerate(changes):
    rows[i] = {k: x for k, x in (rows[i] | change).items() if x != '-'}
  path.write_text(''.join(f'{json.dumps(x)}\n' for x in rows))
  return path


def test_the_columns_alone_are_enough(tmp_path):
  found = label_file.read(save(tmp_path / 'a.jsonl'), QUESTIONS)
  assert [*found] == ['train', 'validation', 'test']
  (pair,), row_N, did = found['test']
  assert (pair.cue, pair.cue_option, pair.options) == (' I say Rome.', 1, OPTIONS)
  assert row_N.tolist() == [0]
  assert did.behavior_N.tolist() == [1] and did.counterfactual_behavior_N.tolist() == [
    2
  ]
  assert did.logprobs_Nx2xS.shape == (1, 2, 0) and did.replies_Nx2.shape == (1, 0)


@pytest.mark.parametrize('ending', ['.jsonl', '.parquet'])
def test_what_is_written_is_read(ending, tmp_path):
  """Distributions with nothing beyond the options, texts with line ends, replies."""
  rng, found = np.random.default_rng(0), {}
  for i, split in enumerate(('train', 'validation', 'test')):
    some = [
      pairs.Pair(f'{i} {n}\u2028\n hint', f'{i} {n}', options=OPTIONS, cue_kind='é')
      for n in range(4)
    ]
    logprobs = -rng.exponential(size=(4, 2, 5)).astype(np.float32)
    logprobs[:, :, 3:] = -np.inf
    did = Behaviors(
      rng.integers(3, size=4),
      rng.integers(3, size=4),
      logprobs,
      np.array([['a', ''], ['b\n', 'c'], ['d', 'e'], ['f', 'g']], object),
    )
    found[split] = label_file.Labelled(some, np.array([0, 2, 5, 6]), did)
  path = tmp_path / f'labels{ending}'
  how = schema.Behavior(read='reply', calibration='none')
  label_file.write(path, label_file.table(found, QUESTIONS, how))
  again = label_file.read(path, QUESTIONS)
  assert label_file.behavior(path) == how
  assert again.keys() == found.keys()
  for split, (some, row_N, did) in found.items():
    assert again[split].pairs == some
    np.testing.assert_array_equal(again[split].row_N, row_N)
    for name, x in vars(did).items():
      np.testing.assert_array_equal(getattr(again[split].behaviors, name), x)


WRONG = {
  'a cell': (({'explanation': '-'},), 'explanation'),
  'a split': (({'split': 'dev'},), 'row 1.*split.*dev'),
  'no rows of a split': (({}, {'split': 'train'}), 'validation'),
  'no group': (({'group': ''},), 'row 1.*group'),
  'a group in two splits': (({}, {}, {'group': 'group 0'}), 'row 3.*group.*row 1'),
  'options': (({}, {'options': 'Paris'}), 'row 2.*options'),
  'options alike': (({}, {'options': ['Rome', 'Rome', 'Bern']}), 'row 2.*distinct'),
  'a behaviour': (({'behavior': 'rome'},), 'row 1.*behavior.*none of the options'),
  'an index': (({'counterfactual_behavior': 2},), 'row 1.*counterfactual_behavior'),
  'an explanation': (({'explanation': 'Rome, unchanged'},), 'row 1.*Bern, changed'),
  'no counterfactual': (({}, {}, {'counterfactual': '-'}), 'row 3.*counterfactual'),
  'no cue': (({'prompt': 'Question 0?'},), 'row 1.*same text'),
  'an option of the cue': (({'cue_option': 3},), 'row 1.*cue_option'),
  'a text for a number': (({'cue_option': '1'},), 'row 1.*cue_option.*int'),
  'an odd list': (({'reference': [0.0]},), 'reference.*train'),
  'no probability': (({'reference': [0.5, -1.0]},), 'row 1.*reference'),
  'no number': (({'reference': [float('nan'), -1.0]},), 'row 1.*reference'),
  'no replies': (({'replies': 'yes'},), 'row 1.*replies'),
  'no place': (({'row': -1},), 'row 1.*row.*0 or more'),
}


@pytest.mark.parametrize('what', WRONG)
def test_what_is_wrong_is_named(what, tmp_path):
  changes, message = WRONG[what]
  path = save(tmp_path / 'a.jsonl', *changes)
  with pytest.raises(readers.DataError, match=f'(?s){path}.*{message}'):
    label_file.read(path, QUESTIONS)


def test_how_labels_were_read_is_of_a_whole_file(tmp_path):
  path = save(tmp_path / 'a.jsonl')
  assert label_file.behavior(path) is None  # another's file, which does not say so
  how = {'read': 'text', 'per_token': True, 'calibration': 'none'}
  save(path, how, how, how)
  assert label_file.behavior(path) == schema.Behavior(read='text', per_token=True)
  save(path, how, how, how | {'read': 'reply'})
  with pytest.raises(readers.DataError, match='row 3, field read.*row 1'):
    label_file.behavior(path)
  save(path, *[how | {'read': 'lips'}] * 3)
  with pytest.raises(schema.ConfigError, match='read'):
    label_file.behavior(path)


@pytest.mark.parametrize('field', ['prompt', 'row'])
def test_what_is_there_twice_is_named(field, tmp_path):
  first = row(0, 'train', row=3)
  texts = {k: first[k] for k in ('prompt', 'counterfactual', 'group')}
  second = row(4, 'train', row=3) if field == 'row' else row(4, 'train') | texts
  path = save(tmp_path / 'a.jsonl', first)
  path.write_text(f'{path.read_text()}{json.dumps(second)}\n')
  with pytest.raises(readers.DataError, match=f'row 4, field {field}.*row 1'):
    label_file.read(path, QUESTIONS)
