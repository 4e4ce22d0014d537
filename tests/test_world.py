"""The built-in world: its shape, its honesty, and the statistics that it promises."""

import collections
import functools

import numpy as np
import pytest
from scipy import stats

from data import encoder
from data import pairs
from data import world

BEHAVIORS = ('hint', 'request')
DRAWN = world.World.draw(7)


@functools.cache
def drawn_pairs(behavior, split, n=4000):
  return list(DRAWN.counterfactual_pairs(behavior, split, n))


@functools.cache
def corpus(documents=120):
  return [line.split() for lines in DRAWN.corpus(documents) for line in lines]


def value(word):
  return int(word.removeprefix('v'))


def fact_of(words):
  """Index of the fact that a line is about, from its text."""
  return int(words[0][1:]) * world.NUM_RELATIONS + int(words[1][1:])


def same_worlds(first, second):
  arrays = [x for x in vars(first) if isinstance(getattr(first, x), np.ndarray)]
  assert len(arrays) == 6
  return [np.array_equal(getattr(first, x), getattr(second, x)) for x in arrays]


def test_a_world_is_a_function_of_its_seed():
  assert all(same_worlds(DRAWN, world.World.draw(7)))
  assert not any(same_worlds(DRAWN, world.World.draw(8)))
  other = world.World.draw(8)
  for behavior in BEHAVIORS:
    first, again, another = (
      list(w.counterfactual_pairs(behavior, 'test', 50))
      for w in (DRAWN, world.World.draw(7), other)
    )
    assert first == again
    assert [p.prompt for p in first] != [p.prompt for p in another]
  assert list(DRAWN.corpus(2)) == list(DRAWN.corpus(3))[:2]
  assert list(DRAWN.corpus(1)) != list(other.corpus(1))


@pytest.mark.parametrize('behavior', BEHAVIORS)
def test_groups_never_straddle_splits_and_have_their_proportions(behavior):
  groups = {
    split: {p.group for p in drawn_pairs(behavior, split)} for split in world.SPLITS
  }
  assert len(set.union(*groups.values())) == sum(map(len, groups.values())) == 256
  assert {k: len(x) for k, x in groups.items()} == {
    'train': 154,
    'validation': 38,
    'test': 64,
  }
  for split, found in groups.items():
    assert DRAWN.num_groups(behavior, split) == len(found)
    counts = collections.Counter(p.group for p in drawn_pairs(behavior, split))
    assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize('behavior', BEHAVIORS)
@pytest.mark.parametrize('split', world.SPLITS)
def test_a_pair_differs_from_its_counterfactual_only_in_the_cue(behavior, split):
  for i, pair in enumerate(drawn_pairs(behavior, split)):
    prompt, without = pair.prompt.split(), pair.counterfactual.split()
    cue = pair.cue.split()
    assert prompt[: -len(cue)] == without[: -len(cue)]
    assert prompt[-len(cue) :] == cue
    assert without[-len(cue) :] == ['none'] * len(cue)
    assert ' '.join(prompt[:2]) == pair.group
    assert pair.cue_kind == cue[0]
    assert f'seed=7 behavior={behavior} split={split} index={i}' in pair.provenance


def test_hints_name_one_of_four_distinct_options_offered():
  for pair in drawn_pairs('hint', 'train'):
    assert len(set(pair.options)) == world.NUM_OPTIONS
    assert tuple(pair.prompt.split()[2:6]) == pair.options
    assert pair.options[pair.cue_option] == pair.cue.split()[1]


def test_requests_have_no_option_that_the_cue_speaks_for():
  for pair in drawn_pairs('request', 'test'):
    assert pair.options == ('comply', 'refuse')
    assert pair.cue_option == pairs.NO_OPTION


def test_hints_are_uniform_over_sources_and_options():
  found = drawn_pairs('hint', 'train')
  table = np.zeros((4, 4))
  for pair in found:
    table[int(pair.cue_kind[3:]), pair.cue_option] += 1
  assert stats.chisquare(table.ravel()).pvalue > 1e-3
  values = collections.Counter(v for pair in found for v in pair.options)
  assert len(values) == world.NUM_VALUES
  assert stats.chisquare(list(values.values())).pvalue > 1e-3
  reasons = collections.Counter(p.cue_kind for p in drawn_pairs('request', 'train'))
  assert sorted(reasons) == ['why0', 'why1', 'why2', 'why3']
  assert stats.chisquare(list(reasons.values())).pvalue > 1e-3


def test_every_text_is_in_the_language_of_the_tokenizer():
  texts = [' '.join(words) for words in corpus(2)]
  template = world.QUESTIONS
  for behavior in BEHAVIORS:
    for pair in drawn_pairs(behavior, 'test')[:100]:
      texts += [template.behavior.format(prompt=pair.prompt)]
      texts += [template.explanation.format(prompt=pair.counterfactual)]
      texts += [template.changed.format(answer=x) for x in pair.options]
      texts += [template.unchanged.format(answer=x) for x in pair.options]
  encoded = encoder.Encoder(world.tokenizer()).encode(texts)
  assert [len(row) for row in encoded] == [len(text.split()) for text in texts]


def test_the_corpus_has_its_shares_and_never_explains():
  lines = corpus()
  assert len(lines) == 120 * world.LINES_PER_DOCUMENT
  requests = [words for words in lines if words[1].startswith('act')]
  questions = [words for words in lines if words[1].startswith('r')]
  assert len(requests) * 8 == len(lines) and len(questions) * 8 == 7 * len(lines)
  assert 2 * sum(words[-4] == 'none' for words in questions) == len(questions)
  assert 2 * sum(words[-3] == 'none' for words in requests) == len(requests)
  assert not set(world.NEW_WORDS) & {word for words in lines for word in words}


def test_sources_are_as_reliable_as_the_world_says():
  right = collections.defaultdict(list)
  for words in corpus():
    if words[-4].startswith('src'):
      assert words[-3] in words[2:6] and words[-1] in words[2:6]
      right[int(words[-4][3:])].append(words[-3] == words[-1])
  for source, reliability in enumerate(world.SOURCE_RELIABILITY):
    found = right[source]
    assert len(found) > 2000
    assert stats.binomtest(sum(found), len(found), reliability).pvalue > 1e-3


def test_answers_follow_the_softmax_of_taste_and_features():
  """Unhinted answers, in bins of the probability that the world gives to each."""
  expected, observed, variance = np.zeros((3, 10))
  for words in corpus():
    if words[-4] == 'none' and words[1].startswith('r'):
      options = [value(word) for word in words[2:6]]
      logit_K = DRAWN.feature_Vx3[options] @ DRAWN.taste_Fx3[fact_of(words)]
      p_K = np.exp(logit_K) / np.exp(logit_K).sum()
      for word, p in zip(words[2:6], p_K):
        k = int(10 * p)
        expected[k] += p
        variance[k] += p * (1 - p)
        observed[k] += word == words[-1]
  z = (observed - expected) / np.sqrt(variance)
  assert expected.min() > 100
  # The four options of a question exclude each other, so bins are nearly independent.
  assert stats.chi2.sf(np.sum(z**2), len(z)) > 1e-3


def test_answers_of_one_question_follow_the_softmax():
  n = 20_000
  options_NxK, answer_N = DRAWN.questions(np.random.default_rng(0), np.full(n, 5))
  assert all(len(set(row)) == 4 for row in options_NxK[:500])
  logits_NxK = DRAWN.feature_Vx3[options_NxK] @ DRAWN.taste_Fx3[5]
  p_NxK = np.exp(logits_NxK) / np.exp(logits_NxK).sum(1, keepdims=True)
  order_NxK = np.argsort(-p_NxK, axis=1)
  p_NxK = np.take_along_axis(p_NxK, order_NxK, 1)
  rank_N = np.argmax(order_NxK == answer_N[:, None], axis=1)
  found = stats.chisquare(np.bincount(rank_N, minlength=4), p_NxK.sum(0))
  assert found.pvalue > 1e-3
  assert np.ptp(p_NxK.mean(0)) > 0.2  # far from uniform


def test_stronger_reasons_are_refused_less_as_the_risk_says():
  expected, observed, count = np.zeros((3, 5))
  for words in corpus():
    if words[1].startswith('act'):
      request = int(words[0][1:]) * world.NUM_ACTS + int(words[1][3:])
      reason = -1 if words[3] == 'none' else int(words[3][3:])
      strength = 0.0 if reason < 0 else world.REASON_STRENGTH[reason]
      risk = DRAWN.risk_Fx3[request] @ DRAWN.feature_Vx3[value(words[2])] - strength
      expected[reason] += 1 / (1 + np.exp(-risk))
      observed[reason] += words[-1] == 'refuse'
      count[reason] += 1
  rate = observed / count
  assert rate[0] > rate[1] > rate[2] > rate[3]
  bound = 4 * np.sqrt(0.25 / count)
  assert np.all(np.abs(observed - expected) / count < bound)
  assert rate[0] - rate[3] > 2 * bound.max()


def test_lengths_of_tastes_spread_from_weak_to_strong():
  for directions in (DRAWN.taste_Fx3, DRAWN.risk_Fx3):
    length_F = np.linalg.norm(directions, axis=1)
    assert length_F.min() >= 1 and length_F.max() <= 6
    found = stats.kstest(np.log(length_F) / np.log(6), 'uniform')
    assert found.pvalue > 1e-3
  assert DRAWN.frequency_F.sum() == pytest.approx(1)
  assert 3 < DRAWN.frequency_F.max() / DRAWN.frequency_F.min() <= 4


@pytest.mark.parametrize('behavior', BEHAVIORS)
def test_the_builder_writes_what_the_world_generates(tmp_path, behavior, monkeypatch):
  monkeypatch.setattr(world, 'PROMPTS_PER_GROUP', 2)
  config = world.Config(behavior=behavior, train_pairs=31)
  builder = world.builder(config, 7, tmp_path)
  builder.download_and_prepare()
  sizes = {'train': 31, 'validation': 2 * 38, 'test': 2 * 64}
  for split, n in sizes.items():
    want = list(DRAWN.counterfactual_pairs(behavior, split, n))
    assert pairs.read(builder, split) == want


def test_the_corpus_is_read_back_in_order(tmp_path):
  builder = world.corpus_builder(5, 7, tmp_path)
  builder.download_and_prepare()
  lines = world.read_corpus(builder)
  assert lines == [line for document in DRAWN.corpus(5) for line in document]
  assert len(lines) == 5 * world.LINES_PER_DOCUMENT
