"""Statements of texts are read as those of tokens are."""

import functools

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from coupling.elicit import statements
from coupling.elicit.explanation import INVALID
from data import formats
from data import pairs
from data import tokens as tokens_lib
from tests import chat_tokenizers

OPTIONS = (('Paris', 'Rome', 'Paris, changed'), ('A', 'B'), ('9', '10', 'no é 東'))
TEMPLATES = (
  pairs.Questions(),
  pairs.Questions(unchanged='unchanged', changed='changed to {answer}'),
  pairs.Questions(unchanged='{answer} same', changed='It would be "{answer}".'),
)


@functools.cache
def format_of(family):
  return formats.Chat(chat_tokenizers.load(family))


@st.composite
def said(draw):
  """Options, a template, and a text near one of the statements."""
  options, template = draw(st.sampled_from(OPTIONS)), draw(st.sampled_from(TEMPLATES))
  form = draw(st.sampled_from([template.unchanged, template.changed]))
  text = form.format(answer=draw(st.sampled_from(sum(OPTIONS, ()))))
  where = draw(st.integers(0, len(text)))
  more = draw(st.sampled_from(['', '', '', ' ', '\n', '.', ', changed', 'x', 'é']))
  text = text[:where] + more + text[where:]
  cut = draw(st.sampled_from([len(text), len(text), len(text) - 1, where]))
  text = draw(st.sampled_from([str, str, str.upper, str.capitalize]))(text[:cut])
  return options, template, text


@pytest.mark.parametrize('family', ['qwen', 'llama', 'gemma'])
@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(said(), st.integers(0, 1))
def test_texts_and_tokens_say_the_same(family, drawn, behavior):
  options, template, text = drawn
  pair, format = pairs.Pair('x', 'y', cue='', options=options), format_of(family)
  allowed = statements.tokens(format, [pair], template)
  G, [ids] = allowed.shape[2], format.answers([text])
  generated = np.array(tokens_lib.pad([ids[:G]], G, format.pad_token))
  behavior_N = np.array([behavior])
  [decoded] = format.decode([ids])
  by_tokens = statements.parse(generated, allowed, behavior_N, template.states_answer)
  by_text = statements.parse_texts([decoded], [pair], template, behavior_N)
  for ours, theirs in zip(by_text, by_tokens):
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize('template', TEMPLATES)
def test_every_statement_is_read(template):
  """And the property above is no equality of nothing."""
  for options in OPTIONS:
    for k, option in enumerate(options):
      for changed, form in enumerate((template.unchanged, template.changed)):
        text = f' {form.format(answer=option)}\n'
        pair = pairs.Pair('x', 'y', cue='', options=options)
        found = statements.parse_texts([text], [pair], template, np.array([1]))
        named = changed or template.states_answer
        assert [*found.changed_N, *found.answer_N] == [changed, k if named else 1]
        wrong = statements.parse_texts([text + '.'], [pair], template, np.array([1]))
        assert [*wrong.changed_N, *wrong.answer_N] == [INVALID, INVALID]


def test_no_statement_has_more_tokens_than_bytes():
  for template in TEMPLATES:
    items = [pairs.Pair('x', 'y', cue='', options=x) for x in OPTIONS]
    tokens = statements.tokens(format_of('qwen'), items, template)
    assert tokens.shape[2] <= statements.longest(items, template) + 1
