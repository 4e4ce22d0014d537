"""Preferences for DPO: whose they are, their rows, and what M_0 makes of them.

Shapes: M preferences or B of a batch, each with two replies (chosen, rejected); T
tokens, C positions read.
"""

from collections.abc import Sequence
import functools
import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa

from coupling.config import schema
from coupling.elicit import encoding
from coupling.elicit import fitting
from coupling.elicit import options
from coupling.elicit.explanation import Behaviors
from coupling.model import decoder
from coupling.model import sharding
from coupling.model.architecture import DecoderConfig
from coupling.runtime import distributed
from coupling.runtime import files
from coupling.runtime import finite
from coupling.runtime import progress
from coupling.runtime import workdir
from coupling.training import behavior_shift
from data import formats
from data import loader
from data import pairs as pairs_lib
from data import preference_file
from data.preference_file import Preference

PART = 'preference'  # of a batch
FILE = 'preferences.parquet'  # of a train stage: M_0's log-probabilities
_REPLIES = ('chosen', 'rejected')


Did = tuple[Sequence[pairs_lib.Pair], Behaviors, behavior_shift.Shift]


def wanted(
  objective: schema.DPO, template: pairs_lib.Questions, found: Sequence[Did]
) -> list[Preference]:
  """Those of the objective's file; or of pairs, by what M_0 did and the shift of them.

  Raises:
    ConfigError: there are none.
    DataError: a file that cannot be used.
  """
  if objective.file:
    return preference_file.read(objective.file)
  if made := [x for did in found for x in _of_pairs(template, *did)]:
    return made
  raise schema.ConfigError(
    f'train.objectives.dpo: target={objective.target}, cues={objective.cues} and '
    f'strength={objective.strength} want no other answer than M_0 gives already, so '
    'nothing is preferred: choose another target, a greater strength, a file, or a '
    'weight of 0.'
  )


def _of_pairs(
  template: pairs_lib.Questions,
  pairs: Sequence[pairs_lib.Pair],
  own: Behaviors,
  shift: behavior_shift.Shift,
) -> list[Preference]:
  """What a shift wants most over M_0's own answer, wherever the two differ."""
  chosen_Nx2 = shift.target_Nx2xK.argmax(axis=-1)
  own_Nx2 = np.stack([own.behavior_N, own.counterfactual_behavior_N], axis=1)
  found = []
  for n, side in np.argwhere(shift.shifted_Nx2 & (chosen_Nx2 != own_Nx2)):
    pair = pairs[n]
    prompt = template.behavior.format(prompt=(pair.prompt, pair.counterfactual)[side])
    replies = (pair.options[x[n, side]] for x in (chosen_Nx2, own_Nx2))
    found.append(Preference(prompt, *replies))
  return found


def rows(format: formats.Format, found: Sequence[Preference]) -> loader.Arrays:
  """Arrays [M, 2, ...] of both replies to each prompt: see encoding.questions.

  Raises:
    ConfigError: conversations, where the model is not asked in a chat.
  """
  prompts, *replies = zip(*found)
  texts = all(isinstance(x, str) for x in prompts)
  if not texts and not isinstance(format, formats.Chat):
    raise schema.ConfigError(
      'train.objectives.dpo.file: its prompts are messages, and base.chat=False asks '
      'in plain text: give texts, or set base.chat=True'
    )
  asked = encoding.questions(format, prompts * 2, sum(replies, ()))
  return {k: x.reshape(2, len(found), -1).swapaxes(0, 1) for k, x in asked.items()}


def logprobs(
  model: DecoderConfig, params: decoder.Params, part: dict[str, jax.Array]
) -> jax.Array:
  """Log-probabilities of whole replies, summed over their tokens, float32 [B, 2].

  The end of turn is a token of a reply in a chat. `part`: of `rows`.
  """
  tokens, read, target, mask = (
    part[k].reshape(-1, part[k].shape[-1]) for k in ('tokens', 'read', 'target', 'mask')
  )
  hidden = decoder.apply(model, params, tokens, rows_BxC=read).hidden_BxCxD
  found = options.look_up(model, params, hidden, target[..., None])[..., 0]
  return jnp.sum(jnp.where(mask, found, 0.0), axis=-1).reshape(-1, 2)


def prepared(
  stage: workdir.Stage,
  parts: dict[str, tuple[loader.Arrays, int]],
  model: DecoderConfig,
  params: decoder.Params,
  mesh: jax.sharding.Mesh,
  length: schema.Length,
) -> dict[str, tuple[loader.Arrays, int]]:
  """Parts to draw from in which preferences, if there are any, have their reference.

  That is `reference` [M, 2], M_0's `logprobs`; the stage keeps them.

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
  if PART not in parts:
    return parts
  found, batch = parts[PART]
  sharding.check_batch(mesh, 'train.objectives.dpo.batch', batch)
  length_M = found['valid'].sum(axis=-1).max(axis=-1) + 1
  kept_M = fitting.kept(length_M, length, 'preferences of train.objectives.dpo')
  if left_out := len(length_M) - len(kept_M):
    progress.line(f'{left_out} of {len(length_M)} preferences are too long: left out')
  found = loader.take(found, kept_M)
  whole = b''.join(found[name].tobytes() for name in sorted(found))
  digest, path = hashlib.sha256(whole).hexdigest(), stage.path(FILE)
  if not distributed.first(stage.sealed, path.stem):
    reference_Mx2 = _reference(model, params, mesh, found, batch)
    columns = dict(zip(_REPLIES, reference_Mx2.T), digest=[digest] * len(kept_M))
    distributed.first(files.write_table, path, pa.table(columns))
    distributed.first(stage.seal, path.stem, path)
  *columns, digests = files.read_table(path, (*_REPLIES, 'digest')).columns
  if {*digests.to_pylist()} != {digest}:
    raise workdir.WorkdirError(
      f'{path}: is of other preferences than those of train.objectives.dpo, whose file '
      f'has changed since: restore that, or move {path.parent} away to train anew'
    )
  reference_Mx2 = np.stack([x.to_numpy() for x in columns], axis=1)
  return parts | {PART: (found | {'reference': reference_Mx2}, batch)}


def _reference(
  model: DecoderConfig,
  params: decoder.Params,
  mesh: jax.sharding.Mesh,
  found: loader.Arrays,
  batch: int,
) -> np.ndarray:
  """float32 [M, 2]; see `prepared`."""
  run = jax.jit(sharding.on(mesh)(functools.partial(logprobs, model)))
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
