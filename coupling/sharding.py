"""The device mesh, and where parameters, optimizer state and batches live on it.

Axes: `data` splits the batch; `fsdp` splits the batch and the parameters. A machine
with one device is a mesh of one.
"""

from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
import numpy as np

from coupling import config as config_lib
from coupling import models


def make_mesh(config: config_lib.Mesh) -> Mesh:
  """The mesh that the config asks for, over all devices.

  Raises:
    ConfigError: when the axes do not multiply to the number of devices.
  """
  devices = np.asarray(jax.devices())
  sizes = {'data': config.data, 'fsdp': config.fsdp}
  free = [axis for axis, size in sizes.items() if size == -1]
  known = int(np.prod([size for size in sizes.values() if size != -1]))
  if len(free) == 1 and known and devices.size % known == 0:
    sizes[free[0]] = devices.size // known
  if int(np.prod(list(sizes.values()))) != devices.size or min(sizes.values()) < 1:
    raise config_lib.ConfigError(
      f'mesh.data={config.data} x mesh.fsdp={config.fsdp} does not give the '
      f'{devices.size} devices here; set one axis to -1 for "all that remain".'
    )
  return Mesh(devices.reshape(tuple(sizes.values())), tuple(sizes))


def replicated(mesh: Mesh) -> NamedSharding:
  return NamedSharding(mesh, P())


def batch_sharding(mesh: Mesh, leading: int = 0) -> NamedSharding:
  """Batches are split over all axes, after `leading` axes that are not."""
  return NamedSharding(mesh, P(*[None] * leading, mesh.axis_names))


def put_batch(mesh: Mesh, batch: Any) -> Any:
  return jax.device_put(batch, batch_sharding(mesh))


def put_params(mesh: Mesh, params: Any) -> Any:
  return jax.device_put(params, state_shardings(mesh, params))


def abstract_params(mesh: Mesh, model: models.DecoderConfig) -> Any:
  """Shapes, types and places of a model's weights, for reading a checkpoint."""
  shapes = models.abstract(model)
  return jax.tree.map(
    lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
    shapes,
    state_shardings(mesh, shapes),
  )


def stack_runs(mesh: Mesh, runs: Sequence[Any]) -> Any:
  """Trees of several runs as one, its leading axis of runs dealt over all devices."""
  stacked = jax.tree.map(lambda *x: np.stack(x), *runs)  # on the host: a device may
  return jax.device_put(stacked, batch_sharding(mesh))  # not have room for all runs


def take_run(stacked: Any, run: int) -> Any:
  """One run's tree out of `stack_runs`, copied on the device where it lies."""

  def here(x):
    for shard in x.addressable_shards:
      first, end, _ = shard.index[0].indices(len(x))
      if first <= run < end:
        return shard.data
    raise IndexError(f'run {run} of {len(x)}')

  on_device = jax.tree.map(here, stacked)
  return _at(on_device, run % len(jax.tree.leaves(on_device)[0]))


@jax.jit  # once for all runs of a device, since the index is an input
def _at(tree: Any, index: int) -> Any:
  return jax.tree.map(lambda x: x[index], tree)


def check_runs(mesh: Mesh, runs: int) -> None:
  """Raises ConfigError unless the runs can be dealt evenly over the devices."""
  if runs % mesh.size:
    raise config_lib.ConfigError(
      f'{runs} runs at once do not divide over {mesh.size} devices: train a multiple '
      f'of {mesh.size} at once, or one after another.'
    )


def check_batch(mesh: Mesh, field: str, batch: int, parts: int = 1) -> None:
  """Raises ConfigError unless the batch splits evenly over parts and devices."""
  if batch % (mesh.size * parts):
    raise config_lib.ConfigError(
      f'{field}={batch} does not divide over {parts} microbatches on {mesh.size} '
      f'devices: make it a multiple of {mesh.size * parts}.'
    )


def state_shardings(mesh: Mesh, state: Any) -> Any:
  """Shardings of a train state (or of its abstract shapes), leaf by leaf.

  A leaf with two or more axes is split over `fsdp` along the last axis that divides;
  vectors and scalars are replicated. The rule looks at shapes alone, so a parameter
  and its optimizer moments always lie together.

  Raises:
    ConfigError: when a matrix has no axis that divides.
  """
  size = mesh.shape['fsdp']

  def one(path, x):
    if x.ndim < 2 or size == 1:
      return replicated(mesh)
    for axis in reversed(range(x.ndim)):
      if x.shape[axis] % size == 0:
        return NamedSharding(mesh, P(*[None] * axis, 'fsdp'))
    raise config_lib.ConfigError(
      f'mesh.fsdp={size} divides no axis of {jax.tree_util.keystr(path)} with shape '
      f"{x.shape}: choose a divisor of the model's width."
    )

  return jax.tree_util.tree_map_with_path(one, state)
