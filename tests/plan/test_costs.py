"""Costs of programs against hand counts, and against what XLA says."""

import os
import subprocess
import sys
import textwrap

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


HLO = """\
HloModule jit_f, num_partitions=8

%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%a, %b)
}

%body (p: (s32[], f32[4,8])) -> (s32[], f32[4,8]) {
  %was = s32[] get-tuple-element(%p), index=0
  %one = s32[] constant(1)
  %half = s32[] add(%was, %one)
  %next = s32[] add(%half, %one)
  %ag = bf16[16,8]{1,0:T(8,128)(2,1)} all-gather(%x), replica_groups=[2,4]<=[8]
  %rs = f32[2,8]{1,0} reduce-scatter(%y), replica_groups={{0,1},{2,3}}, to_apply=%add
  ROOT %out = (s32[], f32[4,8]) tuple(%next, %y)
}

%condition (p: (s32[], f32[4,8])) -> pred[] {
  %n = s32[]{:T(128)} constant(6)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  ROOT %less = pred[] compare(%i, %n), direction=LT
}

%wrapped (p: f32[10]) -> f32[80] {
  %start = (f32[10]{0}, f32[80]{0}) all-gather-start(%p), replica_groups={}
  ROOT %done = f32[80]{0} all-gather-done(%start)
}

%begins (p: f32[8]) -> f32[16] {
  ROOT %g = f32[16]{0} all-gather(%p), channel_id=3, MESH, x={chain_id="1"}
}

%goes_on (p: f32[8]) -> f32[16] {
  ROOT %g.2 = f32[16]{0} all-gather(%p), channel_id=3, MESH, x={chain_id="1"}
}

ENTRY %main (x: f32[4,8]) -> f32[] {
  %counted = (s32[]) while(%init), condition=%condition, body=%body
  %loop = (s32[]) while(%init), body=%body, x={"known_trip_count":{"n":"36"}}
  %fused = f32[80]{0} fusion(%x), kind=kCustom, calls=%wrapped
  %piece = f32[16]{0} fusion(%x), kind=kCustom, calls=%begins
  %more = f32[16]{0} fusion(%piece), kind=kCustom, calls=%goes_on
  %send = (f32[5]{0}, f32[5]{0}, u32[], u32[]) collective-permute-start(%x)
  ROOT %all = (f32[], f32[100]{0}) all-reduce(%a, %b), replica_groups=[1,8]<=[8]
}
"""


MESH = "replica_groups=mesh['data'=4,'fsdp'=2] {'fsdp'}"


def test_traffic_is_counted_by_hand():
  found = costs.traffic(HLO.replace('MESH', MESH))
  gathers = 39 * (16 * 8 * 2) * 3 / 4 + (80 * 4) * 7 / 8 + (16 * 4) / 2
  assert found == {
    'all-gather': costs.Traffic(41, gathers),
    'all-reduce': costs.Traffic(1, 2 * (101 * 4) * 7 / 8),
    'collective-permute': costs.Traffic(1, 20),
    'reduce-scatter': costs.Traffic(39, 39 * (2 * 2 * 8 * 4) / 2),
  }


PROGRAM = """
import jax, jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec as P
from coupling.plan import costs
mesh = jax.make_mesh((8,), ('data',))
whole = NamedSharding(mesh, P())
def f(w, x):
  step = lambda w, x: (w - jax.grad(lambda w: jnp.sin(x @ w).sum())(w), None)
  return jax.lax.scan(step, w, x)[0]
rows = NamedSharding(mesh, P(None, 'data'))
x = jax.ShapeDtypeStruct((5, 16, 32), jnp.float32, sharding=rows)
w = jax.ShapeDtypeStruct((32, 32), jnp.float32, sharding=whole)
text = jax.jit(f, out_shardings=whole).lower(w, x).compile().as_text()
print(costs.traffic(text))
"""


def test_gradients_of_a_split_batch_are_summed_once_a_step():
  """Eight virtual devices: five steps, each with an all-reduce of the gradient."""
  done = subprocess.run(
    [sys.executable, '-c', textwrap.dedent(PROGRAM)],
    env=os.environ | {'JAX_NUM_CPU_DEVICES': '8', 'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
    check=True,
  )
  sent = 5 * 2 * (32 * 32 * 4) * 7 / 8
  assert f"{{'all-reduce': Traffic(count=5, sent={sent})}}" in done.stdout
