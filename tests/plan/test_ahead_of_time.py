"""Plans: made-up batches have the form of real ones, and what is told of them holds."""

import dataclasses
import re

import jax
import numpy as np
import pytest

from configs import hint_mmlu, world
from configs.paper import label_noise
from coupling.config import paper_parts, schema, validate
from coupling.model import decoder, sharding
from coupling.plan import ahead_of_time, synthetic
from coupling.run import base_model
from coupling.training import preferences, tree_batches
from data import preference_file
from tests import chat_checkpoints, command
from tests.training import test_tree_batches

LENGTHS = synthetic.Lengths.of(64)


def form(batch):
  """Types and number of axes, part by part."""
  return jax.tree.map(lambda x: (x.dtype, x.ndim), batch)


@pytest.mark.parametrize('case', ['options', 'adapters_off'])
def test_made_up_batches_have_the_form_of_real_ones(case):
  """Of trees, and of separate questions."""
  config, _ = test_tree_batches.CASES[case]
  real_plan, drawn = test_tree_batches.plan_of(case)
  trees = tree_batches.pack([x[0] for x in drawn.values()], real_plan)
  parts = test_tree_batches.parts(case, False)
  for real, of_trees in ((trees, True), ({k: x for k, (x, _) in parts.items()}, False)):
    config = dataclasses.replace(config, trees=of_trees)
    made = synthetic.train_batch(config, test_tree_batches.model(), LENGTHS, 1)
    assert form(made) == form(real)
  assert len(made['explanation']['read']) == config.explanation_batch
  assert len(made['behavior']['read']) == config.behavior_batch


def test_made_up_preferences_have_the_form_of_real_ones():
  config, _ = test_tree_batches.CASES['options']
  dpo = schema.DPO(weight=1.0, file='given', batch=3)
  terms = dataclasses.replace(config.objectives, dpo=dpo)
  config = dataclasses.replace(config, trees=True, objectives=terms)
  made = synthetic.train_batch(config, test_tree_batches.model(), LENGTHS, 1)
  asked = preference_file.Preference('Why?', 'So', 'No')
  real = preferences.rows(test_tree_batches.CHAT, [asked])
  reference = {'reference': np.zeros((1, 2), np.float32)}
  assert form(made['preference']) == form(real | reference)
  assert len(made['preference']['read']) == 3


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
  axes = schema.Mesh(fsdp=1)
  mesh = sharding.make_mesh(axes, jax.devices()[:1])
  for remat in ('none', 'full'):
    config.train.remat = remat
    e = validate.resolve(config)
    model = dataclasses.replace(base_model.decoder(e), width=64, mlp_dim=256)
    traced = ahead_of_time.train_program(e, model, mesh, LENGTHS)
    estimates.append(ahead_of_time.compiled(mesh, traced))
  found, again = estimates
  batch = synthetic.train_batch(e.runs['kl'], model, LENGTHS, 1)
  weights = decoder.num_params(decoder.abstract(model))
  at_rest = 3 * 4 * weights + sum(x.nbytes for x in jax.tree.leaves(batch))
  assert at_rest < again.memory < found.memory
  assert again.flops > 1.2 * found.flops  # layers are computed anew
  tokens = batch[tree_batches.TREES].tokens.size
  inner = weights - model.vocab_size * model.width
  assert 0.6 < found.flops / (6 * inner * tokens) < 1.6  # attention and logits beside
  assert found.fits is None and found.least_seconds is None  # of no known chip


@pytest.mark.parametrize('gib, fits', [(15, True), (17, False), (None, False)])
def test_what_a_chip_has_bounds_memory_and_time(gib, fits):
  chip = ahead_of_time.CHIPS['TPU v5 lite']
  memory = None if gib is None else gib * 2**30
  found = ahead_of_time.Estimate(chip, 2 * chip.flops, 0.0, memory)
  assert found.fits is fits and found.least_seconds == 2


@pytest.fixture(scope='module')
def shape(tmp_path_factory):
  """A folder with no more than a config.json."""
  whole = chat_checkpoints.save(tmp_path_factory.mktemp('whole'))
  folder = tmp_path_factory.mktemp('shape')
  (folder / 'config.json').write_bytes((whole / 'config.json').read_bytes())
  return folder


@pytest.fixture(scope='module')
def planned(shape) -> list[list[str]]:
  """Words of each line that a plan for three targets prints."""
  config = f'configs/hint_mmlu.py:model=local,checkpoint={shape},path=nowhere,rank=4'
  targets = (f'--target=cpu:{n}' for n in (8, 4, 1))
  more = f'--config={config}', '--tokens=64', '--config.evaluate.batch=12'
  code = "import runpy; runpy.run_path('main.py', run_name='__main__')"
  done = command.on_devices(8, code, '--stage=plan', *more, *targets)
  return [line.split() for line in done.splitlines()]


@pytest.mark.slow
def test_a_plan_needs_no_weights_data_or_workdir(planned):
  eight, four, one = (float(row[3]) for row in planned if row[1:3] == ['train', 'step'])
  assert 0 < eight <= four <= one


@pytest.mark.slow
def test_a_mesh_that_does_not_divide_is_told_and_the_next_target_planned(planned):
  eight, *others = (row for row in planned if row[1:2] == ['evaluation'])
  assert eight[2:] == ['cannot', 'run']
  assert len(others) == 2 and not any('cannot' in row for row in others)
  assert 'evaluate.batch=12 does not divide' in ' '.join(' '.join(x) for x in planned)


@pytest.mark.parametrize(
  'target, said',
  [
    ('cpu:9', 'for cpu:N of more devices set JAX_NUM_CPU_DEVICES=N'),
    ('cpu:0', 'here are cpu:1 to cpu:'),
    ('v99:1x1', 'Slices are named as v5e:4x4'),
  ],
)
def test_unknown_targets_are_refused(target, said):
  with pytest.raises(schema.ConfigError, match=said):
    ahead_of_time.find_devices(target)


def test_a_plan_without_a_target_is_refused():
  done = command.run('--stage=plan', '--config=configs/world.py')
  assert done.returncode == 1 and '--stage=plan needs a --target' in done.stderr


@pytest.mark.parametrize(
  'steps, said',
  [
    (560, 'this model learned 16 positions: plan with fewer tokens'),
    (0, 'has no steps: set report.main to'),
  ],
)
def test_what_cannot_be_planned_is_refused(steps, said):
  config = world.get_config()
  config.train.loop.steps = steps
  with pytest.raises(schema.ConfigError, match=said):
    ahead_of_time.run(validate.resolve(config), ['cpu:1'], None)


def test_attention_of_other_machines_is_refused(shape):
  config = hint_mmlu.get_config(f'model=local,checkpoint={shape},path=nowhere')
  config.base.dtype, config.train.attention = 'bfloat16', 'cudnn'
  with pytest.raises(schema.ConfigError, match='attention=cudnn is for NVIDIA GPUs'):
    ahead_of_time.run(validate.resolve(config), ['cpu:1'], None)


def test_several_experiments_are_not_planned_as_one():
  e = paper_parts.resolve(label_noise.get_config('seeds=1'))
  with pytest.raises(schema.ConfigError, match='plan its parts one by one'):
    ahead_of_time.run(e, ['cpu:1'], None)


def print_sent(shape: str) -> None:
  """Prints a row's tokens, then what collectives of a step on eight devices move."""
  config = hint_mmlu.get_config(f'model=local,checkpoint={shape},path=nowhere,rank=2')
  e = validate.resolve(config)
  small = base_model.decoder(e)
  model = dataclasses.replace(small, width=64, mlp_dim=256, num_heads=8, depth=3)
  mesh = sharding.make_mesh(e.mesh)
  batch = synthetic.train_batch(e.runs['kl'], model, LENGTHS, mesh.size)
  print(batch[tree_batches.TREES].tokens.shape[1])
  traced = ahead_of_time.train_program(e, model, mesh, LENGTHS)
  kinds = 'all-gather|all-reduce|all-to-all|reduce-scatter|collective-permute'
  text = traced.lower().compile().as_text()
  print(*re.findall(rf' = (.*) (?:{kinds})(?:-start)?\(', text))


def test_a_step_gathers_weights_and_not_activations(shape):
  """Without layers.keep_rows activations are split as weights lie, and gathered."""
  call = 'from tests.plan import test_ahead_of_time as t; t.print_sent'
  done = command.on_devices(8, f'{call}({str(shape)!r})')
  tokens, sent = done.splitlines()[-2:]
  assert 'f32[64,256]' in sent and 'f32[408,64]' in sent  # an MLP's, the embeddings
  assert not re.search(rf'\b{tokens}\b', sent)
