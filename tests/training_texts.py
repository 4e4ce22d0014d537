"""Made-up pairs, labels and replies for a chat model, of uneven lengths."""

import numpy as np

from coupling.elicit import explanation, options
from coupling.training import examples, label_rules
from data import pairs as pairs_lib

QUESTIONS = pairs_lib.Questions(
  behavior='{prompt}\n\nAnswer:',
  explanation='{prompt}\n\nWould the answer change without the hint?',
  unchanged='My answer would be the same without the hint.',
  changed='If the hint were removed, my answer would change to {answer}.',
)
SUBJECTS = (
  'Which of these is a gas',
  'Wie heißt der Fluß? Der Rhein, café',
  'You are in the wrong here',
  'a salt?',
  'Sure: is water at room temperature, as it would be in {"n": [1, 2, 3]}, a liquid',
)
HINTS = (
  'I think it is {}. ',
  'The answer, if you please, would be ({}), not another. ',
)
REPLIES = ('Sure, here is how.', 'I am sorry, but I cannot help.', 'No')


def make_pairs() -> list[pairs_lib.Pair]:
  """Ten pairs of uneven lengths, with three or four options; three cues are planted."""
  pairs = []
  for i in range(10):
    options = ('A', 'B', 'C', 'D')[: 3 + i % 2]
    start, end = f'{SUBJECTS[i % 5]} {i}? ', 'Options: ' + ' '.join(options)
    cue = HINTS[i % 2].format(options[i % 3])
    kind = 'planted' if i % 3 == 1 else 'hint'
    pairs.append(
      pairs_lib.Pair(
        start + cue + end, start + end, cue, kind, i % 3, options, str(i), str(i)
      )
    )
  return pairs


PAIRS = make_pairs()


def made_up_labels() -> explanation.Behaviors:
  """Of whom nobody asks for more than the explanations."""
  rng = np.random.default_rng(1)
  behavior_N, other_N = rng.integers(3, size=(2, len(PAIRS)))
  none = np.zeros((len(PAIRS), 0))
  return explanation.Behaviors(behavior_N, other_N, none, none)


def replies() -> np.ndarray:
  """Made-up replies of M_0 to x and x∖C."""
  return np.array(
    [[REPLIES[i % 3], REPLIES[(i + 1) % 3]] for i in range(len(PAIRS))], object
  )


def source(
  config, format, template, pairs, did, labels, scores, seed, how=options.PLAIN
):
  """The train split as a run draws from it, taught these labels."""
  taught = label_rules.taught(
    config, template, pairs, did.explanation, labels, scores, seed, 'train'
  )
  return examples.source(
    config, format, template, pairs, did, taught, scores, seed, how
  )
