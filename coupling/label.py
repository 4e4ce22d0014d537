"""Fixed labels: B(M_0), E(M_0) and M_0's reference distributions, written once.

A label set is a folder of Parquet files, `<split>-<first pair>.parquet`, one row a
pair in the order of the split. Nothing is recomputed during training.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
from scipy import special

from coupling import behavior
from coupling import explanation
from coupling import models
from coupling import records
from coupling import sharding
from coupling import workdir
from data import loader
from data import pairs as pairs_lib
from data import tokens as tokens_lib


@dataclasses.dataclass(frozen=True)
class LabelSet:
  """What M_0 does on N pairs. S is the support: vocabulary or options.

  Attributes:
    behavior_N: greedy behaviour on x, an option index.
    counterfactual_behavior_N: greedy behaviour on x∖C.
    reference_Nx2xS: M_0's log-probabilities on x and x∖C; S is 0 where not kept.
  """

  behavior_N: np.ndarray
  counterfactual_behavior_N: np.ndarray
  reference_Nx2xS: np.ndarray

  @property
  def explanation(self) -> explanation.Explanation:
    """E(M_0) = φ(B(M_0))."""
    return explanation.phi(self.behavior_N, self.counterfactual_behavior_N)


@functools.lru_cache
def _behaviors(config: models.DecoderConfig, support: str) -> Callable:
  @jax.jit
  def run(params, batch):
    logits_Bx2xV = behavior.pair_logits(config, params, batch['pair'])
    options_Bx2xK = jnp.stack([batch['options']] * 2, axis=1)
    chosen_Bx2 = behavior.choose(logits_Bx2xV, options_Bx2xK)
    if support == 'options':
      logits_Bx2xV = behavior.restrict(logits_Bx2xV, options_Bx2xK)
    reference_Bx2xS = jax.nn.log_softmax(logits_Bx2xV)
    if support == 'none':
      reference_Bx2xS = reference_Bx2xS[:, :, :0]
    return chosen_Bx2[:, 0], chosen_Bx2[:, 1], reference_Bx2xS

  return run


def compute(
  config: models.DecoderConfig,
  params: models.Params,
  questions: dict[str, np.ndarray],
  batch: int,
  mesh: jax.sharding.Mesh,
  support: str,
) -> LabelSet:
  """Behaviours of a model on pairs, in batches.

  Args:
    config: the decoder's shape.
    params: M_0.
    questions: of behavior.pair_questions.
    batch: pairs per batch.
    mesh: devices to split batches over.
    support: of the reference distributions: vocabulary, options or none.
  """
  run = _behaviors(config, support)
  sharding.check_batch(mesh, 'label.batch', batch)
  params = sharding.put_params(mesh, params)
  parts = []
  for rows, mask_B in loader.batches_in_order(questions, batch):
    out = jax.device_get(run(params, sharding.put_batch(mesh, rows)))
    parts.append([x[mask_B] for x in out])
  return LabelSet(*(np.concatenate(x) for x in zip(*parts)))


def write(
  folder: pathlib.Path,
  split: str,
  pairs: Sequence[pairs_lib.Pair],
  tokenizer: tokens_lib.Tokenizer,
  template: pairs_lib.Questions,
  shard: int,
  compute_shard: Callable[[dict[str, np.ndarray]], LabelSet],
  progress: Callable[[int], None],
) -> None:
  """Labels a split shard by shard; shards that are there already are kept."""
  questions = behavior.pair_questions(tokenizer, pairs, template)
  for first in range(0, len(pairs), shard):
    path = folder / f'{split}-{first:09d}.parquet'
    if not path.exists():
      items = pairs[first : first + shard]
      rows = np.arange(first, first + len(items))
      labels = compute_shard(loader.take(questions, rows))
      _, _, S = labels.reference_Nx2xS.shape
      table = pa.table(
        {
          'group': [p.group for p in items],
          'behavior': labels.behavior_N,
          'counterfactual_behavior': labels.counterfactual_behavior_N,
          'reference': pa.FixedSizeListArray.from_arrays(
            labels.reference_Nx2xS.ravel(), 2 * S
          )
          if S
          else pa.nulls(len(items)),
        }
      )
      workdir.write_table(path, table)
    progress(min(first + shard, len(pairs)))


def read(folder: pathlib.Path, split: str) -> LabelSet:
  """A split of a label set.

  Raises:
    WorkdirError: when the folder holds no labels for the split.
  """
  table = records.read_labels(folder, split, (*records.LABEL, 'reference'))
  reference = table['reference'].combine_chunks()
  if isinstance(reference, pa.NullArray):
    reference_Nx2xS = np.zeros((len(table), 2, 0), np.float32)
  else:
    reference_Nx2xS = reference.flatten().to_numpy().reshape(len(table), 2, -1)
  return LabelSet(
    table['behavior'].to_numpy(),
    table['counterfactual_behavior'].to_numpy(),
    reference_Nx2xS,
  )


def on_support(
  reference_NxS: np.ndarray, options_NxK: np.ndarray, support: str
) -> np.ndarray:
  """Reference log-probabilities over the support that the KL wants, normalised.

  Raises:
    WorkdirError: the vocabulary is wanted, but only the options were kept.
  """
  kept = 'options' if reference_NxS.shape[1] == options_NxK.shape[1] else 'vocabulary'
  if kept == support:
    return reference_NxS
  if support == 'vocabulary':
    raise workdir.WorkdirError(
      'objectives.behavior_kl.support is "vocabulary", but the label set keeps '
      'distributions over the options only: set label.reference to "vocabulary" and '
      'label anew, or set the support to "options".'
    )
  reference_NxK = np.take_along_axis(reference_NxS, np.maximum(options_NxK, 0), axis=1)
  reference_NxK = np.where(options_NxK >= 0, reference_NxK, -np.inf)
  return special.log_softmax(reference_NxK, axis=1)
