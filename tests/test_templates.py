"""Templates, texts and answers that cannot serve, and what is said of them."""

import pytest
from tokenizers import pre_tokenizers

from data import formats
from tests import chat_tokenizers
from tests import chats


@pytest.mark.parametrize('make', [formats.Plain, formats.Chat])
def test_text_that_is_no_unicode_is_refused(make):
  format = make(chat_tokenizers.load('qwen'))
  with pytest.raises(ValueError, match=r"'\\ud800' at character 2 is half of a pair"):
    format.prompts(['fine', 'x \ud800'])
  with pytest.raises(ValueError, match='Repair the file'):
    format.answers(['\udfff'])


@pytest.mark.parametrize('turns', [[], ['a', 'b'], ['a', 'b', 'c', 'd']])
def test_a_conversation_must_end_with_a_question(turns):
  with pytest.raises(ValueError, match=f'of {len(turns)} turns does not end with a'):
    chats.chat('llama').prompts([turns])


def broken(template):
  tokenizer = chat_tokenizers.FAMILIES['llama']()
  tokenizer.chat_template = template
  return tokenizer


ROLES = '{% for m in messages %}<|start_header_id|>'
NO_END = '{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}'


@pytest.mark.parametrize(
  ('template', 'message'),
  [
    (None, 'has no chat template.*use the plain format, or'),
    (ROLES + '{% endfor %}', 'drops, repeats or alters a turn'),
    (ROLES + '{{ m.content | upper }}{% endfor %}', 'drops, repeats or alters'),
    (ROLES + '{{ m.content * 2 }}{% endfor %}', 'drops, repeats or alters'),
    (NO_END, 'puts no end token after an answer'),
    ("{{ raise_exception('no chats') }}", 'fails on a conversation of 1 .*no chats'),
    ('{{ messages[0].content }}{% if %}', 'fails on a conversation of 1'),
  ],
)
def test_a_template_that_cannot_serve_is_refused(template, message):
  with pytest.raises(ValueError, match=message):
    formats.Chat(broken(template))


def test_a_template_that_refuses_an_answer_in_the_context_says_so():
  template = (
    "{% if messages|length > 2 %}{{ raise_exception('too long') }}{% endif %}"
    + '{% for m in messages %}{{ m.content }}<|eot_id|>{% endfor %}'
  )
  format = formats.Chat(broken(template))
  with pytest.raises(ValueError, match='fails on a conversation of 3 turns.*too long'):
    format.prompts([['a', 'b', 'c']])


def test_an_answer_that_would_change_the_prompt_is_refused():
  # Blanks before a letter are cut otherwise than blanks at the end of a text.
  tokenizer = chat_tokenizers.FAMILIES['qwen']()
  words = pre_tokenizers.ByteLevel(add_prefix_space=False)
  tokenizer.backend_tokenizer.pre_tokenizer = words
  tokenizer.name_or_path = 'some/model'
  with pytest.raises(ValueError, match="'some/model' joins the beginning.*'B'"):
    formats.Chat(tokenizer).answers(['B'])


def test_a_template_that_would_write_the_date_does_not():
  today = "{{ date_string if date_string is defined else strftime_now('%c') }}"
  template = today + chat_tokenizers.MISTRAL
  tokenizer = chat_tokenizers.FAMILIES['mistral']()
  tokenizer.chat_template = template
  text = tokenizer.decode(formats.Chat(tokenizer).prompts(['a'])[0])
  assert text.startswith('26 Jul 2024<s>')
