"""Every family's logits against `transformers`, and in packed trees."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from coupling.model import decoder
from data import packing
from data import tokens as tokens_lib
from data import trees
from tests import small_checkpoints

# Longer than every window, and than the length from which Llama's RoPE is stretched.
B, T = 4, 96
TOKENS_BxT = np.random.default_rng(0).integers(
  small_checkpoints.VOCABULARY, size=(B, T)
)


def padded(length, left, right):
  """bool [B, length]: a row unpadded, one padded on each side, and one on both."""
  valid_BxT = np.ones((B, length), bool)
  valid_BxT[1, :left] = valid_BxT[3, :left] = False
  valid_BxT[2, length - right :] = valid_BxT[3, length - right :] = False
  return valid_BxT


VALID_BxT = padded(T, 11, 13)
logits = jax.jit(small_checkpoints.logits, static_argnums=0)


@functools.cache
def case(name):
  folder, model = small_checkpoints.saved(name)
  config, params = small_checkpoints.imported(folder)
  return config, params, small_checkpoints.torch_logits(model, TOKENS_BxT, VALID_BxT)


@pytest.mark.parametrize('name', small_checkpoints.CONFIGS)
def test_logits_are_those_of_transformers(name):
  config, params, want_BxTxV = case(name)
  found_BxTxV = logits(config, params, TOKENS_BxT, VALID_BxT)
  assert small_checkpoints.worst_relative(found_BxTxV, want_BxTxV, VALID_BxT) < 2e-4


@pytest.mark.parametrize(
  ('name', 'without'),
  [
    ('llama', {'rope_scaling': None}),
    ('llama', {'rope_theta': 20_000.0}),
    ('mistral', {'window': 0}),
    ('mistral', {'window': 8}),
    ('qwen2', {'rope_theta': 10_000.0}),
    ('qwen2_windowed', {'window': 0, 'full_layers': ()}),
    ('qwen2_windowed', {'full_layers': ()}),
    ('gemma3', {'window': 0, 'full_layers': ()}),
    ('gemma3', {'full_layers': (0,)}),
    ('gemma3', {'window_rope_theta': 0.0}),
    ('gemma3', {'rope_scaling': None}),
    ('gemma3', {'attention_multiplier': 0.0}),
    ('gemma3', {'offset_norms': False}),
    ('gemma3', {'embedding_multiplier': 1.0}),
    ('gemma3', {'activation': 'silu'}),
    ('olmo3', {'window': 0, 'full_layers': ()}),
    ('olmo3', {'full_layers': (0,)}),
    ('olmo3', {'window_rope_theta': 0.0}),
    ('olmo3', {'rope_scaling': None}),
    ('smollm3', {'no_rope_layers': ()}),
    ('smollm3', {'no_rope_layers': (0,)}),
    ('phi3', {'rotary_dims': 0}),
    ('phi3', {'window': 0}),
    ('phi3_longrope', {'rope_scaling': None}),
    ('phi3_longrope', {'long_context': True}),
    ('qwen3_moe', {'experts_per_token': 1}),
    ('qwen3_moe', {'norm_expert_shares': False}),
    ('granite', {'embedding_multiplier': 1.0}),
    ('granite', {'residual_multiplier': 1.0}),
    ('granite', {'attention_multiplier': 0.0}),
    ('granite', {'logits_divisor': 1.0}),
  ],
  ids=str,
)
def test_what_sets_a_family_apart_matters(name, without):
  """Parity would fail without it: these checkpoints do exercise it."""
  config, params, want_BxTxV = case(name)
  config = dataclasses.replace(config, **without)
  found_BxTxV = logits(config, params, TOKENS_BxT, VALID_BxT)
  assert small_checkpoints.worst_relative(found_BxTxV, want_BxTxV, VALID_BxT) > 1e-2


@pytest.mark.parametrize(
  ('name', 'part'),
  [
    ('qwen2', 'bias'),
    ('qwen3', 'q_norm'),
    ('qwen3', 'k_norm'),
    ('qwen3_moe', 'router'),
    ('qwen3_moe', 'experts'),
    ('gemma3', 'attention_post_norm'),
    ('gemma3', 'mlp_post_norm'),
    ('llama_biased', 'bias'),
    ('olmo2', 'attention_post_norm'),
    ('olmo2', 'mlp_post_norm'),
    ('olmo2', 'q_norm'),
    ('olmo2', 'k_norm'),
  ],
)
def test_weights_that_set_a_family_apart_matter(name, part):
  config, params, want_BxTxV = case(name)
  doubled = jax.tree_util.tree_map_with_path(
    lambda path, x: 2 * x if part in {key.key for key in path} else x, params
  )
  found_BxTxV = logits(config, doubled, TOKENS_BxT, VALID_BxT)
  assert small_checkpoints.worst_relative(found_BxTxV, want_BxTxV, VALID_BxT) > 1e-2


@pytest.mark.parametrize('name', small_checkpoints.CONFIGS)
def test_sequences_of_packed_trees_have_the_logits_that_they_have_alone(name):
  """Three trees in two rows; sequences longer than every window."""
  config, params, _ = case(name)
  rng = np.random.default_rng(3)
  draw = lambda n: rng.integers(small_checkpoints.VOCABULARY, size=n).tolist()
  groups = []
  for _ in range(3):
    start = draw(12)
    fork = start + draw(4)
    groups.append([start + draw(8), fork + draw(9), fork + draw(3), start])
  found, places = trees.build(groups)
  length = int(2.5 * found.size.max())
  row_n, offset_n = packing.arrange(found.size, length)
  assert row_n.max() == 1
  rows = packing.pack(found, row_n, offset_n, (2, length))

  @jax.jit
  def packed_logits(params, rows):
    return decoder.unembed(config, params, decoder.apply_trees(config, params, rows))

  packed_RxTxV = np.asarray(packed_logits(params, rows))
  flat = [sequence for group in groups for sequence in group]
  valid_MxT = np.arange(max(map(len, flat))) < np.array([len(x) for x in flat])[:, None]
  tokens_MxT = tokens_lib.pad(flat, valid_MxT.shape[1], 0)
  alone_MxTxV = np.asarray(logits(config, params, tokens_MxT, valid_MxT))
  m = 0
  for group, place, row, offset in zip(groups, places, row_n, offset_n):
    for sequence, where in zip(group, place):
      found_TxV = packed_RxTxV[row, offset + where]
      want_TxV = alone_MxTxV[m, : len(sequence)]
      worst = np.abs(found_TxV - want_TxV).max() / np.abs(want_TxV).max()
      assert worst < 2e-5
      m += 1
