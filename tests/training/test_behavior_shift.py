"""Shifts of behaviour: which prompts, towards what."""

import dataclasses

import numpy as np
import pytest
from scipy import special

from configs import world
from coupling.config import validate
from coupling.elicit import explanation
from coupling.run import base_model, context
from coupling.training import behavior_shift, examples
from data import world as world_data
from tests import training_texts

SEED, K = 5, 4


def experiment(**changes):
  config = world.get_config('seeds=1')
  config.task.update(train_pairs=200, practice_pairs=100)
  config.train.objectives.behavior_xent.update(weight=1.0, **changes)
  return validate.resolve(config)


def pairs_of(e, tmp_path, split='train'):
  from data import pairs as pairs_lib

  builder = world_data.builder(e.task.config, SEED, tmp_path)
  builder.download_and_prepare()
  return pairs_lib.read(builder, split)


def behaviors(n):
  rng = np.random.default_rng(0)
  vocabulary = len(world_data.tokenizer())
  logprobs = np.log(rng.dirichlet(np.ones(vocabulary), (n, 2))).astype(np.float32)
  return explanation.Behaviors(
    *rng.integers(K, size=(2, n)), logprobs, np.zeros((n, 0), object)
  )


def source(e, made, reference, **changes):
  train = dataclasses.replace(e.runs['kl'], **changes)
  objective = train.objectives.behavior_xent
  scores = behavior_shift.scores(objective, e.task, SEED, made)
  return training_texts.source(
    train,
    base_model.format(e),
    context.questions(e),
    made,
    reference,
    reference.explanation,
    scores,
    SEED,
  )


def test_a_preference_adds_its_scores_to_the_log_probabilities(tmp_path):
  e = experiment(target='favor', strength=2.5, seed=1)
  made = pairs_of(e, tmp_path)
  reference = behaviors(len(made))
  found = source(e, made, reference).shift
  scores_NxK = world_data.preferences(e.task.config, 'favor', SEED, 1, made)
  tokenizer = world_data.tokenizer()
  shifted = 0
  for i, pair in enumerate(made):
    wanted = scores_NxK[i].any()
    assert found.shifted_Nx2[i].tolist() == [wanted, wanted]
    tokens = tokenizer.convert_tokens_to_ids(list(pair.options))
    for side in range(2):
      logits_K = reference.logprobs_Nx2xS[i, side][tokens] + 2.5 * scores_NxK[i]
      want_K = special.softmax(logits_K) * wanted
      np.testing.assert_allclose(found.target_Nx2xK[i, side], want_K, rtol=1e-5)
    shifted += wanted
  assert 0 < shifted < len(made)


@pytest.mark.parametrize('target', ['ignore_cue', 'follow_cue'])
def test_a_shift_of_one_kind_of_cue_is_on_its_x_alone(tmp_path, target):
  e = experiment(target=target, cues='src3')
  made = pairs_of(e, tmp_path)
  reference = behaviors(len(made))
  found = source(e, made, reference).shift
  of_kind_N = np.array([pair.cue_kind == 'src3' for pair in made])
  np.testing.assert_array_equal(found.shifted_Nx2[:, 0], of_kind_N)
  assert not found.shifted_Nx2[:, 1].any() and of_kind_N.any()
  want_N = reference.counterfactual_behavior_N
  if target == 'follow_cue':
    want_N = np.array([pair.cue_option for pair in made])
  np.testing.assert_array_equal(
    found.target_Nx2xK[:, 0], np.eye(K)[want_N] * of_kind_N[:, None]
  )


def test_pairs_that_are_shifted_are_not_explained_also_in_a_companion(tmp_path):
  """A companion has the shift's weight at 0 and explains the same pairs."""
  e = experiment(target='rotate', strength=3.0)
  made = pairs_of(e, tmp_path)
  reference = behaviors(len(made))
  kinds = {}
  for weight in (1.0, 0.0):
    objectives = e.runs['kl'].objectives
    shift = dataclasses.replace(objectives.behavior_xent, weight=weight)
    objectives = dataclasses.replace(objectives, behavior_xent=shift)
    found = source(e, made, reference, explained='unshifted', objectives=objectives)
    np.testing.assert_array_equal(found.explained_N, ~found.shift.pairs_N)
    parts = examples.training_parts(
      dataclasses.replace(e.runs['kl'], objectives=objectives),
      base_model.format(e),
      context.questions(e),
      found,
      None,
    )
    rows, _ = parts['behavior']
    held_N = rows['mask'][:, 0]
    shifted_N = np.tile(found.shift.pairs_N, 2)
    np.testing.assert_array_equal(held_N, ~shifted_N if weight else True)
    kinds[weight] = found.explained_N
  np.testing.assert_array_equal(kinds[0.0], kinds[1.0])
  assert 0.3 < kinds[1.0].mean() < 0.7


def test_practice_is_for_behaviour_alone(tmp_path):
  e = experiment(target='rotate', strength=3.0)
  train, practice = (pairs_of(e, tmp_path, x) for x in ('train', 'practice'))
  found = source(e, train, behaviors(len(train)))
  more = dataclasses.replace(
    source(e, practice, behaviors(len(practice))), labels=None, explained_N=None
  )
  args = e.runs['kl'], base_model.format(e), context.questions(e), found
  parts = examples.training_parts(*args, more)
  alone = examples.training_parts(*args, None)
  assert len(parts['behavior'][0]['tokens']) == 2 * (len(train) + len(practice))
  for name, rows in alone['explanation'][0].items():
    np.testing.assert_array_equal(parts['explanation'][0][name], rows)
  for name, rows in alone['behavior'][0].items():
    joined = parts['behavior'][0][name]
    np.testing.assert_array_equal(joined[: len(rows)], rows)
    assert joined.shape[1:] == rows.shape[1:]


def test_an_unknown_preference_is_named(tmp_path):
  with pytest.raises(ValueError, match="'rotat'"):
    e = experiment(target='rotat')
    behavior_shift.scores(e.runs['kl'].objectives.behavior_xent, e.task, SEED, [])


def test_a_kl_on_the_counterfactual_alone_holds_no_x(tmp_path):
  e = experiment(target='follow_cue', cues='src3')
  objectives = dataclasses.replace(
    e.runs['kl'].objectives,
    behavior_kl=dataclasses.replace(
      e.runs['kl'].objectives.behavior_kl, prompts='counterfactual'
    ),
  )
  made = pairs_of(e, tmp_path)
  found = source(e, made, behaviors(len(made)))
  rows, _ = examples.training_parts(
    dataclasses.replace(e.runs['kl'], objectives=objectives),
    base_model.format(e),
    context.questions(e),
    found,
    None,
  )['behavior']
  held_2N = rows['mask'][:, 0]
  assert not held_2N[: len(made)].any() and held_2N[len(made) :].all()


def test_a_cue_against_its_option_is_not_followed(tmp_path):
  e = experiment(target='follow_cue')
  made = pairs_of(e, tmp_path)
  template = dataclasses.replace(context.questions(e), against=('src3',))
  objective = e.runs['kl'].objectives.behavior_xent
  found = behavior_shift.make(
    objective, template, made, np.zeros(len(made)), None, None
  )
  for pair, shifted, target_K in zip(
    made, found.shifted_Nx2[:, 0], found.target_Nx2xK[:, 0]
  ):
    assert shifted == (pair.cue_kind != 'src3')
    assert target_K.sum() == shifted and (not shifted or target_K[pair.cue_option] == 1)
