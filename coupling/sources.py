"""What explanation training draws from: labelled splits, their shift, their labels."""

import pathlib

import numpy as np

from coupling import config as config_lib
from coupling import examples
from coupling import inputs
from coupling import label as label_lib
from coupling import shift as shift_lib
from coupling import targets
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
    ConfigError: objectives that shift no pair; no pair left to explain.
  """
  train = _source(e, seed, config, own.path(), target.path())
  practice = None
  if config.practice:
    practice = _source(e, seed, config, own.path(), None)
  found = [x for x in (train, practice) if x is not None]
  shift = config.objectives.behavior_xent
  if shift.weight and not any(x.shift.pairs_N.any() for x in found):
    raise config_lib.ConfigError(
      f'train.objectives.behavior_xent: cues={shift.cues} and target={shift.target} '
      'leave no pair of this task to shift; choose others, or a weight of 0.'
    )
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
  reference = label_lib.read(own, split)
  objective = config.objectives.behavior_xent
  shift = shift_lib.none(len(pairs))
  if objective.weight or config.explained == 'unshifted':
    logprobs_Nx2xK = None
    if objective.target not in shift_lib.ON_CUES:
      logprobs_Nx2xK = inputs.option_logprobs(e, pairs, reference)
    answer_N = reference.counterfactual_behavior_N
    shift = shift_lib.make(objective, e.task, seed, pairs, answer_N, logprobs_Nx2xK)
  labels = explained_N = None
  if target is not None and config.objectives.explanation_xent.weight:
    template = inputs.questions(e)
    other = label_lib.read(target, split, label_lib.read_rows(own, split))
    labels = targets.trained_on(
      config,
      np.array([len(pair.options) for pair in pairs]),
      reference.explanation,
      other.explanation,
      template.states_answer,
      seed,
      split,
    )
    kind_N = np.array([pair.cue_kind for pair in pairs], object)
    explainable_N = ~np.isin(kind_N, template.unexplained)
    explained_N = targets.explained(config, explainable_N, labels, shift.pairs_N, seed)
  return examples.Source(pairs, reference, shift, labels, explained_N, seed)
