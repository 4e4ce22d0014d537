"""Files that are whole or not there, and errors that name them.

Whatever this program writes beside Orbax and TFDS goes through here.
"""

import contextlib
import errno
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

PARTIAL = '.partial'  # ends the name of a file that is being written


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


def dumps(value: Any, path: str) -> str:
  """JSON, keys sorted; refuses NaN and what is no JSON, naming its field."""
  for field, leaf in fields(value).items():
    try:
      json.dumps(leaf, allow_nan=False)
    except (TypeError, ValueError) as error:
      raise WorkdirError(
        f'{path}: field {field}: found {leaf!r} ({error}); write finite numbers, '
        'strings, booleans, and null for what is undefined'
      ) from error
  return json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + '\n'


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
  """Writes JSON, keys sorted, whole or not at all; refuses NaN, naming its field."""
  write_bytes(path, dumps(value, str(path)).encode())


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
    if twice := [name for name in wanted if names.count(name) > 1]:
      raise WorkdirError(f'{path}: columns {twice} are there more than once; {remedy}')
    if not (missing := [name for name in columns if name not in names]):
      return file.read(columns=wanted)
  except (OSError, pa.ArrowException) as error:
    raise WorkdirError(f'{path}: no readable Parquet ({error}); {remedy}') from error
  raise WorkdirError(
    f'{path}: the columns {missing} are missing, found {names}; {remedy}'
  )


@contextlib.contextmanager
def naming_shortage(folder: pathlib.Path) -> Iterator[None]:
  """Turns errors of a full disk or memory, whoever raises them, into a WorkdirError."""
  try:
    yield
  except Exception as error:
    first = str(error).partition('\n')[0]
    on_device = first.startswith('RESOURCE_EXHAUSTED') and 'memory' in first
    if on_device or isinstance(error, MemoryError):
      raise WorkdirError(
        f'{folder}: memory does not suffice ({first}); lower the batch of this stage '
        '(base.batch, label.batch, train.explanation_batch, train.behavior_batch, '
        'evaluate.batch, patch.batch) or --workers, or raise loop.accumulation'
      ) from error
    # TensorStore and Orbax raise errors of their own around the system's text.
    numbers, text = (errno.ENOSPC, errno.EDQUOT), f'{error} {error.__cause__}'
    known = getattr(error, 'errno', None) in numbers
    if not known and not any(os.strerror(number) in text for number in numbers):
      raise
    exists = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    raise WorkdirError(
      f'{folder}: the disk is full or a quota is spent '
      f'({shutil.disk_usage(exists).free} bytes are free now); free space and run the '
      'same command again: it resumes'
    ) from error
