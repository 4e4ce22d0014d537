"""Squares, scores and sums beyond float32 give NaN: never zeros, which look finite."""

import dataclasses

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coupling.config import schema
from coupling.model import attention, decoder, layers
from coupling.model.architecture import DecoderConfig
from coupling.runtime import finite
from coupling.training import train_loop, train_step
from tests.training import small_trainings, test_train_step

pytestmark = pytest.mark.usefixtures('few_optimizations')

PLAIN = DecoderConfig(
  vocab_size=16, width=32, depth=2, num_heads=4, num_kv_heads=2, head_dim=8, mlp_dim=48
)
KINDS = {
  'plain': {},
  'qk_norm': dict(qk_norm=True),
  'offset': dict(offset_norms=True, post_norms=True, activation='gelu_tanh'),
  'relu': dict(activation='relu', gated_mlp=False),
  'bfloat16': dict(dtype='bfloat16'),
}


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('offset', [False, True])
def test_a_norm_is_nan_where_a_square_overflows(offset, dtype):
  """Elsewhere it is x / rms, computed in float64."""
  config = dataclasses.replace(PLAIN, offset_norms=offset, dtype=dtype)
  norm = layers.make_norm(config, 32, nnx.Rngs(0))
  x = np.array(jax.random.normal(jax.random.key(0), (7, 32), dtype), np.float32)
  x[2] *= 3e19  # all of its squares overflow
  x[3, 5] = -2e19  # one does
  x[4] *= 1e18  # none does, but they are near
  x[5, 0] = np.inf
  found = np.asarray(norm(jnp.asarray(x, dtype)), np.float32)
  bad = [2, 3, 5]
  assert np.isnan(found[bad]).all()
  good = np.delete(x.astype(np.float64), bad, axis=0)
  rms = np.sqrt(np.mean(good**2, axis=1, keepdims=True) + config.norm_eps)
  tolerance = 1e-6 if dtype == 'float32' else 1e-2
  np.testing.assert_allclose(np.delete(found, bad, axis=0), good / rms, tolerance)


def test_a_norm_is_that_of_flax_bit_by_bit_with_its_gradient():
  norm = layers.make_norm(PLAIN, 32, nnx.Rngs(0))
  theirs = nnx.RMSNorm(32, epsilon=PLAIN.norm_eps, dtype='float32', rngs=nnx.Rngs(0))
  x = jax.random.normal(jax.random.key(0), (5, 32))
  for f in (lambda norm, x: norm(x), jax.grad(lambda norm, x: (norm(x) ** 3).sum(), 1)):
    np.testing.assert_array_equal(jax.jit(f)(norm, x), jax.jit(f)(theirs, x))


@pytest.mark.parametrize('low', [-2.5e38, -np.inf])
def test_scores_below_what_hides_do_not_let_the_hidden_be_seen(low):
  """A query whose only visible score is lower than that of hidden keys."""
  q_BxCxNxH = jnp.ones((1, 1, 1, 2))
  k_BxKxHxS = jnp.full((1, 1, 2, 3), low / 2).at[..., 2].set(0.0)
  v_BxKxSxH = jnp.arange(6.0).reshape(1, 1, 3, 2)
  mask_BxCxS = jnp.array([[[True, False, False]]])
  found = attention.attend(
    q_BxCxNxH, [attention.Seen(k_BxKxHxS, v_BxKxSxH)], mask_BxCxS
  )
  assert np.isnan(found).all()
  hidden = attention.Seen(k_BxKxHxS.at[..., 0].set(1.0), v_BxKxSxH)
  np.testing.assert_array_equal(
    attention.attend(q_BxCxNxH, [hidden], mask_BxCxS)[0, 0, 0], [0.0, 1.0]
  )


def test_activations_tell_of_minus_infinity():
  x = jnp.array([-jnp.inf, -1.0, 0.0, 2.0])
  for name, act in layers.ACTIVATIONS.items():
    assert np.isnan(act(x)[0]), name
  np.testing.assert_array_equal(layers.ACTIVATIONS['relu'](x)[1:], [0.0, 0.0, 2.0])


@pytest.mark.parametrize('place', ['up', 'out', 'embedding'])
@pytest.mark.parametrize('kind', KINDS)
def test_weights_that_are_too_large_give_logits_that_are_not_finite(kind, place):
  """And a choice from them is marked: it was the first option of each pair."""
  config = dataclasses.replace(PLAIN, **KINDS[kind])
  params = jax.tree.map(jnp.asarray, decoder.init(config, 0))
  if place == 'embedding':
    params['embed']['embedding'] *= 1e22
  else:
    group = 'mlp' if place == 'up' else 'attention'
    params['layers'][group][place]['kernel'] *= 1e25
    # What is normed before it is added may be of any size.
    if config.post_norms:
      params['layers'][f'{group}_post_norm']['scale'] += 1e21
  tokens = jnp.arange(10).reshape(2, 5)
  hidden = decoder.apply(config, params, tokens).hidden_BxCxD
  logits = decoder.unembed(config, params, hidden)
  assert not np.isfinite(logits).any()
  assert (finite.mark(jnp.argmax(logits, -1), logits) == finite.NOT_FINITE).all()


@pytest.mark.parametrize('rate', [1e12, 1e15, 1e18])
def test_adapters_whose_activations_overflow_have_diverged(tmp_path, rate):
  """At the first step that has them; its loss was that of equal logits."""
  model = small_trainings.MODEL
  low_rank = schema.Lora(rank=2, alpha=8.0, targets=('q', 'o', 'up', 'down'))
  optimizer = dataclasses.replace(
    test_train_step.OPTIMIZER, learning_rate=rate, warmup_steps=0
  )
  bad = small_trainings.training(
    tmp_path,
    0,
    optimizer=optimizer,
    low_rank=low_rank,
    params=train_step.fresh_adapters(model, low_rank, seed=0),
    frozen=small_trainings.init(0),
    objectives=small_trainings.objectives(held=0.0, shift=0.0),
  )
  diverged = 'at step 2,.*diverged.*learning_rate'
  with pytest.raises(finite.NonFiniteError, match=diverged):
    train_loop.fit(bad)
