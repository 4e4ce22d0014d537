"""From a GGUF file's metadata and tensors to those of a checkpoint on the hub.

What the metadata leave unsaid is as llama.cpp reads it (llama-model.cpp).
"""

import math
from typing import Any

import numpy as np

from coupling.checkpoints import families
from coupling.checkpoints import gguf_file
from coupling.checkpoints import gguf_tokenizer
from coupling.checkpoints import hf_config
from coupling.checkpoints.hf_config import CheckpointError, HFConfig

# `general.architecture` -> model_type. Mistral's files say llama.
ARCHITECTURES = {
  'llama': 'llama',
  'qwen2': 'qwen2',
  'qwen3': 'qwen3',
  'gemma3': 'gemma3_text',
}
_FIELDS = {  # of the metadata -> of config.json
  'block_count': 'num_hidden_layers',
  'context_length': 'max_position_embeddings',
  'embedding_length': 'hidden_size',
  'feed_forward_length': 'intermediate_size',
  'attention.head_count': 'num_attention_heads',
  'attention.layer_norm_rms_epsilon': 'rms_norm_eps',
}
_OPTIONAL = {
  'attention.head_count_kv': 'num_key_value_heads',
  'attention.key_length': 'head_dim',
  'attention.sliding_window': 'sliding_window',
  'attn_logit_softcapping': 'attn_logit_softcapping',
  'final_logit_softcapping': 'final_logit_softcapping',
  'rope.freq_base': 'rope_theta',
}
# Read besides, or without influence on what is computed.
_OTHERS = (
  *('vocab_size', 'attention.value_length', 'attention.sliding_window_pattern'),
  *('rope.dimension_count', 'rope.freq_base_swa', 'rope.scale_linear'),
  *('rope.scaling.type', 'rope.scaling.factor', 'rope.scaling.finetuned'),
  *('rope.scaling.original_context_length', 'tensor_data_layout'),
  *('expert_count', 'expert_used_count', 'attention.causal'),
)
_FACTORS = 'rope_freqs.weight'  # by which frequencies are divided, of Llama 3
TENSORS_READ = {_FACTORS}
_LLAMA3 = {  # of all of Llama 3.1 to 3.3
  'low_freq_factor': 1.0,
  'high_freq_factor': 4.0,
  'original_max_position_embeddings': 8192,
}
_LAYERS_OF_27B = 62  # Gemma 3; its attention is scaled otherwise
_GEMMA_PATTERN = 6  # every sixth layer sees everything


def config(file: gguf_file.GGUF) -> HFConfig:
  """The config.json of the model in a GGUF file; families.from_hf reads it.

  Raises:
    CheckpointError: an unknown architecture; fields that are missing, contradict one
      another or are not known.
  """
  architecture = file['general.architecture']
  if architecture not in ARCHITECTURES:
    raise CheckpointError(
      f'{file.path}: general.architecture={architecture!r} is not among those that are '
      f'supported, {", ".join(ARCHITECTURES)}; choose a model of one of them.'
    )
  fields = _Fields(file, architecture)
  raw = {name: fields.number(key) for key, name in _FIELDS.items()}
  found = {name: fields.number(key, None) for key, name in _OPTIONAL.items()}
  raw |= {name: value for name, value in found.items() if value is not None}
  heads = raw['num_attention_heads']
  raw.setdefault('num_key_value_heads', heads)
  raw.setdefault('head_dim', raw['hidden_size'] // max(1, heads))
  raw['model_type'] = ARCHITECTURES[architecture]
  if architecture == 'llama' and raw.get('sliding_window'):
    raw['model_type'] = 'mistral'
  raw['architectures'] = [families.FAMILIES[raw['model_type']].architecture]
  raw['torch_dtype'] = 'float32'
  raw['tie_word_embeddings'] = 'output.weight' not in file.tensors
  fields.must_be('rope.dimension_count', raw['head_dim'])
  fields.must_be('attention.value_length', raw['head_dim'])
  fields.must_be('attention.causal', True)
  fields.must_be('expert_count', 0)
  raw['vocab_size'] = _vocabulary(file)
  if architecture == 'gemma3':
    raw |= _gemma(fields, raw)
  elif architecture in ('qwen2', 'qwen3'):
    fields.must_be('attention.sliding_window', 0)
  raw['rope_scaling'] = _scaling(file, fields, raw)
  ids = gguf_tokenizer.special_ids(file)
  for name, key in (('bos', 'bos'), ('eos', 'eos'), ('pad', 'padding')):
    raw[f'{name}_token_id'] = ids.get(key)
  return raw


class _Fields:
  """The metadata of one architecture; keys without its name."""

  def __init__(self, file: gguf_file.GGUF, architecture: str):
    self._file, self._prefix = file, f'{architecture}.'
    self._values = {
      key.removeprefix(self._prefix): value
      for key, value in file.metadata.items()
      if key.startswith(self._prefix)
    }
    known = {*_FIELDS, *_OPTIONAL, *_OTHERS}
    if unknown := sorted(self._values.keys() - known):
      raise self.error(unknown[0], f'it is not known here ({len(unknown)} such fields)')

  def get(self, key: str, default: Any = None) -> Any:
    return self._values.get(key, default)

  def number(self, key: str, *default: Any) -> Any:
    """A number; of a list, one of each layer, that of all of them."""
    if key not in self._values and default:
      return default[0]
    value = self._file[self._prefix + key]
    if isinstance(value, list) and len(set(value)) == 1:
      value = value[0]
    if type(value) not in (int, float):
      raise self.error(key, 'one number for all layers is supported')
    if type(value) is float:  # the shortest that is this float32: 1e-06, not 9.99e-07
      value = float(str(np.float32(value)))
    return value

  def must_be(self, key: str, value: Any) -> None:
    if self.get(key, value) != value:
      raise self.error(key, f'only {value} is supported here')

  def error(self, key: str, reason: str) -> CheckpointError:
    value = str(self._values.get(key))
    return CheckpointError(
      f'{self._file.path}: {self._prefix}{key}={value[:80]} cannot be followed: '
      f'{reason}. Choose another model, or give its folder in the format of the hub.'
    )


def _vocabulary(file: gguf_file.GGUF) -> int:
  """Rows of the embedding, which all tokens must have."""
  tokens = len(file['tokenizer.ggml.tokens'])
  embedding = file.tensors.get('token_embd.weight')
  rows = embedding.shape[0] if embedding else tokens  # missing: told with the others
  if rows < tokens:
    raise CheckpointError(
      f'{file.path}: tokenizer.ggml.tokens has {tokens} tokens, token_embd.weight only '
      f'{rows} rows; convert the model again, or download the file again.'
    )
  return rows


def _gemma(fields: _Fields, raw: HFConfig) -> HFConfig:
  """What Gemma 3's files leave to be known."""
  depth, window = raw['num_hidden_layers'], raw.get('sliding_window', 0)
  pattern = fields.get('attention.sliding_window_pattern', _GEMMA_PATTERN)
  if isinstance(pattern, list):
    slides = [bool(x) for x in pattern]
  else:
    slides = [i % pattern < pattern - 1 for i in range(depth)]
  if not window:
    slides = [False] * depth
  scalar = raw['head_dim']
  if depth == _LAYERS_OF_27B:
    scalar = raw['hidden_size'] // raw['num_attention_heads']
  return {
    'sliding_window': window or None,
    'layer_types': [hf_config.SLIDING if x else hf_config.FULL for x in slides],
    'query_pre_attn_scalar': scalar,
    'rope_theta': raw.get('rope_theta', 1e6),
    'rope_local_base_freq': fields.number('rope.freq_base_swa', 1e4),
  }


def _scaling(
  file: gguf_file.GGUF, fields: _Fields, raw: HFConfig
) -> dict[str, Any] | None:
  """config.json's rope_scaling."""
  kind = fields.get('rope.scaling.type')
  factor = fields.number('rope.scaling.factor', fields.number('rope.scale_linear', 1.0))
  if kind is None:  # of old files, of which llama.cpp takes a factor for linear
    kind = 'none' if factor in (0, 1) else 'linear'
  if _FACTORS in file.tensors:
    if kind != 'none' or raw['model_type'] not in ('llama', 'mistral'):
      raise fields.error('rope.scaling.type', f'{_FACTORS} is there beside it')
    return _llama3(file, raw)
  if kind == 'none':
    return None
  original = fields.number('rope.scaling.original_context_length', None)
  scaling = {'rope_type': kind, 'factor': factor}
  return scaling | (
    {} if original is None else {'original_max_position_embeddings': original}
  )


def _llama3(file: gguf_file.GGUF, raw: HFConfig) -> dict[str, Any] | None:
  """The parameters that give the factors of the file; those of the models if they do.

  A factor is 1 of short waves, the largest of long ones, and in between
  1 / ((1 - s) / largest + s), where s is linear in 1 / wavelength.
  """
  factors_H = file.read(_FACTORS).astype(np.float64).ravel()
  half, theta = raw['head_dim'] // 2, raw.get('rope_theta', 1e4)
  frequencies_H = theta ** (-np.arange(half) / half) / (2 * math.pi)
  largest = float(factors_H.max())
  if factors_H.shape != (half,) or factors_H.min() <= 0:
    raise CheckpointError(f'{file.path}: {_FACTORS} must hold {half} positive factors.')
  if np.all(factors_H == 1):
    return None

  def gives_them(found: dict[str, Any]) -> bool:
    original = found['original_max_position_embeddings']
    low, high = found['low_freq_factor'], found['high_freq_factor']
    smooth_H = np.clip((original * frequencies_H - low) / (high - low), 0, 1)
    computed_H = 1 / ((1 - smooth_H) / largest + smooth_H)
    return np.allclose(computed_H, factors_H, rtol=1e-5)

  candidates = [_LLAMA3]
  between_H = (factors_H > 1) & (factors_H < largest)
  if between_H.sum() > 1:
    smooth_H = (1 / factors_H - 1 / largest) / (1 - 1 / largest)
    slope, start = np.polyfit(frequencies_H[between_H], smooth_H[between_H], 1)
    original = _LLAMA3['original_max_position_embeddings']
    fitted = {
      'low_freq_factor': float(-start / slope * original),
      'high_freq_factor': float((1 - start) / slope * original),
    }
    candidates.append(_LLAMA3 | fitted)
  for candidate in candidates:
    if gives_them(candidate):
      return {'rope_type': 'llama3', 'factor': largest} | candidate
  raise CheckpointError(
    f'{file.path}: {_FACTORS} holds factors of another kind than those of Llama 3, '
    f"{np.array2string(factors_H, precision=3, threshold=8)}; give the model's folder "
    "in the hub's format."
  )


def dtype(raw: HFConfig, name: str, tensor: gguf_file.Tensor) -> np.dtype:
  """The type in which a tensor of the hub's name is kept."""
  if _is_offset(raw, name):
    return np.dtype(np.float32)
  return gguf_file.PLAIN.get(tensor.kind, np.dtype(np.float32))


def as_on_hub(raw: HFConfig, name: str, data: np.ndarray) -> np.ndarray:
  """A tensor of the hub's name, with what llama.cpp's converter did to it undone."""
  if _is_offset(raw, name):
    return data.astype(np.float32) - 1
  if raw['model_type'] in ('llama', 'mistral'):
    for part, heads in (
      ('.q_proj.', raw['num_attention_heads']),
      ('.k_proj.', raw['num_key_value_heads']),
    ):
      if part in name:  # rotated pairs: side by side there, half a head apart here
        pairs = data.reshape(heads, raw['head_dim'] // 2, 2, *data.shape[1:])
        return pairs.swapaxes(1, 2).reshape(data.shape)
  return data


def _is_offset(raw: HFConfig, name: str) -> bool:
  """Gemma's norms: one more in the file."""
  return raw['model_type'] == 'gemma3_text' and name.endswith('norm.weight')
