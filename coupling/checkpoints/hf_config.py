"""A hub checkpoint's config.json, as `transformers` reads it.

Defaults, older spellings and their order of precedence are those of its own config
classes. What is malformed, and what this decoder cannot follow, is refused by file,
field and remedy.
"""

from collections.abc import Iterator, Mapping
import copy
import math
from typing import Any

import transformers

from coupling.config import schema

HFConfig = dict[str, Any]

SLIDING, FULL = 'sliding_attention', 'full_attention'
MULTIMODAL, ITS_TEXT = 'gemma3', 'gemma3_text'  # model_type, and of its language model
FUSED = 'phi3'  # of which one tensor holds q, k and v, and one gate and up
MIXTURE = 'qwen3_moe'  # whose layers have several MLPs, experts
BY_KIND = (ITS_TEXT, 'olmo3')  # rotate by themselves where they slide

# Families whose models have biases where these fields say so.
BIASES = {
  'attention_bias': (
    'llama',
    'qwen3',
    MIXTURE,
    ITS_TEXT,
    'olmo2',
    'olmo3',
    'smollm3',
    'granite',
  ),
  'mlp_bias': ('llama', 'smollm3', 'granite'),
}
# Field of config.json -> values under which the arithmetic is this decoder's.
_SUPPORTED = {
  'attention_bias': (False, None),
  'mlp_bias': (False, None),
  'attn_logit_softcapping': (None,),
  'final_logit_softcapping': (None,),
  'use_bidirectional_attention': (False, None),
  'is_causal': (True, None),
  'partial_rotary_factor': (1.0, None),
  'quantization_config': (None,),
  'compression_config': (None,),
  'fusion_config': (None,),
  'per_layer_config': (None,),
  'configuration_files': (None,),  # another file would be read instead of this one
}
_FOLLOWED = {**BIASES, 'partial_rotary_factor': (FUSED,)}  # whatever they say
_NEEDED = (
  'vocab_size',
  'hidden_size',
  'intermediate_size',
  'num_hidden_layers',
  'num_attention_heads',
)
_LEFT_OUT = ('vocab_size', 'num_attention_heads')  # of a Gemma 3: the usual ones
_COUNTS = (
  *_NEEDED,
  'num_key_value_heads',
  'head_dim',
  'max_position_embeddings',
  'original_max_position_embeddings',
  'sliding_window',
  'sliding_window_pattern',
  'query_pre_attn_scalar',
  'no_rope_layer_interval',
  'moe_intermediate_size',
  'num_experts',
  'num_local_experts',
  'num_experts_per_tok',
  'decoder_sparse_step',
)
_NUMBERS = (
  'rms_norm_eps',
  'rope_theta',
  'rope_local_base_freq',
  'factor',
  'low_freq_factor',
  'high_freq_factor',
  'beta_slow',
  'beta_fast',
  'attention_factor',
  'partial_rotary_factor',
)
_ROPE = ('rope_parameters', 'rope_scaling')


class CheckpointError(schema.ConfigError):
  """A checkpoint that cannot be used; names the file, the field and the remedy."""


class Fields:
  """The language model's part of a config.json, and errors that name it.

  Attributes:
    source: name of the file.
    model_type: of the language model.
    config: the config of `transformers`.
  """

  def __init__(self, raw: HFConfig, source: str):
    """Reads the content of a file.

    Args:
      raw: the content; its model_type is one that `transformers` knows.
      source: its name.

    Raises:
      CheckpointError: a field that is malformed, or that would change the arithmetic
        to another.
    """
    self.source = source
    self._raw = raw
    self._refuse_others(raw)
    self._raw = text_config(raw)
    self.model_type = self._raw['model_type']
    self._refuse_others(self._raw)
    self._check_needed()
    for path, name, value in _leaves(self._raw):
      if wrong := _malformed(name, value):
        raise self.error(path, wrong, value)
    self._check_rope()
    self._check_layer_types()
    kind = self.model_type
    if kind == 'mistral' and 'layer_types' in self._raw:
      kind = 'ministral'  # as AutoConfig does: a Mistral whose layers differ
    try:
      config = transformers.CONFIG_MAPPING[kind]
      raw = copy.deepcopy(self._raw)  # it changes what it reads
      self.config = config.from_dict(raw)
      self.config.standardize_rope_params()  # again, as its models do
    except Exception as e:  # of many kinds; each says which field
      raise CheckpointError(
        f'{source}: transformers refuses it as a {self.model_type} model: '
        f'{" ".join(str(e).split())}. Correct the file, or choose another checkpoint.'
      ) from e
    heads, shared = self.config.num_attention_heads, self.config.num_key_value_heads
    if heads % shared:
      raise self.error('num_key_value_heads', f'{heads} heads cannot share', shared)

  def error(self, field: str, reason: str, value: Any = None) -> CheckpointError:
    value = self._raw.get(field) if value is None else value
    return CheckpointError(
      f'{self.source}: {field}={value!r} of a {self._raw.get("model_type")} model '
      f'cannot be followed: {reason}. Correct the file, or choose another checkpoint.'
    )

  def _refuse_others(self, raw: HFConfig) -> None:
    for field, supported in _SUPPORTED.items():
      if raw.get('model_type') in _FOLLOWED.get(field, ()):
        continue
      if raw.get(field) not in supported:
        raise self.error(field, f'only {supported[0]} is supported', raw[field])
    if not isinstance(raw.get('text_config', {}), dict):
      raise self.error('text_config', 'a section is expected', raw['text_config'])

  def _check_needed(self) -> None:
    usual = _LEFT_OUT if self.model_type == ITS_TEXT else ()
    for field in _NEEDED:
      left_out = field in usual and field not in self._raw
      if not left_out and self._raw.get(field) is None:
        raise self.error(field, 'a value is needed here')

  def _check_rope(self) -> None:
    for field in _ROPE:
      section = self._raw.get(field)
      if not isinstance(section, dict | None):
        raise self.error(field, 'a section or null is expected', section)
      parts = (section or {}).items()
      if self.model_type not in BY_KIND and any(isinstance(x, dict) for _, x in parts):
        raise self.error(field, 'one set for all layers is supported', section)
      for name, part in parts:
        if name in (SLIDING, FULL) and not isinstance(part, dict | None):
          raise self.error(f'{field}.{name}', 'a section or null is expected', part)

  def _check_layer_types(self) -> None:
    types, depth = self._raw.get('layer_types'), self._raw['num_hidden_layers']
    fits = isinstance(types, list) and len(types) == depth
    if types is not None and not (fits and {*map(str, types)} <= {SLIDING, FULL}):
      raise self.error('layer_types', f'{depth} of {SLIDING} and {FULL} expected')


def text_config(raw: HFConfig) -> HFConfig:
  """The language model's part of a config.json; of a multimodal Gemma 3, one of two."""
  if raw.get('model_type') != MULTIMODAL:
    return raw
  ours = ('bos_token_id', 'eos_token_id', 'pad_token_id')
  return {
    **{name: raw[name] for name in ours if name in raw},
    **(raw.get('text_config') or {}),
    # The whole model's head is tied, or not; the language model within has none.
    'tie_word_embeddings': raw.get('tie_word_embeddings', True) or False,
    'model_type': ITS_TEXT,
  }


def _leaves(section: Mapping, path: str = '') -> Iterator[tuple[str, str, Any]]:
  """(path, name, value) of the fields of a config and of its RoPE sections."""
  for name, value in section.items():
    if isinstance(value, dict) and (path or name in _ROPE):
      yield from _leaves(value, f'{path}{name}.')
    else:
      yield f'{path}{name}', name, value


def _malformed(name: str, value: Any) -> str | None:
  """What is wrong with the value of a field of this name; null is for its reader."""
  if value is None:
    return None
  if name in _COUNTS and (type(value) is not int or value < 1):
    return 'a positive integer is expected'
  if name == 'max_window_layers' and (type(value) is not int or value < 0):
    return 'an integer from 0 is expected'
  if name in ('rope_type', 'type') and not isinstance(value, str):
    return 'a name is expected'
  number = type(value) in (int, float) and math.isfinite(value)
  if name in _NUMBERS and not (number and value > 0):
    return 'a positive number is expected'
  return None
