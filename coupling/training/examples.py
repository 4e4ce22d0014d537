"""Training examples: what the batches of explanation training are drawn from."""

from collections.abc import Sequence
import dataclasses

import numpy as np

from coupling.config import schema
from coupling.elicit import encoding
from coupling.elicit import label_set
from coupling.elicit import options as options_lib
from coupling.elicit.explanation import Behaviors, Explanation
from coupling.training import behavior_shift
from coupling.training import label_rules
from coupling.training import preference_loss
from coupling.training import preferences
from coupling.training import tree_batches
from data import formats
from data import loader
from data import pairs as pairs_lib


@dataclasses.dataclass(frozen=True)
class Source:
  """A labelled split that training draws from.

  Attributes:
    pairs: N of them.
    reference: M_0's behaviours.
    shift: where behaviour is shifted on purpose.
    labels: of explanations, see label_rules.trained_on; None where none are trained.
    explained_N: whose explanations are trained, see label_rules.explained; likewise.
    seed: of the experiment.
    how: behaviours are read.
  """

  pairs: Sequence[pairs_lib.Pair]
  reference: Behaviors
  shift: behavior_shift.Shift
  labels: Explanation | None
  explained_N: np.ndarray | None
  seed: int
  how: options_lib.How = options_lib.PLAIN


def source(
  config: schema.Train,
  format: formats.Format,
  template: pairs_lib.Questions,
  pairs: Sequence[pairs_lib.Pair],
  reference: Behaviors,
  taught: label_rules.Taught | None,
  score_NxK: np.ndarray | None,
  seed: int,
  how: options_lib.How = options_lib.PLAIN,
) -> Source:
  """A labelled split as a run draws from it.

  Args:
    config: of the training.
    format: how the model is asked.
    template: how the task asks.
    pairs: of the split.
    reference: M_0's behaviours.
    taught: the labels of the train split; None: nothing is explained.
    score_NxK: see behavior_shift.scores.
    seed: of the experiment.
    how: behaviours are read.
  """
  objective, shift = config.objectives.shift, behavior_shift.none(len(pairs))
  if objective.weight or config.explained == 'unshifted':
    logprobs_Nx2xK = None
    if score_NxK is not None and objective.weight:
      logprobs_Nx2xK = reference.logprobs_Nx2xS  # over the options, or the vocabulary
      if how.plain:
        options_NxK = encoding.option_tokens(format, pairs)
        logprobs_Nx2xK = np.stack(
          [
            label_set.on_support(x_NxS, options_NxK, 'options')
            for x_NxS in np.swapaxes(reference.logprobs_Nx2xS, 0, 1)
          ],
          axis=1,
        )
    answer_N = reference.counterfactual_behavior_N
    shift = behavior_shift.make(
      objective, template, pairs, answer_N, score_NxK, logprobs_Nx2xK
    )
  explained = taught is not None and config.objectives.explanation_xent.weight
  labels, explained_N = taught[:2] if explained else (None, None)
  return Source(pairs, reference, shift, labels, explained_N, seed, how)


def training_parts(
  config: schema.Train,
  format: formats.Format,
  template: pairs_lib.Questions,
  source: Source,
  practice: Source | None,
) -> dict[str, tuple[loader.Arrays, int]]:
  """Rows of the explanations, behaviours and preferences, and their batch sizes.

  Args:
    config: of the training.
    format: how the model is asked.
    template: how the task asks.
    source: the train split.
    practice: pairs that behaviour objectives have beside it, where there are any.

  Raises:
    ConfigError: an objective that shifts none of the pairs.
    DataError: a file of preferences that cannot be used.
  """
  objectives = config.objectives
  found = [source] if practice is None else [source, practice]
  shift = objectives.shift
  if shift.weight and not any(x.shift.pairs_N.any() for x in found):
    raise schema.ConfigError(
      f'train.objectives.{objectives.shift_term}: cues={shift.cues} and '
      f'target={shift.target} leave no pair of this task to shift (follow_cue needs '
      'cues that name an option); choose others, such as ignore_cue, or a weight of 0.'
    )
  explanations, drawn_M, behaviors = None, None, []
  if objectives.explanation_xent.weight:
    asked, labels = _shuffled_labels(config, source)
    explanations = _explanation_rows(config, format, template, source, asked, labels)
    drawn_M = label_rules.drawn(config, labels.changed_N, source.seed)
  if objectives.behavior_kl.weight or objectives.behavior_xent.weight:
    every = [_behavior_rows(objectives, format, template, x) for x in found]
    behaviors = loader.fill_up(every)  # alike in whatever else they are joined with
  parts = {}
  if objectives.dpo.weight:
    did = [(x.pairs, x.reference, x.shift) for x in found]
    preferred = preferences.wanted(objectives.dpo, template, did)
    rows = preferences.rows(format, preferred)
    parts[preference_loss.PART] = rows, objectives.dpo.batch
  if config.trees and (explanations is not None or behaviors):
    return parts | _tree_parts(config, source, explanations, drawn_M, behaviors)
  if explanations is not None:
    parts['explanation'] = (
      loader.take(explanations, drawn_M),
      config.explanation_batch,
    )
  if behaviors:
    parts['behavior'] = (loader.concatenate(behaviors), config.behavior_batch)
  return parts


def _tree_parts(
  config: schema.Train,
  source: Source,
  explanations: loader.Arrays | None,
  drawn_M: np.ndarray | None,
  behaviors: Sequence[loader.Arrays],
) -> dict[str, tuple[loader.Arrays, int]]:
  """The pairs that are explained, and the others, in proportion; see tree_batches.grow.

  Args:
    config: of the training.
    source: the train split.
    explanations: of `_explanation_rows`; None where none are trained.
    drawn_M: which of these an epoch has, see label_rules.drawn.
    behaviors: of `_behavior_rows`, of the train split and of `practice`; may be empty.
  """
  count, size = len(source.pairs), config.explanation_batch
  explained_N = np.zeros(count, bool) if explanations is None else source.explained_N
  others, asked, members = [], {}, {}
  if explanations is not None:
    asked['explanation'] = explanations
    members['explanation'] = np.arange(explained_N.sum())[:, None]
  if behaviors:
    of_train, *practised = behaviors
    prompts_Nx2 = _prompts(of_train)
    if asked:
      asked['behavior'], members['behavior'] = of_train, prompts_Nx2[explained_N]
    rest = [(of_train, prompts_Nx2[~explained_N])]
    rest += [(rows, _prompts(rows)) for rows in practised]
    others = [
      tree_batches.grow({'behavior': rows}, {'behavior': prompts})
      for rows, prompts in rest
      if len(prompts)
    ]
  if not asked:
    return {'others': (loader.concatenate(others), size)}
  explained = tree_batches.grow(asked, members)
  if drawn_M is not None:
    explained = loader.take(explained, drawn_M)
  parts = {'explained': (explained, size)}
  if others:
    rest = loader.concatenate(others)
    share = loader.size(rest) / explained_N.sum()
    parts['others'] = (rest, max(1, round(size * share)))
  return parts


def _prompts(rows: loader.Arrays) -> np.ndarray:
  """int [N, 2]: where x and x∖C of each pair stand in `_behavior_rows`."""
  return np.arange(len(rows['read'])).reshape(2, -1).T


def _shuffled_labels(
  config: schema.Train, source: Source
) -> tuple[list[pairs_lib.Pair], Explanation]:
  """The pairs that are explained, and the labels that are trained on."""
  labels = Explanation(*(x[source.explained_N] for x in source.labels))
  asked = [pair for pair, kept in zip(source.pairs, source.explained_N) if kept]
  if config.shuffle_labels:
    order_N = _shuffled(asked, np.random.default_rng((source.seed, config.seed, 1)))
    labels = Explanation(*(x[order_N] for x in labels))
  return asked, labels


def _explanation_rows(
  config: schema.Train,
  format: formats.Format,
  template: pairs_lib.Questions,
  source: Source,
  asked: Sequence[pairs_lib.Pair],
  labels: Explanation,
) -> loader.Arrays:
  """Explanation questions with the statements to learn; see `_shuffled_labels`."""
  forms = (template.unchanged, template.changed)
  statements = [
    forms[changed].format(answer=pair.options[answer])
    for pair, answer, changed in zip(asked, *labels)
  ]
  answers = None
  if config.context == 'after':
    answers = source.reference.answers([pair.options for pair in source.pairs])
    answers = answers[source.explained_N]
  texts = encoding.explanation_texts(template, asked, answers)
  return encoding.questions(format, texts, statements)


def _shuffled(pairs: Sequence[pairs_lib.Pair], rng: np.random.Generator) -> np.ndarray:
  """int [N]: a random order in which every item changes places with one of as many
  options, since a label is the index of an option."""
  size_N = np.array([len(pair.options) for pair in pairs])
  order_N = np.arange(len(pairs))
  for size, count in zip(*np.unique(size_N, return_counts=True)):
    if count == 1:
      raise schema.ConfigError(
        f'train.shuffle_labels: one pair alone has {size} options, so its label could '
        'not change places; leave the pair out, or the run on shuffled labels.'
      )
    order_N[size_N == size] = rng.permutation(order_N[size_N == size])
  return order_N


def _behavior_rows(
  objectives: schema.Objectives,
  format: formats.Format,
  template: pairs_lib.Questions,
  source: Source,
) -> loader.Arrays:
  """Behaviour questions with what they are held or shifted to: all x, then all x∖C.

  Where behaviours are read from replies, M_t is held to M_0 along M_0's own replies;
  preflight.check refuses other objectives then.
  """
  kl = objectives.behavior_kl
  pairs, reference = source.pairs, source.reference
  prompts = [p.prompt for p in pairs] + [p.counterfactual for p in pairs]
  asked = [template.behavior.format(prompt=prompt) for prompt in prompts]
  if template.detect is not None:
    replies = reference.replies_Nx2.T.ravel().tolist()
    rows = encoding.questions(format, asked, replies)
    if kl.prompts == 'counterfactual':
      rows['mask'][: len(pairs)] = False
    return rows
  rows = encoding.questions(format, asked)
  if source.how.plain:
    options = {'options': encoding.option_tokens(format, pairs)}
  else:
    options = options_lib.readings(format, pairs, source.how)
    rows['suffixes'] = np.tile(options.pop('suffixes'), 2)
  options = {k: np.concatenate([x, x]) for k, x in options.items()}
  rows |= {k: x[:, None] for k, x in options.items()}
  held_Nx2 = np.full((len(pairs), 2), kl.weight > 0)
  if kl.prompts == 'counterfactual':
    held_Nx2[:, 0] = False
  if kl.weight and kl.reference == 'labels':
    reference_NxS = np.concatenate(np.swapaxes(reference.logprobs_Nx2xS, 0, 1))
    if source.how.plain:
      reference_NxS = label_set.on_support(
        reference_NxS, options['options'], kl.support
      )
    rows['reference'] = reference_NxS[:, None]
  shifted = source.shift
  if objectives.behavior_xent.weight:
    target_2NxK = np.concatenate(np.swapaxes(shifted.target_Nx2xK, 0, 1))
    rows['shift_target'] = target_2NxK[:, None]
    rows['shift_mask'] = shifted.shifted_Nx2.T.reshape(-1, 1)
  if objectives.shift_term == 'dpo':  # what nothing trains stays held
    held_Nx2 &= ~preferences.preferred_Nx2(shifted, reference)
  elif objectives.shift.weight:
    held_Nx2 &= ~shifted.shifted_Nx2  # what is shifted is not held
  rows['mask'] = held_Nx2.T.reshape(-1, 1)
  return rows
