"""Low-rank adapters (LoRA, Hu et al. 2021) beside the base model.

A linear layer y = x W becomes y = x W + (x A) B * alpha / rank; only A and B are
trained. The base model is the same weights without adapters, in the same program.
Layers below the first that has adapters have none, and take no part in the backward
pass. Axes: L layers that have adapters, I inputs, O outputs, R rank.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from coupling.config import schema
from coupling.model import layers
from coupling.model.architecture import DecoderConfig

TRIAL_RANK = 1024  # allowed on any model: those for trials have narrow layers
# Where each linear layer stands among a block's weights.
TARGETS = {
  'q': ('attention', 'q'),
  'k': ('attention', 'k'),
  'v': ('attention', 'v'),
  'o': ('attention', 'out'),
  'gate': ('mlp', 'gate'),
  'up': ('mlp', 'up'),
  'down': ('mlp', 'down'),
}
_OF_MLP = ('gate', 'up', 'down')


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Adapters:
  """Adapters of a model's last L layers, a pytree of arrays.

  alpha belongs to the tree's structure, not to its leaves: no gradient reaches it, no
  optimizer keeps moments of it, and two trees with different alphas do not mix.
  """

  weights: dict[str, dict[str, jax.Array]]  # target -> a [L, I, R], b [L, R, O]
  alpha: float = dataclasses.field(metadata={'static': True})

  @property
  def depth(self) -> int:
    """L."""
    return next(iter(self.weights.values()))['a'].shape[0]

  @property
  def rank(self) -> int:
    return next(iter(self.weights.values()))['a'].shape[-1]

  @property
  def scale(self) -> float:
    return self.alpha / self.rank

  def delta(self, weights: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """What one layer's adapter, a [I, R] and b [R, O], adds to the output for x."""
    a_IxR, b_RxO = weights['a'], weights['b'] * self.scale
    # (x A) B or x (A B), whichever takes fewer operations for many x.
    few = a_IxR.size + b_RxO.size < a_IxR.shape[0] * b_RxO.shape[1]
    for factor in (a_IxR, b_RxO) if few else (a_IxR @ b_RxO,):
      x = layers.product(x, factor.astype(x.dtype))
    return x


def init(
  config: DecoderConfig,
  *,
  rank: int,
  alpha: float,
  targets: tuple[str, ...] = tuple(TARGETS),
  first: int = 0,
  seed: int,
  dtype: str = 'float32',
) -> Adapters:
  """Adapters that change nothing yet: A is drawn as `peft` does, B is zero.

  Args:
    config: of the base model.
    rank: R, at least 1.
    alpha: the addition is scaled by alpha / rank.
    targets: names among TARGETS.
    first: the first layer that has adapters.
    seed: of A, uniform within 1 / sqrt(I) (Kaiming with slope sqrt(5)).
    dtype: of A and B.

  Raises:
    ConfigError: a target or a first layer that this model does not have, or no target.
    ValueError: a rank below 1.
  """
  check_targets(config, targets)
  check_first(config, first)
  if rank < 1:
    raise ValueError(f'lora.rank={rank}: must be at least 1.')
  weights = {}
  # A draw is not the matter of other targets, nor of where the first layer is.
  for number, name in enumerate(TARGETS):
    if name in targets:
      fan_in, fan_out = _shape(config, name)
      key, bound = jax.random.fold_in(jax.random.key(seed), number), fan_in**-0.5
      shape = (config.depth, fan_in, rank)
      weights[name] = {
        'a': jax.random.uniform(key, shape, dtype, -bound, bound)[first:],
        'b': jnp.zeros((config.depth - first, rank, fan_out), dtype),
      }
  return Adapters(weights, float(alpha))


def check_targets(
  config: DecoderConfig, targets: tuple[str, ...], field: str = 'lora.targets'
) -> None:
  """Raises ConfigError, naming the field, unless the model has all these layers."""
  known = tuple(name for name in TARGETS if _exists(config, name))
  if not targets or not set(targets) <= set(known):
    why = 'this model has no such layers'
    if config.num_experts and not {*targets}.isdisjoint(_OF_MLP):
      why = f'the {config.num_experts} experts of a layer take no adapters'
    raise schema.ConfigError(
      f'{field}={targets}: {why}; choose from {known}, one or more.'
    )
  if len(set(targets)) < len(targets):
    raise schema.ConfigError(f'{field}={targets}: name each layer once.')


def check_first(config: DecoderConfig, first: int, field: str = 'lora.layers') -> None:
  """Raises ConfigError, naming the field, unless the model has this layer."""
  if not 0 <= first < config.depth:
    raise schema.ConfigError(
      f'{field}={first}: the first layer that has adapters; this model has layers 0 to '
      f'{config.depth - 1}.'
    )


def check_rank(
  config: DecoderConfig, lora: schema.Lora, field: str = 'lora.rank'
) -> None:
  """Raises ConfigError, naming the field, where the rank is beyond every layer.

  Beyond the inputs and the outputs of a layer it adds nothing but numbers.

  Args:
    config: of the base model.
    lora: whose targets the model has, see `check_targets`.
    field: of the rank.
  """
  widest = max(max(_shape(config, name)) for name in lora.targets)
  if lora.rank > max(widest, TRIAL_RANK):
    raise schema.ConfigError(
      f'{field}={lora.rank}: the layers {lora.targets} have at most {widest} inputs or '
      'outputs; lower it, or set it to 0 to train all weights.'
    )


def abstract(config: DecoderConfig, **options: Any) -> Adapters:
  """Shapes and types of what `init` returns, without any memory; takes no seed."""
  return jax.eval_shape(lambda: init(config, **options, seed=0))


def merge(params: dict[str, Any], adapters: Adapters) -> dict[str, Any]:
  """The base weights with the adapters added in, in float32 and rounded once."""
  merged = jax.tree.map(lambda x: x, params)  # new dicts, the same arrays
  for name, low_rank in adapters.weights.items():
    group, layer = TARGETS[name]
    linear = merged['layers'][group][layer]
    a, b = (low_rank[part].astype(jnp.float32) for part in 'ab')
    below, kernel = jnp.split(linear['kernel'], [len(linear['kernel']) - len(a)])
    added = jnp.einsum('lir,lro->lio', a, b, precision='highest') * adapters.scale
    upper = (kernel.astype(jnp.float32) + added).astype(kernel.dtype)
    linear['kernel'] = jnp.concatenate([below, upper])
  return merged


def _exists(config: DecoderConfig, target: str) -> bool:
  if target in _OF_MLP and config.num_experts:
    return False
  return target != 'gate' or config.gated_mlp


def _shape(config: DecoderConfig, target: str) -> tuple[int, int]:
  """Inputs and outputs of a linear layer."""
  queries = config.num_heads * config.head_dim
  keys = config.num_kv_heads * config.head_dim
  return {
    'q': (config.width, queries),
    'k': (config.width, keys),
    'v': (config.width, keys),
    'o': (queries, config.width),
    'gate': (config.width, config.mlp_dim),
    'up': (config.width, config.mlp_dim),
    'down': (config.mlp_dim, config.width),
  }[target]
