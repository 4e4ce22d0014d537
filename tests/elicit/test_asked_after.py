"""Explanations that are asked for after an answer: whose answer, and what is read."""

import dataclasses

import numpy as np
import pytest

from configs import world
from coupling.config import validate
from coupling.elicit import evaluation, explanation
from coupling.training import examples
from data import hint_mmlu
from tests import chats, training_texts
from tests.elicit import test_evaluation as toy

TEMPLATES = {
  names: dataclasses.replace(template, explanation_after='expl')
  for names, template in toy.QUESTIONS.items()
}


def behaviors(replies=None):
  """Of some other model, on the toy's items: option indices, or replies."""
  rng = np.random.default_rng(7)
  size_N = np.array([len(pair.options) for pair in toy.ITEMS])
  chosen_2xN = rng.integers(size_N, size=(2, toy.N))
  replies_NxR = np.zeros((toy.N, 0), object) if replies is None else replies
  return explanation.Behaviors(*chosen_2xN, np.zeros((toy.N, 2, 0)), replies_NxR)


def said_after(params, pair, option):
  """What the toy says when asked after an answer, word by word."""
  words = [*pair.prompt.split(), 'ask', option, 'expl']
  for _ in range(2):
    logits = toy.logits_after(params, words)
    words.append(max(logits, key=logits.get))
  return ' '.join(words[-2:])


@pytest.mark.parametrize('states_answer', [True, False])
def test_the_answer_in_the_context_is_its_own_and_in_the_swap_test_the_others(
  states_answer,
):
  params, template = toy.trained(states_answer), TEMPLATES[states_answer]
  arrays = evaluation.questions(toy.FORMAT, toy.ITEMS, template)
  orig, target = toy.labels()
  arrays |= {'orig': orig, 'target': target}
  other = behaviors()
  after = evaluation.After(toy.FORMAT, template, toy.ITEMS, other)
  items, _ = evaluation.evaluate(
    *(toy.CONFIG, params, arrays, toy.BATCH, toy.MESH, states_answer, toy.FORMAT),
    after=after,
  )
  valid, differ = 0, 0
  for i, pair in enumerate(toy.ITEMS):
    now, _ = toy.answer(params, pair.prompt, pair.options)
    theirs = pair.options[other.behavior_N[i]]
    differ += now != theirs
    for option, name in ((now, 'stated'), (theirs, 'swapped')):
      said = said_after(params, pair, option)
      found = (items[f'{name}_answer'][i], items[f'{name}_changed'][i])
      allowed = {
        form.format(answer=o)
        for o in pair.options
        for form in (template.unchanged, template.changed)
      }
      if said in allowed:
        # "Unchanged" that names no answer means the answer that stands there.
        assert found == toy.meaning(said, pair, option), (i, name)
        valid += 1
      else:
        assert found == (explanation.INVALID, explanation.INVALID)
  assert differ > toy.N / 3 and valid > toy.N / 3


def test_a_chat_is_asked_in_turns():
  format, template = chats.chat('qwen'), hint_mmlu.QUESTIONS
  items = [dataclasses.replace(x, options=tuple('ABCD')) for x in toy.ITEMS]
  did = behaviors()
  asked = evaluation.After(format, template, items, did).questions(did)
  rows = [row[valid] for row, valid in zip(asked['tokens'], asked['valid'])]
  for row, pair, option in zip(rows, items, did.behavior_N):
    letter = 'ABCD'[option]
    turns = [
      {'role': 'user', 'content': template.behavior.format(prompt=pair.prompt)},
      {'role': 'assistant', 'content': letter},
      {'role': 'user', 'content': template.explanation_after},
    ]
    want = format.tokenizer.apply_chat_template(
      turns, add_generation_prompt=True, enable_thinking=False
    )
    assert row.tolist() == list(getattr(want, 'input_ids', want))


def test_training_asks_after_what_m_0_said_options_or_replies():
  train = validate.resolve(world.get_config('seeds=1')).runs['kl']
  train = dataclasses.replace(train, context='after')
  template = TEMPLATES[True]
  words = toy.TOKENIZER.convert_ids_to_tokens
  replies = np.array([['hint hint', 'q0']] * toy.N, object)
  for did in (behaviors(), behaviors(replies)):
    source = training_texts.source(
      *(train, toy.FORMAT, template, toy.ITEMS, did, did.explanation, None, 0)
    )
    parts = examples.training_parts(train, toy.FORMAT, template, source, None)
    rows, _ = parts['explanation']
    for i, pair in enumerate(toy.ITEMS):
      answer = did.answers([p.options for p in toy.ITEMS])[i]
      asked = ' '.join(words(rows['tokens'][i][rows['valid'][i]]))
      assert asked.startswith(f'<bos> {pair.prompt} ask {answer} expl ')
  assert answer == 'hint hint'
