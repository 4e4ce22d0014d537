"""LoRA adapters from and to the format of `peft`."""

import json
import math
import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np

from coupling.checkpoints import families
from coupling.checkpoints import hub
from coupling.checkpoints import peft_layers
from coupling.checkpoints import tensors
from coupling.checkpoints import weight_names
from coupling.checkpoints import weights
from coupling.checkpoints.hf_config import CheckpointError
from coupling.model import lora
from coupling.model.architecture import DecoderConfig

_CONFIG = 'adapter_config.json'
TENSORS = 'adapter_model.safetensors'
_MATRICES = ('lora_A', 'lora_B')
_MODEL = 'base_model.model.'  # how peft calls the model that it adapts
# Where the layers stand in it: text models; multimodal ones, now and before.
_LAYERS = (
  'model.layers',
  'model.language_model.layers',
  'language_model.model.layers',
)
# Parts of multimodal models whose modules have the same names.
_EXCLUDED = rf'.*({"|".join(weight_names.OTHER_PARTS)})\..*'
# Fields under which the arithmetic is x A B * alpha / r, whatever they say, or that are
# looked at here. Any other, when set, may change it.
_KNOWN = {
  'alpha_pattern',
  'auto_mapping',
  'base_model_name_or_path',
  'bias',
  'ensure_weight_tying',
  'exclude_modules',
  'inference_mode',
  'init_lora_weights',
  'layers_pattern',
  'layers_to_transform',
  'lora_alpha',
  'lora_dropout',
  'megatron_config',
  'megatron_core',
  'peft_type',
  'peft_version',
  'qalora_group_size',
  'r',
  'rank_pattern',
  'revision',
  'runtime_config',
  'target_modules',
  'task_type',
}

# Ways to draw A and B that leave the base weights as they are.
_PLAIN_STARTS = (True, False, None, 'gaussian', 'orthogonal', 'eva')
_START_FIELDS = {'eva_config'}  # how they draw


def is_adapter(folder: pathlib.Path) -> bool:
  """Whether a folder holds adapters; their config may not have been written yet."""
  return (folder / _CONFIG).exists() or (folder / TENSORS).exists()


def base_of(folder: pathlib.Path) -> tuple[str, str]:
  """Name or folder of the base that adapters record, and its revision; '' for none.

  Raises:
    CheckpointError: adapter_config.json is missing, or is not JSON.
  """
  raw = hub.read_json(folder / _CONFIG)
  return raw.get('base_model_name_or_path') or '', raw.get('revision') or ''


def tensor_file(folder: pathlib.Path) -> pathlib.Path:
  """The file of the matrices; raises CheckpointError where it is missing."""
  if not (folder / TENSORS).exists():
    others = ', '.join(sorted(p.name for p in folder.glob('*.bin')))
    raise CheckpointError(
      f'{folder / TENSORS}: missing; found: {others or "no weights"} (files in .bin '
      'are pickles and never read): save it as safetensors.'
    )
  return folder / TENSORS


def save(
  folder: pathlib.Path,
  adapters: lora.Adapters,
  base: str = '',
  revision: str | None = None,
  first: int = 0,
) -> None:
  """Writes adapters so that `peft.AutoPeftModelForCausalLM.from_pretrained` loads them.

  Args:
    folder: where; must not exist, or be empty.
    adapters: on devices of this process; written in their type.
    base: name or folder of the base model, which is written so that it can be found
      from any working directory; '' leaves it to those who load the adapters.
    revision: of the base model on the hub.
    first: the first layer that has adapters.

  Raises:
    CheckpointError: the folder is in use, or the base model is not found.
  """
  raw, named = {}, (base, None)
  if base:
    raw = hub.read_config(hub.find(base, revision))
    named = hub.identity(base, revision)
  layers, modules = weight_names.layers(raw), peft_layers.adapted(raw, adapters)
  several = {
    peft_layers.last(module): len(x) for module, x in modules.items() if len(x) > 1
  }
  config = dict(
    peft_type='LORA',
    task_type='CAUSAL_LM',
    base_model_name_or_path=named[0],
    revision=named[1],
    r=adapters.rank,
    lora_alpha=adapters.alpha,
    rank_pattern={name: n * adapters.rank for name, n in several.items()},
    alpha_pattern={name: n * adapters.alpha for name, n in several.items()},
    lora_dropout=0.0,
    bias='none',
    target_modules=[peft_layers.last(module) for module in modules],
    # None: all layers.
    layers_to_transform=[*range(first, first + adapters.depth)] if first else None,
    exclude_modules=_EXCLUDED if weight_names.is_multimodal(raw) else None,
    inference_mode=True,
  )
  weights_of = {
    target: [np.asarray(low_rank[part]).swapaxes(1, 2) for part in 'ab']
    for target, low_rank in adapters.weights.items()
  }
  data = {}
  for module, targets in modules.items():
    for i in range(adapters.depth):
      some = {t: [x[i] for x in weights_of[t]] for t in targets if t in weights_of}
      pair = some.get(targets[0])
      if len(targets) > 1:
        pair = peft_layers.fuse(families.from_hf(raw), targets, some, adapters.rank)
      for part, matrix in zip(_MATRICES, pair, strict=True):
        name = _name(layers, module, part, first + i)
        data[name] = np.ascontiguousarray(matrix)
  with weights.new_folder(folder) as partial:
    (partial / _CONFIG).write_text(json.dumps(config, indent=2))
    weights.save_tensors(partial / TENSORS, data)


def load(
  folder: pathlib.Path, config: DecoderConfig, dtype: str = 'float32'
) -> lora.Adapters:
  """Reads adapters that `peft` or `save` wrote.

  Args:
    folder: with adapter_config.json and adapter_model.safetensors.
    config: of the base model.
    dtype: of the adapters.

  Raises:
    CheckpointError: a file is missing or damaged, a field asks for another arithmetic,
      the layers are not the last ones of the base model, tensors do not fit it (these
      are listed all at once), or one holds NaN or infinity.
  """
  path = folder / _CONFIG
  raw = hub.read_json(path)
  if raw.get('peft_type') != 'LORA':
    raise CheckpointError(f'{path}: peft_type={raw.get("peft_type")!r} is not LORA.')
  _check_plain(path, raw)
  rank, alpha = _scale(path, raw)
  first = _first(path, raw, config.depth)
  with tensors.TensorFiles([tensor_file(folder)]) as files:
    layers = next(
      (x for x in _LAYERS if any(n.startswith(f'{_MODEL}{x}.') for n in files.names)),
      _LAYERS[0],
    )
    modules = {
      module: targets
      for module, targets in peft_layers.EVERY.items()
      if _name(layers, module, _MATRICES[0], first) in files.names
    }
    if not modules:
      raise CheckpointError(
        f'{folder / TENSORS}: no adapter of {", ".join(lora.TARGETS)} is here.'
      )
    times = peft_layers.times(path, raw, modules, rank, alpha)
    files.check(
      {
        _name(layers, module, part, layer): shape
        for module, targets in modules.items()
        for part, shape in zip(
          _MATRICES, peft_layers.shapes(config, targets, rank, times[module])
        )
        for layer in range(first, config.depth)
      },
      lambda name: False,
      str(folder / TENSORS),
      f'They were compared with r={rank} of {path} and with the base model: use '
      'the adapter with the model that it was trained on.',
    )
    found: dict[str, list[peft_layers.Pair]] = {}
    for module, targets in modules.items():
      for layer in range(first, config.depth):
        names = [_name(layers, module, part, layer) for part in _MATRICES]
        pair = [files.read(x, (slice(None),) * 2, jnp.dtype(dtype)) for x in names]
        where = f'{folder / TENSORS}: {names[1]}'
        for target, own in peft_layers.split(config, targets, pair, rank, where):
          found.setdefault(target, []).append(own)
  return lora.Adapters(
    {
      target: {
        part: jnp.asarray(np.stack([pair[k].T for pair in found[target]]))
        for k, part in enumerate('ab')
      }
      for target in lora.TARGETS
      if target in found
    },
    float(alpha),
  )


def _check_plain(path: pathlib.Path, raw: dict[str, Any]) -> None:
  """Raises CheckpointError where a field asks for more than x A B * alpha / r."""
  plain = raw.get('init_lora_weights', True) in _PLAIN_STARTS
  known = _KNOWN | _START_FIELDS if plain else _KNOWN
  wrong = [field for field, value in raw.items() if value and field not in known]
  wrong += ['bias'] if raw.get('bias', 'none') != 'none' else []
  wrong += [] if plain else ['init_lora_weights']
  if wrong:
    found = ', '.join(f'{field}={raw[field]!r}' for field in wrong)
    raise CheckpointError(
      f'{path}: {found}: only plain LoRA is supported; merge such an adapter into its '
      'base with peft (`merge_and_unload`), and use the merged model.'
    )


def _scale(path: pathlib.Path, raw: dict[str, Any]) -> tuple[int, float]:
  """Rank and alpha; raises CheckpointError where they are malformed."""
  rank, alpha = raw.get('r'), raw.get('lora_alpha')
  if type(rank) is not int or rank < 1:
    raise CheckpointError(f'{path}: r={rank!r}, a positive integer is expected.')
  if type(alpha) not in (int, float) or not 0 < alpha < math.inf:
    raise CheckpointError(f'{path}: lora_alpha={alpha!r}, a number is expected.')
  return rank, alpha


def _first(path: pathlib.Path, raw: dict[str, Any], depth: int) -> int:
  """The first layer with adapters; raises CheckpointError where one above has none."""
  found = raw.get('layers_to_transform')
  if found is None or found == []:
    return 0
  numbers = found if isinstance(found, list) else [found]
  whole = all(type(x) is int for x in numbers)
  if not whole or sorted(numbers) != [*range(max(min(numbers), 0), depth)]:
    raise CheckpointError(
      f'{path}: layers_to_transform={found!r}: only adapters of all layers from one '
      f'on, up to {depth - 1} here, are supported; merge such an adapter into '
      'its base with peft (`merge_and_unload`), and use the merged model.'
    )
  return min(numbers)


def _name(layers: str, module: str, part: str, layer: int) -> str:
  return f'{_MODEL}{layers}.{layer}.{module}.{part}.weight'
