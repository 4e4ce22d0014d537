"""What explanation training draws from: labelled splits, their shift, their labels."""

import pathlib

from coupling import config as config_lib
from coupling import examples
from coupling import inputs
from coupling import label as label_lib
from coupling import shift as shift_lib
from coupling import workdir as workdir_lib
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
  train = _source(e, seed, config, own.path(), target.path())
  practice = _source(e, seed, config, own.path(), None) if config.practice else None
  return train, practice


def _source(
  e: config_lib.Experiment,
  seed: int,
  config: config_lib.Train,
  own: pathlib.Path,
  target: pathlib.Path | None,
) -> examples.Source:
  """One split: `practice` without a target, which is never explained."""
  split = splits.PRACTICE if target is None else 'train'
  pairs = label_lib.read_pairs(own, split)
  labels = None
  if target is not None:
    row_N = label_lib.read_rows(own, split)
    labels = label_lib.read(target, split, row_N).explanation
  return examples.source(
    config,
    inputs.format(e),
    inputs.questions(e),
    pairs,
    label_lib.read(own, split),
    labels,
    shift_lib.scores(config.objectives.behavior_xent, e.task, seed, pairs),
    seed,
    split,
  )
