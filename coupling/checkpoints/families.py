"""Model families as data: the hub's config.json and weight names <-> our decoder.

Llama 3.x, Mistral, Qwen2.5, Qwen3 and its mixtures of experts, Gemma 3 (text), OLMo 2
and 3, SmolLM3, Granite, Phi-3 and Phi-4. A config.json whose arithmetic this decoder
would not follow is refused; fields that change none are ignored.
"""

from collections.abc import Mapping
import dataclasses
import math
from typing import Any, NamedTuple

from coupling.checkpoints import hf_config
from coupling.checkpoints import hf_layers
from coupling.checkpoints.hf_config import CheckpointError, Fields, HFConfig
from coupling.model.architecture import DecoderConfig


class Family(NamedTuple):
  """What sets a family apart."""

  architecture: str
  arithmetic: Mapping[str, Any]  # fields of DecoderConfig that all of it share


_GEMMA_ARITHMETIC = {
  'qk_norm': True,
  'post_norms': True,
  'offset_norms': True,
}
_OLMO_ARITHMETIC = {
  'qk_norm': True,
  'joint_qk_norm': True,
  'pre_norms': False,
  'post_norms': True,
}
FAMILIES = {
  'llama': Family('LlamaForCausalLM', {}),
  'mistral': Family('MistralForCausalLM', {}),
  'qwen2': Family('Qwen2ForCausalLM', {'qkv_bias': True}),
  'qwen3': Family('Qwen3ForCausalLM', {'qk_norm': True}),
  hf_config.MIXTURE: Family('Qwen3MoeForCausalLM', {'qk_norm': True}),
  hf_config.ITS_TEXT: Family('Gemma3ForCausalLM', _GEMMA_ARITHMETIC),
  'olmo2': Family('Olmo2ForCausalLM', _OLMO_ARITHMETIC),
  'olmo3': Family('Olmo3ForCausalLM', _OLMO_ARITHMETIC),
  'smollm3': Family('SmolLM3ForCausalLM', {}),
  'granite': Family('GraniteForCausalLM', {}),
  hf_config.FUSED: Family('Phi3ForCausalLM', {}),
}

_ACTIVATIONS = {'silu': 'silu', 'relu': 'relu', 'gelu_pytorch_tanh': 'gelu_tanh'}
_GRANITE = {  # multipliers, as its files call them
  'embedding_multiplier': 'embedding_multiplier',
  'residual_multiplier': 'residual_multiplier',
  'attention_multiplier': 'attention_multiplier',
  'logits_divisor': 'logits_scaling',
}
# What a config.json does not say of a decoder.
_OWN_MATTER = ('embedding_std', 'dtype', 'param_dtype', 'scan_layers', 'long_context')


def from_hf(
  raw: HFConfig,
  source: str = 'config.json',
  *,
  dtype: str = 'float32',
  param_dtype: str = 'float32',
  scan_layers: bool = True,
  long_context: bool = False,
) -> DecoderConfig:
  """The decoder that a config.json describes.

  Args:
    raw: its content; defaults are those of `transformers`.
    source: its name, for errors.
    dtype, param_dtype, scan_layers, long_context: see DecoderConfig; the file does not
      say them.

  Raises:
    CheckpointError: an unknown family, a field that is missing or malformed, or one
      whose value needs another arithmetic.
  """
  family = _family(raw, source)
  fields = Fields(raw, source)
  there = fields.config
  window, full_layers = hf_layers.windows(fields)
  rope = hf_layers.rope(fields)
  if long_context and not (rope.scaling and rope.scaling.long_factors):
    raise fields.error('rope_scaling', 'base.long_context=True is for LongRoPE')
  return DecoderConfig(
    vocab_size=there.vocab_size,
    width=there.hidden_size,
    depth=there.num_hidden_layers,
    num_heads=there.num_attention_heads,
    num_kv_heads=there.num_key_value_heads,
    head_dim=hf_layers.head_dim(fields),
    activation=_activation(fields),
    tied_head=there.tie_word_embeddings,
    rotary_dims=rope.dims,
    rope_theta=rope.theta,
    rope_scaling=rope.scaling,
    window=window,
    full_layers=full_layers,
    window_rope_theta=rope.window_theta if window else 0.0,
    no_rope_layers=hf_layers.without_rope(fields),
    norm_eps=there.rms_norm_eps,
    dtype=dtype,
    param_dtype=param_dtype,
    scan_layers=scan_layers,
    long_context=long_context,
    **{'mlp_dim': there.intermediate_size} | hf_layers.experts(fields),
    **_biases(fields),
    **_multipliers(fields),
    **family.arithmetic,
  )


def _family(raw: HFConfig, source: str) -> Family:
  name = raw.get('model_type')
  name = hf_config.ITS_TEXT if name == hf_config.MULTIMODAL else name
  if not isinstance(name, str) or name not in FAMILIES:
    raise CheckpointError(
      f'{source}: model_type={name!r} is not among the supported families, '
      f'{", ".join(FAMILIES)}; choose a model of one of them.'
    )
  return FAMILIES[name]


def _activation(fields: Fields) -> str:
  gemma = fields.model_type == hf_config.ITS_TEXT
  field = 'hidden_activation' if gemma else 'hidden_act'
  found = getattr(fields.config, field)
  if found not in _ACTIVATIONS:
    raise fields.error(field, f'supported are {", ".join(_ACTIVATIONS)}', found)
  return _ACTIVATIONS[found]


def _biases(fields: Fields) -> dict[str, bool]:
  """Fields of DecoderConfig, but for a family that has always the same."""
  says = {
    field: fields.model_type in families and getattr(fields.config, field)
    for field, families in hf_config.BIASES.items()
  }
  if not any(says.values()):
    return {}
  attention = bool(says['attention_bias'])
  return {
    'qkv_bias': attention,
    'out_bias': attention,
    'mlp_bias': bool(says['mlp_bias']),
  }


def _multipliers(fields: Fields) -> dict[str, float]:
  """Fields of DecoderConfig."""
  there = fields.config
  if fields.model_type == hf_config.ITS_TEXT:
    return {
      'embedding_multiplier': there.hidden_size**0.5,
      'attention_multiplier': there.query_pre_attn_scalar**-0.5,
    }
  if fields.model_type != 'granite':
    return {}
  found = {ours: getattr(there, theirs) for ours, theirs in _GRANITE.items()}
  for ours, value in found.items():
    if not 0 < value < math.inf:
      raise fields.error(_GRANITE[ours], 'a positive number is expected', value)
  return {ours: float(value) for ours, value in found.items()}


def to_hf(config: DecoderConfig, like: HFConfig | None = None) -> HFConfig:
  """A config.json for a decoder; `from_hf` gives the decoder back.

  One of `long_context` has the long factors as its short ones too: `transformers`
  chooses by length, and would rotate short texts otherwise than they were trained on.

  Args:
    config: the decoder.
    like: the config.json that it came from, to keep what is not arithmetic (special
      tokens, longest sequence). Of a multimodal one, the language model is kept.

  Raises:
    CheckpointError: `like` describes another decoder, or no family computes this one.
  """
  same = {field: getattr(config, field) for field in _OWN_MATTER}
  differences = {}
  candidates = [_raw(family, config) for family in FAMILIES]
  if like:
    # A head of its own, beside a config.json that ties it: see hub.decoder_config.
    untied = {} if config.tied_head else {'tie_word_embeddings': False}
    candidates = [hf_config.text_config(like) | untied]
  for raw in candidates:
    try:
      there = dataclasses.replace(from_hf(raw), **same)
    except CheckpointError:
      if like:
        raise
      continue  # a family that has no way to say it
    differing = [
      f'{field}={value!r}'
      for field, value in dataclasses.asdict(config).items()
      if dataclasses.asdict(there)[field] != value
    ]
    if not differing:
      architecture = FAMILIES[raw['model_type']].architecture
      kept = {k: v for k, v in raw.items() if k not in ('dtype', 'torch_dtype')}
      return (hf_layers.always_long(kept) if config.long_context else kept) | {
        'architectures': [architecture],
        'torch_dtype': config.param_dtype,
      }
    differences[raw['model_type']] = differing
  nearest = min(differences, key=lambda name: len(differences[name]))
  raise CheckpointError(
    f'config.json: {"like" if like else "no family"} has the arithmetic of this '
    f'decoder; {nearest} comes nearest, but not in {", ".join(differences[nearest])}. '
    'A decoder that is none of the hub can be kept as an Orbax checkpoint only.'
  )


def _raw(name: str, config: DecoderConfig) -> HFConfig:
  """A config.json of this family, as near to the decoder as its fields allow."""
  c, gemma = config, name == hf_config.ITS_TEXT
  hf_activation = {ours: theirs for theirs, ours in _ACTIVATIONS.items()}[c.activation]
  raw = {
    'model_type': name,
    'vocab_size': c.vocab_size,
    'hidden_size': c.width,
    'num_hidden_layers': c.depth,
    'num_attention_heads': c.num_heads,
    'num_key_value_heads': c.num_kv_heads,
    'head_dim': c.head_dim,
    'intermediate_size': c.mlp_dim,
    'hidden_activation' if gemma else 'hidden_act': hf_activation,
    'rms_norm_eps': c.norm_eps,
    'tie_word_embeddings': c.tied_head,
    'max_position_embeddings': 32_768,  # a limit of others, not of this decoder
    'bos_token_id': None,
    'eos_token_id': None,
    'pad_token_id': None,
  }
  raw |= _raw_rope(name, c)
  if name not in hf_layers.NEVER_SLIDE:
    raw['sliding_window'] = c.window or None
  if name in ('qwen2', 'qwen3', 'smollm3', hf_config.MIXTURE):
    raw['use_sliding_window'] = bool(c.window)
  if name in ('qwen2', 'qwen3', 'smollm3', *hf_config.BY_KIND) or c.full_layers:
    slides = [c.window and i not in c.full_layers for i in range(c.depth)]
    raw['layer_types'] = [hf_config.SLIDING if x else hf_config.FULL for x in slides]
  if gemma:
    scale = c.attention_multiplier or c.head_dim**-0.5
    raw['query_pre_attn_scalar'] = round(scale**-2)
  for field, has in (('attention_bias', c.out_bias), ('mlp_bias', c.mlp_bias)):
    if name in hf_config.BIASES[field]:
      raw[field] = has
  if name == 'granite':
    raw |= {theirs: getattr(c, ours) for ours, theirs in _GRANITE.items()}
  if name == hf_config.MIXTURE:
    raw['moe_intermediate_size'] = c.mlp_dim
    raw['num_experts'] = c.num_experts
    raw['num_experts_per_tok'] = c.experts_per_token
    raw['norm_topk_prob'] = c.norm_expert_shares
  return raw


def _raw_rope(name: str, c: DecoderConfig) -> HFConfig:
  """How positions rotate, of `_raw`."""
  scaling = hf_layers.raw_scaling(c.rope_scaling)
  if name == 'olmo3':
    unscaled = {'rope_type': 'default', 'rope_theta': c.rope_theta}
    own = {'rope_theta': c.window_rope_theta or c.rope_theta}
    kinds = {hf_config.SLIDING: unscaled | own, hf_config.FULL: unscaled | scaling}
    return {'rope_parameters': kinds}
  raw = {'rope_theta': c.rope_theta}
  raw |= {'rope_scaling': scaling} if scaling else {}
  if name == hf_config.ITS_TEXT:
    raw['rope_local_base_freq'] = c.window_rope_theta or c.rope_theta
  if name == 'smollm3':
    raw['no_rope_layers'] = [int(i not in c.no_rope_layers) for i in range(c.depth)]
  if name == hf_config.FUSED:
    raw['partial_rotary_factor'] = (c.rotary_dims or c.head_dim) / c.head_dim
    # Its default would win over what stands beside the factors.
    length = 'original_max_position_embeddings'
    raw |= {length: scaling[length]} if length in scaling else {}
  return raw
