"""Options by their whole texts: against loops over separate prompts, and by hand."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special
import torch
import transformers

from coupling.checkpoints import hub, weights as weights_lib
from coupling.config import schema
from coupling.elicit import behavior, encoding, explanation, options as options_lib
from coupling.model import decoder as decoder_lib, sharding
from coupling.model.architecture import DecoderConfig
from coupling.run import labelling
from coupling.training import examples, train_loop, train_step, tree_batches
from data import pairs as pairs_lib, tokens as tokens_lib
from tests import chat_tokenizers, chats, small_checkpoints, training_texts
from tests.training import test_train_step

MESH = sharding.make_mesh(schema.Mesh(data=-1, fsdp=1))
CHAT = chats.chat('qwen')
pytestmark = pytest.mark.usefixtures('few_optimizations')
QUESTIONS = pairs_lib.Questions(
  '{prompt} Answer.', '{prompt} Why?', 'unchanged', 'changed to {answer}'
)
OPTIONS = (
  ('New Mexico', 'New Caledonia', 'Mexico', 'Ghana'),
  ('yes', 'yes, of course', 'no'),  # one begins another
  ('Ghana', 'New Mexico'),
)
HOWS = {
  'sum': options_lib.How(text=True),
  'per token': options_lib.How(text=True, per_token=True),
  'prior': options_lib.How(text=True, prior=(0.5, -1.0, 0.25, 2.0)),
  'first token, prior': options_lib.How(prior=(0.5, -1.0, 0.25, 2.0)),
}


def model() -> DecoderConfig:
  size = len(CHAT.tokenizer)
  return dataclasses.replace(test_train_step.MODEL, vocab_size=size, embedding_std=1.0)


@functools.cache
def params():
  return jax.tree.map(
    lambda x: np.random.default_rng(x.size).normal(0, 0.3, x.shape).astype(np.float32),
    decoder_lib.abstract(model()),
  )


def make_items(count: int = 9, options=OPTIONS) -> list[pairs_lib.Pair]:
  found = []
  for i in range(count):
    these = options[i % len(options)]
    cue, text = f' I think {these[i % len(these)]}.', f'Which is {i}?'
    found.append(
      pairs_lib.Pair(
        text + cue, text, cue, 'hint', i % len(these), these, str(i), str(i)
      )
    )
  return found


def usable(how: options_lib.How) -> list[pairs_lib.Pair]:
  """First tokens must differ: where they are read, options are letters."""
  return make_items() if how.text else make_items(9, (('A', 'B', 'C', 'D'), ('A', 'B')))


@jax.jit
def _scores(weights, tokens_KxT, start, text_KxG, length_K):
  """Log-probabilities of texts, token by token: each stands alone in a row."""
  hidden = decoder_lib.apply(model(), weights, tokens_KxT).hidden_BxCxD
  logprobs = jax.nn.log_softmax(decoder_lib.unembed(model(), weights, hidden))
  place_G = start - 1 + jnp.arange(text_KxG.shape[1])
  each_KxG = jnp.take_along_axis(logprobs[:, place_G], text_KxG[..., None], axis=2)
  within_KxG = jnp.arange(text_KxG.shape[1]) < length_K[:, None]
  return jnp.sum(jnp.where(within_KxG, each_KxG[..., 0], 0), axis=1)


def one_by_one(weights, prompt: str, options, how: options_lib.How) -> jax.Array:
  """Log-probabilities of options, each after the prompt alone."""
  [ids] = CHAT.prompts([prompt])
  ends = {*CHAT.end_tokens}
  answers = CHAT.answers([*options])
  texts = [[x for x in answer if x not in ends] for answer in answers]
  if not how.text:
    texts = [text[:1] for text in texts]
  length_K = np.array([len(text) for text in texts])
  # One shape for all; padding on the right is seen by nothing that is read.
  rows = tokens_lib.pad([ids + text for text in texts] + [[]] * (4 - len(texts)), 96, 0)
  padded = tokens_lib.pad(texts + [[]] * (4 - len(texts)), 16, 0)
  count_K = np.pad(length_K, (0, 4 - len(texts)))
  scores_K = _scores(weights, rows, len(ids), padded, count_K)[: len(texts)]
  if how.per_token:
    scores_K /= length_K
  return scores_K - np.array(how.prior[: len(texts)]) if how.prior else scores_K


@pytest.mark.parametrize('name', HOWS)
def test_a_choice_is_that_of_separate_prompts(name):
  how, items = HOWS[name], usable(HOWS[name])
  asked = encoding.pair_questions(CHAT, items, QUESTIONS, how)
  found = behavior.behaviors(model(), params(), asked, 4, MESH, 'options')
  for i, pair in enumerate(items):
    chosen = (found.behavior_N[i], found.counterfactual_behavior_N[i])
    for side, prompt in enumerate((pair.prompt, pair.counterfactual)):
      scores = one_by_one(params(), f'{prompt} Answer.', pair.options, how)
      expected = special.log_softmax(scores)
      own = found.logprobs_Nx2xS[i, side]
      np.testing.assert_allclose(own[: len(expected)], expected, atol=2e-5)
      assert np.all(np.isneginf(own[len(expected) :]))
      assert chosen[side] == scores.argmax()


def test_options_of_one_token_are_read_as_first_tokens():
  items = usable(options_lib.PLAIN)
  found = [
    behavior.behaviors(
      model(),
      params(),
      encoding.pair_questions(CHAT, items, QUESTIONS, how),
      4,
      MESH,
      'options',
    )
    for how in (options_lib.PLAIN, options_lib.How(text=True))
  ]
  np.testing.assert_array_equal(*(x.behavior_N for x in found))
  np.testing.assert_allclose(*(x.logprobs_Nx2xS for x in found), atol=1e-6)


def test_a_prior_is_the_mean_of_each_slot_and_goes_away_exactly():
  rng = np.random.default_rng(0)
  logprobs_NxK = special.log_softmax(rng.normal(size=(200, 4)) + [3, 0, 0, -1], axis=1)
  logprobs_NxK[:20, 3] = -np.inf
  prior = options_lib.prior(logprobs_NxK)
  assert prior[0] == pytest.approx(logprobs_NxK[:, 0].mean())
  assert prior[3] == pytest.approx(logprobs_NxK[20:, 3].mean())
  again = options_lib.prior(logprobs_NxK - prior)
  assert again == pytest.approx([0.0] * 4, abs=1e-12)


@pytest.mark.parametrize(
  ('options', 'how', 'said'),
  [
    (('New Mexico', 'New York'), options_lib.How(prior=(0.0, 0.0)), 'read=text'),
    (('a b', ' a b'), options_lib.How(text=True), 'same tokens'),
    (('A', 'B', 'C'), options_lib.How(prior=(0.0, 0.0)), '3 options'),
    (('A', ' '), options_lib.How(text=True), 'empty'),
  ],
)
def test_options_that_cannot_be_read_are_refused(options, how, said):
  with pytest.raises(schema.ConfigError, match=said):
    options_lib.readings(CHAT, make_items(1, (options,)), how)


def objectives(reference: str, shift: float) -> schema.Objectives:
  of = test_train_step.OBJECTIVES
  kl = dataclasses.replace(of.behavior_kl, support='options', reference=reference)
  xent = dataclasses.replace(of.behavior_xent, weight=shift, cues='all')
  return dataclasses.replace(of, behavior_kl=kl, behavior_xent=xent)


def train_config(reference: str, shift: float) -> schema.Train:
  return schema.Train(
    explanation_batch=4,
    behavior_batch=4,
    lora=schema.Lora(rank=0, alpha=1.0, targets=()),
    loop=dataclasses.replace(test_train_step.LOOP, steps=4),
    optimizer=test_train_step.OPTIMIZER,
    objectives=objectives(reference, shift),
  )


@pytest.mark.parametrize('name, shift', [*zip(HOWS, (0.7, 0.7, 0.0, 0.7))])
def test_a_batch_has_the_loss_and_gradient_of_separate_prompts(name, shift):
  """KL to M_0, and the shift's cross-entropy, of a batch of packed trees."""
  how, items, config = HOWS[name], usable(HOWS[name]), train_config('labels', shift)
  rng = np.random.default_rng(0)
  K, N = max(len(p.options) for p in items), len(items)
  size_N = np.array([len(p.options) for p in items])
  logits_Nx2xK = rng.normal(size=(N, 2, K))
  logits_Nx2xK[np.arange(K) >= size_N[:, None, None].repeat(2, 1)] = -np.inf
  reference_Nx2xK = special.log_softmax(logits_Nx2xK, axis=-1).astype(np.float32)
  did = explanation.Behaviors(
    *rng.integers(2, size=(2, N)), reference_Nx2xK, np.zeros((N, 0), object)
  )
  source = training_texts.source(
    config, CHAT, QUESTIONS, items, did, did.explanation, None, 0, how
  )
  parts = examples.training_parts(config, CHAT, QUESTIONS, source, None)
  drawn = train_loop.shuffled(parts, 7)
  plan = tree_batches.plan(drawn, config.loop.steps, 1)
  batch = tree_batches.pack([x[1] for x in drawn.values()], plan)
  losses = train_step.explanation_losses(model(), train_step.form(config.objectives))

  def packed_terms(weights):
    logits = losses.forward(weights, batch)
    found = {}
    for term in ('behavior_kl', 'behavior_xent'):
      if term in losses.terms:
        total, count = losses.terms[term](logits, batch)
        found[term] = total / count
    return found

  rows_n = drawn['explained'].rows(1)
  shifted_N = source.shift.shifted_Nx2

  def separate_terms(weights):
    kl, xent = [], []
    for i in rows_n:
      pair = items[i]
      for side, prompt in enumerate((pair.prompt, pair.counterfactual)):
        scores = one_by_one(weights, f'{prompt} Answer.', pair.options, how)
        p = reference_Nx2xK[i, side, : len(pair.options)]
        if shift and shifted_N[i, side]:
          target = source.shift.target_Nx2xK[i, side, : len(pair.options)]
          xent.append(-jnp.sum(target * scores))
        else:
          kl.append(jnp.sum(jnp.exp(p) * (p - jax.nn.log_softmax(scores))))
    found = {'behavior_kl': sum(kl) / len(kl)}
    return found | ({'behavior_xent': sum(xent) / len(xent)} if shift else {})

  total = lambda terms: lambda w: sum(terms(w).values())
  own, separate = (jax.jit(x)(params()) for x in (packed_terms, separate_terms))
  assert own.keys() == separate.keys()
  for term, value in separate.items():
    assert own[term] == pytest.approx(float(value), rel=1e-4)
  gradients = [
    jax.jit(jax.grad(total(x)))(params()) for x in (packed_terms, separate_terms)
  ]
  size = optax.tree.norm(gradients[1])
  apart = optax.tree.norm(jax.tree.map(jnp.subtract, *gradients))
  assert size > 1e-3 and apart < 1e-4 * size


@pytest.mark.parametrize(
  ('changed', 'slot', 'bad'),
  [(0.3, 0.5, False), (0.01, 0.5, True), (0.99, 0.5, True), (0.3, 0.95, True)],
)
def test_labels_that_hardly_vary_are_noticed(changed, slot, bad):
  rng = np.random.default_rng(0)
  n = 2_000
  before_N = np.where(rng.random(n) < slot, 0, rng.integers(1, 4, size=n))
  moved_N = rng.random(n) < changed
  other = before_N if slot > 0.9 else (before_N + 1) % 4
  after_N = np.where(moved_N, other, before_N)
  found = explanation.Behaviors(
    before_N, after_N, np.zeros((n, 2, 0)), np.zeros((n, 0), object)
  )
  assert (labelling.hardly_varies(found) is not None) == bad


def test_likelihoods_are_those_of_a_loop_in_pytorch(tmp_path):
  """As an evaluation harness has `acc` (sums) and a length-normalised choice."""
  tokenizer = chat_tokenizers.load('qwen')
  tokenizer.save_pretrained(tmp_path)
  config = transformers.Qwen3Config(
    vocab_size=len(tokenizer),
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
  )
  peer = small_checkpoints.torch_model(config)
  peer.save_pretrained(tmp_path)
  decoder = hub.decoder_config(
    tmp_path, dtype='float32', param_dtype='float32', scan_layers=True
  )
  own = weights_lib.load(tmp_path, decoder)
  items = make_items()
  for how in (HOWS['sum'], HOWS['per token']):
    asked = encoding.pair_questions(CHAT, items, QUESTIONS, how)
    found = behavior.behaviors(decoder, own, asked, 4, MESH, 'options')
    for i, pair in enumerate(items):
      [asks] = CHAT.prompts([f'{pair.prompt} Answer.'])
      scores = []
      for option in pair.options:
        ids = tokenizer(option, add_special_tokens=False)['input_ids']
        with torch.no_grad():
          logits = peer(torch.tensor([asks + ids])).logits[0, len(asks) - 1 : -1]
        logprobs = torch.log_softmax(logits, -1)
        each = logprobs[torch.arange(len(ids)), torch.tensor(ids)]
        scores.append(float(each.mean() if how.per_token else each.sum()))
      expected = special.log_softmax(scores)
      own_logprobs = found.logprobs_Nx2xS[i, 0, : len(expected)]
      np.testing.assert_allclose(own_logprobs, expected, atol=2e-4)
      assert found.behavior_N[i] == np.argmax(scores)
