"""Training examples: what the batches of explanation training are drawn from."""

from collections.abc import Sequence

import numpy as np

from coupling import behavior
from coupling import config as config_lib
from coupling import explanation
from coupling import label as label_lib
from data import formats
from data import loader
from data import pairs as pairs_lib


def training_parts(
  config: config_lib.Train,
  format: formats.Format,
  template: pairs_lib.Questions,
  pairs: Sequence[pairs_lib.Pair],
  labels: explanation.Behaviors,
  reference: explanation.Behaviors,
  seed: int,
) -> dict[str, tuple[loader.Arrays, int]]:
  """Rows of the explanation part and of the behaviour part, and their batch sizes.

  Args:
    config: of the training.
    format: how the model is asked.
    template: how the task asks.
    pairs: of the train split.
    labels: whose explanations are trained.
    reference: M_0's behaviours, for the behaviour objectives.
    seed: of the experiment.
  """
  explained_N = _explained(template, pairs)
  explanations = explanation.Explanation(*(x[explained_N] for x in labels.explanation))
  asked = [pair for pair, explained in zip(pairs, explained_N) if explained]
  if config.shuffle_labels:
    order_N = _shuffled(asked, np.random.default_rng((seed, config.seed, 1)))
    explanations = explanation.Explanation(*(x[order_N] for x in explanations))
  forms = (template.unchanged, template.changed)
  texts = [template.explanation.format(prompt=p.prompt) for p in asked]
  statements = [
    forms[changed].format(answer=pair.options[answer])
    for pair, answer, changed in zip(asked, *explanations)
  ]
  parts = {
    'explanation': (
      behavior.questions(format, texts, statements),
      config.explanation_batch,
    )
  }
  objectives = config.objectives
  if objectives.behavior_kl.weight or objectives.behavior_xent.weight:
    rows = _behavior_rows(objectives, format, template, pairs, reference)
    parts['behavior'] = (rows, config.behavior_batch)
  return parts


def _explained(
  template: pairs_lib.Questions, pairs: Sequence[pairs_lib.Pair]
) -> np.ndarray:
  """bool [N]: the pairs that explanation training may use."""
  return np.array([p.cue_kind not in template.unexplained for p in pairs], bool)


def _shuffled(pairs: Sequence[pairs_lib.Pair], rng: np.random.Generator) -> np.ndarray:
  """int [N]: a random order in which every item changes places with one of as many
  options, since a label is the index of an option."""
  size_N = np.array([len(pair.options) for pair in pairs])
  order_N = np.arange(len(pairs))
  for size, count in zip(*np.unique(size_N, return_counts=True)):
    if count == 1:
      raise config_lib.ConfigError(
        f'train.shuffle_labels: one pair alone has {size} options, so its label could '
        'not change places; leave the pair out, or the run on shuffled labels.'
      )
    order_N[size_N == size] = rng.permutation(order_N[size_N == size])
  return order_N


def _behavior_rows(
  objectives: config_lib.Objectives,
  format: formats.Format,
  template: pairs_lib.Questions,
  pairs: Sequence[pairs_lib.Pair],
  reference: explanation.Behaviors,
) -> loader.Arrays:
  """Behaviour questions with what they are held to: all x, then all x∖C.

  Where behaviours are read from replies, M_t is held to M_0 along M_0's own replies;
  checks.check refuses other objectives then.

  Raises:
    ConfigError: objectives that need cues that name an option.
  """
  kl, shift = objectives.behavior_kl, objectives.behavior_xent
  prompts = [p.prompt for p in pairs] + [p.counterfactual for p in pairs]
  asked = [template.behavior.format(prompt=prompt) for prompt in prompts]
  if template.detect is not None:
    return behavior.questions(format, asked, reference.replies_Nx2.T.ravel().tolist())
  options_NxK = behavior.option_tokens(format, pairs)
  rows = behavior.questions(format, asked)
  rows['options'] = np.concatenate([options_NxK, options_NxK])
  rows['mask'] = np.ones((len(asked), 1), bool)
  if kl.weight and kl.reference == 'labels':
    reference_NxS = np.concatenate(np.swapaxes(reference.logprobs_Nx2xS, 0, 1))
    rows['reference'] = label_lib.on_support(reference_NxS, rows['options'], kl.support)
  if shift.weight:
    if shift.target == 'ignore_cue':
      target_N = reference.counterfactual_behavior_N
    else:
      target_N = np.array([p.cue_option for p in pairs])
    if np.all(target_N == pairs_lib.NO_OPTION):
      raise config_lib.ConfigError(
        'train.objectives.behavior_xent.target=follow_cue: no cue of this task names '
        'an option; use ignore_cue.'
      )
    token_N = np.take_along_axis(options_NxK, target_N[:, None], axis=1)[:, 0]
    explained_N = _explained(template, pairs)
    among = {'all': True, 'explained': explained_N, 'unexplained': ~explained_N}
    # The shift is on x alone; a cue that names no option shifts nothing.
    shifted_N = (target_N >= 0) & among[shift.cues]
    if not shifted_N.any():
      raise config_lib.ConfigError(
        f'train.objectives.behavior_xent: cues={shift.cues} and target={shift.target} '
        'leave no pair of this task to shift; choose others, or a weight of 0.'
      )
    rows['shift_target'] = np.concatenate([token_N, token_N])
    rows['shift_mask'] = np.concatenate([shifted_N, np.zeros(len(pairs), bool)])
    rows['mask'] &= ~rows['shift_mask'][:, None]  # what is shifted is not held
  return rows
