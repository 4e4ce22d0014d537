"""Labels that runs are trained on: mixtures, noise, and how many say "changed"."""

import dataclasses

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from configs import world
from coupling.config import schema, validate
from coupling.elicit.explanation import Explanation
from coupling.statistics.items import label_class
from coupling.training import label_rules

TRAIN = validate.resolve(world.get_config('seeds=1')).runs['kl']
N = 4_000


def labels(seed, n=N, options=4):
  rng = np.random.default_rng(seed)
  return Explanation(rng.integers(options, size=n), rng.integers(2, size=n))


def trained_on(own, other, states_answer=True, split='train', sizes=None, **changes):
  train = dataclasses.replace(TRAIN, **changes)
  size_N = np.full(len(own.answer_N), 4) if sizes is None else sizes
  return label_rules.trained_on(train, size_N, own, other, states_answer, 3, split)


def test_without_mixture_or_noise_labels_are_those_of_the_set():
  found = trained_on(labels(0), labels(1))
  np.testing.assert_array_equal(found, labels(1))
  found = trained_on(labels(0), labels(1), mixture=0.0)
  np.testing.assert_array_equal(found, labels(0))


def test_a_mixture_takes_whole_labels_of_a_share_of_the_items():
  own = Explanation(np.zeros(N, int), np.zeros(N, int))
  other = Explanation(np.full(N, 2), np.ones(N, int))
  found = trained_on(own, other, mixture=0.3)
  foreign_N = found.answer_N == 2
  np.testing.assert_array_equal(foreign_N, found.changed_N == 1)
  assert abs(foreign_N.mean() - 0.3) < 4 * np.sqrt(0.21 / N)
  # Held-out items are mixed by draws of their own, another seed's too.
  for changed in (dict(split='test'), dict(seed=1)):
    assert np.any(
      trained_on(own, other, mixture=0.3, **changed).answer_N != 2 * foreign_N
    )


@pytest.mark.parametrize('states_answer', [True, False])
def test_noise_draws_every_other_statement_alike_and_never_the_same(states_answer):
  own = Explanation(np.full(N, 1), np.ones(N, int))
  found = trained_on(own, own, states_answer, noise=0.5)
  class_N = label_class(found, states_answer)
  kept_N = class_N == label_class(own, states_answer)
  assert abs(kept_N.mean() - 0.5) < 4 * np.sqrt(0.25 / N)
  others, count = np.unique(class_N[~kept_N], return_counts=True)
  assert len(others) == (7 if states_answer else 4)
  share = 1 / len(others)
  noise = np.sqrt(share * (1 - share) / count.sum())
  np.testing.assert_allclose(count / count.sum(), share, atol=4 * noise)


@hypothesis.given(st.integers(0, 2**32), st.lists(st.integers(2, 6), min_size=1))
def test_noise_stays_among_an_items_own_options(seed, sizes):
  sizes = np.array(sizes)
  rng = np.random.default_rng(seed)
  own = Explanation(rng.integers(sizes), rng.integers(2, size=len(sizes)))
  for states_answer in (True, False):
    found = trained_on(own, own, states_answer, sizes=sizes, noise=1.0)
    assert np.all((found.answer_N >= 0) & (found.answer_N < sizes))
    assert np.all(label_class(found, states_answer) != label_class(own, states_answer))


def explained(changed_N, shifted_N=None, explainable_N=None, **changes):
  n = len(changed_N)
  return label_rules.explained(
    dataclasses.replace(TRAIN, **changes),
    np.ones(n, bool) if explainable_N is None else explainable_N,
    Explanation(np.zeros(n, int), changed_N),
    np.zeros(n, bool) if shifted_N is None else shifted_N,
    0,
  )


@pytest.mark.parametrize(
  'share, want', [(1.0, 400), (0.5, 400), (0.4, 400), (0.2, 150), (0.1, 66), (0.0, 0)]
)
def test_changed_share_leaves_out_changed_items_alone(share, want):
  changed_N = np.arange(1000) % 5 < 2
  kept_N = explained(changed_N.astype(int), changed_share=share)
  assert np.all(kept_N[~changed_N])
  assert np.count_nonzero(kept_N & changed_N) == want


def test_shifted_and_unexplainable_pairs_are_left_out_where_asked():
  changed_N = np.zeros(6, int)
  shifted_N = np.array([1, 1, 0, 0, 0, 0], bool)
  explainable_N = np.array([0, 1, 1, 1, 1, 0], bool)
  args = changed_N, shifted_N, explainable_N
  np.testing.assert_array_equal(explained(*args), explainable_N)
  found = explained(*args, explained='unshifted')
  np.testing.assert_array_equal(found, explainable_N & ~shifted_N)
  with pytest.raises(schema.ConfigError, match='no pair is left'):
    explained(changed_N, np.ones(6, bool), explained='unshifted')


@hypothesis.given(st.integers(0, 2**32), st.integers(1, 60), st.integers(1, 60))
def test_balanced_draws_have_both_classes_and_each_pair_equally_often(seed, few, many):
  rng = np.random.default_rng(seed)
  changed_N = rng.permutation(np.repeat([0, 1], [few, many]))
  train = dataclasses.replace(TRAIN, balance=True)
  drawn_M = label_rules.drawn(train, changed_N, seed)
  assert np.bincount(changed_N[drawn_M]).tolist() == [max(few, many)] * 2
  times_N = np.bincount(drawn_M, minlength=len(changed_N))
  for changed in (0, 1):
    of_class = times_N[changed_N == changed]
    assert of_class.min() >= 1 and np.ptp(of_class) <= 1
  unbalanced = label_rules.drawn(TRAIN, changed_N, seed)
  np.testing.assert_array_equal(unbalanced, np.arange(len(changed_N)))


def test_one_class_cannot_be_balanced():
  train = dataclasses.replace(TRAIN, balance=True)
  with pytest.raises(schema.ConfigError, match='balance'):
    label_rules.drawn(train, np.ones(5, int), 0)
