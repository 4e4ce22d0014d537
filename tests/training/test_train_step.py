"""The train step: golden numbers, accumulation, resumption, devices."""

import dataclasses
import functools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from coupling.checkpoints import kept_steps
from coupling.config import schema
from coupling.model import decoder, sharding, stack
from coupling.model.architecture import DecoderConfig
from coupling.runtime import workdir
from coupling.training import compiled as compiled_lib, train_step
from tests import command

MODEL = DecoderConfig(
  vocab_size=23,
  width=16,
  depth=2,
  num_heads=4,
  num_kv_heads=2,
  head_dim=4,
  mlp_dim=32,
  embedding_std=0.5,
)
OPTIMIZER = schema.Optimizer(learning_rate=0.01, warmup_steps=2, weight_decay=0.001)
LOOP = schema.Loop(steps=8, steps_per_dispatch=2, checkpoint_every=4)
OBJECTIVES = schema.Objectives(
  explanation_xent=schema.ExplanationXent(weight=2.0),
  behavior_kl=schema.BehaviorKL(weight=0.7),
  behavior_xent=schema.BehaviorXent(weight=0.3),
)
# Every term that a training may have beside one another.
EVERY = dataclasses.replace(OBJECTIVES, dpo=schema.DPO(weight=0.4, file='given'))
LORA = schema.Lora(rank=4, alpha=8.0, targets=('q', 'v', 'down'))
# M_0 is the same weights without adapters.
HELD = dataclasses.replace(
  EVERY,
  behavior_kl=dataclasses.replace(OBJECTIVES.behavior_kl, reference='adapters_off'),
)
HYPER = train_step.hyper(EVERY, OPTIMIZER)  # HELD's are the same
ROWS = 16


def make_batch(step: int) -> train_step.Batch:
  """A batch with uneven lengths, padding, absent options and masked examples."""
  rng = np.random.default_rng(step)
  length_B = rng.integers(4, 9, ROWS)
  valid_BxT = np.arange(8) < length_B[:, None]
  tokens_BxT = rng.integers(1, 23, (ROWS, 8)) * valid_BxT
  part = {'tokens': tokens_BxT.astype(np.int32), 'valid': valid_BxT}
  last_B = (length_B - 1).astype(np.int32)
  options_BxK = np.argsort(rng.random((ROWS, 23)))[:, :4].astype(np.int32)
  options_BxK[::3, 3] = -1
  logits_BxK = np.where(options_BxK >= 0, rng.normal(size=(ROWS, 4)), -np.inf)
  return {
    'explanation': part
    | {
      'read': np.stack([last_B - 1, last_B], axis=1),
      'target': rng.integers(1, 23, (ROWS, 2)).astype(np.int32),
      'mask': rng.random((ROWS, 2)) < 0.8,
    },
    'behavior': part
    | {
      'read': last_B[:, None],
      'mask': np.ones((ROWS, 1), bool),
      'options': options_BxK[:, None],
      'reference': np.asarray(jax.nn.log_softmax(logits_BxK), np.float32)[:, None],
      'shift_target': np.tile(np.eye(4, dtype=np.float32)[0], (ROWS, 1, 1)),
      'shift_mask': rng.random((ROWS, 1)) < 0.5,
    },
    'preference': {
      'tokens': rng.integers(1, 23, (ROWS, 2, 8)).astype(np.int32),
      'read': np.sort(rng.integers(2, 8, (ROWS, 2, 3)).astype(np.int32)),
      'target': rng.integers(1, 23, (ROWS, 2, 3)).astype(np.int32),
      'mask': rng.random((ROWS, 2, 3)) < 0.7,
      'reference': rng.normal(-6, 3, (ROWS, 2)).astype(np.float32),
    },
  }


def batches(first: int) -> train_step.Batch:
  pair = [make_batch(first), make_batch(first + 1)]
  return jax.tree.map(lambda *x: np.stack(x), *pair)


def compiled(low_rank, objectives, optimizer, accumulation=1) -> compiled_lib.Program:
  settings = compiled_lib.settings(
    MODEL, low_rank, objectives, optimizer, LOOP.steps, accumulation
  )
  mesh = sharding.make_mesh(schema.Mesh(data=-1, fsdp=1))
  return compiled_lib.program(settings, mesh)


def assert_equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


def losses(accumulation: int = 1) -> list[float]:
  p = compiled(None, EVERY, OPTIMIZER, accumulation)
  state = p.init(decoder.init(MODEL, 0))
  found = []
  for first in range(0, 8, 2):
    state, metrics = p.run(state, {}, HYPER, batches(first))
    found.append(float(metrics['loss'].mean()))
  return found


def one_step(optimizer):
  """The train step of this module's objectives as a function of state and batch."""
  losses = train_step.explanation_losses(MODEL, train_step.form(EVERY), HYPER.beta)
  return functools.partial(
    train_step.train_step, losses, HYPER.weights, optimizer, 1, {}
  )


def test_golden_step():
  """One step's numbers; they change only if the model, a loss or AdamW changes."""
  optimizer = train_step.make_optimizer(OPTIMIZER, LOOP.steps, OPTIMIZER.learning_rate)
  params = decoder.init(MODEL, 0)
  state = {'params': params, 'opt_state': optimizer.init(params), 'step': 0}
  state, metrics = jax.jit(one_step(optimizer))(state, make_batch(0))
  found = {name: round(float(x), 4) for name, x in metrics.items()}
  golden = {
    'behavior_kl': 1.2959,
    'behavior_xent': 5.2527,
    'dpo': 1.1499,
    'dpo_accuracy': 0.3125,
    'dpo_margin': -0.6302,
    'explanation_xent': 5.0023,
    'gradient_norm': 13.9923,
    'loss': 12.9476,
  }
  assert found == pytest.approx(golden, rel=2e-4), (
    f'The first step gives {found}, not {golden}. If you meant to change the model, '
    'the loss or the initialisation, put the new numbers here and say why in the '
    'commit; if not, you have broken one of them.'
  )


def test_accumulation_changes_nothing_though_counts_differ_between_microbatches():
  np.testing.assert_allclose(losses(1), losses(4), rtol=2e-5)


@pytest.mark.parametrize('schedule', ['constant', 'cosine'])
def test_without_a_warm_up_the_first_step_is_the_largest(schedule):
  config = dataclasses.replace(OPTIMIZER, schedule=schedule, warmup_steps=0)
  optimizer = train_step.make_optimizer(config, 10, config.learning_rate)
  params, grad = {'w': jnp.zeros(())}, {'w': jnp.ones(())}
  state, sizes = optimizer.init(params), []
  for _ in range(10):
    update, state = optimizer.update(grad, state, params)
    sizes.append(-float(update['w']))
  assert sizes[0] == pytest.approx(config.learning_rate, rel=1e-4)
  assert max(sizes) == pytest.approx(sizes[0], rel=1e-4) and min(sizes) > 0


@pytest.mark.parametrize('scan_layers', [True, False])
def test_less_memory_for_the_backward_pass_changes_no_gradient(scan_layers):
  """And it is less: without, every layer keeps its activations."""
  deep = dataclasses.replace(MODEL, depth=6, scan_layers=scan_layers)
  optimizer = optax.sgd(1.0)
  params = decoder.init(deep, 0)
  state = {'params': params, 'opt_state': optimizer.init(params), 'step': 0}
  found, memory = {}, {}
  for remat in ('none', *stack.REMAT):
    model = dataclasses.replace(deep, remat=remat)
    losses = train_step.explanation_losses(model, train_step.form(OBJECTIVES))
    step = functools.partial(
      train_step.train_step, losses, HYPER.weights, optimizer, 1, {}
    )
    compiled = jax.jit(step).lower(state, make_batch(0)).compile()
    memory[remat] = compiled.memory_analysis().temp_size_in_bytes
    found[remat] = compiled(state, make_batch(0))[0]['params']
  for remat in ('dots', 'full'):
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
      found['none'],
      found[remat],
    )
  assert memory['full'] < memory['none']


def with_numbers(rate: float, held: float, shift: float, beta: float):
  """Objectives and optimizer that differ from this module's in numbers alone."""
  changes = {'behavior_kl': held, 'behavior_xent': shift}
  terms = {
    name: dataclasses.replace(getattr(OBJECTIVES, name), weight=weight)
    for name, weight in changes.items()
  }
  return (
    dataclasses.replace(EVERY, **terms, dpo=dataclasses.replace(EVERY.dpo, beta=beta)),
    dataclasses.replace(OPTIMIZER, learning_rate=rate),
  )


def test_rates_weights_and_beta_are_inputs_of_one_program(monkeypatch):
  traced, step = [], train_step.train_step
  monkeypatch.setattr(
    train_step, 'train_step', lambda *args: traced.append(args) or step(*args)
  )
  compiled_lib.program.cache_clear()
  kernels, margins, found = [], [], {}
  for rate, held, shift, beta in (
    (0.0, 0.7, 0.3, 0.1), (1e-2, 0.7, 0.3, 0.1), (1e-2, 3.0, 0.1, 0.2)
  ):  # fmt: skip
    objectives, optimizer = with_numbers(rate, held, shift, beta)
    p = compiled(None, objectives, optimizer)
    state = p.init(decoder.init(MODEL, 0))
    hyper = train_step.hyper(objectives, optimizer)
    for first in range(0, 8, 2):
      state, found = p.run(state, {}, hyper, batches(first))
      margins += [float(found['dpo_margin'][0])] * (first == 0)  # M_0's
    kernels.append(np.asarray(state['params']['layers']['mlp']['up']['kernel']))
    terms = {'explanation_xent': 2.0, 'behavior_kl': held, 'behavior_xent': shift}
    terms['dpo'] = EVERY.dpo.weight
    total = sum(weight * float(found[name][-1]) for name, weight in terms.items())
    assert float(found['loss'][-1]) == pytest.approx(total, rel=1e-5)
  assert len(traced) == 1
  np.testing.assert_allclose(np.divide(margins, margins[0]), [1, 1, 2], rtol=1e-5)
  start = decoder.init(MODEL, 0)['layers']['mlp']['up']['kernel']
  np.testing.assert_array_equal(kernels[0], start)  # at a rate of 0 nothing moves
  assert not np.array_equal(kernels[1], start)
  assert not np.array_equal(kernels[1], kernels[2])


def test_what_compiles_is_told_by_terms_and_settings_but_not_by_whom_a_shift_concerns():
  one = train_step.form(OBJECTIVES)
  shift = dataclasses.replace(
    OBJECTIVES.behavior_xent, target='follow_cue', cues='explained'
  )
  assert train_step.form(dataclasses.replace(OBJECTIVES, behavior_xent=shift)) == one
  dpo = dataclasses.replace(EVERY, dpo=dataclasses.replace(EVERY.dpo, beta=0.5))
  assert train_step.form(dpo) == train_step.form(EVERY)
  others = [HELD, EVERY]
  for changes in ({'direction': 'reverse'}, {'support': 'vocabulary'}, {'weight': 0.0}):
    kl = dataclasses.replace(OBJECTIVES.behavior_kl, **changes)
    others.append(dataclasses.replace(OBJECTIVES, behavior_kl=kl))
  assert len({one, *map(train_step.form, others)}) == 6


def test_a_checkpoint_of_another_seed_or_a_torn_one_is_refused(tmp_path):
  p = compiled(None, EVERY, OPTIMIZER)
  state = p.init(decoder.init(MODEL, 0))
  saved = kept_steps.Checkpoints(tmp_path / 'c', 4)
  saved.save(state, {'data_seed': 5})
  saved.close()
  again = kept_steps.Checkpoints(tmp_path / 'c', 4)
  with pytest.raises(workdir.WorkdirError, match='loader position'):
    again.restore(0, state, {'data_seed': 6})
  for path in (tmp_path / 'c' / '0' / 'params').rglob('*'):
    if path.is_file():
      path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  with pytest.raises(workdir.WorkdirError, match='damaged'):
    again.restore_params(0, state['params'])
  with pytest.raises(workdir.WorkdirError, match='torn or was edited.* step before'):
    again.restore(0, state, {'data_seed': 5})
  again.close()
  shutil.rmtree(tmp_path / '.seals')  # as in a finished stage of an earlier version
  with pytest.raises(workdir.WorkdirError, match='torn or was edited'):
    kept_steps.read_params(tmp_path / 'c', 0, state['params'])


def test_a_checkpoint_holds_the_values_at_its_step_though_training_goes_on(tmp_path):
  """Training reuses the memory of the state while it is still being written."""
  size = 2_000_000  # so large that writing takes longer than the next steps
  state = {
    'params': {f'w{i}': jnp.full(size, float(i)) for i in range(8)},
    'opt_state': {'m': jnp.arange(size, dtype=jnp.float32)},
    'step': jnp.int32(4),
  }
  want = jax.tree.map(np.array, state)  # a copy
  go_on = jax.jit(lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0)
  spare = jax.tree.map(jnp.copy, state)
  go_on(spare)  # compiled now
  saved = kept_steps.Checkpoints(tmp_path / 'c', 4)
  saved.save(state, {})
  for _ in range(3):
    state = jax.block_until_ready(go_on(state))
  saved.close()
  again = kept_steps.Checkpoints(tmp_path / 'c', 4)
  assert_equal(again.restore(4, state, {}), want)
  again.close()
  assert float(state['params']['w0'][0]) == 3


def adapter_program() -> compiled_lib.Program:
  return compiled(LORA, HELD, OPTIMIZER)


def test_adapters_alone_are_trained_kept_and_saved(tmp_path):
  p, frozen = adapter_program(), decoder.init(MODEL, 0)
  before = jax.tree.map(np.array, frozen)
  state = start = p.init(train_step.fresh_adapters(MODEL, LORA, 0))
  fresh = jax.tree.map(np.array, start['params'])
  # Of each of the three targets a and b, their two moments, and AdamW's count.
  assert state['params'].keys() == {decoder.ADAPTERS}
  sizes = [x.size for x in jax.tree.leaves(state['params'])]
  assert len(sizes) == 6
  assert sum(x.size for x in jax.tree.leaves(state['opt_state'])) < 2 * sum(sizes) + 4
  for first in range(0, 4, 2):
    state, _ = p.run(state, frozen, HYPER, batches(first))
  assert_equal(frozen, before)
  for name in LORA.targets:
    for part in 'ab':
      now, then = (
        x[decoder.ADAPTERS].weights[name][part] for x in (state['params'], fresh)
      )
      assert np.all(np.any(now != then, axis=(1, 2))), (name, part)  # in each layer
  saved = kept_steps.Checkpoints(tmp_path / 'c', 4)
  saved.save(state, {})
  saved.close()
  with ocp.StandardCheckpointer() as reader:
    kept = reader.restore((tmp_path / 'c' / '4' / 'params').resolve())
  assert sorted(x.size for x in jax.tree.leaves(kept)) == sorted(sizes)


def test_n_steps_with_adapters_are_k_steps_restore_and_the_rest(tmp_path):
  p, frozen = adapter_program(), decoder.init(MODEL, 0)
  fresh = lambda seed: p.init(train_step.fresh_adapters(MODEL, LORA, seed))
  whole, kl = fresh(0), []
  saved = kept_steps.Checkpoints(tmp_path / 'c', 4)
  for first in range(0, 8, 2):
    if first == 4:
      saved.save(whole, {'data_seed': 5})
    whole, metrics = p.run(whole, frozen, HYPER, batches(first))
    kl.append(float(metrics['behavior_kl'].mean()))
  saved.close()
  # To the model without them; a warm-up begins at a rate of 0, so two steps see it.
  assert kl[0] == 0 < min(kl[1:])
  again = kept_steps.Checkpoints(tmp_path / 'c', 4)
  resumed = again.restore(4, fresh(9), {'data_seed': 5})
  params = again.restore_params(4, train_step.fresh_adapters(MODEL, LORA, 9))
  again.close()
  assert_equal(params, resumed['params'])
  for first in range(int(resumed['step']), 8, 2):
    resumed, _ = p.run(resumed, frozen, HYPER, batches(first))
  assert_equal(whole, resumed)


def split_losses(data: int, fsdp: int, tensor: int) -> list[float]:
  """Losses on a mesh of three axes, each followed by the parts that a device holds."""
  mesh = sharding.make_mesh(schema.Mesh(data=data, fsdp=fsdp, tensor=tensor))
  model = dataclasses.replace(MODEL, vocab_size=24)
  found = []
  for low_rank, objectives in ((None, EVERY), (LORA, HELD)):
    settings = compiled_lib.settings(
      model, low_rank, objectives, OPTIMIZER, LOOP.steps, 1
    )
    p = compiled_lib.program(settings, mesh)
    base = sharding.put_params(mesh, decoder.init(model, 0))
    adapters = train_step.fresh_adapters(model, low_rank, 0)
    state = p.init(adapters or base)
    held = {'state': state, 'frozen': base if adapters else {}}
    parts = jax.tree.map(lambda x: x.addressable_shards[0].data.size / x.size, held)
    for first in range(0, 8, 2):
      batch = jax.device_put(batches(first), p.batch_sharding)
      state, metrics = p.run(state, held['frozen'], HYPER, batch)
      found.append(float(metrics['loss'].mean()))
    layers = (parts['frozen'] or parts['state']['params'])['layers']
    found += [layers['mlp']['up']['kernel'], layers['attention']['out']['kernel']]
    if adapters:
      moments = parts['state']['opt_state'][1][0].mu[decoder.ADAPTERS].weights
      found += [moments['q']['b'], moments['down']['a'], moments['down']['b']]
  return found


def test_eight_devices_give_the_losses_of_one():
  """Rows apart alone, and a mesh of three axes."""
  code = 'import json, jax; from tests.training import test_train_step as t; '
  code += 'found = [t.split_losses(8, 1, 1), t.split_losses(2, 2, 2)]; '
  code += 'print(json.dumps([jax.device_count(), *found]))'
  devices, rows, three = json.loads(command.on_devices(8, code))
  assert devices == 8 and {*rows[4:6], *rows[10:]} == {1}
  # Weights over fsdp and tensor; of the adapters what goes into features or comes out.
  assert three[4:6] == three[10:12] == [1 / 4, 1 / 4]
  assert three[12:] == [1 / 4, 1 / 4, 1 / 2]
  losses, alone = lambda x: x[:4] + x[6:10], split_losses(1, 1, 1)
  for found in (rows, three):
    np.testing.assert_allclose(losses(found), losses(alone), rtol=1e-5)
