"""Text to tokens and back, and the errors that must name their cause."""

import json

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest
import transformers

from data import encoder, tokens
from tests import chat_tokenizers

WORDS = ('red', 'green', 'Blue.', "don't", 'x,', 'ß')
TOKENIZER = tokens.word_tokenizer(WORDS, ('<pad>', '<bos>'))
IDS = {'<pad>': 0, '<bos>': 1} | {word: i + 2 for i, word in enumerate(WORDS)}
texts = st.lists(st.lists(st.sampled_from(WORDS), min_size=1).map(' '.join), min_size=1)
rows_of_ids = st.lists(st.lists(st.integers(0, 99), max_size=6), min_size=1)


@given(texts)
@settings(deadline=None)
def test_words_become_their_ids_and_come_back(rows):
  encoded = encoder.Encoder(TOKENIZER).encode(rows)
  assert encoded == [[IDS[word] for word in row.split()] for row in rows]
  decoded = TOKENIZER.batch_decode(encoded, skip_special_tokens=True)
  assert decoded == rows


@given(rows_of_ids, st.integers(6, 9))
def test_pad_fills_on_the_right(rows, length):
  padded = tokens.pad(rows, length, -7)
  assert padded.dtype == np.int32
  assert padded.tolist() == [row + [-7] * (length - len(row)) for row in rows]


@given(rows_of_ids)
def test_pad_refuses_to_cut(rows):
  longest = max(map(len, rows))
  if longest:
    message = f'{longest} tokens exceeds the length {longest - 1}'
    with pytest.raises(ValueError, match=message):
      tokens.pad(rows, longest - 1, 0)
  assert tokens.pad(rows, longest, 0).shape == (len(rows), longest)


def answers(texts):
  return encoder.Encoder(TOKENIZER).encode(texts)


def test_options_that_share_their_first_token_are_refused():
  message = "'red green' and 'red ß' share their first token \\(2\\)"
  with pytest.raises(ValueError, match=message):
    tokens.option_tokens(answers, [('red', 'green'), ('ß', 'red green', 'red ß')])


@pytest.mark.parametrize('empty', ['', ' \n'])
def test_an_empty_option_is_refused(empty):
  with pytest.raises(ValueError, match='option is empty'):
    tokens.option_tokens(answers, [('red', empty)])


@given(rows_of_ids, st.integers(0, 7))
def test_rows_that_are_too_long_are_dropped_and_counted(rows, limit):
  length_N = np.array([len(row) for row in rows])
  fitting = [i for i, row in enumerate(rows) if len(row) <= limit]
  if fitting:
    assert tokens.fit_lengths(length_N, limit, 'drop').tolist() == fitting
  else:
    message = f'{len(rows)} of {len(rows)} items exceed the length {limit}'
    with pytest.raises(ValueError, match=message):
      tokens.fit_lengths(length_N, limit, 'drop')


def test_rows_that_are_too_long_raise():
  length_N = np.array([2, 4, 3])
  message = (
    '2 of 3 items exceed the length 2; the longest has 4 tokens '
    r"\(index 1\). Raise the length, or drop such items by the rule 'drop'"
  )
  with pytest.raises(ValueError, match=message):
    tokens.fit_lengths(length_N, 2, 'raise')
  assert tokens.fit_lengths(length_N, 4, 'raise').tolist() == [0, 1, 2]


def test_the_fingerprint_is_of_the_vocabulary():
  same = tokens.word_tokenizer(WORDS, ('<pad>', '<bos>'))
  assert tokens.fingerprint(same) == tokens.fingerprint(TOKENIZER)
  others = [
    tokens.word_tokenizer((*WORDS, 'more'), ('<pad>', '<bos>')),
    tokens.word_tokenizer(WORDS[::-1], ('<pad>', '<bos>')),
    tokens.word_tokenizer(WORDS, ('<pad>', '<s>')),
  ]
  templated = tokens.word_tokenizer(WORDS, ('<pad>', '<bos>'))
  templated.chat_template = '{{ messages }}'
  prints = {tokens.fingerprint(x) for x in (TOKENIZER, *others, templated)}
  assert len(prints) == 5


def test_the_fingerprint_does_not_depend_on_calls():
  tokenizer = chat_tokenizers.FAMILIES['qwen']()
  before = tokens.fingerprint(tokenizer)
  tokenizer(['a', 'b c'], truncation=True, max_length=3, padding='max_length')
  assert tokens.fingerprint(tokenizer) == before


@pytest.mark.parametrize('family', chat_tokenizers.FAMILIES)
def test_a_saved_tokenizer_is_loaded(family, tmp_path):
  chat_tokenizers.save(family, tmp_path)
  loaded = tokens.load_tokenizer(tmp_path)
  expected = chat_tokenizers.FAMILIES[family]()
  assert tokens.fingerprint(loaded) == tokens.fingerprint(expected)
  assert loaded.chat_template == expected.chat_template


@pytest.mark.parametrize('model', ['llama', 'qwen3', 'mistral', 'gemma3_text'])
def test_a_checkpoint_without_a_tokenizer_says_so(model, tmp_path):
  # transformers would make up an empty tokenizer for some of these.
  (tmp_path / 'config.json').write_text(json.dumps({'model_type': model}))
  with pytest.raises(ValueError, match=f'{tmp_path}.*no tokenizer.*Copy the tokenizer'):
    tokens.load_tokenizer(tmp_path)
  (tmp_path / 'checkpoint-20').mkdir()
  with pytest.raises(ValueError, match='output folder of a trainer.*checkpoint-20'):
    tokens.load_tokenizer(tmp_path)


def test_a_tokenizer_without_a_vocabulary_is_refused(tmp_path):
  transformers.Qwen2Tokenizer().save_pretrained(tmp_path)
  with pytest.raises(ValueError, match=f'{tmp_path}.*empty vocabulary'):
    tokens.load_tokenizer(tmp_path)


@pytest.mark.parametrize('source', ['./nowhere', '/nowhere/at/all', 'a/b/c', '~/no-x'])
def test_a_folder_that_is_not_there_says_so(source):
  with pytest.raises(ValueError, match=f'{source}.*there is no such folder'):
    tokens.load_tokenizer(source)


@pytest.mark.parametrize('content', ['{"version": "1.0", "truncat', '{}', ''])
def test_a_damaged_tokenizer_is_named(content, tmp_path):
  chat_tokenizers.save('qwen', tmp_path)
  (tmp_path / 'tokenizer.json').write_text(content)
  with pytest.raises(ValueError, match=f'{tmp_path}.*cannot be loaded'):
    tokens.load_tokenizer(tmp_path)


def test_code_of_a_checkpoint_is_never_run(tmp_path):
  chat_tokenizers.save('qwen', tmp_path)
  path = tmp_path / 'tokenizer_config.json'
  settings = json.loads(path.read_text())
  settings['auto_map'] = {'AutoTokenizer': ['code.Own', None]}
  settings['tokenizer_class'] = 'Own'
  path.write_text(json.dumps(settings))
  (tmp_path / 'code.py').write_text(f"open(r'{tmp_path / 'ran'}', 'w')")
  with pytest.raises(ValueError, match='need no code of their own'):
    tokens.load_tokenizer(tmp_path)
  assert not (tmp_path / 'ran').exists()


def test_a_tokenizer_without_a_fast_form_is_refused(tmp_path):
  slow = transformers.ByT5Tokenizer()
  slow.save_pretrained(tmp_path)
  (tmp_path / 'tokenizer.model').touch()
  with pytest.raises(ValueError, match='is a ByT5Tokenizer, which has no fast form'):
    tokens.load_tokenizer(tmp_path)


def test_padding_is_the_padding_token_or_else_the_end_token():
  qwen, llama = (chat_tokenizers.FAMILIES[name]() for name in ('qwen', 'llama'))
  assert tokens.padding(qwen) == qwen.convert_tokens_to_ids('<|endoftext|>')
  assert tokens.padding(llama) == llama.convert_tokens_to_ids('<|eot_id|>')
  llama.eos_token = None
  with pytest.raises(ValueError, match='neither a padding nor an end token'):
    tokens.padding(llama)


def test_a_tokenizer_that_drops_merges_at_random_is_refused(tmp_path):
  chat_tokenizers.save('qwen', tmp_path)
  file = tmp_path / 'tokenizer.json'
  state = json.loads(file.read_text())
  state['model']['dropout'] = 0.01
  file.write_text(json.dumps(state))
  with pytest.raises(ValueError, match='model.dropout=0.01'):
    tokens.load_tokenizer(tmp_path)


def test_settings_of_replies_that_are_not_heeded_are_named(tmp_path):
  assert tokens.unheeded(tmp_path) == {}
  said = {'repetition_penalty': 1.05, 'num_beams': 1, 'temperature': 0.7}
  (tmp_path / 'generation_config.json').write_text(json.dumps(said))
  assert tokens.unheeded(tmp_path) == {'repetition_penalty': 1.05}
