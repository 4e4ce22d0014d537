"""Questions as arrays, by hand; logits at the answer position; the greedy choice."""

import jax.numpy as jnp
import numpy as np
import pytest

from coupling.config import schema
from coupling.elicit import behavior, encoding
from coupling.model.architecture import DecoderConfig
from data import formats, pairs, tokens
from tests import chat_tokenizers, chats

WORDS = ('a', 'b', 'c', 'q', 'hint', 'ask', 'expl', 'same')
TOKENIZER = tokens.word_tokenizer(WORDS, ('<pad>', '<bos>'))
FORMAT = formats.Plain(TOKENIZER)
PAD, BOS, A, B_, C, Q, HINT, ASK, EXPL, SAME = range(10)
CONFIG = DecoderConfig(
  vocab_size=10, width=8, depth=1, num_heads=2, num_kv_heads=1, head_dim=4, mlp_dim=8
)


def check(arrays, **want):
  assert arrays.keys() == want.keys()
  for name, value in want.items():
    np.testing.assert_array_equal(arrays[name], np.array(value), err_msg=name)
    integers = name in ('tokens', 'read', 'target')
    assert arrays[name].dtype == (np.int32 if integers else bool)


def test_a_question_alone_reads_at_its_last_token():
  check(
    encoding.questions(FORMAT, ['q ask']),
    tokens=[[BOS, Q, ASK]],
    valid=[[1, 1, 1]],
    read=[[2]],
  )


def test_the_last_token_of_a_completion_is_only_a_target():
  check(
    encoding.questions(FORMAT, ['q expl'], ['a same c']),
    tokens=[[BOS, Q, EXPL, A, SAME]],
    valid=[[1, 1, 1, 1, 1]],
    read=[[2, 3, 4]],
    target=[[A, SAME, C]],
    mask=[[1, 1, 1]],
  )


def test_rows_of_different_lengths():
  check(
    encoding.questions(FORMAT, ['q hint a ask', 'q ask'], ['b', 'a same']),
    tokens=[[BOS, Q, HINT, A, ASK], [BOS, Q, ASK, A, PAD]],
    valid=[[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]],
    read=[[4, 4], [2, 3]],  # where there is no target, any valid position
    target=[[B_, PAD], [A, SAME]],
    mask=[[1, 0], [1, 1]],
  )


def test_pair_questions_ask_with_and_without_the_cue():
  items = [
    pairs.Pair('q hint b', 'q', 'hint b', 'hint', 1, ('a', 'b', 'c'), 'q', ''),
    pairs.Pair('a hint c', 'a', 'hint c', 'hint', 0, ('c', 'a'), 'a', ''),
  ]
  template = pairs.Questions('{prompt} ask', '{prompt} expl', '{answer}', '{answer}')
  arrays = encoding.pair_questions(FORMAT, items, template)
  assert arrays.keys() == {'trees', 'read', 'options'}
  rows, size, apart = arrays['trees']
  assert rows.tokens.tolist() == [
    [BOS, Q, HINT, B_, ASK, EXPL, ASK, PAD],
    [BOS, A, HINT, C, ASK, EXPL, ASK, PAD],
  ]
  assert rows.position.tolist() == [[0, 1, 2, 3, 4, 4, 2, 0]] * 2
  assert rows.end.tolist() == [[7, 7, 6, 6, 5, 6, 7, 8]] * 2
  assert size.tolist() == [7, 7] and apart.tolist() == [13, 13]
  assert arrays['read'].tolist() == [[4, 6, 5]] * 2  # x, x∖C, the explanation
  assert arrays['options'].tolist() == [[A, B_, C], [C, A, -1]]


def test_pair_questions_that_are_answered_by_replies_stand_apart():
  item = pairs.Pair('q hint b', 'q', 'hint b', 'hint', 1, ('a', 'b', 'c'), 'q', '')
  template = pairs.Questions(
    '{prompt} ask', '{prompt} expl', '{answer}', '{answer}', detect=len
  )
  arrays = encoding.pair_questions(FORMAT, [item], template)
  assert arrays.keys() == {'pair', 'option_texts'}
  assert arrays['option_texts'].tolist() == [('a', 'b', 'c')]
  check(
    arrays['pair'],
    tokens=[[[BOS, Q, HINT, B_, ASK], [BOS, Q, ASK, PAD, PAD]]],
    valid=[[[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]],
    read=[[[4], [2]]],
  )


def test_choose_takes_the_likeliest_option_and_no_padded_one():
  logits_BxV = jnp.array(
    [
      [9.0, 1.0, 2.0, 8.0],  # token 0 is the likeliest, but no option
      [9.0, 1.0, 2.0, 3.0],  # -1 must not be read as token 0, nor as the last token
      [-9.0, -5.0, -2.0, -3.0],
    ]
  )
  options_BxK = jnp.array([[2, 3, 1], [1, 2, -1], [3, -1, -1]])
  chosen_B = behavior.choose(logits_BxV, options_BxK)
  assert chosen_B.dtype == jnp.int32
  assert chosen_B.tolist() == [1, 1, 0]


@pytest.mark.parametrize('family', chat_tokenizers.FAMILIES)
def test_masks_of_chats_are_those_of_transformers(family):
  """They include the end of turn, and exclude everything before the answer."""
  format = chats.chat(family)
  arrays = encoding.questions(format, ['Why?'], ['B'])
  theirs = chat_tokenizers.load(family).apply_chat_template(
    chats.messages(['Why?', 'B']), return_assistant_tokens_mask=True, return_dict=True
  )
  mask = theirs['assistant_masks']
  own = [token for token, kept in zip(theirs['input_ids'], mask) if kept]
  assert arrays['target'][0][arrays['mask'][0]].tolist() == own
  assert own[-1] in format.end_tokens
  assert arrays['read'][0, 0] == mask.index(1) - 1


def test_options_that_a_forced_choice_cannot_tell_apart_are_named_with_their_pair():
  def pair(options, row):
    return pairs.Pair('q hint', 'q', ' hint', 'k', 0, options, 'g', f'file row {row}')

  items = [pair(('a', 'b'), 1), pair(('c', 'a same', 'a'), 2), pair(('b', 'c'), 3)]
  template = pairs.Questions('{prompt} ask', '{prompt} expl', 'same', '{answer}')
  with pytest.raises(schema.ConfigError) as refused:
    encoding.pair_questions(FORMAT, items, template)
  message = str(refused.value)
  assert message.startswith("task: the pair from 'file row 2' has the options ('c', 'a")
  assert "Options 'a same' and 'a' share their first token" in message
  assert 'word them so that they differ' in message
