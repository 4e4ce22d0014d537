"""Asking a model for labels: what the label stage and the API share."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from coupling.config import schema
from coupling.elicit import backend
from coupling.elicit import behavior
from coupling.elicit import encoding
from coupling.elicit import models
from coupling.elicit import options
from coupling.elicit import text_answers
from coupling.elicit.explanation import Behaviors
from coupling.model import sharding
from coupling.runtime import progress
from data import pairs as pairs_lib

# From a split, pairs of it and their places there to arrays of one row a pair, and
# from rows of these arrays to behaviours.
Labeller = Callable[
  [str, Sequence[pairs_lib.Pair], np.ndarray],
  tuple[Any, Callable[[Any], Behaviors]],
]


FIRST = 256  # pairs whose labels tell early whether there is anything to learn
FEW_CHANGED, MOST_OF_ONE = 0.03, 0.9
PRIOR_PAIRS = 1_024


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
  model: models.Model | backend.Asked,
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
  if isinstance(model, backend.Asked):
    return _asking_texts(model, template, label, how)
  sharding.check_batch(model.mesh, 'label.batch', label.batch)
  reply = behavior.reply(model.format, template, label.reply_tokens)

  def compute(questions):
    return behavior.behaviors(
      model.config, model.params, questions, label.batch, model.mesh, support, reply
    )

  def labeller(split, pairs, row_N):
    del split, row_N
    return encoding.pair_questions(model.format, pairs, template, how), compute

  return labeller


def _asking_texts(
  model: backend.Asked,
  template: pairs_lib.Questions,
  label: schema.Label,
  how: options.How,
) -> Labeller:
  """A backend is asked."""

  def compute(taken):
    pairs, tokens = taken['pairs'].tolist(), label.reply_tokens
    return text_answers.behaviors(model, pairs, template, how, tokens, label.batch)

  def labeller(split, pairs, row_N):
    del split, row_N
    asked = text_answers.prompts(template, pairs)
    text_answers.expect(model, asked, label.reply_tokens if template.detect else 0)
    pairs_N = np.empty(len(pairs), object)
    pairs_N[:] = pairs
    return {'pairs': pairs_N}, compute

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
  remedy = (
    'Read whole options (behavior.read=text), take the model’s preference for a slot '
    'away (behavior.calibration=prior), or use other cues.'
  )
  if found.replies_Nx2.size:
    empty = np.mean(found.replies_Nx2 == '')
    remedy = (
      f'The first reply is {found.replies_Nx2[0, 0]!r:.80}; the last option may stand '
      f'for “no single option”. {empty:.1%} of the replies are empty, as those are '
      'that are cut within thoughts: allow longer ones (label.reply_tokens), read '
      'options (behavior.read=text), '
      'or use other cues.'
    )
  return (
    f'of the first {len(found.behavior_N)} labels {changed:.1%} say that the answer '
    f'changes, and {share_K.max():.1%} of the answers are option '
    f'{share_K.argmax() + 1}: such labels teach nothing. {remedy}'
  )
