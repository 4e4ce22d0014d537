"""Every family against `transformers`: logits, greedy generations, config.json."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
import torch

from coupling.checkpoints import families
from coupling.checkpoints import hub
from coupling.model import decoder
from coupling.model import generate
from coupling.model import speculative
from data import packing
from data import tokens as tokens_lib
from data import trees
from tests import small_checkpoints

# Longer than every window, and than the length from which Llama's RoPE is stretched.
B, T, P, G = 4, 96, 24, 64
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
def test_greedy_generations_are_those_of_transformers(name):
  """Prompts longer than the window, padded left, right and on both sides."""
  config, params, _ = case(name)
  _, model = small_checkpoints.saved(name)
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
def test_a_config_goes_there_and_back(name):
  folder, model = small_checkpoints.saved(name)
  raw = hub.read_config(folder)
  config = families.from_hf(raw)
  for like in (None, raw):
    there = families.to_hf(config, like)
    assert families.from_hf(there) == config
    again = type(model.config).from_dict(there)
    same = small_checkpoints.torch_model(again)
    want = small_checkpoints.torch_logits(model, TOKENS_BxT, VALID_BxT)
    found = small_checkpoints.torch_logits(same, TOKENS_BxT, VALID_BxT)
    np.testing.assert_array_equal(found, want)
  assert there.items() >= {'max_position_embeddings': 512}.items()
  assert there['architectures'] == [type(model).__name__]


HUB_STYLE = {  # as the hub's files say it, before transformers 5
  'llama': {
    'rope_theta': 10_000.0,
    'rope_scaling': small_checkpoints.CONFIGS['llama']().rope_parameters,
  },
  'gemma3': {
    'layer_types': None,
    'sliding_window_pattern': 2,
    'rope_theta': 1e4,
    'rope_local_base_freq': 100.0,
    'rope_scaling': {'rope_type': 'linear', 'factor': 8.0},
  },
}


@pytest.mark.parametrize('name', HUB_STYLE)
def test_older_config_files_say_the_same(name):
  raw = hub.read_config(small_checkpoints.saved(name)[0])
  older = {k: v for k, v in raw.items() if k != 'rope_parameters'} | HUB_STYLE[name]
  assert families.from_hf(older) == families.from_hf(raw)


def test_a_multimodal_gemma_gives_its_language_model():
  """As on the hub: what is default is left out of the file."""
  raw = {
    'model_type': 'gemma3',
    'text_config': {
      'hidden_size': 2560,
      'intermediate_size': 10_240,
      'num_hidden_layers': 34,
      'rope_scaling': {'factor': 8.0, 'rope_type': 'linear'},
      'sliding_window': 1024,
    },
    'vision_config': {'hidden_size': 1152},
  }
  config = families.from_hf(raw)
  assert (config.num_heads, config.num_kv_heads, config.head_dim) == (8, 4, 256)
  assert (config.vocab_size, config.window) == (262_208, 1024)
  assert config.full_layers == (5, 11, 17, 23, 29)
  assert (config.rope_theta, config.window_rope_theta) == (1e6, 1e4)
  assert config.rope_scaling.factor == 8.0
  assert config.tied_head


_YARN = {'rope_type': 'yarn', 'factor': 2.0}


@pytest.mark.parametrize(
  ('name', 'change', 'message'),
  [
    ('llama', {'model_type': 'gpt2'}, "model_type='gpt2' is not among.*qwen3"),
    ('qwen2', {'attention_bias': True}, 'attention_bias=True.*only False'),
    ('qwen3', {'mlp_bias': True}, 'mlp_bias=True'),
    ('phi3', {'partial_rotary_factor': 0.7, 'head_dim': 10}, 'partial_rotary_factor'),
    (
      'phi3',
      {
        'rope_scaling': {
          'type': 'longrope',
          'short_factor': [1.0] * 2,
          'long_factor': [2.0] * 2,
        }
      },
      "rope_type.*'longrope'.*supported are default",
    ),
    ('llama', {'hidden_size': None}, 'hidden_size=None.*a value is needed'),
    ('llama', {'hidden_act': 'gelu_new'}, "hidden_act='gelu_new'.*silu"),
    ('llama', {'quantization_config': {'bits': 4}}, 'quantization_config'),
    ('llama', {'rope_scaling': {'type': 'dynamic', 'factor': 2.0}}, "rope_type.*'dyn"),
    ('llama', {'rope_scaling': _YARN | {'mscale': 0.7}}, 'no mscale'),
    ('llama', {'rope_scaling': _YARN | {'truncate': False}}, 'truncate=False'),
    ('llama', {'rope_scaling': _YARN | {'beta_slow': 32.0}}, 'beta_fast must be'),
    (
      'llama',
      {'rope_parameters': None, 'rope_scaling': {'rope_type': 'linear'}},
      'rope_parameters.*linear.*factor',
    ),
    ('llama', {'rope_parameters': {'partial_rotary_factor': 0.5}}, 'partial rotation'),
    ('qwen3', {'rope_parameters': {'full_attention': {}}}, 'one set for all layers'),
    ('qwen3', {'partial_rotary_factor': 0.5}, 'partial_rotary_factor=0.5'),
    ('qwen2_windowed', {'layer_types': ['chunked_attention'] * 3}, 'layer_types'),
    ('qwen2_windowed', {'layer_types': ['full_attention']}, 'layer_types.*3 of'),
    ('gemma3', {'attn_logit_softcapping': 50.0}, 'attn_logit_softcapping=50.0'),
    ('gemma3', {'final_logit_softcapping': 30.0}, 'final_logit_softcapping=30.0'),
    ('gemma3', {'use_bidirectional_attention': True}, 'use_bidirectional_attention'),
    ('gemma3', {'sliding_window': None}, 'sliding_window=None'),
    (
      'gemma3',
      {
        'rope_parameters': {'sliding_attention': {'rope_type': 'linear', 'factor': 2.0}}
      },
      'without scaling',
    ),
  ],
  ids=str,
)
def test_other_arithmetic_is_refused_by_file_field_and_remedy(name, change, message):
  raw = hub.read_config(small_checkpoints.saved(name)[0]) | change
  with pytest.raises(families.CheckpointError, match=f'(?s)^a/config.json.*{message}'):
    families.from_hf(raw, 'a/config.json')


def test_a_decoder_of_no_family_is_not_written():
  world = dataclasses.replace(case('llama')[0], learned_positions=9, gated_mlp=False)
  with pytest.raises(
    families.CheckpointError, match='no family.*gated_mlp=False, lear'
  ):
    families.to_hf(world)
  raw = hub.read_config(small_checkpoints.saved('llama')[0])
  with pytest.raises(families.CheckpointError, match='like.*llama.*num_heads=2'):
    families.to_hf(dataclasses.replace(case('llama')[0], num_heads=2), raw)


def test_the_types_are_the_users_choice():
  raw = hub.read_config(small_checkpoints.saved('qwen3')[0])
  config = families.from_hf(raw, dtype='bfloat16', param_dtype='bfloat16')
  types = {x.dtype.name for x in jax.tree.leaves(decoder.abstract(config))}
  assert types == {'bfloat16'}
  assert families.to_hf(config, raw)['torch_dtype'] == 'bfloat16'


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
