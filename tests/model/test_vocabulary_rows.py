"""Tokenizer and model against each other: every id has a row in the embedding."""

import pytest
import transformers

from coupling.config import schema, validate
from coupling.run import base_model, label_stage, preflight
from data import formats, pairs, readers, tokens
from tests import chat_tokenizers, chats
from tests.run import test_preflight


def with_added(
  family: str, **special
) -> tuple[transformers.PreTrainedTokenizerFast, int]:
  """A tokenizer with a word and control tokens added, and its size before."""
  tokenizer = chat_tokenizers.FAMILIES[family]()
  rows = len(tokenizer)
  tokenizer.add_special_tokens(special)
  tokenizer.add_tokens(['Zanzibar'])
  return tokenizer, rows


@chats.each_family
def test_padding_without_a_row_gives_way_and_changes_nothing_else(family):
  tokenizer, rows = with_added(family, pad_token='[PAD]')
  assert tokenizer.pad_token_id == rows
  for form, like in ((formats.Chat, chats.chat), (formats.Plain, chats.plain)):
    found, own = form(tokenizer, rows=rows), like(family)
    assert found.pad_token < rows
    assert form(tokenizer).pad_token == rows  # there are enough rows
    assert found.prompts(['Is it so?']) == own.prompts(['Is it so?'])
    assert found.answers(['A']) == own.answers(['A'])
    assert found.end_tokens == own.end_tokens
    # What stands in for padding is no end of a reply.
    row = [0, *own.answers(['A'])[0]]
    if 0 not in own.end_tokens and own.pad_token != 0:
      assert found.decode([row]) == own.decode([row])


@chats.each_family
def test_no_row_for_padding_nor_end_leaves_any_token_to_fill(family):
  tokenizer, rows = with_added(family, pad_token='[PAD]', eos_token='[EOS]')
  assert tokens.padding(tokenizer, rows) == 0
  assert tokens.padding(tokenizer, rows + 1) in (rows, rows + 1)
  with pytest.raises(ValueError, match=r'\[EOS\].* has \d+ rows'):
    formats.Plain(tokenizer, rows=rows)


@chats.each_family
def test_a_text_with_a_token_that_has_no_row_is_refused_by_name(family):
  tokenizer, rows = with_added(family)
  token = tokenizer.convert_tokens_to_ids('Zanzibar')
  assert token == rows
  for form in (formats.Chat, formats.Plain):
    found, wide = form(tokenizer, rows=rows), form(tokenizer, rows=rows + 1)
    for encode in ('prompts', 'answers'):
      getattr(found, encode)(['Is it so?'])
      texts = ['A', 'in Zanzibar']
      assert any(token in row for row in getattr(wide, encode)(texts))
      with pytest.raises(readers.DataError) as error:
        getattr(found, encode)(texts)
      for part in ("'Zanzibar'", f'id {token}', f'{rows} rows'):
        assert part in str(error.value)


@chats.each_family
def test_what_a_template_writes_has_a_row_or_nothing_is_asked(family):
  """Of every control token of prompts and answers, wherever it stands."""
  chat = chats.chat(family)
  written = {*chat.prompts(['x'])[0], *chat.answers(['x'])[0]}
  control = written & {*chats.CONTROL[family].values()}
  assert control
  for token in control:
    with pytest.raises(ValueError, match=rf'has {token} rows'):
      formats.Chat(chat_tokenizers.load(family), rows=token)
  tokenizer = chat_tokenizers.load(family)
  assert formats.Chat(tokenizer, rows=len(tokenizer)).prompts(['x'])


@chats.each_family
def test_a_plain_start_token_has_a_row(family):
  bos = chat_tokenizers.load(family).bos_token_id
  if bos is not None:
    with pytest.raises(ValueError, match='rows'):
      formats.Plain(chat_tokenizers.load(family), rows=bos)


@chats.each_family
def test_an_end_that_cannot_be_generated_is_none_where_there_is_another(family):
  tokenizer, rows = with_added(family)
  template = tokenizer.chat_template
  own = chats.chat(family).end_tokens
  tokenizer.chat_template = template.replace('eos_token', f"'{tokenizer.eos_token}'")
  tokenizer.add_special_tokens({'eos_token': '[EOS]'})
  found = formats.Chat(tokenizer, rows=rows)
  assert found.end_tokens == own[:1]
  assert len(formats.Chat(tokenizer).end_tokens) == 2


@chats.each_family
def test_an_id_that_is_no_token_shows_in_a_reply(family):
  """Embeddings often have more rows than there are tokens."""
  chat, size = chats.chat(family), len(chat_tokenizers.load(family))
  a, b = (chat.answers([text])[0][:-1] for text in ('Yes', 'no'))
  [text] = chat.decode([[*a, size + 3, size + 4, *b]])
  before, after = text.split('\ufffd\ufffd')
  assert [before.strip(), after.strip()] == chat.decode([a, b])
  assert '\ufffd' in chat.decode([[size], a])[0]
  assert chat.decode([[*a, *chat.end_tokens[:1], size]]) == chat.decode([a])


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
  """Its tokenizer has padding and a word that its embedding has not."""
  folder = tmp_path_factory.mktemp('checkpoint')
  tokenizer, rows = with_added('qwen', pad_token='[PAD]')
  tokenizer.save_pretrained(folder)
  transformers.Qwen3Config(vocab_size=rows, hidden_size=32).save_pretrained(folder)
  return folder, rows


def test_an_experiment_takes_the_rows_of_its_checkpoint(checkpoint):
  folder, rows = checkpoint
  e = validate.resolve(test_preflight.imported(folder))
  preflight.check(e)
  assert base_model.format(e).pad_token < rows == base_model.decoder(e).vocab_size
  asked = [
    pairs.Pair(f'{x}?', f'{x}', '?', 'hint', 0, ('A', 'B'), x, x)
    for x in ('Rome', 'Zanzibar')
  ]
  assert len(label_stage.fitting(e, 'train', asked[:1])) == 1
  with pytest.raises(readers.DataError, match=f"'Zanzibar'.* {rows} rows"):
    label_stage.fitting(e, 'train', asked)


def test_an_end_of_turn_without_a_row_is_refused_before_any_stage(checkpoint, tmp_path):
  folder, _ = checkpoint
  end = chats.chat('qwen').end_tokens[0]
  chat_tokenizers.save('qwen', tmp_path)
  raw = transformers.Qwen3Config.from_pretrained(folder)
  raw.vocab_size = end
  raw.save_pretrained(tmp_path)
  with pytest.raises(schema.ConfigError, match=rf'im_.*id \d+.* {end} rows'):
    preflight.check(validate.resolve(test_preflight.imported(tmp_path)))
