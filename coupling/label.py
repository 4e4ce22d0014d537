"""Fixed labels: B(M_0), E(M_0) and M_0's reference distributions, written once.

A label set is a folder of Parquet files, `<split>-<first pair>.parquet`, one row a
pair in the order of the split. Nothing is recomputed during training.
"""

from collections.abc import Callable, Sequence
import pathlib

import numpy as np
import pyarrow as pa
from scipy import special

from coupling import behavior
from coupling import records
from coupling import workdir
from data import loader
from data import pairs as pairs_lib
from data import tokens as tokens_lib


def write(
  folder: pathlib.Path,
  split: str,
  pairs: Sequence[pairs_lib.Pair],
  tokenizer: tokens_lib.Tokenizer,
  template: pairs_lib.Questions,
  shard: int,
  compute_shard: Callable[[dict[str, np.ndarray]], behavior.Behaviors],
  progress: Callable[[int], None],
) -> None:
  """Labels a split shard by shard; shards that are there already are kept.

  Args:
    folder: of the label set.
    split: its name.
    pairs: all of the split.
    tokenizer: of the model.
    template: how the task asks.
    shard: pairs per file.
    compute_shard: from rows of behavior.pair_questions to M_0's behaviours.
    progress: told how many pairs are done.
  """
  questions = behavior.pair_questions(tokenizer, pairs, template)
  for first in range(0, len(pairs), shard):
    path = folder / f'{split}-{first:09d}.parquet'
    if not path.exists():
      items = pairs[first : first + shard]
      rows = np.arange(first, first + len(items))
      labels = compute_shard(loader.take(questions, rows))
      _, _, S = labels.logprobs_Nx2xS.shape
      table = pa.table(
        {
          'group': [p.group for p in items],
          'behavior': labels.behavior_N,
          'counterfactual_behavior': labels.counterfactual_behavior_N,
          'reference': pa.FixedSizeListArray.from_arrays(
            labels.logprobs_Nx2xS.ravel(), 2 * S
          ),
        }
      )
      workdir.write_table(path, table)
    progress(min(first + shard, len(pairs)))


def read(folder: pathlib.Path, split: str) -> behavior.Behaviors:
  """A split of a label set.

  Raises:
    WorkdirError: when the folder holds no labels for the split.
  """
  table = records.read_labels(folder, split, (*records.LABEL, 'reference'))
  reference = table['reference'].combine_chunks().flatten().to_numpy()
  return behavior.Behaviors(
    table['behavior'].to_numpy(),
    table['counterfactual_behavior'].to_numpy(),
    reference.reshape(len(table), 2, -1),
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
