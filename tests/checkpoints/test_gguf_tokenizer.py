"""Tokenizers and chat templates of GGUF files."""

import unicodedata

import pytest
import transformers

from coupling.checkpoints import gguf_checkpoint, gguf_file, gguf_tokenizer, hub
from data import encoder, formats, tokens as tokens_lib
from tests import chat_tokenizers, gguf_models, unusual_texts

TEXTS = unusual_texts.make(1000)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> None:
  monkeypatch.setenv(gguf_checkpoint.CACHE, str(tmp_path / 'converted'))


def converted(name: str, tmp_path, **change) -> transformers.PreTrainedTokenizerFast:
  """A family's tokenizer, by way of a GGUF file."""
  family = next(k for k, v in gguf_models.FAMILIES.items() if v[1] == name)
  change = {f'tokenizer.ggml.{k}': v for k, v in change.items()}
  gguf_models.save(tmp_path / 'a.gguf', family, **change)
  return tokens_lib.load_tokenizer(hub.find(str(tmp_path / 'a.gguf')))


def spelled(tokenizer, texts) -> list[list[int]]:
  return tokenizer(list(texts), add_special_tokens=False).input_ids


@pytest.mark.parametrize('name', chat_tokenizers.BYTE_LEVEL)
def test_byte_level_tokens_equal_those_of_the_tokenizer(name, tmp_path):
  found, want = converted(name, tmp_path), chat_tokenizers.load(name)
  assert spelled(found, TEXTS) == spelled(want, TEXTS)
  assert found(TEXTS).input_ids == want(TEXTS).input_ids  # with the start token
  assert found.special_tokens_map.items() >= want.special_tokens_map.items()
  assert found.chat_template == want.chat_template
  assert encoder.Encoder(found).control == encoder.Encoder(want).control


@pytest.mark.parametrize('name', ['qwen', 'mistral', 'gemma'])
def test_tokens_equal_those_of_transformers_reading_of_the_file(name, tmp_path):
  """Which composes no characters as Qwen's own tokenizer does."""
  found = converted(name, tmp_path)
  want = transformers.AutoTokenizer.from_pretrained(tmp_path, gguf_file='a.gguf')
  texts = [unicodedata.normalize('NFC', x) if name == 'qwen' else x for x in TEXTS]
  assert spelled(found, texts) == spelled(want, texts)
  assert len(found) == len(gguf_models.tokens(name)[0])


def _sentence_pieces(text: str, names: list[str]) -> list[int]:
  """SentencePiece's merging, as in llama.cpp: always the pair of the best score."""
  vocabulary = {name: i for i, name in enumerate(names)}
  pieces = list('▁' + text.replace(' ', '▁'))
  while True:
    pairs = [
      (vocabulary[a + b], i)
      for i, (a, b) in enumerate(zip(pieces, pieces[1:]))
      if a + b in vocabulary
    ]
    if not pairs:
      break
    _, i = min(pairs)  # scores fall with ids
    pieces[i : i + 2] = [pieces[i] + pieces[i + 1]]
  ids = []
  for piece in pieces:
    raw = [f'<0x{byte:02X}>' for byte in piece.encode()]
    ids += [vocabulary[x] for x in ([piece] if piece in vocabulary else raw)]
  return ids


def test_tokens_of_sentence_pieces_are_merged_by_their_scores(tmp_path):
  found = converted('mistral', tmp_path)
  names, _ = gguf_models.tokens('mistral')
  control = encoder.Encoder(found).control
  texts = [x for x in TEXTS if x[0] not in ' ▁' and not any(t in x for t in control)]
  assert len(texts) > 700
  assert spelled(found, texts) == [_sentence_pieces(x, names) for x in texts]


@pytest.mark.parametrize('name', chat_tokenizers.FAMILIES)
def test_chats_are_put_as_by_the_tokenizer_itself(name, tmp_path):
  found = converted(name, tmp_path)
  chat = formats.Chat(found)
  turns = [{'role': 'user', 'content': 'What is 12 + 7?'}]
  want = found.apply_chat_template(
    turns, add_generation_prompt=True, return_dict=False, enable_thinking=False
  )
  assert chat.prompts(['What is 12 + 7?']) == [want]


def test_ends_of_replies_are_those_that_llama_cpp_knows(tmp_path):
  gguf_models.save(tmp_path / 'a.gguf', 'gemma3')
  file = gguf_file.GGUF(tmp_path / 'a.gguf')
  names, _ = gguf_models.tokens('gemma')
  ends = ['<eos>', '<end_of_turn>']
  assert gguf_tokenizer.end_ids(file) == [names.index(x) for x in ends]


def test_a_file_without_a_chat_template_is_for_the_plain_format(tmp_path):
  model = gguf_models.make('qwen3')
  values = gguf_models.content(model, 'qwen')
  del values['tokenizer.chat_template']
  gguf_models.write(tmp_path / 'a.gguf', values, gguf_models.tensors(model))
  tokenizer = tokens_lib.load_tokenizer(hub.find(str(tmp_path / 'a.gguf')))
  assert formats.Plain(tokenizer).prompts(['x'])
  with pytest.raises(ValueError, match='chat template.*use the plain format'):
    formats.Chat(tokenizer)
