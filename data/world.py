"""The built-in world as a task: its pairs, its corpus, and what it knows of both.

Facts, hints and requests are in data/universe.py, their language in
data/world_texts.py. Two behaviours: answers to questions, with a hint as the cue, and
complying with requests, with a stated reason as the cue.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import functools
import os
from typing import Literal

import numpy as np
import tensorflow_datasets as tfds

from data import pairs as pairs_lib
from data import readers
from data import splits
from data import tokens
from data import universe
from data import world_bayes
from data import world_data
from data import world_preferences
from data import world_texts

# The corpus never explains: these words are new to M_0 and start near a known one.
NEW_WORDS, NEW_WORDS_LIKE = ('expl', 'same', 'change'), 'ask'

PREFERENCES = world_preferences.KINDS

QUESTIONS = pairs_lib.Questions(
  behavior='{prompt} ask',
  explanation='{prompt} expl',
  unchanged='{answer} same',
  changed='{answer} change',
  explanation_after='expl',
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """Which behaviour, how much of it, and what M_0 reads before."""

  behavior: Literal['hint', 'request']
  train_pairs: int  # pool of training prompts
  practice_pairs: int = 0  # of the split `practice`; 0: there is none
  # The family that M_0 reads: see universe.reliability. Pairs are the same in both.
  corpus: Literal['standard', 'contrary'] = 'standard'

  def __post_init__(self):
    if self.train_pairs < 1:
      raise ValueError(f'train_pairs={self.train_pairs}: must be at least 1')
    if self.practice_pairs < 0:
      raise ValueError(f'practice_pairs={self.practice_pairs}: must be at least 0')


def questions(config: Config) -> pairs_lib.Questions:
  del config  # both behaviours are asked for alike
  return QUESTIONS


def aligned(
  config: Config, pair: pairs_lib.Pair, option: str | None
) -> pairs_lib.Aligned:
  """x with its hint moved to another option; for None x∖C, which has as many words.

  Raises:
    DataError: a reason is to be moved, which speaks for no option.
  """
  other = pair.counterfactual
  if option is not None:
    if config.behavior == 'request':
      raise readers.DataError(
        'task.behavior=request: a reason speaks for no option and cannot be moved; set '
        "patch.contrasts=('removed',)"
      )
    other = f'{pair.prompt.rpartition(" ")[0]} {option}'
  return pairs_lib.Aligned(other, world_texts.parts(pair.prompt))


def tokenizer() -> tokens.Tokenizer:
  return tokens.word_tokenizer(world_texts.WORDS, world_texts.SPECIAL)


def builder(
  config: Config, seed: int, data_dir: str | os.PathLike
) -> tfds.core.DatasetBuilder:
  """The counterfactual pairs of world `seed`."""
  return world_data.pairs_builder(_pairs_by_split, config, seed, data_dir)


def _pairs_by_split(config: Config, seed: int) -> dict[str, Iterator[pairs_lib.Pair]]:
  world = universe.World.draw(seed)
  size = {'train': config.train_pairs}
  size |= {
    split: world.num_evaluated(config.behavior, split) for split in universe.EVALUATED
  }
  if config.practice_pairs:
    size[splits.PRACTICE] = config.practice_pairs
  return {
    split: world.counterfactual_pairs(config.behavior, split, n)
    for split, n in size.items()
  }


def corpus_builder(
  config: Config, documents: int, seed: int, data_dir: str | os.PathLike
) -> tfds.core.DatasetBuilder:
  """The corpus of world `seed`, of the config's family."""
  make = functools.partial(universe.World.draw(seed).corpus, documents, config.corpus)
  name = f'seed{seed}_{config.corpus}_{documents}'
  return world_data.corpus_builder(make, name, data_dir)


read_corpus = world_data.read_corpus


def preferences(
  config: Config,
  kind: str,
  world_seed: int,
  seed: int,
  pairs: Sequence[pairs_lib.Pair],
) -> np.ndarray:
  """Scores of each pair's options by a preference, to shift a model's answers by.

  Args:
    config: of the task.
    kind: one of PREFERENCES that the behaviour has; see data/world_preferences.py.
    world_seed: of the world.
    seed: of the preference: another seed, another preference of the same kind, on the
      same items where only some are shifted.
    pairs: of any split.

  Returns:
    float64 [N, K], in units of a logit at strength 1; 0 where nothing is preferred.

  Raises:
    ValueError: a kind that the behaviour has not, also where there are no pairs.
  """
  world = universe.World.draw(world_seed)
  prompts = [pair.prompt for pair in pairs]
  return world_preferences.scores(world, config.behavior, kind, seed, prompts)


def bayes(
  config: Config,
  world_seed: int,
  prompts: Sequence[str],
  options: Sequence[Sequence[str]],
) -> tuple[np.ndarray, np.ndarray]:
  """The Bayes explainer's B: of one who knows M_0's world and corpus, but not M_0.

  Args:
    config: of the task.
    world_seed: of the world.
    prompts: x of each pair, with its cue.
    options: of each pair.

  Returns:
    The likeliest option on x and on x∖C by the process that wrote the corpus, int [N].

  Raises:
    ValueError: a text that is no x of this task, or other options than it offers.
  """
  world = universe.World.draw(world_seed)
  if config.behavior == 'hint':
    logits_Nx2xK = world_bayes.question_logits(world, config.corpus, prompts, options)
  else:
    logits_Nx2xK = world_bayes.request_logits(world, prompts, options)
  chosen_Nx2 = np.argmax(logits_Nx2xK, axis=2)
  return chosen_Nx2[:, 0], chosen_Nx2[:, 1]
