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
from data import readers

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
      _check(e.task.module, pairs, chosen)
    else:
      found = label_lib.read(source.path(), split, row_N)
      chosen = found.behavior_N, found.counterfactual_behavior_N
    return np.stack(chosen, axis=1), _without_distributions

  return labeller


def _check(module: str, pairs: Sequence[pairs_lib.Pair], chosen: Any) -> None:
  """Raises DataError unless a task's behaviours are two options of each pair."""
  count = [len(pair.options) for pair in pairs]
  for name, found in zip(label_lib.LABEL, chosen, strict=True):
    option_N = np.asarray(found)
    if option_N.shape != (len(pairs),):
      raise readers.DataError(
        f'{module}.behaviors, {name}: shape {option_N.shape}, expected one option for '
        f'each of {len(pairs)} pairs'
      )
    whole = np.issubdtype(option_N.dtype, np.integer)
    for pair, option, size in zip(pairs, option_N.tolist(), count):
      if not whole or not 0 <= option < size:
        raise readers.DataError(
          f'{module}.behaviors, {name} of {pair.provenance}: found {option!r} '
          f'({option_N.dtype}), expected an integer, the index of one of {size} options'
        )


def _without_distributions(behavior_Nx2: np.ndarray) -> Behaviors:
  N = len(behavior_Nx2)
  logprobs_Nx2xS, replies_Nx2 = np.zeros((N, 2, 0), np.float32), np.zeros((N, 0))
  return Behaviors(*behavior_Nx2.T, logprobs_Nx2xS, replies_Nx2)
