"""Import and export of checkpoints, and what is said of those that are damaged."""

import functools
import json
import pathlib
import shutil

import huggingface_hub
import jax
import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy
import torch
import transformers

from coupling.checkpoints import families, hub, weights
from coupling.config import schema
from coupling.model import sharding
from tests import command, small_checkpoints

TOKENS_BxT = np.random.default_rng(0).integers(
  small_checkpoints.VOCABULARY, size=(2, 20)
)
VALID_BxT = np.ones((2, 20), bool)


def equal(first, second):
  jax.tree.map(np.testing.assert_array_equal, first, second)


@functools.cache
def imported(name):
  return small_checkpoints.imported(small_checkpoints.saved(name)[0])


@pytest.fixture
def qwen3(tmp_path):
  """A checkpoint that a test may damage."""
  return shutil.copytree(small_checkpoints.saved('qwen3')[0], tmp_path / 'qwen3')


def edit(folder, change, add=None, drop=()):
  """Rewrites tensors and config.json fields."""
  data = safetensors_numpy.load_file(folder / hub.SINGLE) | (add or {})
  data = {name: x for name, x in data.items() if name not in drop}
  safetensors_numpy.save_file(data, folder / hub.SINGLE)
  raw = hub.read_config(folder) | change
  (folder / hub.CONFIG).write_text(json.dumps(raw))


# --- There and back.


@pytest.mark.parametrize('name', small_checkpoints.CONFIGS)
def test_transformers_loads_what_was_imported_and_exported(name, tmp_path):
  """By a config.json of our own; by that of its source in test_exports.py."""
  _, model = small_checkpoints.saved(name)
  weights.save(tmp_path / 'out', *imported(name))
  again, report = transformers.AutoModelForCausalLM.from_pretrained(
    tmp_path / 'out', attn_implementation='eager', output_loading_info=True
  )
  assert type(again) is type(model)
  assert not any(report.values()), report
  want = model.state_dict()
  assert again.state_dict().keys() == want.keys()
  for key, tensor in again.state_dict().items():
    assert torch.equal(tensor, want[key]), key
  np.testing.assert_array_equal(
    small_checkpoints.torch_logits(again, TOKENS_BxT, VALID_BxT),
    small_checkpoints.torch_logits(model, TOKENS_BxT, VALID_BxT),
  )


def test_experts_that_transformers_left_in_one_tensor_are_read(tmp_path):
  _, model = small_checkpoints.saved('qwen3_moe')
  model.save_pretrained(tmp_path, save_original_format=False)
  names = safetensors_numpy.load_file(tmp_path / hub.SINGLE)
  assert 'model.layers.2.mlp.experts.gate_up_proj' in names
  config, params = imported('qwen3_moe')
  equal(weights.load(tmp_path, config), params)
  weights.check(tmp_path, config)


def test_experts_that_are_missing_are_told_in_a_line(tmp_path):
  source, _ = small_checkpoints.saved('qwen3_moe')
  folder = shutil.copytree(source, tmp_path / 'a')
  names = [f'model.layers.1.mlp.experts.{i}.up_proj.weight' for i in (0, 3)]
  edit(folder, {}, drop=names)
  with pytest.raises(families.CheckpointError) as e:
    weights.load(folder, imported('qwen3_moe')[0])
  assert str(e.value).splitlines()[1:-1] == [
    '  model.layers.*.mlp.experts.*.up_proj.weight: missing, [20, 24] expected '
    '(layers 1)'
  ]


def test_shards_are_read_and_written(tmp_path):
  _, model = small_checkpoints.saved('llama')
  model.save_pretrained(tmp_path / 'there', max_shard_size='20KB')
  assert len(list((tmp_path / 'there').glob('*.safetensors'))) > 3
  config, params = imported('llama')
  equal(weights.load(tmp_path / 'there', config), params)
  weights.save(tmp_path / 'back', config, params, shard_bytes=20_000)
  files = sorted((tmp_path / 'back').glob('*.safetensors'))
  assert len(files) > 3
  assert all(file.stat().st_size < 25_000 for file in files)
  equal(weights.load(tmp_path / 'back', config), params)
  again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / 'back')
  for key, tensor in again.state_dict().items():
    assert torch.equal(tensor, model.state_dict()[key]), key


@pytest.mark.parametrize('there', [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize('here', ['float32', 'bfloat16'])
def test_types_of_files_and_of_parameters(there, here, tmp_path):
  model = small_checkpoints.torch_model(small_checkpoints.CONFIGS['qwen2']()).to(there)
  model.save_pretrained(tmp_path / 'a')
  config = hub.decoder_config(tmp_path / 'a', param_dtype=here)
  params = weights.load(tmp_path / 'a', config)
  assert {x.dtype.name for x in jax.tree.leaves(params)} == {here}
  want = model.state_dict()['model.layers.1.self_attn.q_proj.weight'].T
  want = want.to(getattr(torch, here)).float().numpy()
  found = params['layers']['attention']['q']['kernel'][1].astype('float32')
  np.testing.assert_array_equal(found, want)
  weights.save(tmp_path / 'b', config, params)
  again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / 'b')
  assert again.dtype == getattr(torch, here)
  for key, tensor in again.state_dict().items():
    assert torch.equal(tensor, model.state_dict()[key].to(tensor.dtype)), key


def test_each_device_reads_its_part_only(tmp_path):
  """Eight devices, parameters split over four: the arrays of one device."""
  source, _ = small_checkpoints.saved('qwen3')
  np.savez(tmp_path / 'want.npz', *jax.tree.leaves(imported('qwen3')[1]))
  code = f"""
import jax, numpy as np
from coupling.checkpoints import hub, tensors, weights
from coupling.config import schema
from coupling.model import sharding
model = hub.decoder_config(hub.find({str(source)!r}))
mesh = sharding.make_mesh(schema.Mesh(data=2, fsdp=4, tensor=1))
like = sharding.abstract_params(mesh, model)
sizes, read = [], tensors.TensorFiles.read
def counted(self, name, index, *more):
  found = read(self, name, index, *more)
  sizes.append((name, found.size))
  return found
tensors.TensorFiles.read = counted
params = weights.load({str(source)!r}, model, like)
want = np.load({str(tmp_path / 'want.npz')!r}).values()
for x, y, place in zip(jax.tree.leaves(params), want, jax.tree.leaves(like)):
  assert x.sharding == place.sharding
  np.testing.assert_array_equal(np.asarray(x), y)
up = params['layers']['mlp']['up']['kernel']
assert len(up.sharding.device_set) == 8
assert up.addressable_shards[0].data.size == up.size // 4
largest = max(size for name, size in sizes if 'mlp' in name)
assert largest == 24 * 40 // 4, largest
print('sharded as asked')
"""
  assert 'sharded as asked' in command.on_devices(8, code)


def test_a_mesh_of_one_gets_the_shardings_of_its_states():
  source, _ = small_checkpoints.saved('llama')
  config, params = imported('llama')
  mesh = sharding.make_mesh(schema.Mesh())
  like = sharding.abstract_params(mesh, config)
  found = weights.load(source, config, like)
  equal(found, params)
  assert jax.tree.map(lambda x: x.sharding, found) == jax.tree.map(
    lambda x: x.sharding, like
  )


def test_a_tokenizer_is_saved_beside_the_weights(tmp_path):
  class Tokenizer:
    bos_token_id, eos_token_id, pad_token_id = 3, 7, 5

    def save_pretrained(self, folder):
      (pathlib.Path(folder) / 'tokenizer.json').write_text('{}')

  config, params = imported('llama')
  weights.save(tmp_path / 'out', config, params, tokenizer=Tokenizer())
  raw = hub.read_config(tmp_path / 'out')
  assert [raw[f'{x}_token_id'] for x in ('bos', 'eos', 'pad')] == [3, 7, 5]
  assert (tmp_path / 'out' / 'tokenizer.json').exists()


def test_nothing_is_overwritten_and_nothing_is_left_half_written(tmp_path):
  config, params = imported('llama')
  (tmp_path / 'used').mkdir()
  (tmp_path / 'used' / 'notes').write_text('mine')
  with pytest.raises(families.CheckpointError, match='used: not empty; move it away'):
    weights.save(tmp_path / 'used', config, params)
  params = params | {'final_norm': {'scale': 'no array'}}
  with pytest.raises(AttributeError):
    weights.save(tmp_path / 'torn', config, params)
  assert not (tmp_path / 'torn').exists()


# --- Damage.


def test_all_that_does_not_fit_is_listed_at_once_before_any_data_is_read(
  qwen3, monkeypatch
):
  norm, up = 'model.norm.weight', 'model.layers.1.mlp.up_proj.weight'
  extra = {f'model.layers.{i}.self_attn.q_proj.bias': np.zeros(4, 'f4') for i in (0, 2)}
  wrong = {up: np.zeros((24, 40), 'f4'), norm: np.zeros(24, np.int8)}
  keys = [f'model.layers.{i}.self_attn.k_norm.weight' for i in range(3)]
  edit(qwen3, {}, add=extra | wrong, drop=keys)
  config = hub.decoder_config(qwen3)
  monkeypatch.setattr('coupling.checkpoints.tensors.TensorFiles.read', None)
  with pytest.raises(families.CheckpointError) as e:
    weights.load(qwen3, config)
  assert str(e.value).splitlines()[:-1] == [
    f'{qwen3}: tensors do not fit.',
    '  model.norm.weight: is of type I8, one of F32, F16, BF16 expected',
    '  model.layers.*.self_attn.k_norm.weight: missing, [16] expected (layers 0-2)',
    '  model.layers.*.mlp.up_proj.weight: has the shape [24, 40], [40, 24] expected '
    '(layers 1)',
    '  model.layers.*.self_attn.q_proj.bias: not expected (layers 0, 2)',
  ]
  assert f'{qwen3}/config.json: correct its model_type' in str(e.value)


@pytest.mark.parametrize('keep', [0, 4, 1000, -1])
def test_a_truncated_file_is_named(qwen3, keep):
  path = qwen3 / hub.SINGLE
  path.write_bytes(path.read_bytes()[:keep])
  with pytest.raises(
    families.CheckpointError, match=f'^{path}: this is no whole safetensors file'
  ):
    weights.load(qwen3, imported('qwen3')[0])


def test_missing_files_are_named(qwen3):
  config, _ = imported('qwen3')
  (qwen3 / hub.SINGLE).rename(qwen3 / 'pytorch_model.bin')
  with pytest.raises(families.CheckpointError, match='pytorch_model.bin.*pickles'):
    weights.load(qwen3, config)
  index = {'weight_map': {'a': 'model-1.safetensors', 'b': 'model-2.safetensors'}}
  (qwen3 / hub.INDEX).write_text(json.dumps(index))
  with pytest.raises(families.CheckpointError, match='names 2 files.*model-1.*model-2'):
    weights.load(qwen3, config)
  for text, message in (('{', 'not JSON'), ('[]', 'a JSON object')):
    (qwen3 / hub.CONFIG).write_text(text)
    with pytest.raises(families.CheckpointError, match=f'config.json: {message}'):
      hub.decoder_config(qwen3)
  (qwen3 / hub.CONFIG).unlink()
  with pytest.raises(families.CheckpointError, match='config.json: missing'):
    hub.decoder_config(qwen3)


# --- The hub.


def test_a_hub_name_is_found_in_the_cache_or_refused(tmp_path, monkeypatch):
  monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_OFFLINE', True)
  monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_CACHE', str(tmp_path))
  with pytest.raises(
    families.CheckpointError, match='^some/model .*main.*cannot be reached.*hf download'
  ):
    hub.find('some/model')
  commit = '0123456789abcdef0123456789abcdef01234567'
  repo = tmp_path / 'models--some--model'
  (repo / 'refs').mkdir(parents=True)
  (repo / 'refs' / 'main').write_text(commit)
  shutil.copytree(small_checkpoints.saved('qwen3')[0], repo / 'snapshots' / commit)
  config = hub.decoder_config(hub.find('some/model'))
  equal(weights.load('some/model', config), imported('qwen3')[1])
  with pytest.raises(families.CheckpointError, match='no such name on the hub'):
    hub.find('no/such/folder')


@pytest.mark.parametrize(
  ('error', 'message'),
  [
    ('GatedRepoError', 'accepted its licence'),
    ('RepositoryNotFoundError', 'no such model or revision'),
    ('RevisionNotFoundError', 'no such model or revision'),
  ],
)
def test_what_the_hub_refuses_is_explained(error, message, monkeypatch):
  def refuse(*_, **__):
    kind = getattr(huggingface_hub.errors, error)
    raise kind.__new__(kind)

  monkeypatch.setattr(huggingface_hub, 'snapshot_download', refuse)
  with pytest.raises(families.CheckpointError, match=f'some/model .rev.*{message}'):
    hub.find('some/model', 'rev')
