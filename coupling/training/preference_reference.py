"""What M_0 makes of preferences, which DPO refers to: computed once, and kept.

Shapes: M preferences, each with two replies (chosen, rejected).
"""

import functools
import hashlib

import jax
import numpy as np
import pyarrow as pa

from coupling.config import schema
from coupling.model import decoder
from coupling.model import sharding
from coupling.model.architecture import DecoderConfig
from coupling.runtime import distributed
from coupling.runtime import files
from coupling.runtime import finite
from coupling.runtime import progress
from coupling.runtime import workdir
from coupling.training import preference_loss
from coupling.training import preferences
from data import loader

FILE = 'preferences.parquet'  # of a train stage: M_0's log-probabilities
_REPLIES = ('chosen', 'rejected')


def prepared(
  stage: workdir.Stage,
  parts: dict[str, tuple[loader.Arrays, int]],
  model: DecoderConfig,
  params: decoder.Params,
  mesh: jax.sharding.Mesh,
  length: schema.Length,
) -> dict[str, tuple[loader.Arrays, int]]:
  """Parts to draw from in which preferences, if there are any, have their reference.

  That is `reference` [M, 2], M_0's preference_loss.logprobs; the stage keeps them.

  Args:
    stage: of the training.
    parts: of examples.training_parts.
    model: the decoder's shape.
    params: M_0's weights, on the mesh.
    mesh: devices to split batches over.
    length: of a prompt with its reply; longer ones are left out, or refused.

  Raises:
    ConfigError: too long ones where none are wanted; a mesh that does not divide the
      batch.
    Interrupted: between two batches, when a signal asked for it.
    NonFiniteError: some of the log-probabilities are not.
    WorkdirError: the stage keeps those of other preferences.
  """
  if preference_loss.PART not in parts:
    return parts
  found, batch = parts[preference_loss.PART]
  sharding.check_batch(mesh, 'train.objectives.dpo.batch', batch)
  given, found = loader.size(found), preferences.fitting_rows(found, length)
  if left_out := given - loader.size(found):
    progress.line(f'{left_out} of {given} preferences are too long: left out')
  whole = b''.join(found[name].tobytes() for name in sorted(found))
  digest, path = hashlib.sha256(whole).hexdigest(), stage.path(FILE)
  if not distributed.first(stage.sealed, path.stem):
    reference_Mx2 = _reference(model, params, mesh, found, batch)
    columns = dict(zip(_REPLIES, reference_Mx2.T), digest=[digest] * loader.size(found))
    distributed.first(files.write_table, path, pa.table(columns))
    distributed.first(stage.seal, path.stem, path)
  *columns, digests = files.read_table(path, (*_REPLIES, 'digest')).columns
  if {*digests.to_pylist()} != {digest}:
    raise workdir.WorkdirError(
      f'{path}: is of other preferences than those of train.objectives.dpo, whose file '
      f'has changed since: restore that, or move {path.parent} away to train anew'
    )
  reference_Mx2 = np.stack([x.to_numpy() for x in columns], axis=1)
  found = found | {'reference': reference_Mx2}
  return parts | {preference_loss.PART: (found, batch)}


def _reference(
  model: DecoderConfig,
  params: decoder.Params,
  mesh: jax.sharding.Mesh,
  found: loader.Arrays,
  batch: int,
) -> np.ndarray:
  """float32 [M, 2]; see `prepared`."""
  run = jax.jit(sharding.on(mesh)(functools.partial(preference_loss.logprobs, model)))
  bar = progress.Progress('M_0 on preferences', loader.size(found), 'preferences')
  parts, order = [], []
  for part, mask_B, row_n in loader.batches(found, batch):
    distributed.check()
    out_Bx2 = distributed.fetch(run(params, sharding.put_batch(mesh, part)))
    parts.append(out_Bx2[mask_B])
    order.append(row_n)
    bar.update(sum(map(len, order)))
  reference_Mx2 = loader.in_order(parts, order)
  good_M = np.isfinite(reference_Mx2).all(axis=1)
  finite.check_pairs(good_M, 'the log-probabilities of preferences', model.dtype)
  return reference_Mx2
