"""Rows of the data files that users have: CSV, JSON lines and Parquet, read strictly.

Everything here reads local files; CSV and JSON lines may be packed by gzip. What is
wrong with a file is a `DataError` that names the file, the row, the field, and what to
do.
"""

from collections.abc import Iterator, Mapping, Sequence
import codecs
import csv
import dataclasses
import gzip
import io
import json
import pathlib
import sys
from typing import Any
import zlib

import pyarrow as pa
import pyarrow.parquet as pq

from data import folders

DataError = folders.DataError
files = folders.files
csv.field_size_limit(sys.maxsize)  # else 131,072 characters a cell


@dataclasses.dataclass(frozen=True)
class Row:
  """One row: its values by column, its file, and its number there, from 1."""

  values: Mapping[str, Any]
  path: pathlib.Path
  number: int

  @property
  def where(self) -> str:
    """File and row, as an error names them."""
    return f'{self.path} row {self.number}'

  def source(self, root: str) -> str:
    """The same from the user's file or folder on, which may lie elsewhere tomorrow."""
    folder = pathlib.Path(root).expanduser()
    below = self.path.relative_to(folder if folder.is_dir() else folder.parent)
    return f'{below.as_posix()} row {self.number}'

  def text(self, column: str) -> str:
    """The text in a column.

    Raises:
      DataError: the cell is empty or no text.
    """
    value = self.values[column]
    if not isinstance(value, str) or not value.strip():
      raise DataError(
        f'{self.where}, field {column!r}: expected text, found {value!r}; correct or '
        'remove the row.'
      )
    try:
      value.encode()
    except UnicodeEncodeError as e:
      raise DataError(
        f'{self.where}, field {column!r}: no Unicode text ({e}); correct the row.'
      ) from e
    return value


def rows(path: pathlib.Path, columns: Sequence[str]) -> Iterator[Row]:
  """The rows of a .csv (with a header), .jsonl or .parquet file.

  Args:
    path: the file.
    columns: those that it must have.

  Raises:
    DataError: the file cannot be read, is empty, or lacks a column.
  """
  read = {'.csv': _csv_rows, '.jsonl': _json_rows, '.parquet': _parquet_rows}
  kind = folders.kind(path)
  if kind not in read:
    raise DataError(f'{path}: expected a file that ends in {" or ".join(read)}.')
  empty = True
  for row in read[kind](path):
    missing = [column for column in columns if column not in row.values]
    if missing:
      raise DataError(
        f'{row.where}: no field {missing[0]!r}; found {sorted(row.values)}. Give a '
        f'file with the fields {list(columns)}, or rename them.'
      )
    empty = False
    yield row
  if empty:
    raise DataError(f'{path}: the file holds no rows; give one that does.')


def cells(path: pathlib.Path) -> Iterator[tuple[int, list[str]]]:
  """(row number from 1, cells) of a CSV file; rows without any text are passed over.

  Raises:
    DataError: the file is no UTF-8 text, or its quotes do not match.
  """
  number = 0
  try:
    reader = csv.reader(io.StringIO(_text(path), newline=''), strict=True)
    for number, row in enumerate(reader, 1):
      if any(map(str.strip, row)):
        yield number, row
  except csv.Error as e:
    raise DataError(
      f'{path}, after row {number}: cannot be read as CSV ({e}); the file may be cut '
      'off or of another kind.'
    ) from e


def _bytes(path: pathlib.Path) -> bytes:
  """A file's content, unpacked where it is packed."""
  try:
    data = path.read_bytes()
    folders.note_read(path, data)
    if path.suffix.lower() == '.gz':
      data = gzip.decompress(data)
  except (OSError, EOFError, zlib.error) as e:
    raise DataError(f'{path}: cannot be read ({e}); download it again.') from e
  if data.startswith(b'version https://git-lfs'):
    raise DataError(
      f'{path}: cannot be read: it is a pointer of Git LFS, not the file; fetch the '
      'file with `git lfs pull`, or download it again.'
    )
  return data


def _text(path: pathlib.Path) -> str:
  """A file's text, which must be UTF-8; without a byte order mark."""
  data = _bytes(path)
  start = len(codecs.BOM_UTF8) * data.startswith(codecs.BOM_UTF8)
  wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
  if wide or b'\0' in data:
    where = 0 if wide else data.index(b'\0')
    raise DataError(
      f'{path}, byte {where} (0x{data[where]:02x}), line 1: UTF-16 or no text at all, '
      'and UTF-8 is expected; save the file as UTF-8.'
    )
  try:
    return data[start:].decode()
  except UnicodeDecodeError as e:
    at = start + e.start
    line = data.count(b'\n', 0, at) + 1
    begin = max(data.rfind(b'\n', 0, at) + 1, at - 20)
    as_1252 = data[begin : at + 10].decode('cp1252', 'replace').splitlines()[0]
    raise DataError(
      f'{path}, byte {at} (0x{data[at]:02x}), line {line}: cannot be read as UTF-8; in '
      f'Windows-1252 it is {as_1252!r}. If that is right, save the file as UTF-8; else '
      'it is damaged.'
    ) from e


def _csv_rows(path: pathlib.Path) -> Iterator[Row]:
  header = None
  for number, row in cells(path):
    where = f'{path} row {number}'
    if header is None:
      header = row
      if len(set(header)) < len(header):
        raise DataError(f'{where}: the header names a column twice: {header}.')
    elif len(row) != len(header):
      raise DataError(
        f'{where}: {len(row)} cells, but the header has {len(header)}: {header}; '
        'correct the row.'
      )
    else:
      yield Row(dict(zip(header, row)), path, number)


def _json_rows(path: pathlib.Path) -> Iterator[Row]:
  # JSON texts may hold the line ends of Unicode; files have \n, \r\n or \r.
  for number, line in enumerate(io.StringIO(_text(path), newline=None), 1):
    if not line.strip():
      continue
    try:
      value = json.loads(line)
    except (ValueError, RecursionError) as e:
      raise DataError(f'{path} row {number}: no JSON ({e}); correct the row.') from e
    if not isinstance(value, dict):
      raise DataError(
        f'{path} row {number}: expected a JSON object, found {line[:40]!r}.'
      )
    yield Row(value, path, number)


def _parquet_rows(path: pathlib.Path) -> Iterator[Row]:
  """Rows; of a file with one struct column alone, those that lie in it."""
  data = _bytes(path)
  try:
    # Not by its path, of which pyarrow may take folders' names for columns.
    table = pq.ParquetFile(pa.BufferReader(data)).read()
    if len(table.columns) == 1 and pa.types.is_struct(table.schema.types[0]):
      table = pa.Table.from_struct_array(table.column(0))
    names, found = table.column_names, table.to_pylist()
  except (OSError, ValueError, OverflowError, pa.ArrowException) as e:
    raise DataError(
      f'{path}: cannot be read as Parquet ({e}); download it again.'
    ) from e
  if len(set(names)) < len(names):
    raise DataError(f'{path}: names a column twice: {names}.')
  for number, values in enumerate(found, 1):
    yield Row(values, path, number)
