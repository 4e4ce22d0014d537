"""Names that become folders stay within the workdir, each with a folder of its own."""

import pytest

from configs import hint_mmlu, refusal, world
from coupling.config import close_names, schema, validate

OUTSIDE = (
  *('', '.', '..', '../x', 'a/b', '/tmp/x', 'a/../../x', '~/x', '.hidden', 'a\\b'),
  *(' ', 'a ', 'a\n', 'a\0b', '-rf', 'x.', 'a:b', 'C:x', 'a*', '\ud800', '\u202ex'),
)
TAKEN = (
  *('prepare', 'base', 'label', 'train', 'evaluate', 'patch', 'export', 'report'),
  *('tensorboard', 'label-step8', 'Base', 'REPORT', 'M_0', 'ｂase'),
)
GOOD = ('kl', 'no_kl', 'noise_30', 'rank-8', 'lr=1e-3', 'a.b', '_x', '8', 'größe', '基')


@pytest.mark.parametrize('name', OUTSIDE)
@pytest.mark.parametrize('section', ['runs', 'parts'])
def test_what_is_no_plain_name_is_refused(section, name):
  [found] = close_names.problems(section, [name])
  assert found.startswith(f'{section}[{name!r}]: ') or name == 'x.'


@pytest.mark.parametrize('name', TAKEN)
def test_names_of_stages_are_refused(name):
  [found] = close_names.problems('runs', ['kl', name])
  assert found.startswith(f'runs.{name}: something else')


@pytest.mark.parametrize('name', ['report', 'seed0', 'Tensorboard'])
def test_names_beside_the_parts_are_refused(name):
  [found] = close_names.problems('parts', ['main', name])
  assert found.startswith(f'parts.{name}: something else')


@pytest.mark.parametrize('one, other', [('kl', 'KL'), ('ﬁne', 'fine'), ('ß', 'SS')])
def test_names_that_share_a_folder_somewhere_are_refused(one, other):
  assert close_names.problems('runs', [other]) == []
  [found] = close_names.problems('runs', [one, other])
  assert found.startswith(f'runs.{other}: {one!r} has the same folder')


def test_good_names_pass_and_long_ones_do_not():
  assert close_names.problems('runs', GOOD) == close_names.problems('parts', GOOD) == []
  assert 'shorten' in close_names.problems('runs', ['x' * 101])[0]
  assert close_names.problems('runs', [3])[0].startswith('runs[3]')


def refused(config) -> str:
  with pytest.raises(schema.ConfigError) as error:
    validate.resolve(config)
  return str(error.value)


LONG = 'x' * 5000
BAD = (
  *('{sed}/x', '{', '{0}', '{seed.x}', 'a\0b', 'a\ud800', LONG, 'x/' * 2500),
  *('x/' + 'y' * 256, 'y' * 250 + '{seed}', '{seed:>9999999}', '{seed:{seed}}'),
  *('{seed:9999999999999}', '{seed:c}', '{seed:x>300}'),
)


@pytest.mark.parametrize('path', BAD)
def test_paths_that_cannot_be_filled_are_refused(path):
  config = world.get_config('seeds=1')
  config.train.labels = path
  shown = repr(path) if len(path) < 100 else repr(path)[:40]
  assert f'labels={shown}' in refused(config)
  assert len(refused(config)) < 2000  # a line for each run
  config = world.get_config('seeds=1')
  config.label.source = path
  assert f'label.source={shown}' in refused(config)
  config = world.get_config('seeds=1').unlock()
  config.base = dict(step=path)
  assert f'base.step={shown}' in refused(config)


@pytest.mark.parametrize('path', ['a\0b', 'a\ud800', LONG, 'x/' * 2500])
def test_paths_that_cannot_be_are_refused(path):
  config = hint_mmlu.get_config('model=local,checkpoint=x,path=y').unlock()
  config.base.checkpoint = config.task.path = path
  assert 'base.checkpoint=' in refused(config) and 'task.path=' in refused(config)
  config = refusal.get_config('model=local,checkpoint=x,path=y').unlock()
  config.task.paths = ('y', path)
  assert 'task.paths[1]=' in refused(config) and 'paths[0]' not in refused(config)


@pytest.mark.parametrize('path', ['labels-{seed}', '{seed:03}/x', '{seed:4d}', '{{x}}'])
def test_paths_that_can_be_filled_pass(path):
  assert close_names.pattern_problems('train.labels', path) == []
