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
FIELDS = ('stage', 'config', 'inputs', 'files', 'finished')  # that each has
PACKAGES = (
  *('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'tensorstore'),
  *('numpy', 'scipy', 'pyarrow', 'array_record', 'tensorflow-datasets'),
  *('transformers', 'tokenizers', 'ml_collections', 'matplotlib'),
  *('scikit-learn', 'pydantic'),
)


def read(path: pathlib.Path) -> dict:
  """Reads a manifest; raises WorkdirError where it is torn or something else."""
  try:
    manifest = json.loads(path.read_bytes())
    return {field: manifest[field] for field in FIELDS} | manifest
  except (OSError, ValueError, LookupError, TypeError) as error:
    raise WorkdirError(
      f'{path}: torn, or not a manifest of this program ({error!r}); restore it, or '
      f'move {path.parent} away to redo the stage'
    ) from error


def compare(path: pathlib.Path, manifest: dict, asked: dict) -> None:
  """Raises WorkdirError, naming them, where fields are not as they are asked for.

  They are compared as JSON: 1, 1.0 and true differ.
  """
  was, now = (
    {k: json.dumps(v) for k, v in files.fields({x: of[x] for x in asked}).items()}
    for of in (manifest, asked)
  )
  if changed := [k for k in sorted(was | now) if was.get(k) != now.get(k)]:
    lines = (
      f'  {k}: {was.get(k, "absent")} in {path}, {now.get(k, "absent")} now\n'
      for k in changed
    )
    raise WorkdirError(
      f'{manifest["stage"]} was made with another config or input:\n{"".join(lines)}'
      'restore what changed, use another --workdir, or move '
      f'{path.parent} away to redo the stage'
    )


def digest(manifest: dict) -> str:
  """SHA-256 over the stage's name, config, inputs, files and info."""
  parts = [manifest[k] for k in ('stage', 'config', 'inputs', 'files', 'info')]
  return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def provenance() -> dict:
  """Fields of a stage that begins: when, and with which packages."""
  packages = {}
  for name in PACKAGES:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      packages[name] = importlib.metadata.version(name)
  started = datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')
  return {'packages': packages, 'python': platform.python_version(), 'started': started}
