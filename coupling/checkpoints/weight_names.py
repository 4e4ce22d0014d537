"""The weight-name table: where each of our parameters stands in a hub checkpoint."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from coupling.checkpoints import hf_config
from coupling.checkpoints import tensors as tensors_lib
from coupling.model import decoder
from coupling.model import lora
from coupling.model.architecture import DecoderConfig

_EMBEDDING, _HEAD = 'model.embed_tokens.weight', 'lm_head.weight'
# What may stand for 'model.', and for the head, where transformers finds them: of text
# models, and of multimodal ones as on the hub and as its versions have saved them.
_TEXT = ('model.', '', 'model.model.')
_MULTIMODAL = (
  'model.language_model.',
  'language_model.model.',
  'language_model.',
  'model.language_model.model.',
  'language_model.model.model.',
)
_HEADS = ('', 'model.')
OTHER_PARTS = ('vision_tower', 'multi_modal_projector')  # of multimodal models
_MODEL = {
  'embed.embedding': _EMBEDDING,
  'final_norm.scale': 'model.norm.weight',
  'head.kernel': _HEAD,
}
_BLOCK = {
  'attention_norm.scale': 'input_layernorm.weight',
  'attention.q.kernel': 'self_attn.q_proj.weight',
  'attention.k.kernel': 'self_attn.k_proj.weight',
  'attention.v.kernel': 'self_attn.v_proj.weight',
  'attention.q.bias': 'self_attn.q_proj.bias',
  'attention.k.bias': 'self_attn.k_proj.bias',
  'attention.v.bias': 'self_attn.v_proj.bias',
  'attention.out.kernel': 'self_attn.o_proj.weight',
  'attention.out.bias': 'self_attn.o_proj.bias',
  'attention.q_norm.scale': 'self_attn.q_norm.weight',
  'attention.k_norm.scale': 'self_attn.k_norm.weight',
  'mlp_norm.scale': 'post_attention_layernorm.weight',
  'mlp.gate.kernel': 'mlp.gate_proj.weight',
  'mlp.up.kernel': 'mlp.up_proj.weight',
  'mlp.down.kernel': 'mlp.down_proj.weight',
  'mlp.router.kernel': 'mlp.gate.weight',
  'mlp.gate.bias': 'mlp.gate_proj.bias',
  'mlp.up.bias': 'mlp.up_proj.bias',
  'mlp.down.bias': 'mlp.down_proj.bias',
}
# With norms on both sides of a layer, the one before the MLP goes by another name.
_POST_NORMS = {
  'attention_post_norm.scale': 'post_attention_layernorm.weight',
  'mlp_norm.scale': 'pre_feedforward_layernorm.weight',
  'mlp_post_norm.scale': 'post_feedforward_layernorm.weight',
}
# Some families have several of them in one tensor, one below the other.
_FUSED = {
  'self_attn.qkv_proj': ('attention.q', 'attention.k', 'attention.v'),
  'mlp.gate_up_proj': ('mlp.gate', 'mlp.up'),
}
# Experts, one by one or, as transformers holds them, all in one tensor.
_EXPERTS = {
  f'mlp.experts.{name}.kernel': f'mlp.experts.{{}}.{name}_proj.weight'
  for name in ('gate', 'up', 'down')
}
_EXPERTS_IN_ONE = {
  'mlp.experts.gate_up_proj': ('mlp.experts.gate', 'mlp.experts.up'),
  'mlp.experts.down_proj': ('mlp.experts.down',),
}


class Weight(NamedTuple):
  """One of our parameters and the tensors that it is made of.

  A linear layer's kernel is [..., in, out] here and [..., out, in] there.
  """

  path: tuple[str, ...]  # among our parameters
  tensors: tuple[str, ...]  # one, or one for each place along the stacked axes
  stacked: int  # leading axes of ours that are no tensor's: layers, and experts
  transposed: bool
  shape: tuple[int, ...]  # of its part of one tensor, as it is there
  first: int  # row of the tensor that is its own
  rows: int  # of the tensor, along `axis`

  @property
  def axis(self) -> int:
    """That of a tensor's rows, the outputs of a layer."""
    return len(self.shape) - 2 if self.transposed else 0

  @property
  def whole(self) -> tuple[int, ...]:
    """The shape of one tensor."""
    return *self.shape[: self.axis], self.rows, *self.shape[self.axis + 1 :]


def table(
  config: DecoderConfig, raw: hf_config.HFConfig, names: Collection[str] = ()
) -> list[Weight]:
  """Every parameter of a decoder, in the order of its tree, as config.json's family.

  Args:
    config: the decoder.
    raw: a checkpoint's config.json.
    names: of its tensors, which decide whether experts are in one.
  """
  block = _BLOCK | (_POST_NORMS if config.post_norms else {})
  in_one = any(name.endswith(x) for name in names for x in _EXPERTS_IN_ONE)
  weights = []
  for keys, x in jax.tree_util.tree_leaves_with_path(decoder.abstract(config)):
    path = tuple(key.key for key in keys)
    stacked, transposed = int(path[0] == 'layers'), path[-1] == 'kernel'
    tensors, ours = (_MODEL.get('.'.join(path), ''),), '.'.join(path[1:])
    if stacked and in_one and ours in _EXPERTS:
      tensors = ('',) * config.depth  # see _fused
    elif stacked:
      name = _EXPERTS.get(ours) or block[ours]
      stacked += ours in _EXPERTS
      tensors = tuple(
        f'model.layers.{i}.{name}'.format(*place)
        for i, *place in np.ndindex(x.shape[:stacked])
      )
    shape = x.shape[stacked:]
    if transposed:
      shape = (*shape[:-2], shape[-1], shape[-2])
    weight = Weight(path, tensors, stacked, transposed, shape, 0, 0)
    weights.append(weight._replace(rows=shape[weight.axis]))
  if in_one:
    weights = _fused(weights, _EXPERTS_IN_ONE, '')
  return _fused(weights, _FUSED, '.weight') if is_fused(raw) else weights


def _fused(
  weights: list[Weight], modules: Mapping[str, Sequence[str]], end: str
) -> list[Weight]:
  """A table in which one tensor holds several parameters."""
  found = {'.'.join(weight.path): weight for weight in weights}
  for module, parts in modules.items():
    names = [f'layers.{part}.kernel' for part in parts]
    first, rows = 0, sum(found[name].rows for name in names)
    for name in names:
      weight = found[name]
      tensors = tuple(
        f'model.layers.{i}.{module}{end}' for i in range(len(weight.tensors))
      )
      found[name] = weight._replace(tensors=tensors, first=first, rows=rows)
      first += weight.rows
  return list(found.values())


def modules(fused: bool) -> dict[str, tuple[str, ...]]:
  """Linear layers of a hub checkpoint's block: name -> the LoRA targets in it."""
  targets = {'.'.join(path): target for target, path in lora.TARGETS.items()}
  found = {}
  if fused:
    found = {m: tuple(map(targets.pop, parts)) for m, parts in _FUSED.items()}
  names = {_BLOCK[f'{path}.kernel']: (target,) for path, target in targets.items()}
  return found | {name.removesuffix('.weight'): x for name, x in names.items()}


def is_fused(raw: hf_config.HFConfig) -> bool:
  """Whether one tensor holds several parameters."""
  return raw.get('model_type') == hf_config.FUSED


def is_multimodal(raw: hf_config.HFConfig) -> bool:
  """Whether transformers loads more than a language model for this config.json."""
  return raw.get('model_type') == hf_config.MULTIMODAL


def layers(raw: hf_config.HFConfig) -> str:
  """The name of the layers in the model that `AutoModelForCausalLM` loads."""
  return f'{(_MULTIMODAL if is_multimodal(raw) else _TEXT)[0]}layers'


def renaming(raw: hf_config.HFConfig, names: Collection[str]) -> Callable[[str], str]:
  """From the names of the table to those that a checkpoint has instead.

  Args:
    raw: the checkpoint's config.json.
    names: of its tensors.
  """

  def rename(name: str) -> str:
    stem = name.removeprefix('model.')
    prefixes = _MULTIMODAL if is_multimodal(raw) else _TEXT
    if name == _HEAD:
      prefixes = (*_HEADS, 'language_model.') if is_multimodal(raw) else _HEADS
    return next((p + stem for p in prefixes if p + stem in names), prefixes[0] + stem)

  return rename


def tied_names(raw: hf_config.HFConfig, names: Collection[str]) -> tuple[str, str]:
  """What a checkpoint calls the embedding and the head, if it has them."""
  rename = renaming(raw, names)
  return rename(_EMBEDDING), rename(_HEAD)


def is_tied(files: tensors_lib.TensorFiles, raw: hf_config.HFConfig) -> bool:
  """Whether a head that config.json ties to the embedding is tied in the weights too.

  It is, as in `transformers`, unless both are there with other values.
  """
  both = tied_names(raw, files.names)
  return not files.names.issuperset(both) or files.equal(*both)
