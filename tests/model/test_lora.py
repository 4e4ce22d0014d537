"""Low-rank adapters: against merged weights, and against `peft` in both directions."""

import functools
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy
import torch

from coupling.checkpoints import families, kept_steps, peft_format
from coupling.model import attention, decoder, lora
from coupling.model.sites import SITES
from tests import small_checkpoints

RANK, ALPHA = 5, 12.0
TOKENS_BxT = np.random.default_rng(0).integers(
  small_checkpoints.VOCABULARY, size=(3, 30)
)
VALID_BxT = np.arange(30) >= np.array([[0], [4], [9]])
MODULES = {
  'q': 'q_proj',
  'k': 'k_proj',
  'v': 'v_proj',
  'o': 'o_proj',
  'gate': 'gate_proj',
  'up': 'up_proj',
  'down': 'down_proj',
}
logits = jax.jit(small_checkpoints.logits, static_argnums=0)


@functools.cache
def imported(name):
  return small_checkpoints.imported(small_checkpoints.saved(name)[0])


def trained(config, targets=tuple(MODULES), seed=0, rank=RANK):
  """Adapters that do something: B is not zero."""
  shapes = lora.abstract(config, rank=rank, alpha=ALPHA, targets=targets)
  rng = np.random.default_rng(seed)
  draw = lambda x: jnp.asarray(rng.normal(size=x.shape, scale=0.2), x.dtype)
  return jax.tree.map(draw, shapes)


def test_without_adapters_nothing_is_computed_for_them():
  """Products of a scanned layer, of attention, and of the head: 7 + 2 + 1."""
  config, params = imported('qwen3')
  products = lambda adapters: str(
    jax.make_jaxpr(functools.partial(small_checkpoints.logits, config))(
      params, TOKENS_BxT, VALID_BxT, adapters
    )
  ).count('dot_general')
  assert products(None) == 10
  assert products(trained(config)) == 10 + 2 * 7


def test_fresh_adapters_change_no_bit():
  config, params = imported('qwen3')
  base = logits(config, params, TOKENS_BxT, VALID_BxT)
  fresh = lora.init(config, rank=RANK, alpha=ALPHA, seed=0)
  found = logits(config, params, TOKENS_BxT, VALID_BxT, fresh)
  np.testing.assert_array_equal(found, base)
  other = logits(config, params, TOKENS_BxT, VALID_BxT, trained(config))
  assert np.abs(other - base).max() > 0.1


@pytest.mark.parametrize('target', MODULES)
def test_each_target_is_what_merging_it_gives(target):
  config, params = imported('qwen2')
  adapters = trained(config, (target,))
  merged = lora.merge(params, adapters)
  want = logits(config, merged, TOKENS_BxT, VALID_BxT)
  found = logits(config, params, TOKENS_BxT, VALID_BxT, adapters)
  assert small_checkpoints.worst_relative(found, np.asarray(want), VALID_BxT) < 2e-5
  base = np.asarray(logits(config, params, TOKENS_BxT, VALID_BxT))
  assert small_checkpoints.worst_relative(found, base, VALID_BxT) > 1e-2
  changed = [
    jax.tree_util.keystr(path)
    for (path, x), y in zip(
      jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(merged)
    )
    if x is not y
  ]
  assert len(changed) == 1  # and what is not adapted is the same array, not a copy


def test_a_high_rank_is_multiplied_out_first():
  """Of rank 100 there is one product more a layer for many inputs, not two."""
  config, params = imported('qwen3')
  assert max(config.width, config.mlp_dim) < 100
  adapters = trained(config, rank=100)
  merged = lora.merge(params, adapters)
  want = logits(config, merged, TOKENS_BxT, VALID_BxT)
  found = logits(config, params, TOKENS_BxT, VALID_BxT, adapters)
  assert small_checkpoints.worst_relative(found, np.asarray(want), VALID_BxT) < 2e-4
  loss = lambda a: logits(config, params, TOKENS_BxT, VALID_BxT, a).std()
  few = trained(config, rank=RANK)
  flops = {
    x.rank: jax.jit(jax.grad(loss)).lower(x).cost_analysis()['flops']
    for x in (few, adapters)
  }
  assert flops[100] < 3 * flops[RANK]  # not 100 / RANK times as many


def test_merging_by_hand():
  config, params = imported('qwen2')
  adapters = trained(config)
  a_IxR, b_RxO = (np.asarray(adapters.weights['o'][x][1]) for x in 'ab')
  want = np.asarray(params['layers']['attention']['out']['kernel'][1])
  want = want + a_IxR @ b_RxO * (12 / 5)
  found = lora.merge(params, adapters)['layers']['attention']['out']['kernel'][1]
  np.testing.assert_allclose(found, want, atol=1e-6)


def test_alpha_is_no_parameter():
  config, params = imported('qwen2')
  adapters = trained(config, ('q', 'down'))
  assert len(jax.tree.leaves(adapters)) == 4
  assert adapters.scale == ALPHA / RANK
  louder = lora.Adapters(adapters.weights, 2 * ALPHA)
  with pytest.raises(ValueError):
    jax.tree.map(jnp.add, adapters, louder)


def test_a_checkpoint_of_adapters_comes_back_with_its_alpha(tmp_path):
  config, _ = imported('qwen2')
  adapters = trained(config)
  kept_steps.save_params(tmp_path / 'a', adapters)
  again = kept_steps.load_params(tmp_path / 'a', adapters)
  assert isinstance(again, lora.Adapters)
  assert again.alpha == ALPHA
  jax.tree.map(np.testing.assert_array_equal, again, adapters)


def test_init_is_peft_s_and_a_function_of_the_seed():
  config, _ = imported('qwen2')
  first, again, other = (
    lora.init(config, rank=64, alpha=ALPHA, seed=seed) for seed in (3, 3, 4)
  )
  jax.tree.map(np.testing.assert_array_equal, first, again)
  assert not np.array_equal(first.weights['q']['a'], other.weights['q']['a'])
  for low_rank in first.weights.values():
    assert not low_rank['b'].any()
    a_LxIxR = np.asarray(low_rank['a'])
    bound = a_LxIxR.shape[1] ** -0.5
    assert 0.98 * bound < np.abs(a_LxIxR).max() <= bound
    assert abs(a_LxIxR.std() / (bound / 3**0.5) - 1) < 0.05
    assert not np.array_equal(a_LxIxR[0], a_LxIxR[1])
  some = lora.init(config, rank=64, alpha=ALPHA, targets=('q',), seed=3)
  np.testing.assert_array_equal(some.weights['q']['a'], first.weights['q']['a'])
  shapes = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
  there = lora.abstract(config, rank=64, alpha=ALPHA)
  assert shapes(there) == shapes(first)
  reference = torch.nn.Linear(24, 64, bias=False)  # as peft makes A
  torch.nn.init.kaiming_uniform_(reference.weight, a=5**0.5)
  assert reference.weight.abs().max() <= 24**-0.5


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'targets': ('q', 'head')}, r"lora.targets=.*'head'.*choose from .*'down'"),
    ({'targets': ()}, r'lora.targets=\(\): .*one or more'),
    ({'rank': 0}, 'lora.rank=0'),
  ],
)
def test_what_cannot_be_adapted_is_refused(options, message):
  config, _ = imported('qwen2')
  with pytest.raises(ValueError, match=message):
    lora.init(config, **{'rank': 2, 'alpha': 1.0, 'seed': 0} | options)


# --- peft.


@pytest.fixture
def exported(tmp_path):
  adapters = trained(imported('qwen3')[0], ('q', 'v'))
  peft_format.save(tmp_path / 'a', adapters)
  return tmp_path / 'a'


def test_adapters_that_do_not_fit_are_listed_at_once(exported):
  path = exported / 'adapter_model.safetensors'
  data = safetensors_numpy.load_file(path)
  name = 'base_model.model.model.layers.{}.self_attn.{}_proj.lora_{}.weight'
  del data[name.format(1, 'v', 'A')]
  data[name.format(2, 'q', 'B')] = np.zeros((2, RANK), 'f4')
  data[name.format(3, 'q', 'B')] = np.zeros((64, RANK), 'f4')
  safetensors_numpy.save_file(data, path)
  with pytest.raises(families.CheckpointError) as e:
    peft_format.load(exported, imported('qwen3')[0])
  assert str(e.value).startswith(f'{path}: tensors do not fit.')
  layers = name.format('*', '{}', '{}')
  for problem in (
    f'{layers.format("v", "A")}: missing, [5, 24] expected (layers 1)',
    f'{layers.format("q", "B")}: has the shape [2, 5], [64, 5] expected (layers 2)',
    f'{layers.format("q", "B")}: not expected (layers 3)',
  ):
    assert problem in str(e.value)


def test_an_adapter_without_its_files_is_refused(exported):
  config, _ = imported('qwen3')
  (exported / 'adapter_model.safetensors').unlink()
  with pytest.raises(families.CheckpointError, match='adapter_model.safetensors: miss'):
    peft_format.load(exported, config)
  shutil.rmtree(exported)
  with pytest.raises(families.CheckpointError, match='adapter_config.json: missing'):
    peft_format.load(exported, config)


def test_adapters_are_scanned_patched_and_cached_like_the_base():
  """Read sites, and a cache, with adapters on: those of the merged model."""
  config, params = imported('mistral')
  adapters = trained(config)
  mask_BxTxT = attention.causal_mask(VALID_BxT)

  @jax.jit
  def run(params, adapters):
    return decoder.apply(
      config,
      params | ({} if adapters is None else {decoder.ADAPTERS: adapters}),
      TOKENS_BxT,
      VALID_BxT,
      mask_BxTxS=mask_BxTxT,
      keep=True,
      read=SITES,
    )

  found, want = run(params, adapters), run(lora.merge(params, adapters), None)
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, atol=2e-4, rtol=2e-4), found, want
  )
