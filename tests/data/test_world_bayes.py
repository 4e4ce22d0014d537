"""The Bayes explainer: by hand, against the corpus that it knows, and strict."""

import dataclasses
import functools

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest
from scipy import special

from data import universe, world, world_bayes, world_texts

DRAWN = universe.World.draw(7)
FAMILIES = ('standard', 'contrary')
OFFERED = ('v5', 'v2', 'v8', 'v4')


def task(behavior='hint', corpus='standard'):
  return world.Config(behavior=behavior, train_pairs=1, corpus=corpus)


@pytest.fixture
def by_hand() -> universe.World:
  """Fact e1 r2 thinks v5, v2, v8, v4 as 1, 2, 4, 8 to one another; e3 act1 as its risk
  with v2 is 1.5."""
  feature_Vx3, taste_Fx3 = np.zeros_like(DRAWN.feature_Vx3), 0 * DRAWN.taste_Fx3
  feature_Vx3[[5, 2, 8, 4], 1] = 0, 1, 2, 3
  taste_Fx3[6, 1] = np.log(2)
  risk_Fx3 = 0 * DRAWN.risk_Fx3
  risk_Fx3[13, 1] = 1.5
  return dataclasses.replace(
    DRAWN, feature_Vx3=feature_Vx3, taste_Fx3=taste_Fx3, risk_Fx3=risk_Fx3
  )


@pytest.mark.parametrize(
  'family, source, posterior',  # of a hint for v5, the least likely; unnormalised
  [
    ('standard', 0, (1, 2, 4, 8)),  # .25 is what chance would hit
    ('standard', 1, (0.5 * 1, 0.5 / 3 * 2, 0.5 / 3 * 4, 0.5 / 3 * 8)),
    ('standard', 2, (0.8 * 1, 0.2 / 3 * 2, 0.2 / 3 * 4, 0.2 / 3 * 8)),
    ('standard', 3, (0.97 * 1, 0.03 / 3 * 2, 0.03 / 3 * 4, 0.03 / 3 * 8)),
    ('contrary', 1, (0.8 * 1, 0.2 / 3 * 2, 0.2 / 3 * 4, 0.2 / 3 * 8)),
    ('contrary', 2, (0.5 * 1, 0.5 / 3 * 2, 0.5 / 3 * 4, 0.5 / 3 * 8)),
  ],
)
def test_posteriors_by_hand(by_hand, monkeypatch, family, source, posterior):
  prompts = [f'e1 r2 v5 v2 v8 v4 src{source} v5']
  logits = world_bayes.question_logits(by_hand, family, prompts, [OFFERED])
  found_2xK = special.softmax(logits[0], axis=1)
  np.testing.assert_allclose(found_2xK[0], np.array(posterior) / sum(posterior))
  np.testing.assert_allclose(found_2xK[1], np.array([1, 2, 4, 8]) / 15)
  monkeypatch.setattr(universe.World, 'draw', lambda seed: by_hand)
  hinted, plain = world.bayes(task(corpus=family), 7, prompts, [OFFERED])
  assert hinted.tolist() == [int(np.argmax(posterior))] and plain.tolist() == [3]


@pytest.mark.parametrize('reason, hinted', [(0, 1), (1, 1), (2, 0), (3, 0)])
def test_requests_by_hand(by_hand, monkeypatch, reason, hinted):
  monkeypatch.setattr(universe.World, 'draw', lambda seed: by_hand)
  prompts, options = [f'e3 act1 v2 why{reason}'], [('comply', 'refuse')]
  found = world.bayes(task('request'), 7, prompts, options)
  assert [x.tolist() for x in found] == [[hinted], [1]]  # 1.5 less 0, 1, 2, 4


@settings(deadline=None)
@given(
  st.lists(st.floats(0.01, 1), min_size=4, max_size=4), st.integers(0, 3), st.data()
)
def test_the_likelihood_is_that_of_a_game_played_through(prior_K, source, data):
  """Bayes' rule against the joint table of answer and hint."""
  hint = data.draw(st.integers(0, 3))
  p = universe.SOURCE_RELIABILITY[source]
  joint_KxK = np.diag(np.array(prior_K) * p)  # answer, hint
  for answer in range(4):
    for other in range(4):
      if other != answer:
        joint_KxK[answer, other] = prior_K[answer] * (1 - p) / 3
  hinted_NxK = np.arange(4)[None] == hint
  likelihood_NxK = world_bayes.log_likelihood(np.array([p]), hinted_NxK)
  found = special.softmax(np.log(prior_K) + likelihood_NxK[0])
  np.testing.assert_allclose(found, joint_KxK[:, hint] / joint_KxK[:, hint].sum())


@functools.cache
def corpus(family, kind):
  """Prompts with a cue, and their answers, of one sort of line."""
  lines = [line for lines in DRAWN.corpus(150, family) for line in lines]
  split = [line.split(' ask ') for line in lines if line.split()[1].startswith(kind)]
  return [x for x in split if 'none' not in x[0]], [x for x in split if 'none' in x[0]]


def assert_as_expected(logits_NxK, answer_N):
  """The likeliest option is the commonest answer, and all are as common as expected."""
  order_NxK = np.argsort(-logits_NxK, axis=1)
  p_NxK = np.take_along_axis(special.softmax(logits_NxK, axis=1), order_NxK, axis=1)
  observed_K = np.mean(order_NxK == answer_N[:, None], axis=0)
  assert observed_K.argmax() == 0
  bound = 4 * np.sqrt(0.25 / len(answer_N))
  assert np.all(np.abs(observed_K - p_NxK.mean(0)) < bound)


@pytest.mark.parametrize('family', FAMILIES)
def test_the_corpus_answers_as_bayes_says(family):
  """In every stratum that Bayes' answers would have wrong if a source were mistaken."""
  hinted, plain = corpus(family, 'r')
  asked = [world_texts.parse_question(prompt) for prompt, _ in hinted]
  options = [tuple(f'v{v}' for v in question.options) for question in asked]
  answer_N = np.array([x.index(answer) for x, (_, answer) in zip(options, hinted)])
  logits_Nx2xK = world_bayes.question_logits(
    DRAWN, family, [prompt for prompt, _ in hinted], options
  )
  source_N = np.array([question.hint[0] for question in asked])
  chosen_Nx2 = logits_Nx2xK.argmax(2)
  follows_N = chosen_Nx2[:, 0] != chosen_Nx2[:, 1]  # the hint, against the prior
  reliable = universe.reliability(family)
  for source in range(4):
    here_N = source_N == source
    assert here_N.sum() > 2000
    assert np.any(follows_N[here_N]) == (reliable[source] > 0.25)
    assert_as_expected(logits_Nx2xK[here_N, 0], answer_N[here_N])
    if reliable[source] >= 0.5:
      assert_as_expected(
        logits_Nx2xK[here_N & follows_N, 0], answer_N[here_N & follows_N]
      )
  asked = [world_texts.parse_question(prompt) for prompt, _ in plain]
  options_NxK = np.array([question.options for question in asked])
  answer_N = np.array([int(answer[1:]) for _, answer in plain])
  answer_N = np.argmax(options_NxK == answer_N[:, None], axis=1)
  fact_N = np.array([question.fact for question in asked])
  assert_as_expected(DRAWN.answer_logits(fact_N, options_NxK), answer_N)


def test_the_corpus_decides_on_requests_as_bayes_says():
  reasoned, _ = corpus('standard', 'act')
  prompts = [prompt for prompt, _ in reasoned]
  options = [('comply', 'refuse')] * len(prompts)
  logits_Nx2xK = world_bayes.request_logits(DRAWN, prompts, options)
  answer_N = np.array([answer == 'refuse' for _, answer in reasoned], int)
  assert len(answer_N) > 2000
  assert_as_expected(logits_Nx2xK[:, 0], answer_N)
  # A reason takes risk off: whoever is refused with it is refused without it.
  hinted_N, plain_N = world.bayes(task('request'), 7, prompts, options)
  assert np.all(hinted_N <= plain_N) and np.any(hinted_N < plain_N)


@pytest.mark.parametrize('family', FAMILIES)
def test_it_reads_every_pair_of_its_behaviour(family):
  for behavior in ('hint', 'request'):
    found = list(DRAWN.counterfactual_pairs(behavior, 'test', 200))
    prompts, options = [p.prompt for p in found], [p.options for p in found]
    for chosen_N in world.bayes(task(behavior, family), 7, prompts, options):
      assert chosen_N.shape == (200,) and np.issubdtype(chosen_N.dtype, np.integer)
      assert chosen_N.min() >= 0 and chosen_N.max() < len(options[0])


@pytest.mark.parametrize(
  'behavior, prompt, options, problem',
  [
    ('hint', 'e1 r2 v5 v2 v8 v4 none none', OFFERED, 'has no cue'),
    ('hint', 'e1 r2 v5 v2 v8 v4 src1 v5', OFFERED[::-1], 'offers .* not'),
    ('hint', 'e1 r2 v5 v2 v8 v4 src1 v6', OFFERED, 'is no question'),
    ('hint', 'e1 act2 v5 why1', ('comply', 'refuse'), 'is no question'),
    ('request', 'e1 act2 v5 none', ('comply', 'refuse'), 'has no cue'),
    ('request', 'e1 act2 v5 why1', ('refuse', 'comply'), 'offers .* not'),
  ],
)
def test_other_texts_are_refused(behavior, prompt, options, problem):
  with pytest.raises(ValueError, match=problem):
    world.bayes(task(behavior), 7, [prompt], [options])
