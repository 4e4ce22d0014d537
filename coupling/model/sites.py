"""Sites: where the decoder's activations can be read, or replaced by others."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

SITES = ('residual', 'heads', 'attention_out', 'mlp_out')  # in the order of computation


class Patch(NamedTuple):
  """Values that replace a site's activation where the mask is set.

  Without a mask they stand everywhere, and what would lead there is not computed.
  """

  value_LxBxTxX: jax.Array
  mask_LxBxT: jax.Array | None  # or [L, B, T, N] of single heads


def replace(
  value_xX: jax.Array, new_xX: jax.Array, mask_x: jax.Array | None
) -> jax.Array:
  """An activation, or where the mask is set another; as Patch has them."""
  new_xX = new_xX.astype(value_xX.dtype)
  if mask_x is None:
    return new_xX
  mask = mask_x.reshape(mask_x.shape + (1,) * (value_xX.ndim - mask_x.ndim))
  return jnp.where(mask, new_xX, value_xX)


class Hooks(NamedTuple):
  """What may be changed from outside while a layer runs; by default nothing is.

  `site(name, value)` returns an activation or what replaces it. `adapt(name, x, y)`
  returns the output y of the linear layer `name` on x, or y with an adapter's share.
  """

  site: Callable[[str, jax.Array], jax.Array]
  adapt: Callable[[str, jax.Array, jax.Array], jax.Array]


NO_HOOKS = Hooks(lambda name, value: value, lambda name, x, y: y)
