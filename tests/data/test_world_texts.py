"""The world's language: what is written is read back, what nobody writes is refused."""

from hypothesis import given, strategies as st
import pytest

from data import encoder, universe, world, world_texts

facts = st.integers(0, world_texts.NUM_ENTITIES * world_texts.NUM_RELATIONS - 1)
values = st.integers(0, world_texts.NUM_VALUES - 1)
options = st.lists(values, min_size=4, max_size=4, unique=True).map(tuple)


@given(facts, options, st.none() | st.tuples(st.integers(0, 3), st.integers(0, 3)))
def test_questions_are_read_back(fact, options, hint):
  hint = hint and (hint[0], options[hint[1]])
  text = world_texts.question_text(fact, options, hint)
  assert world_texts.parse_question(text) == (fact, options, hint)


@given(facts, values, st.none() | st.integers(0, 3))
def test_requests_are_read_back(request, value, reason):
  text = world_texts.request_text(request, value, reason)
  assert world_texts.parse_request(text) == (request, value, reason)


def test_texts_by_hand():
  text = 'e12 r3 v1 v7 v9 v30 src2 v7'
  assert world_texts.parse_question(text) == (51, (1, 7, 9, 30), (2, 7))
  text = 'e12 r3 v1 v7 v9 v30 none none'
  assert world_texts.parse_question(text) == (51, (1, 7, 9, 30), None)
  assert world_texts.parse_request('e5 act2 v9 why3') == (22, 9, 3)
  assert world_texts.parse_request('e5 act2 v9 none') == (22, 9, None)


@pytest.mark.parametrize(
  'text',
  [
    'e12 r3 v1 v7 v9 v30 src2 v7 ask',
    'e12 r3 v1 v7 v9 v30 src2 v8',  # not offered
    'e12 r3 v1 v7 v9 v9 src2 v7',  # offered twice
    'e12 r3 v1 v7 v9 v30 src2 none',
    'e12 r3 v1 v7 v9 v30 src4 v7',
    'e64 r3 v1 v7 v9 v30 src2 v7',
    'e012 r3 v1 v7 v9 v30 src2 v7',
    'e12 r3  v1 v7 v9 v30 src2 v7',
    'e12 r3 v1 v7 v9 v30 src2 v7\n',
    'e12 r3 v٧ v1 v9 v30 src2 v1',  # digits of another script
    'e5 act2 v9 why3',
    '',
  ],
)
def test_what_is_no_question_is_refused_and_named(text):
  with pytest.raises(ValueError, match='is no question of the built-in world') as no:
    world_texts.parse_question(text)
  assert repr(text) in str(no.value)


@pytest.mark.parametrize(
  'text',
  ['e5 act2 v9', 'e5 act2 v32 why3', 'e5 act2 v9 why4', 'e5 act2 v9 none none', 'e5'],
)
def test_what_is_no_request_is_refused(text):
  with pytest.raises(ValueError, match='is no request of the built-in world'):
    world_texts.parse_request(text)


@pytest.mark.parametrize('behavior', ['hint', 'request'])
def test_every_text_is_in_the_language_of_the_tokenizer(behavior):
  drawn, template = universe.World.draw(7), world.QUESTIONS
  texts = [line for lines in drawn.corpus(2) for line in lines]
  for pair in drawn.counterfactual_pairs(behavior, 'test', 100):
    texts += [template.behavior.format(prompt=pair.prompt)]
    texts += [template.explanation.format(prompt=pair.counterfactual)]
    texts += [template.changed.format(answer=x) for x in pair.options]
    texts += [template.unchanged.format(answer=x) for x in pair.options]
  encoded = encoder.Encoder(world.tokenizer()).encode(texts)
  assert [len(row) for row in encoded] == [len(text.split()) for text in texts]
