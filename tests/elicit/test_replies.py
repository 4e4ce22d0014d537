"""Behaviours read from greedy replies of a model whose next word is known.

Its weights are set by hand: each word's successor is written into the head, and
neither attention nor MLP adds anything, so that only the last word counts.
"""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from coupling.config import schema
from coupling.elicit import behavior, encoding, evaluation, explanation, label_set
from coupling.model import decoder, sharding
from coupling.model.architecture import DecoderConfig
from data import formats, pairs, reply_options, tokens

WORDS = ('please', 'now', 'why', 'hush', 'sure', 'I', 'refuse', 'expl', 'ask')
WORDS = (*WORDS, 'stay', 'same', 'change', 'comply', 'unclear')
NEXT = {
  'please': 'sure',
  'sure': 'sure',  # without an end
  'now': 'I',
  'I': 'refuse',
  'refuse': '<end>',
  'hush': '<end>',  # nothing is said
  'why': 'I',
  'expl': 'stay',
  'stay': 'same',
}
REPLY = {'please': 'sure sure sure sure', 'now': 'I refuse', 'hush': ''}
REPLY |= {'why': 'I refuse'}
TOKENIZER = tokens.word_tokenizer(WORDS, ('<pad>', '<bos>'))
TOKENIZER.add_special_tokens({'eos_token': '<end>'})
FORMAT = formats.Plain(TOKENIZER)
V = len(TOKENIZER)
CONFIG = DecoderConfig(
  vocab_size=V,
  width=V + V % 2,
  depth=1,
  num_heads=1,
  num_kv_heads=1,
  head_dim=2,
  mlp_dim=2,
  tied_head=False,
)
MESH = sharding.make_mesh(schema.Mesh(data=-1, fsdp=1))
OPTIONS = ('comply', 'refuse', 'unclear')


def detect(replies, options) -> np.ndarray:
  """By what they say: sure, refuse, or nothing."""
  assert [*map(tuple, options)] == [OPTIONS] * len(replies)
  found = ['refuse' in r if r else 2 for r in replies]
  return np.array(found, np.int32)


TEMPLATE = pairs.Questions(
  '{prompt}', '{prompt} expl', 'stay same', '{answer} change', detect
)
CHOSEN = {'please': 0, 'now': 1, 'why': 1, 'hush': 2}


def pair(last: str, cued: str, before: int) -> pairs.Pair:
  """A pair whose x∖C ends with one word and whose x ends with another."""
  text = ' '.join(['ask'] * before + [last])
  return pairs.Pair(f'{text} {cued}', text, f' {cued}', 'word', -1, OPTIONS, text, text)


ITEMS = [
  pair('please', 'now', 1),
  pair('now', 'why', 3),
  pair('hush', 'please', 1),
  pair('please', 'hush', 2),
  pair('why', 'now', 5),
]
LASTS = [(p.prompt.split()[-1], p.counterfactual.split()[-1]) for p in ITEMS]


@functools.cache
def params():
  zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), decoder.abstract(CONFIG))
  embedding_VxD = np.eye(V, CONFIG.width, dtype=np.float32)
  kernel_DxV = np.zeros((CONFIG.width, V), np.float32)
  for word, after in NEXT.items():
    kernel_DxV[TOKENIZER.convert_tokens_to_ids([word, after])[0]][
      TOKENIZER.convert_tokens_to_ids(after)
    ] = 1
  norm = jax.tree.map(np.ones_like, zeros['final_norm'])
  return zeros | {
    'embed': {'embedding': embedding_VxD},
    'final_norm': norm,
    'head': {'kernel': kernel_DxV},
  }


def reply(max_tokens: int = 4) -> behavior.Reply:
  return behavior.Reply(FORMAT, detect, max_tokens)


@functools.cache
def did(max_tokens: int = 4) -> explanation.Behaviors:
  asked = encoding.pair_questions(FORMAT, ITEMS, TEMPLATE)
  assert asked.keys() == {'pair', 'option_texts'}  # no tokens of options are asked for
  batch = 2  # of five pairs
  return behavior.behaviors(
    CONFIG, params(), asked, batch, MESH, 'options', reply(max_tokens)
  )


def test_replies_are_decoded_up_to_their_end_and_read_by_the_detector():
  found = did()
  assert found.replies_Nx2.tolist() == [[REPLY[a], REPLY[b]] for a, b in LASTS]
  assert found.behavior_N.tolist() == [CHOSEN[a] for a, _ in LASTS]
  assert found.counterfactual_behavior_N.tolist() == [CHOSEN[b] for _, b in LASTS]
  assert found.behavior_N.dtype == found.counterfactual_behavior_N.dtype == np.int32
  assert found.logprobs_Nx2xS.shape == (len(ITEMS), 2, 0)


def test_a_longer_reply_is_read_by_its_beginning():
  found = did(max_tokens=1)
  assert found.replies_Nx2[1].tolist() == ['I', 'I']
  assert found.behavior_N[1] == CHOSEN['please']  # "refuse" was not said yet


def test_evaluation_reads_replies_and_explanations():
  arrays = evaluation.questions(FORMAT, ITEMS, TEMPLATE)
  truth = did().explanation
  arrays |= {'orig': truth, 'target': truth}
  items, counts = evaluation.evaluate(
    CONFIG, params(), arrays, 2, MESH, TEMPLATE.states_answer, FORMAT, reply()
  )
  assert items['reply'].tolist() == [REPLY[a] for a, _ in LASTS]
  assert items['counterfactual_reply'].tolist() == [REPLY[b] for _, b in LASTS]
  assert items['behavior'].tolist() == [CHOSEN[a] for a, _ in LASTS]
  assert 'option_logprobs' not in items
  assert FORMAT.decode(items['generated']) == ['stay same'] * len(ITEMS)
  unchanged = sum(CHOSEN[a] == CHOSEN[b] for a, b in LASTS)
  assert 0 < unchanged < len(ITEMS)
  n = len(ITEMS)
  assert counts == {
    'n': n,
    'self': unchanged,
    'orig': unchanged,
    'target': unchanged,
    'invalid': 0,
    'changed': n - unchanged,
    'moved': 0,
  }


def test_each_reply_is_read_by_the_options_of_its_own_pair():
  """In batches of several, some of them filled up."""
  own = [
    ('sure', 'hush'),
    ('I', 'sure'),
    ('sure sure', 'refuse'),
    ('stay', 'I'),
    ('I',),
  ]
  items = [dataclasses.replace(p, options=x) for p, x in zip(ITEMS, own, strict=True)]
  template = reply_options.questions(dataclasses.replace(TEMPLATE, detect=None))
  items = reply_options.with_unnamed(template, items)
  found = behavior.behaviors(
    CONFIG,
    params(),
    encoding.pair_questions(FORMAT, items, template),
    2,
    MESH,
    'options',
    behavior.reply(FORMAT, template, 4),
  )
  named_Nx2 = np.stack([found.behavior_N, found.counterfactual_behavior_N], axis=1)
  # Replies: see REPLY; 'x' where none is named, or they are no one's.
  want = [['x', 'sure'], ['I', 'I'], ['sure sure', 'x'], ['x', 'x'], ['x', 'x']]
  assert found.replies_Nx2.tolist() == [[REPLY[a], REPLY[b]] for a, b in LASTS]
  said = [
    [(*options, 'x')[k] for k in row] for options, row in zip(own, named_Nx2.tolist())
  ]
  assert said == want


ODD = ('', 'two\nlines', ' blanks ', '“Ünïcode” 日本語', 'NA')


@pytest.mark.parametrize('support', [0, 3])
@pytest.mark.parametrize('replied', [False, True])
def test_labels_come_back_as_they_were_written(tmp_path, support, replied):
  rng, n = np.random.default_rng(0), 7
  replies_Nx2 = rng.choice(np.array(ODD, object), (n, 2))
  logprobs_Nx2xS = np.log(rng.dirichlet(np.ones(3), (n, 2)))[..., :support]
  logprobs_Nx2xS = logprobs_Nx2xS.astype(np.float32)
  if support:
    # The item lacks the last option.
    logprobs_Nx2xS[0] = (*np.log(np.full(support - 1, 1 / (support - 1))), -np.inf)
  behavior_N, without_N = rng.integers(3, size=(2, n), dtype=np.int32)
  every = explanation.Behaviors(
    behavior_N,
    without_N,
    logprobs_Nx2xS,
    replies_Nx2 if replied else replies_Nx2[:, :0],
  )

  def of(rows):
    fields = ('behavior_N', 'counterfactual_behavior_N', 'logprobs_Nx2xS')
    fields = (*fields, 'replies_Nx2')
    return explanation.Behaviors(*(getattr(every, name)[rows] for name in fields))

  row_N = np.array([0, 1, 3, 4, 7, 8, 11])  # others were dropped
  made = ITEMS + ITEMS[:2]
  if support:
    made[0] = dataclasses.replace(made[0], options=OPTIONS[:-1])
  for first in (0, 6, 3):  # what a killed run had not done comes last
    rows = slice(first, first + 3)
    path = label_set.shard(tmp_path, 'test', first)
    label_set.write(path, made[rows], row_N[rows], of(rows))
  found = label_set.read(tmp_path, 'test')
  np.testing.assert_array_equal(found.behavior_N, every.behavior_N)
  np.testing.assert_array_equal(
    found.counterfactual_behavior_N, every.counterfactual_behavior_N
  )
  np.testing.assert_array_equal(found.logprobs_Nx2xS, every.logprobs_Nx2xS)
  assert found.logprobs_Nx2xS.dtype == np.float32
  assert found.logprobs_Nx2xS.shape == (n, 2, support)
  assert found.replies_Nx2.tolist() == every.replies_Nx2.tolist()
  assert found.replies_Nx2.shape == (n, 2 * replied)
  np.testing.assert_array_equal(label_set.read_rows(tmp_path, 'test'), row_N)
