"""Rows of the data files that users have: CSV, JSON lines and Parquet, read strictly.

Everything here reads local files. What is wrong with a file is a `DataError` that
names the file, the row, the field, and what to do.
"""

from collections.abc import Iterator, Mapping, Sequence
import csv
import dataclasses
import json
import pathlib
import re
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

HUB_NAME = re.compile(r'[\w-][\w.-]*/[\w.-]+')


class DataError(ValueError):
  """A data file that cannot be used."""


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


def files(path: str, suffixes: Sequence[str]) -> list[pathlib.Path]:
  """The file at `path`, or all files with these suffixes in the folder, sorted.

  Raises:
    DataError: nothing is there, or nothing of these kinds.
  """
  if not path:
    raise DataError(
      'No file or folder of data is named: give the path of your copy, as '
      'config.py:path=FOLDER or in the field of config.task.'
    )
  root = pathlib.Path(path).expanduser()
  if root.is_dir():
    found = sorted(p for p in root.rglob('*') if p.is_file() and p.suffix in suffixes)
  elif root.exists():
    found = [root] if root.suffix in suffixes else []
  else:
    raise DataError(f'{path!r}: no such file or folder.{_download(path)}')
  if not found:
    raise DataError(f'{path!r}: no file that ends in {" or ".join(suffixes)}.')
  return found


def _download(path: str) -> str:
  if not HUB_NAME.fullmatch(path):
    return ' Give the path of a local file or folder.'
  return (
    ' If it is the name of a data set of the Hugging Face hub, download it first and '
    f'give the folder: hf download {path} --repo-type dataset --local-dir FOLDER'
  )


def rows(path: pathlib.Path, columns: Sequence[str]) -> Iterator[Row]:
  """The rows of a .csv (with a header), .jsonl or .parquet file.

  Args:
    path: the file.
    columns: those that it must have.

  Raises:
    DataError: the file cannot be read, is empty, or lacks a column.
  """
  read = {'.csv': _csv_rows, '.jsonl': _json_rows, '.parquet': _parquet_rows}
  if path.suffix not in read:
    raise DataError(f'{path}: expected a file that ends in {" or ".join(read)}.')
  empty = True
  for row in read[path.suffix](path):
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
  """(row number from 1, cells) of a CSV file; blank lines are passed over.

  Raises:
    DataError: the file is no UTF-8 text, or its quotes do not match.
  """
  number = 0
  try:
    with path.open(encoding='utf-8-sig', newline='') as file:
      for row in csv.reader(file, strict=True):
        if row:
          number += 1
          yield number, row
  except (OSError, UnicodeDecodeError, csv.Error) as e:
    raise DataError(
      f'{path}, after row {number}: cannot be read as CSV in UTF-8 ({e}); the file may '
      'be cut off or of another kind.'
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
  number = 0
  try:
    with path.open(encoding='utf-8-sig') as file:
      for number, line in enumerate(file, 1):
        if line.strip():
          value = json.loads(line)
          if not isinstance(value, dict):
            raise DataError(
              f'{path} row {number}: expected a JSON object, found {line[:40]!r}.'
            )
          yield Row(value, path, number)
  except json.JSONDecodeError as e:
    raise DataError(f'{path} row {number}: no JSON ({e}); correct the row.') from e
  except (OSError, UnicodeDecodeError) as e:
    raise DataError(
      f'{path}, after row {number}: cannot be read as UTF-8 text ({e}).'
    ) from e


def _parquet_rows(path: pathlib.Path) -> Iterator[Row]:
  try:
    table = pq.read_table(path)
  except (OSError, pa.ArrowException) as e:
    raise DataError(
      f'{path}: cannot be read as Parquet ({e}); download it again (a pointer of Git '
      'LFS is not the file).'
    ) from e
  for number, values in enumerate(table.to_pylist(), 1):
    yield Row(values, path, number)
