"""Files that are whole or not there, and errors that name them.

Whatever this program writes beside Orbax and TFDS goes through here.
"""

import contextlib
import errno
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

PARTIAL = '.partial'  # ends the name of a file that is being written
# Of a disk or a device, in the texts of errors.
SHORTAGES = (*map(os.strerror, (errno.ENOSPC, errno.EDQUOT)), 'RESOURCE_EXHAUSTED')


class WorkdirError(RuntimeError):
  """Something the user can mend; the message says what and how."""


def fields(value: Any, path: str = '') -> dict[str, Any]:
  """Leaves of nested dicts and lists, by dotted path."""
  if isinstance(value, dict) and (value or not path):
    parts = {f'{path}.{key}' if path else str(key): v for key, v in value.items()}
  elif isinstance(value, (list, tuple)) and value:
    parts = {f'{path}[{i}]': v for i, v in enumerate(value)}
  else:
    return {path: value}
  return {p: leaf for name, v in parts.items() for p, leaf in fields(v, name).items()}


def write_bytes(path: pathlib.Path, data: bytes) -> None:
  """Writes a file whole or not at all."""
  partial = path.with_name(f'.{path.name}{PARTIAL}')
  try:
    with partial.open('wb') as file:
      file.write(data)
      file.flush()
      os.fsync(file.fileno())
    os.replace(partial, path)
  except BaseException:
    partial.unlink(missing_ok=True)
    raise


def write_json(path: pathlib.Path, value: Any) -> None:
  """Writes JSON, keys sorted, whole or not at all.

  Raises:
    WorkdirError: NaN, or what is no JSON; the message names its field.
  """
  for field, leaf in fields(value).items():
    try:
      json.dumps(leaf, allow_nan=False)
    except (TypeError, ValueError) as error:
      raise WorkdirError(
        f'{path}: field {field}: found {leaf!r} ({error}); write finite numbers, '
        'strings, booleans, and null for what is undefined'
      ) from error
  write_bytes(path, (json.dumps(value, indent=2, sort_keys=True) + '\n').encode())


def write_table(path: pathlib.Path, table: pa.Table) -> None:
  """Writes a Parquet file whole or not at all."""
  sink = pa.BufferOutputStream()
  pq.write_table(table, sink)
  write_bytes(path, sink.getvalue())


def read_table(
  path: pathlib.Path, columns: tuple[str, ...], optional: tuple[str, ...] = ()
) -> pa.Table:
  """Columns of a Parquet file, and what there is of the optional ones.

  Raises:
    WorkdirError: the file cannot be read, or a column is missing.
  """
  remedy = f'move {path.parent} away and make it anew, or restore the file'
  try:
    file = pq.ParquetFile(path)
    names = file.schema_arrow.names
    wanted = [*columns, *(name for name in optional if name in names)]
    if wrong := [name for name in wanted if names.count(name) != 1]:
      raise WorkdirError(
        f'{path}: the columns {wrong} are missing or there twice, found {names}; '
        f'{remedy}'
      )
    return file.read(columns=wanted)
  except (OSError, pa.ArrowException) as error:
    raise WorkdirError(f'{path}: no readable Parquet ({error}); {remedy}') from error


@contextlib.contextmanager
def making(folder: pathlib.Path) -> Iterator[None]:
  """Makes a folder to write to; raises WorkdirError where that, or the body, fails."""
  try:
    folder.mkdir(parents=True, exist_ok=True)
    yield
  except OSError as error:
    raise WorkdirError(
      f'{folder}: cannot be written to ({error}); choose another --workdir'
    ) from error


@contextlib.contextmanager
def naming_shortage(folder: pathlib.Path) -> Iterator[None]:
  """Turns errors of a full disk or memory, whoever raises them, into a WorkdirError."""
  try:
    yield
  except Exception as error:
    # TensorStore and Orbax raise errors of their own around the system's text.
    text = f'{type(error).__name__}: {error} {error.__cause__ or ""}'
    known = any(sign in text for sign in SHORTAGES)
    if not known and not isinstance(error, MemoryError):
      raise
    raise WorkdirError(
      f'{folder}: out of disk space, quota or memory ({text.splitlines()[0]}); free '
      'some, or lower the batch of this stage or --workers, and run the '
      'same command again: it resumes'
    ) from error
