"""The built-in world on disk: TFDS builders of what it makes.

Unlike other tasks, a world splits its groups itself, and it has a corpus.
"""

from collections.abc import Callable, Iterable
import dataclasses
import os
from typing import Any

import tensorflow_datasets as tfds

from data import builder as builder_lib
from data import pairs


class WorldPairs(builder_lib.CounterfactualPairs):
  """Counterfactual pairs; `make` gives them by split."""

  VERSION = tfds.core.Version('1.0.0')

  def _split_generators(self, dl_manager):
    del dl_manager  # nothing to download
    config = self.builder_config
    by_split = config.make(config.task, config.seed)
    return {split: self._generate_examples(found) for split, found in by_split.items()}


def pairs_builder(
  make: Callable[[Any, int], dict[str, Iterable[pairs.Pair]]],
  task: Any,
  seed: int,
  data_dir: str | os.PathLike,
) -> WorldPairs:
  """The pairs of a world: make(task, seed), by split."""
  fields = '_'.join(map(str, dataclasses.astuple(task)))
  named = builder_lib.PairsConfig(
    name=f'seed{seed}_{fields}', make=make, task=task, seed=seed
  )
  return WorldPairs(config=named, data_dir=data_dir, file_format='array_record')


@dataclasses.dataclass(kw_only=True)
class CorpusConfig(tfds.core.BuilderConfig):
  """How to make a corpus: make() gives its documents, as lists of lines."""

  make: Callable[[], Iterable[list[str]]]


class WorldCorpus(tfds.core.GeneratorBasedBuilder):
  """What the base model reads: documents of one line per question or request."""

  VERSION = tfds.core.Version('1.0.0')

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description=__doc__,
      features=tfds.features.FeaturesDict({'text': tfds.features.Text()}),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager):
    del dl_manager
    return {'train': self._generate_examples()}

  def _generate_examples(self):
    for i, lines in enumerate(self.builder_config.make()):
      yield i, {'text': '\n'.join(lines)}


def corpus_builder(
  make: Callable[[], Iterable[list[str]]], name: str, data_dir: str | os.PathLike
) -> WorldCorpus:
  """A corpus of make()'s documents; each name has a folder in data_dir."""
  named = CorpusConfig(name=name, make=make)
  return WorldCorpus(config=named, data_dir=data_dir, file_format='array_record')


def read_corpus(builder: tfds.core.DatasetBuilder) -> list[str]:
  """All lines of a prepared corpus."""
  source = builder.as_data_source('train')
  documents = source.__getitems__(range(len(source)))
  return [line for d in documents for line in d['text'].decode().split('\n')]
