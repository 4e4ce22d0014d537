"""The fields of a hub checkpoint's config.json that take some reading.

Those that this decoder cannot follow are refused by file, field and remedy.
"""

from collections.abc import Mapping
from typing import Any

from coupling import config as config_lib
from coupling.layers import RopeScaling

HFConfig = dict[str, Any]

SLIDING, FULL = 'sliding_attention', 'full_attention'

# Field of config.json -> values under which the arithmetic is this decoder's.
_SUPPORTED = {
  'attention_bias': (False, None),
  'mlp_bias': (False, None),
  'attn_logit_softcapping': (None,),
  'final_logit_softcapping': (None,),
  'use_bidirectional_attention': (False, None),
  'partial_rotary_factor': (1.0, None),
  'quantization_config': (None,),
}


class CheckpointError(config_lib.ConfigError):
  """A checkpoint that cannot be used; names the file, the field and the remedy."""


class Fields:
  """A config.json with its family's defaults, and errors that name it."""

  def __init__(self, raw: HFConfig, defaults: Mapping[str, Any], source: str):
    """Takes the values of a file.

    Args:
      raw: its content.
      defaults: values of fields that it does not have.
      source: its name.

    Raises:
      CheckpointError: a field that would change the arithmetic to another.
    """
    self.source = source
    self.model_type = raw['model_type']
    self._values = {**defaults, **raw}
    for field, supported in _SUPPORTED.items():
      if self.get(field) not in supported:
        raise self.error(field, f'only {supported[0]} is supported')

  def __getitem__(self, field: str) -> Any:
    if self._values.get(field) is None:
      raise self.error(field, 'a value is needed here')
    return self._values[field]

  def get(self, field: str, default: Any = None) -> Any:
    value = self._values.get(field)
    return default if value is None else value

  def error(self, field: str, reason: str, value: Any = None) -> CheckpointError:
    value = self._values.get(field) if value is None else value
    return CheckpointError(
      f'{self.source}: {field}={value!r} of a {self.model_type} model cannot be '
      f'followed: {reason}. Correct the file, or choose another checkpoint.'
    )


def windows(fields: Fields) -> tuple[int, tuple[int, ...]]:
  """The sliding window, 0 if no layer slides, and the layers that do not."""
  family, depth = fields.model_type, fields['num_hidden_layers']
  window = fields.get('sliding_window', 0)
  if family == 'llama' or (
    family[:4] == 'qwen' and not fields.get('use_sliding_window')
  ):
    return 0, ()
  if family == 'mistral':
    return window, ()
  if (types := fields.get('layer_types')) is not None:
    if len(types) != depth or not set(types) <= {SLIDING, FULL}:
      raise fields.error('layer_types', f'{depth} of {SLIDING} and {FULL} expected')
    full = [i for i, kind in enumerate(types) if kind == FULL]
  elif family == 'gemma3_text':
    every = fields['sliding_window_pattern']
    full = range(every - 1, depth, every)
  else:
    full = range(min(depth, fields['max_window_layers']))
  if len(full) == depth:
    return 0, ()
  return fields['sliding_window'], tuple(full)


def rope(fields: Fields) -> tuple[float, RopeScaling | None, float]:
  """Theta and scaling; the theta of sliding layers where it is another, or else 0.

  Reads what transformers 5 writes, `rope_parameters`, and what is on the hub,
  `rope_theta` beside `rope_scaling`; the latter wins, as it does there.
  """
  newer, older = fields.get('rope_parameters', {}), fields.get('rope_scaling', {})
  found, window_theta = older or newer, 0.0
  if fields.model_type == 'gemma3_text':
    own = {'rope_theta': fields['rope_local_base_freq'], **newer.get(SLIDING, {})}
    if _rope_type(own) != 'default':
      reason = 'sliding layers are supported without scaling'
      raise fields.error(f'rope_parameters.{SLIDING}', reason, own)
    window_theta = float(own['rope_theta'])
    found = {**newer.get(FULL, {}), **older}
  kind = _rope_type(found)
  theta = float(found.get('rope_theta', fields['rope_theta']))
  if any(isinstance(x, dict) for x in found.values()):
    raise fields.error('rope_parameters', 'one set for all layers is supported', found)
  if found.get('partial_rotary_factor', 1.0) != 1.0:
    raise fields.error('rope_parameters', 'no partial rotation is supported', found)
  if kind == 'default':
    return theta, None, window_theta
  needed = {'linear': ['factor']}
  needed['llama3'] = ['factor', 'low_freq_factor', 'high_freq_factor']
  if kind not in needed:
    reason = f'supported are default, {", ".join(needed)}'
    raise fields.error('rope_type (in rope_scaling)', reason, kind)
  if missing := [name for name in needed[kind] if name not in found]:
    raise fields.error('rope_scaling', f'it lacks {", ".join(missing)}', found)
  if kind == 'linear':
    return theta, RopeScaling(factor=float(found['factor'])), window_theta
  name = 'original_max_position_embeddings'
  original = found.get(name) or fields['max_position_embeddings']
  values = {key: float(found[key]) for key in needed[kind]}
  return theta, RopeScaling(**values, original_length=original), window_theta


def _rope_type(parameters: Mapping[str, Any]) -> str:
  return parameters.get('rope_type', parameters.get('type', 'default'))
