"""Layers stacked on a leading axis, run one after another: scanned, or unrolled.

Adapters may stand on the upper layers alone. What lies below the first of them then
depends on nothing that is trained: no gradient is computed there, and nothing is kept
for one. L layers, of which those from k on have adapters.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from coupling.model.architecture import DecoderConfig

# What a layer keeps for the backward pass, the rest being computed anew: its matrix
# products, or only what it began with. With `none` it keeps all that is needed.
REMAT = {
  'dots': jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
  'full': jax.checkpoint_policies.nothing_saveable,
}
# (x, (layer of the stack, its adapters)) -> (x, what is told of the layer)
Block = Callable[[jax.Array, tuple[Any, Any]], tuple[jax.Array, Any]]


def run(
  config: DecoderConfig, block: Block, x: jax.Array, stack: Any, low_rank: Any
) -> tuple[jax.Array, Any]:
  """Runs all layers in turn.

  Args:
    config: whether they are scanned, and what is computed anew.
    block: one layer; where it has no adapters, it is given {}.
    x: what enters the first.
    stack: tree of [L, ...].
    low_rank: tree of [L - k, ...], or {}.

  Returns:
    What leaves the last, and what is told of the layers, stacked.
  """
  depth, adapted = _length(stack), _length(low_rank)
  below = depth - adapted
  if not adapted:
    low_rank = {}
  if below in (0, depth):
    return _scan(config, remat(config, block), x, (stack, low_rank))
  x, lower = _part(config, block, x, stack, {}, 0, below)
  x, upper = _part(config, block, x, stack, low_rank, below, depth)
  return x, jax.tree.map(lambda *told: jnp.concatenate(told), lower, upper)


def remat(config: DecoderConfig, block: Callable, none: Callable | None = None):
  """A block that computes anew what the config says; `none`: the policy without."""
  policy = REMAT.get(config.remat, none)
  if policy is None:
    return block
  # Within a scan XLA cannot undo it, so nothing need prevent that.
  return jax.checkpoint(block, policy=policy, prevent_cse=not config.scan_layers)


def _part(config, block, x, stack, low_rank, first, stop):
  """Runs some of the layers."""
  if not config.scan_layers:
    some = jax.tree.map(lambda y: y[first:stop], stack)
    return _scan(config, remat(config, block), x, (some, low_rank))

  # A slice that is scanned would be a copy of the weights; so layers are looked up.
  def look_up(x, layer):
    index, low_rank = layer
    at = lambda y: jax.lax.dynamic_index_in_dim(y, index, keepdims=False)
    return block(x, (jax.tree.map(at, stack), low_rank))

  look_up = remat(config, look_up, none=_all_but_looked_up)
  return _scan(config, look_up, x, (jnp.arange(first, stop), low_rank))


def _all_but_looked_up(primitive, *_, **__) -> bool:
  """A policy that keeps no copy of the layers' weights for the backward pass."""
  return primitive not in (jax.lax.dynamic_slice_p, jax.lax.squeeze_p)


def _scan(config, block, x, layers):
  return jax.lax.scan(block, x, layers, unroll=1 if config.scan_layers else True)


def _length(stack: Any) -> int:
  """Of the leading axis; 0 where there is nothing."""
  return next((len(x) for x in jax.tree.leaves(stack)), 0)
