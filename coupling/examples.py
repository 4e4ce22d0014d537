"""Training examples: what the batches of explanation training are drawn from."""

from collections.abc import Sequence

import numpy as np

from coupling import behavior
from coupling import config as config_lib
from coupling import explanation
from coupling import label as label_lib
from data import loader
from data import pairs as pairs_lib
from data import tokens as tokens_lib


def training_parts(
  config: config_lib.Train,
  tokenizer: tokens_lib.Tokenizer,
  template: pairs_lib.Questions,
  pairs: Sequence[pairs_lib.Pair],
  labels: behavior.Behaviors,
  seed: int,
) -> dict[str, tuple[loader.Arrays, int]]:
  """Rows of the explanation part and of the behaviour part, and their batch sizes."""
  explanations = labels.explanation
  if config.shuffle_labels:
    order_N = np.random.default_rng((seed, config.seed, 1)).permutation(len(pairs))
    explanations = explanation.Explanation(*(x[order_N] for x in explanations))
  forms = (template.unchanged, template.changed)
  texts = [template.explanation.format(prompt=p.prompt) for p in pairs]
  statements = [
    forms[changed].format(answer=pair.options[answer])
    for pair, answer, changed in zip(pairs, *explanations)
  ]
  parts = {
    'explanation': (
      behavior.questions(tokenizer, texts, statements),
      config.explanation_batch,
    )
  }
  objectives = config.objectives
  if objectives.behavior_kl.weight or objectives.behavior_xent.weight:
    rows = _behavior_rows(objectives, tokenizer, template, pairs, labels)
    parts['behavior'] = (rows, config.behavior_batch)
  return parts


def _behavior_rows(
  objectives: config_lib.Objectives,
  tokenizer: tokens_lib.Tokenizer,
  template: pairs_lib.Questions,
  pairs: Sequence[pairs_lib.Pair],
  labels: behavior.Behaviors,
) -> loader.Arrays:
  """Behaviour questions with what they are held to: all x, then all x∖C."""
  kl, shift = objectives.behavior_kl, objectives.behavior_xent
  prompts = [p.prompt for p in pairs] + [p.counterfactual for p in pairs]
  asked = [template.behavior.format(prompt=prompt) for prompt in prompts]
  options_NxK = tokens_lib.option_tokens(tokenizer, [p.options for p in pairs])
  rows = behavior.questions(tokenizer, asked)
  rows['options'] = np.concatenate([options_NxK, options_NxK])
  if kl.weight:
    reference_NxS = np.concatenate(np.swapaxes(labels.logprobs_Nx2xS, 0, 1))
    rows['reference'] = label_lib.on_support(reference_NxS, rows['options'], kl.support)
  if shift.weight:
    if shift.target == 'ignore_cue':
      target_N = labels.counterfactual_behavior_N
    else:
      target_N = np.array([p.cue_option for p in pairs])
    token_N = np.take_along_axis(options_NxK, target_N[:, None], axis=1)[:, 0]
    # The shift is on x alone; a cue that names no option shifts nothing.
    rows['shift_target'] = np.concatenate([token_N, token_N])
    rows['shift_mask'] = np.concatenate([target_N >= 0, np.zeros(len(pairs), bool)])
  return rows
