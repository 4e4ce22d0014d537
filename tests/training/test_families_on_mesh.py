"""What sets families apart, on a mesh of three axes: losses and parts of weights."""

import dataclasses
import json

import jax
import pytest

from coupling.config import schema
from coupling.model import decoder, sharding
from coupling.training import compiled, train_step
from tests import command
from tests.training import test_train_step

LORA = schema.Lora(rank=4, alpha=8.0, targets=('q', 'v', 'o'))
FLAGS = {
  'olmo': dict(pre_norms=False, post_norms=True, qk_norm=True, joint_qk_norm=True),
  'smollm3': dict(no_rope_layers=(1,), window=3, full_layers=(0,)),
  'biases': dict(qkv_bias=True, out_bias=True, mlp_bias=True),
  'phi': dict(rotary_dims=2, tied_head=False),
  'mixture': dict(
    qk_norm=True, num_experts=6, experts_per_token=2, norm_expert_shares=True
  ),
}


def losses(name: str, data: int, fsdp: int, tensor: int) -> list[float]:
  """Of all weights and of adapters, and the part of an `up` that a device holds."""
  mesh = sharding.make_mesh(schema.Mesh(data=data, fsdp=fsdp, tensor=tensor))
  model = dataclasses.replace(test_train_step.MODEL, vocab_size=24, **FLAGS[name])
  t, found = test_train_step, []
  for low_rank, objectives in ((None, t.OBJECTIVES), (LORA, t.HELD)):
    p = compiled.program(
      compiled.settings(model, low_rank, objectives, t.OPTIMIZER, t.LOOP.steps, 1), mesh
    )
    base = sharding.put_params(mesh, decoder.init(model, 0))
    adapters = train_step.fresh_adapters(model, low_rank, 0)
    mlp = base['layers']['mlp']
    up = mlp.get('experts', mlp)['up']['kernel']
    part = up.addressable_shards[0].data.size / up.size
    state, frozen = p.init(adapters or base), base if adapters else {}
    for first in range(0, 4, 2):
      batch = jax.device_put(t.batches(first), p.batch_sharding)
      state, metrics = p.run(state, frozen, t.HYPER, batch)
      found.append(float(metrics['loss'].mean()))
  return [part, *found]


@pytest.fixture(scope='module')
def on_mesh():
  code = 'import json; from tests.training import test_families_on_mesh as t; '
  code += 'print(json.dumps({x: t.losses(x, 2, 2, 2) for x in t.FLAGS}))'
  return json.loads(command.on_devices(8, code))


@pytest.mark.parametrize('name', FLAGS)
def test_eight_devices_give_the_losses_of_one(name, on_mesh):
  part, *found = on_mesh[name]
  whole, *alone = losses(name, 1, 1, 1)
  assert (part, whole) == (1 / 4, 1)
  assert found == pytest.approx(alone, rel=1e-5)
  assert len(set(alone)) == len(alone)
