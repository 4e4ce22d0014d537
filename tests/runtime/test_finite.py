"""NaN and infinity: a run stops where they first appear, and what is kept is good."""

import contextlib
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

from coupling.checkpoints import hub, kept_steps, peft_format, weights as weights_lib
from coupling.config import schema
from coupling.elicit import behavior, evaluation, explanation, label_set
from coupling.model import decoder, generate, lora, scoring, speculative
from coupling.patching import engine
from coupling.runtime import finite, workdir
from coupling.training import loss, train_loop
from tests import small_checkpoints
from tests.elicit import test_evaluation
from tests.patching import test_engine
from tests.training import small_trainings, test_train_step

pytestmark = pytest.mark.usefixtures('few_optimizations')


def with_bad_row(
  folder, run: int, step: int, term: str, value: float
) -> train_loop.Training:
  """A run one of whose terms is not finite from the data of one step on."""
  part, field = {
    'behavior_kl': ('behavior', 'reference'),
    'behavior_xent': ('behavior', 'shift_target'),
    'dpo': ('preference', 'reference'),
  }[term]
  made = small_trainings.training(folder, run)
  order = train_loop.shuffled(made.parts, made.data_seed)[part]
  earlier = np.concatenate([order.rows(i) for i in range(step - 1)] or [[]])
  row = next(i for i in order.rows(step - 1) if i not in earlier)
  rows, batch = made.parts[part]
  array = rows[field].copy()
  array[row, 0] = value
  rows = rows | {field: array}
  if 'shift_mask' in rows:
    rows['shift_mask'] = np.ones_like(rows['shift_mask'])
  return dataclasses.replace(made, parts=made.parts | {part: (rows, batch)})


def kept(training: train_loop.Training) -> dict[int, bool]:
  """Steps that were kept, and whether all numbers in them are finite."""
  found = small_trainings.kept(training.folder)
  return {
    step: all(np.isfinite(x).all() for x in jax.tree.leaves(trees['params']))
    for step, trees in found.items()
  }


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16', '>f2', 'float32', 'float64'])
def test_the_host_looks_at_every_number(dtype):
  """All finite numbers of 16 bits, and one bad number at any place of an array."""
  dtype = jnp.dtype(dtype)
  if dtype.itemsize == 2:
    every = np.arange(2**16, dtype=np.uint16).view(dtype)
    good = np.isfinite(every.astype(np.float32))
    assert finite.is_finite(every[good])
    assert not any(finite.is_finite(x) for x in every[~good][:, None])
  for bad in (np.nan, np.inf, -np.inf):
    for place in (0, finite._CHUNK, -1):
      x = np.ones((3, finite._CHUNK // 2), dtype)
      assert finite.is_finite(x) and finite.is_finite(x[:, ::2])
      x.flat[place] = bad
      assert not finite.is_finite(x) and not finite.is_finite(x.T)
  assert finite.is_finite(np.zeros((0, 3), dtype))


@pytest.mark.parametrize('term', ['behavior_kl', 'behavior_xent', 'dpo'])
@pytest.mark.parametrize('step', [1, 2])
def test_a_training_stops_at_the_step_and_names_the_term(tmp_path, term, step):
  """Two steps a dispatch: the step is named, not the dispatch."""
  bad = with_bad_row(tmp_path, 0, step, term, np.nan)
  with pytest.raises(finite.NonFiniteError, match=f'run 0.*step {step}, {term}') as e:
    train_loop.fit(bad)
  assert str(bad.folder) in str(e.value)
  assert kept(bad) == {0: True}


@pytest.mark.parametrize('rate', [1e30, 3e38, 3.4e38])
def test_a_rate_that_is_far_too_high_leaves_finite_checkpoints(tmp_path, rate):
  optimizer = dataclasses.replace(
    test_train_step.OPTIMIZER, learning_rate=rate, warmup_steps=0
  )
  every = dataclasses.replace(
    small_trainings.LOOP, steps_per_dispatch=1, checkpoint_every=1
  )
  bad = small_trainings.training(tmp_path, 0, optimizer=optimizer, loop=every)
  with pytest.raises(finite.NonFiniteError, match='run 0.*learning_rate'):
    train_loop.fit(bad)
  steps = kept(bad)
  assert all(steps.values()) and max(steps) < 8


def test_no_checkpoint_is_saved_or_read_that_is_not_finite(tmp_path):
  like = {'a': jnp.ones(3), 'b': {'c': jnp.array([1.0, jnp.inf])}}
  state = {'params': like, 'opt_state': {'n': jnp.zeros(1)}, 'step': np.int32(0)}
  saved = kept_steps.Checkpoints(tmp_path / 'c', 4)
  refused = lambda *named: pytest.raises(finite.NonFiniteError, match='.*'.join(named))
  with contextlib.closing(saved), refused(r'b\.c'):
    saved.save(state, {})
  assert not saved.steps()
  with refused(r'b\.c'):
    kept_steps.save_params(tmp_path / 'params', like)
  assert not (tmp_path / 'params').exists()
  with pytest.MonkeyPatch.context() as patch:  # as an earlier version would have
    patch.setattr(finite, 'check', lambda *x: None)
    kept_steps.save_params(tmp_path / 'params', like)
    saved = kept_steps.Checkpoints(tmp_path / 'c', 4)
    with contextlib.closing(saved):
      saved.save(state, {})
  with refused('params', r'b\.c', f'move {tmp_path} away'):
    kept_steps.load_params(tmp_path / 'params', like)
  with refused('c/0', r'b\.c', f'move {tmp_path} away'):  # its step is of a whole stage
    kept_steps.read_params(tmp_path / 'c', 0, like)
  again = kept_steps.Checkpoints(tmp_path / 'c', 4)
  with contextlib.closing(again), refused('c/0', r'b\.c', 'the step before'):
    again.restore(0, state | {'step': jnp.int32(0)}, {})


def test_a_kl_to_nan_is_nan_and_options_that_are_not_there_count_for_nothing():
  logits = jnp.array([[[1.0, 2.0, -jnp.inf]]])
  reference = jnp.array([[[-1.0, -2.0, -jnp.inf]]])
  mask = jnp.ones((1, 1), bool)
  for direction in ('forward', 'reverse'):
    held = lambda x, d=direction: loss.behavior_kl(logits, x, mask, d)[0]
    assert np.isfinite(held(reference))
    assert np.isnan(held(reference.at[0, 0, 1].set(jnp.nan)))


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_a_choice_from_logits_that_are_not_finite_is_marked(bad):
  logits = jnp.array([[0.0, 3.0, 1.0], [0.0, 3.0, bad]])
  options = jnp.array([[0, 1, -1]] * 2)
  assert behavior.choose(logits, options).tolist() == [1, finite.NOT_FINITE]


CONFIG = test_evaluation.CONFIG


def broken(value: float) -> decoder.Params:
  """A model whose final norm alone is damaged."""
  params = decoder.init(CONFIG, 0)
  norm = jax.tree.map(lambda x: x.at[0].set(value), params['final_norm'])
  return params | {'final_norm': norm}


def arrays(template) -> dict:
  items = test_evaluation.make_items()[:5]
  found = evaluation.questions(test_evaluation.FORMAT, items, template)
  none = np.zeros(len(items), np.int32)
  truth = explanation.Explanation(none, none)
  return found | {'orig': truth, 'target': truth}


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_labels_and_evaluation_stop_at_logits_that_are_not_finite(value):
  asked = arrays(test_evaluation.QUESTIONS[True])
  prompts = {k: asked[k] for k in ('trees', 'read', 'options')}
  params, mesh = broken(value), test_evaluation.MESH
  with pytest.raises(finite.NonFiniteError, match='x and x∖C .* 4 of 4 pairs'):
    behavior.behaviors(CONFIG, params, prompts, 4, mesh, 'options')
  with pytest.raises(finite.NonFiniteError, match='5 of 5 pairs'):
    what = CONFIG, params, asked, 4, mesh, True, test_evaluation.FORMAT
    evaluation.evaluate(*what, likelihood=True)


def test_generation_marks_what_it_cannot_choose_and_likelihoods_are_nan():
  tokens_BxT = jnp.zeros((2, 3), jnp.int32)
  params, mesh = broken(np.nan), test_evaluation.MESH
  prompts = generate.of_rows(tokens_BxT, jnp.ones((2, 3), bool))
  begun, _ = generate.begin(CONFIG, params, prompts, mesh)
  said = generate.greedy(CONFIG, params, begun, mesh, max_new_tokens=3, end_tokens=(1,))
  assert np.all(np.asarray(said) == finite.NOT_FINITE)
  statements = np.array([[[2, 3, 1], [4, 5, 1], [-1, -1, -1]]] * 2)
  drafts = speculative.make_drafts(statements, (1,))
  how = dict(end_tokens=(1,), fill=0)
  said, after = speculative.greedy_from_drafts(
    CONFIG, params, begun, drafts, mesh, **how
  )
  assert np.all(np.asarray(said)[:, 0] == finite.NOT_FINITE)
  found = scoring.statement_logprobs(
    CONFIG, params, begun.hidden_BxD, after, statements, (1,)
  )
  np.testing.assert_array_equal(found, [[np.nan, np.nan, -np.inf]] * 2)


def with_value(folder, part: str, value: float) -> None:
  """A checkpoint whose tensor `part` ends in a value."""
  source, _ = small_checkpoints.saved('qwen3')
  data = safetensors_numpy.load_file(source / hub.SINGLE)
  name = f'model.{part}.weight'
  data[name] = data[name].copy()
  data[name].flat[-1] = value
  safetensors_numpy.save_file(data, folder / hub.SINGLE)
  (folder / hub.CONFIG).write_text((source / hub.CONFIG).read_text())


@pytest.mark.parametrize('value', [np.nan, np.inf])
@pytest.mark.parametrize('part', ['embed_tokens', 'layers.2.mlp.down_proj', 'norm'])
def test_one_bad_value_of_an_imported_tensor_is_found_by_name(tmp_path, value, part):
  with_value(tmp_path, part, value)
  config = hub.decoder_config(tmp_path)
  for read in (weights_lib.load, weights_lib.check):
    with pytest.raises(schema.ConfigError, match=f'model.{part}.weight holds NaN'):
      read(tmp_path, config)


def test_a_value_that_bfloat16_cannot_hold_is_no_infinity_of_the_file(tmp_path):
  with_value(tmp_path, 'norm', 3.4e38)  # bfloat16 ends at 3.39e38
  weights_lib.load(tmp_path, hub.decoder_config(tmp_path, param_dtype='float32'))
  with pytest.raises(schema.ConfigError, match='too large for bfloat16'):
    weights_lib.load(tmp_path, hub.decoder_config(tmp_path, param_dtype='bfloat16'))


def test_adapters_and_exports_are_looked_at_too(tmp_path):
  config, params = small_checkpoints.imported(small_checkpoints.saved('qwen3')[0])
  adapters = lora.init(config, rank=2, alpha=4.0, seed=0)
  bad = jax.tree.map(lambda x: x, adapters)
  bad.weights['q']['b'] = bad.weights['q']['b'].at[1, 0, 0].set(jnp.nan)
  with pytest.raises(finite.NonFiniteError, match=r'layers\.1\..*q_proj\.lora_B'):
    peft_format.save(tmp_path / 'a', bad)
  assert not (tmp_path / 'a').exists()
  peft_format.save(tmp_path / 'a', adapters)
  path = tmp_path / 'a' / 'adapter_model.safetensors'
  data = safetensors_numpy.load_file(path)
  name = next(name for name in data if 'layers.2' in name)
  data[name] = data[name].copy()
  data[name].flat[0] = np.inf
  safetensors_numpy.save_file(data, path)
  with pytest.raises(schema.ConfigError, match=f'{name} holds NaN'):
    peft_format.load(tmp_path / 'a', config)
  params['final_norm'] = jax.tree.map(lambda x: x * jnp.nan, params['final_norm'])
  with pytest.raises(finite.NonFiniteError, match=r'model\.norm\.weight'):
    weights_lib.save(tmp_path / 'w', config, params)
  assert not (tmp_path / 'w').exists()


def test_a_label_set_with_nan_is_refused(tmp_path):
  pairs = test_evaluation.make_items()[:3]
  none = np.zeros(3, np.int32)
  logprobs = np.full((3, 2, 4), -np.inf, np.float32)  # options that are not there
  for one, pair in zip(logprobs, pairs, strict=True):
    one[:, : len(pair.options)] = -np.log(len(pair.options))
  for value in (logprobs[1, 1, 0], -0.01, 50.0, np.inf, -np.inf, np.nan):
    good, logprobs[1, 1, 0] = value == logprobs[1, 1, 0], value
    did = explanation.Behaviors(none, none, logprobs, np.zeros((3, 0), object))
    label_set.write(label_set.shard(tmp_path, 'train', 0), pairs, np.arange(3), did)
    if good:
      label_set.read(tmp_path, 'train')
      continue
    with pytest.raises(workdir.WorkdirError, match='row 1, column reference'):
      label_set.read(tmp_path, 'train')


def test_patching_names_the_pair_and_what_was_replaced():
  config, params = test_engine.model_of('qwen3')
  asked = test_engine.asked(small_checkpoints.VOCABULARY)
  how = {k: x for k, x in test_engine.HOW.items() if k != 'at_once'}
  means = engine.means(config, params, asked, **how)
  means['mlp_out'] = np.full_like(means['mlp_out'], np.nan)
  sets = [
    tuple(s for s in engine.sites(config) if s.kind == kind and s.group == 'answer')
    for kind in ('residual', 'mlp_out')
  ]
  engine.effects(config, params, asked, sets[:1], **test_engine.HOW, means=means)
  with pytest.raises(finite.NonFiniteError, match='mlp_out.*replaced.* of 4 pairs'):
    engine.effects(config, params, asked, sets, **test_engine.HOW, means=means)
  norm = jax.tree.map(lambda x: x.at[0].set(jnp.nan), params['final_norm'])
  bad = params | {'final_norm': norm}
  with pytest.raises(finite.NonFiniteError, match='the d of x '):
    engine.effects(config, bad, asked, sets, **test_engine.HOW)
  layers = jax.tree.map(lambda x: x * jnp.nan, params['layers'])
  with pytest.raises(finite.NonFiniteError, match='sums of activations.*mlp_out'):
    engine.means(config, params | {'layers': layers}, asked, **how)
