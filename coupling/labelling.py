"""Whose behaviours become the labels: M_0's, another label set's, or the data's own."""

from collections.abc import Callable, Sequence
import pathlib
from typing import Any

import numpy as np

from coupling import behavior
from coupling import config as config_lib
from coupling import inputs
from coupling import label as label_lib
from coupling import sharding
from coupling import workdir as workdir_lib
from coupling.explanation import Behaviors
from data import pairs as pairs_lib

Experiment = config_lib.Experiment
# From a split, pairs of it and their places there to arrays of one row a pair, and
# from rows of these arrays to behaviours.
Labeller = Callable[
  [str, Sequence[pairs_lib.Pair], np.ndarray],
  tuple[Any, Callable[[Any], Behaviors]],
]


def asking(
  e: Experiment, workdir: pathlib.Path, seed: int, step: int | None
) -> Labeller:
  """M_0 is asked, or what it was at a step of its pretraining."""
  model, mesh = inputs.decoder(e), sharding.make_mesh(e.mesh)
  sharding.check_batch(mesh, 'label.batch', e.label.batch)
  params = inputs.base_params(e, workdir, seed, step)

  def compute(questions):
    return behavior.behaviors(
      model,
      params,
      questions,
      e.label.batch,
      mesh,
      # Of an earlier step only the answers are wanted.
      e.label.reference if step is None else 'options',
      inputs.reply(e),
    )

  def labeller(split, pairs, row_N):
    del split, row_N
    asked = behavior.pair_questions(inputs.format(e), pairs, inputs.questions(e))
    return asked, compute

  return labeller


def taking(e: Experiment, source: workdir_lib.Stage | None) -> Labeller:
  """No model is asked: behaviours are those of a label stage, or the data's own."""

  def labeller(split, pairs, row_N):
    if source is None:
      chosen = inputs.task_module(e).behaviors(e.task.config, pairs)
    else:
      found = label_lib.read(source.path(), split, row_N)
      chosen = found.behavior_N, found.counterfactual_behavior_N
    return np.stack(chosen, axis=1), _without_distributions

  return labeller


def _without_distributions(behavior_Nx2: np.ndarray) -> Behaviors:
  N = len(behavior_Nx2)
  logprobs_Nx2xS, replies_Nx2 = np.zeros((N, 2, 0), np.float32), np.zeros((N, 0))
  return Behaviors(*behavior_Nx2.T, logprobs_Nx2xS, replies_Nx2)
