"""Attention as it is computed is attention."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coupling.model import attention

B = 3


@pytest.mark.parametrize('length', [1, 128, 300])
@pytest.mark.parametrize('groups', [1, 3])
def test_attention_in_blocks_is_attention(length, groups):
  """As JAX's own, of all queries at once; gradients too."""
  rng = np.random.default_rng(length)
  K, H = 2, 8
  q_BxTxNxH = rng.normal(size=(B, length, K * groups, H)).astype(np.float32)
  k_BxTxKxH, v_BxTxKxH = rng.normal(size=(2, B, length, K, H)).astype(np.float32)
  mask_BxTxT = np.tril(rng.random((B, length, length)) < 0.5)
  mask_BxTxT |= np.eye(length, dtype=bool)

  def blocks(q, k, v):
    seen = attention.Seen(k.transpose(0, 2, 3, 1), v.swapaxes(1, 2))
    return attention.attend_causally(q * H**-0.5, seen, mask_BxTxT)

  def whole(q, k, v):
    return jax.nn.dot_product_attention(q, k, v, mask=mask_BxTxT[:, None])

  def fused(q, k, v):
    return attention.attend_fused(q * H**-0.5, k, v, mask_BxTxT, implementation='xla')

  def with_gradients(f):
    total = lambda *x: jnp.sum(jnp.sin(f(*x)))
    return jax.jit(lambda *x: (f(*x), jax.grad(total, (0, 1, 2))(*x)))

  inputs = q_BxTxNxH, k_BxTxKxH, v_BxTxKxH
  want = with_gradients(whole)(*inputs)
  # Gradients are sums of hundreds of terms, some above 10: a part of their own size.
  same = functools.partial(np.testing.assert_allclose, atol=1e-5, rtol=1e-5)
  for f in (blocks, fused):
    jax.tree.map(same, with_gradients(f)(*inputs), want)
