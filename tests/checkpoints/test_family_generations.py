"""Every family's greedy generations: of `transformers`, of trees, of drafts."""

import jax
import numpy as np
import pytest
import torch

from coupling.model import generate
from coupling.model import speculative
from data import trees
from tests import small_checkpoints
from tests.checkpoints.test_families import B, TOKENS_BxT, VALID_BxT
from tests.checkpoints.test_families import case, logits, padded

P, G = 24, 64  # P is longer than every window


def check_greedy(model, config, params):
  """Prompts longer than the window, padded left, right and on both sides."""
  valid_BxP = padded(P, 7, 5)
  length_B = valid_BxP.sum(axis=1)
  tokens_BxP, left_BxP = TOKENS_BxT[:, :P], np.zeros((B, P), int)
  for b in range(B):  # transformers generates after left padding only
    left_BxP[b, P - length_B[b] :] = tokens_BxP[b, valid_BxP[b]]
  left_valid_BxP = np.arange(P) >= P - length_B[:, None]
  want_BxG = model.generate(
    torch.tensor(left_BxP),
    attention_mask=torch.tensor(left_valid_BxP).long(),
    max_new_tokens=G,
    do_sample=False,
    pad_token_id=0,
  ).numpy()[:, P:]

  @jax.jit
  def greedy(params, tokens, valid):
    begun, _ = generate.begin(
      config, params, generate.of_rows(tokens, valid), small_checkpoints.MESH
    )
    return generate.greedy(
      config, params, begun, small_checkpoints.MESH, max_new_tokens=G
    )

  for tokens, valid in ((tokens_BxP, valid_BxP), (left_BxP, left_valid_BxP)):
    np.testing.assert_array_equal(greedy(params, tokens, valid), want_BxG)
  assert len({tuple(row) for row in want_BxG}) == B
  assert min(len(set(row)) for row in want_BxG) > 3  # no row repeats itself


@pytest.mark.parametrize('name', small_checkpoints.CONFIGS)
def test_greedy_generations_are_those_of_transformers(name):
  config, params, _ = case(name)
  check_greedy(small_checkpoints.saved(name)[1], config, params)


def test_texts_beyond_longropes_length_rotate_by_long_factors(tmp_path):
  model = small_checkpoints.torch_model(small_checkpoints.phi3_longrope(8))
  model.save_pretrained(tmp_path)
  config, params = small_checkpoints.imported(tmp_path, long_context=True)
  want_BxTxV = small_checkpoints.torch_logits(model, TOKENS_BxT, VALID_BxT)
  found_BxTxV = logits(config, params, TOKENS_BxT, VALID_BxT)
  assert small_checkpoints.worst_relative(found_BxTxV, want_BxTxV, VALID_BxT) < 2e-4
  check_greedy(model, config, params)


@pytest.mark.parametrize('name', small_checkpoints.CONFIGS)
def test_a_branch_is_continued_as_it_is_alone(name):
  """Longer than the window, with branches before and after it."""
  config, params, _ = case(name)
  rng = np.random.default_rng(4)
  draw = lambda n: rng.integers(small_checkpoints.VOCABULARY, size=n).tolist()
  start = draw(14)
  groups = [[start + draw(6), start + draw(9), start + draw(3)] for _ in range(3)]
  found, places = trees.build(groups)

  @jax.jit
  def in_tree(params, last_B):
    prompts = generate.in_trees(found.rows, last_B)
    begun, _ = generate.begin(config, params, prompts, small_checkpoints.MESH)
    return generate.greedy(
      config, params, begun, small_checkpoints.MESH, max_new_tokens=G
    )

  @jax.jit
  def alone(params, tokens_BxT):
    prompts = generate.of_rows(tokens_BxT, np.ones(tokens_BxT.shape, bool))
    begun, _ = generate.begin(config, params, prompts, small_checkpoints.MESH)
    return generate.greedy(
      config, params, begun, small_checkpoints.MESH, max_new_tokens=G
    )

  for branch in range(3):
    last_B = np.array([place[branch][-1] for place in places])
    want_BxG = alone(params, np.array([group[branch] for group in groups]))
    np.testing.assert_array_equal(in_tree(params, last_B), want_BxG)


@pytest.mark.parametrize('name', small_checkpoints.CONFIGS)
def test_drafts_are_followed_as_far_as_they_are_greedy(name):
  """One row's second draft is what it would say; of another's, neither is."""
  config, params, _ = case(name)
  tokens_BxT, valid_BxT = TOKENS_BxT[:2, :P], np.ones((2, P), bool)
  how, mesh, N = dict(end_tokens=(), fill=0), small_checkpoints.MESH, 12

  @jax.jit
  def begun(params):
    prompts = generate.of_rows(tokens_BxT, valid_BxT)
    return generate.begin(config, params, prompts, mesh)[0]

  @jax.jit
  def alone(params):
    found = begun(params)
    return generate.greedy(config, params, found, mesh, max_new_tokens=N, **how)

  @jax.jit
  def by_drafts(params, drafts):
    found = begun(params)
    followed = speculative.follow(config, params, found, drafts, **how)
    said_BxN, _ = speculative.greedy_from_drafts(
      config, params, found, drafts, mesh, **how
    )
    return followed.found_B, said_BxN

  want_BxN = np.asarray(alone(params))
  other_BxN = want_BxN.copy()
  other_BxN[:, 7] = (other_BxN[:, 7] + 1) % small_checkpoints.VOCABULARY
  second_BxN = np.stack([want_BxN[0], other_BxN[1][::-1]])
  drafts = speculative.make_drafts(np.stack([other_BxN, second_BxN], axis=1), ())
  found_B, said_BxN = by_drafts(params, drafts)
  assert found_B.tolist() == [True, False]
  np.testing.assert_array_equal(said_BxN, want_BxN)
