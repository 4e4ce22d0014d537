"""What a config.json may say: read as `transformers` reads it, or refused in a line."""

import inspect
import json
import re

import numpy as np
import pytest
import torch
import transformers
from transformers import masking_utils

from coupling.checkpoints import families
from coupling.checkpoints import hub
from tests import small_checkpoints

TOKENS_BxT = np.random.default_rng(0).integers(
  small_checkpoints.VOCABULARY, size=(2, 40)
)
VALID_BxT = np.ones((2, 40), bool)
LLAMA3 = {'factor': 8.0, 'low_freq_factor': 1.0, 'high_freq_factor': 4.0}
YARN = {'type': 'yarn', 'factor': 4.0}
LONG = {
  'type': 'longrope',
  'short_factor': [1, 1.5, 2, 3, 4, 5, 6, 7.0],
  'long_factor': [9.0] * 8,
  'original_max_position_embeddings': 64,
}
LONG_SIX = LONG | {'short_factor': [1, 1.5, 2, 3, 4, 5], 'long_factor': [9.0] * 6}
WINDOWED = {'use_sliding_window': True, 'sliding_window': 9}
SLIDES, SEES_ALL = 'sliding_attention', 'full_attention'
# Family and what its config.json says otherwise; '-' is left out.
SAYS = [
  ('llama', {'rope_parameters': '-'}),
  ('llama', {'rope_parameters': '-', 'rope_theta': 77}),
  ('llama', {'rope_parameters': '-', 'rope_scaling': None, 'rope_theta': 77.0}),
  ('llama', {'rope_scaling': {'type': 'linear', 'factor': 3}}),
  ('llama', {'rope_scaling': {'type': 'linear', 'factor': 3.0}, 'rope_theta': 77.0}),
  ('llama', {'rope_scaling': {'rope_theta': 7.0}}),
  ('llama', {'rope_scaling': {}, 'rope_theta': 50.0}),
  ('llama', {'rope_parameters': {'rope_theta': 60.0}, 'rope_theta': 50.0}),
  ('llama', {'rope_parameters': {'rope_type': 'linear', 'factor': 2.0}}),
  (
    'llama',
    {'rope_scaling': {'rope_type': 'llama3', **LLAMA3}, 'max_position_embeddings': 16},
  ),
  (
    'llama',
    {
      'rope_scaling': {'rope_type': 'llama3', **LLAMA3},
      'original_max_position_embeddings': 16,
    },
  ),
  ('llama', {'rope_scaling': YARN, 'max_position_embeddings': 16}),
  ('llama', {'rope_scaling': YARN, 'original_max_position_embeddings': 16}),
  (
    'qwen3',
    {'rope_scaling': YARN | {'attention_factor': 1.5, 'beta_fast': 5, 'beta_slow': 2}},
  ),
  ('llama', {'num_key_value_heads': 4}),
  ('llama', {'sliding_window': 5, 'layer_types': [SLIDES] * 3}),
  ('llama', {'hidden_act': 'relu', 'rms_norm_eps': 0.5}),
  ('llama', {'attention_multiplier': 0.1, 'logit_scale': 3.0, 'pretraining_tp': 2}),
  ('llama', {'dtype': 'bfloat16', 'torch_dtype': 'float16'}),
  ('mistral', {'sliding_window': None}),
  ('mistral', {'sliding_window': '-'}),
  ('mistral', {'layer_types': [SEES_ALL] * 3}),
  ('mistral', {'layer_types': [SEES_ALL, SLIDES, SEES_ALL]}),
  ('mistral', {'layer_types': None}),
  ('qwen2', {'sliding_window': 5, 'max_window_layers': 0}),
  ('qwen2', WINDOWED | {'max_window_layers': 0, 'layer_types': '-'}),
  ('qwen2', WINDOWED | {'max_window_layers': 2, 'layer_types': None}),
  ('qwen2', WINDOWED | {'max_window_layers': '-', 'layer_types': None}),
  ('qwen3', WINDOWED | {'layer_types': [SEES_ALL, SLIDES, SEES_ALL]}),
  ('qwen3', {'use_sliding_window': True, 'sliding_window': None, 'layer_types': None}),
  ('gemma3', {'layer_types': '-', 'sliding_window_pattern': 2}),
  ('gemma3', {'layer_types': '-'}),
  ('gemma3', {'layer_types': '-', 'sliding_window_pattern': 1}),
  ('gemma3', {'rope_parameters': '-'}),
  (
    'gemma3',
    {'rope_parameters': None, 'rope_theta': 50.0, 'rope_local_base_freq': 9.0},
  ),
  ('gemma3', {'rope_parameters': {}, 'rope_local_base_freq': 9.0}),
  ('gemma3', {'rope_parameters': {SLIDES: {'rope_theta': 9.0}}}),
  ('gemma3', {'rope_parameters': {'rope_type': 'linear', 'factor': 2.0}}),
  ('gemma3', {'query_pre_attn_scalar': '-'}),
  ('olmo3', {'layer_types': '-', 'num_hidden_layers': 5}),
  ('olmo3', {'rope_parameters': '-'}),
  (
    'olmo3',
    {'rope_parameters': '-', 'rope_theta': 60.0, 'rope_scaling': YARN},
  ),
  ('olmo2', {'rope_parameters': '-', 'rope_theta': 50.0}),
  *(
    (name, {'attention_bias': True})
    for name in (
      *('llama', 'qwen3', 'qwen3_moe', 'gemma3', 'olmo2', 'olmo3', 'smollm3'),
      'granite',
    )
  ),
  *((name, {'mlp_bias': True}) for name in ('llama', 'smollm3', 'granite')),
  ('phi3', {'rope_parameters': '-', 'rope_theta': 60.0, 'sliding_window': None}),
  ('phi3', {'rope_parameters': {'partial_rotary_factor': 0.25, 'rope_theta': 9.0}}),
  ('phi3', {'rope_parameters': '-', 'partial_rotary_factor': 0.5}),
  ('smollm3', {'no_rope_layers': '-', 'layer_types': '-', 'num_hidden_layers': 5}),
  (
    'smollm3',
    WINDOWED | {'no_rope_layers': '-', 'layer_types': '-', 'no_rope_layer_interval': 2},
  ),
  ('smollm3', {'no_rope_layers': [0, 1, 1, 0], 'rope_scaling': YARN}),
  ('granite', {'logits_scaling': '-', 'attention_multiplier': 1}),
  ('qwen3_moe', WINDOWED | {'norm_topk_prob': False, 'layer_types': [SEES_ALL] * 3}),
  ('qwen3_moe', {'num_local_experts': '-', 'num_experts': 7, 'mlp_only_layers': None}),
  ('llama', {'rope_scaling': LONG}),
  ('llama', {'rope_scaling': LONG | {'factor': 3.0}}),
  ('phi3_longrope', {'rope_scaling': LONG_SIX | {'attention_factor': 1.4}}),
  ('phi3_longrope', {'rope_scaling': LONG_SIX | {'type': 'su'}}),
]


def says(name, change, folder):
  """A checkpoint of that family with another config.json, seed 0's weights."""
  source, _ = small_checkpoints.saved(name)
  raw = hub.read_config(source) | change
  raw = {k: x for k, x in raw.items() if x != '-'}
  config = type(small_checkpoints.CONFIGS[name]()).from_dict(
    json.loads(json.dumps(raw))
  )
  small_checkpoints.torch_model(config).save_pretrained(folder)
  (folder / hub.CONFIG).write_text(json.dumps(raw))
  return folder


@pytest.mark.parametrize(('name', 'change'), SAYS, ids=str)
def test_a_config_is_read_as_transformers_reads_it(name, change, tmp_path):
  folder = says(name, change, tmp_path)
  model = transformers.AutoModelForCausalLM.from_pretrained(
    folder, dtype=torch.float32, attn_implementation='eager'
  ).eval()
  want = small_checkpoints.torch_logits(model, TOKENS_BxT, VALID_BxT)
  found = small_checkpoints.logits(
    *small_checkpoints.imported(folder), TOKENS_BxT, VALID_BxT
  )
  assert small_checkpoints.worst_relative(found, want, VALID_BxT) < 2e-4


# Fields that the modelling code of transformers reads and that change no logits here.
NO_MATTER = {
  'attention_dropout',  # of training
  'resid_pdrop',
  'pad_token_id',  # its embedding's gradient
  '_attn_implementation',
  'image_token_id',
  'mm_tokens_per_image',
  'vision_config',
  'text_config',
  'get_text_config',
  'attention_chunk_size',  # of chunked layers, which layer_types would name
  'layer_types',
  'max_position_embeddings',
  'router_aux_loss_coef',  # of training
  'output_router_logits',
  'initializer_range',  # of a new model
}
READ_HERE = {
  'hidden_act',
  'hidden_activation',
  'hidden_size',
  'intermediate_size',
  'num_attention_heads',
  'num_hidden_layers',
  'num_key_value_heads',
  'head_dim',
  'rms_norm_eps',
  'rope_parameters',
  'vocab_size',
  'sliding_window',
  'query_pre_attn_scalar',
  'no_rope_layers',
  'partial_rotary_factor',
  'use_sliding_window',
  'original_max_position_embeddings',
  'moe_intermediate_size',
  'num_experts',
  'num_experts_per_tok',
  'norm_topk_prob',
  'decoder_sparse_step',
  'mlp_only_layers',
  'embedding_multiplier',
  'residual_multiplier',
  'attention_multiplier',
  'logits_scaling',
}
REFUSED = {
  'attention_bias',
  'mlp_bias',
  'attn_logit_softcapping',
  'final_logit_softcapping',
  'use_bidirectional_attention',
  'is_causal',
}


@pytest.mark.parametrize('name', small_checkpoints.CONFIGS)
def test_every_field_that_the_models_of_transformers_read_is_known(name):
  """Fails when a version of transformers reads another: is it followed, or refused?"""
  _, model = small_checkpoints.saved(name)
  source = inspect.getsource(inspect.getmodule(type(model)))
  source += inspect.getsource(masking_utils)
  read = set(re.findall(r'config\.(\w+)', source))
  read |= set(re.findall(r'getattr\([\w.]*config, *"(\w+)"', source))
  assert read <= NO_MATTER | READ_HERE | REFUSED


MALFORMED = [
  *(
    (name, {field: value}, field)
    for name in ('llama', 'qwen3', 'gemma3')
    for field in ('hidden_size', 'num_hidden_layers', 'intermediate_size')
    for value in ('24', 24.0, 0, -1, True, [24], {'a': 1}, None, '-')
  ),
  *(
    ('llama', {field: value}, field)
    for field in (
      'num_attention_heads',
      'vocab_size',
      'num_key_value_heads',
      'head_dim',
    )
    for value in ('4', 4.0, 0, -4, True)
  ),
  ('llama', {'num_key_value_heads': 3}, 'num_key_value_heads'),
  ('llama', {'num_key_value_heads': 8}, 'num_key_value_heads'),
  ('llama', {'num_attention_heads': 5}, 'attention heads (5)'),
  ('llama', {'head_dim': 15}, 'head_dim'),
  *(
    ('llama', {'rms_norm_eps': x}, 'rms_norm_eps')
    for x in ('1e-6', -1, None, True, [1])
  ),
  *(
    ('llama', {'rope_parameters': '-', 'rope_theta': x}, 'rope_theta')
    for x in ('1e4', 0, -1, None, True)
  ),
  *(
    ('llama', {field: x}, field)
    for field in ('rope_scaling', 'rope_parameters')
    for x in ('linear', 7, ['linear'], True)
  ),
  *(
    ('llama', {'rope_scaling': {'rope_type': 'linear', 'factor': x}}, 'factor')
    for x in ('2', 0, -2, None, True, [2])
  ),
  *(
    ('llama', {'rope_scaling': {'rope_type': x, 'factor': 2.0}}, 'rope_type')
    for x in ('dynamic', 'longrope', 'mine', 7, None, ['linear'])
  ),
  (
    'llama',
    {'rope_scaling': {'rope_type': 'llama3', **LLAMA3, 'high_freq_factor': 1.0}},
    'high_freq_factor',
  ),
  (
    'llama',
    {'rope_scaling': {'rope_type': 'llama3', 'factor': 8.0}},
    'low_freq_factor',
  ),
  *(
    ('llama', {'tie_word_embeddings': x}, 'tie_word_embeddings')
    for x in ('no', None, 1)
  ),
  *(
    ('llama', {'hidden_act': x}, 'hidden_act') for x in ('gelu_new', 7, None, ['silu'])
  ),
  *(
    ('llama', {'model_type': x}, 'model_type')
    for x in ('gpt2', 7, None, '-', ['llama'])
  ),
  *(
    ('mistral', {'sliding_window': x}, 'sliding_window')
    for x in ('9', 0, -1, True, 9.0)
  ),
  *(
    ('qwen2_windowed', {'layer_types': x}, 'layer_types')
    for x in ('full', [7] * 3, [SLIDES], [None] * 3, {'a': 1}, ['linear_attention'] * 3)
  ),
  *(('qwen2_windowed', {'use_sliding_window': x}, 'use_sliding') for x in ('yes', 1)),
  ('qwen2', {'layer_types': [SLIDES] * 3}, 'sliding_window'),
  ('qwen2', {'layer_types': None, **WINDOWED, 'max_window_layers': '1'}, 'max_window'),
  ('qwen2', {'layer_types': None, **WINDOWED, 'max_window_layers': -1}, 'max_window'),
  ('gemma3', {'query_pre_attn_scalar': 0}, 'query_pre_attn_scalar'),
  (
    'gemma3',
    {'layer_types': '-', 'sliding_window_pattern': 0},
    'sliding_window_pattern',
  ),
  ('gemma3', {'rope_parameters': {SLIDES: 'default'}}, SLIDES),
  ('gemma3', {'rope_parameters': {SEES_ALL: {'rope_theta': '1'}}}, 'rope_theta'),
  *(
    ('llama', {'rope_scaling': YARN | {x: 0}}, x)
    for x in ('beta_fast', 'beta_slow', 'attention_factor')
  ),
  *(
    ('smollm3', {'no_rope_layers': x}, 'no_rope_layers')
    for x in ([1, 0], [1, 0, 2], 'all', [1, 0, None])
  ),
  ('smollm3', {'layer_types': [SLIDES] * 3, 'sliding_window': 9}, 'use_sliding_window'),
  ('smollm3', {'no_rope_layers': '-', 'no_rope_layer_interval': 0}, 'interval'),
  *(
    ('phi3', {'rope_parameters': '-', 'partial_rotary_factor': x}, 'partial_rotary')
    for x in (0, 1.5, '1')
  ),
  *(
    ('granite', {field: x}, field)
    for field in ('residual_multiplier', 'attention_multiplier', 'logits_scaling')
    for x in (0, -1.0, '2')
  ),
  *(
    ('qwen3_moe', {field: x}, field)
    for field in ('moe_intermediate_size', 'num_experts_per_tok', 'decoder_sparse_step')
    for x in (0, -1, '2', 2.0)
  ),
  ('qwen3_moe', {'num_local_experts': 0}, 'num_local_experts'),
  *(('qwen3_moe', {'mlp_only_layers': x}, 'mlp_only') for x in ('1', 1, ['a'])),
  ('qwen3_moe', {'norm_topk_prob': 'yes'}, 'norm_topk_prob'),
  ('llama', {'is_causal': False}, 'is_causal'),
  ('llama', {'per_layer_config': {'0': {}}}, 'per_layer_config'),
  ('llama', {'configuration_files': ['config.4.json']}, 'configuration_files'),
  ('llama', {'fusion_config': {'a': True}}, 'fusion_config'),
  *(('gemma3_multimodal', {'text_config': x}, 'text_config') for x in ('a', [1], 7)),
  ('gemma3_multimodal', {'text_config': None}, 'text_config'),
  ('gemma3_multimodal', {'quantization_config': {'bits': 4}}, 'quantization_config'),
  ('gemma3_multimodal', {'tie_word_embeddings': 'no'}, 'tie_word_embeddings'),
]


@pytest.mark.parametrize(('name', 'change', 'field'), MALFORMED, ids=str)
def test_a_malformed_config_is_told_in_a_line(name, change, field, tmp_path):
  raw = hub.read_config(small_checkpoints.saved(name)[0]) | change
  raw = {k: x for k, x in raw.items() if x != '-'}
  (tmp_path / hub.CONFIG).write_text(json.dumps(raw))
  with pytest.raises(families.CheckpointError) as e:
    hub.decoder_config(tmp_path)
  assert str(e.value).startswith(f'{tmp_path / hub.CONFIG}: ')
  assert field in str(e.value) and '\n' not in str(e.value)
