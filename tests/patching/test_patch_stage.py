"""The stage patch: what it refuses, which checkpoints it takes."""

import dataclasses

import numpy as np
import pytest

from configs import aita, refusal, world
from configs.paper import mechanism
from coupling.config import paper_parts, schema, validate
from coupling.patching import aligned_prompts, question_pairs
from coupling.run import patch_stage, pipeline
from data import formats, pairs, world as world_task, world_texts


def test_a_task_that_cannot_move_its_cue_is_refused(tmp_path):
  e = validate.resolve(
    refusal.get_config('model=local,checkpoint=x,path=y,seeds=1,read=reply')
  )
  with pytest.raises(schema.ConfigError) as error:
    patch_stage.check(e, list(e.runs))
  text = '\n'.join(error.value.problems)
  assert "task.module='data.refusal' cannot move a cue" in text
  assert 'reads behaviours from replies' in text
  patch_stage.check(e, [])  # nothing is patched
  moves = aita.get_config('model=local,checkpoint=x,path=y,seeds=1')
  patch_stage.check(validate.resolve(moves), ['kl'])


def test_runs_that_are_asked_after_their_answer_are_refused():
  e = validate.resolve(world.get_config('seeds=1'))
  after = dataclasses.replace(e.runs['kl'], context='after')
  e = dataclasses.replace(e, runs=e.runs | {'kl': after})
  with pytest.raises(schema.ConfigError, match='runs.kl.context=after'):
    patch_stage.check(e, list(e.runs))


@pytest.mark.parametrize(
  'count, want', [(1, [9]), (2, [0, 9]), (3, [0, 6, 9]), (9, [0, 3, 6, 9])]
)
def test_checkpoints_are_spread_from_the_first_to_the_last(count, want):
  assert patch_stage.spread([0, 3, 6, 9], count) == want
  assert patch_stage.spread([9], count) == [9]


def test_a_paper_patches_the_runs_of_its_studies_alone():
  paper = paper_parts.resolve(mechanism.get_config('seeds=1'))
  assert paper.patched == {'main/kl', 'main/no_kl', 'main/shuffled'}
  assert pipeline._patched(paper, 'main') == ['kl', 'no_kl', 'shuffled']
  without = dataclasses.replace(paper, studies={})
  assert pipeline._patched(without, 'main') == []
  with pytest.raises(ValueError, match="on='refusal'"):
    mechanism.get_config('on=refusal')


def test_both_prompts_have_the_answers_of_the_model_itself():
  options = ('v1', 'v7', 'v9', 'v30')
  made = []
  for hint in (7, 9):
    texts = [world_texts.question_text(50, [1, 7, 9, 30], x) for x in ((2, hint), None)]
    made.append(pairs.Pair(*texts, f'src2 v{hint}', 'src2', 1, options, 'g', 'p'))
  format = formats.Plain(world_task.tokenizer())
  config = world_task.Config(behavior='hint', train_pairs=1)
  # The second hint is for what the model says without it: nothing to move.
  found = aligned_prompts.contrasts(
    format,
    world_task.QUESTIONS,
    made,
    np.array([1, 0]),
    np.array([3, 2]),
    lambda pair, option: world_task.aligned(config, pair, option),
    True,
  )
  assert found.kept_N.tolist() == [0]
  decode = lambda ids: format.tokenizer.decode(ids)
  x = found.explanation.arrays
  texts = [decode(x['tokens'][0, k][x['valid'][0]]) for k in (0, 1)]
  assert texts[0].endswith('src2 v7 expl') and texts[1].endswith('src2 v30 expl')
  assert found.others[0] in texts[1]
  assert [decode(ids) for ids in x['answers'][0]] == ['v30 change', 'v30 same']
  x = found.behavior.arrays
  assert [decode(ids) for ids in x['answers'][0]] == ['v7', 'v30']
  assert found.behavior.live == {'hinted_option', 'answer'}
  nothing = aligned_prompts.contrasts(
    format,
    world_task.QUESTIONS,
    made[1:],
    np.array([0]),
    np.array([2]),
    lambda pair, option: world_task.aligned(config, pair, option),
    True,
  )
  assert nothing is None


def test_of_the_counterfactual_answer_another_question_is_compared():
  """x' is another question; x and x' of the behaviour are without their cues."""
  # Fact, options, hinted one, which is the answer, and which of them is said without.
  asked = (
    (50, (1, 7, 9, 30), 7, 3),
    (50, (1, 7, 9, 30), 7, 2),
    (81, (1, 7, 9, 30), 7, 3),
    (12, (1, 7, 9, 30), 7, 0),
    (13, (1, 7, 9, 31), 7, 3),  # v31, which nobody else is offered
    (14, (1, 7, 9, 30), 30, 0),  # no v30 compares with it, which is its hint
  )
  made = []
  for fact, values, hint, _ in asked:
    x = [world_texts.question_text(fact, values, y) for y in ((2, hint), None)]
    options = tuple(f'v{value}' for value in values)
    made.append(pairs.Pair(*x, f'src2 v{hint}', 'src2', 1, options, str(fact), 'p'))
  said_N = np.array([row[-1] for row in asked])
  format = formats.Plain(world_task.tokenizer())
  config = world_task.Config(behavior='hint', train_pairs=1)
  compare = lambda rows: question_pairs.contrasts(
    format,
    world_task.QUESTIONS,
    [made[i] for i in rows],
    np.array([asked[i][1].index(asked[i][2]) for i in rows]),
    said_N[rows],
    lambda pair, option: world_task.aligned(config, pair, option),
  )
  found, decode = compare([0, 1, 2, 3, 4, 5]), format.tokenizer.decode
  assert found.kept_N.tolist() == [0, 1, 2, 3, 5]
  last = found.explanation.arrays
  assert [decode(ids) for ids in last['answers'][4]] == ['v1 change', 'v9 change']
  for name, ends in (('behavior', 'none none ask'), ('explanation', 'expl')):
    x = getattr(found, name).arrays
    for i, pair in enumerate(made[:4]):
      own, other = (decode(x['tokens'][i, k][x['valid'][i]]) for k in (0, 1))
      text = pair.counterfactual if name == 'behavior' else pair.prompt
      assert text in own and own.endswith(ends) and other.endswith(ends)
      assert own.split()[:2] != other.split()[:2]  # of another fact
      assert name == 'behavior' or found.others[i] in other
      answer, its = (decode(ids).split() for ids in x['answers'][i])
      assert answer[0] == pair.options[said_N[i]] != its[0] in pair.options
      assert [row[1:] for row in (answer, its)] == 2 * [
        [] if name == 'behavior' else ['change']
      ]
  groups = {'question', 'options', 'hint_source', 'hinted_option', 'answer'}
  assert found.explanation.live >= groups
  # One fact alone, one v', or one that is the other's hint: nothing to compare with.
  assert compare([0, 1]) is compare([0, 2]) is compare([0, 5]) is None
