"""What `transformers` would fill with random numbers, or read from elsewhere."""

import shutil

import numpy as np
import pytest

from coupling.checkpoints import families, hub
from tests import layouts


@pytest.fixture
def llama(tmp_path):
  return layouts.Layout('llama', tmp_path)


def tied_heads_shape_of_one_row_more(layout):
  layouts.tie(layout)
  layout.data[layouts.HEAD] = np.concatenate(
    [layout.data[layouts.HEAD], layout.data[layouts.HEAD][:1]]
  )


def drop(name):
  return lambda layout: layout.data.pop(name)


def only(name):
  def keep(layout):
    layout.files = {name: layout.data}

  return keep


def only_pickles(layout):
  layout.files = {}
  (layout.folder / 'pytorch_model.bin').write_bytes(b'no pickle')


def shards_without_an_index(layout):
  layout.shard()
  layout.index = None


def more_of_it(layout):
  layout.data['model.layers.0.self_attn.q_proj.bias'] = np.zeros(64, 'f4')


def whole_numbers(layout):
  layout.data['model.norm.weight'] = np.ones(24, np.int8)


def an_adapter_beside(layout):
  (layout.folder / 'adapter_config.json').write_text('{}')


def a_distributed_copy(layout):
  layout.files['shard-00000-model-00001-of-00001.safetensors'] = layout.others()


def two_names_of_one(layout):
  layout.data['norm.weight'] = layout.data['model.norm.weight'] + 1


def wrapped(prefix):
  return lambda layout: layout.rename(lambda name: prefix + name)


def of_a_peft_model(layout):
  layout.rename(
    lambda n: 'base_model.model.' + n.replace('q_proj.', 'q_proj.base_layer.')
  )


REFUSED = {
  'no head': (drop(layouts.HEAD), 'lm_head.weight: missing'),
  'no embedding': (drop(layouts.EMBEDDING), 'embed_tokens.weight: missing'),
  'neither': (lambda x: layouts.tie(x, False, False), 'embed_tokens.weight: missing'),
  'another shape of head': (tied_heads_shape_of_one_row_more, 'has the shape [102'),
  'a tensor less': (drop('model.layers.1.mlp.up_proj.weight'), '(layers 1)'),
  'a tensor more': (more_of_it, 'q_proj.bias: not expected'),
  'two names of one': (two_names_of_one, 'norm.weight: not expected'),
  'whole numbers': (whole_numbers, 'is of type I8'),
  'of a compiled model': (wrapped('_orig_mod.'), '_orig_mod.lm_head.weight'),
  'of a parallel model': (wrapped('module.'), 'module.lm_head.weight'),
  'of a peft model': (of_a_peft_model, 'base_layer.weight: not expected'),
  'multimodal names': (wrapped('language_model.'), 'model.norm.weight: missing'),
  'a variant alone': (only('model.fp16.safetensors'), 'model.fp16.safetensors'),
  'consolidated alone': (only('consolidated.safetensors'), 'consolidated.safe'),
  'pickles alone': (only_pickles, 'pytorch_model.bin', 'never read'),
  'shards without an index': (shards_without_an_index, layouts.SHARDS[0]),
  'an adapter beside': (an_adapter_beside, 'adapter_config.json', 'merge'),
  'a distributed copy': (a_distributed_copy, 'shard-00000-model-00001-of-00001'),
}


@pytest.mark.parametrize('name', REFUSED)
def test_what_transformers_would_not_read_from_the_files_is_refused(name, llama):
  change, *texts = REFUSED[name]
  change(llama)
  layouts.refused(llama.write(), *texts)


def test_names_of_a_text_model_in_a_multimodal_one_are_refused(tmp_path):
  layout = layouts.Layout('gemma3_multimodal', tmp_path)
  layouts.with_prefix(layout, 'model.')
  layouts.refused(layout.write(), 'model.norm.weight')


INDICES = {
  'a list': ([], 'a JSON object'),
  'no table': ({}, 'weight_map'),
  'null': ({'weight_map': None}, 'weight_map'),
  'a list of files': ({'weight_map': [layouts.SHARDS[0]]}, 'weight_map'),
  'empty': ({'weight_map': {}}, 'weight_map'),
  'a number': ({'weight_map': {layouts.HEAD: 7}}, f'weight_map.{layouts.HEAD}=7'),
  'a list in it': ({'weight_map': {layouts.HEAD: ['a']}}, f'weight_map.{layouts.HEAD}'),
  'above': ({'weight_map': {layouts.HEAD: '../x.safetensors'}}, '../x.safetensors'),
  'below': ({'weight_map': {layouts.HEAD: 'a/x.safetensors'}}, 'a/x.safetensors'),
  'absolute': ({'weight_map': {layouts.HEAD: '/x.safetensors'}}, '/x.safetensors'),
  'a pickle': ({'weight_map': {layouts.HEAD: 'x.bin'}}, 'x.bin'),
  'missing': (
    {'weight_map': {layouts.HEAD: 'x.safetensors'}},
    'missing: x.safetensors',
  ),
}


@pytest.mark.parametrize('name', INDICES)
def test_a_malformed_index_is_told_in_a_line(name, llama):
  llama.shard()
  llama.index, text = INDICES[name]
  folder = llama.write()
  with pytest.raises(families.CheckpointError, match='^.*$') as e:
    hub.weight_files(folder)
  assert str(folder / hub.INDEX) in str(e.value) and text in str(e.value)


@pytest.mark.parametrize('name', ['../x.safetensors', '/x.safetensors', 'x.bin', 7])
def test_a_config_names_no_file_of_another_folder(name, llama):
  llama.raw['transformers_weights'] = name
  layouts.refused(llama.write(), 'transformers_weights', str(name))


@pytest.mark.parametrize('name', [hub.SINGLE, hub.CONFIG, 'tokenizer.json'])
def test_a_link_out_of_the_folder_is_not_followed(name, llama):
  folder = llama.write()
  elsewhere = folder.parent / f'{folder.name}-elsewhere'
  elsewhere.mkdir()
  path = folder / name
  if path.exists():
    shutil.move(path, elsewhere / name)
  else:
    (elsewhere / name).write_text('{}')
  path.symlink_to(elsewhere / name)
  with pytest.raises(families.CheckpointError, match=f'^{path}: a link to '):
    hub.find(str(folder))


def test_links_within_the_folder_and_the_hubs_cache_are_followed(llama, tmp_path):
  folder = llama.write()
  (folder / hub.SINGLE).rename(folder / 'other.safetensors')
  (folder / hub.SINGLE).symlink_to('other.safetensors')
  layouts.check_as_transformers(hub.find(str(folder)))
  repository = tmp_path / 'models--some--model'
  blobs, snapshot = repository / 'blobs', repository / 'snapshots' / 'abc'
  shared = tmp_path / 'blobs' / 'ab'
  for new in (blobs, snapshot, shared):
    new.mkdir(parents=True)
  shutil.copy(folder / hub.CONFIG, blobs / '1')
  shutil.copy(folder / 'other.safetensors', shared / '2')
  (blobs / '2').symlink_to('../../blobs/ab/2')
  (snapshot / hub.CONFIG).symlink_to('../../blobs/1')
  (snapshot / hub.SINGLE).symlink_to('../../blobs/2')
  layouts.check_as_transformers(hub.find(str(snapshot)))
