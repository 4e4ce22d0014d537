"""Flags of fields that are not there, or of another type: all are named at once."""

import pytest

from coupling.config import field_flags
from tests import command

CONFIG = '--config=configs/world.py:seeds=1'


@pytest.mark.parametrize(
  ('flags', 'found'),
  [
    ('train.loop.stepps=3', ['train.loop.stepps', 'mean train.loop.steps?']),
    ('train.lopp.steps=3', ['train.lopp.steps', 'mean train.loop.steps?']),
    ('trian.loop.steps=3', ['trian.loop.steps', 'mean train.loop.steps?']),
    ('noise=0.1', ['noise', 'mean train.noise?']),
    ('train.colour=red', ['train.colour', 'those of train: attention, ']),
    ('colour=red', ['colour', 'those of the config: base, ']),
    ('runs.kl.seed=1', ['runs.kl.seed', 'mean', 'train.seed']),
    ('runs.kl.colour=1', ['runs.kl.colour', 'in the file of the config']),
    ('train.loop.steps=three', ['train.loop.steps=three', 'int']),
    ('train.loop=3', ['train.loop=3', 'dict']),
    ('train.trees=maybe', ['train.trees=maybe', 'boolean']),
    ('train.loop.steps', ['train.loop.steps', 'Missing value']),
  ],
)
def test_wrong_flags_are_named(flags, found):
  [problem] = field_flags.problems(['main.py', CONFIG, f'--config.{flags}'])
  assert all(text in problem for text in found), problem


def test_right_flags_are_not():
  right = (
    *('--config.train.loop.steps', '5', '--noconfig.train.trees'),
    *('--config.train.seed', '-1', '--config.train.noise', '-.5'),
    *('--config.seeds=(1,2)', "--config.train.lora.targets=('q',)", '--workdir=x'),
    *('-config.train.noise=0.1', '--config.report.title=A title'),
  )
  assert field_flags.problems(['main.py', CONFIG, *right]) == []
  assert field_flags.problems(['main.py', '--config=none.py', '--config.x=1']) == []


def test_a_command_names_all_of_them():
  wrong = '--config.train.loop.stepps=3', '--config.train.seed=x', '--config.colour=1'
  found = command.run(CONFIG, *wrong, '--workdir=unused')
  assert found.returncode == 1 and 'Traceback' not in found.stderr
  for name in ('mean train.loop.steps?', 'train.seed=x', 'colour'):
    assert name in found.stderr, found.stderr
