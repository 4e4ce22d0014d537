"""Small random models as GGUF files, written as llama.cpp's converter writes them.

What it does to weights and tokenizers is written down here once more, after
convert_hf_to_gguf.py, so that reading is not compared with itself.
"""

import json
import math
import pathlib

import gguf
import numpy as np
import torch
import transformers

from tests import chat_tokenizers, small_checkpoints

KINDS = gguf.GGMLQuantizationType
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
_SIZES = {
  'hidden_size': 64,
  'intermediate_size': 96,
  'num_hidden_layers': 3,
  'num_attention_heads': 4,
  'num_key_value_heads': 2,
  'max_position_embeddings': 512,
  'bos_token_id': None,
  'eos_token_id': None,
  'pad_token_id': None,
}
_LLAMA3 = {
  'rope_type': 'llama3',
  'factor': 8.0,
  'low_freq_factor': 1.0,
  'high_freq_factor': 4.0,
  'original_max_position_embeddings': 64,
}
# Family -> its config, and the tokenizer that its file has.
FAMILIES = {
  'llama': (
    lambda **v: transformers.LlamaConfig(
      **_SIZES, **v, head_dim=32, rope_theta=1e4, rope_scaling=_LLAMA3
    ),
    'llama',
  ),
  'linear': (
    lambda **v: transformers.LlamaConfig(
      **_SIZES,
      **v,
      tie_word_embeddings=True,
      rope_scaling={'rope_type': 'linear', 'factor': 4.0},
    ),
    'llama',
  ),
  'mistral': (
    lambda **v: transformers.MistralConfig(
      **_SIZES, **v, head_dim=32, rope_theta=1e6, sliding_window=9
    ),
    'mistral',
  ),
  'qwen2': (
    lambda **v: transformers.Qwen2Config(**_SIZES, **v, rope_theta=1e6),
    'qwen',
  ),
  'qwen3': (
    lambda **v: transformers.Qwen3Config(
      **_SIZES, **v, head_dim=32, rope_theta=1e6, tie_word_embeddings=True
    ),
    'qwen',
  ),
  'gemma3': (
    lambda **v: transformers.Gemma3TextConfig(
      **{**_SIZES, 'num_hidden_layers': 7},
      **v,
      head_dim=32,
      query_pre_attn_scalar=32,
      sliding_window=9,
      layer_types=5 * ['sliding_attention'] + ['full_attention', 'sliding_attention'],
      rope_parameters={
        'full_attention': {'rope_type': 'linear', 'factor': 8.0, 'rope_theta': 1e6},
        'sliding_attention': {'rope_type': 'default', 'rope_theta': 1e4},
      },
    ),
    'gemma',
  ),
}
_PRE = {'llama': 'llama-bpe', 'qwen': 'qwen2', 'mistral': 'default', 'gemma': 'default'}
_TENSORS = {
  'model.embed_tokens': 'token_embd',
  'model.norm': 'output_norm',
  'lm_head': 'output',
  'input_layernorm': 'attn_norm',
  'self_attn.q_proj': 'attn_q',
  'self_attn.k_proj': 'attn_k',
  'self_attn.v_proj': 'attn_v',
  'self_attn.o_proj': 'attn_output',
  'self_attn.q_norm': 'attn_q_norm',
  'self_attn.k_norm': 'attn_k_norm',
  'post_attention_layernorm': 'ffn_norm',
  'mlp.gate_proj': 'ffn_gate',
  'mlp.up_proj': 'ffn_up',
  'mlp.down_proj': 'ffn_down',
}
_GEMMA_TENSORS = {
  'post_attention_layernorm': 'post_attention_norm',
  'pre_feedforward_layernorm': 'ffn_norm',
  'post_feedforward_layernorm': 'post_ffw_norm',
}


def make(family: str, kind: KINDS = KINDS.F32) -> torch.nn.Module:
  """A model whose matrices can be written in this type without any loss."""
  config, tokenizer = FAMILIES[family]
  size = len(tokens(tokenizer)[0])
  model = small_checkpoints.torch_model(config(vocab_size=size))
  for p in model.parameters():
    if p.ndim == 2:
      blocks = gguf.quantize(p.detach().numpy(), kind)
      p.data = torch.tensor(gguf.dequantize(blocks, kind).reshape(p.shape))
  return model


def tensors(model: torch.nn.Module) -> dict[str, np.ndarray]:
  """The tensors of a file by name: rows of Q and K in pairs, Gemma's norms plus one."""
  c = model.config
  gemma = c.model_type == 'gemma3_text'
  names = _TENSORS | (_GEMMA_TENSORS if gemma else {})
  found = {}
  for full, p in model.named_parameters():
    name, suffix = full.rsplit('.', 1)
    if name.startswith('model.layers.'):
      parts = name.split('.', 3)
      there = f'blk.{parts[2]}.{names[parts[3]]}.{suffix}'
    else:
      there = f'{names[name]}.{suffix}'
    data = p.detach().numpy()
    if c.model_type in ('llama', 'mistral') and there.split('.')[-2] in (
      'attn_q',
      'attn_k',
    ):
      heads = c.num_attention_heads if 'attn_q' in there else c.num_key_value_heads
      halves = data.reshape(heads, 2, data.shape[0] // heads // 2, -1)
      data = halves.swapaxes(1, 2).reshape(data.shape)
    found[there] = data + 1 if gemma and there.endswith('norm.weight') else data
  if (c.rope_parameters or {}).get('rope_type') == 'llama3':
    found['rope_freqs.weight'] = _factors(c)
  return found


def _factors(c: transformers.PreTrainedConfig) -> np.ndarray:
  scaling, dim = c.rope_parameters, c.head_dim
  low, high = scaling['low_freq_factor'], scaling['high_freq_factor']
  original, factors = scaling['original_max_position_embeddings'], []
  for i in range(0, dim, 2):
    wave = 2 * math.pi * scaling['rope_theta'] ** (i / dim)
    if wave < original / high:
      factors.append(1)
    elif wave > original / low:
      factors.append(scaling['factor'])
    else:
      smooth = (original / wave - low) / (high - low)
      factors.append(1 / ((1 - smooth) / scaling['factor'] + smooth))
  return np.array(factors, np.float32)


def metadata(model: torch.nn.Module) -> dict:
  """The fields of a model's size and rotation, without the architecture's name."""
  c, rope = model.config, model.config.rope_parameters
  rope = rope.get('full_attention', rope)
  head_dim = getattr(c, 'head_dim', None) or c.hidden_size // c.num_attention_heads
  found = {
    'block_count': c.num_hidden_layers,
    'context_length': c.max_position_embeddings,
    'embedding_length': c.hidden_size,
    'feed_forward_length': c.intermediate_size,
    'attention.head_count': c.num_attention_heads,
    'attention.head_count_kv': c.num_key_value_heads,
    'attention.layer_norm_rms_epsilon': float(c.rms_norm_eps),
    'rope.freq_base': float(rope['rope_theta']),
    'rope.dimension_count': head_dim,
    'attention.key_length': head_dim,
    'attention.value_length': head_dim,
    'vocab_size': c.vocab_size,
  }
  if rope['rope_type'] == 'linear':
    found |= {'rope.scaling.type': 'linear', 'rope.scaling.factor': rope['factor']}
  if c.model_type in ('mistral', 'gemma3_text'):
    found['attention.sliding_window'] = c.sliding_window
  return found


def tokens(name: str) -> tuple[list[str], dict]:
  """The tokens of a family's tokenizer, and the other fields of the metadata."""
  tokenizer = chat_tokenizers.load(name)
  state = json.loads(tokenizer.backend_tokenizer.to_str())
  names = [tokenizer.convert_ids_to_tokens(i) for i in range(len(tokenizer))]
  added = {x['id']: x['special'] for x in state['added_tokens']}
  kinds = [NORMAL] * len(names)
  for i, token in enumerate(names):
    if i in added:
      kinds[i] = CONTROL if added[i] else USER_DEFINED
    elif token.startswith('<0x') and len(token) == 6:
      kinds[i] = BYTE
  fields = {'pre': _PRE[name], 'token_type': kinds}
  if name in chat_tokenizers.BYTE_LEVEL:
    fields |= {'model': 'gpt2', 'merges': list(map(' '.join, state['model']['merges']))}
  else:
    kinds[tokenizer.unk_token_id] = UNKNOWN
    fields |= {'model': 'llama', 'scores': [-float(i) for i in range(len(names))]}
    fields['add_space_prefix'] = name == 'mistral'
  for key, there in (
    ('bos', 'bos'),
    ('eos', 'eos'),
    ('unk', 'unknown'),
    ('pad', 'padding'),
  ):
    if (i := getattr(tokenizer, f'{key}_token_id')) is not None:
      fields[f'{there}_token_id'] = i
  fields['add_bos_token'] = name != 'qwen'
  return names, fields


def content(model: torch.nn.Module, tokenizer: str) -> dict:
  """All metadata of a file, as they are written."""
  kind = model.config.model_type
  arch = {'mistral': 'llama', 'gemma3_text': 'gemma3'}.get(kind, kind)
  found = {f'{arch}.{k}': v for k, v in metadata(model).items()}
  names, fields = tokens(tokenizer)
  found |= {f'tokenizer.ggml.{k}': v for k, v in fields.items()}
  found['tokenizer.ggml.tokens'] = names
  found['tokenizer.chat_template'] = chat_tokenizers.load(tokenizer).chat_template
  return found | {'general.architecture': arch}


def write(
  path: pathlib.Path,
  values: dict,
  data: dict[str, np.ndarray],
  kind: KINDS = KINDS.F32,
  **options,
) -> pathlib.Path:
  """Writes metadata and tensors; matrices in this type, the rest in float32."""
  values = dict(values)
  writer = gguf.GGUFWriter(path, values.pop('general.architecture'), **options)
  for key, value in values.items():
    if isinstance(value, bool):
      writer.add_bool(key, value)
    elif isinstance(value, int):
      writer.add_uint32(key, value)
    elif isinstance(value, float):
      writer.add_float32(key, value)
    elif isinstance(value, str):
      writer.add_string(key, value)
    else:
      writer.add_array(key, value)
  for name, x in data.items():
    if x.ndim == 2:
      writer.add_tensor(name, gguf.quantize(x, kind), raw_dtype=kind)
    else:
      writer.add_tensor(name, x.astype(np.float32))
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  return path


def save(path: pathlib.Path, family: str, kind: KINDS = KINDS.F32, **change):
  """Writes a family's model; returns it. `change` replaces tokenizer fields."""
  model = make(family, kind)
  values = content(model, FAMILIES[family][1]) | change
  write(path, values, tensors(model), kind)
  return model
