"""LoRA adapters from and to the format of `peft`."""

import json
import pathlib

import jax.numpy as jnp
import numpy as np

from coupling import hub
from coupling import lora
from coupling import models
from coupling import tensors as tensors_lib
from coupling import weight_names
from coupling import weights
from coupling.hf_config import CheckpointError

_CONFIG = 'adapter_config.json'
_TENSORS = 'adapter_model.safetensors'
_MATRICES = {'a': 'lora_A', 'b': 'lora_B'}
# Fields that, when set, change the arithmetic to another than x A B * alpha / r.
_UNSUPPORTED = (
  'alpha_pattern',
  'alora_invocation_tokens',
  'fan_in_fan_out',
  'layer_replication',
  'lora_bias',
  'modules_to_save',
  'rank_pattern',
  'target_parameters',
  'trainable_token_indices',
  'use_dora',
  'use_qalora',
  'use_rslora',
)

# Ways to draw A and B that leave the base weights as they are.
_PLAIN_STARTS = (True, False, None, 'gaussian', 'orthogonal', 'eva')


def save(folder: pathlib.Path, adapters: lora.Adapters, base: str = '') -> None:
  """Writes adapters so that `peft.PeftModel.from_pretrained` loads them.

  Args:
    folder: where; must not exist, or be empty.
    adapters: on devices of this process; written in their type.
    base: name or folder of the base model, for those who load it.

  Raises:
    CheckpointError: the folder is in use.
  """
  config = {
    'peft_type': 'LORA',
    'task_type': 'CAUSAL_LM',
    'base_model_name_or_path': base,
    'r': adapters.rank,
    'lora_alpha': adapters.alpha,
    'lora_dropout': 0.0,
    'bias': 'none',
    'target_modules': [
      weight_names.linear(target).split('.')[-1] for target in adapters.weights
    ],
    'inference_mode': True,
  }
  data = {}
  for target, low_rank in adapters.weights.items():
    for part, x in low_rank.items():
      for layer, matrix in enumerate(np.asarray(x)):
        data[_name(target, part, layer)] = np.ascontiguousarray(matrix.T)
  with weights.new_folder(folder) as partial:
    (partial / _CONFIG).write_text(json.dumps(config, indent=2))
    weights.save_tensors(partial / _TENSORS, data)


def load(
  folder: pathlib.Path, config: models.DecoderConfig, dtype: str = 'float32'
) -> lora.Adapters:
  """Reads adapters that `peft` or `save` wrote.

  Args:
    folder: with adapter_config.json and adapter_model.safetensors.
    config: of the base model.
    dtype: of the adapters.

  Raises:
    CheckpointError: a file is missing or damaged, a field asks for another arithmetic,
      tensors do not fit the base model (these are listed all at once), or one holds
      NaN or infinity.
  """
  path = folder / _CONFIG
  raw = hub.read_json(path)
  if raw.get('peft_type') != 'LORA':
    raise CheckpointError(f'{path}: peft_type={raw.get("peft_type")!r} is not LORA.')
  wrong = [field for field in _UNSUPPORTED if raw.get(field)]
  wrong += ['bias'] if raw.get('bias', 'none') != 'none' else []
  if raw.get('init_lora_weights', True) not in _PLAIN_STARTS:
    wrong.append('init_lora_weights')
  if wrong:
    found = ', '.join(f'{field}={raw[field]!r}' for field in wrong)
    raise CheckpointError(
      f'{path}: {found}: only plain LoRA is supported; merge such an adapter into its '
      'base with peft (`merge_and_unload`), and use the merged model.'
    )
  if not (folder / _TENSORS).exists():
    raise CheckpointError(f'{folder / _TENSORS}: missing; save it as safetensors.')
  with tensors_lib.TensorFiles([folder / _TENSORS]) as files:
    targets = tuple(t for t in lora.TARGETS if _name(t, 'a', 0) in files.names)
    if not targets:
      raise CheckpointError(
        f'{folder / _TENSORS}: no adapter of {", ".join(lora.TARGETS)} is here.'
      )
    like = lora.abstract(
      config, rank=raw['r'], alpha=raw['lora_alpha'], targets=targets, dtype=dtype
    )
    expected = {
      _name(target, part, layer): x.shape[:0:-1]
      for target, low_rank in like.weights.items()
      for part, x in low_rank.items()
      for layer in range(config.depth)
    }
    files.check(
      expected,
      lambda name: False,
      str(folder / _TENSORS),
      f'They were compared with r={raw["r"]} of {path} and with the base model: use '
      'the adapter with the model that it was trained on.',
    )

    def stacked(target, part):
      layers = [
        files.read(_name(target, part, i), (slice(None),) * 2, jnp.dtype(dtype)).T
        for i in range(config.depth)
      ]
      return jnp.asarray(np.stack(layers))

    found = {t: {part: stacked(t, part) for part in _MATRICES} for t in targets}
  return lora.Adapters(found, like.alpha)


def _name(target: str, part: str, layer: int) -> str:
  module = weight_names.linear(target)
  return f'base_model.model.model.layers.{layer}.{module}.{_MATRICES[part]}.weight'
