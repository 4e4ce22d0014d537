"""From a task's pairs to a prepared TFDS data set: checked, split by group, on disk.

A task is a module with a `Config`, a generator of pairs, and

  def questions(config): the pairs.Questions, how the task is asked for
  def builder(config, seed, data_dir): builder_lib.build(make, config, seed, data_dir)

It may have more: `aligned` (patching; pairs.Aligned), `behaviors` (answers that the
data bring along: label.source=task), `bayes`, `PREFERENCES` and `corpus_builder` (of
the built-in world).

Files are ArrayRecord; TensorFlow is not needed.
"""

from collections.abc import Callable, Iterable
import dataclasses
import hashlib
import pathlib
from typing import Any
import warnings

import tensorflow_datasets as tfds

from data import pairs
from data import readers
from data import splits

Make = Callable[[Any, int], Iterable[pairs.Pair]]
BySplit = Callable[[Iterable[pairs.Pair]], dict[str, list[pairs.Pair]]]


@dataclasses.dataclass(kw_only=True)
class PairsConfig(tfds.core.BuilderConfig):
  """How to make a task's pairs: by_split(make(task, seed))."""

  make: Make
  task: Any  # the task's Config
  seed: int
  by_split: BySplit | None = None  # default: split


class CounterfactualPairs(tfds.core.GeneratorBasedBuilder):
  """Counterfactual pairs of one task, split by the content of what they are about."""

  VERSION = tfds.core.Version('1.0.0')

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description=__doc__,
      features=pairs.features(),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager):
    del dl_manager  # nothing to download
    config = self.builder_config
    made = config.make(config.task, config.seed)
    by_split = (config.by_split or split)(made)
    return {name: self._generate_examples(found) for name, found in by_split.items()}

  def _generate_examples(self, found: list[pairs.Pair]):
    for i, pair in enumerate(found):
      yield i, vars(pair)


def build(
  make: Make,
  config: Any,
  seed: int,
  data_dir: str | pathlib.Path,
  by_split: BySplit | None = None,
) -> tfds.core.GeneratorBasedBuilder:
  """The builder of a task's pairs; `download_and_prepare` writes them to data_dir.

  Args:
    make: (config, seed) -> pairs, in an order that follows from the two.
    config: the task's Config, a dataclass.
    seed: of what is drawn at random.
    data_dir: where data sets lie; each module, config and seed has a folder there.
    by_split: of PairsConfig.
  """
  task = make.__module__.rpartition('.')[-1]
  fields = hashlib.sha256(repr(dataclasses.astuple(config)).encode()).hexdigest()
  named = PairsConfig(
    name=f'{task}-seed{seed}-{fields[:8]}',
    make=make,
    by_split=by_split,
    task=config,
    seed=seed,
  )
  return CounterfactualPairs(
    config=named, data_dir=data_dir, file_format='array_record'
  )


def split(
  made: Iterable[pairs.Pair],
  checked: Callable[[pairs.Pair], None] | None = None,
  split_of: Callable[[str], str] = splits.split_of,
) -> dict[str, list[pairs.Pair]]:
  """Pairs by split, each checked; one that repeats another's texts is left out.

  Args:
    made: the pairs.
    checked: raises DataError for a pair that is none; default: `check`.
    split_of: the split of a group.

  Raises:
    DataError: a pair that is none, or a split without pairs.
  """
  by_split = {name: [] for name in splits.SHARES}
  seen, repeated = set(), 0
  for number, pair in enumerate(made):
    if not isinstance(pair, pairs.Pair):
      raise readers.DataError(f'pair {number}: found {pair!r:.80}: give a Pair.')
    texts = (pair.prompt, pair.counterfactual, pair.options)
    if texts in seen:
      repeated += 1
      continue
    seen.add(texts)
    (checked or check)(pair)
    by_split[split_of(pair.group)].append(pair)
  if repeated:
    warnings.warn(
      f'{repeated} pairs repeat the texts of another and were left out', stacklevel=2
    )
  groups = {p.group for found in by_split.values() for p in found}
  for name, found in by_split.items():
    if not found:
      raise readers.DataError(
        f'The split {name!r} is empty: the data are about {len(groups)} different '
        'texts only; give more.'
      )
  return by_split


def check(pair: pairs.Pair) -> None:
  """Raises DataError unless the pair is one that a task may make.

  Its counterfactual is the prompt with the cue taken out, and it can be asked about.
  """
  try:
    pairs.cue_start(pair)
  except ValueError as e:
    raise readers.DataError(str(e)) from e
  check_asked(pair)


def check_asked(pair: pairs.Pair) -> None:
  """Raises DataError unless the pair is one that can be asked about."""
  if pair.prompt == pair.counterfactual:
    raise readers.DataError(
      f'{pair.provenance}: the prompt and the counterfactual are the same text: give '
      'the prompt a cue that the counterfactual lacks.'
    )
  options = pair.options
  if len(options) < 2 or len(set(options)) < len(options) or not all(options):
    raise readers.DataError(
      f'{pair.provenance}: options={options}: give distinct ones.'
    )
  if pair.cue_option not in (pairs.NO_OPTION, *range(len(options))):
    raise readers.DataError(
      f'{pair.provenance}: cue_option={pair.cue_option} is no index into {options}.'
    )
  if not pair.group:
    raise readers.DataError(f'{pair.provenance}: the pair has no group to split by.')
