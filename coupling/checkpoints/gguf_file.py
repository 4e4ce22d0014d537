"""GGUF files: their metadata, and their tensors one at a time.

Everything is checked against the size of the file before data are read. Data are read,
not mapped (see tensors.py), and dequantised by the `gguf` package, some rows at a time.
Source: ggml, docs/gguf.md, versions 2 and 3.
"""

from collections.abc import Iterator
import math
import pathlib
import re
import struct
from typing import Any, BinaryIO, NamedTuple

import gguf
import ml_dtypes
import numpy as np

from coupling.checkpoints.hf_config import CheckpointError

SUFFIX = '.gguf'
_MAGIC = b'GGUF'
_VERSIONS = (2, 3)
# Kinds of values: as struct writes them; besides, strings and lists.
_NUMBERS = dict(enumerate('BbHhIif?')) | {10: 'Q', 11: 'q', 12: 'd'}
_STRING, _LIST = 8, 9
_TYPES = gguf.GGMLQuantizationType
# Kept as they are; all others become float32.
PLAIN = {
  _TYPES.F32: np.dtype('<f4'),
  _TYPES.F16: np.dtype('<f2'),
  _TYPES.BF16: np.dtype(ml_dtypes.bfloat16),
}
_PART = re.compile(r'(.*)-(\d{5})-of-(\d{5})\.gguf', re.DOTALL)
_CHUNK = 2**22  # numbers that are dequantised at once


class Tensor(NamedTuple):
  """Where a tensor stands; `shape` has the fastest axis last, as NumPy has it."""

  path: pathlib.Path
  kind: gguf.GGMLQuantizationType
  shape: tuple[int, ...]
  start: int  # in bytes
  size: int  # in bytes


def parts(path: pathlib.Path) -> list[pathlib.Path]:
  """The files of a model: this one, or all that it was split into.

  Raises:
    CheckpointError: some of them are missing.
  """
  if not (name := _PART.fullmatch(path.name)):
    found = [path]
  else:
    stem, _, count = name.groups()
    numbers = range(1, int(count) + 1)
    found = [path.with_name(f'{stem}-{i:05}-of-{count}{SUFFIX}') for i in numbers]
  if missing := [x.name for x in found if not x.is_file()]:
    one = len(found) == 1
    raise CheckpointError(
      f'{path}: there is no such file; give a GGUF file that is there.'
      if one
      else f'{path}: one of {len(found)} parts, of which these are missing: '
      f'{", ".join(missing)}; put all of them into one folder.'
    )
  return found


class GGUF:
  """A model in one GGUF file, or in several.

  Attributes:
    path: the file, of several the first.
    paths: all of them.
    metadata: values by their keys.
    tensors: by their names, in the order of the files.
  """

  def __init__(self, path: pathlib.Path):
    """Reads the headers.

    Raises:
      CheckpointError: a file that is missing, truncated, damaged, no GGUF, big-endian,
        of another version, or has a tensor of a type that cannot be dequantised.
    """
    self.paths = parts(path)
    self.path = self.paths[0]
    self.metadata: dict[str, Any] = {}
    self.tensors: dict[str, Tensor] = {}
    for part in self.paths:
      with part.open('rb') as file:
        header = _Header(part, file)
        for name, tensor in header.tensors():
          if name in self.tensors:
            raise header.damaged(f'tensor {name} is there twice')
          self.tensors[name] = tensor
        self.metadata = header.metadata | self.metadata
    self._check_split()
    self._check_kinds()

  def __getitem__(self, key: str) -> Any:
    """A value of the metadata; a CheckpointError if there is none."""
    if key not in self.metadata:
      raise CheckpointError(
        f'{self.path}: {key} is missing in the metadata; convert the model again with '
        "a present llama.cpp, or give the model's folder in the hub's format."
      )
    return self.metadata[key]

  def _check_split(self) -> None:
    count = self.metadata.get('split.count', 0)
    total = self.metadata.get('split.tensors.count', len(self.tensors))
    if count > 1 and count != len(self.paths) or total != len(self.tensors):
      raise CheckpointError(
        f'{self.path}: split.count={count}, split.tensors.count={total}, but '
        f'{len(self.paths)} files with {len(self.tensors)} tensors were found; put all '
        f'parts into one folder, by their names NAME-00001-of-{count:05}{SUFFIX}.'
      )

  def _check_kinds(self) -> None:
    for kind in sorted({x.kind for x in self.tensors.values()} - PLAIN.keys()):
      block = np.zeros((1, gguf.GGML_QUANT_SIZES[kind][1]), np.uint8)
      try:
        gguf.dequantize(block, kind)
      except NotImplementedError as e:
        names = [name for name, x in self.tensors.items() if x.kind == kind]
        raise CheckpointError(
          f'{self.path}: {len(names)} tensors ({names[0]}, ...) are of type '
          f'{kind.name}, which the package gguf cannot dequantise; take a file of '
          'another quantisation, such as Q8_0 or Q4_K_M.'
        ) from e

  def read(self, name: str) -> np.ndarray:
    """A tensor's numbers: float16 and bfloat16 as they are, else float32.

    Raises:
      CheckpointError: the file ends before it, or it holds no finite numbers.
    """
    tensor = self.tensors[name]
    with tensor.path.open('rb') as file:
      file.seek(tensor.start)
      raw = np.fromfile(file, np.uint8, tensor.size)
    if len(raw) < tensor.size:
      raise _damaged(tensor.path, f'it ends within {name}')
    if tensor.kind in PLAIN:
      out = raw.view(PLAIN[tensor.kind]).reshape(tensor.shape)
    else:
      out = np.empty(tensor.shape, np.float32)
      rows, rows_out = raw.reshape(-1, _row_bytes(tensor)), _rows(out)
      step = max(1, _CHUNK // tensor.shape[-1])
      for i in range(0, len(rows), step):
        rows_out[i : i + step] = gguf.dequantize(rows[i : i + step], tensor.kind)
    if not all(np.isfinite(x).all() for x in np.array_split(out.ravel(), 64)):
      raise _damaged(tensor.path, f'{name} has numbers that are not finite')
    return out


def _rows(x: np.ndarray) -> np.ndarray:
  return x.reshape(-1, x.shape[-1])


def _row_bytes(tensor: Tensor) -> int:
  numbers, size = gguf.GGML_QUANT_SIZES[tensor.kind]
  return tensor.shape[-1] // numbers * size


def _damaged(path: pathlib.Path, found: str) -> CheckpointError:
  return CheckpointError(
    f'{path}: this is no whole GGUF file ({found}); it is truncated or damaged: '
    'download or copy it again.'
  )


class _Header:
  """Reads a file's header, from its start."""

  def __init__(self, path: pathlib.Path, file: BinaryIO):
    self._path, self._file = path, file
    self._left = self._size = path.stat().st_size
    if self._take(4) != _MAGIC:
      raise self.damaged('it does not begin with GGUF')
    version = self._number('I')
    if version & 0xFFFF == 0 and version:
      raise CheckpointError(
        f'{path}: a big-endian GGUF file, which is not supported; convert it to '
        'little-endian (`gguf-convert-endian FILE little` of the package gguf).'
      )
    if version not in _VERSIONS:
      raise CheckpointError(
        f'{path}: version {version} of GGUF; supported are '
        f'{", ".join(map(str, _VERSIONS))}. Convert the model again with a present '
        'llama.cpp.'
      )
    self._tensors, count = self._number('Q'), self._number('Q')
    self.metadata: dict[str, Any] = {}
    for _ in range(count):
      key = self._string()
      if key in self.metadata:
        raise self.damaged(f'key {key!r} is there twice')
      self.metadata[key] = self._value(self._number('I'))

  def tensors(self) -> Iterator[tuple[str, Tensor]]:
    """Reads the names and places of the tensors, all within the file."""
    align = self.metadata.get('general.alignment', gguf.GGUF_DEFAULT_ALIGNMENT)
    if type(align) is not int or align < 1 or align & (align - 1):
      raise self.damaged(f'general.alignment={align!r}')
    rows = [self._tensor() for _ in range(self._tensors)]
    begin = -(-(self._size - self._left) // align) * align
    for name, kind, shape, offset in rows:
      numbers, size = gguf.GGML_QUANT_SIZES[kind]
      tensor = Tensor(
        self._path,
        kind,
        shape,
        begin + offset,
        math.prod(shape) // numbers * size,
      )
      if not shape or math.prod(shape) == 0 or shape[-1] % numbers or offset % align:
        raise self.damaged(f'tensor {name} of {kind.name} {list(shape)} at {offset}')
      if tensor.start + tensor.size > self._size:
        raise self.damaged(
          f'tensor {name} ends at byte {tensor.start + tensor.size}, the file at '
          f'{self._size}'
        )
      yield name, tensor

  def damaged(self, found: str) -> CheckpointError:
    return _damaged(self._path, found)

  def _tensor(self) -> tuple[str, gguf.GGMLQuantizationType, tuple[int, ...], int]:
    name, axes = self._string(), self._number('I')
    if axes > 4:
      raise self.damaged(f'tensor {name!r} has {axes} axes')
    shape = tuple(self._number('Q') for _ in range(axes))[::-1]
    number = self._number('I')
    try:
      kind = gguf.GGMLQuantizationType(number)
    except ValueError as e:
      raise CheckpointError(
        f'{self._path}: tensor {name!r} is of type {number}, which the package gguf '
        'does not know; update it, or take a file of another quantisation.'
      ) from e
    return name, kind, shape, self._number('Q')

  def _take(self, size: int) -> bytes:
    if size > self._left:
      raise self.damaged(f'{size} bytes of its header are wanted, {self._left} left')
    self._left -= size
    return self._file.read(size)

  def _number(self, kind: str) -> int | float | bool:
    return struct.unpack(f'<{kind}', self._take(struct.calcsize(kind)))[0]

  def _string(self) -> str:
    text = self._take(self._number('Q'))
    try:
      return text.decode()
    except UnicodeDecodeError as e:
      raise self.damaged(f'{text[:40]!r} is no UTF-8') from e

  def _value(self, kind: int) -> Any:
    if kind in _NUMBERS:
      return self._number(_NUMBERS[kind])
    if kind == _STRING:
      return self._string()
    if kind != _LIST:
      raise self.damaged(f'a value is of kind {kind}')
    kind, count = self._number('I'), self._number('Q')
    if kind == _STRING:
      return [self._string() for _ in range(count)]
    if kind not in _NUMBERS:
      raise self.damaged(f'a list is of kind {kind}')
    size = struct.calcsize(_NUMBERS[kind])
    return list(struct.unpack(f'<{count}{_NUMBERS[kind]}', self._take(count * size)))
