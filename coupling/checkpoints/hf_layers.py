"""What a config.json says of layers: which slide, how they rotate, their experts."""

from collections.abc import Mapping
import math
from typing import Any, NamedTuple

from coupling.checkpoints import hf_config
from coupling.checkpoints.hf_config import BY_KIND, FULL, FUSED, SLIDING, Fields
from coupling.model.architecture import RopeScaling

NEVER_SLIDE = ('llama', 'olmo2', 'granite')  # whatever their files say
# Kinds of scaling, and the fields that each needs.
_SCALINGS = {
  'linear': ('factor',),
  'llama3': ('factor', 'low_freq_factor', 'high_freq_factor'),
  'yarn': ('factor',),
  'longrope': ('short_factor', 'long_factor'),
}


def windows(fields: Fields) -> tuple[int, tuple[int, ...]]:
  """The sliding window, 0 if no layer slides, and the layers that do not."""
  config = fields.config
  if fields.model_type in NEVER_SLIDE:
    return 0, ()
  window = config.sliding_window
  types = getattr(config, 'layer_types', None)
  if types is None or fields.model_type in (FUSED, hf_config.MIXTURE):  # or a Mistral
    return window or 0, ()
  full = tuple(i for i, kind in enumerate(types) if kind == FULL)
  if len(full) == config.num_hidden_layers:
    return 0, ()
  if window is None:
    raise fields.error('sliding_window', f'layer_types has layers of {SLIDING}')
  if not getattr(config, 'use_sliding_window', True):
    raise fields.error('use_sliding_window', f'layer_types has layers of {SLIDING}')
  return window, full


def without_rope(fields: Fields) -> tuple[int, ...]:
  """The layers that do not rotate."""
  if fields.model_type != 'smollm3':
    return ()
  rotates, depth = fields.config.no_rope_layers, fields.config.num_hidden_layers
  if len(rotates) < depth or any(x not in (0, 1) for x in rotates):
    reason = f'a list of {depth} numbers is expected, 1 where a layer rotates, else 0'
    raise fields.error('no_rope_layers', reason, rotates)
  return tuple(i for i in range(depth) if not rotates[i])


def experts(fields: Fields) -> dict[str, Any]:
  """Fields of DecoderConfig; raises CheckpointError unless all layers have experts."""
  there = fields.config
  if fields.model_type != hf_config.MIXTURE:
    return {}
  plain = {*there.mlp_only_layers} & {*range(there.num_hidden_layers)}
  for field, differ in (
    ('mlp_only_layers', plain),
    ('decoder_sparse_step', there.decoder_sparse_step > 1),
  ):
    if differ:
      reason = 'layers with experts beside layers without are not supported'
      raise fields.error(field, reason)
  if there.num_experts_per_tok > there.num_experts:
    reason = f'a token can have {there.num_experts} experts at most'
    raise fields.error('num_experts_per_tok', reason, there.num_experts_per_tok)
  return {
    'mlp_dim': there.moe_intermediate_size,
    'num_experts': there.num_experts,
    'experts_per_token': there.num_experts_per_tok,
    'norm_expert_shares': there.norm_topk_prob,
  }


class Rope(NamedTuple):
  """How positions rotate."""

  theta: float
  scaling: RopeScaling | None
  dims: int  # of a head, those that rotate; 0: all
  window_theta: float  # of sliding layers, where they rotate by themselves; or 0


def rope(fields: Fields) -> Rope:
  """How positions rotate; raises CheckpointError where this decoder cannot."""
  found, window_theta = fields.config.rope_parameters, 0.0
  if fields.model_type in BY_KIND:
    own, found = found[SLIDING], found[FULL]
    if own['rope_type'] != 'default':
      reason = 'sliding layers are supported without scaling'
      raise fields.error(f'rope_parameters.{SLIDING}', reason, own)
    window_theta = _theta(fields, own)
  scaling, dims = _scaling(fields, found), _dims(fields, found)
  return Rope(_theta(fields, found), scaling, dims, window_theta)


def head_dim(fields: Fields) -> int:
  """Dimensions of a head."""
  config = fields.config
  usual = config.hidden_size // config.num_attention_heads
  return getattr(config, 'head_dim', None) or usual


def _dims(fields: Fields, found: Mapping[str, Any]) -> int:
  """Of a head, the dimensions that rotate; 0: all."""
  share = found.get('partial_rotary_factor', 1.0)
  if share == 1:
    return 0
  if fields.model_type != FUSED:
    raise fields.error('rope_parameters', 'no partial rotation is supported', found)
  all_of_it = head_dim(fields)
  dims = int(all_of_it * share)
  if not 0 < dims < all_of_it or dims % 2:
    reason = f'an even number of the {all_of_it} dimensions of a head can rotate'
    raise fields.error('partial_rotary_factor', reason, share)
  return dims


def _scaling(fields: Fields, found: Mapping[str, Any]) -> RopeScaling | None:
  kind = found['rope_type']
  if kind == 'default':
    return None
  if kind not in _SCALINGS:
    reason = f'supported are default, {", ".join(_SCALINGS)}'
    raise fields.error('rope_type (in rope_scaling)', reason, kind)
  if missing := [name for name in _SCALINGS[kind] if found.get(name) is None]:
    raise fields.error('rope_scaling', f'it lacks {", ".join(missing)}', found)
  if kind == 'linear':
    return RopeScaling(factor=float(found['factor']))
  original = found['original_max_position_embeddings']
  if kind == 'yarn':
    return _yarn(fields, found, original)
  if kind == 'longrope':
    return _longrope(fields, found, original)
  values = {key: float(found[key]) for key in _SCALINGS[kind]}
  if values['low_freq_factor'] >= values['high_freq_factor']:
    reason = 'high_freq_factor must be above low_freq_factor'
    raise fields.error('rope_scaling', reason, found)
  return RopeScaling(**values, original_length=original)


def _yarn(fields: Fields, found: Mapping[str, Any], original: int) -> RopeScaling:
  if found.get('mscale') or found.get('mscale_all_dim'):
    raise fields.error('rope_scaling', 'no mscale is supported', found)
  if not found.get('truncate', True):
    raise fields.error('rope_scaling', 'truncate=False is not supported', found)
  factor, attention = float(found['factor']), found.get('attention_factor')
  if attention is None:  # equation 22 of the paper on YaRN
    attention = 0.1 * math.log(factor) + 1 if factor > 1 else 1.0
  slow, fast = (
    float(found.get(f'beta_{x}') or usual) for x, usual in (('slow', 1), ('fast', 32))
  )
  if slow >= fast:
    raise fields.error('rope_scaling', 'beta_fast must be above beta_slow', found)
  return RopeScaling(
    factor=factor,
    low_freq_factor=slow,
    high_freq_factor=fast,
    original_length=original,
    yarn=True,
    attention_factor=float(attention),
  )


def _longrope(fields: Fields, found: Mapping[str, Any], original: int) -> RopeScaling:
  half, factors = (_dims(fields, found) or head_dim(fields)) // 2, {}
  for name in _SCALINGS['longrope']:
    values = found[name]
    positive = lambda x: type(x) in (int, float) and 0 < x < math.inf
    counted = isinstance(values, list) and len(values) == half
    if not counted or not all(map(positive, values)):
      reason = f'{half} positive numbers are expected'
      raise fields.error(f'{name} (in rope_scaling)', reason, values)
    factors[f'{name}s'] = tuple(map(float, values))
  attention = found.get('attention_factor')
  if attention is None:  # as in Microsoft's code
    factor = found.get('factor') or fields.config.max_position_embeddings / original
    attention = math.sqrt(1 + math.log(max(factor, 1)) / math.log(original))
  return RopeScaling(
    original_length=original, attention_factor=float(attention), **factors
  )


def always_long(section: Mapping[str, Any]) -> dict[str, Any]:
  """A config.json, or a section, by which LongRoPE's long factors are the short too."""
  inner = {k: always_long(x) if isinstance(x, dict) else x for k, x in section.items()}
  both = {'short_factor': inner['long_factor']} if 'long_factor' in inner else {}
  return inner | both


def raw_scaling(scaling: RopeScaling | None) -> dict[str, Any]:
  """The fields of a config.json that `rope` reads a scaling from."""
  if scaling is None:
    return {}
  if not scaling.original_length:
    return {'rope_type': 'linear', 'factor': scaling.factor}
  length = {
    'factor': scaling.factor,
    'original_max_position_embeddings': scaling.original_length,
  }
  if scaling.short_factors:
    return length | {
      'rope_type': 'longrope',
      'short_factor': [*scaling.short_factors],
      'long_factor': [*scaling.long_factors],
      'attention_factor': scaling.attention_factor,
    }
  low, high = scaling.low_freq_factor, scaling.high_freq_factor
  if scaling.yarn:
    return length | {
      'rope_type': 'yarn',
      'beta_slow': low,
      'beta_fast': high,
      'attention_factor': scaling.attention_factor,
    }
  return length | {
    'rope_type': 'llama3',
    'low_freq_factor': low,
    'high_freq_factor': high,
  }


def _theta(fields: Fields, parameters: Mapping[str, Any]) -> float:
  theta = parameters.get('rope_theta')
  if theta is None:
    raise fields.error('rope_theta', 'a positive number is expected')
  return float(theta)
