"""Hint-MMLU by the texts of options: what is listed, hinted, stated, and moved."""

import unicodedata

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from configs import common, hint_mmlu as hint_mmlu_config
from coupling.config import schema, validate
from coupling.elicit import options as options_lib, statements
from coupling.run import preflight
from data import builder, folders, hint_mmlu, mmlu, pairs, positions, readers
from tests import chat_checkpoints, chats, real_data, texts
from tests.data import test_hint_mmlu as lettered

CHOICES = st.tuples(*[texts.TEXTS | st.sampled_from(['a', ' a', 'a.', '.', 'ﬁ'])] * 4)
QUESTIONS = st.lists(
  st.tuples(texts.TEXTS, CHOICES, st.integers(0, 3)), min_size=1, max_size=6
)
TWICE = [
  ('Which?', ('a', 'b ', ' b', 'c'), 0),
  ('What?', ('a  b', 'a\tb', 'c', 'd'), 1),
  ('Who?', ('x²', 'x2', 'y', 'z'), 2),
  ('Where?', ('.', 'a.', 'b.', 'c.'), 2),  # without the full stop nothing is left
]
SURE = ('sure: It is ({option})!',)


def expected(choices: tuple[str, ...]) -> list[str] | None:
  """The options as they should be listed; None where they cannot be told apart."""
  found = [choice.strip() for choice in choices]
  if [text[-1] for text in found] == ['.'] * 4:
    found = [text[:-1].rstrip() for text in found]
  plain = {' '.join(unicodedata.normalize('NFKC', text).split()) for text in found}
  return found if len(plain) == 4 and '' not in plain else None


def made(folder, rows, **changes) -> list[pairs.Pair]:
  path = lettered.write(folder, 'parquet', rows)
  return list(hint_mmlu.make(hint_mmlu.Config(path=path, options='text', **changes), 0))


@given(rows=QUESTIONS)
@settings(deadline=None, max_examples=60)
def test_the_counterfactual_is_the_prompt_without_a_hint_that_names_an_option(
  tmp_path_factory, rows
):
  found = made(tmp_path_factory.mktemp('mmlu'), rows, hints=SURE)
  fit = [row for row in rows if expected(row[1])]
  assert len(found) == len(fit)
  for pair, (question, choices, answer) in zip(found, fit):
    a, b, c, d = options = expected(choices)
    asked = question + '\n\n- ' + a + '\n- ' + b + '\n- ' + c + '\n- ' + d
    assert pair.counterfactual == asked
    assert pair.options == tuple(options)
    assert pair.cue == '\n\nIt is ' + options[pair.cue_option] + '!'
    assert pair.prompt == asked + pair.cue
    assert pairs.remove_cue(pair.prompt, pair.cue, pairs.cue_start(pair)) == asked
    assert pair.provenance.endswith(f' answer={options[answer]}')
    builder.check(pair)


def test_hints_name_texts_without_parentheses_and_are_drawn_as_with_letters(tmp_path):
  rows = [(f'Question {i}?', ('w.', 'x.', 'y.', 'z.'), i % 4) for i in range(200)]
  found = made(tmp_path, rows)
  path = str(tmp_path)
  by_letter = list(hint_mmlu.make(hint_mmlu.Config(path=path), 0))
  kind = lambda pair: (pair.cue_kind, pair.cue_option, pair.group)
  assert [*map(kind, found)] == [*map(kind, by_letter)]
  for pair, other in zip(found, by_letter):
    letter = f'({"ABCD"[pair.cue_option]})'
    assert pair.cue == other.cue.replace(letter, 'wxyz'[pair.cue_option])
  assert len({pair.cue_kind for pair in found}) == len(hint_mmlu.HINTS)


def test_questions_with_options_alike_are_left_out_and_counted(tmp_path):
  rows = [*TWICE, ('When?', ('b', 'B', 'x y', 'xy'), 0)]
  with folders.noting() as noted:
    assert [pair.options for pair in made(tmp_path, rows)] == [rows[-1][1]]
  [listing] = noted.listings.values()
  assert ['4 of 5'] in listing['left_out'].values()
  letters = hint_mmlu.Config(path=str(tmp_path))
  with folders.noting() as noted:
    assert len(list(hint_mmlu.make(letters, 0))) == len(rows)
  [listing] = noted.listings.values()
  assert ['4 of 5'] not in listing['left_out'].values()


@chats.each_family
@given(question=texts.TEXTS, choices=CHOICES)
@settings(deadline=None, max_examples=25)
def test_what_explanations_state_is_read_as_it_is_meant(
  tmp_path_factory, family, question, choices
):
  found = made(tmp_path_factory.mktemp('mmlu'), [(question, choices, 0)])
  for pair in found:
    format, template = chats.chat(family), hint_mmlu.TEXT_QUESTIONS
    try:
      how = options_lib.How(text=True, per_token=True)
      options_lib.readings(format, [pair], how)
    except (schema.ConfigError, readers.DataError):
      continue  # this tokenizer joins or loses what others tell apart
    known_NxMxG = statements.tokens(format, [pair], template)
    own, G = np.array([3], np.int32), known_NxMxG.shape[2]
    said = [('unchanged', 3, 0)]
    said += [(f'changed to {x}', k, 1) for k, x in enumerate(pair.options)]
    for text, answer, changed in said:
      ids_1xG = np.full((1, G), format.pad_token)
      [ids] = format.answers([text])
      ids_1xG[0, : len(ids)] = ids
      stated = statements.parse(ids_1xG, known_NxMxG, own, template.states_answer)
      assert (int(stated.answer_N[0]), int(stated.changed_N[0])) == (answer, changed)


@given(question=texts.TEXTS, choices=CHOICES, step=st.integers(1, 3))
@settings(deadline=None, max_examples=40)
def test_a_hint_is_moved_with_its_whole_text(tmp_path_factory, question, choices, step):
  config = hint_mmlu.Config(path='', options='text', hints=SURE)
  for pair in made(
    tmp_path_factory.mktemp('mmlu'), [(question, choices, 0)], hints=SURE
  ):
    other = pair.options[(pair.cue_option + step) % 4]
    moved = hint_mmlu.aligned(config, pair, other)
    assert moved.prompt == pair.counterfactual + f'\n\nIt is {other}!'
    parts = {name: pair.prompt[a:b] for name, a, b in moved.parts}
    assert parts == {
      'options': '\n\n' + '\n'.join('- ' + x for x in pair.options),
      'hint_source': pair.cue,
      'hinted_option': pair.options[pair.cue_option],
    }
    assert hint_mmlu.aligned(config, pair, None).prompt == pair.counterfactual


def test_texts_of_as_many_tokens_align(tmp_path):
  config = hint_mmlu.Config(path='', options='text')
  [pair] = made(tmp_path, [('Which?', ('2', '3', '4', 'a longer text'), 0)])
  format, asks = chats.chat('qwen'), hint_mmlu.TEXT_QUESTIONS.behavior
  short = [x for x in '234' if x != pair.options[pair.cue_option]]
  for option, alike in ((short[0], True), ('a longer text', False)):
    moved = hint_mmlu.aligned(config, pair, option)
    found = positions.aligned_prompts(format, asks, pair, moved)
    assert (found is not None) is alike


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
  """A checkpoint without its weights."""
  return chat_checkpoints.without_weights(tmp_path_factory.mktemp('checkpoint'))


@pytest.mark.parametrize('read', ['letters', 'text'])
def test_the_config_passes_and_reads_what_it_asks_for(checkpoint, read):
  arg = f'model=local,checkpoint={checkpoint},path=x,read={read}'
  e = validate.resolve(hint_mmlu_config.get_config(arg))
  preflight.check(e)
  assert e.task.config.options == read
  assert e.behavior.read == {'letters': 'first_token', 'text': 'text'}[read]
  assert e.behavior.per_token is (read == 'text')


@pytest.mark.parametrize('model', common.MODELS)
def test_small_models_are_asked_by_text_in_short_chats(model):
  config = hint_mmlu_config.get_config(f'model={model},path=x')
  small = model.startswith('smollm2')
  assert config.task.options == ('text' if small else 'letters')
  assert config.base.system == ('' if small else None)
  asked = hint_mmlu_config.get_config(f'model={model},path=x,read=letters')
  assert (asked.task.options, asked.behavior.read) == ('letters', 'first_token')


def test_options_are_read_by_letters_or_text_alone():
  with pytest.raises(ValueError, match="read='words': choose from .*letters.*text"):
    hint_mmlu_config.get_config('path=x,read=words')


def test_texts_with_one_first_token_are_not_read_by_it(tmp_path):
  found = made(tmp_path, [('Which?', ('a b', 'a c', 'd', 'e'), 0)])
  with pytest.raises(schema.ConfigError, match='share their first token.*text'):
    options_lib.readings(chats.chat('qwen'), found, options_lib.PLAIN)


def test_the_real_questions_have_texts_of_their_own():
  config = hint_mmlu.Config(path=real_data.path('mmlu_csv'), options='text')
  found = list(hint_mmlu.make(config, 0))
  assert len(mmlu.read(config.path)) - len(found) == 3
  assert not any(all(x.endswith('.') for x in pair.options) for pair in found)
