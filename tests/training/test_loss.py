"""Loss terms against NumPy in float64: values, gradients, masks, additivity."""

from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coupling.elicit import behavior
from coupling.training import loss

B, C, V, K = 5, 2, 7, 4
DIRECTIONS = ('forward', 'reverse')
OPTIONS_BxK = np.array(
  [[0, 3, 5, 6], [2, 1, -1, -1], [6, 0, 4, -1], [4, -1, -1, -1], [1, 2, 3, 4]]
)
MASK_B = np.array([1, 1, 0, 1, 1], bool)
token_xent = jax.jit(loss.token_xent)


def behavior_kl(logits_BxV, reference_BxV, mask_B, direction):
  """Of one position a row."""
  one = (logits_BxV[:, None], reference_BxV[:, None], mask_B[:, None])
  return _behavior_kl(*one, direction)


_behavior_kl = jax.jit(loss.behavior_kl, static_argnums=3)


def logits(seed, *shape):
  return 2 * np.random.default_rng(seed).normal(size=shape)


def log_softmax64(x):
  return x - np.log(np.sum(np.exp(x), axis=-1, keepdims=True))


def kl64(p_S, q_S):
  """KL(p || q) of two log-probability vectors, term by term."""
  return sum(np.exp(p) * (p - q) for p, q in zip(p_S, q_S))


def options_of(row_K):
  return row_K[row_K >= 0]


def test_token_xent_by_hand():
  logits_BxCxV = logits(0, B, C, V)
  target_BxC = np.arange(B * C).reshape(B, C) % V
  mask_BxC = np.array([[1, 1], [1, 0], [0, 0], [0, 1], [1, 1]])
  want = -sum(
    log_softmax64(logits_BxCxV[b, c])[target_BxC[b, c]]
    for b, c in zip(*np.nonzero(mask_BxC))
  )
  total, count = token_xent(logits_BxCxV, target_BxC, mask_BxC)
  assert (float(total), float(count)) == (pytest.approx(want, rel=1e-5), 6)
  same = token_xent(logits_BxCxV, target_BxC, mask_BxC.astype(bool))
  assert same == (total, count)


def test_token_xent_gradient_is_softmax_minus_one_hot():
  logits_BxCxV = logits(1, B, C, V)
  target_BxC = np.arange(B * C).reshape(B, C) % V
  mask_BxC = np.arange(B * C).reshape(B, C) % 3 > 0
  grad = jax.grad(lambda x: token_xent(x, target_BxC, mask_BxC)[0])(
    jnp.asarray(logits_BxCxV, jnp.float32)
  )
  want = np.exp(log_softmax64(logits_BxCxV)) - np.eye(V)[target_BxC]
  np.testing.assert_allclose(grad, want * mask_BxC[..., None], atol=1e-6)


@pytest.mark.parametrize('direction', DIRECTIONS)
def test_behavior_kl_over_the_vocabulary_by_hand(direction):
  logits_BxV, reference_BxV = logits(2, B, V), log_softmax64(logits(3, B, V))
  pairs = zip(reference_BxV[MASK_B], log_softmax64(logits_BxV)[MASK_B])
  want = sum(kl64(*(x if direction == 'forward' else x[::-1])) for x in pairs)
  total, count = behavior_kl(logits_BxV, reference_BxV, MASK_B, direction)
  assert (float(total), float(count)) == (pytest.approx(want, rel=1e-5), 4)


def on_options(logits_BxV, reference_BxV, direction):
  """The KL over the options, as training computes it."""
  reference_BxK = jax.nn.log_softmax(behavior.restrict(reference_BxV, OPTIONS_BxK))
  logits_BxK = behavior.restrict(logits_BxV, OPTIONS_BxK)
  return behavior_kl(logits_BxK, reference_BxK, MASK_B, direction)


@pytest.mark.parametrize('direction', DIRECTIONS)
def test_behavior_kl_over_the_options_by_hand(direction):
  """Value and gradient; padded options count for nothing and get no gradient."""
  logits_BxV, reference_BxV = logits(4, B, V), logits(5, B, V)
  total_of = lambda x: on_options(x, jnp.float32(reference_BxV), direction)[0]
  total, grad_BxV = jax.jit(jax.value_and_grad(total_of))(jnp.float32(logits_BxV))
  want, want_BxV = 0.0, np.zeros((B, V))
  for b in np.flatnonzero(MASK_B):
    columns = options_of(OPTIONS_BxK[b])
    p = log_softmax64(reference_BxV[b, columns])
    q = log_softmax64(logits_BxV[b, columns])
    if direction == 'forward':
      want += kl64(p, q)
      want_BxV[b, columns] = np.exp(q) - np.exp(p)
    else:
      want += kl64(q, p)
      want_BxV[b, columns] = np.exp(q) * (q - p - kl64(q, p))
  assert float(total) == pytest.approx(want, rel=1e-5)
  assert np.all(np.isfinite(grad_BxV))
  np.testing.assert_allclose(grad_BxV, want_BxV, atol=1e-5)
  assert np.abs(want_BxV).max() > 0.1


@given(
  seed=st.integers(0, 2**32 - 1),
  mask_B=hnp.arrays(bool, B),
  split_B=hnp.arrays(bool, B),
  direction=st.sampled_from(DIRECTIONS),
)
@settings(max_examples=30, deadline=None)
def test_sums_and_counts_add_up_over_any_split(seed, mask_B, split_B, direction):
  logits_BxCxV, target_BxC = logits(seed, B, C, V), np.arange(B * C).reshape(B, C) % V
  reference_BxV = log_softmax64(logits(seed + 1, B, V))
  mask_BxC = np.stack([mask_B, ~mask_B | split_B], axis=1)

  def terms(rows):
    first_BxV = logits_BxCxV[rows, 0]
    kl = behavior_kl(first_BxV, reference_BxV[rows], mask_B[rows], direction)
    xent = token_xent(logits_BxCxV[rows], target_BxC[rows], mask_BxC[rows])
    return np.array([xent, kl])

  parts = terms(split_B) + terms(~split_B)
  np.testing.assert_allclose(parts, terms(np.ones(B, bool)), rtol=1e-5, atol=1e-6)
  np.testing.assert_array_equal(parts[:, 1], [mask_BxC.sum(), mask_B.sum()])


floats = st.floats(-8, 8, width=32)


@given(
  hnp.arrays(np.float32, (B, V), elements=floats),
  hnp.arrays(np.float32, (B, V), elements=floats),
  st.sampled_from(DIRECTIONS),
)
@settings(max_examples=50, deadline=None)
def test_kl_is_zero_for_equals_and_positive_for_others(first, second, direction):
  reference = log_softmax64(first.astype(np.float64))
  for b in range(B):
    one = np.arange(B) == b
    shifted = behavior_kl(first + 3, reference, one, direction)[0]
    assert abs(float(shifted)) < 1e-5  # logits are defined up to a constant
    kl = float(behavior_kl(second, reference, one, direction)[0])
    assert kl > -1e-5
    model = log_softmax64(second[b].astype(np.float64))
    distance = np.abs(np.exp(model) - np.exp(reference[b])).sum()
    assert kl > distance**2 / 2 - 1e-4  # Pinsker


@pytest.mark.parametrize('direction', DIRECTIONS)
def test_masked_rows_do_not_matter(direction):
  logits_BxCxV, reference_BxV = logits(7, B, C, V), log_softmax64(logits(8, B, V))
  mask_BxC = np.stack([MASK_B, ~MASK_B], axis=1)
  other_BxCxV = np.where(mask_BxC[..., None], logits_BxCxV, logits(9, B, C, V))
  target_BxC = np.ones((B, C), int)
  xent = [token_xent(x, target_BxC, mask_BxC) for x in (logits_BxCxV, other_BxCxV)]
  np.testing.assert_array_equal(*np.array(xent))
  kl = [
    behavior_kl(x[:, 0], reference_BxV, MASK_B, direction)
    for x in (logits_BxCxV, other_BxCxV)
  ]
  np.testing.assert_array_equal(*np.array(kl))
  unmasked = behavior_kl(other_BxCxV[:, 0], reference_BxV, MASK_B | True, direction)
  assert unmasked[0] > kl[0][0] and unmasked[1] == B
