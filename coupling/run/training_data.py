"""What explanation training draws from: labelled splits, their shift, their labels.

Written into the train stage: what the run is taught of every split (label_rules.py).
"""

import functools
import pathlib

import numpy as np

from coupling.config import schema
from coupling.elicit import label_set
from coupling.elicit.explanation import Behaviors
from coupling.run import context
from coupling.runtime import distributed
from coupling.runtime import files
from coupling.runtime import workdir
from coupling.training import behavior_shift
from coupling.training import examples
from coupling.training import label_rules
from data import pairs as pairs_lib
from data import splits


def training_sources(
  e: schema.Experiment,
  seed: int,
  config: schema.Train,
  own: workdir.Stage,
  target: workdir.Stage,
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


def write_labels(
  e: schema.Experiment,
  seed: int,
  config: schema.Train,
  own: workdir.Stage,
  target: workdir.Stage,
  stage: workdir.Stage,
) -> None:
  """Writes what a run is taught of every split, once, into its train stage.

  Args:
    e: the experiment.
    seed: its seed.
    config: of the run.
    own: M_0's label set.
    target: the label set that `config.labels` names.
    stage: of the run.

  Raises:
    ConfigError: no pair is left to explain.
  """
  for split in sorted(own.info()['pairs'].keys() - {splits.PRACTICE}):
    path = label_rules.path(stage.path(), split)
    if distributed.first(stage.sealed, path.stem):
      continue
    pairs, row_N, reference = _read(own.path(), own.digest, split)
    taught = label_rules.taught(
      config,
      context.questions(e),
      pairs,
      reference,
      label_set.read_explanation(target.path(), split, row_N),
      behavior_shift.scores(config.objectives.behavior_xent, e.task, seed, pairs),
      seed,
      split,
    )
    table = label_rules.table(row_N, taught)
    distributed.first(files.write_table, path, table)
    distributed.first(stage.seal, path.stem, path)


@functools.lru_cache(maxsize=2)  # the next run of a seed reads the same
def _read(
  folder: pathlib.Path, digest: str, split: str
) -> tuple[list[pairs_lib.Pair], np.ndarray, Behaviors]:
  """Pairs of a label set, their places in the split, and M_0's behaviours."""
  del digest  # of what lies there, for the cache
  pairs, row_N = label_set.read_pairs(folder, split), label_set.read_rows(folder, split)
  return pairs, row_N, label_set.read(folder, split)


def _source(
  e: schema.Experiment,
  seed: int,
  config: schema.Train,
  own: workdir.Stage,
  target: workdir.Stage | None,
) -> examples.Source:
  """One split: `practice` without a target, which is never explained."""
  split = splits.PRACTICE if target is None else 'train'
  pairs, row_N, reference = _read(own.path(), own.digest, split)
  labels = None
  if target is not None:
    labels = label_set.read_explanation(target.path(), split, row_N)
  return examples.source(
    config,
    context.format(e),
    context.questions(e),
    pairs,
    reference,
    labels,
    behavior_shift.scores(config.objectives.behavior_xent, e.task, seed, pairs),
    seed,
    split,
    context.how(e, own),
  )
