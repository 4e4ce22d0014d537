"""Which option a reply names, by hand and by properties."""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from data import facts
from data import named_options
from data import pairs
from data import readers
from data import refusal

COUNTRIES = ('Guinea', 'Equatorial Guinea', 'Papua New Guinea', 'Niger')
LETTERS = ('A', 'B', 'C', 'D')
ELSE = named_options.UNNAMED
PAIR = pairs.Pair('Is it Niger? I think so.', 'Is it Niger?', options=COUNTRIES)


@pytest.mark.parametrize(
  'reply, named',
  [
    ('Niger', 'Niger'),
    ('niger.', 'Niger'),
    ('The city is in **Niger**, in Africa. Niger is large.', 'Niger'),
    ('Equatorial\n Guinea', 'Equatorial Guinea'),
    ('It is Guinea.', 'Guinea'),
    ('Not Equatorial Guinea but Guinea', ELSE),
    ('Niger or Guinea', ELSE),
    ('Nigeria', ELSE),
    ('I do not know.', ELSE),
    ('', ELSE),
  ],
)
def test_a_text_is_named_as_whole_words_longest_first(reply, named):
  options = (*COUNTRIES, ELSE)
  found_N = named_options.detect([reply], [options])
  assert found_N.dtype == np.int32
  assert [options[i] for i in found_N] == [named]


@pytest.mark.parametrize(
  'reply, named',
  [
    ('B', 'B'),
    (' (B)', 'B'),
    ('B.', 'B'),
    ('B) Paris', 'B'),
    ('**C**', 'C'),
    ('The answer is D.', 'D'),
    ('The correct option: (A)', 'A'),
    ('I think that it is (C), since a city is meant.', 'C'),
    ('A good question.', ELSE),
    ('A or B', ELSE),
    ('(A) or (B)', ELSE),
    ('The answer is a city', ELSE),
    ('E', ELSE),
    ('', ELSE),
  ],
)
def test_a_letter_is_named_where_it_is_no_word(reply, named):
  options = (*LETTERS, ELSE)
  [found] = named_options.detect([reply], [options])
  assert options[found] == named


@given(st.lists(st.text('abc ').filter(str.strip), min_size=2), st.data())
def test_an_option_alone_names_itself(texts, data):
  options = tuple(dict.fromkeys(' '.join(x.split()) + 'x' for x in texts))
  one = data.draw(st.sampled_from(options))
  [found] = named_options.detect([f'"{one.upper()}"!'], [(*options, ELSE)])
  assert options[found] == one


def test_pairs_and_questions_have_what_replies_need():
  asked = named_options.questions(facts.questions(facts.Config()))
  [pair] = named_options.with_unnamed(asked, [PAIR])
  assert pair == dataclasses.replace(PAIR, options=(*COUNTRIES, ELSE))
  assert ELSE in asked.explanation and ELSE in asked.explanation_after
  assert ELSE not in asked.behavior
  assert named_options.questions(asked) is asked


def test_a_task_that_has_a_detector_keeps_it_and_its_options():
  asked = named_options.questions(refusal.REPLY_QUESTIONS)
  assert asked is refusal.REPLY_QUESTIONS
  assert named_options.with_unnamed(asked, [PAIR]) == [PAIR]


def test_an_option_that_means_another_is_refused():
  asked = named_options.questions(pairs.Questions())
  with pytest.raises(readers.DataError, match='Something Else|something else'):
    named_options.with_unnamed(
      asked, [dataclasses.replace(PAIR, options=('x', 'Something Else'))]
    )
