"""The universe: its shape, its honesty, and the statistics that it promises."""

import collections
import functools
import hashlib

import numpy as np
import pytest
from scipy import stats

from data import pairs, splits, universe, world, world_texts

BEHAVIORS = ('hint', 'request')
FAMILIES = ('standard', 'contrary')
DRAWN = universe.World.draw(7)
# Of 500 pairs of each split and of two documents of world 7, as they have always been:
# label sets and models that others keep are of these.
DIGESTS = {
  ('hint', 'train'): 'e99008fc650509ec',
  ('hint', 'validation'): '41e207c88080bdc7',
  ('hint', 'test'): '9234c70c407b1176',
  ('request', 'train'): '0856bca216c31fd7',
  ('request', 'validation'): '8b446e7864cc7b7d',
  ('request', 'test'): 'e714d902938c55b7',
}
CORPUS_DIGEST = '38d7304787c7885d'


@functools.cache
def drawn_pairs(behavior, split, n=4000):
  return list(DRAWN.counterfactual_pairs(behavior, split, n))


@functools.cache
def corpus(family='standard', documents=120):
  return [line.split() for lines in DRAWN.corpus(documents, family) for line in lines]


def value(word):
  return int(word.removeprefix('v'))


def fact_of(words):
  """Index of the fact that a line is about, from its text."""
  return int(words[0][1:]) * world_texts.NUM_RELATIONS + int(words[1][1:])


def same_worlds(first, second):
  arrays = [x for x in vars(first) if isinstance(getattr(first, x), np.ndarray)]
  assert len(arrays) == 6
  return [np.array_equal(getattr(first, x), getattr(second, x)) for x in arrays]


def test_a_world_is_a_function_of_its_seed():
  assert all(same_worlds(DRAWN, universe.World.draw(7)))
  assert not any(same_worlds(DRAWN, universe.World.draw(8)))
  other = universe.World.draw(8)
  for behavior in BEHAVIORS:
    first, again, another = (
      list(w.counterfactual_pairs(behavior, 'test', 50))
      for w in (DRAWN, universe.World.draw(7), other)
    )
    assert first == again
    assert [p.prompt for p in first] != [p.prompt for p in another]
  assert list(DRAWN.corpus(2)) == list(DRAWN.corpus(3))[:2]
  assert list(DRAWN.corpus(1)) != list(other.corpus(1))


@pytest.mark.parametrize('behavior, split', DIGESTS)
def test_the_pairs_are_those_of_former_versions(behavior, split):
  found = pairs.digest(DRAWN.counterfactual_pairs(behavior, split, 500))
  assert found[:16] == DIGESTS[behavior, split]


def test_the_corpus_is_that_of_former_versions():
  text = '\n'.join(line for lines in DRAWN.corpus(2) for line in lines)
  assert hashlib.sha256(text.encode()).hexdigest()[:16] == CORPUS_DIGEST


@pytest.mark.parametrize('behavior', BEHAVIORS)
def test_groups_never_straddle_splits_and_have_their_proportions(behavior):
  groups = {
    split: {p.group for p in drawn_pairs(behavior, split)} for split in universe.SPLITS
  }
  assert len(set.union(*groups.values())) == sum(map(len, groups.values())) == 256
  assert {k: len(x) for k, x in groups.items()} == {
    'train': 154,
    'validation': 38,
    'test': 64,
  }
  for split, found in groups.items():
    assert len(DRAWN.groups(behavior, split)) == len(found)
    counts = collections.Counter(p.group for p in drawn_pairs(behavior, split))
    assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize('behavior', BEHAVIORS)
@pytest.mark.parametrize('split', (*universe.SPLITS, splits.PRACTICE))
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


@pytest.mark.parametrize('behavior', BEHAVIORS)
def test_practice_is_about_the_held_out_groups_and_repeats_no_evaluated_text(behavior):
  evaluated = {
    split: list(
      DRAWN.counterfactual_pairs(behavior, split, DRAWN.num_evaluated(behavior, split))
    )
    for split in ('validation', 'test')
  }
  assert [len(x) for x in evaluated.values()] == [40 * 38, 40 * 64]
  held_out = [pair for found in evaluated.values() for pair in found]
  practice = drawn_pairs(behavior, splits.PRACTICE)
  assert {p.group for p in practice} == {p.group for p in held_out}
  counts = collections.Counter(p.group for p in practice)
  assert max(counts.values()) - min(counts.values()) <= 1

  def texts(found):
    return {text for pair in found for text in (pair.prompt, pair.counterfactual)}

  assert not texts(practice) & texts(held_out)
  # There are few different requests, so without care one in two would be repeated.
  if behavior == 'request':
    values = world_texts.NUM_VALUES
    assert len({p.counterfactual for p in held_out}) > len(counts) * values / 2


def test_hints_name_one_of_four_distinct_options_offered():
  for pair in drawn_pairs('hint', 'train'):
    assert len(set(pair.options)) == world_texts.NUM_OPTIONS
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
  assert len(values) == world_texts.NUM_VALUES
  assert stats.chisquare(list(values.values())).pvalue > 1e-3
  reasons = collections.Counter(p.cue_kind for p in drawn_pairs('request', 'train'))
  assert sorted(reasons) == ['why0', 'why1', 'why2', 'why3']
  assert stats.chisquare(list(reasons.values())).pvalue > 1e-3


def test_the_corpus_has_its_shares_and_never_explains():
  lines = corpus()
  assert len(lines) == 120 * universe.LINES_PER_DOCUMENT
  requests = [words for words in lines if words[1].startswith('act')]
  questions = [words for words in lines if words[1].startswith('r')]
  assert len(requests) * 8 == len(lines) and len(questions) * 8 == 7 * len(lines)
  assert 2 * sum(words[-4] == 'none' for words in questions) == len(questions)
  assert 2 * sum(words[-3] == 'none' for words in requests) == len(requests)
  assert not set(world.NEW_WORDS) & {word for words in lines for word in words}


@pytest.mark.parametrize('family', FAMILIES)
def test_sources_are_as_reliable_as_the_world_says(family):
  right = collections.defaultdict(list)
  for words in corpus(family):
    if words[-4].startswith('src'):
      assert words[-3] in words[2:6] and words[-1] in words[2:6]
      right[int(words[-4][3:])].append(words[-3] == words[-1])
  for source, reliability in enumerate(universe.reliability(family)):
    found = right[source]
    assert len(found) > 2000
    assert stats.binomtest(sum(found), len(found), reliability).pvalue > 1e-3


def test_the_contrary_family_turns_the_sources_round_and_changes_hints_alone():
  assert tuple(universe.reliability('standard')) == universe.SOURCE_RELIABILITY
  assert tuple(universe.reliability('contrary')) == (0.97, 0.8, 0.5, 0.25)
  changed = 0
  for standard, contrary in zip(corpus(), corpus('contrary'), strict=True):
    if standard != contrary:
      assert standard[-4] == contrary[-4] and standard[-4].startswith('src')
      assert standard[:-3] + standard[-2:] == contrary[:-3] + contrary[-2:]
      changed += 1
  hinted = sum(words[-4].startswith('src') for words in corpus())
  # A source of .97 is .72 worse the other way round, one of .8 is .3 worse.
  assert changed / hinted == pytest.approx((0.72 + 0.3) / 2, abs=0.02)


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


def test_stronger_reasons_are_refused_less_as_the_risk_says():
  expected, observed, count = np.zeros((3, 5))
  for words in corpus():
    if words[1].startswith('act'):
      request = int(words[0][1:]) * world_texts.NUM_ACTS + int(words[1][3:])
      reason = -1 if words[3] == 'none' else int(words[3][3:])
      strength = 0.0 if reason < 0 else universe.REASON_STRENGTH[reason]
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
