"""Position groups: they partition every prompt, and say what its words are."""

import dataclasses

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from data import aita, cues, formats, hint_mmlu, pairs, positions, readers, world
from data import world_texts
from tests import chats, texts

WORDS = formats.Plain(world.tokenizer())
CONFIG = hint_mmlu.Config(path='')
HINTS = cues.parse_templates('task.hints', hint_mmlu.HINTS)


def names(codes):
  return [positions.GROUPS[code] for code in codes]


def hint_pair(text, kind, letter):
  hint = next(x for x in HINTS if x.kind == kind)._replace(option=letter)
  return cues.pair(
    text, hint, options=('A', 'B', 'C', 'D'), group='g', provenance='row 1'
  )


def test_the_words_of_the_world():
  x = world_texts.question_text(50, [1, 7, 9, 30], (2, 7))
  pair = pairs.Pair(
    x, world_texts.question_text(50, [1, 7, 9, 30], None), 'src2 v7', 'src2', 1,
    ('v1', 'v7', 'v9', 'v30'), 'g', 'p',
  )  # fmt: skip
  config = world.Config(behavior='hint', train_pairs=1)
  want = ['template'] + ['question'] * 2 + ['options'] * 4
  want += ['hint_source', 'hinted_option', 'answer']
  for option, other in (('v9', 'src2 v9'), (None, 'none none')):
    aligned = world.aligned(config, pair, option)
    assert aligned.prompt == f'e12 r2 v1 v7 v9 v30 {other}'
    own, moved, group_T = positions.aligned_prompts(
      WORDS, world.QUESTIONS.explanation, pair, aligned
    )
    assert names(group_T) == want
    assert len(own) == len(moved) == len(want) and own[:7] == moved[:7]
  # A hint that is moved to where it is leaves nothing to compare.
  same = world.aligned(config, pair, 'v7')
  assert same.prompt == x
  asks = world.QUESTIONS.behavior
  assert positions.aligned_prompts(WORDS, asks, pair, same) is None


def test_a_reason_cannot_be_moved_but_removed():
  x = world_texts.request_text(22, 9, 3)
  without = world_texts.request_text(22, 9, None)
  pair = pairs.Pair(
    x, without, 'why3', 'why3', -1, ('comply', 'refuse'), 'g', 'p'
  )  # fmt: skip
  config = world.Config(behavior='request', train_pairs=1)
  aligned = world.aligned(config, pair, None)
  assert aligned.prompt == without and aligned.parts[-1][0] == 'hint_source'
  with pytest.raises(readers.DataError, match="patch.contrasts=\\('removed',\\)"):
    world.aligned(config, pair, 'comply')


def test_a_hint_is_moved_within_itself():
  text = 'A is A?\n\n(A) A\n(B) b\n(C) I think the answer is (A).\n(D) d'
  for kind in ('opinion', 'friend', 'professor'):
    pair = hint_pair(text, kind, 'A')
    aligned = hint_mmlu.aligned(CONFIG, pair, 'C')
    assert aligned.prompt == hint_pair(text, kind, 'C').prompt
    parts = {name: pair.prompt[a:b] for name, a, b in aligned.parts}
    assert parts == {
      'options': text[text.index('\n\n(A)') :],
      'hint_source': pair.cue,
      'hinted_option': 'A',
    }
    assert hint_mmlu.aligned(CONFIG, pair, None).prompt == text


def test_an_opinion_is_turned_around():
  opinions = cues.parse('task.opinions', aita.OPINIONS, aita.VERDICTS)
  make = lambda cue: cues.pair(
    'A post.', cue, options=aita.VERDICTS, group='g', provenance='row 1'
  )
  aligned = aita.aligned(aita.Config(path=''), make(opinions[2]), 'YTA')
  assert aligned.prompt == make(opinions[3]).prompt
  *_, (name, start, end) = aligned.parts
  assert name == 'hinted_option'
  assert make(opinions[2]).prompt[start:end] == 'right'
  only = aita.Config(path='', opinions=(aita.OPINIONS[2],))
  with pytest.raises(readers.DataError, match="'friends' speaks for 'YTA'"):
    aita.aligned(only, make(opinions[2]), 'YTA')


@chats.each_family
@pytest.mark.parametrize('form', [chats.chat, chats.plain])
@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(
  text=texts.TEXTS,
  kind=st.sampled_from([x.kind for x in HINTS]),
  letters=st.permutations('ABCD'),
)
def test_groups_partition_the_tokens_of_any_prompt(form, family, text, kind, letters):
  format = form(family)
  pair = hint_pair(f'{text}\n\n(A) a\n(B) b\n(C) c\n(D) d', kind, letters[0])
  aligned = hint_mmlu.aligned(CONFIG, pair, letters[1])
  for asks in (hint_mmlu.QUESTIONS.behavior, hint_mmlu.QUESTIONS.explanation):
    asked = asks.format(prompt=pair.prompt)
    own = format.prompts([asked])[0]
    group_T = positions.groups(format, asks, pair.prompt, aligned.parts)
    assert group_T.shape == (len(own),)  # every token has one group
    found = names(group_T)
    assert found[-1] == 'answer' and found.count('answer') == 1
    start = asks.index('{prompt}')
    offsets = format.offsets(asked)
    assert len(offsets) == len(own)
    (hinted,) = (x for x in aligned.parts if x[0] == 'hinted_option')
    inside = []
    for (first, last), name in zip(offsets[:-1], found[:-1]):
      assert 0 <= first <= last <= len(asked)
      x = slice(max(first - start, 0), max(last - start, 0))
      if first == last:
        assert name == 'template'
      elif last <= start or first >= start + len(pair.prompt):
        assert name == 'instruction'
      elif name == 'hinted_option':
        inside.append(pair.prompt[x])
      elif name == 'question':
        assert x.start < len(text)
    # The hinted letter is somewhere, and in no longer piece than its neighbours.
    assert inside and all(letters[0] in piece for piece in inside), inside
    assert hinted[2] - hinted[1] == 1


def test_spans_are_counted_from_where_x_stands_in_the_template():
  format = chats.chat('qwen')
  pair = hint_pair('What?\n\n(A) a\n(B) b\n(C) c\n(D) d', 'opinion', 'B')
  aligned = hint_mmlu.aligned(CONFIG, pair, 'C')
  asks = '  {{Well}}: {prompt} -- so?'
  group_T = positions.groups(format, asks, pair.prompt, aligned.parts)
  asked = asks.format(prompt=pair.prompt)
  said = {}
  for (first, last), name in zip(format.offsets(asked), names(group_T)):
    said[name] = said.get(name, '') + asked[first:last]
  assert said['hinted_option'].strip('(') == 'B'
  assert '\n\n(A)' in said['options'] and 'What' in said['question']
  assert '{Well}' in said['instruction'] and 'so?' in said['instruction']
  assert dataclasses.asdict(pair)['cue'] == pair.cue and np.all(group_T >= 0)


@hypothesis.given(texts.TEXTS, texts.TEXTS, texts.TEXTS)
def test_parts_of_a_counterfactual_are_what_is_left(before, cue, after):
  x, other = before + cue + after, before + after
  pair = pairs.Pair(x, other, cue, 'k', -1, ('a', 'b'), 'g', 'p')
  ends = 0, len(before), len(before + cue), len(x)
  parts = zip(('question', 'hint_source', 'options'), ends, ends[1:])
  found = positions.without_cue(pair, list(parts))
  assert ''.join(other[a:b] for _, a, b in found) == other
  assert [name for name, *_ in found if name != 'hint_source'] == [
    name for name, text in (('question', before), ('options', after)) if text
  ]


def test_words_in_the_place_of_a_cue_are_of_its_groups():
  x, other = (world_texts.question_text(50, [1, 7, 9, 30], y) for y in ((2, 7), None))
  pair = pairs.Pair(x, other, 'src2 v7', 'src2', 1, ('v1',), 'g', 'p')
  found = positions.without_cue(pair, world_texts.parts(x))
  assert {other[a:b] for name, a, b in found if 'hint' in name} == {'none none'}
  with pytest.raises(readers.DataError, match='names no part of x among'):
    positions.without_cue(pair, [('options', 6, 12)])
