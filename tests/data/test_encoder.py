"""No text spells a control token, in any kind of vocabulary; the rest stays itself."""

import os
import subprocess
import sys

from hypothesis import given, settings, strategies as st
import pytest
import tokenizers
from tokenizers import models
import transformers

from data import encoder
from tests import chat_tokenizers

FAMILIES = tuple(chat_tokenizers.FAMILIES)
ENCODERS = {
  family: encoder.Encoder(chat_tokenizers.load(family)) for family in FAMILIES
}
CONTROL = {
  'qwen': {
    '<|endoftext|>',
    '<|im_start|>',
    '<|im_end|>',
    '<tool_call>',
    '<tool_response>',
    '</tool_response>',
    '<think>',
    '</think>',
  },
  'llama': {
    '<|begin_of_text|>',
    '<|end_of_text|>',
    '<|eot_id|>',
    '<|start_header_id|>',
    '<|end_header_id|>',
  },
  'mistral': {'<unk>', '<s>', '</s>', '[INST]', '[/INST]', '[TOOL_CALLS]'},
  'gemma': {'<pad>', '<eos>', '<bos>', '<unk>', '<start_of_turn>', '<end_of_turn>'},
}
SPELLED = {
  'words': models.WordLevel({'<x>': 0, 'a': 1, '[UNK]': 2}, unk_token='[UNK]'),
  'pieces': models.WordPiece({'<x>': 0, 'a': 1, '[UNK]': 2}, unk_token='[UNK]'),
  'merged': models.BPE(
    {'<': 1, 'x': 2, '>': 3, '<x': 4, '<x>': 0, 'a': 5}, [('<', 'x'), ('<x', '>')]
  ),
  'unigram': models.Unigram(
    [('<x>', 0.0), ('<', -1.0), ('x', -1.0), ('>', -1.0), ('a', -1.0)], unk_id=0
  ),
}

any_text = st.text(st.characters(exclude_categories=['Cs']), max_size=30)


@pytest.mark.parametrize('family', FAMILIES)
def test_control_tokens_are_the_added_tokens_that_are_no_text(family):
  tokenizer = chat_tokenizers.load(family)
  assert ENCODERS[family].control == {
    name: tokenizer.convert_tokens_to_ids(name) for name in CONTROL[family]
  }


@pytest.mark.parametrize('family', FAMILIES)
@given(text=any_text, data=st.data())
@settings(deadline=None)
def test_marked_text_gets_the_tokenizers_own_ids(family, text, data):
  names = st.sampled_from(sorted(CONTROL[family]))
  text = data.draw(names) + text + data.draw(names) + data.draw(any_text)
  marked = ENCODERS[family].mark(text)
  theirs = chat_tokenizers.load(family).encode(text, add_special_tokens=False)
  assert ENCODERS[family].encode([marked]) == [theirs]
  controls = [token for token in theirs if token in ENCODERS[family].control.values()]
  assert [token for _, _, token in ENCODERS[family].marks(marked)] == controls


@pytest.mark.parametrize('family', FAMILIES)
@given(text=any_text.filter(lambda text: not set('<[') & set(text)))
@settings(deadline=None)
def test_text_is_left_as_it_is(family, text):
  assert ENCODERS[family].mark(text) == text
  theirs = chat_tokenizers.load(family).encode(text, add_special_tokens=False)
  assert ENCODERS[family].encode([text]) == [theirs]


def spelling(model: models.Model) -> transformers.PreTrainedTokenizerFast:
  """A tokenizer whose model itself makes the control token <x> of the text '<x>'."""
  backend = tokenizers.Tokenizer(model)
  assert backend.encode('<x>').ids == [0]
  backend.add_special_tokens(['<x>'])
  return transformers.PreTrainedTokenizerFast(tokenizer_object=backend)


@pytest.mark.parametrize('kind', SPELLED)
def test_no_model_spells_a_control_token(kind):
  [ids] = encoder.Encoder(spelling(SPELLED[kind])).encode(['<x>'])
  assert 0 not in ids
  assert ids == {'merged': [4, 3], 'unigram': [1, 2, 3]}.get(kind, [2])


@pytest.mark.parametrize('kind', SPELLED)
def test_a_marked_control_token_is_itself_in_every_model(kind):
  reader = encoder.Encoder(spelling(SPELLED[kind]))
  assert reader.encode([reader.mark('a<x>a')]) == [
    [token, 0, token] for token in reader.encode(['a'])[0]
  ]


@pytest.mark.parametrize('flag', ['lstrip', 'rstrip', 'normalized', 'single_word'])
@given(before=any_text, after=any_text | any_text.map('\u0302'.__add__))
@settings(deadline=None)
def test_text_beside_a_control_token_cannot_break_it(flag, before, after):
  reader = FLAGGED[flag]
  [ids] = reader.encode([before + reader.mark('<c>') + after])
  assert ids.count(reader.control['<c>']) == 1


def flagged(flag: str) -> encoder.Encoder:
  tokenizer = chat_tokenizers.qwen()
  tokenizer.add_tokens([tokenizers.AddedToken('<c>', **{flag: True})])
  return encoder.Encoder(tokenizer)


FLAGGED = {f: flagged(f) for f in ('lstrip', 'rstrip', 'normalized', 'single_word')}


def test_of_control_tokens_that_begin_alike_the_longest_is_meant():
  tokenizer = chat_tokenizers.qwen()
  tokenizer.add_tokens(['<a', '<a>', '<a>>'])
  reader = encoder.Encoder(tokenizer)
  for name in ('<a', '<a>', '<a>>'):
    assert reader.encode([reader.mark(name)]) == [[reader.control[name]]]


def test_an_unknown_token_may_be_a_control_token():
  model = models.WordLevel({'[UNK]': 0, 'a': 1}, unk_token='[UNK]')
  backend = tokenizers.Tokenizer(model)
  backend.add_special_tokens(['[UNK]'])
  reader = encoder.Encoder(
    transformers.PreTrainedTokenizerFast(tokenizer_object=backend, unk_token='[UNK]')
  )
  assert reader.encode(['a', 'b', '[UNK]']) == [[1], [0], [0]]


def test_added_words_and_line_breaks_stay_text():
  tokenizer = chat_tokenizers.FAMILIES['gemma']()
  tokenizer.add_tokens(['florbic'])
  ids = encoder.Encoder(tokenizer).encode(['florbic\n\n'])
  assert ids == [tokenizer.convert_tokens_to_ids(['florbic', '\n\n'])]


def test_a_tokenizer_that_cuts_and_fills_does_neither():
  tokenizer = chat_tokenizers.FAMILIES['llama']()
  tokenizer.backend_tokenizer.enable_truncation(2)
  tokenizer.backend_tokenizer.enable_padding(length=50)
  text = chat_tokenizers.LINES[0]
  [ids] = encoder.Encoder(tokenizer).encode([text])
  assert ids == ENCODERS['llama'].encode([text])[0]
  assert tokenizer.decode(ids) == text


def test_names_of_control_tokens_are_new_each_time():
  tokenizer = chat_tokenizers.load('qwen')
  names = {encoder.Encoder(tokenizer).mark('<think>') for _ in range(3)}
  assert len(names) == 3


def test_text_that_cannot_be_read_names_the_tokenizer():
  model = models.WordLevel({'a': 0})
  tokenizer = transformers.PreTrainedTokenizerFast(
    tokenizer_object=tokenizers.Tokenizer(model), name_or_path='some/model'
  )
  with pytest.raises(ValueError, match="'some/model' cannot read 'b'.*another"):
    encoder.Encoder(tokenizer).encode(['a', 'b'])


@pytest.mark.parametrize('module', ['data.tokens', 'coupling.checkpoints.hf_config'])
def test_nothing_is_said_of_pytorch_that_is_not_there(module):
  code = f"import sys; sys.modules['torch'] = None; import {module}"
  unset = {k: x for k, x in os.environ.items() if k != 'TRANSFORMERS_VERBOSITY'}
  out = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, env=unset
  )
  assert (out.returncode, out.stderr) == (0, '')
