"""Every layout in which weights can lie is read as `transformers` reads it."""

import json

import numpy as np
import pytest

from coupling.checkpoints import hub, tensors, weights
from tests import small_checkpoints, layouts


@pytest.fixture
def llama(tmp_path):
  return layouts.Layout('llama', tmp_path)


def tied_with_another_head_in_another_file(layout):
  layouts.tie(layout)
  layout.shard(last=[layouts.HEAD])


def whole_file_beside_an_index(layout):
  """The whole file is the older one."""
  whole = layout.others()
  layout.shard()
  layout.files[hub.SINGLE] = whole


def a_tensor_in_two_shards(layout):
  layout.shard()
  layout.files[layouts.SHARDS[1]][layouts.EMBEDDING] = layout.data[layouts.EMBEDDING][
    ::-1
  ].copy()
  layout.files[layouts.SHARDS[0]][layouts.HEAD] = layout.data[layouts.HEAD][::-1].copy()


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
  'tied, embedding alone': lambda x: layouts.tie(x, head=False),
  'tied, head alone': lambda x: layouts.tie(x, embedding=False),
  'tied, both alike': lambda x: layouts.tie(x, equal=True),
  'tied, both unlike': layouts.tie,
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


@pytest.mark.parametrize('name', READ)
def test_a_layout_is_read_as_transformers_does(name, llama):
  READ[name](llama)
  layouts.check_as_transformers(llama.write())


def test_a_tied_head_that_is_there_too_is_compared_once(llama, monkeypatch):
  """And again once the file is another one: then it is not tied any more."""
  layouts.tie(llama, equal=True)
  folder, read, rows = llama.write(), tensors.TensorFiles.read, []

  def counted(self, name, *more):
    rows.append(name)
    return read(self, name, *more)

  monkeypatch.setattr(tensors.TensorFiles, 'read', counted)
  config = hub.decoder_config(folder)
  assert sorted(rows) == sorted([layouts.EMBEDDING, layouts.HEAD])
  rows.clear()
  weights.load(folder, config)
  assert rows.count(layouts.EMBEDDING) == 1 and layouts.HEAD not in rows
  llama.data[layouts.HEAD] = llama.data[layouts.HEAD] + 1
  llama.write()
  with pytest.raises(hub.CheckpointError, match=f'{layouts.HEAD}: not expected'):
    weights.load(folder, config)
  assert not hub.decoder_config(folder).tied_head


@pytest.mark.parametrize('family', ['qwen2', 'qwen3', 'mistral', 'gemma3'])
@pytest.mark.parametrize('embedding', [True, False])
def test_a_head_of_its_own_is_used_in_every_family(family, embedding, tmp_path):
  """A config.json that ties it, over weights that have another, or it alone."""
  layout = layouts.Layout(family, tmp_path)
  layout.data[layouts.HEAD] = layout.data[layouts.EMBEDDING][::-1].copy()
  layouts.tie(layout, embedding=embedding)
  folder = layout.write()
  assert hub.decoder_config(folder).tied_head != embedding
  layouts.check_as_transformers(folder)


def test_what_was_untied_by_the_files_is_exported_untied(llama, tmp_path):
  layouts.tie(llama)
  config, params = small_checkpoints.imported(llama.write())
  weights.save(tmp_path / 'out', config, params, like=llama.raw)
  assert not hub.read_config(tmp_path / 'out')['tie_word_embeddings']
  layouts.check_as_transformers(tmp_path / 'out')


HEADS = ('lm_head.weight', 'language_model.lm_head.weight', 'model.lm_head.weight')


@pytest.mark.parametrize('prefix', layouts.PREFIXES)
def test_names_of_a_multimodal_model(prefix, tmp_path):
  layout = layouts.Layout('gemma3_multimodal', tmp_path)
  layouts.with_prefix(layout, prefix)
  layouts.check_as_transformers(layout.write())


@pytest.mark.parametrize('outer', [True, False, None, 'left out'])
@pytest.mark.parametrize('head, inner', [*zip(HEADS, (True, False, True))])
def test_the_head_of_a_multimodal_model(head, outer, inner, tmp_path):
  """The outer field decides whether it is tied, and the weights."""
  layout = layouts.Layout('gemma3_multimodal', tmp_path)
  layout.data[head] = layout.data[layouts.PREFIXES[0] + 'embed_tokens.weight'][
    ::-1
  ].copy()
  layout.raw['text_config']['tie_word_embeddings'] = inner
  layout.raw['tie_word_embeddings'] = outer
  if outer == 'left out':
    del layout.raw['tie_word_embeddings']
  layouts.check_as_transformers(layout.write())


@pytest.mark.parametrize('inner', [True, False])
def test_a_multimodal_model_without_a_head_is_tied_by_the_outer_field(inner, tmp_path):
  layout = layouts.Layout('gemma3_multimodal', tmp_path)
  layout.raw['text_config']['tie_word_embeddings'] = inner
  layouts.check_as_transformers(layout.write())
  layout.raw |= {'tie_word_embeddings': False}
  layouts.refused(layout.write(), 'lm_head.weight: missing')
