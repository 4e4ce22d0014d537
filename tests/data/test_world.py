"""The world as a task: what its config asks for is what lies on disk."""

import dataclasses

import pytest
import tensorflow_datasets as tfds

from coupling.config import validate
from coupling.run import context
from configs import world as world_config
from data import pairs, splits, universe, world

BEHAVIORS = ('hint', 'request')
DRAWN = universe.World.draw(7)
SIZES = {'train': 31, 'validation': 2 * 38, 'test': 2 * 64}


def task(behavior='hint', **changes):
  return world.Config(**dict(behavior=behavior, train_pairs=31) | changes)


def prepared(builder) -> tfds.core.DatasetBuilder:
  builder.download_and_prepare()
  return builder


@pytest.mark.parametrize('practice', [0, 23])
@pytest.mark.parametrize('behavior', BEHAVIORS)
def test_the_builder_writes_what_the_world_generates(
  tmp_path, behavior, practice, monkeypatch
):
  monkeypatch.setattr(universe, 'PROMPTS_PER_GROUP', 2)
  config = task(behavior, practice_pairs=practice)
  builder = prepared(world.builder(config, 7, tmp_path))
  sizes = SIZES | ({splits.PRACTICE: practice} if practice else {})
  assert {k: x.num_examples for k, x in builder.info.splits.items()} == sizes
  for split, n in sizes.items():
    want = list(DRAWN.counterfactual_pairs(behavior, split, n))
    assert pairs.read(builder, split) == want


def test_configs_do_not_read_one_anothers_pairs(tmp_path, monkeypatch):
  monkeypatch.setattr(universe, 'PROMPTS_PER_GROUP', 1)
  for config in (task(), task(train_pairs=30), task(practice_pairs=3)):
    builder = prepared(world.builder(config, 7, tmp_path))
    found = {k: x.num_examples for k, x in builder.info.splits.items()}
    assert found['train'] == config.train_pairs
    assert found.get(splits.PRACTICE, 0) == config.practice_pairs


def test_pairs_are_the_same_whatever_the_corpus(tmp_path, monkeypatch):
  monkeypatch.setattr(universe, 'PROMPTS_PER_GROUP', 1)
  standard, contrary = (
    prepared(world.builder(task(corpus=x, practice_pairs=9), 7, tmp_path))
    for x in ('standard', 'contrary')
  )
  for split in (*splits.SHARES, splits.PRACTICE):
    found = pairs.read(contrary, split)
    assert pairs.digest(found) == pairs.digest(pairs.read(standard, split))


@pytest.mark.parametrize('corpus', ['standard', 'contrary'])
def test_the_corpus_is_read_back_in_order(tmp_path, corpus):
  builder = prepared(world.corpus_builder(task(corpus=corpus), 5, 7, tmp_path))
  lines = world.read_corpus(builder)
  assert lines == [line for document in DRAWN.corpus(5, corpus) for line in document]
  assert len(lines) == 5 * universe.LINES_PER_DOCUMENT


def test_an_experiment_reads_the_family_that_its_config_names(tmp_path):
  config = world_config.get_config()
  config.base.documents = 2
  config.task = dict(config.task, corpus='contrary')
  e = validate.resolve(config)
  builder = prepared(context.corpus_builder(e, tmp_path, 7))
  want = [line for lines in DRAWN.corpus(2, 'contrary') for line in lines]
  assert world.read_corpus(builder) == want
  described = context.stage_config(e, 'prepare', 7)['task']['config']
  assert described == dataclasses.asdict(e.task.config)
  assert described['corpus'] == 'contrary' and described['practice_pairs'] == 0


@pytest.mark.parametrize('field, value', [('train_pairs', 0), ('practice_pairs', -1)])
def test_counts_that_make_no_sense_are_named(field, value):
  with pytest.raises(ValueError, match=f'^{field}={value}: must be at least'):
    task(**{field: value})
