"""Training examples: whose labels are taught, and what behaviours are held to."""

import dataclasses

import numpy as np
import pytest

from configs import world
from coupling.config import schema, validate
from coupling.elicit import explanation
from coupling.training import examples
from data import formats, pairs, tokens
from tests import chats, training_texts

N, K = 12, 4
OPTIONS = ('a', 'b', 'c', 'd')
WORDS = (*OPTIONS, 'same', 'change', 'ask', 'expl', 'hint')
WORDS = (*WORDS, *(f'q{i}' for i in range(N)))
TOKENIZER = tokens.word_tokenizer(WORDS, ('<pad>', '<bos>'))
FORMAT = formats.Plain(TOKENIZER)
TEMPLATE = pairs.Questions(
  '{prompt} ask', '{prompt} expl', '{answer} same', '{answer} change'
)
TRAIN = validate.resolve(world.get_config('seeds=1')).runs['kl']


def make_pairs(cued: bool = True) -> list[pairs.Pair]:
  """Pairs whose hints, like their options, come in another order each time."""
  rng = np.random.default_rng(0)
  made = []
  for i in range(N):
    options = tuple(rng.permutation(OPTIONS).tolist())
    k = int(rng.integers(K))
    cue = f' hint {options[k]}'
    option = k if cued else pairs.NO_OPTION
    made.append(
      pairs.Pair(f'q{i}{cue}', f'q{i}', cue, 'hint', option, options, f'q{i}', '')
    )
  return made


def behaviors(seed: int) -> explanation.Behaviors:
  """Behaviours of some model on the pairs, with distributions over the options."""
  rng = np.random.default_rng(seed)
  logprobs_Nx2xK = np.log(rng.dirichlet(np.ones(K), (N, 2))).astype(np.float32)
  behavior_N, without_N = rng.integers(K, size=(2, N))
  return explanation.Behaviors(
    behavior_N, without_N, logprobs_Nx2xK, np.zeros((N, 0), object)
  )


def shift_to(weight, target, cues):
  return schema.BehaviorXent(weight=weight, target=target, cues=cues)


def objectives(kl=1.0, shift=0.0, target='ignore_cue', cues='all', **changes):
  of_kl = dict(
    weight=kl,
    prompts='both',
    direction='forward',
    support='options',
    reference='labels',
  )
  return schema.Objectives(
    behavior_kl=schema.BehaviorKL(**of_kl | changes),
    behavior_xent=shift_to(shift, target, cues),
  )


def made_parts(config, format, template, made, labels, reference, seed=0):
  """The parts of a run that takes the explanations of some labels."""
  source = training_texts.source(
    config, format, template, made, reference, labels.explanation, None, seed
  )
  return examples.training_parts(config, format, template, source, None)


def parts(labels, reference, seed=0, train_seed=0, cued=True, **changes):
  changes = {'objectives': objectives(), 'seed': train_seed} | changes
  config = dataclasses.replace(TRAIN, **changes)
  return made_parts(config, FORMAT, TEMPLATE, make_pairs(cued), labels, reference, seed)


def statements(found) -> list[str]:
  return [' '.join(TOKENIZER.convert_ids_to_tokens(x)) for x in rows(found)['target']]


def rows(found, part='explanation'):
  return found[part][0]


def test_statements_are_those_of_the_labels_and_all_else_is_of_the_reference():
  base, other = behaviors(1), behaviors(2)
  own = parts(base, base, objectives=objectives(shift=0.5))
  found = parts(other, base, objectives=objectives(shift=0.5))
  want = []
  for pair, now, without in zip(
    make_pairs(), other.behavior_N, other.counterfactual_behavior_N
  ):
    want.append(f'{pair.options[without]} {"same" if now == without else "change"}')
  assert statements(found) == want
  assert statements(own) != want
  for name, x_NxX in rows(own, 'behavior').items():
    np.testing.assert_array_equal(rows(found, 'behavior')[name], x_NxX, err_msg=name)
  options_NxK = [TOKENIZER.convert_tokens_to_ids(p.options) for p in make_pairs()]
  np.testing.assert_array_equal(rows(found, 'behavior')['options'][:N, 0], options_NxK)
  targets_NxK = np.eye(K)[base.counterfactual_behavior_N]
  asked = rows(found, 'behavior')
  for i in range(N):
    for cue, row in enumerate((i, N + i)):
      reference_S = asked['reference'][row, 0]
      np.testing.assert_array_equal(reference_S, base.logprobs_Nx2xS[i, cue])
  np.testing.assert_array_equal(asked['shift_target'][:N, 0], targets_NxK)
  # Only x is shifted, not x∖C.
  np.testing.assert_array_equal(asked['shift_mask'][:, 0], [True] * N + [False] * N)
  assert found['explanation'][1] == TRAIN.explanation_batch
  assert found['behavior'][1] == TRAIN.behavior_batch


@pytest.mark.parametrize('shuffled', [False, True])
@pytest.mark.parametrize('trees', [False, True])
def test_balanced_labels_say_changed_as_often_as_unchanged(trees, shuffled):
  base = behaviors(1)
  changed = np.count_nonzero(base.explanation.changed_N)
  assert changed != N - changed
  found = parts(base, base, balance=True, trees=trees, shuffle_labels=shuffled)
  explained = rows(found, 'explained')['explanation'] if trees else rows(found)
  said_M = explained['target'][:, 1].tolist()
  ids = TOKENIZER.convert_tokens_to_ids(['same', 'change'])
  assert [said_M.count(i) for i in ids] == [max(changed, N - changed)] * 2


def test_labels_are_shuffled_among_items_with_as_many_options():
  few = [dataclasses.replace(p, options=p.options[:2]) for p in make_pairs()[::2]]
  mixed = [x for pair in zip(few, make_pairs()[1::2]) for x in pair]
  base = behaviors(1)
  base.behavior_N[::2] %= 2
  base.counterfactual_behavior_N[::2] %= 2
  config = dataclasses.replace(TRAIN, shuffle_labels=True, objectives=objectives())
  found = made_parts(config, FORMAT, TEMPLATE, mixed, base, base)
  said = [text.split()[0] for text in statements(found)]
  assert all(answer in pair.options for answer, pair in zip(said, mixed))
  plain = dataclasses.replace(config, shuffle_labels=False)
  true = made_parts(plain, FORMAT, TEMPLATE, mixed, base, base)
  for some in (slice(0, None, 2), slice(1, None, 2)):
    moved = statements(found)[some] != statements(true)[some]
    assert moved


def test_a_shift_that_no_pair_can_have_is_refused():
  base = behaviors(1)
  with pytest.raises(schema.ConfigError, match='cues=unexplained .* no pair'):
    parts(base, base, objectives=objectives(shift=1.0, cues='unexplained'))


def test_shuffled_labels_are_whole_labels_of_other_items():
  base = behaviors(1)
  pairs_of = lambda found: sorted(
    (pair.options.index(answer), change)
    for pair, text in zip(make_pairs(), statements(found))
    for answer, change in (text.split(),)
  )
  plain = parts(base, base)
  shuffled = parts(base, base, shuffle_labels=True)
  assert pairs_of(shuffled) == pairs_of(plain)
  assert statements(shuffled) != statements(plain)
  for name, x_NxX in rows(plain, 'behavior').items():
    np.testing.assert_array_equal(rows(shuffled, 'behavior')[name], x_NxX, err_msg=name)
  again = parts(base, base, shuffle_labels=True)
  assert statements(again) == statements(shuffled)
  for other in (dict(seed=1), dict(train_seed=1)):
    assert statements(parts(base, base, shuffle_labels=True, **other)) not in (
      statements(plain),
      statements(shuffled),
    )


def test_without_behaviour_objectives_there_is_no_behaviour_part():
  base = behaviors(1)
  assert parts(base, base, objectives=objectives(kl=0.0)).keys() == {'explanation'}


def test_shifts_towards_the_cue_need_cues_that_name_an_option():
  base = behaviors(1)
  follow = objectives(kl=0.0, shift=1.0, target='follow_cue')
  found = rows(parts(base, base, objectives=follow), 'behavior')
  hinted = [p.options.index(p.cue.split()[-1]) for p in make_pairs()]
  np.testing.assert_array_equal(found['shift_target'][:N, 0], np.eye(K)[hinted])
  with pytest.raises(schema.ConfigError, match='target=follow_cue.*ignore_cue'):
    parts(base, base, cued=False, objectives=follow)


REPLY_TEMPLATE = dataclasses.replace(
  TEMPLATE, behavior='{prompt}', detect=lambda texts: np.zeros(len(texts), np.int32)
)
REPLIES_Nx2 = np.array(
  [
    (('Sure, here is' if i % 2 else ''), f'I cannot help with {i}.\n<|im_end|>')
    for i in range(N)
  ],
  object,
)
REPLIED = dataclasses.replace(
  behaviors(1), logprobs_Nx2xS=np.zeros((N, 2, 0)), replies_Nx2=REPLIES_Nx2
)
HELD = dict(support='vocabulary', reference='adapters_off')


def reply_parts(labels=REPLIED, **changes):
  config = dataclasses.replace(TRAIN, objectives=objectives(**changes))
  return made_parts(
    config, chats.chat('qwen'), REPLY_TEMPLATE, make_pairs(), labels, REPLIED
  )


def test_replies_are_held_token_by_token_to_the_end_of_turn():
  format = chats.chat('qwen')
  # The labels' own replies are not what is held.
  other = dataclasses.replace(REPLIED, replies_Nx2=REPLIES_Nx2[::-1])
  found = rows(reply_parts(other, **HELD), 'behavior')
  assert found.keys() == {'tokens', 'valid', 'read', 'target', 'mask'}
  made = make_pairs()
  questions = [p.prompt for p in made] + [p.counterfactual for p in made]
  replies = [*REPLIES_Nx2[:, 0], *REPLIES_Nx2[:, 1]]
  for i, (question, reply) in enumerate(zip(questions, replies)):
    [prompt], [answer] = format.prompts([question]), format.answers([reply])
    assert found['target'][i][found['mask'][i]].tolist() == answer
    assert answer[-1] in format.end_tokens
    whole = found['tokens'][i][found['valid'][i]].tolist()
    assert whole == prompt + answer[:-1]
    read = found['read'][i][found['mask'][i]]
    assert read.tolist() == list(range(len(prompt) - 1, len(whole)))
  assert {len(x) for x in format.answers(replies)} != {1}
  half = rows(reply_parts(**HELD, prompts='counterfactual'), 'behavior')
  assert not half['mask'][: len(made)].any()
  np.testing.assert_array_equal(half['mask'][len(made) :], found['mask'][len(made) :])


@pytest.mark.parametrize('cues', ['all', 'explained', 'unexplained'])
def test_planted_cues_are_shifted_where_asked_and_never_explained(cues):
  """What is shifted is not held by the KL; x∖C always is."""
  planted_N = np.arange(N) % 3 == 0
  made = [
    dataclasses.replace(pair, cue_kind='planted') if planted else pair
    for pair, planted in zip(make_pairs(), planted_N)
  ]
  shift = shift_to(1.0, 'follow_cue', cues)
  config = dataclasses.replace(
    TRAIN, objectives=dataclasses.replace(objectives(), behavior_xent=shift)
  )
  template = dataclasses.replace(TEMPLATE, unexplained=('planted',))
  base = behaviors(1)
  found = made_parts(config, FORMAT, template, made, base, base)

  asked = [TOKENIZER.convert_ids_to_tokens(x) for x in rows(found)['tokens']]
  explained = [x for row in asked for x in row if x.startswith('q')]
  assert explained == [f'q{i}' for i in range(N) if not planted_N[i]]
  want = {'all': planted_N | True, 'explained': ~planted_N, 'unexplained': planted_N}
  part = rows(found, 'behavior')
  np.testing.assert_array_equal(
    part['shift_mask'][:, 0], np.concatenate([want[cues], np.zeros(N, bool)])
  )
  np.testing.assert_array_equal(part['mask'], ~part['shift_mask'])
  want_NxK = np.eye(K)[[p.cue_option for p in made]] * want[cues][:, None]
  np.testing.assert_array_equal(part['shift_target'][:N, 0], want_NxK)
