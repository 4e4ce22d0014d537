"""Weights from and to the hub's format.

On import every tensor's name, shape and type is checked from the files' headers before
any data is read. Then each device's part of each parameter is read straight to where it
belongs, one parameter after the other: the host never holds more than one.
"""

from collections.abc import Callable, Iterator
import contextlib
import itertools
import json
import math
import pathlib
import shutil
from typing import Any

import jax
import numpy as np
from safetensors import numpy as safetensors_numpy

from coupling.checkpoints import families
from coupling.checkpoints import hub
from coupling.checkpoints import tensors
from coupling.checkpoints import weight_names
from coupling.checkpoints.hf_config import CheckpointError
from coupling.checkpoints.weight_names import Weight
from coupling.model import decoder
from coupling.model.architecture import DecoderConfig
from coupling.runtime import distributed
from coupling.runtime import finite

_SHARD_BYTES = 2 * 10**9  # held by the host while they are written


def load(
  source: str | pathlib.Path,
  config: DecoderConfig,
  like: Any = None,
) -> decoder.Params:
  """Reads the weights of a checkpoint.

  Args:
    source: a local folder or a name on the hub, see hub.find.
    config: the decoder, as hub.decoder_config gives it.
    like: shapes, types and shardings (see sharding.abstract_params); default:
      config.param_dtype, on the first device. Data are cast to these types.

  Raises:
    CheckpointError: the checkpoint is not there, a file is damaged, tensors are
      missing, unexpected or of another shape (these are listed all at once), or one
      holds NaN or infinity.
  """
  like = decoder.abstract(config) if like is None else like
  params = []
  with _checked(hub.find(str(source)), config) as (files, table):
    leaves, tree = jax.tree.flatten(like)

    def read():
      for weight, x in zip(table, leaves, strict=True):
        params.append(_read(files, weight, x))

    # Each process reads its own parts: what one finds there stops all.
    distributed.every(read)
  return jax.tree.unflatten(tree, params)


def check(folder: pathlib.Path, config: DecoderConfig) -> None:
  """Raises CheckpointError, as `load` does; reads all data, one tensor at a time."""
  with _checked(folder, config) as (files, table):
    for weight in table:
      rows = slice(weight.first, weight.first + weight.shape[weight.axis])
      for name in weight.tensors:
        files.read(name, (*(slice(None),) * weight.axis, rows))


@contextlib.contextmanager
def _checked(
  folder: pathlib.Path, config: DecoderConfig
) -> Iterator[tuple[tensors.TensorFiles, list[Weight]]]:
  """A checkpoint's open files, and its weights by their names there."""
  raw = hub.read_config(folder)
  with tensors.TensorFiles(hub.weight_files(folder)) as files:
    table = weight_names.table(config, raw, files.names)
    rename = weight_names.renaming(raw, files.names)
    embedding, head = weight_names.tied_names(raw, files.names)
    if config.tied_head and embedding not in files.names and head in files.names:
      rename = _replacing(rename, embedding, head)
    table = [w._replace(tensors=tuple(map(rename, w.tensors))) for w in table]
    spare = config.tied_head and weight_names.is_tied(files, raw)
    files.check(
      {name: weight.whole for weight in table for name in weight.tensors},
      lambda name: _ignored(name) or (spare and name == head),
      str(folder),
      f'They were compared with {folder / hub.CONFIG}: correct its model_type and '
      'sizes if they are those of another model, or save the model again.',
    )
    yield files, table


def _replacing(
  rename: Callable[[str], str], name: str, by: str
) -> Callable[[str], str]:
  """A renaming in which another name stands for one."""
  return lambda x: by if rename(x) == name else rename(x)


def _ignored(name: str) -> bool:
  """Whether transformers would not use this tensor of a language model either."""
  if name.removeprefix('model.').split('.')[0] in weight_names.OTHER_PARTS:
    return True
  return name.endswith('rotary_emb.inv_freq')  # old files hold what is computed


def _at(tree: Any, path: tuple[str, ...]) -> Any:
  for key in path:
    tree = tree[key]
  return tree


def _read(
  files: tensors.TensorFiles, weight: Weight, like: jax.ShapeDtypeStruct
) -> jax.Array:
  """One parameter, each device's part by itself."""
  names = np.array(weight.tensors).reshape(like.shape[: weight.stacked])

  def part(index: tuple[slice, ...]) -> np.ndarray:
    bounds = [s.indices(size) for s, size in zip(index, like.shape)]
    out = np.empty([stop - start for start, stop, _ in bounds], like.dtype)
    stacked, rest = bounds[: weight.stacked], bounds[weight.stacked :]
    if weight.transposed:
      rest[-2:] = rest[:-3:-1]
    there = [slice(*b) for b in rest]
    start, stop, _ = rest[weight.axis]
    there[weight.axis] = slice(start + weight.first, stop + weight.first)
    for place in itertools.product(*(range(*b) for b in stacked)):
      data = files.read(str(names[place]), tuple(there), out.dtype)
      where = tuple(i - first for i, (first, _, _) in zip(place, stacked))
      out[where] = data.swapaxes(-1, -2) if weight.transposed else data
    return out

  place = like.sharding or jax.sharding.SingleDeviceSharding(jax.devices()[0])
  # Waits, or the host would hold the next parameter while this one is copied.
  return jax.block_until_ready(jax.make_array_from_callback(like.shape, place, part))


def save(
  folder: pathlib.Path,
  config: DecoderConfig,
  params: decoder.Params,
  *,
  tokenizer: Any = None,
  like: families.HFConfig | None = None,
  source: pathlib.Path | None = None,
  shard_bytes: int = _SHARD_BYTES,
) -> None:
  """Writes a checkpoint that `transformers` loads, whole or not at all.

  Args:
    folder: where; must not exist, or be empty.
    config: the decoder.
    params: its weights, on devices of this process; written in their types.
    tokenizer: one of transformers, saved beside the weights.
    like: the config.json that the model came from, see families.to_hf.
    source: the checkpoint that it came from: how it generates is kept.
    shard_bytes: size over which the weights are split into several files.

  Raises:
    CheckpointError: the folder is in use, or no family has this decoder's arithmetic.
  """
  raw = families.to_hf(config, like)
  if tokenizer is not None and like is None:
    raw |= {f'{x}_token_id': getattr(tokenizer, f'{x}_token_id') for x in _SPECIAL}
  with new_folder(folder) as partial:
    (partial / hub.CONFIG).write_text(json.dumps(raw, indent=2))
    if tokenizer is not None:
      tokenizer.save_pretrained(partial)
    if source is not None and (source / hub.GENERATION).exists():
      shutil.copyfile(source / hub.GENERATION, partial / hub.GENERATION)
    table = weight_names.table(config, raw)
    sizes = {
      name: math.prod(weight.whole) * _at(params, weight.path).dtype.itemsize
      for weight in table
      for name in weight.tensors
    }
    shards = _shards(sizes, shard_bytes)
    data = _tensors(table, params)
    weight_map = {}
    for i, names in enumerate(shards):
      name = hub.SINGLE
      if len(shards) > 1:
        name = f'model-{i + 1:05}-of-{len(shards):05}.safetensors'
      save_tensors(partial / name, dict(next(data) for _ in names))
      weight_map |= dict.fromkeys(names, name)
    if len(shards) > 1:
      index = {
        'metadata': {'total_size': sum(sizes.values())},
        'weight_map': weight_map,
      }
      (partial / hub.INDEX).write_text(json.dumps(index, indent=2))


_SPECIAL = ('bos', 'eos', 'pad')
_at_place = jax.jit(lambda x, place: x[place])  # one program for all of a shape


def _tensors(table: list[Weight], params: decoder.Params) -> Iterator:
  """(name, array) of every tensor, in the order of the table."""
  parts: dict[str, list[tuple[int, Weight, int]]] = {}
  for weight in table:
    for number, name in enumerate(weight.tensors):
      parts.setdefault(name, []).append((weight.first, weight, number))

  def part(weight, number):
    x = _at(params, weight.path)
    if weight.stacked:
      x = _at_place(x, np.unravel_index(number, x.shape[: weight.stacked]))
    data = np.asarray(x)
    return data.T if weight.transposed else data

  for name, some in parts.items():
    data = [part(weight, number) for _, weight, number in sorted(some)]
    yield (
      name,
      np.ascontiguousarray(data[0] if len(data) == 1 else np.concatenate(data)),
    )


def _shards(sizes: dict[str, int], limit: int) -> list[list[str]]:
  """Names, in order, in groups of at most `limit` bytes where a tensor allows it."""
  shards: list[list[str]] = [[]]
  room = limit
  for name, size in sizes.items():
    if shards[-1] and size > room:
      shards.append([])
      room = limit
    shards[-1].append(name)
    room -= size
  return shards


def save_tensors(path: pathlib.Path, data: dict[str, np.ndarray]) -> None:
  """Writes a safetensors file; raises NonFiniteError for NaN or infinity."""
  for name, x in data.items():
    if not finite.is_finite(x):
      raise finite.NonFiniteError(
        f'{path}: NaN or infinity in {name}: it is not exported. These weights are of '
        'a training that diverged: train anew with a lower learning rate.'
      )
  # transformers refuses files that do not say whose they are.
  safetensors_numpy.save_file(data, path, metadata={'format': 'pt'})


@contextlib.contextmanager
def new_folder(folder: pathlib.Path) -> Iterator[pathlib.Path]:
  """A folder to write into that takes its name only when all is written.

  Raises:
    CheckpointError: there is one of that name already, and it is not empty.
  """
  if folder.exists() and any(folder.iterdir()):
    raise CheckpointError(f'{folder}: not empty; move it away, or name another folder.')
  partial = folder.with_name(f'{folder.name}.partial')
  shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
  partial.mkdir(parents=True)
  yield partial
  partial.replace(folder)
