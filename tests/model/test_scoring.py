"""Log-likelihoods of statements against one full pass for every statement."""

import functools
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coupling.elicit import encoding, evaluation
from coupling.model import decoder, generate, scoring, speculative
from coupling.model.architecture import DecoderConfig
from data import formats, pairs, tokens
from tests import chat_tokenizers, chats, small_checkpoints

WORDS = ('a', 'b', 'c', 'd', 'same', 'change', 'stay', 'hint', 'ask', 'expl', 'q')
PLAIN = formats.Plain(tokens.word_tokenizer(WORDS, ('<pad>', '<bos>')))
PLAIN_CONFIG = DecoderConfig(
  vocab_size=len(PLAIN.tokenizer),
  width=16,
  depth=2,
  num_heads=2,
  num_kv_heads=1,
  head_dim=8,
  mlp_dim=24,
  learned_positions=7,  # the longest prompt has 5 tokens, a statement has 3
  scan_layers=False,
)
NAMED = pairs.Questions(
  '{prompt} ask', '{prompt} expl', 'stay {answer} same', 'stay {answer} change'
)
SINGLE = pairs.Questions('{prompt} ask', '{prompt} expl', 'stay', '{answer}')
CHAT = pairs.Questions(
  'Which? {prompt}',
  'Which? {prompt} And without the hint?',
  'My answer would be the same.',
  'My answer would change to ({answer}), I think.',
)
# A tokenizer, and what transformers builds for it; two have windows of 9 tokens.
FAMILIES = {'qwen': 'qwen3', 'mistral': 'mistral', 'gemma': 'gemma3'}


def items(long: str):
  """Items of four, two and three options, and prompts of three lengths."""
  texts = (f'q {long}', 'q', f'q {long} {long}')
  sizes = (4, 2, 3)
  return [
    pairs.Pair(text, text, '', 'hint', 0, tuple('abcd'[:k]), text, '')
    for text, k in zip(texts, sizes)
  ]


@functools.cache
def plain_params():
  rng = np.random.default_rng(0)
  draw = lambda x: jnp.asarray(rng.normal(0, 0.5, x.shape), jnp.float32)
  return jax.tree.map(draw, decoder.abstract(PLAIN_CONFIG))


@functools.cache
def chat_model(family):
  """A random model of a family for its chat tokenizer: ours, and that of PyTorch."""
  config = small_checkpoints.CONFIGS[FAMILIES[family]]()
  config.vocab_size = len(chat_tokenizers.load(family))
  theirs = small_checkpoints.torch_model(config)
  folder = pathlib.Path(tempfile.mkdtemp())
  theirs.save_pretrained(folder)
  return *small_checkpoints.imported(folder), theirs


@jax.jit
def _plain_logits(params, tokens_1xT):
  hidden_1xTxD = decoder.apply(PLAIN_CONFIG, params, tokens_1xT).hidden_BxCxD
  return decoder.unembed(PLAIN_CONFIG, params, hidden_1xTxD)[0]


def plain_logits(tokens_T):
  """[T, V]; what follows the tokens, so that all have one shape, is never seen."""
  filled_1xT = np.zeros((1, PLAIN_CONFIG.learned_positions), np.int32)
  filled_1xT[0, : len(tokens_T)] = tokens_T
  return _plain_logits(plain_params(), filled_1xT)[: len(tokens_T)]


def chat_logits(family, tokens_T):
  _, _, model = chat_model(family)
  everywhere_1xT = np.ones((1, len(tokens_T)), bool)
  return small_checkpoints.torch_logits(model, np.array([tokens_T]), everywhere_1xT)[0]


@functools.partial(jax.jit, static_argnums=(0, 4))
def run(config, params, asked, expected, end_tokens):
  """Scores of drafts after a question, as an evaluation reads them."""
  prompts = generate.of_rows(asked['tokens'], asked['valid'])
  begun, _ = generate.begin(config, params, prompts, small_checkpoints.MESH)
  followed = speculative.follow(
    config, params, begun, expected, end_tokens=end_tokens, fill=0
  )
  return scoring.statement_logprobs(
    *(config, params, begun.hidden_BxD, followed.after_BxMxFxD),
    expected.tokens_BxMxG,
    end_tokens,
  )


def score(config, params, format, made, template):
  texts = encoding.explanation_texts(template, made, None)
  asked = encoding.questions(format, texts)
  drafts = evaluation.questions(format, made, template)['statements']
  return np.asarray(run(config, params, asked, drafts, format.end_tokens))


def alone(logits, format, made, template):
  """Statement -> its log-likelihood, for each item, by one full pass for each."""
  result = []
  for pair in made:
    (prompt,) = format.prompts([template.explanation.format(prompt=pair.prompt)])
    found = {}
    for k, option in enumerate(pair.options):
      for changed, form in enumerate((template.unchanged, template.changed)):
        (said,) = format.answers([form.format(answer=option)])
        logits_TxV = np.asarray(logits([*prompt, *said[:-1]]), np.float64)
        logits_GxV = logits_TxV[len(prompt) - 1 :]
        top_G = logits_GxV.max(axis=1)
        total_G = np.log(np.exp(logits_GxV - top_G[:, None]).sum(axis=1)) + top_G
        picked_G = logits_GxV[np.arange(len(said)), said]
        found[2 * k + changed] = np.sum(picked_G - total_G)
    result.append(found)
  return result


def check(found_BxM, want, states_answer):
  """Rows hold what was wanted, once, and nothing beside it."""
  for found_M, by_statement in zip(found_BxM, want, strict=True):
    counted = [m for m in by_statement if states_answer or m % 2 or m == 0]
    np.testing.assert_allclose(
      found_M[counted], [by_statement[m] for m in counted], rtol=2e-4
    )
    assert np.all(np.delete(found_M, counted) == -np.inf)
    assert len(np.unique(found_M[counted])) == len(counted)


@pytest.mark.parametrize('template', [NAMED, SINGLE], ids=['named', 'single'])
def test_plain_words_score_as_alone(template):
  """Also where slots outnumber the positions, and where branches have no token."""
  made = items('hint')
  found_BxM = score(PLAIN_CONFIG, plain_params(), PLAIN, made, template)
  assert found_BxM.dtype == np.float32
  want = alone(plain_logits, PLAIN, made, template)
  check(found_BxM, want, template.states_answer)
  if template is SINGLE:  # all that it says is one token
    assert np.exp(found_BxM).sum(axis=1).max() < 1


@pytest.mark.parametrize('family', FAMILIES)
def test_chats_score_as_alone(family):
  """Statements of different lengths, with their ends; windows shorter than a prompt."""
  format = chats.chat(family)
  made = items('Think of a hint. ')
  lengths = {len(ids) for ids in format.answers([CHAT.unchanged, CHAT.changed])}
  assert len(lengths) == 2 and max(lengths) > 9
  config, params, _ = chat_model(family)
  found_BxM = score(config, params, format, made, CHAT)
  want = alone(functools.partial(chat_logits, family), format, made, CHAT)
  check(found_BxM, want, states_answer=False)


def test_filling_does_not_count_though_it_be_an_end_token():
  """As with tokenizers whose padding is their end token."""
  statements_1x2x4 = np.array([[[2, 3, 1, 1], [3, 4, 5, 1]]])
  asked = encoding.questions(PLAIN, ['q expl'])

  def given(said_1xMxG, end_tokens):
    expected = speculative.make_drafts(said_1xMxG, end_tokens)
    return run(PLAIN_CONFIG, plain_params(), asked, expected, end_tokens)

  cut_1x1 = given(statements_1x2x4[:, :1, :3], (1,))
  found_1x2 = given(statements_1x2x4, (1,))
  np.testing.assert_allclose(found_1x2[:, :1], cut_1x1, rtol=1e-5)
  longer_1x2 = given(statements_1x2x4, (0,))  # nothing ends: all tokens count
  assert longer_1x2[0, 0] < found_1x2[0, 0]
  np.testing.assert_allclose(longer_1x2[0, 1], found_1x2[0, 1], rtol=1e-5)
