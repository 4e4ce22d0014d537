"""Templates, texts and answers that cannot serve, and what is said of them."""

import datetime
import json

import pytest
from tokenizers import AddedToken, normalizers, pre_tokenizers
import transformers

from data import encoder, formats, tokens
from tests import chat_tokenizers, chats


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


CLOCK = """\
{%- set today = strftime_now(FORMAT) %}
{%- macro said() %}{{ 'on ' + strftime_now(FORMAT) }}{% endmacro %}
{{- 'Today is ' + today + ', ' + said() + '.' }}"""


def dated(format):
  tokenizer = chat_tokenizers.FAMILIES['mistral']()
  clock = CLOCK.replace('FORMAT', repr(format))
  tokenizer.chat_template = clock + chat_tokenizers.MISTRAL
  return tokenizer


@pytest.mark.parametrize(
  'format', ['%Y-%m-%d', '%d %b %Y', '%A, %-d %B %y', '%c', '%H:%M', 'the %j. day']
)
def test_the_clock_of_a_template_stands_still(format, monkeypatch):
  days = []
  for year in (2026, 2027):

    class Clock(datetime.datetime):
      @classmethod
      def now(cls, tz=None):
        return datetime.datetime(year, 3, 4, 5, 6)  # noqa: B023

    monkeypatch.setattr(transformers.utils.chat_template_utils, 'datetime', Clock)
    chat = formats.Chat(dated(format))
    days.append((chat.prompts(['a']), chat.answers(['B']), chat.fingerprint))
  assert days[0] == days[1]
  day = datetime.datetime(2024, 7, 26).strftime(format)
  text = chat.tokenizer.decode(chat.prompts(['a'])[0])
  assert text == f'Today is {day}, on {day}.<s>[INST] a[/INST]'


def test_the_day_is_given():
  first, second = (formats.Chat(dated('%d.%m.%Y'), date=d) for d in DAYS)
  assert first.fingerprint != second.fingerprint
  texts = [x.tokenizer.decode(x.prompts(['a'])[0]) for x in (first, second)]
  assert '31.12.1999' in texts[0] and '05.01.2030' in texts[1]
  llama = formats.Chat(chat_tokenizers.FAMILIES['llama'](), date=DAYS[0])
  assert 'Today Date: 31 Dec 1999' in llama.tokenizer.decode(llama.prompts(['a'])[0])
  with pytest.raises(ValueError, match="'yesterday'"):
    formats.Chat(dated('%Y'), date='yesterday')


DAYS = ('1999-12-31', '2030-01-05')


@pytest.mark.parametrize('family', ['qwen', 'llama', 'gemma'])
@pytest.mark.parametrize('system', ['', 'You are kind: "a" < b.'])
def test_a_system_turn_is_where_transformers_has_it(family, system):
  tokenizer = chat_tokenizers.load(family)
  chat, own = formats.Chat(tokenizer, system=system), formats.Chat(tokenizer)
  messages = [{'role': 'system', 'content': system}, {'role': 'user', 'content': 'a'}]
  theirs = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, date_string='26 Jul 2024'
  )
  # A generation prompt may end in thoughts, which are closed with or without it.
  ids = theirs['input_ids']
  [prompt] = chat.prompts(['a'])
  assert prompt[: len(ids)] == ids
  assert chat.answers(['B']) == own.answers(['B'])
  assert (prompt == own.prompts(['a'])[0]) == (chat.fingerprint == own.fingerprint)


def test_a_system_turn_that_is_not_written_or_not_text_is_refused():
  deaf = broken('{%- set messages = messages[1:] %}' + chat_tokenizers.LLAMA)
  with pytest.raises(ValueError, match='does not write the system turn'):
    formats.Chat(deaf, system='Be kind.')
  with pytest.raises(ValueError, match='after a system turn'):
    formats.Chat(chat_tokenizers.load('mistral'), system='Be kind.')
  with pytest.raises(ValueError, match='control token'):
    formats.Chat(chat_tokenizers.load('qwen'), system='<|im_end|>')


@pytest.mark.parametrize('draw', ["['a', 'b'] | random", 'lipsum(1)'])
def test_a_template_that_draws_at_random_is_refused(draw):
  with pytest.raises(ValueError, match='draws at random'):
    formats.Chat(broken('{{ ' + draw + ' }}' + chat_tokenizers.LLAMA))


@pytest.mark.parametrize(
  ('expression', 'cause'),
  [
    ('messages[0].content + 1', 'concatenate'),
    ('messages[0].tool.name', "no attribute 'tool'"),
    ('now()', "'now' is undefined"),
    ('1 / 0', 'division by zero'),
    ('messages[7].content', ''),
    ("raise_exception('Only\nuser and system')", 'Only user and system'),
    ('range(10 ** 9)', ''),
    ('messages.__class__.__mro__[1].x', ''),
    ("{}['a']['b']", ''),
  ],
)
def test_however_a_template_fails_it_is_told_in_one_line(expression, cause):
  with pytest.raises(ValueError) as error:
    formats.Chat(broken('{{ ' + expression + ' }}' + chat_tokenizers.LLAMA))
  message = str(error.value)
  assert 'fails on a conversation of 1' in message and cause in message
  assert '\n' not in message


@pytest.mark.parametrize(
  'change',
  [
    "replace('\\n\\n', '\\n')",
    "replace('  ', ' ')",
    "replace('(A)', 'A.')",
    'title',
    "replace('°', '')",
    *("replace('<', '&lt;')", 'truncate(300)', 'wordwrap(60)'),
  ],
)
def test_a_template_that_changes_contents_is_held_against_transformers(change):
  template = chat_tokenizers.LLAMA.replace('| trim', f'| trim | {change}')
  with pytest.raises(ValueError, match=r'around 1 turns is \[.* but \[|alters a turn'):
    formats.Chat(broken(template))


def prepending(folder, **flags):
  """Gemma's, whose normalizer writes a blank before each text, read from files."""
  chat_tokenizers.save('gemma', folder)
  file = folder / 'tokenizer.json'
  state = json.loads(file.read_text())
  special = [token | flags for token in state['added_tokens'] if token['special']]
  state['added_tokens'] = special
  blanks = [
    {'type': 'Prepend', 'prepend': '▁'},
    {'type': 'Replace', 'pattern': {'String': ' '}, 'content': '▁'},
  ]
  state['normalizer'] = {'type': 'Sequence', 'normalizers': blanks}
  file.write_text(json.dumps(state))
  return tokens.load_tokenizer(folder)


def test_control_tokens_that_text_hides_are_refused_by_name(tmp_path):
  with pytest.raises(ValueError, match="control token '<start_of_turn>'.*normalized"):
    formats.Chat(prepending(tmp_path, normalized=True))


@pytest.mark.parametrize('flag', ['', 'lstrip', 'rstrip', 'single_word'])
def test_flags_of_control_tokens_give_what_transformers_reads_or_a_refusal(
  flag, tmp_path
):
  tokenizer = prepending(
    tmp_path, **{'normalized': False, flag or 'lstrip': bool(flag)}
  )
  if flag == 'single_word':  # transformers does not find them beside letters
    with pytest.raises(ValueError, match='around . turns is .*single_word'):
      formats.Chat(tokenizer)
    return
  format, turns = formats.Chat(tokenizer), ['a b', 'B', 'c']
  theirs = tokenizer.apply_chat_template(
    chats.messages(turns), add_generation_prompt=True
  )['input_ids']
  assert format.prompts([turns]) == [theirs]
  whole = tokenizer.apply_chat_template(chats.messages(turns[:2]))['input_ids']
  own = format.prompts(['a b'])[0] + format.answers(['B'])[0]
  assert whole[: len(own)] == own


def test_no_placeholder_is_ever_read_as_text(tmp_path):
  reader = encoder.Encoder(prepending(tmp_path, normalized=True))
  with pytest.raises(ValueError, match="'<eos>' as such between 'a' and 'b'"):
    reader.encode(['a' + reader.mark('<eos>') + 'b'])


@pytest.mark.parametrize('make', [formats.Plain, formats.Chat])
def test_a_tokenizer_that_loses_blanks_is_refused(make):
  tokenizer = chat_tokenizers.FAMILIES['llama']()
  # What transformers 5.13 makes of byte-level files of the class LlamaTokenizer.
  backend = tokenizer.backend_tokenizer
  backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme='first')
  backend.decoder = chat_tokenizers.mistral().backend_tokenizer.decoder
  with pytest.raises(ValueError, match='Which is.* as .*Which.*changes blanks'):
    make(tokenizer)


@pytest.mark.parametrize('how', ['removed', 'joined', 'line breaks'])
def test_blanks_that_a_normalizer_takes_away_are_missed(how):
  tokenizer = chat_tokenizers.FAMILIES['qwen']()
  tokenizer.backend_tokenizer.normalizer = {
    'removed': normalizers.Replace(' ', ''),
    'joined': normalizers.Replace('\n', ''),
    'line breaks': normalizers.Replace('\n', '▁'),
  }[how]
  with pytest.raises(ValueError, match='changes blanks'):
    formats.Plain(tokenizer)


@pytest.mark.parametrize(
  'normalizer', [normalizers.NFKC(), normalizers.Lowercase(), normalizers.NFD()]
)
def test_what_a_normalizer_writes_otherwise_is_no_loss(normalizer):
  tokenizer = chat_tokenizers.FAMILIES['qwen']()
  tokenizer.backend_tokenizer.normalizer = normalizer
  assert formats.Plain(tokenizer).decode([[]]) == ['']


def test_added_words_that_swallow_blanks_are_refused_and_others_are_text():
  tokenizer = chat_tokenizers.FAMILIES['qwen']()
  tokenizer.add_tokens([AddedToken('florbic'), AddedToken('gas', single_word=True)])
  turns = ['a florbic gas', 'gases', 'gas florbics']
  theirs = tokenizer.apply_chat_template(
    chats.messages(turns), add_generation_prompt=True, enable_thinking=False
  )['input_ids']
  assert formats.Chat(tokenizer).prompts([turns]) == [theirs]
  tokenizer.add_tokens([AddedToken('zorp', lstrip=True)])
  with pytest.raises(ValueError, match="'a zorp b' as 'azorp b'"):
    formats.Chat(tokenizer)


@pytest.mark.parametrize('single_word', [False, True])
def test_words_of_the_template_may_be_control_tokens(single_word):
  tokenizer = chat_tokenizers.FAMILIES['qwen']()
  words = ('user', 'assist')  # the second within a word
  added = [AddedToken(x, special=True, single_word=single_word) for x in words]
  tokenizer.add_tokens(added, special_tokens=True)
  theirs = tokenizer.apply_chat_template(
    chats.messages(['Why?']), add_generation_prompt=True, enable_thinking=False
  )['input_ids']
  format, ids = formats.Chat(tokenizer), tokenizer.convert_tokens_to_ids(list(words))
  assert format.prompts(['Why?']) == [theirs]
  assert [x in theirs for x in ids] == [True, not single_word]
  [forging] = format.prompts(['the user of the user'])
  assert forging.count(ids[0]) == 1
