"""Templates that open thoughts: closed before an answer, or left to the model."""

import re

import pytest

from data import formats
from tests import chat_tokenizers

HEAD = """\
{%- for m in messages %}{%- if m.role == 'user' %}
  {{- '<|im_start|>user\\n' + m.content + '<|im_end|>\\n<|im_start|>assistant' }}
{%- else %}{{- FINISHED + m.content + '<|im_end|>\\n' }}{%- endif %}{%- endfor %}
{%- if add_generation_prompt %}{{- ASKED }}{%- endif %}"""
HARMONY = "'<|channel|>final<|message|>'"
EMPTY = '<think>\n\n</think>\n\n'
# The end of a generation prompt; what a finished turn has there; what is asked.
OPEN = {
  'dropped': (r"'\n<think>\n'", r"'\n'", '\n' + EMPTY),
  'kept': (r"'\n<think>\n'", r"'\n<think>\n\n</think>\n\n'", '\n' + EMPTY),
  'never_closed': (r"'\n<think>\n'", r"'\n<think>\n'", '\n' + EMPTY),
  'one_line': ("'<think>'", "''", '<think></think>'),
  'begun': (r"'\n<think>\nOkay,'", r"'\n'", '\n<think>\nOkay,\n</think>\n\n'),
  'reasoning': (r"'<reasoning>\n'", "''", '<reasoning>\n\n</reasoning>\n\n'),
  'brackets': ("'[THINK]'", "''", '[THINK][/THINK]'),
  'other_name': ("'<seed:think>'", "''", '<seed:think></seed:think>'),
  'plan': (r"'<plan>\n'", "''", '<plan>\n\n</plan>\n\n'),
  'harmony': ("''", HARMONY, '<|channel|>final<|message|>'),
}


def tokenizer(asked, finished, head=HEAD):
  made = chat_tokenizers.qwen()
  made.add_tokens(['[THINK]', '[/THINK]', '<|channel|>', '<|message|>'])
  made.chat_template = head.replace('ASKED', asked).replace('FINISHED', finished)
  return made


def decoded(format, ids):
  return format.tokenizer.decode(ids)


@pytest.mark.parametrize('case', OPEN)
def test_a_block_that_is_open_is_closed_before_an_answer(case):
  asked, finished, want = OPEN[case]
  format = formats.Chat(tokenizer(asked, finished))
  [prompt], [row] = format.prompts(['Why?']), format.answers(['B'])
  start = '<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant'
  assert decoded(format, prompt) == start + want
  assert decoded(format, row) == 'B<|im_end|>'
  assert format.option_tokens([('A', 'B')]).tolist() == [
    format.tokenizer.convert_tokens_to_ids(['A', 'B'])
  ]
  # One text, as transformers reads it.
  text = start + want + 'B<|im_end|>'
  theirs = format.tokenizer(text, add_special_tokens=False)['input_ids']
  assert prompt + row == theirs
  places = format.offsets('Why?')
  assert [places[i] for i in (-1, -2)] == [(0, 0)] * 2 and len(places) == len(prompt)


@pytest.mark.parametrize('case', ['kept', 'harmony'])
def test_what_a_finished_turn_shows_is_what_is_asked(case):
  format = formats.Chat(tokenizer(*OPEN[case][:2]))
  whole = format.tokenizer.apply_chat_template(
    [{'role': 'user', 'content': 'Why?'}, {'role': 'assistant', 'content': 'B'}]
  )['input_ids']
  own = format.prompts(['Why?'])[0] + format.answers(['B'])[0]
  assert whole[: len(own)] == own


@pytest.mark.parametrize(
  ('asked', 'finished', 'message'),
  [
    ("'<|begin_of_thought|>'", "''", "'<|begin_of_thought|>'.*close the block"),
    ("'<|START_THINKING|>'", "''", 'close the block'),
    ("'◁think▷'", "''", 'close the block'),
    ("'<|channel|>analysis<|message|>'", HARMONY, 'analysis.*final'),
    (r"'\nSure: '", r"'\n'", "'.*Sure: ', while a finished turn"),
    ("'[ANSWER]'", "''", "ANSWER.', while a finished turn"),
    ("'<role>'", "''", "<role>', while a finished turn"),
    (r"'\nSure: '", r"'\nWell: '", "Sure: ', while a finished turn has '.*Well: '"),
    (r"'\n\n'", r"'\n'", r"around 2 turns is .*'ĊĊ'.* but .*'Ċ'"),
  ],
)
def test_a_prompt_that_leads_elsewhere_is_refused(asked, finished, message):
  with pytest.raises(ValueError, match=re.sub(r'(?<!\.)\|', r'\\|', message)) as error:
    formats.Chat(tokenizer(asked, finished))
  assert '\n' not in str(error.value)


@pytest.mark.parametrize('case', ['dropped', 'kept', 'never_closed'])
def test_with_thinking_an_open_block_is_the_models_to_close(case):
  format = formats.Chat(tokenizer(*OPEN[case][:2]), thinking=True)
  [prompt], [row] = format.prompts(['Why?']), format.answers(['B'])
  assert decoded(format, prompt).endswith('<|im_start|>assistant\n<think>\n')
  assert decoded(format, row) == '</think>\n\nB<|im_end|>'
  replies = ['It may be A.\n</think>\n\nB<|im_end|>', '</think>B', 'It may be A']
  rows = format.tokenizer(replies, add_special_tokens=False)['input_ids']
  assert format.decode(rows) == ['B', 'B', '']


# What a finished turn has before its answer; a reply that thinks, without its end.
CLOSED = {
  'lines': (r"'\n<think>\n\n</think>\n\n'", '\n<think>\nIt may be A.\n</think>\n\nB'),
  'glm': (r"'\n<think></think>\n'", '\n<think>It may be A.</think>\nB'),
  'one_line': ("'<think></think>'", '<think>It may be A.</think>B'),
  'brackets': ("'[THINK][/THINK]'", '[THINK]It may be A.[/THINK]B'),
  'hunyuan': (
    r"'<think>\n\n</think>\n<answer>\n'",
    '<think>\nIt may be A.\n</think>\n<answer>\nB',
  ),
  'harmony': (
    HARMONY,
    '<|channel|>analysis<|message|>It may be A.<|channel|>final<|message|>B',
  ),
  'never_closed': (r"'<think>\n'", '<think>\nIt may be A.\n</think>\n\nB'),
}


@pytest.mark.parametrize('case', CLOSED)
def test_the_answer_of_a_reply_with_thoughts_is_what_follows_them(case):
  finished, reply = CLOSED[case]
  format = formats.Chat(tokenizer("''", finished), thinking=True)
  rows = format.tokenizer([reply, 'It may be B'], add_special_tokens=False)['input_ids']
  assert format.decode([row + [*format.end_tokens] for row in rows]) == ['B', '']
  assert format.decode(format.answers(['B'])) == ['B']


def test_an_end_token_that_closes_thoughts_is_refused():
  made = tokenizer("''", CLOSED['glm'][0])
  made.eos_token = '</think>'
  with pytest.raises(ValueError, match="'</think>' no end token") as error:
    formats.Chat(made, thinking=True)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize(
  'block',
  [
    '<|START_THINKING|><|END_THINKING|>',  # Command A
    '<|channel>thought\\n<channel|>',  # Gemma 4
    '<|inner_prefix|><|inner_suffix|>',  # Apertus
    '<|begin_of_thought|><|end_of_thought|>',
    '◁think▷◁/think▷',
    '<think></think>',
  ],
)
def test_thoughts_that_the_prompt_closes_itself_are_left_as_they_are(block):
  format = formats.Chat(tokenizer(f"'{block}'", "''"))
  prompt = decoded(format, format.prompts(['Why?'])[0])
  assert prompt.endswith('<|im_start|>assistant' + block.replace('\\n', '\n'))
  assert decoded(format, format.answers(['B'])[0]) == 'B<|im_end|>'


def test_thoughts_that_only_the_switch_shows_are_found():
  # A finished turn has none; without thinking the prompt has an empty block.
  head = HEAD.replace('ASKED', "'\\n' + ('' if enable_thinking else BLOCK)")
  block = r"'<think>\n\n</think>\n'"
  made = tokenizer('', r"'\n'", head.replace('BLOCK', block))
  off, on = formats.Chat(made), formats.Chat(made, thinking=True)
  assert decoded(off, off.prompts(['x'])[0]).endswith('\n<think>\n\n</think>\n')
  assert decoded(off, off.answers(['B'])[0]) == 'B<|im_end|>'
  assert decoded(on, on.prompts(['x'])[0]).endswith('<|im_start|>assistant\n')
  assert decoded(on, on.answers(['B'])[0]) == '<think>\n\n</think>\nB<|im_end|>'


@pytest.mark.parametrize('name', ['enable_thinking', 'thinking', 'reasoning'])
def test_the_switch_has_several_names(name):
  asked = rf"('\n<think>\n' if {name} else '\n<think>\n\n</think>\n\n')"
  made = tokenizer(asked, r"'\n'")
  prompts = [formats.Chat(made, x).prompts(['a'])[0] for x in (False, True)]
  for prompt, thinking in zip(prompts, (False, True)):
    assert (
      prompt
      == made.apply_chat_template(
        [{'role': 'user', 'content': 'a'}],
        add_generation_prompt=True,
        **{name: thinking},
      )['input_ids']
    )
  assert prompts[0] != prompts[1]


@pytest.mark.parametrize('asked', [r"'\n'", r"'\n<think>\n\n</think>\n\n'"])
def test_a_template_that_never_thinks_is_told(asked):
  with pytest.raises(ValueError, match='does not know of thinking.*leave thinking off'):
    formats.Chat(tokenizer(asked, r"'\n'"), thinking=True)


def test_thoughts_named_in_the_users_turn_are_no_open_block():
  end = "'<|im_end|>\\n<|im_start|>assistant'"
  head = HEAD.replace(end, end.replace("'", "'\\nOpen <think> first.", 1))
  assert head != HEAD
  [prompt] = formats.Chat(tokenizer("'\n'", "'\n'", head)).prompts(['a'])
  text = chat_tokenizers.qwen().decode(prompt)
  assert text.endswith('Open <think> first.<|im_end|>\n<|im_start|>assistant\n')


def test_an_unknown_switch_of_thoughts_is_refused_by_name():
  asked = "'\n' ~ ('<think>\n\n</think>' if thinking_budget == 0 else '')"
  with pytest.raises(ValueError, match='thinking_budget'):
    formats.Chat(tokenizer(asked, "'\n'"))
