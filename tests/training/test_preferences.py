"""DPO: its loss against PyTorch's, whose preferences they are, and M_0's reference."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import special
import torch
from torch.nn import functional

from coupling.checkpoints import weights
from coupling.config import schema
from coupling.elicit import explanation
from coupling.runtime import workdir
from coupling.training import examples, explanation_training, loss, preference_loss
from coupling.training import preference_reference, preferences, train_loop, train_step
from data import preference_file, readers
from tests import chat_tokenizers, training_texts as texts
from tests.training import small_trainings, test_training_parity as parity

pytestmark = pytest.mark.usefixtures('few_optimizations')

BETA, LENGTH = 0.3, schema.Length(max_tokens=100)
HELLO = [{'role': 'user', 'content': 'Hello'}]
TURNS = [
  *HELLO,
  {'role': 'assistant', 'content': 'Hi. Yes?'},
  {'role': 'user', 'content': 'Which of these is a gas: iron, helium?'},
]
# Texts and messages, of uneven lengths.
ROWS = [
  ('Is tea a liquid?', 'Yes, it is.', 'No'),
  (TURNS, 'Helium', [{'role': 'assistant', 'content': 'I am sorry, but I cannot.'}]),
  (
    HELLO,
    [{'role': 'assistant', 'content': 'Hi!'}],
    [{'role': 'assistant', 'content': 'Go'}],
  ),
]


def row(prompt='Why?', chosen='So', rejected='No') -> dict:
  return dict(prompt=prompt, chosen=chosen, rejected=rejected)


def write(path, rows=ROWS) -> str:
  lines = [json.dumps(x if isinstance(x, dict) else row(*x)) for x in rows]
  path.write_text('\n'.join(lines) + '\n')
  return str(path)


@pytest.fixture
def rows(tmp_path) -> dict:
  found = preference_file.read(write(tmp_path / 'given.jsonl'))
  return preferences.rows(parity.CHAT, found)


def prepared(folder, rows, length=LENGTH, batch=2, kept=None):
  model, params, _ = parity.imported()
  with workdir.open_stage(folder, 'train', {}, {}) as stage:
    parts = {preference_loss.PART: (rows, batch), 'explanation': kept}
    return preference_reference.prepared(
      stage, parts, model, params, parity.MESH, length
    )


def messages(field, role: str) -> list[dict]:
  return field if isinstance(field, list) else [{'role': role, 'content': field}]


def sums(model: torch.nn.Module) -> torch.Tensor:
  """Log-probabilities of the replies of ROWS, [M, 2], each computed alone."""
  found, tokenizer = [], chat_tokenizers.load('qwen')
  for prompt, *replies in ROWS:
    for reply in replies:
      turns = messages(prompt, 'user') + messages(reply, 'assistant')
      ids = tokenizer.apply_chat_template(turns)['input_ids']
      start = len(
        tokenizer.apply_chat_template(
          turns[:-1], add_generation_prompt=True, enable_thinking=False
        )['input_ids']
      )
      # The template writes a line break after the end of turn, which no model says.
      ids = ids[: len(ids) - ids[::-1].index(tokenizer.eos_token_id)]
      logprobs_TxV = model(torch.tensor([ids])).logits[0].log_softmax(-1)
      said = range(start, len(ids))
      found.append(sum(logprobs_TxV[i - 1, ids[i]] for i in said))
  return torch.stack(found).reshape(-1, 2)


def moved(model: torch.nn.Module) -> torch.nn.Module:
  """M_t: the weights of M_0 but for noise."""
  torch.manual_seed(0)
  with torch.no_grad():
    for x in model.parameters():
      x += 0.05 * torch.randn_like(x)
  return model


def test_loss_and_gradient_are_those_of_dpo_in_pytorch(rows, tmp_path):
  """As TRL's sigmoid loss is defined, written out in PyTorch: mean over preferences."""
  base, model = parity.torch_copy(), moved(parity.torch_copy())
  config, _, _ = parity.imported()
  with torch.no_grad():
    reference_Mx2 = sums(base)
  policy_Mx2 = sums(model)
  logratios, reference_logratios = (
    x[:, 0] - x[:, 1] for x in (policy_Mx2, reference_Mx2)
  )
  want = -functional.logsigmoid(BETA * (logratios - reference_logratios)).mean()
  want.backward()
  model.save_pretrained(tmp_path / 'moved')
  params = weights.load(tmp_path / 'moved', config)
  with torch.no_grad():
    for x in model.parameters():
      x.copy_(x.grad)
  model.save_pretrained(tmp_path / 'gradient')
  gradient = weights.load(tmp_path / 'gradient', config)

  made, batch = prepared(tmp_path / 'stage', rows)[preference_loss.PART]
  assert batch == 2
  np.testing.assert_allclose(made['reference'], reference_Mx2, rtol=1e-4)
  dpo = schema.DPO(weight=1.0, beta=BETA, file='given.jsonl')
  terms = train_step.form(schema.Objectives(dpo=dpo))
  losses = train_step.explanation_losses(config, terms._replace(terms=('dpo',)), BETA)

  def mean_of(params):
    logits = losses.forward(params, {preference_loss.PART: made})
    found = {
      k: term(logits, {preference_loss.PART: made}) for k, term in losses.terms.items()
    }
    means = {name: total / count for name, (total, count) in found.items()}
    return means['dpo'], means

  (_, means), found = jax.jit(jax.value_and_grad(mean_of, has_aux=True))(params)
  margin_M = (BETA * (logratios - reference_logratios)).detach().numpy()
  assert np.abs(margin_M).max() > 0.05
  assert float(means['dpo']) == pytest.approx(want.item(), rel=1e-4)
  assert float(means['dpo_margin']) == pytest.approx(margin_M.mean(), rel=1e-3)
  assert float(means['dpo_accuracy']) == pytest.approx((margin_M > 0).mean())
  largest = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(gradient))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * largest),
    found,
    gradient,
  )


def test_the_loss_by_hand():
  margin_B = loss.reward_margin(
    jnp.array([[-1.0, -4.0], [-2.0, -2.0]]),
    jnp.array([[-2.0, -3.0], [-2.0, -3.0]]),
    0.5,
  )
  np.testing.assert_allclose(margin_B, [1.0, -0.5])
  total, count = loss.dpo(margin_B)
  assert float(total) == pytest.approx(np.log1p(np.exp(-1.0)) + np.log1p(np.exp(0.5)))
  assert count == 2


logprobs = st.lists(st.floats(-50, 0, width=32), min_size=4, max_size=4)


@given(logprobs, st.floats(0.0625, 4, width=32))
@settings(max_examples=50, deadline=None)
def test_to_prefer_the_other_reply_turns_the_margin_round(found, beta):
  now_1x2, before_1x2 = np.float32(found).reshape(2, 1, 2)
  margin = loss.reward_margin(now_1x2, before_1x2, beta)
  other = loss.reward_margin(now_1x2[:, ::-1], before_1x2[:, ::-1], beta)
  np.testing.assert_array_equal(margin, -other)
  # -log sigmoid(m) + log sigmoid(-m) = -m
  difference = loss.dpo(margin)[0] - loss.dpo(other)[0]
  np.testing.assert_allclose(difference, -margin[0], rtol=1e-4, atol=1e-4)
  at_m_0 = loss.dpo(loss.reward_margin(before_1x2, before_1x2, beta))[0]
  assert float(at_m_0) == pytest.approx(np.log(2))


def test_what_m_0_makes_of_preferences_is_computed_once(rows, tmp_path, monkeypatch):
  first = prepared(tmp_path / 'stage', rows, kept='as it was')
  assert first['explanation'] == 'as it was'
  monkeypatch.setattr(
    preference_loss, 'logprobs', lambda *x: pytest.fail('asked again')
  )
  again = prepared(tmp_path / 'stage', rows)
  jax.tree.map(
    np.testing.assert_array_equal,
    first[preference_loss.PART],
    again[preference_loss.PART],
  )
  others = rows | {'target': rows['target'] + 1}
  with pytest.raises(workdir.WorkdirError, match='other preferences'):
    prepared(tmp_path / 'stage', others)


def test_preferences_that_are_too_long_are_left_out_or_refused(rows, tmp_path, capsys):
  length_M = rows['valid'].sum(axis=2).max(axis=1) + 1
  limit = int(np.sort(length_M)[-2])
  short = schema.Length(max_tokens=limit)
  made, _ = prepared(tmp_path / 'short', rows, short)[preference_loss.PART]
  kept_M = length_M <= limit
  np.testing.assert_array_equal(made['tokens'], rows['tokens'][kept_M])
  assert len(made['reference']) == 2 and '1 of 3' in capsys.readouterr().err
  with pytest.raises(schema.ConfigError, match=f'max_tokens={limit}.*dpo'):
    prepared(tmp_path / 'x', rows, dataclasses.replace(short, too_long='raise'))


def logged(folder, trees: bool) -> dict:
  """The metrics of four steps on explanations and on the preferences of ROWS."""
  folder.mkdir()
  model, params, did = parity.imported()
  config = parity.train_config('options', 'forward', 'labels')
  terms = schema.Objectives(
    behavior_kl=schema.BehaviorKL(weight=0.0),
    dpo=schema.DPO(weight=1.0, beta=BETA, batch=2, file=write(folder / 'given.jsonl')),
  )
  loop = schema.Loop(steps=4, checkpoint_every=4)
  config = dataclasses.replace(
    config,
    objectives=terms,
    trees=trees,
    loop=loop,
    optimizer=dataclasses.replace(config.optimizer, warmup_steps=1),
  )
  labels = texts.made_up_labels().explanation
  what = config, parity.CHAT, texts.QUESTIONS
  source = texts.source(*what, texts.PAIRS, did, labels, None, 0)
  parts = examples.training_parts(*what, source, None)
  assert ('explained' in parts) == trees
  with workdir.open_stage(folder / 'train', 'train', {}, {}) as stage:
    parts = preference_reference.prepared(
      stage, parts, model, params, parity.MESH, LENGTH
    )
    axes = schema.Mesh(data=-1, fsdp=1)
    where = axes, stage.path('checkpoints'), folder / 'log'
    train_loop.fit(
      explanation_training.make('', config, model, parts, 0, params, params, *where)
    )
  return small_trainings.logged(folder / 'log')


def test_preferences_stand_beside_trees_as_beside_separate_questions(tmp_path):
  found, want = (logged(tmp_path / str(trees), trees) for trees in (True, False))
  assert found.keys() == want.keys()
  for name, value in want.items():
    assert found[name] == pytest.approx(value, rel=1e-3, abs=1e-5), name
  loss_S = [want['train/dpo', step] for step in range(1, 5)]
  assert loss_S[0] == pytest.approx(np.log(2), rel=1e-5)  # M_t is M_0
  assert loss_S[3] < 0.99 * loss_S[0]


MANY = [{'role': 'assistant', 'content': 'a'}, {'role': 'assistant', 'content': 'b'}]


@pytest.mark.parametrize(
  ('bad', 'named'),
  [
    ({'prompt': 'Why?', 'chosen': 'So'}, "row 2: no field 'rejected'"),
    (row(chosen=''), "row 2, field 'chosen'"),
    (row(rejected=3), "row 2, field 'rejected'"),
    (row(chosen='No'), "row 2, field 'rejected': the same"),
    (row(chosen=MANY), "row 2, field 'chosen'"),
    (row(chosen=['junk', MANY[0]]), "row 2, field 'chosen'"),
    (row(prompt=TURNS[:2]), "row 2, field 'prompt'"),
    (row(prompt=[]), "row 2, field 'prompt'"),
    (row(prompt=['Why?']), "row 2, field 'prompt'"),
    (row(prompt=[{'role': 'system', 'content': 'x'}, *HELLO]), 'base.system'),
    (row(prompt=[HELLO[0] | {'name': 'x'}]), "row 2, field 'prompt'"),
    (row(chosen=[{'role': 'assistant', 'content': None}]), "row 2, field 'content'"),
  ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path, bad, named):
  path = write(tmp_path / 'given.jsonl', [row(), bad])
  with pytest.raises(readers.DataError, match=named):
    preference_file.read(path)


def wanted(target: str, behaviors, score_NxK=None, **changes):
  """Preferences of training_texts, whose cues are planted, and the rows to train on."""
  objective = schema.DPO(weight=1.0, target=target, **changes)
  config = parity.train_config('options', 'forward', 'labels')
  terms = dataclasses.replace(config.objectives, dpo=objective)
  config = dataclasses.replace(config, objectives=terms)
  template = dataclasses.replace(texts.QUESTIONS, unexplained=('planted',))
  what = config, parity.CHAT, template
  labels = behaviors.explanation
  source = texts.source(*what, texts.PAIRS, behaviors, labels, score_NxK, 0)
  did = source.pairs, source.reference, source.shift
  found = preferences.wanted(objective, template, [did, did])
  return source, found, examples.training_parts(*what, source, None)


def m_0(rng) -> explanation.Behaviors:
  """Made-up answers, and distributions over the options whose likeliest they are."""
  logits_Nx2xK = rng.normal(size=(len(texts.PAIRS), 2, 4))
  logits_Nx2xK[[len(pair.options) < 4 for pair in texts.PAIRS], :, 3] = -np.inf
  logprobs_Nx2xK = special.log_softmax(logits_Nx2xK, axis=-1)
  own_Nx2 = logprobs_Nx2xK.argmax(axis=-1)
  none = np.zeros((len(texts.PAIRS), 0))
  return explanation.Behaviors(*own_Nx2.T, logprobs_Nx2xK, none)


def test_of_pairs_the_wanted_option_is_preferred_to_m_0s_where_they_differ(capsys):
  did = m_0(np.random.default_rng(0))
  source, found, parts = wanted('follow_cue', did, cues='hint')
  want, held_2xN = [], np.ones((2, len(texts.PAIRS)), bool)
  for n, (pair, own) in enumerate(zip(texts.PAIRS, did.behavior_N)):
    if pair.cue_kind == 'hint' and pair.cue_option != own:
      asked = texts.QUESTIONS.behavior.format(prompt=pair.prompt)
      want.append((asked, pair.options[pair.cue_option], pair.options[own]))
      held_2xN[0, n] = False
  assert found == want * 2 and 0 < len(want) < 7
  hints_N = np.array([pair.cue_kind == 'hint' for pair in texts.PAIRS])
  np.testing.assert_array_equal(source.shift.pairs_N, hints_N)
  assert len(want) < hints_N.sum()  # of a hint that M_0 follows already x stays held
  rows, _ = parts['behavior']
  np.testing.assert_array_equal(rows['mask'][:, 0], held_2xN.ravel())
  assert f'{2 * len(want)} of {2 * hints_N.sum()} shifted' in capsys.readouterr().err
  same = dataclasses.replace(did, behavior_N=did.counterfactual_behavior_N)
  with pytest.raises(schema.ConfigError, match='dpo: target=ignore_cue'):
    wanted('ignore_cue', same, cues='planted')


def test_a_preference_of_the_task_is_preferred_with_the_cue_and_without():
  """What is likeliest once strength * score is added to M_0's log-probabilities."""
  rng = np.random.default_rng(1)
  did, score_NxK = m_0(rng), rng.normal(size=(len(texts.PAIRS), 4))
  score_NxK[4] = 0  # of which the task has no preference
  _, found, parts = wanted('favor', did, score_NxK, strength=1.5)
  want, held_2xN = [], np.ones((2, len(texts.PAIRS)), bool)
  for n, pair in enumerate(texts.PAIRS):
    for side, prompt in enumerate((pair.prompt, pair.counterfactual)):
      logprob_K = did.logprobs_Nx2xS[n, side][: len(pair.options)]
      best = int(np.argmax(logprob_K + 1.5 * score_NxK[n, : len(logprob_K)]))
      if best != (own := int(np.argmax(logprob_K))):
        asked = texts.QUESTIONS.behavior.format(prompt=prompt)
        want.append((asked, pair.options[best], pair.options[own]))
        held_2xN[side, n] = False
  assert found == want * 2
  assert all(0 < x.sum() < 9 for x in held_2xN)
  rows, _ = parts['behavior']
  np.testing.assert_array_equal(rows['mask'][:, 0], held_2xN.ravel())
  assert len(parts[preference_loss.PART][0]['tokens']) == len(want)
