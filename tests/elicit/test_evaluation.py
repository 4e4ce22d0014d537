"""Evaluation of a checkpoint against a loop over items with plain Python strings.

The model is trained for a few steps on statements drawn at random, so that some
generations parse, some name an option that the item lacks, and all outcomes occur.
"""

import functools
import json
import pathlib

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coupling.checkpoints import kept_steps
from coupling.config import schema
from coupling.elicit import behavior
from coupling.elicit import encoding
from coupling.elicit import evaluation
from coupling.elicit import explanation
from coupling.elicit import statements as statements_lib
from coupling.model import decoder
from coupling.model import sharding
from coupling.model.architecture import DecoderConfig
from coupling.report import records
from coupling.runtime import files
from coupling.training import compiled
from coupling.training import train_step
from data import loader
from data import formats
from data import pairs
from data import tokens
from tests import command

N, BATCH, STEPS = 45, 16, 60  # the last batch has 13 items
ANSWERS = ('a', 'b', 'c', 'd')
WORDS = (*ANSWERS, 'same', 'change', 'stay', 'ask', 'expl', 'hint')
WORDS = (*WORDS, *(f'q{i}' for i in range(N)))
TOKENIZER = tokens.word_tokenizer(WORDS, ('<pad>', '<bos>'))
FORMAT = formats.Plain(TOKENIZER)
CONFIG = DecoderConfig(
  vocab_size=len(TOKENIZER),
  width=16,
  depth=1,
  num_heads=2,
  num_kv_heads=1,
  head_dim=8,
  mlp_dim=32,
)
QUESTIONS = {
  True: pairs.Questions(
    '{prompt} ask', '{prompt} expl', '{answer} same', '{answer} change'
  ),
  False: pairs.Questions(
    '{prompt} ask', '{prompt} expl', 'stay same', '{answer} change'
  ),
}
MESH = sharding.make_mesh(schema.Mesh(data=-1, fsdp=1))


def make_items():
  """Items with two to four options; hints give prompts different lengths."""
  rng = np.random.default_rng(0)
  items = []
  for i in range(N):
    options = tuple(rng.permutation(ANSWERS)[: rng.integers(2, 5)].tolist())
    k = int(rng.integers(len(options)))
    cue = ' '.join(['hint'] * rng.integers(1, 3) + [options[k]])
    items.append(
      pairs.Pair(f'q{i} {cue}', f'q{i}', cue, 'hint', k, options, f'q{i}', str(i))
    )
  return items


ITEMS = make_items()


@functools.cache
def trained(states_answer):
  """A model that has half learned random statements; none of its words is special."""
  rng = np.random.default_rng(1)
  template = QUESTIONS[states_answer]
  forms = (template.unchanged, template.changed)
  said = [forms[rng.integers(2)].format(answer=rng.choice(ANSWERS)) for _ in ITEMS]
  said[::7] = ['d c'] * len(said[::7])  # no statement
  params, loss = train_to_say(said, template, STEPS)
  assert loss < 3
  return params


def train_to_say(said, template, steps):
  """Parameters after steps on these statements, and the last loss."""
  rng = np.random.default_rng(1)
  asked = [template.explanation.format(prompt=p.prompt) for p in ITEMS]
  rows = encoding.questions(FORMAT, asked, said)
  objectives = schema.Objectives(behavior_kl=schema.BehaviorKL(weight=0.0))
  optimizer = schema.Optimizer(learning_rate=0.02, warmup_steps=5, b2=0.99)
  settings = compiled.settings(CONFIG, None, objectives, optimizer, steps, 1)
  program = compiled.program(settings, MESH)
  batches = loader.ShuffledBatches({'explanation': rows}, 16, 0)
  stacked = jax.tree.map(lambda *x: np.stack(x), *(batches[i] for i in range(steps)))
  draw = lambda x: rng.normal(0, 0.3, x.shape).astype(np.float32)
  state = program.init(jax.tree.map(draw, decoder.abstract(CONFIG)))
  state, metrics = program.run(
    state,
    {},
    train_step.hyper(objectives, optimizer),
    jax.device_put(stacked, program.batch_sharding),
  )
  return state['params'], metrics['loss'].mean()


@jax.jit
def next_logits(params, tokens_1xT, length):
  valid_1xT = np.arange(tokens_1xT.shape[1])[None] < length
  hidden_1xTxD = decoder.apply(CONFIG, params, tokens_1xT, valid_1xT).hidden_BxCxD
  return decoder.unembed(CONFIG, params, hidden_1xTxD[0, length - 1])


def logits_after(params, words):
  """Word -> logit of the word that follows a text."""
  ids = TOKENIZER.convert_tokens_to_ids(['<bos>', *words])
  padded_1xT = np.array([ids + [0] * (10 - len(ids))])
  logits_V = np.asarray(next_logits(params, padded_1xT, len(ids)))
  return dict(zip(TOKENIZER.convert_ids_to_tokens(range(len(TOKENIZER))), logits_V))


def answer(params, text, options):
  """The likeliest option and the options' probabilities."""
  logits = logits_after(params, [*text.split(), 'ask'])
  logits_K = np.array([logits[option] for option in options], np.float64)
  return options[np.argmax(logits_K)], np.exp(logits_K) / np.exp(logits_K).sum()


def explain(params, pair):
  """What the model says, as text."""
  words = [*pair.prompt.split(), 'expl']
  for _ in range(2):
    logits = logits_after(params, words)
    words.append(max(logits, key=logits.get))
  return ' '.join(words[-2:])


def scores(params, pair, template):
  """Allowed statement -> its log-likelihood, word by word."""
  result = {}
  for option in pair.options:
    for form in (template.unchanged, template.changed):
      said = form.format(answer=option)
      words, result[said] = [*pair.prompt.split(), 'expl'], 0.0
      for word in said.split():
        logits = logits_after(params, words)
        normaliser = np.log(np.sum(np.exp(np.array([*logits.values()], np.float64))))
        result[said] += logits[word] - normaliser
        words.append(word)
  return result


def meaning(said, pair, now):
  """What an allowed statement says, as option index and change."""
  if said == 'stay same':
    return pair.options.index(now), 0
  return pair.options.index(said.split()[0]), said.endswith('change')


def right(said, pair, truth, states_answer):
  """Whether a text is the one true explanation; truth is (answer without, changed)."""
  without, changed = truth
  template = QUESTIONS[states_answer]
  form = template.changed if changed else template.unchanged
  return said == form.format(answer=without)


@functools.cache
def labels():
  """E(M_0) and the labels trained on, different from each other, as option indices."""
  rng = np.random.default_rng(2)
  size_N = np.array([len(p.options) for p in ITEMS])
  draw = lambda: explanation.Explanation(
    rng.integers(size_N).astype(np.int32), rng.integers(2, size=N).astype(np.int32)
  )
  return draw(), draw()


@functools.cache
def evaluated(states_answer):
  return evaluate_on(MESH, trained(states_answer), states_answer)


def evaluate_on(mesh, params, states_answer):
  arrays = evaluation.questions(FORMAT, ITEMS, QUESTIONS[states_answer])
  orig, target = labels()
  arrays |= {'orig': orig, 'target': target}
  return evaluation.evaluate(
    CONFIG, params, arrays, BATCH, mesh, states_answer, FORMAT, likelihood=True
  )


@pytest.mark.parametrize('states_answer', [True, False])
def test_items_and_counts_equal_a_loop_over_the_items(states_answer):
  items, counts = evaluated(states_answer)
  params, (orig, target) = trained(states_answer), labels()
  want = dict.fromkeys(counts, 0)
  statements = set()
  for i, pair in enumerate(ITEMS):
    option = pair.options.index
    now, p_K = answer(params, pair.prompt, pair.options)
    without, q_K = answer(params, pair.counterfactual, pair.options)
    said = explain(params, pair)
    changed = now != without
    assert items['behavior'][i] == option(now)
    assert items['counterfactual_behavior'][i] == option(without)
    for name, want_K in (('', p_K), ('counterfactual_', q_K)):
      found_K = np.exp(items[f'{name}option_logprobs'][i])
      np.testing.assert_allclose(found_K[: len(want_K)], want_K, atol=1e-5)
      assert not np.any(found_K[len(want_K) :])
    assert TOKENIZER.decode(items['generated'][i]) == said
    valid = {
      form.format(answer=o)
      for o in pair.options
      for form in (QUESTIONS[states_answer].unchanged, '{answer} change')
    }
    stated = (items['stated_answer'][i], items['stated_changed'][i])
    if said not in valid:
      assert stated == (explanation.INVALID, explanation.INVALID)
    else:
      assert stated == meaning(said, pair, now)
    statements.add(said)
    by_statement = scores(params, pair, QUESTIONS[states_answer])
    scored = max(by_statement, key=by_statement.get)
    found = (items['scored_answer'][i], items['scored_changed'][i])
    assert found == meaning(scored, pair, now)
    found_M = items['statement_logprobs'][i]
    assert len(found_M) == 2 * len(ANSWERS)
    np.testing.assert_allclose(
      found_M[np.isfinite(found_M)], [*by_statement.values()], atol=1e-4
    )
    truths = {
      'orig': (pair.options[orig.answer_N[i]], orig.changed_N[i]),
      'target': (pair.options[target.answer_N[i]], target.changed_N[i]),
      'self': (without, changed),
    }
    want['n'] += 1
    for name, truth in truths.items():
      want[name] += right(said, pair, truth, states_answer)
      if name != 'target':
        want[f'scored_{name}'] += right(scored, pair, truth, states_answer)
    want['scored_agrees_greedy'] += said == scored
    want['invalid'] += said not in valid
    want['changed'] += changed
    template = QUESTIONS[states_answer]
    texts = [
      (template.changed if c else template.unchanged).format(answer=a)
      for a, c in (truths['self'], truths['orig'])
    ]
    want['moved'] += texts[0] != texts[1]
  assert counts == want
  assert counts['n'] == N
  # The comparison means something: every outcome occurs, none is universal.
  assert all(0 < counts[name] < N for name in counts if name != 'n')
  assert len(statements) > 3


def test_a_model_that_was_taught_the_truth_scores_it():
  """The hint is the answer, and two of them say that it changes: nothing else does."""
  truth = explanation.Explanation(
    np.array([p.cue_option for p in ITEMS], np.int32),
    np.array([p.cue.count('hint') - 1 for p in ITEMS], np.int32),
  )
  template = QUESTIONS[True]
  forms = (template.unchanged, template.changed)
  said = [
    forms[changed].format(answer=p.options[answer])
    for p, answer, changed in zip(ITEMS, *truth)
  ]
  found = []
  for steps in (1, 4 * STEPS):
    params, _ = train_to_say(said, template, steps)
    arrays = evaluation.questions(FORMAT, ITEMS, template)
    arrays |= {'orig': truth, 'target': truth}
    items, counts = evaluation.evaluate(
      CONFIG, params, arrays, BATCH, MESH, True, FORMAT, likelihood=True
    )
    found.append(counts['scored_orig'])
  assert found[0] < N / 2 and found[1] > 0.95 * N
  assert counts['scored_agrees_greedy'] > 0.95 * N
  probability_NxM = np.exp(items['statement_logprobs'])
  true_N = probability_NxM[np.arange(N), 2 * truth.answer_N + truth.changed_N]
  assert np.median(true_N) > 0.9 and np.all(probability_NxM.sum(axis=1) < 1 + 1e-5)


@pytest.mark.parametrize('states_answer', [True, False])
def test_every_statement_parses_to_its_meaning_and_nothing_else_does(states_answer):
  template = QUESTIONS[states_answer]
  arrays = evaluation.questions(FORMAT, ITEMS, template)
  own_B = np.array([len(p.options) - 1 for p in ITEMS])
  parse = jax.jit(statements_lib.parse, static_argnums=3)
  vocabulary = range(len(TOKENIZER))
  texts = [(first, second) for first in vocabulary for second in vocabulary]
  for b, pair in list(enumerate(ITEMS))[:4]:
    meaning = {template.unchanged: (own_B[b], 0)}
    for k, option in enumerate(pair.options):
      meaning[template.changed.format(answer=option)] = (k, 1)
      if states_answer:
        meaning[template.unchanged.format(answer=option)] = (k, 0)
    rows = len(texts)
    stated = parse(
      np.array(texts),
      np.repeat(arrays['statements'].tokens_BxMxG[b : b + 1], rows, axis=0),
      np.repeat(own_B[b], rows),
      states_answer,
    )
    found = {
      ' '.join(TOKENIZER.convert_ids_to_tokens(text)): (int(answer), int(changed))
      for text, answer, changed in zip(texts, *map(np.asarray, stated))
      if (answer, changed) != (explanation.INVALID, explanation.INVALID)
    }
    if states_answer:
      del meaning[template.unchanged]
    assert found == meaning


def test_records_come_back_as_they_were_written(tmp_path):
  items, _ = evaluated(True)
  path = tmp_path / 'step.parquet'
  row_N = 2 * np.arange(len(ITEMS))
  files.write_table(
    path, evaluation.records(items, row_N, FORMAT.decode(items['generated']))
  )
  table = pq.read_table(path).to_pydict()
  for name, values in items.items():
    np.testing.assert_array_equal(table[name], values, err_msg=name)
  assert table['row'] == row_N.tolist()
  assert table['statement'] == [TOKENIZER.decode(row) for row in items['generated']]
  # As the statistics read it.
  labelled = pa.table({'row': row_N} | pairs.columns(ITEMS))
  read = records.read_evaluation(path, labelled)
  for name in records.QUESTION:
    assert read[name].equals(labelled[name])
  found = records.to_items(read, states_answer=True)
  np.testing.assert_array_equal(found.behavior_N, items['behavior'])
  truth = explanation.phi(items['behavior'], items['counterfactual_behavior'])
  jax.tree.map(np.testing.assert_array_equal, found.truth, truth)
  np.testing.assert_array_equal(found.stated.answer_N, items['stated_answer'])
  np.testing.assert_array_equal(found.stated.changed_N, items['stated_changed'])


def evaluate_saved(folder: str) -> None:
  """Evaluates the weights in a folder on all devices; writes what it finds there.

  Prints how many devices there are, then by the mesh the parts that one of them holds
  and the counts.
  """
  found = {}
  for fsdp in (1, 4):
    mesh = sharding.make_mesh(schema.Mesh(data=-1, fsdp=fsdp))
    like = sharding.abstract_params(mesh, CONFIG)
    params = kept_steps.load_params(pathlib.Path(folder, 'params'), like)
    kernel = params['layers']['mlp']['up']['kernel']
    items, counts = evaluate_on(mesh, params, True)
    np.savez(pathlib.Path(folder, f'items{fsdp}.npz'), **items)
    asked = encoding.pair_questions(FORMAT, ITEMS, QUESTIONS[True])
    rows, _, _ = next(behavior.batches(asked, BATCH))
    _, begun = behavior.forced_choice(CONFIG, mesh)(
      params, sharding.put_batch(mesh, rows)
    )
    parts = [
      x.addressable_shards[0].data.size / x.size
      for x in (kernel, begun.cache.k_LxBxKxHxS, begun.cache.v_LxBxKxSxH)
    ]
    found[fsdp] = [parts, counts]
  print(json.dumps([jax.device_count(), found]))


def test_eight_devices_find_what_one_finds(tmp_path):
  items, counts = evaluated(True)
  kept_steps.save_params(tmp_path / 'params', trained(True))
  code = 'import sys; from tests.elicit import test_evaluation as t; '
  code += 't.evaluate_saved(sys.argv[1])'
  devices, found = json.loads(command.on_devices(8, code, tmp_path))
  assert devices == 8 and found.keys() == {'1', '4'}
  for fsdp, (parts, there) in found.items():
    assert (parts, there) == ([1 / int(fsdp), 1 / 8, 1 / 8], counts)
    with np.load(tmp_path / f'items{fsdp}.npz') as read:
      assert set(read) == set(items)
      for name, values in items.items():
        if values.dtype.kind == 'i':
          np.testing.assert_array_equal(read[name], values, err_msg=name)
        else:
          np.testing.assert_allclose(read[name], values, atol=1e-5, err_msg=name)
