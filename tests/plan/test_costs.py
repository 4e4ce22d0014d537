"""Products of programs against hand counts, and against what XLA says."""

import jax
import jax.numpy as jnp
import pytest

from coupling.plan import costs

A, B, C = 8, 16, 4
X = jax.ShapeDtypeStruct((A, B), jnp.float32)
W = jax.ShapeDtypeStruct((B, B), jnp.float32)
ONE = 2 * A * B * B  # x @ w


def flops(function, *args) -> float:
  return costs.product_flops(jax.jit(function).trace(*args).jaxpr)


def test_products_are_counted_by_hand():
  assert flops(lambda x, w: x @ w, X, W) == ONE
  batched = jax.ShapeDtypeStruct((3, C, B), jnp.float32)
  assert flops(lambda x: jnp.einsum('ncb,nkb->nck', x, x), batched) == 2 * 3 * C * C * B


def test_loops_count_as_often_as_they_run():
  def loop(x, w):
    return jax.lax.scan(lambda x, _: (x @ w, None), x, None, length=7)[0]

  assert flops(loop, X, W) == 7 * ONE


def test_what_nothing_reads_does_not_count():
  def unused(x, w):
    def step(carry, _):
      x, y = carry
      return (x @ w, y @ w), None

    (x, _), _ = jax.lax.scan(step, (x, x), None, length=5)
    return x

  assert flops(unused, X, W) == 5 * ONE


def test_a_branch_counts_as_its_longest():
  def branch(x, w):
    return jax.lax.cond(x[0, 0] > 0, lambda: x @ w @ w, lambda: x @ w)

  assert flops(branch, X, W) == 2 * ONE


@pytest.mark.parametrize('again', [False, True])
def test_what_is_computed_anew_counts_anew(again):
  def deep(w, x):
    for _ in range(3):
      x = jnp.sin(x @ w)
    return x.sum()

  if again:
    deep = jax.checkpoint(deep, policy=jax.checkpoint_policies.nothing_saveable)
  found = flops(jax.value_and_grad(deep), W, X)
  # Forwards 3; backwards 3 for w and, since x is no parameter, 2 for what comes before.
  assert found == (3 + 5 + (3 if again else 0)) * ONE


def test_products_are_those_that_xla_counts():
  def loss(w, x):
    return jnp.sin(x @ w @ w).sum()

  compiled = jax.jit(jax.grad(loss)).lower(W, X).compile()
  xla = compiled.cost_analysis()['flops']
  assert flops(jax.grad(loss), W, X) <= xla < 1.2 * flops(jax.grad(loss), W, X)
