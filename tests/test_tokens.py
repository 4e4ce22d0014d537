"""Text to tokens and back, and the errors that must name their cause."""

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from data import tokens
from data import world

WORDS = ('red', 'green', 'Blue.', "don't", 'x,', 'ß')
TOKENIZER = tokens.word_tokenizer(WORDS, ('<pad>', '<bos>'))
IDS = {'<pad>': 0, '<bos>': 1} | {word: i + 2 for i, word in enumerate(WORDS)}
texts = st.lists(st.lists(st.sampled_from(WORDS), min_size=1).map(' '.join), min_size=1)
rows_of_ids = st.lists(st.lists(st.integers(0, 99), max_size=6), min_size=1)


@given(texts, st.booleans())
@settings(deadline=None)
def test_words_become_their_ids_and_come_back(rows, start):
  encoded = tokens.encode(TOKENIZER, rows, start=start)
  prefix = [IDS['<bos>']] if start else []
  assert encoded == [prefix + [IDS[word] for word in row.split()] for row in rows]
  decoded = TOKENIZER.batch_decode(encoded, skip_special_tokens=True)
  assert decoded == rows


@given(st.lists(st.sampled_from(world.WORDS), min_size=1).map(' '.join))
@settings(deadline=None)
def test_the_language_of_the_world_round_trips(text):
  [ids] = tokens.encode(world.tokenizer(), [text], start=False)
  assert world.tokenizer().decode(ids) == text


def test_the_padding_and_start_tokens_are_where_they_are_expected():
  assert (TOKENIZER.pad_token_id, TOKENIZER.bos_token_id) == (0, 1)
  assert len(TOKENIZER) == len(WORDS) + 2
  assert len(world.tokenizer()) == len(set(world.WORDS)) + 2


def test_an_unknown_word_is_an_error_that_names_the_cause():
  with pytest.raises(ValueError, match="'red violet'.*written for another tokenizer"):
    tokens.encode(TOKENIZER, ['red violet'], start=False)


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


def test_option_tokens_are_first_tokens_padded():
  options = [('green', 'red'), ('x, red', 'ß', "don't red"), ('red',)]
  found = tokens.option_tokens(TOKENIZER, options)
  assert found.dtype == np.int32
  assert found.tolist() == [[3, 2, -1], [6, 7, 5], [2, -1, -1]]


def test_options_that_share_their_first_token_are_refused():
  with pytest.raises(ValueError, match="'red green', 'red ß'.*share their first token"):
    tokens.option_tokens(TOKENIZER, [('red', 'green'), ('red green', 'red ß')])


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
