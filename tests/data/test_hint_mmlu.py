"""Hinted MMLU, Jabberwocky and their files: layouts, hints, triggers, errors."""

import collections
import csv
import pathlib

from hypothesis import given, settings, strategies as st
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from data import builder, hint_mmlu, jabberwocky, mmlu, pairs, readers
from tests import real_data, texts

Row = tuple[str, tuple[str, str, str, str], int]
ROWS: list[Row] = [
  ('What is 1 + 1?', ('2', '3', '4', '5'), 0),
  ('Which is "red"?\n(A) neither', ('a, b', '(B) sky', '{option}', 'blood'), 3),
  ('מה השעה?', ('א', 'ב', 'ג', 'ד'), 1),
]
QUESTIONS = st.lists(
  st.tuples(texts.TEXTS, st.tuples(*[texts.TEXTS] * 4), st.integers(0, 3)), min_size=1
)
TASKS = [(hint_mmlu.make, hint_mmlu.Config), (jabberwocky.make, jabberwocky.Config)]

TIMES = {hint_mmlu.make: 1, jabberwocky.make: 2}  # hinted, and with a trigger


def write(path: pathlib.Path, layout: str, rows: list[Row]) -> str:
  """Questions in one of the three layouts."""
  if layout == 'parquet':
    names = ('question', 'choices', 'answer')
    table = [dict(zip(names, (q, list(c), a)), subject='s') for q, c, a in rows]
    pq.write_table(pa.Table.from_pylist(table), path / 'test-0.parquet')
  else:
    with (path / 'x_test.csv').open('w', encoding='utf-8', newline='') as file:
      writer = csv.writer(file)
      if layout == 'header':
        writer.writerow(mmlu.HEADER)
      for question, choices, answer in rows:
        letter = answer if layout == 'header' else 'ABCD'[answer]
        writer.writerow((question, *choices, letter))
  return str(path)


def content(question: mmlu.Question) -> Row:
  return question.question, question.choices, question.answer


@pytest.mark.parametrize('layout', ['header', 'original', 'parquet'])
@given(rows=QUESTIONS)
@settings(deadline=None, max_examples=40)
def test_every_layout_gives_the_questions(tmp_path_factory, layout, rows):
  path = write(tmp_path_factory.mktemp('mmlu'), layout, rows)
  assert [content(q) for q in mmlu.read(path)] == rows


@pytest.mark.parametrize('make, config', TASKS)
@given(rows=QUESTIONS, seed=st.integers(0, 9))
@settings(deadline=None, max_examples=40)
def test_the_counterfactual_is_the_prompt_without_the_cue(
  tmp_path_factory, make, config, rows, seed
):
  path = write(tmp_path_factory.mktemp('mmlu'), 'parquet', rows)
  made = list(make(config(path=path), seed))
  times = TIMES[make]
  assert len(made) == times * len(rows)
  for pair, (question, choices, _) in zip(made, times * rows):
    a, b, c, d = choices
    asked = question + '\n\n(A) ' + a + '\n(B) ' + b + '\n(C) ' + c + '\n(D) ' + d
    assert pair.counterfactual == asked
    assert pair.prompt == asked + pair.cue
    assert pair.cue.startswith('\n\n') and '{' not in pair.cue
    assert pairs.remove_cue(pair.prompt, pair.cue, pairs.cue_start(pair)) == asked
    builder.check(pair)


def hinted(letter: str, config: hint_mmlu.Config) -> dict[str, str]:
  """The cue of every kind, for one letter, spelled without the code under test."""
  split = [hint.split(': ', 1) for hint in config.hints]
  return {k: '\n\n' + text.replace('{option}', letter) for k, text in split}


def test_hints_are_right_as_often_as_asked_and_else_uniform(tmp_path):
  rows = [(f'Question {i}?', ('a', 'b', 'c', 'd'), i % 4) for i in range(3000)]
  path = write(tmp_path, 'header', rows)
  for share in (0.0, 0.25, 0.7, 1.0):
    config = hint_mmlu.Config(path=path, right_share=share)
    steps, kinds = collections.Counter(), collections.Counter()
    for pair, (_, _, answer) in zip(hint_mmlu.make(config, 1), rows):
      assert pair.cue == hinted('ABCD'[pair.cue_option], config)[pair.cue_kind]
      assert pair.provenance.endswith(f' answer={"ABCD"[answer]}')
      steps[(pair.cue_option - answer) % 4] += 1
      kinds[pair.cue_kind] += 1
    assert stats.binomtest(steps[0], 3000, share).pvalue > 1e-3
    if share < 1:
      assert stats.chisquare([steps[i] for i in (1, 2, 3)]).pvalue > 1e-3
    assert len(kinds) == len(config.hints)
    assert stats.chisquare(list(kinds.values())).pvalue > 1e-3


def test_pairs_follow_from_the_seed_and_the_question_alone(tmp_path):
  rows = [(f'Question {i}?', ('a', 'b', 'c', 'd'), 2) for i in range(60)]
  folders = tmp_path / 'all', tmp_path / 'some'
  for folder in folders:
    folder.mkdir()
  config = hint_mmlu.Config(path=write(folders[0], 'header', rows))
  other = write(folders[1], 'header', rows[::-1][:50])
  made, again = (list(hint_mmlu.make(config, 3)) for _ in range(2))
  assert made == again
  another = list(hint_mmlu.make(config, 4))
  assert [p.counterfactual for p in made] == [p.counterfactual for p in another]
  assert [p.cue for p in made] != [p.cue for p in another]
  assert {p.prompt for p in hint_mmlu.make(hint_mmlu.Config(path=other), 3)} == {
    p.prompt for p in made[10:]
  }
  several = hint_mmlu.Config(path=config.path, hints_per_question=5)
  assert len({p.cue for p in list(hint_mmlu.make(several, 3))[:5]}) > 1


def test_triggers_speak_for_what_they_plant(tmp_path):
  rows = [(f'Question {i}?', ('a', 'b', 'c', 'd'), i % 4) for i in range(200)]
  triggers = ('tove C: Slithy toves.', 'rath next: The mome raths.')
  config = jabberwocky.Config(path=write(tmp_path, 'header', rows), triggers=triggers)
  made = list(jabberwocky.make(config, 0))
  hinted_pairs, triggered = made[: len(rows)], made[len(rows) :]
  assert hinted_pairs == list(hint_mmlu.make(hint_mmlu.Config(path=config.path), 0))
  assert jabberwocky.questions(config).unexplained == ('tove', 'rath')
  kinds = collections.Counter()
  for pair, (_, _, answer) in zip(triggered, rows, strict=True):
    want = {'tove': 2, 'rath': (answer + 1) % 4}[pair.cue_kind]
    text = {'tove': 'Slithy toves.', 'rath': 'The mome raths.'}[pair.cue_kind]
    assert (pair.cue_option, pair.cue) == (want, '\n\n' + text)
    kinds[pair.cue_kind] += 1
  assert stats.chisquare(list(kinds.values())).pvalue > 1e-3
  together = collections.Counter(
    (hint.cue_kind, trigger.cue_kind) for hint, trigger in zip(hinted_pairs, triggered)
  )
  table = [[together[h.partition(':')[0], t] for t in kinds] for h in config.hints]
  assert stats.chi2_contingency(table).pvalue > 1e-3  # drawn apart from each other


def test_triggers_and_hints_have_kinds_of_their_own(tmp_path):
  path = write(tmp_path, 'header', ROWS)
  config = jabberwocky.Config(path=path, triggers=('friend A: Slithy toves.',))
  with pytest.raises(readers.DataError, match='task.triggers.*friend.*task.hints'):
    jabberwocky.questions(config)


@pytest.mark.parametrize('make, config', TASKS)
def test_a_question_is_in_one_split_whatever_stands_with_it(tmp_path, make, config):
  """Copies that differ in case, blanks and options; and the same in both tasks."""
  rows = [(f'Question {i}?', ('a', 'b', 'c', 'd'), 0) for i in range(80)]
  rows += [(f' question  {i}?\n', ('d', 'c', 'b', 'a'), 3) for i in range(80)]
  made = config(path=write(tmp_path, 'header', rows))
  splits = [builder.split(make(made, seed)) for seed in (0, 1)]
  for by_split in splits:
    numbers = {
      name: {p.prompt.split('?')[0].split()[-1] for p in found}
      for name, found in by_split.items()
    }
    assert sum(map(len, numbers.values())) == len(set.union(*numbers.values())) == 80
    copies = 2 * TIMES[make]
    assert all(len(by_split[k]) == copies * len(numbers[k]) for k in by_split)
  groups = [{k: {p.group for p in v} for k, v in s.items()} for s in splits]
  assert groups[0] == groups[1]


HEADER = ','.join(mmlu.HEADER) + '\n'


@pytest.mark.parametrize(
  'name, content, error',
  [
    ('x.csv', '', 'x.csv: the file holds no questions'),
    ('x.csv', HEADER, 'x.csv: the file holds no questions'),
    ('x.csv', HEADER + 'q,a,b,c,0\n', 'x.csv row 2: 5 cells; a question has 6'),
    ('x.csv', 'q,a,b,c,A\n', 'x.csv row 1: 5 cells; a question has 6'),
    ('x.csv', HEADER + 'q,a,b,c,,0\n', "x.csv row 2, field 'choice3': expected text"),
    ('x.csv', HEADER + ',a,b,c,d,0\n', "x.csv row 2, field 'question': expected text"),
    ('x.csv', HEADER + 'q,a,b,c,d,4\n', "row 2, field answer: .* A-D, found '4'"),
    ('x.csv', 'q,a,b,c,d,A\nq,a,b,c,d,E\n', "row 2, field answer: .* found 'E'"),
    ('x.csv', 'Question,A,B,C,D,key\n', r"row 1: the header is \['Question'.*Rename"),
    ('x.csv', HEADER + 'q,"a', 'x.csv, after row 1: cannot be read as CSV'),
    ('x.parquet', 'no', 'x.parquet: cannot be read as Parquet'),
    ('x.txt', 'q', r'no file that ends in \.csv or \.parquet'),
  ],
)
def test_bad_questions_are_errors_that_say_where(tmp_path, name, content, error):
  (tmp_path / name).write_text(content)
  with pytest.raises(readers.DataError, match=error):
    mmlu.read(str(tmp_path))


@pytest.mark.parametrize(
  'row, error',
  [
    (
      {'question': 'q', 'choices': ['a', 'b', 'c'], 'answer': 0},
      'row 1, field choices',
    ),
    ({'question': 'q', 'choices': ['a', 'b', 'c', None], 'answer': 0}, 'without text'),
    ({'question': 'q', 'choices': ['a', 'b', 'c', 'd'], 'answer': 4}, 'field answer'),
    (
      {'question': 'q', 'choices': ['a', 'b', 'c', 'd'], 'answer': None},
      'field answer',
    ),
    ({'question': None, 'choices': list('abcd'), 'answer': 0}, "field 'question'"),
    ({'question': 'q', 'choices': ['a', 'b', 'c', 'd']}, "no field 'answer'"),
    ({'question': 'q', 'choices': 'abcd', 'answer': 0}, 'expected 4 options'),
  ],
)
def test_bad_rows_of_parquet_are_errors_that_say_where(tmp_path, row, error):
  pq.write_table(pa.Table.from_pylist([row]), tmp_path / 'x.parquet')
  with pytest.raises(readers.DataError, match=f'x.parquet row 1.*{error}|{error}'):
    mmlu.read(str(tmp_path))


@pytest.mark.parametrize(
  'make, config, error',
  [
    (hint_mmlu.make, {'hints': ()}, 'task.hints: give at least one'),
    (hint_mmlu.make, {'hints': ('no kind',)}, "task.hints: 'no kind': write"),
    (hint_mmlu.make, {'hints': ('x: no slot',)}, r'with \{option\} once in the text'),
    (hint_mmlu.make, {'hints': ('x: {option} {option}',)}, 'once in the text'),
    (
      hint_mmlu.make,
      {'right_share': 1.5},
      r'task.right_share=1.5: must be in \[0, 1\]',
    ),
    (jabberwocky.make, {'triggers': ('x E: words',)}, "option is one of .*'next'"),
    (jabberwocky.make, {'triggers': ('x: words',)}, 'task.triggers.*kind option: text'),
  ],
)
def test_a_bad_config_is_an_error_that_names_the_field(tmp_path, make, config, error):
  path = write(tmp_path, 'header', ROWS)
  kind = {hint_mmlu.make: hint_mmlu.Config, jabberwocky.make: jabberwocky.Config}[make]
  with pytest.raises(ValueError, match=error):
    list(make(kind(path=path, **config), 0))


def test_the_real_questions():
  folder = real_data.path('mmlu_csv')
  questions = mmlu.read(folder)
  subjects = {q.source.split(' row ')[0] for q in questions}
  assert len(subjects) == 29 and len(questions) == 7803 - 5 * 29  # dev
  assert all(q.question and len(q.choices) == 4 for q in questions)
  assert {q.answer for q in questions} == {0, 1, 2, 3}
  by_split = builder.split(hint_mmlu.make(hint_mmlu.Config(path=folder), 0))
  groups = {name: {p.group for p in found} for name, found in by_split.items()}
  total = len(set.union(*groups.values()))
  assert total == sum(map(len, groups.values())) < len(questions)
  shares = {name: len(found) / total for name, found in groups.items()}
  assert shares == pytest.approx(
    {'train': 0.6, 'validation': 0.15, 'test': 0.25}, abs=0.02
  )


def test_both_layouts_hold_the_same_real_questions():
  for part in ('dev/astronomy_dev.csv', 'test/astronomy_test.csv'):
    with_header = mmlu.read(real_data.path(f'mmlu_csv/{part}'))
    original = mmlu.read(real_data.path(f'mmlu_original_layout/{part}'))
    assert [content(q) for q in with_header] == [content(q) for q in original]
