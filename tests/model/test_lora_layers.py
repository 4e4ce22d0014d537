"""Adapters from one layer on: those of all layers, of which the lower add nothing.

The reference has adapters everywhere, with B = 0 below: layers are then one scan, of
which every layer is differentiated.
"""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coupling.config import schema
from coupling.model import decoder, lora, sharding
from coupling.model.architecture import DecoderConfig
from coupling.model.sites import SITES, Patch
from coupling.plan import costs
from coupling.training import compiled, train_step
from tests import command
from tests.training import test_train_step

MODEL = DecoderConfig(
  vocab_size=29,
  width=16,
  depth=4,
  num_heads=4,
  num_kv_heads=2,
  head_dim=8,
  mlp_dim=24,
  embedding_std=0.5,
  window=4,
  full_layers=(1, 2),
)
TRAINED = dataclasses.replace(test_train_step.MODEL, depth=3, vocab_size=24)
TARGETS = ('q', 'v', 'o', 'up', 'down')
TOKENS_BxT = np.random.default_rng(0).integers(MODEL.vocab_size, size=(3, 12))
CLOSE = functools.partial(np.testing.assert_allclose, atol=2e-5, rtol=2e-5)
scanned = pytest.mark.parametrize('scan', [True, False])
from_layer = pytest.mark.parametrize('first', [1, 3])


@functools.cache
def base(config: DecoderConfig = MODEL) -> decoder.Params:
  return decoder.init(config, 0)


def upper(first: int, config: DecoderConfig = MODEL) -> lora.Adapters:
  """Adapters from this layer on that do something: B is not zero."""
  like = lora.abstract(config, rank=2, alpha=3.0, targets=TARGETS, first=first)
  rng = np.random.default_rng(first)
  draw = lambda x: jnp.asarray(rng.normal(size=x.shape, scale=0.3), x.dtype)
  return jax.tree.map(draw, like)


def everywhere(adapters: lora.Adapters, depth: int = MODEL.depth) -> lora.Adapters:
  """Adapters of all layers: those given, and below them what adds nothing."""

  def down(x, fill):
    ends = [(depth - adapters.depth, 0), (0, 0), (0, 0)]
    return jnp.pad(x, ends, constant_values=fill)

  weights = {
    name: {'a': down(x['a'], 0.2), 'b': down(x['b'], 0.0)}
    for name, x in adapters.weights.items()
  }
  return lora.Adapters(weights, adapters.alpha)


@functools.partial(jax.jit, static_argnums=0)
def outputs(config, params, adapters):
  """Of all that a decoder is used for: whole, read, cached, some rows, patched."""
  params = params | {decoder.ADAPTERS: adapters}
  run = functools.partial(decoder.apply, config, params)
  whole = run(TOKENS_BxT, keep=True, read=SITES)
  prefix = run(TOKENS_BxT[:, :8], keep=True)
  mask_BxTxS = np.tril(np.ones((1, 12, 12), bool))[:, 8:]
  cached = run(
    TOKENS_BxT[:, 8:],
    positions_BxT=np.arange(8, 12)[None],
    longest=12,
    mask_BxTxS=mask_BxTxS,
    caches=[prefix.cache],
    keep=True,
  )
  rows = run(TOKENS_BxT, rows_BxC=np.array([[2, 11]] * 3), keep=True)
  rng = np.random.default_rng(1)
  patch = {
    site: Patch(rng.normal(size=x.shape), rng.random(x.shape[:3]) < 0.2)
    for site, x in whole.activations.items()
  }
  return whole, cached, rows, run(TOKENS_BxT, patch=patch)


@functools.cache
def of_all_layers(first):
  return outputs(MODEL, base(), everywhere(upper(first)))


@scanned
@from_layer
def test_outputs_are_those_of_all_layers_of_which_the_lower_add_nothing(first, scan):
  config = dataclasses.replace(MODEL, scan_layers=scan)
  found = outputs(config, base(), upper(first))
  want = of_all_layers(first)
  jax.tree.map(CLOSE, found, want)
  residual_LxBxTxD = want[0].activations['residual']
  plain = decoder.apply(MODEL, base(), TOKENS_BxT, read=('residual',))
  moved_L = np.abs(residual_LxBxTxD - plain.activations['residual']).max((1, 2, 3))
  assert not moved_L[: first + 1].any()  # what enters the first adapted layer, too
  assert moved_L[first + 1 :].all() and np.any(want[0].leaving_BxCxD != plain[1])


@scanned
@pytest.mark.parametrize('cut, first', [(1, 3), (3, 3), (3, 1)])
def test_layers_go_on_from_what_enters_them(cut, first, scan):
  config = dataclasses.replace(MODEL, scan_layers=scan)
  params = base() | {decoder.ADAPTERS: upper(first)}
  entering_BxTxD = None
  for begin, end in ((0, cut), (cut, MODEL.depth)):
    some = decoder.some_layers(config, params, begin, end)
    assert (decoder.ADAPTERS in some[1]) == (end > first)
    found = decoder.apply(*some, TOKENS_BxT, entering_BxTxD=entering_BxTxD)
    entering_BxTxD = found.leaving_BxCxD
  CLOSE(found.hidden_BxCxD, of_all_layers(first)[0].hidden_BxCxD)


@from_layer
def test_merging_leaves_the_lower_weights(first):
  adapters = upper(first)
  merged = lora.merge(base(), adapters)
  want = lora.merge(base(), everywhere(adapters))
  jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-6), merged, want)
  found = decoder.apply(MODEL, merged, TOKENS_BxT).hidden_BxCxD
  CLOSE(found, of_all_layers(first)[0].hidden_BxCxD)


# --- Gradients, and what they cost.


def loss(config, params, adapters, tokens_BxT=TOKENS_BxT):
  params = params | {decoder.ADAPTERS: adapters}
  out = decoder.apply(config, params, tokens_BxT)
  return jnp.mean(jnp.sin(out.leaving_BxCxD))


@pytest.mark.parametrize(
  'remat, first, scan', [('none', 1, True), ('dots', 2, True), ('full', 3, False)]
)
def test_gradients_are_those_of_all_layers(remat, first, scan):
  config = dataclasses.replace(MODEL, scan_layers=scan, remat=remat)
  grad = jax.jit(jax.grad(loss, argnums=2), static_argnums=0)
  found = grad(config, base(), upper(first))
  want = grad(MODEL, base(), everywhere(upper(first)))
  lower = jax.tree.map(lambda x: x[:first], want)
  assert max(float(jnp.abs(x).max()) for x in jax.tree.leaves(lower)) > 1e-3
  jax.tree.map(CLOSE, found, jax.tree.map(lambda x: x[first:], want))


@scanned
@from_layer
def test_a_gradient_costs_the_lower_layers_alone_and_that_of_the_upper(first, scan):
  """Products of matrices, counted: below the first adapters there are no others."""
  config = dataclasses.replace(MODEL, scan_layers=scan)
  params = base() | {decoder.ADAPTERS: upper(first)}
  entering_BxTxD = jnp.ones((*TOKENS_BxT.shape, MODEL.width))

  def part(begin, end, adapters):
    some, held = decoder.some_layers(config, params, begin, end)
    held |= {decoder.ADAPTERS: adapters} if adapters else {}
    out = decoder.apply(some, held, TOKENS_BxT, entering_BxTxD=entering_BxTxD)
    return out.leaving_BxCxD.sum()

  count = lambda f, *x: costs.product_flops(jax.make_jaxpr(f)(*x))
  whole = functools.partial(loss, config, base())
  found = count(jax.grad(whole), upper(first))
  lower = count(lambda: part(0, first, None))
  rest = count(jax.grad(functools.partial(part, first, MODEL.depth)), upper(first))
  assert found == lower + rest
  assert found < count(jax.grad(whole), everywhere(upper(first)))


def memory(config, adapters, tokens: int) -> int:
  """Bytes that a gradient takes beside what it is given and what it returns."""
  tokens_BxT = np.zeros((1, tokens), int)
  grad = jax.jit(jax.grad(loss, argnums=2), static_argnums=0)
  made = grad.lower(config, decoder.abstract(config), adapters, tokens_BxT).compile()
  return made.memory_analysis().temp_size_in_bytes


def test_nothing_is_kept_of_the_lower_layers():
  first, all_layers = (memory(MODEL, upper(x), 256) for x in (3, 0))
  assert first < 0.5 * all_layers


@pytest.mark.parametrize('remat', ['none', 'dots', 'full'])
def test_weights_are_not_copied(remat):
  """Of few tokens they are most of what there is; one layer at a time is read."""
  config = dataclasses.replace(MODEL, width=256, mlp_dim=512, remat=remat)
  stacked = 4 * decoder.num_params(decoder.abstract(config)['layers'])
  assert memory(config, upper(1, config), tokens=2) < stacked / 2


# --- Training.


def trained_from(first: int) -> schema.Lora:
  return schema.Lora(rank=2, alpha=4.0, targets=TARGETS, layers=first)


@pytest.mark.parametrize('first, accumulation', [(1, 2), (2, 1)])
def test_steps_are_those_of_adapters_whose_lower_ones_stay_nothing(first, accumulation):
  form, hyper = train_step.form(test_train_step.HELD), test_train_step.HYPER
  losses = train_step.explanation_losses(TRAINED, form, hyper.beta)

  def on_all_layers(params, batch):
    adapters = everywhere(params[decoder.ADAPTERS], TRAINED.depth)
    return losses.forward(params | {decoder.ADAPTERS: adapters}, batch)

  ends = []
  for one in (losses, losses._replace(forward=on_all_layers)):
    optimizer = train_step.make_optimizer(test_train_step.OPTIMIZER, 8, 1e-2)
    step = functools.partial(
      train_step.train_step, one, hyper.weights, optimizer, accumulation
    )
    step, params = (
      jax.jit(step),
      train_step.fresh_adapters(TRAINED, trained_from(first), 0),
    )
    state = {'params': params, 'opt_state': optimizer.init(params), 'step': 0}
    told = []
    for number in range(4):
      batch = test_train_step.make_batch(number)
      state, metrics = step(base(TRAINED), state, batch)
      told.append(metrics)
    ends.append((state['params'], told))
  jax.tree.map(CLOSE, *ends)
  moved = jax.tree.map(lambda x, y: float(jnp.abs(x - y).max()), ends[0][0], params)
  assert min(jax.tree.leaves(moved)) > 1e-3


def settings(first: int = 1) -> compiled.Settings:
  low_rank, steps = trained_from(first), test_train_step.LOOP.steps
  held, optimizer = test_train_step.HELD, test_train_step.OPTIMIZER
  return compiled.settings(TRAINED, low_rank, held, optimizer, steps, 1)


def fresh(seed: int) -> decoder.Params:
  return train_step.fresh_adapters(TRAINED, trained_from(1), seed)


def run_on_mesh(data: int, fsdp: int, tensor: int) -> list[float]:
  """Losses on this mesh."""
  mesh = sharding.make_mesh(schema.Mesh(data=data, fsdp=fsdp, tensor=tensor))
  p = compiled.program(settings(), mesh)
  state, frozen = p.init(fresh(0)), sharding.put_params(mesh, base(TRAINED))
  found = []
  for first in range(0, 8, 2):
    batch = jax.device_put(test_train_step.batches(first), p.batch_sharding)
    state, metrics = p.run(state, frozen, test_train_step.HYPER, batch)
    found += np.asarray(metrics['loss']).tolist()
  return found


def test_a_mesh_of_three_axes_gives_the_losses_of_one_device():
  code = 'import json; from tests.model import test_lora_layers as t;'
  code += 'print(json.dumps(t.run_on_mesh(1, 2, 2)))'
  found = json.loads(command.on_devices(4, code))
  alone = run_on_mesh(1, 1, 1)
  np.testing.assert_allclose(found, alone, rtol=1e-5)
  assert len(set(alone)) == len(alone)


# --- Adapters as they are made and kept.


@from_layer
def test_a_layer_s_draw_is_that_of_adapters_of_all_layers(first):
  make = functools.partial(lora.init, MODEL, rank=3, alpha=1.0, seed=5)
  found, whole = make(first=first), make()
  assert found.depth == MODEL.depth - first
  want = jax.tree.map(lambda x: x[first:], whole)
  jax.tree.map(np.testing.assert_array_equal, found, want)


@pytest.mark.parametrize('first', [-1, 4, 5])
def test_a_first_layer_that_the_model_does_not_have_is_refused(first):
  with pytest.raises(schema.ConfigError, match=f'lora.layers={first}: .* 0 to 3'):
    lora.init(MODEL, rank=2, alpha=1.0, seed=0, first=first)
