"""Checkpoints to be laid out otherwise, and held against `transformers`."""

import json
import pathlib

import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy
import torch
import transformers

from coupling.checkpoints import families, hub, weights
from tests import small_checkpoints

PREFIXES = (
  'language_model.model.',
  'model.language_model.',
  'language_model.',
  'model.language_model.model.',
  'language_model.model.model.',
)
TOKENS_BxT = np.random.default_rng(0).integers(
  small_checkpoints.VOCABULARY, size=(2, 20)
)
VALID_BxT = np.ones((2, 20), bool)
EMBEDDING, HEAD = 'model.embed_tokens.weight', 'lm_head.weight'
SHARDS = tuple(f'model-0000{i}-of-00002.safetensors' for i in (1, 2))


class Layout:
  """A checkpoint to be laid out otherwise: its config.json, its tensors by file."""

  def __init__(self, name: str, folder: pathlib.Path):
    source, _ = small_checkpoints.saved(name)
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


def tie(layout, embedding=True, head=True, equal=False):
  layout.raw['tie_word_embeddings'] = True
  if equal:
    layout.data[HEAD] = layout.data[EMBEDDING]
  if not embedding:
    del layout.data[EMBEDDING]
  if not head:
    del layout.data[HEAD]


def with_prefix(layout, prefix):
  layout.rename(lambda name: name.replace(PREFIXES[0], prefix))


def check_as_transformers(folder):
  """The same logits, from a model none of whose weights is missing."""
  model, report = transformers.AutoModelForCausalLM.from_pretrained(
    folder, dtype=torch.float32, attn_implementation='eager', output_loading_info=True
  )
  missing = [x for x in report['missing_keys'] if 'vision' not in x and 'mm_' not in x]
  assert not missing
  want = small_checkpoints.torch_logits(model.eval(), TOKENS_BxT, VALID_BxT)
  found = small_checkpoints.logits(
    *small_checkpoints.imported(folder), TOKENS_BxT, VALID_BxT
  )
  assert small_checkpoints.worst_relative(found, want, VALID_BxT) < 2e-4


def refused(folder, *texts):
  with pytest.raises(families.CheckpointError) as e:
    weights.load(folder, hub.decoder_config(folder))
  for text in (str(folder), *texts):
    assert text in str(e.value)
