"""What explanation training draws from: labelled splits, their shift, their labels."""

import functools
import pathlib

import numpy as np

from coupling import config as config_lib
from coupling import examples
from coupling import inputs
from coupling import label as label_lib
from coupling import shift as shift_lib
from coupling import workdir as workdir_lib
from coupling.explanation import Behaviors
from data import pairs as pairs_lib
from data import splits


def training_sources(
  e: config_lib.Experiment,
  seed: int,
  config: config_lib.Train,
  own: workdir_lib.Stage,
  target: workdir_lib.Stage,
) -> tuple[examples.Source, examples.Source | None]:
  """The train split, and the split `practice` where the run wants it.

  Args:
    e: the experiment.
    seed: its seed.
    config: of the run.
    own: M_0's label set.
    target: the label set that `config.labels` names.

  Raises:
    ConfigError: no pair is left to explain.
  """
  train = _source(e, seed, config, own, target)
  practice = _source(e, seed, config, own, None) if config.practice else None
  return train, practice


@functools.lru_cache(maxsize=2)  # the next run of a seed reads the same
def _read(
  folder: pathlib.Path, digest: str, split: str
) -> tuple[list[pairs_lib.Pair], np.ndarray, Behaviors]:
  """Pairs of a label set, their places in the split, and M_0's behaviours."""
  del digest  # of what lies there, for the cache
  pairs, row_N = label_lib.read_pairs(folder, split), label_lib.read_rows(folder, split)
  return pairs, row_N, label_lib.read(folder, split)


def _source(
  e: config_lib.Experiment,
  seed: int,
  config: config_lib.Train,
  own: workdir_lib.Stage,
  target: workdir_lib.Stage | None,
) -> examples.Source:
  """One split: `practice` without a target, which is never explained."""
  split = splits.PRACTICE if target is None else 'train'
  pairs, row_N, reference = _read(own.path(), own.digest, split)
  labels = None
  if target is not None:
    labels = label_lib.read_explanation(target.path(), split, row_N)
  return examples.source(
    config,
    inputs.format(e),
    inputs.questions(e),
    pairs,
    reference,
    labels,
    shift_lib.scores(config.objectives.behavior_xent, e.task, seed, pairs),
    seed,
    split,
    inputs.how(e, own),
  )
