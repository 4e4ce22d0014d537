"""Safetensors files, read slice by slice after a check of all their headers.

Files are read, not mapped: mapped pages would count as this process's memory until the
file is closed, and hold the model a second time.
"""

from collections.abc import Callable, Iterable, Mapping
import contextlib
import pathlib
import re
from typing import Any

import numpy as np
import safetensors

from coupling.checkpoints.hf_config import CheckpointError
from coupling.runtime import finite

Shape = tuple[int, ...]

_FLOATS = ('F32', 'F16', 'BF16')
_ROWS = 4096  # compared at a time
# Whether two tensors, by name and version of their files, are equal: see `equal`.
_found: dict[tuple, bool] = {}
_LAYER, _EXPERT = (re.compile(rf'(?<={x}\.)\d+') for x in ('layers', 'experts'))


class TensorFiles(contextlib.ExitStack):
  """The tensors of some files, by name; a context, in which the files are open."""

  def __init__(self, paths: Iterable[pathlib.Path]):
    """Opens the files and reads their headers.

    Raises:
      CheckpointError: a file that is truncated or no safetensors file.
    """
    super().__init__()
    self._slices, self._path_of = {}, {}
    self.paths = list(paths)
    for path in self.paths:
      try:
        opened = safetensors.safe_open(path, framework='np', backend='pread')
        file = self.enter_context(opened)
        self._slices |= {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        self._path_of |= dict.fromkeys(file.keys(), path)
      except (OSError, safetensors.SafetensorError) as e:
        raise CheckpointError(
          f'{path}: this is no whole safetensors file ({e}); it is truncated or '
          'damaged: download or copy it again.'
        ) from e

  @property
  def names(self) -> set[str]:
    return set(self._slices)

  def read(self, name: str, index: Any, dtype: np.dtype | None = None) -> np.ndarray:
    """A part of a tensor.

    Args:
      name: of the tensor.
      index: of the part, a slice for every axis; ... for all of it.
      dtype: to cast it to; default: the type that it has in the file.

    Raises:
      CheckpointError: it holds NaN or infinity, there or once it is cast.
    """
    data = self._slices[name][index]
    if not finite.is_finite(data):
      raise CheckpointError(
        f'{self._path_of[name]}: the tensor {name} holds NaN or infinity. The file is '
        'damaged, or was saved by a training that diverged: download it again, or use '
        'an earlier checkpoint.'
      )
    if dtype is None or dtype == data.dtype:
      return data
    with np.errstate(over='ignore'):  # reported here
      cast = data.astype(dtype)
    if cast.itemsize < data.itemsize and not finite.is_finite(cast):
      raise CheckpointError(
        f'{self._path_of[name]}: the tensor {name} holds values that are too large for '
        f'{cast.dtype}: set base.param_dtype to float32.'
      )
    return cast

  def equal(self, first: str, second: str) -> bool:
    """Whether two matrices have the same shape and values.

    Reads part after part, and once a process while the files stay as they are.
    """
    stats = [(x, self._path_of[x], self._path_of[x].stat()) for x in (first, second)]
    key = tuple((x, path, at.st_size, at.st_mtime_ns) for x, path, at in stats)
    if key not in _found:
      _found[key] = self._equal(first, second)
    return _found[key]

  def _equal(self, first: str, second: str) -> bool:
    shape, other = (self._slices[x].get_shape() for x in (first, second))
    if shape != other:
      return False
    parts = [slice(i, min(i + _ROWS, shape[0])) for i in range(0, shape[0], _ROWS)]
    return all(
      np.array_equal(*(self.read(x, (part,)) for x in (first, second)))
      for part in parts
    )

  def check(
    self,
    expected: Mapping[str, Shape],
    ignored: Callable[[str], bool],
    source: str,
    remedy: str,
  ) -> None:
    """Compares names, shapes and types with what is expected; reads no data.

    Raises:
      CheckpointError: lists all that is missing, unexpected or otherwise than expected,
        a line for each parameter of the layers.
    """
    found: dict[tuple[str, str], list[str]] = {}

    def note(name, problem):
      layer = _LAYER.search(name)
      key = (_LAYER.sub('*', _EXPERT.sub('*', name)), problem)
      found.setdefault(key, []).extend([layer[0]] if layer else [])

    for name, shape in expected.items():
      if name not in self._slices:
        note(name, f'missing, {list(shape)} expected')
        continue
      there, dtype = self._slices[name].get_shape(), self._slices[name].get_dtype()
      if tuple(there) != shape:
        note(name, f'has the shape {list(there)}, {list(shape)} expected')
      if dtype not in _FLOATS:
        note(name, f'is of type {dtype}, one of {", ".join(_FLOATS)} expected')
    for name in sorted(self.names - set(expected)):
      if not ignored(name):
        note(name, 'not expected')
    if found:
      lines = [
        f'  {name}: {problem}' + f' (layers {_ranges(layers)})' * bool(layers)
        for (name, problem), layers in found.items()
      ]
      raise CheckpointError(
        '\n'.join([f'{source}: tensors do not fit.', *lines, remedy])
      )


def _ranges(numbers: list[str]) -> str:
  """'0-3, 7' of 0, 1, 2, 3, 7."""
  runs: list[list[int]] = []
  for number in sorted({*map(int, numbers)}):
    if runs and number == runs[-1][-1] + 1:
      runs[-1].append(number)
    else:
      runs.append([number])
  return ', '.join(f'{r[0]}-{r[-1]}' if len(r) > 1 else str(r[0]) for r in runs)
