"""The device mesh, and where parameters, optimizer state and batches live on it.

Axes: `data` splits the batch; `fsdp` splits the batch and the parameters, which are
gathered layer by layer; `tensor` splits the parameters so that each device computes its
part of every layer (Shoeybi et al. 2019): heads and features. A machine with one device
is a mesh of one.
"""

from collections.abc import Callable, Sequence
import dataclasses
import functools
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
import numpy as np

from coupling.config import schema
from coupling.model import decoder
from coupling.model import layers
from coupling.model.architecture import DecoderConfig
from coupling.model.kv_cache import Cache
from coupling.runtime import distributed

# Which axis of a weight `tensor` splits, by its layer and name: outputs of layers that
# go into heads and features, inputs of those that come out of them, the vocabulary.
_OUTPUTS = ('q', 'k', 'v', 'gate', 'up', 'head')
_INPUTS = ('out', 'o', 'down')
_TENSOR_AXIS = {
  **{(layer, name): -1 for layer in _OUTPUTS for name in ('kernel', 'bias', 'b')},
  **{(layer, name): -2 for layer in _INPUTS for name in ('kernel', 'a')},
  ('embed', 'embedding'): -2,
}


def make_mesh(config: schema.Mesh, devices: Sequence[jax.Device] | None = None) -> Mesh:
  """The mesh that the config asks for, over these devices; default: all there are.

  Raises:
    ConfigError: when the axes do not multiply to the number of devices.
  """
  devices = np.asarray(jax.devices() if devices is None else devices)
  sizes = dataclasses.asdict(config)
  free = [axis for axis, size in sizes.items() if size == -1]
  known = int(np.prod([size for size in sizes.values() if size != -1]))
  if len(free) == 1 and known and devices.size % known == 0:
    sizes[free[0]] = devices.size // known
  if int(np.prod(list(sizes.values()))) != devices.size or min(sizes.values()) < 1:
    raise schema.ConfigError(
      ' x '.join(
        f'mesh.{axis}={size}' for axis, size in dataclasses.asdict(config).items()
      )
      + f' does not give {devices.size} devices; set one axis to -1 for "all '
      'that remain".'
    )
  return Mesh(devices.reshape(tuple(sizes.values())), tuple(sizes))


def on(mesh: Mesh) -> Callable[[Callable], Callable]:
  """Decorates what is compiled for the mesh, to keep its rows: see layers.keep_rows."""

  def decorate(function):
    @functools.wraps(function)
    def on_mesh(*args):
      with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        return function(*args)

    return on_mesh

  return decorate


def replicated(mesh: Mesh) -> NamedSharding:
  return NamedSharding(mesh, P())


def batch_sharding(mesh: Mesh, leading: int = 0) -> NamedSharding:
  """Batches are split over layers.BATCH_AXES, after `leading` axes that are not."""
  return NamedSharding(mesh, P(*[None] * leading, layers.BATCH_AXES))


def cache_shardings(mesh: Mesh, config: DecoderConfig) -> Cache:
  """Keys and values lie where their rows are, and where their heads are."""
  heads = NamedSharding(mesh, P(None, layers.BATCH_AXES, 'tensor'))
  return Cache(heads, heads, batch_sharding(mesh) if config.window else None)


def batch_parts(mesh: Mesh) -> int:
  """How many parts a batch is split into."""
  return mesh.shape['data'] * mesh.shape['fsdp']


def put_batch(mesh: Mesh, batch: Any) -> Any:
  return distributed.put(batch, batch_sharding(mesh))


def put_params(mesh: Mesh, params: Any) -> Any:
  return distributed.put(params, state_shardings(mesh, params))


def abstract_params(mesh: Mesh, model: DecoderConfig) -> Any:
  """Shapes, types and places of a model's weights, for reading a checkpoint."""
  return placed(mesh, decoder.abstract(model))


def placed(mesh: Mesh, shapes: Any) -> Any:
  """Shapes and types of weights, with their places on the mesh."""
  return jax.tree.map(
    lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
    shapes,
    state_shardings(mesh, shapes),
  )


def check_batch(mesh: Mesh, field: str, batch: int, parts: int = 1) -> None:
  """Raises ConfigError unless the batch splits evenly over microbatches and devices."""
  split = batch_parts(mesh)
  if batch % (split * parts):
    raise schema.ConfigError(
      f'{field}={batch} does not divide over {parts} microbatches on {split} '
      f'devices: make it a multiple of {split * parts}.'
    )


def state_shardings(mesh: Mesh, state: Any) -> Any:
  """Shardings of a train state (or of its abstract shapes), leaf by leaf.

  A weight is split over `tensor` as its layer says, and over `fsdp` along the last
  other axis that divides; further vectors and scalars are replicated. The rule looks at
  shapes and at the last names of a path, so a parameter and its optimizer moments
  always lie together.

  Raises:
    ConfigError: when an axis does not divide, or a matrix has none that does.
  """
  fsdp, tensor = mesh.shape['fsdp'], mesh.shape['tensor']

  def one(path, x):
    axes, where = [None] * x.ndim, jax.tree_util.keystr(path)
    split = _TENSOR_AXIS.get(tuple(map(_name, path[-2:])))
    if tensor > 1 and split is not None and x.ndim >= 2:
      if x.shape[split] % tensor:
        raise schema.ConfigError(
          f'mesh.tensor={tensor} does not divide axis {split} of {where} with shape '
          f'{x.shape}: choose a divisor of it.'
        )
      axes[split] = 'tensor'
    if x.ndim < 2 or fsdp == 1:
      return NamedSharding(mesh, P(*axes))
    for axis in reversed(range(x.ndim)):
      if axes[axis] is None and x.shape[axis] % fsdp == 0:
        axes[axis] = 'fsdp'
        return NamedSharding(mesh, P(*axes))
    raise schema.ConfigError(
      f'mesh.fsdp={fsdp} divides no axis of {where} with shape {x.shape}: choose a '
      "divisor of the model's width."
    )

  return jax.tree_util.tree_map_with_path(one, state)


def _name(key: Any) -> str:
  """What a key of a path is called, whatever kind of container it is of."""
  return str(getattr(key, 'key', getattr(key, 'name', key)))
