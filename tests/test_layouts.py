"""Every layout in which weights can lie: read as `transformers` does, or refused."""

import json
import pathlib
import shutil

import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy
import torch
import transformers

from coupling import families
from coupling import hub
from coupling import weights
from tests import checkpoints

TOKENS_BxT = np.random.default_rng(0).integers(checkpoints.VOCABULARY, size=(2, 20))
VALID_BxT = np.ones((2, 20), bool)
EMBEDDING, HEAD = 'model.embed_tokens.weight', 'lm_head.weight'
SHARDS = tuple(f'model-0000{i}-of-00002.safetensors' for i in (1, 2))


class Layout:
  """A checkpoint to be laid out otherwise: its config.json, its tensors by file."""

  def __init__(self, name: str, folder: pathlib.Path):
    source, _ = checkpoints.saved(name)
    self.folder = folder
    self.raw = hub.read_config(source)
    self.data = safetensors_numpy.load_file(source / hub.SINGLE)
    self.files = {hub.SINGLE: self.data}
    self.index = None

  def write(self) -> pathlib.Path:
    (self.folder / hub.CONFIG).write_text(json.dumps(self.raw))
    for name, data in self.files.items():
      weights.save_tensors(self.folder / name, data)
    if self.index is not None:
      (self.folder / hub.INDEX).write_text(json.dumps(self.index))
    return self.folder

  def rename(self, change) -> None:
    self.data = {change(name): x for name, x in self.data.items()}
    self.files = {hub.SINGLE: self.data}

  def shard(self, last=()) -> None:
    """Two files and an index: layers 1 and up, and `last`, stand in the second."""
    second = {name: x for name, x in self.data.items() if '.1.' in name or name in last}
    first = {name: x for name, x in self.data.items() if name not in second}
    self.files = dict(zip(SHARDS, (first, second)))
    table = {name: file for file, data in self.files.items() for name in data}
    self.index = {'metadata': {'total_size': 0}, 'weight_map': table}

  def others(self) -> dict[str, np.ndarray]:
    """The same tensors with other values."""
    return {name: x + 1 for name, x in self.data.items()}


@pytest.fixture
def llama(tmp_path):
  return Layout('llama', tmp_path)


def tie(layout, embedding=True, head=True, equal=False):
  layout.raw['tie_word_embeddings'] = True
  if equal:
    layout.data[HEAD] = layout.data[EMBEDDING]
  if not embedding:
    del layout.data[EMBEDDING]
  if not head:
    del layout.data[HEAD]


def tied_with_another_head_in_another_file(layout):
  tie(layout)
  layout.shard(last=[HEAD])


def tied_heads_shape_of_one_row_more(layout):
  tie(layout)
  layout.data[HEAD] = np.concatenate([layout.data[HEAD], layout.data[HEAD][:1]])


def whole_file_beside_an_index(layout):
  """The whole file is the older one."""
  whole = layout.others()
  layout.shard()
  layout.files[hub.SINGLE] = whole


def a_tensor_in_two_shards(layout):
  layout.shard()
  layout.files[SHARDS[1]][EMBEDDING] = layout.data[EMBEDDING][::-1].copy()
  layout.files[SHARDS[0]][HEAD] = layout.data[HEAD][::-1].copy()


def mixed_types(layout):
  bfloat16 = np.asarray(0, 'bfloat16').dtype
  for i, name in enumerate(sorted(layout.data)):
    kind = (np.float32, np.float16, bfloat16)[i % 3]
    layout.data[name] = layout.data[name].astype(kind)


def copies_in_other_formats(layout):
  for name in ('model.fp16.safetensors', 'consolidated.safetensors'):
    layout.files[name] = layout.others()
  (layout.folder / 'pytorch_model.bin').write_bytes(b'no pickle')


def a_file_that_the_config_names(layout):
  layout.raw['transformers_weights'] = 'mine.safetensors'
  layout.files = {'mine.safetensors': layout.data, hub.SINGLE: layout.others()}


def an_index_that_the_config_names(layout):
  layout.shard()
  index = json.dumps(layout.index)
  layout.index, layout.raw['transformers_weights'] = None, 'm.safetensors.index.json'
  (layout.folder / 'm.safetensors.index.json').write_text(index)


def frequencies_of_old_files(layout):
  layout.data['model.layers.0.self_attn.rotary_emb.inv_freq'] = np.ones(8, 'f4')


READ = {
  'as saved': lambda layout: None,
  'tied, embedding alone': lambda x: tie(x, head=False),
  'tied, head alone': lambda x: tie(x, embedding=False),
  'tied, both alike': lambda x: tie(x, equal=True),
  'tied, both unlike': tie,
  'tied, head unlike and elsewhere': tied_with_another_head_in_another_file,
  'shards': lambda x: x.shard(),
  'whole file beside an index': whole_file_beside_an_index,
  'a tensor in two shards': a_tensor_in_two_shards,
  'mixed types': mixed_types,
  'without prefix': lambda x: x.rename(lambda n: n.removeprefix('model.')),
  'prefix twice': lambda x: x.rename(lambda n: n.replace('model.', 'model.model.')),
  'prefix of the head': lambda x: x.rename(lambda n: n.replace('lm_', 'model.lm_')),
  'prefix of some': lambda x: x.rename(
    lambda n: n.replace('model.layers.1', 'layers.1')
  ),
  'copies in other formats': copies_in_other_formats,
  'a file that the config names': a_file_that_the_config_names,
  'an index that the config names': an_index_that_the_config_names,
  'frequencies of old files': frequencies_of_old_files,
}


def check_as_transformers(folder):
  """The same logits, from a model none of whose weights is missing."""
  model, report = transformers.AutoModelForCausalLM.from_pretrained(
    folder, dtype=torch.float32, attn_implementation='eager', output_loading_info=True
  )
  missing = [x for x in report['missing_keys'] if 'vision' not in x and 'mm_' not in x]
  assert not missing
  want = checkpoints.torch_logits(model.eval(), TOKENS_BxT, VALID_BxT)
  found = checkpoints.logits(*checkpoints.imported(folder), TOKENS_BxT, VALID_BxT)
  assert checkpoints.worst_relative(found, want, VALID_BxT) < 2e-4


@pytest.mark.parametrize('name', READ)
def test_a_layout_is_read_as_transformers_does(name, llama):
  READ[name](llama)
  check_as_transformers(llama.write())


@pytest.mark.parametrize('family', ['qwen2', 'qwen3', 'mistral', 'gemma3'])
@pytest.mark.parametrize('embedding', [True, False])
def test_a_head_of_its_own_is_used_in_every_family(family, embedding, tmp_path):
  """A config.json that ties it, over weights that have another, or it alone."""
  layout = Layout(family, tmp_path)
  layout.data[HEAD] = layout.data[EMBEDDING][::-1].copy()
  tie(layout, embedding=embedding)
  folder = layout.write()
  assert hub.decoder_config(folder).tied_head != embedding
  check_as_transformers(folder)


def test_what_was_untied_by_the_files_is_exported_untied(llama, tmp_path):
  tie(llama)
  config, params = checkpoints.imported(llama.write())
  weights.save(tmp_path / 'out', config, params, like=llama.raw)
  assert not hub.read_config(tmp_path / 'out')['tie_word_embeddings']
  check_as_transformers(tmp_path / 'out')


PREFIXES = (
  'language_model.model.',
  'model.language_model.',
  'language_model.',
  'model.language_model.model.',
  'language_model.model.model.',
)
HEADS = ('lm_head.weight', 'language_model.lm_head.weight', 'model.lm_head.weight')


def with_prefix(layout, prefix):
  layout.rename(lambda name: name.replace(PREFIXES[0], prefix))


@pytest.mark.parametrize('prefix', PREFIXES)
def test_names_of_a_multimodal_model(prefix, tmp_path):
  layout = Layout('gemma3_multimodal', tmp_path)
  with_prefix(layout, prefix)
  check_as_transformers(layout.write())


@pytest.mark.parametrize('head', HEADS)
@pytest.mark.parametrize('outer', [True, False, None, 'left out'])
@pytest.mark.parametrize('inner', [True, False])
def test_the_head_of_a_multimodal_model(head, outer, inner, tmp_path):
  """The outer field decides whether it is tied, and the weights."""
  layout = Layout('gemma3_multimodal', tmp_path)
  layout.data[head] = layout.data[PREFIXES[0] + 'embed_tokens.weight'][::-1].copy()
  layout.raw['text_config']['tie_word_embeddings'] = inner
  layout.raw['tie_word_embeddings'] = outer
  if outer == 'left out':
    del layout.raw['tie_word_embeddings']
  check_as_transformers(layout.write())


@pytest.mark.parametrize('inner', [True, False])
def test_a_multimodal_model_without_a_head_is_tied_by_the_outer_field(inner, tmp_path):
  layout = Layout('gemma3_multimodal', tmp_path)
  layout.raw['text_config']['tie_word_embeddings'] = inner
  check_as_transformers(layout.write())
  layout.raw |= {'tie_word_embeddings': False}
  refused(layout.write(), 'lm_head.weight: missing')


# --- What transformers would fill with random numbers, or read from elsewhere.


def refused(folder, *texts):
  with pytest.raises(families.CheckpointError) as e:
    weights.load(folder, hub.decoder_config(folder))
  for text in (str(folder), *texts):
    assert text in str(e.value)


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
  'no head': (drop(HEAD), 'lm_head.weight: missing'),
  'no embedding': (drop(EMBEDDING), 'embed_tokens.weight: missing'),
  'neither': (lambda x: tie(x, False, False), 'embed_tokens.weight: missing'),
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
  'shards without an index': (shards_without_an_index, SHARDS[0]),
  'an adapter beside': (an_adapter_beside, 'adapter_config.json', 'merge'),
  'a distributed copy': (a_distributed_copy, 'shard-00000-model-00001-of-00001'),
}


@pytest.mark.parametrize('name', REFUSED)
def test_what_transformers_would_not_read_from_the_files_is_refused(name, llama):
  change, *texts = REFUSED[name]
  change(llama)
  refused(llama.write(), *texts)


def test_names_of_a_text_model_in_a_multimodal_one_are_refused(tmp_path):
  layout = Layout('gemma3_multimodal', tmp_path)
  with_prefix(layout, 'model.')
  refused(layout.write(), 'model.norm.weight')


INDICES = {
  'a list': ([], 'a JSON object'),
  'no table': ({}, 'weight_map'),
  'null': ({'weight_map': None}, 'weight_map'),
  'a list of files': ({'weight_map': [SHARDS[0]]}, 'weight_map'),
  'empty': ({'weight_map': {}}, 'weight_map'),
  'a number': ({'weight_map': {HEAD: 7}}, f'weight_map.{HEAD}=7'),
  'a list in it': ({'weight_map': {HEAD: ['a']}}, f'weight_map.{HEAD}'),
  'above': ({'weight_map': {HEAD: '../x.safetensors'}}, '../x.safetensors'),
  'below': ({'weight_map': {HEAD: 'a/x.safetensors'}}, 'a/x.safetensors'),
  'absolute': ({'weight_map': {HEAD: '/x.safetensors'}}, '/x.safetensors'),
  'a pickle': ({'weight_map': {HEAD: 'x.bin'}}, 'x.bin'),
  'missing': ({'weight_map': {HEAD: 'x.safetensors'}}, 'missing: x.safetensors'),
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
  refused(llama.write(), 'transformers_weights', str(name))


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
  check_as_transformers(hub.find(str(folder)))
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
  check_as_transformers(hub.find(str(snapshot)))
