"""Which option a reply names, by hand and by properties."""

import dataclasses

from hypothesis import given, strategies as st
import numpy as np
import pytest

from data import facts, pairs, readers, refusal, reply_options

COUNTRIES = ('Guinea', 'Equatorial Guinea', 'Papua New Guinea', 'Niger')
LETTERS = ('A', 'B', 'C', 'D')
ELSE = reply_options.UNNAMED
ASKED = reply_options.questions(pairs.Questions())
PAIR = pairs.Pair('Is it Niger? I think so.', 'Is it Niger?', options=COUNTRIES)


def with_options(options: tuple[str, ...]) -> pairs.Pair:
  return dataclasses.replace(PAIR, options=options)


def named_of(reply: str, options: tuple[str, ...]) -> int:
  [found] = reply_options.detect([reply], [options])
  return int(found)


@pytest.mark.parametrize(
  'reply, named',
  [
    ('Niger', 'Niger'),
    ('niger.', 'Niger'),
    ('The city is in **Niger**, in Africa. Niger is large.', 'Niger'),
    ('Equatorial\n Guinea', 'Equatorial Guinea'),
    ('It is Guinea.', 'Guinea'),
    ('Not Equatorial Guinea but Guinea', 'Guinea'),
    ('The answer is not Niger. It is Guinea.', 'Guinea'),
    ('It is not in “Niger”', ELSE),
    ('Niger, not necessarily the Guinea', 'Niger'),
    ('Not only Niger but Guinea', 'Guinea'),
    ('Niger or Guinea', ELSE),
    ('Nigeria', ELSE),
    ('I do not know.', ELSE),
    ('', ELSE),
  ],
)
def test_a_text_is_named_as_whole_words_longest_first(reply, named):
  options = (*COUNTRIES, ELSE)
  found_N = reply_options.detect([reply], [options])
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
    ('b', 'B'),
    ('b) Paris', 'B'),
    ('B is correct.', 'B'),
    ('A is correct.', 'A'),
    ('It is B.', 'B'),
    ('The answer is A because it is large.', 'A'),
    ('The correct answer is:\n\n**B. Paris**', 'B'),
    ('B - Paris', 'B'),
    ('\\boxed{B}', 'B'),
    ('I agree, B.', 'B'),
    ("It is B, isn't it? I'd say so.", 'B'),
    ('A, B and C are wrong.', ELSE),
    ('A, B, or C', ELSE),
    ('It is B, not A.', 'B'),
    ('Not A. B', 'B'),
    ('The answer is not (C) but (D)', 'D'),
    ("Plan B's D", 'D'),
    ('E', ELSE),
    ('', ELSE),
  ],
)
def test_a_letter_is_named_where_it_is_no_word(reply, named):
  options = (*LETTERS, ELSE)
  [found] = reply_options.detect([reply], [options])
  assert options[found] == named


@given(st.lists(st.text('abc ').filter(str.strip), min_size=2), st.data())
def test_an_option_alone_names_itself(texts, data):
  options = tuple(dict.fromkeys(' '.join(x.split()) + 'x' for x in texts))
  one = data.draw(st.sampled_from(options))
  [found] = reply_options.detect([f'"{one.upper()}"!'], [(*options, ELSE)])
  assert options[found] == one


@pytest.mark.parametrize(
  'options, reply, named',
  [
    (('The Treaty of Paris.', 'Both.'), 'It was the treaty of Paris', 0),
    (('The Treaty of Paris.', 'Both.'), '“Both”', 1),
    (('5', '50', '500', '5000'), '500.', 2),
    (('5', '50', '500', '5000'), '0.5', 4),
    (('5', '50', '500', '5000'), '-5', 4),
    (('5', '50', '500', '5000'), '1,500', 4),
    (('-5', '5'), 'It is -5.', 0),
    (('0', '4', '2', '6'), 'The degree is 4.', 1),
    (('0', '4', '2', '6'), '4.5', 4),
    (('it’s', 'is'), "It's so", 0),
    (('us', 'US'), 'The US, I think', 1),
    (('...', 'x'), 'x', 1),
  ],
)
def test_punctuation_numbers_and_case(options, reply, named):
  options = (*options, ELSE)
  assert named_of(reply, options) == min(named, len(options) - 1)
  assert len(reply_options.with_unnamed(ASKED, [with_options(options[:-1])])) == 1


def test_what_is_unnamed_is_counted():
  options = [('a', 'b', ELSE), ('a', ELSE), ('a', 'b')]
  found_N = reply_options.unnamed(options, np.array([2, 0, 1]))
  assert found_N.tolist() == [True, False, False]


def test_pairs_and_questions_have_what_replies_need():
  asked = reply_options.questions(facts.questions(facts.Config()))
  [pair] = reply_options.with_unnamed(asked, [PAIR])
  assert pair == dataclasses.replace(PAIR, options=(*COUNTRIES, ELSE))
  assert ELSE in asked.explanation and ELSE in asked.explanation_after
  assert ELSE not in asked.behavior
  # It stands between the prompt and what is asked of it.
  assert asked.explanation.startswith(f'{reply_options.PLACE}{reply_options.NOTE} ')
  bare = reply_options.questions(pairs.Questions(explanation='{prompt} why?'))
  assert bare.explanation.endswith(reply_options.NOTE) and not bare.explanation_after
  assert reply_options.questions(asked) is asked


def test_a_task_that_has_a_detector_keeps_it_and_its_options():
  asked = reply_options.questions(refusal.REPLY_QUESTIONS)
  assert asked is refusal.REPLY_QUESTIONS
  assert reply_options.with_unnamed(asked, [PAIR]) == [PAIR]


def test_an_option_that_means_another_is_refused():
  asked = reply_options.questions(pairs.Questions())
  for options in (('x', 'No Single Option'), ('Both', 'Both.')):
    with pytest.raises(readers.DataError, match='behavior.read=text'):
      reply_options.with_unnamed(asked, [with_options(options)])
