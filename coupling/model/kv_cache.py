"""Keys and values of what was read. Axes as in attention.py, and L layers."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Cache(NamedTuple):
  """Keys and values of positions, all layers', in slots; see attention.Seen.

  A model reads caches side by side, so that what grows is apart from what stays.
  """

  k_LxBxKxHxS: jax.Array
  v_LxBxKxSxH: jax.Array
  positions_BxS: jax.Array | None  # of the slots; only where layers slide

  @property
  def slots(self) -> int:
    return self.k_LxBxKxHxS.shape[-1]

  def empty(self, slots: int) -> 'Cache':
    """One of other slots for the same rows, not yet written."""

    def zeros(x, axis):
      shape = list(x.shape)
      shape[axis] = slots
      return jnp.zeros(shape, x.dtype)

    return self._along_slots(zeros)

  def write(self, new: 'Cache', slot: jax.Array | int) -> 'Cache':
    """With slots from `slot` on as in `new`."""
    return self._along_slots(
      lambda x, axis, y: jax.lax.dynamic_update_slice_in_dim(x, y, slot, axis), new
    )

  def part(self, first: int, stop: int, slots: int) -> 'Cache':
    """Of some layers, the first slots."""
    some = self._along_slots(
      lambda x, axis: jax.lax.slice_in_dim(x, 0, slots, axis=axis)
    )
    return some._replace(
      k_LxBxKxHxS=some.k_LxBxKxHxS[first:stop], v_LxBxKxSxH=some.v_LxBxKxSxH[first:stop]
    )

  def _along_slots(self, f: Callable[..., jax.Array], *others: 'Cache') -> 'Cache':
    """f(x, axis of its slots, those of the others) of every array."""
    axes = Cache(-1, -2, None if self.positions_BxS is None else -1)
    return jax.tree.map(f, self, axes, *others)
