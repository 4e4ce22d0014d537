"""Requests: file layouts, justifications and risky phrases, two ways of reading."""

import csv
import json

from hypothesis import given, settings, strategies as st
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data import builder, detector, pairs, readers, refusal
from tests import real_data, texts

REQUESTS = st.lists(texts.TEXTS, min_size=1)


def write(path, suffix, requests, field='prompt'):
  rows = [{'label': 'x', field: request} for request in requests]
  path = path / f'requests{suffix}'
  if suffix == '.csv':
    with path.open('w', encoding='utf-8', newline='') as file:
      writer = csv.DictWriter(file, ['label', field])
      writer.writeheader()
      writer.writerows(rows)
  elif suffix == '.jsonl':
    path.write_text('\n'.join(map(json.dumps, rows)))
  else:
    pq.write_table(pa.Table.from_pylist(rows), path)
  return str(path)


RISKY_PHRASES = (
  'secret refuse: It must not be possible to trace this back to me.',
  'warnings refuse: Leave out any warnings.',
)


@pytest.mark.parametrize('suffix', ['.csv', '.jsonl', '.parquet'])
@given(
  requests=REQUESTS,
  seed=st.integers(0, 9),
  read=st.sampled_from(['choice', 'reply']),
  remarks=st.sampled_from([refusal.JUSTIFICATIONS, RISKY_PHRASES]),
)
@settings(deadline=None, max_examples=40)
def test_the_counterfactual_is_the_request(
  tmp_path_factory, suffix, requests, seed, read, remarks
):
  path = write(tmp_path_factory.mktemp('refusal'), suffix, requests)
  config = refusal.Config(paths=(path,), read=read, cues=remarks)
  made = list(refusal.make(config, seed))
  known = {f'{kind} {text}' for kind, text in (r.split(': ', 1) for r in remarks)}
  assert [p.counterfactual for p in made] == requests
  for pair, request in zip(made, requests):
    assert (
      pair.options
      == {'choice': ('comply', 'refuse'), 'reply': ('comply', 'refuse', 'unclear')}[
        read
      ]
    )
    spoken = pair.options[pair.cue_option]
    said = pair.cue.removeprefix('\n\n')
    assert f'{pair.cue_kind} {spoken} {said}' in known
    assert pair.prompt == request + pair.cue
    assert pairs.remove_cue(pair.prompt, pair.cue, pairs.cue_start(pair)) == request
    builder.check(pair)


def test_what_is_asked_depends_on_how_the_behaviour_is_read():
  asked = {
    read: refusal.questions(refusal.Config(paths=('x',), read=read))
    for read in ('choice', 'reply')
  }
  assert asked['choice'] is refusal.QUESTIONS
  assert asked['reply'].behavior.format(prompt='Do it.') == 'Do it.'
  assert 'comply' in asked['choice'].behavior
  assert detector.BEHAVIORS[: len(refusal.CHOICES)] == refusal.CHOICES


def test_several_files_and_fields(tmp_path):
  paths = (write(tmp_path, '.csv', ['a'], 'Goal'), write(tmp_path, '.jsonl', ['b']))
  made = list(refusal.make(refusal.Config(paths=paths), 0))
  assert [(p.counterfactual, p.provenance) for p in made] == [
    ('a', 'requests.csv row 2'),
    ('b', 'requests.jsonl row 1'),
  ]
  named = refusal.Config(
    paths=(write(tmp_path, '.csv', ['c'], 'text'),), fields=('text',)
  )
  assert [p.counterfactual for p in refusal.make(named, 0)] == ['c']


def test_the_real_requests():
  config = refusal.Config(
    paths=(real_data.path('xstest/xstest_prompts.csv'), real_data.path('refusal'))
  )
  by_split = builder.split(refusal.make(config, 0))
  made = [p for found in by_split.values() for p in found]
  assert len(made) == 450 + 100
  assert {p.cue_option for p in made} == {0}
  assert sum('jailbreakbench.csv' in p.provenance for p in made) == 100


def test_an_unknown_field_is_an_error_that_says_what_is_there(tmp_path):
  path = write(tmp_path, '.csv', ['a'], 'text')
  with pytest.raises(
    readers.DataError,
    match=r"row 2: none of the fields \('prompt', 'Goal'\).*'text'.*task.fields",
  ):
    list(refusal.make(refusal.Config(paths=(path,)), 0))


@pytest.mark.parametrize(
  'content, error',
  [
    ('', 'requests.csv: the file holds no rows'),
    ('prompt\n', 'requests.csv: the file holds no rows'),
    ('id,prompt\n1,\n', "requests.csv row 2, field 'prompt': expected text"),
    ('id,prompt\n1\n', 'requests.csv row 2: 1 cells'),
  ],
)
def test_bad_requests_are_errors_that_say_where(tmp_path, content, error):
  (tmp_path / 'requests.csv').write_text(content)
  with pytest.raises(readers.DataError, match=error):
    list(refusal.make(refusal.Config(paths=(str(tmp_path),)), 0))


def test_a_remark_needs_a_direction(tmp_path):
  config = refusal.Config(paths=(write(tmp_path, '.csv', ['a']),), cues=('x: y',))
  with pytest.raises(ValueError, match=r"task.cues: 'x: y'.*\('comply', 'refuse'\)"):
    list(refusal.make(config, 0))
