"""From pairs to data sets on disk: the checks, the splits, a task of the user's own."""

import dataclasses
import pathlib
import re
import subprocess
import sys

from hypothesis import assume, given, settings, strategies as st
import pytest

from coupling.config import validate
from data import aita, builder, cues, hint_mmlu, jabberwocky, pairs, readers, refusal
from data import splits
from tests import texts

CUE = cues.Cue('said', 'no', 'They say: {option}.')


def pair(text, **changes):
  made = cues.pair(
    text, CUE, options=('yes', 'no'), group=splits.content_hash(text), provenance='x'
  )
  return dataclasses.replace(made, **changes)


@given(before=st.text(max_size=9), cue=texts.TEXTS, after=st.text(max_size=9))
@settings(deadline=None)
def test_a_cue_is_found_wherever_it_stands(before, cue, after):
  made = pair('x', prompt=before + cue + after, counterfactual=before + after, cue=cue)
  start = pairs.cue_start(made)
  assert made.prompt[start : start + len(cue)] == cue
  assert pairs.remove_cue(made.prompt, cue, start) == before + after
  assert start >= len(before)  # the last place where it does


@given(text=texts.TEXTS, cue=texts.TEXTS, other=texts.TEXTS)
@settings(deadline=None)
def test_what_is_not_the_prompt_without_the_cue_is_found_out(text, cue, other):
  prompt = text + cue
  assume(other not in (prompt[:i] + prompt[i + len(cue) :] for i in range(len(prompt))))
  with pytest.raises(ValueError, match='is not the prompt'):
    pairs.cue_start(pair('x', prompt=prompt, counterfactual=other, cue=cue))


@given(text=texts.TEXTS)
@settings(deadline=None)
def test_the_text_is_no_template(text):
  made = pair(text)
  assert made.prompt == text + '\n\nThey say: no.'
  assert (made.counterfactual, made.cue_option) == (text, 1)
  builder.check(made)


@pytest.mark.parametrize(
  'changes, error',
  [
    ({'cue': ''}, 'is not the prompt'),
    ({'cue': 'They say: no.'}, 'is not the prompt'),  # without its separator
    ({'counterfactual': 'another'}, 'is not the prompt'),
    ({'options': ('yes',)}, "x: options=.'yes',.: give distinct ones"),
    ({'options': ('yes', 'yes')}, 'give distinct ones'),
    ({'options': ('yes', '')}, 'give distinct ones'),
    ({'cue_option': 2}, 'x: cue_option=2 is no index'),
    ({'cue_option': -2}, 'cue_option=-2 is no index'),
    ({'group': ''}, 'x: the pair has no group'),
  ],
)
def test_what_cannot_be_asked_about_is_refused(changes, error):
  with pytest.raises(readers.DataError, match=error):
    builder.check(pair('some text', **changes))
  with pytest.raises(readers.DataError, match=error):
    builder.split([pair('another text'), pair('some text', **changes)])
  builder.check(pair('some text', cue_option=pairs.NO_OPTION))


@given(names=st.lists(st.text(), min_size=40, max_size=80, unique=True))
@settings(deadline=None, max_examples=30)
def test_no_group_is_in_two_splits(names):
  made = [pair(f'{name}{i}', group=f'g{name}') for name in names for i in range(2)]
  try:
    by_split = builder.split(made)
  except readers.DataError:
    assume(False)
  groups = [{p.group for p in found} for found in by_split.values()]
  assert sum(map(len, groups)) == len(set.union(*groups)) == len(names)
  assert sorted(p.prompt for found in by_split.values() for p in found) == sorted(
    p.prompt for p in made
  )


def test_splits_have_their_shares_and_do_not_depend_on_the_company():
  groups = [splits.content_hash(f'text {i}') for i in range(20_000)]
  found = [splits.split_of(group) for group in groups]
  for name, share in splits.SHARES.items():
    assert found.count(name) / len(found) == pytest.approx(share, abs=0.015)
  assert sum(splits.SHARES.values()) == pytest.approx(1)
  # Frozen: another rule would mix what earlier runs had held out.
  assert [splits.split_of(f'g{i}') for i in range(6)] == (['train'] * 5 + ['test'])


@pytest.mark.parametrize(
  'one, other, same',
  [
    ('A Question?', ' a\tquestion? \n', True),
    ('ﬁne Å', 'fine Å', True),
    ('a b', 'ab', False),
    ('a?', 'a!', False),
  ],
)
def test_the_content_hash_is_of_the_words(one, other, same):
  assert (splits.content_hash(one) == splits.content_hash(other)) is same


def test_repeated_texts_are_left_out_and_empty_splits_refused():
  made = [pair(f'text {i}') for i in range(40)]
  by_split = builder.split([*made, *made[:10]])
  assert sum(map(len, by_split.values())) == 40
  with pytest.raises(readers.DataError, match="split '.*' is empty.*1 different texts"):
    builder.split(made[:1])


@pytest.mark.parametrize(
  'questions, options',
  [
    (hint_mmlu.QUESTIONS, ('A', 'B', 'C', 'D')),
    (jabberwocky.QUESTIONS, ('A', 'B', 'C', 'D')),
    (aita.QUESTIONS, aita.VERDICTS),
    (refusal.QUESTIONS, refusal.CHOICES),
    (refusal.REPLY_QUESTIONS, ('comply', 'refuse', 'unclear')),
  ],
)
def test_a_statement_says_one_thing(questions, options):
  """parse(render(explanation)) is the identity, and no statement begins another."""
  render = lambda answer, changed: (
    questions.changed if changed else questions.unchanged
  ).format(answer=answer)
  stated = {render(o, changed): (o, changed) for o in options for changed in (0, 1)}
  assert not questions.states_answer
  assert len(stated) == len(options) + 1
  for option in options:
    assert stated[render(option, 1)] == (option, 1)
    assert stated[render(option, 0)][1] == 0
  assert not [(a, b) for a in stated for b in stated if a != b and b.startswith(a)]


def shown(heading: str) -> list[str]:
  """Python that docs/experiments.md shows in a section."""
  folder = pathlib.Path(__file__).parents[2] / 'docs'
  section = (
    (folder / 'experiments.md')
    .read_text()
    .split(f'\n## {heading}\n')[1]
    .split('\n## ')[0]
  )
  return re.findall(r'```python\n(.*?)```', section, re.DOTALL)


def test_a_variant_has_a_run_more():
  (code,) = shown('A variant')
  module = {}
  exec(code, module)
  runs = validate.resolve(module['get_config']('seeds=1')).runs
  assert set(runs) == {'kl', 'no_kl', 'sibling', 'shuffled', 'kl_03'}
  assert runs['kl_03'].objectives.behavior_kl.weight == 0.3


USE = """
import sys
import recipes
from data import builder, pairs, splits
config = recipes.Config(path='recipes.csv')
for seed in (0, 1):
  built = recipes.builder(config, seed, 'out')
  built.download_and_prepare()
  want = builder.split(recipes.make(config, seed))
  assert {name: pairs.read(built, name) for name in splits.SHARES} == want
assert 'tensorflow' not in sys.modules, 'TensorFlow was imported'
assert 'jax' not in sys.modules, 'JAX was imported'
import recipes_config
from coupling.config import validate
args = 'model=local,checkpoint=folder,path=recipes.csv'
e = validate.resolve(recipes_config.get_config(args))
assert e.task.config == config and e.task.module == 'recipes'
print('built')
"""


def test_a_task_of_the_users_own_is_built_without_tensorflow(tmp_path, pytestconfig):
  """In a process of its own, where nothing else can have imported TensorFlow."""
  task, config = shown('Your own task')
  assert task.count('\n') < 50
  (tmp_path / 'recipes.py').write_text(task)
  (tmp_path / 'recipes_config.py').write_text(config)
  rows = '\n'.join(f'"Take {i} eggs,\nand ""stir"" {{them}}."' for i in range(60))
  (tmp_path / 'recipes.csv').write_text(f'recipe\n{rows}\n')
  run = subprocess.run(
    [sys.executable, '-c', USE],
    cwd=tmp_path,
    env={'PYTHONPATH': f'{tmp_path}:{pytestconfig.rootpath}'},
    capture_output=True,
    text=True,
  )
  assert run.returncode == 0, run.stderr
  assert run.stdout.endswith('built\n')


def test_another_config_or_seed_is_another_data_set(tmp_path):
  path = tmp_path / 'posts.csv'
  posts = '\n'.join(f'post {i},1,YTA' for i in range(60))
  path.write_text(f'prompt,is_asshole,ytanta\n{posts}\n')
  config = aita.Config(path=str(path))
  other = dataclasses.replace(config, opinions=aita.OPINIONS[:2])
  built = [aita.builder(*x, tmp_path) for x in ((config, 0), (config, 1), (other, 0))]
  for each in built:
    each.download_and_prepare()
  assert len({b.data_dir for b in built}) == 3
  kinds = [{p.cue_kind for p in pairs.read(b, 'train')} for b in built]
  assert kinds[2] == {'poster'} and len(kinds[0]) == 4
  prompts = [[p.prompt for p in pairs.read(b, 'test')] for b in built]
  assert prompts[0] != prompts[1]


def test_bad_data_leave_nothing_behind(tmp_path):
  (tmp_path / 'posts.csv').write_text('prompt,is_asshole,ytanta\n')
  config = aita.Config(path=str(tmp_path / 'posts.csv'))
  with pytest.raises(readers.DataError, match='holds no rows'):
    aita.builder(config, 0, tmp_path / 'out').download_and_prepare()
  assert not list((tmp_path / 'out').rglob('*.array_record*'))
