"""Every family's config.json: there and back, as older files say it, or refused."""

import dataclasses

import jax
import numpy as np
import pytest

from coupling.checkpoints import families
from coupling.checkpoints import hub
from coupling.model import decoder
from tests import small_checkpoints
from tests.checkpoints.test_families import TOKENS_BxT, VALID_BxT, case


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


_LONG = {'type': 'longrope', 'short_factor': [1.0] * 8, 'long_factor': [2.0] * 8}
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
      'short_factor.*6 positive numbers',
    ),
    ('llama', {'rope_scaling': _LONG | {'short_factor': [1.0] * 7}}, 'short_f.*8 pos'),
    ('llama', {'rope_scaling': _LONG | {'long_factor': [0.0] * 8}}, 'long_f.*8 pos'),
    ('qwen3_moe', {'mlp_only_layers': [0, 2]}, r'mlp_only_layers=\[0, 2\].*beside'),
    ('qwen3_moe', {'decoder_sparse_step': 2}, 'decoder_sparse_step=2.*beside'),
    ('qwen3_moe', {'num_experts_per_tok': 6}, 'num_experts_per_tok=6.*5 experts'),
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


def test_long_factors_are_for_models_that_have_them():
  raw = hub.read_config(small_checkpoints.saved('phi3')[0])
  with pytest.raises(families.CheckpointError, match='base.long_context.*LongRoPE'):
    families.from_hf(raw, long_context=True)


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
