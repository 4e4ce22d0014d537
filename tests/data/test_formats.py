"""Formats against transformers' own chats, and plain words against their ids."""

import json

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from data import formats, readers, tokens
from tests import chat_tokenizers, chats

WORDS = ('red', 'green', 'Blue.', 'ask')


@chats.each_family
@given(turns=chats.conversations)
@settings(deadline=None)
def test_ordinary_text_gets_the_ids_that_transformers_gives(family, turns):
  assert chats.chat(family).prompts([turns]) == [chats.theirs(family, turns)]


@chats.each_family
@given(text=chats.ordinary_text)
@settings(deadline=None)
def test_a_text_is_a_conversation_of_one_turn(family, text):
  padded = f' \n{text}\t '
  assert chats.chat(family).prompts([padded]) == chats.chat(family).prompts([(text,)])


@chats.each_family
@given(question=chats.ordinary_text, answer=chats.ordinary_text)
@settings(deadline=None)
def test_prompt_and_answer_are_the_finished_conversation(family, question, answer):
  [prompt] = chats.chat(family).prompts([question])
  [row] = chats.chat(family).answers([answer])
  whole = chats.theirs(family, [question, answer], generation=False)
  length = len(prompt) + len(row)
  assert whole[:length] == prompt + row
  # The end of turn is the answer's last token, and nothing but a line break follows.
  assert row[-1] == chats.chat(family).end_tokens[0]
  assert chat_tokenizers.load(family).decode(whole[length:]).strip() == ''


@pytest.mark.parametrize(
  ('family', 'model', 'own'),
  [
    ('qwen', 'qwen3', 'Qwen2Tokenizer'),
    ('llama', 'llama', 'PreTrainedTokenizerFast'),
    ('mistral', 'mistral', 'LlamaTokenizer'),
    ('gemma', 'gemma3_text', 'GemmaTokenizer'),
  ],
)
def test_the_tokenizer_class_that_a_family_names_gives_the_same(
  family, model, own, tmp_path
):
  chat_tokenizers.save(family, tmp_path)
  settings = json.loads((tmp_path / 'tokenizer_config.json').read_text())
  settings['tokenizer_class'] = own
  (tmp_path / 'tokenizer_config.json').write_text(json.dumps(settings))
  (tmp_path / 'config.json').write_text(json.dumps({'model_type': model}))
  loaded = formats.Chat(tokens.load_tokenizer(tmp_path))
  turns = [chat_tokenizers.LINES[:7], ('a <bos> b', 'yes', '[INST] <think>?')]
  assert loaded.prompts(turns) == chats.chat(family).prompts(turns)
  assert loaded.answers(turns[0]) == chats.chat(family).answers(turns[0])


@chats.each_family
def test_the_words_of_an_answer_decode_to_themselves(family):
  answers = ['B', 'My answer would be the same.', '(C), not (A)\n\nor <s> [INST] <bos>']
  assert chats.chat(family).decode(chats.chat(family).answers(answers)) == answers


@chats.each_family
def test_empty_contents_stand_as_nothing(family):
  for turns in ([''], ['a', '', 'b'], ['', 'a', '']):
    assert chats.chat(family).prompts([turns]) == [chats.theirs(family, turns)]
  [row] = chats.chat(family).answers([' '])
  [prompt] = chats.chat(family).prompts(['a'])
  whole = chats.theirs(family, ['a', ''], generation=False)
  assert whole[: len(prompt) + len(row)] == prompt + row
  assert chats.chat(family).decode([row]) == ['']


@pytest.mark.parametrize('family', ('llama', 'mistral', 'gemma'))
def test_a_prompt_starts_with_one_start_token(family):
  tokenizer = chat_tokenizers.load(family)
  for ids in chats.chat(family).prompts(['Why?', ['a', 'b', 'c'], tokenizer.bos_token]):
    assert ids[0] == tokenizer.bos_token_id
    assert ids.count(tokenizer.bos_token_id) == 1


@pytest.mark.parametrize(
  ('family', 'ends'),
  [
    ('qwen', ['<|im_end|>']),
    ('llama', ['<|eot_id|>']),
    ('mistral', ['</s>']),
    ('gemma', ['<end_of_turn>', '<eos>']),
  ],
)
def test_the_end_of_turn_comes_from_the_template(family, ends):
  tokenizer = chat_tokenizers.load(family)
  assert tokenizer.convert_ids_to_tokens(chats.chat(family).end_tokens) == ends
  assert chats.chat(family).pad_token == tokens.padding(tokenizer)


def test_thinking_is_off_unless_asked_for():
  tokenizer = chat_tokenizers.load('qwen')
  off, on = chats.chat('qwen'), chats.chat('qwen', thinking=True)
  assert tokenizer.decode(off.prompts(['a'])[0]).endswith('</think>\n\n')
  assert on.prompts(['a']) == [chats.theirs('qwen', ['a'], enable_thinking=True)]
  assert tokenizer.decode(on.prompts(['a'])[0]).endswith('assistant\n')
  # The thoughts are then the model's to write: the answer comes after none.
  assert tokenizer.decode(on.answers(['B'])[0]) == '<think>\n\n</think>\n\nB<|im_end|>'
  with pytest.raises(ValueError, match="'A' and 'B' share their first token"):
    on.option_tokens([('A', 'B')])


def test_thinking_where_there_is_none_is_an_error():
  with pytest.raises(ValueError, match='does not know of thinking.*leave thinking off'):
    formats.Chat(chat_tokenizers.load('llama'), thinking=True)


@chats.each_family
def test_option_tokens_are_the_first_tokens_of_answers(family):
  found = chats.chat(family).option_tokens([('A', 'B', 'C', 'D'), ('YTA', 'NTA')])
  assert found.dtype == np.int32
  names = chat_tokenizers.load(family).convert_ids_to_tokens(found[0].tolist())
  blank = '▁' if family == 'mistral' else ''
  assert names == [blank + letter for letter in 'ABCD']
  length = len(chats.chat(family).prompts(['a'])[0])
  for k, option in enumerate(('YTA', 'NTA')):
    whole = chats.theirs(family, ['a', option], generation=False)
    assert found[1, k] == whole[length]
  assert found[1, 2:].tolist() == [-1, -1]


def test_fingerprints_tell_formats_apart():
  def changed(**kwargs):
    tokenizer = chat_tokenizers.FAMILIES['qwen']()
    for name, value in kwargs.items():
      setattr(tokenizer, name, value)
    return tokenizer

  more = changed()
  more.add_tokens(['<more>'])
  tokenizers = [
    changed(),
    changed(chat_template=chat_tokenizers.QWEN + '{# #}'),
    changed(pad_token='<|im_end|>'),
    more,
    chat_tokenizers.FAMILIES['llama'](),
  ]
  prints = [formats.Chat(tokenizer).fingerprint for tokenizer in tokenizers]
  prints += [formats.Plain(tokenizer).fingerprint for tokenizer in tokenizers]
  prints += [formats.Chat(changed(), thinking=True).fingerprint]
  assert len(set(prints)) == len(prints)
  assert (
    formats.Chat(changed()).fingerprint == prints[0] == chats.chat('qwen').fingerprint
  )


texts = st.lists(st.lists(st.sampled_from(WORDS), min_size=1).map(' '.join), min_size=1)
WORLD = formats.Plain(tokens.word_tokenizer(WORDS, ('<pad>', '<bos>')))


@given(texts)
@settings(deadline=None)
def test_plain_words_are_a_start_token_and_the_words(rows):
  ids = [[2 + WORDS.index(word) for word in row.split()] for row in rows]
  assert WORLD.answers(rows) == ids
  assert WORLD.prompts(rows) == [[1, *row] for row in ids]
  odd = ids[: len(ids) - 1 + len(ids) % 2]
  turns = rows[: len(odd)]
  assert not turns or WORLD.prompts([turns]) == [[1, *sum(odd, [])]]
  assert WORLD.decode([[*row, 0, 2] for row in ids]) == rows


def test_plain_words_have_no_end():
  assert (WORLD.end_tokens, WORLD.pad_token) == ((), 0)
  assert formats.Plain(chat_tokenizers.load('gemma')).end_tokens == (1,)
  assert WORLD.option_tokens([('red', 'ask red'), ('green',)]).tolist() == [
    [2, 5],
    [3, -1],
  ]


@pytest.mark.parametrize('word', ['violet', '<pad>', '<bos>', '<unk>'])
def test_plain_words_that_are_none_are_refused(word):
  message = f"'red {word}'.*written for another tokenizer"
  with pytest.raises(readers.DataError, match=message):
    WORLD.prompts(['red', f'red {word}'])


def test_a_question_without_tokens_is_refused():
  with pytest.raises(readers.DataError, match='Item 1 has no tokens'):
    formats.Plain(chat_tokenizers.load('qwen')).prompts(['a', ''])


@chats.each_family
@pytest.mark.parametrize('make', [chats.chat, chats.plain])
def test_texts_that_no_tokenizer_reads_are_errors_of_the_data(family, make):
  with pytest.raises(readers.DataError, match='no valid Unicode.*Repair the file'):
    make(family).prompts(['half \ud83d'])
  with pytest.raises(readers.DataError, match='no valid Unicode'):
    make(family).answers(['half \ud83d'])
  with pytest.raises(readers.DataError, match='does not end with a question'):
    make(family).prompts([('a', 'b')])
