"""Whose behaviours become the labels: M_0's, another label set's, or the data's own."""

from collections.abc import Callable, Iterator, Sequence
import functools
import pathlib
from typing import Any

import numpy as np

from coupling.config import schema
from coupling.elicit import behavior
from coupling.elicit import label_set
from coupling.elicit import models
from coupling.elicit import options
from coupling.elicit.explanation import Behaviors
from coupling.model import sharding
from coupling.run import context
from coupling.runtime import distributed
from coupling.runtime import files
from coupling.runtime import progress
from coupling.runtime import workdir as workdir_lib
from data import pairs as pairs_lib
from data import readers

Experiment = schema.Experiment
# From a split, pairs of it and their places there to arrays of one row a pair, and
# from rows of these arrays to behaviours.
Labeller = Callable[
  [str, Sequence[pairs_lib.Pair], np.ndarray],
  tuple[Any, Callable[[Any], Behaviors]],
]


FIRST = 256  # pairs whose labels tell early whether there is anything to learn
FEW_CHANGED, MOST_OF_ONE = 0.03, 0.9
PRIOR_PAIRS = 1_024


def labeller(
  e: Experiment,
  workdir: pathlib.Path,
  seed: int,
  step: int | None,
  source: workdir_lib.Stage | None,
  stage: workdir_lib.Stage,
  train: Sequence[pairs_lib.Pair],
) -> Labeller:
  """Who gives behaviours; where they are calibrated, with the prior in the stage."""
  if e.label.source:
    return taking(e, source)
  # Of an earlier step only the answers are wanted.
  support = e.label.reference if step is None else 'options'
  model = context.model(e, workdir, seed, step)
  asks = functools.partial(asking, model, context.questions(e), e.label)
  if e.behavior.calibration == 'prior':
    path = stage.path(label_set.PRIOR)
    if not distributed.first(stage.sealed, path.stem):
      plain = options.How.of(e.behavior)
      found = prior(asks(plain, 'options'), train)
      distributed.first(files.write_json, path, found)
      distributed.first(stage.seal, path.stem, path)
  return asks(context.how(e, stage), support)


def shards(count: int, size: int) -> Iterator[tuple[int, int]]:
  """Which pairs of a split are asked together: the first, and where they end.

  A few first: whether their labels vary is said at once.
  """
  starts = [0, *range(FIRST, count, size)]
  yield from zip(starts, [*starts[1:], count])


def check_varied(label: schema.Label, labels: Behaviors, enough: int = FIRST) -> None:
  """Says that labels hardly vary, and stops where `enough` of them were seen."""
  problem = hardly_varies(labels)
  if problem is None:
    return
  if label.stop_if_constant and len(labels.behavior_N) >= enough:
    raise schema.ConfigError(f'{problem} label.stop_if_constant=False goes on.')
  progress.line(f'WARNING: {problem}')


def asking(
  model: models.Model,
  template: pairs_lib.Questions,
  label: schema.Label,
  how: options.How,
  support: str,
) -> Labeller:
  """A model is asked: M_0, or what it was at a step of its pretraining.

  Args:
    model: that is asked.
    template: how the task asks.
    label: batch size, and length of replies.
    how: choices are read.
    support: of the log-probabilities that are kept, vocabulary or options.
  """
  sharding.check_batch(model.mesh, 'label.batch', label.batch)
  reply = behavior.reply(model.format, template, label.reply_tokens)

  def compute(questions):
    return behavior.behaviors(
      model.config, model.params, questions, label.batch, model.mesh, support, reply
    )

  def labeller(split, pairs, row_N):
    del split, row_N
    return behavior.pair_questions(model.format, pairs, template, how), compute

  return labeller


def prior(labeller: Labeller, pairs: Sequence[pairs_lib.Pair]) -> tuple[float, ...]:
  """Mean log-probability of every option slot among an item's options.

  Args:
    labeller: of `asking`, without a prior, over options.
    pairs: of the train split; of these the first PRIOR_PAIRS, with and without the cue.
  """
  asked, compute = labeller('train', pairs[:PRIOR_PAIRS], np.zeros(0, int))
  found_Nx2xK = compute(asked).logprobs_Nx2xS
  return options.prior(found_Nx2xK.reshape(-1, found_Nx2xK.shape[-1]))


def hardly_varies(found: Behaviors) -> str | None:
  """What to say where labels could teach nothing, or behaviour is one option's."""
  changed = found.explanation.changed_N.mean()
  answers_2N = np.concatenate([found.behavior_N, found.counterfactual_behavior_N])
  share_K = np.bincount(np.maximum(answers_2N, 0)) / len(answers_2N)
  if FEW_CHANGED <= changed <= 1 - FEW_CHANGED and share_K.max() <= MOST_OF_ONE:
    return None
  return (
    f'of the first {len(found.behavior_N)} labels {changed:.1%} say that the answer '
    f'changes, and {share_K.max():.1%} of the answers are option '
    f'{share_K.argmax() + 1}: such labels teach nothing. Read whole options '
    '(behavior.read=text), take the model’s preference for a slot away '
    '(behavior.calibration=prior), or use other cues.'
  )


def taking(e: Experiment, source: workdir_lib.Stage | None) -> Labeller:
  """No model is asked: behaviours are those of a label stage, or the data's own."""

  def labeller(split, pairs, row_N):
    if source is None:
      chosen = context.task_module(e).behaviors(e.task.config, pairs)
      _check(e.task.module, pairs, chosen)
    else:
      found = label_set.read(source.path(), split, row_N)
      chosen = found.behavior_N, found.counterfactual_behavior_N
    return np.stack(chosen, axis=1), _without_distributions

  return labeller


def _check(module: str, pairs: Sequence[pairs_lib.Pair], chosen: Any) -> None:
  """Raises DataError unless a task's behaviours are two options of each pair."""
  count = [len(pair.options) for pair in pairs]
  for name, found in zip(label_set.LABEL, chosen, strict=True):
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
