"""A mixture of experts against a float64 loop over tokens; its gradients, its cost."""

import dataclasses

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coupling.config import schema
from coupling.model import decoder
from coupling.model import layers
from coupling.model import lora
from coupling.model import sites
from coupling.model import stack
from coupling.model.architecture import DecoderConfig

E, K = 5, 2
CONFIG = DecoderConfig(
  vocab_size=11,
  width=8,
  depth=3,
  num_heads=2,
  num_kv_heads=2,
  head_dim=4,
  mlp_dim=6,
  num_experts=E,
  experts_per_token=K,
)
X_BxTxD = np.random.default_rng(0).normal(size=(3, 7, 8)).astype(np.float32)


def mixture(config):
  """A layer's graph and its weights, which are not small."""
  graphdef, state = nnx.split(layers.Mixture(config, nnx.Rngs(0)))
  return graphdef, jax.tree.map(lambda x: 3 * x, state)


def outputs(graphdef, state, x_BxTxD):
  return nnx.merge(graphdef, state)(x_BxTxD, sites.NO_HOOKS)


@pytest.mark.parametrize('normed', [True, False])
def test_a_token_has_its_likeliest_experts_and_no_others(normed):
  graphdef, state = mixture(dataclasses.replace(CONFIG, norm_expert_shares=normed))
  found_BxTxD = jax.jit(outputs, static_argnums=0)(graphdef, state, X_BxTxD)
  w = jax.tree.map(lambda x: np.asarray(x, np.float64), nnx.to_pure_dict(state))
  chosen = set()
  for found_D, x_D in zip(found_BxTxD.reshape(-1, 8), X_BxTxD.reshape(-1, 8)):
    share_E = np.exp(x_D @ w['router']['kernel'])
    share_E /= share_E.sum()
    top = np.argsort(-share_E)[:K]
    total = share_E[top].sum() if normed else 1
    want_D = 0
    for e in top:
      gate, up, down = (w['experts'][x]['kernel'][e] for x in ('gate', 'up', 'down'))
      gate_F = x_D @ gate
      inner_F = gate_F / (1 + np.exp(-gate_F)) * (x_D @ up)
      want_D = want_D + share_E[e] / total * (inner_F @ down)
    np.testing.assert_allclose(found_D, want_D, atol=1e-5, rtol=1e-5)
    chosen.update(top.tolist())
  assert chosen == {*range(E)}  # each is somewhere in use


def test_what_overflows_in_other_experts_is_no_matter():
  """And what overflows in a token's own is NaN, or infinite."""
  graphdef, state = mixture(CONFIG)
  state['router']['kernel'][...] = jnp.eye(8, E)  # the first five numbers of x choose
  state['experts']['down']['kernel'][...] *= jnp.where(jnp.arange(E) == 4, jnp.inf, 1)[
    :, None, None
  ]
  x_BxTxD = X_BxTxD.copy()
  x_BxTxD[..., :5] = [2, 1, 0, 0, 0]
  x_BxTxD[0, 0, 4] = 3
  found_BxTxD = outputs(graphdef, state, x_BxTxD)
  finite_BxT = np.isfinite(found_BxTxD).all(-1)
  assert not finite_BxT[0, 0] and finite_BxT.sum() == finite_BxT.size - 1


def test_gradients_are_finite_where_other_experts_overflow():
  graphdef, state = mixture(CONFIG)
  state['router']['kernel'][...] = jnp.eye(8, E)
  for name in ('gate', 'up'):  # finite, as all weights are
    kernel_ExDxF = state['experts'][name]['kernel']
    kernel_ExDxF[...] = kernel_ExDxF[...].at[4].set(1e25)
  x_BxTxD = X_BxTxD.copy()
  x_BxTxD[..., :5] = [2, 1, 0, 0, 0]
  assert not np.isfinite(
    outputs(graphdef, state, x_BxTxD + 3 * np.eye(8, dtype=np.float32)[4])
  ).any()
  loss = lambda state, x: (outputs(graphdef, state, x) ** 2).sum()
  slopes = jax.grad(loss, argnums=(0, 1))(state, x_BxTxD)
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(slopes))
  assert np.any(slopes[0]['router']['kernel'][...])


def test_runs_side_by_side_are_those_one_by_one():
  """As patching has them, by vmap."""
  graphdef, state = mixture(CONFIG)
  run = lambda x_BxTxD: outputs(graphdef, state, x_BxTxD)
  some_RxBxTxD = np.stack([X_BxTxD, -X_BxTxD])
  want_RxBxTxD = np.stack([run(x) for x in some_RxBxTxD])
  found_RxBxTxD = jax.vmap(run)(some_RxBxTxD)
  np.testing.assert_allclose(found_RxBxTxD, want_RxBxTxD, atol=1e-5, rtol=1e-5)


def gradient(config, params):
  tokens_BxT = np.random.default_rng(1).integers(11, size=(2, 6))

  def loss(params):
    hidden_BxTxD = decoder.apply(config, params, tokens_BxT).hidden_BxCxD
    return decoder.unembed(config, params, hidden_BxTxD)[..., 3].sum()

  return jax.jit(jax.grad(loss))(params), loss


@pytest.mark.parametrize('remat', ['none', *stack.REMAT])
def test_gradients_are_those_of_differences(remat):
  """Along a direction of all weights, at which no token changes its experts."""
  config = dataclasses.replace(CONFIG, remat=remat, norm_expert_shares=True)
  rng = np.random.default_rng(2)
  draw = lambda x: jnp.asarray(rng.normal(size=x.shape, scale=0.4), x.dtype)
  params = jax.tree.map(draw, decoder.abstract(config))
  along = jax.tree.map(draw, params)
  slopes, loss = gradient(config, params)
  found = sum(jax.tree.leaves(jax.tree.map(lambda x, y: (x * y).sum(), slopes, along)))
  step = 1e-3
  ahead, behind = (
    float(loss(jax.tree.map(lambda x, y, s=s: x + s * y, params, along)))
    for s in (step, -step)
  )
  assert float(found) == pytest.approx((ahead - behind) / (2 * step), rel=2e-2)
  for name in ('router', 'experts'):
    assert all(jnp.any(x) for x in jax.tree.leaves(slopes['layers']['mlp'][name]))


def test_experts_take_no_adapters():
  with pytest.raises(
    schema.ConfigError, match=r"lora.targets=.*5 experts .* \('q', 'k', 'v', 'o'\)"
  ):
    lora.init(CONFIG, rank=2, alpha=1.0, seed=0)
  lora.init(CONFIG, rank=2, alpha=1.0, seed=0, targets=('q', 'k', 'v', 'o'))
