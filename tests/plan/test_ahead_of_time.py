"""Plans: made-up batches have the form of real ones, and what is told of them holds."""

import dataclasses
import os
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

from configs import hint_mmlu
from coupling.config import schema
from coupling.config import validate
from coupling.model import decoder
from coupling.model import sharding
from coupling.plan import ahead_of_time
from coupling.plan import synthetic
from coupling.run import base_model
from coupling.training import tree_batches
from tests import chat_checkpoints
from tests.training import test_tree_batches

LENGTHS = synthetic.Lengths.of(64)


def form(batch):
  """Types and number of axes, part by part."""
  return jax.tree.map(lambda x: (x.dtype, x.ndim), batch)


@pytest.mark.parametrize('case', ['options', 'adapters_off'])
def test_made_up_batches_have_the_form_of_real_ones(case):
  config, _ = test_tree_batches.CASES[case]
  real_plan, drawn = test_tree_batches.plan_of(case)
  real = tree_batches.pack([x[0] for x in drawn.values()], real_plan)
  config = dataclasses.replace(config, trees=True)
  made = synthetic.train_batch(config, test_tree_batches.model(), LENGTHS, 1)
  assert form(made) == form(real)


@pytest.mark.parametrize('case', ['options', 'adapters_off'])
def test_made_up_questions_have_the_form_of_real_ones(case):
  config, _ = test_tree_batches.CASES[case]
  real = {
    name: rows for name, (rows, _) in test_tree_batches.parts(case, False).items()
  }
  made = synthetic.train_batch(config, test_tree_batches.model(), LENGTHS, 1)
  assert form(made) == form(real)
  assert len(made['explanation']['read']) == config.explanation_batch
  assert len(made['behavior']['read']) == config.behavior_batch


def test_pairs_share_what_stands_before_the_cue():
  made = synthetic.questions(test_tree_batches.model(), LENGTHS, 3)
  shared, cue, tokens = LENGTHS.before, LENGTHS.cue, sum(LENGTHS[:3])
  assert tokens == 64
  x, without, asked = (made[k] for k in ('x', 'counterfactual', 'explanation'))
  np.testing.assert_array_equal(x[:, :shared], without[:, :shared])
  np.testing.assert_array_equal(x[:, shared + cue :], without[:, shared:])
  np.testing.assert_array_equal(x[:, :tokens], asked[:, :tokens])


def test_memory_and_products_of_a_step(shape):
  """One device: its weights, moments and batch at least; three products a weight."""
  arg = f'model=local,checkpoint={shape},path=nowhere,rank=0'
  config = hint_mmlu.get_config(arg)
  estimates = []
  axes = schema.Mesh(data=1, fsdp=1, tensor=1)
  mesh = sharding.make_mesh(axes, jax.devices()[:1])
  for remat in ('none', 'full'):
    config.train.remat = remat
    e = validate.resolve(config)
    model = dataclasses.replace(base_model.decoder(e), width=64, mlp_dim=256)
    made = ahead_of_time.train_program(e, model, mesh, LENGTHS)
    estimates.append(ahead_of_time.compiled('cpu:1', mesh, *made))
  found, again = estimates
  batch = synthetic.train_batch(e.runs['kl'], model, LENGTHS, 1)
  weights = decoder.num_params(decoder.abstract(model))
  at_rest = 3 * 4 * weights + sum(x.nbytes for x in jax.tree.leaves(batch))
  assert at_rest < again.memory < found.memory
  assert again.flops > 1.2 * found.flops  # layers are computed anew
  tokens = batch[tree_batches.TREES].tokens.size
  inner = weights - model.vocab_size * model.width
  assert 0.6 < found.flops / (6 * inner * tokens) < 1.6  # attention and logits beside
  assert not found.traffic and found.seconds is None


def run(*arguments, devices=8):
  return subprocess.run(
    [sys.executable, 'main.py', '--stage=plan', *arguments],
    env=os.environ | {'JAX_NUM_CPU_DEVICES': str(devices), 'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
  )


@pytest.fixture(scope='module')
def shape(tmp_path_factory):
  """A folder with no more than a config.json."""
  whole = chat_checkpoints.save(tmp_path_factory.mktemp('whole'))
  folder = tmp_path_factory.mktemp('shape')
  (folder / 'config.json').write_bytes((whole / 'config.json').read_bytes())
  return folder


@pytest.mark.slow
def test_a_plan_needs_no_weights_data_or_workdir(shape):
  config = f'configs/hint_mmlu.py:model=local,checkpoint={shape},path=nowhere,rank=4'
  done = run(f'--config={config}', '--tokens=64', '--target=cpu:8', '--target=cpu:1')
  assert done.returncode == 0, done.stderr
  rows = [line.split() for line in done.stdout.splitlines() if 'train step' in line]
  (_, _, _, eight, *_), (_, _, _, one, *_) = rows
  assert 0 < float(eight) <= float(one)
  assert re.search(r'all-gather \d+ MB', done.stdout)  # mesh.fsdp=-1: parameters


@pytest.mark.slow
def test_a_mesh_that_does_not_divide_is_told_and_the_next_target_planned(shape):
  config = f'configs/hint_mmlu.py:model=local,checkpoint={shape},path=nowhere,rank=4'
  more = '--config.evaluate.batch=12', '--config.mesh.data=-1', '--config.mesh.fsdp=1'
  done = run(f'--config={config}', '--target=cpu:8', '--target=cpu:4', *more)
  assert done.returncode == 0, done.stderr
  first, second = (
    line for line in done.stdout.splitlines() if line.split()[1:2] == ['evaluation']
  )
  assert 'cannot run' in first and 'cannot run' not in second
  assert 'evaluate.batch=12 does not divide' in done.stdout


@pytest.mark.parametrize(
  'target, said',
  [
    ('cpu:9', 'JAX_NUM_CPU_DEVICES=9'),
    ('v99:1x1', 'Slices are named as v5e:4x4'),
    (None, '--stage=plan needs a --target'),
  ],
)
def test_unknown_targets_are_refused(shape, target, said):
  config = f'configs/hint_mmlu.py:model=local,checkpoint={shape},path=nowhere'
  targets = () if target is None else (f'--target={target}',)
  done = run(f'--config={config}', *targets)
  assert done.returncode == 1 and said in done.stderr


def test_attention_of_other_machines_is_refused(shape):
  config = f'configs/hint_mmlu.py:model=local,checkpoint={shape},path=nowhere'
  more = '--config.base.dtype=bfloat16', '--config.train.attention=cudnn'
  done = run(f'--config={config}', '--target=cpu:8', *more)
  assert done.returncode == 1 and 'attention=cudnn is for NVIDIA GPUs' in done.stderr


def traffic_of_a_step(shape: str) -> None:
  """Prints what a step on eight devices sends, as a multiple of the weights' bytes."""
  config = hint_mmlu.get_config(f'model=local,checkpoint={shape},path=nowhere,rank=2')
  e = validate.resolve(config)
  small = base_model.decoder(e)
  model = dataclasses.replace(small, width=64, mlp_dim=256, num_heads=8, depth=3)
  mesh = sharding.make_mesh(e.mesh)
  made = ahead_of_time.train_program(e, model, mesh, LENGTHS)
  found = ahead_of_time.compiled('cpu:8', mesh, *made)
  weights = 4 * decoder.num_params(decoder.abstract(model))
  print(sum(x.sent for x in found.traffic.values()) / weights)


def test_a_step_gathers_weights_and_not_activations(shape):
  """Once forwards, once backwards; without layers.keep_rows it sends several times as
  much, since activations are split as weights lie and gathered layer by layer."""
  code = (
    'import sys; from tests.plan import test_ahead_of_time as t; '
    't.traffic_of_a_step(sys.argv[1])'
  )
  done = subprocess.run(
    [sys.executable, '-c', code, str(shape)],
    env=os.environ | {'JAX_NUM_CPU_DEVICES': '8', 'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
    check=True,
  )
  assert float(done.stdout.splitlines()[-1]) < 3


@pytest.mark.parametrize(
  'config, said',
  [
    ('configs/paper/label_noise.py:seeds=1', 'is of one experiment'),
    ('configs/world.py', 'this model learned 16 positions'),
  ],
)
def test_what_cannot_be_planned_is_refused(config, said):
  done = run(f'--config={config}', '--target=cpu:8')
  assert done.returncode == 1 and said in done.stderr
