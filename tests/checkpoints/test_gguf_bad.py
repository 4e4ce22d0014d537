"""GGUF files that cannot be used are told in one line, by what is wrong."""

import pathlib
import random

import gguf
import numpy as np
import pytest

from coupling.checkpoints import gguf_checkpoint, gguf_config, gguf_file, hub
from coupling.checkpoints.hf_config import CheckpointError
from tests import gguf_models
from tests.gguf_models import KINDS


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> None:
  monkeypatch.setenv(gguf_checkpoint.CACHE, str(tmp_path / 'converted'))


@pytest.fixture
def llama(tmp_path) -> pathlib.Path:
  gguf_models.save(tmp_path / 'llama.gguf', 'llama', KINDS.Q8_0)
  return tmp_path / 'llama.gguf'


def refused(path) -> str:
  with pytest.raises(CheckpointError) as error:
    hub.find(str(path))
  assert '\n' not in str(error.value) and path.name in str(error.value)
  return str(error.value)


@pytest.mark.parametrize(
  'change, words',
  [
    ({'general.architecture': 'mamba'}, ('mamba', *gguf_config.ARCHITECTURES)),
    ({'llama.expert_count': 8}, ('llama.expert_count=8',)),
    ({'llama.attention.scale': 0.5}, ('llama.attention.scale=0.5',)),
    ({'llama.attention.value_length': 16}, ('llama.attention.value_length=16',)),
    ({'llama.rope.dimension_count': 16}, ('llama.rope.dimension_count=16',)),
    ({'llama.feed_forward_length': [96, 96, 64]}, ('llama.feed_forward_length',)),
    ({'llama.feed_forward_length': 64}, ('ffn_down.weight', '[64, 96]')),
    ({'llama.block_count': 4}, ('blk.3.attn_k.weight', 'missing')),
    ({'llama.block_count': 2}, ('blk.2.attn_k.weight', 'not expected')),
    ({'llama.rope.scaling.type': 'yarn'}, ('yarn',)),
    ({'tokenizer.ggml.pre': 'viking'}, ('viking', 'smollm')),
    ({'tokenizer.ggml.model': 'bert'}, ('bert', 'gpt2')),
    ({'tokenizer.ggml.token_type': [1, 2]}, ('2 kinds',)),
    ({'tokenizer.ggml.eos_token_id': 9999}, ('eos_token_id=9999',)),
    ({'tokenizer.ggml.merges': ['a nothing']}, ('metadata', 'nothing')),
    ({'tokenizer.ggml.tokens': 7}, ('metadata',)),
  ],
  ids=str,
)
def test_what_cannot_be_followed_is_named(change, words, tmp_path):
  model = gguf_models.make('llama')
  values = gguf_models.content(model, 'llama') | change
  gguf_models.write(tmp_path / 'a.gguf', values, gguf_models.tensors(model))
  found = refused(tmp_path / 'a.gguf')
  assert all(word in found for word in words), found


@pytest.mark.parametrize(
  'key', ['general.architecture', 'llama.block_count', 'tokenizer.ggml.pre']
)
def test_missing_fields_are_named(key, tmp_path):
  model = gguf_models.make('llama')
  values = gguf_models.content(model, 'llama')
  other = dict(values, **{key: 'x'})
  if key != 'general.architecture':
    del other[key]
  gguf_models.write(tmp_path / 'a.gguf', other, gguf_models.tensors(model))
  assert key in refused(tmp_path / 'a.gguf')


def test_tensors_that_no_family_has_are_named(tmp_path):
  model = gguf_models.make('llama')
  data = gguf_models.tensors(model)
  data['blk.0.attn_q.bias'] = np.zeros(128, np.float32)
  data['rope_freqs.weight'] = np.linspace(1, 9, 16) ** 2
  values = gguf_models.content(model, 'llama')
  gguf_models.write(tmp_path / 'a.gguf', values, data)
  assert 'rope_freqs.weight' in refused(tmp_path / 'a.gguf')
  del data['rope_freqs.weight']
  gguf_models.write(tmp_path / 'b.gguf', values, data)
  assert 'blk.0.attn_q.bias is not expected' in refused(tmp_path / 'b.gguf')


def test_big_endian_other_versions_and_no_file_are_told(tmp_path, llama):
  model = gguf_models.make('qwen3')
  values = gguf_models.content(model, 'qwen')
  big = tmp_path / 'big.gguf'
  gguf_models.write(big, values, {}, endianess=gguf.GGUFEndian.BIG)
  assert 'big-endian' in refused(big)
  whole = llama.read_bytes()
  llama.write_bytes(whole[:4] + (1).to_bytes(4, 'little') + whole[8:])
  assert 'version 1' in refused(llama)
  assert 'no such file' in refused(tmp_path / 'none.gguf')
  (tmp_path / 'text.gguf').write_text('{}')
  assert 'GGUF' in refused(tmp_path / 'text.gguf')


def test_truncated_and_damaged_files_are_told(llama, tmp_path):
  """Cut anywhere they are refused; with other bytes in the header, refused or read."""
  whole, draw = llama.read_bytes(), random.Random(0)
  header = gguf_file.GGUF(llama).tensors['output_norm.weight'].start
  other = tmp_path / 'other.gguf'
  for size in (*range(0, 200, 7), *(draw.randrange(len(whole)) for _ in range(40))):
    other.write_bytes(whole[:size])
    assert 'truncated or damaged' in refused(other)
  for _ in range(150):
    data = bytearray(whole[:header])
    for _ in range(draw.choice((1, 1, 1, 8))):
      data[draw.randrange(4, len(data))] = draw.randrange(256)
    other.write_bytes(bytes(data) + whole[header:])
    try:
      gguf_checkpoint._read(gguf_file.GGUF(other))
    except CheckpointError as e:
      assert '\n' not in str(e)
