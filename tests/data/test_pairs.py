"""The pair's record: its TFDS features, its way to disk and back, its digest."""

import dataclasses
import subprocess
import sys

import pyarrow as pa
import pytest
import tensorflow_datasets as tfds

from data import pairs

PAIR = pairs.Pair(
  prompt='Straße x with a hint',
  counterfactual='Straße x',
  cue='with a hint',
  cue_kind='hint',
  cue_option=1,
  options=('yes', 'nö', 'perhaps'),
  group='Straße',
  provenance='file.csv row 3',
)
OTHERS = [  # of other lengths, with empty text, without an option that the cue names
  dataclasses.replace(PAIR, options=('a',), cue_option=pairs.NO_OPTION),
  dataclasses.replace(PAIR, options=('a', 'b'), cue='', group='2\nlines'),
]


class Stored(tfds.core.GeneratorBasedBuilder):
  """Three pairs."""

  VERSION = tfds.core.Version('1.0.0')

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self, features=pairs.features(), disable_shuffling=True
    )

  def _split_generators(self, dl_manager):
    return {'train': self._generate_examples()}

  def _generate_examples(self):
    for i, pair in enumerate((PAIR, *OTHERS)):
      yield i, dataclasses.asdict(pair)


def test_pairs_come_back_from_disk_as_they_were(tmp_path):
  builder = Stored(data_dir=tmp_path, file_format='array_record')
  builder.download_and_prepare()
  assert list(tmp_path.rglob('*.array_record-*'))
  read = pairs.read(builder, 'train')
  assert read == [PAIR, *OTHERS]
  assert type(read[0].cue_option) is int and type(read[0].options[0]) is str


def test_columns_hold_every_field_and_give_the_pairs_back():
  found = pairs.columns([PAIR, *OTHERS])
  assert found['cue_kind'] == ['hint'] * 3
  assert pairs.from_columns(pa.table(found).to_pydict()) == [PAIR, *OTHERS]


@pytest.mark.parametrize('field', [f.name for f in dataclasses.fields(pairs.Pair)])
def test_the_digest_is_sensitive_to_every_field(field):
  other = {'cue_option': 2, 'options': ('yes', 'nö')}.get(field, 'another')
  changed = dataclasses.replace(PAIR, **{field: other})
  assert pairs.digest([changed]) != pairs.digest([PAIR])


def test_the_digest_is_of_all_pairs_in_their_order():
  every = [PAIR, *OTHERS]
  assert pairs.digest(every) == pairs.digest(iter(list(every)))
  assert len({pairs.digest(x) for x in (every, every[::-1], every[:2], [])}) == 4
  regrouped = dataclasses.replace(PAIR, options=('yes', 'nöperhaps'))
  assert pairs.digest([regrouped]) != pairs.digest([PAIR])


@pytest.mark.parametrize(
  'unchanged, states', [('{answer} same', True), ('unchanged', False)]
)
def test_states_answer(unchanged, states):
  questions = pairs.Questions('{prompt}?', '{prompt} why?', unchanged, '{answer} now')
  assert questions.states_answer is states


BUILD = """
import sys

from data import pairs, universe, world
config = world.Config(behavior='request', train_pairs=9)
builder = world.builder(config, 3, sys.argv[1])
builder.download_and_prepare()
want = universe.World.draw(3).counterfactual_pairs('request', 'train', 9)
assert pairs.read(builder, 'train') == list(want)
builder = world.corpus_builder(config, 3, 3, sys.argv[1])
builder.download_and_prepare()
want = [line for d in universe.World.draw(3).corpus(3) for line in d]
assert world.read_corpus(builder) == want
assert 'tensorflow' not in sys.modules, 'TensorFlow was imported'
print('built')
"""


def test_data_sets_are_built_without_tensorflow(tmp_path):
  """In a process of its own, where nothing else can have imported TensorFlow."""
  run = subprocess.run(
    [sys.executable, '-c', BUILD, str(tmp_path)], capture_output=True, text=True
  )
  assert run.returncode == 0, run.stderr
  assert run.stdout.endswith('built\n')


@pytest.mark.parametrize(
  'prompt, counterfactual, cue, option',
  [
    ('Is it? I say no.', 'Is it?', ' I say no.', 1),
    ('I say no. Is it?', 'Is it?', 'I say no. ', 1),
    ('Is it? I say yes, not no.', 'Is it?', ' I say yes, not no.', pairs.NO_OPTION),
    ('Is it? I say nobody.', 'Is it?', ' I say nobody.', pairs.NO_OPTION),
    ('Is it, I say no, so?', 'Is it, you say so?', 'I say no,', 1),  # no mere deletion
  ],
)
def test_a_given_pair_finds_its_cue_and_the_option_that_it_names(
  prompt, counterfactual, cue, option
):
  pair = pairs.Pair(prompt, counterfactual, options=['yes', 'no'])
  assert (pair.cue, pair.cue_option, pair.options) == (cue, option, ('yes', 'no'))
  other = pairs.Pair(f'{counterfactual} Yes?', counterfactual, options=('yes', 'no'))
  assert pair.group == other.group and hash(pair)
  assert pairs.from_columns(pairs.columns([pair])) == [pair]
