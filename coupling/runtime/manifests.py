"""A stage's manifest: what was made, with what config, from what, by which packages."""

import contextlib
import datetime
import hashlib
import importlib.metadata
import json
import pathlib
import platform

from coupling.runtime import files
from coupling.runtime.files import WorkdirError

NAME = 'manifest.json'  # in the stage's folder
PACKAGES = (
  *('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'tensorstore'),
  *('numpy', 'scipy', 'pyarrow', 'array_record', 'tensorflow-datasets'),
  *('transformers', 'tokenizers', 'ml_collections', 'matplotlib'),
)


def changes(old: dict, new: dict) -> list[tuple[str, str, str]]:
  """(field, old, new) of what differs as JSON: 1, 1.0 and true do, as in a digest."""
  old, new = (
    {k: json.dumps(v) for k, v in files.fields(x).items()} for x in (old, new)
  )
  fields = [(k, old.get(k, 'absent'), new.get(k, 'absent')) for k in sorted(old | new)]
  return [field for field in fields if field[1] != field[2]]


def digest(manifest: dict) -> str:
  """SHA-256 over the stage's name, config, inputs, files, state and info."""
  fields = ('stage', 'config', 'inputs', 'files', 'finished')
  parts = [*(manifest[field] for field in fields), manifest.get('info')]
  text = json.dumps(parts, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


def read(path: pathlib.Path) -> dict:
  """A manifest, as it was written.

  Raises:
    WorkdirError: it cannot be read, or was edited.
  """
  try:
    manifest = json.loads(path.read_bytes())
    if manifest['digest'] == digest(manifest):
      return manifest
    found = f'field digest: found {manifest["digest"]}, not {digest(manifest)}: edited'
  except (OSError, ValueError, LookupError, TypeError) as error:
    found = f'torn, or not a manifest of this program ({error!r})'
  raise WorkdirError(
    f'{path}: {found}; restore it, or move {path.parent} away to redo the stage'
  )


def provenance() -> dict:
  """Fields of a stage that begins: when, and with which packages."""
  packages = {}
  for name in PACKAGES:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      packages[name] = importlib.metadata.version(name)
  started = datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')
  return {'packages': packages, 'python': platform.python_version(), 'started': started}
