"""What ends a reply: all that a tokenizer and its checkpoint's files name."""

import json

import numpy as np
import pytest
import torch
import transformers

from coupling.checkpoints import hub, weights
from coupling.model import generate
from data import formats, tokens
from tests import chat_tokenizers, small_checkpoints

G = 10
TEXT, TURN = '<|end_of_text|>', '<|eot_id|>'  # the second is the tokenizer's


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  """A model that says one word and then, were it not stopped, <|end_of_text|>."""
  folder = tmp_path_factory.mktemp('ends')
  tokenizer = chat_tokenizers.llama()
  tokenizer.save_pretrained(folder)
  config = transformers.LlamaConfig(
    vocab_size=len(tokenizer),
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    eos_token_id=None,
  )
  model = small_checkpoints.torch_model(config)
  ids = formats.Chat(tokenizer).prompts(['hi'])[0]
  end = tokenizer.convert_tokens_to_ids(TEXT)
  with torch.no_grad():
    said = model.generate(
      torch.tensor([ids]), max_new_tokens=1, do_sample=False, pad_token_id=0
    )
    hidden_D = model.model(said).last_hidden_state[0, -1]
    model.lm_head.weight[end] = 30 * hidden_D / hidden_D.norm() ** 2
  model.save_pretrained(folder)
  (folder / 'generation_config.json').unlink()
  return folder, ids


def write(folder, config=None, generation=None):
  """Files that name these as end tokens; `generation` holds one, or is not there."""
  raw = json.loads((folder / 'config.json').read_text())
  (folder / 'config.json').write_text(json.dumps(raw | {'eos_token_id': config}))
  path = folder / 'generation_config.json'
  path.unlink(missing_ok=True)
  if generation is not None:
    path.write_text(json.dumps({'eos_token_id': generation[0]}))


def ids_of(folder):
  tokenizer = tokens.load_tokenizer(folder)
  return tokenizer.convert_tokens_to_ids([TEXT, TURN])


def greedy(folder, ids, format):
  config = hub.decoder_config(folder)
  params = weights.load(folder, config)
  prompt = generate.of_rows(np.array([ids]), np.ones((1, len(ids)), bool))
  begun, _ = generate.begin(config, params, prompt, small_checkpoints.MESH)
  return np.asarray(
    generate.greedy(
      config,
      params,
      begun,
      small_checkpoints.MESH,
      max_new_tokens=G,
      end_tokens=format.end_tokens,
      fill=format.pad_token,
    )
  )[0]


@pytest.mark.parametrize('where', ['config', 'generation'])
@pytest.mark.parametrize('several', [True, False])
def test_a_greedy_reply_is_that_of_generate(saved, where, several):
  folder, ids = saved
  text, turn = ids_of(folder)
  named = [turn, text] if several else text
  write(folder, **({where: named} if where == 'config' else {where: [named]}))
  model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
  want = model.generate(
    torch.tensor([ids]), max_new_tokens=G, do_sample=False, pad_token_id=turn
  )[0, len(ids) :].tolist()
  assert want[-1] == text and len(want) < G
  format = formats.Chat(tokens.load_tokenizer(folder))
  found = greedy(folder, ids, format).tolist()
  assert found[: len(want)] == want and {*found[len(want) :]} <= {format.pad_token}
  assert TEXT not in format.decode([found])[0]


@pytest.mark.parametrize(
  ('config', 'generation', 'ends'),
  [
    (None, None, []),
    (None, [None], []),
    (7, None, [7]),
    ([7, 8], None, [7, 8]),
    (7, [None], [7]),
    (7, [9], [7, 9]),
    (None, [[9, 7]], [9, 7]),
    ([], [[]], []),
  ],
)
@pytest.mark.parametrize('kind', [formats.Chat, formats.Plain])
def test_ends_are_those_of_all_files(saved, kind, config, generation, ends):
  folder, _ = saved
  _, turn = ids_of(folder)
  write(folder)
  without = kind(tokens.load_tokenizer(folder))
  write(folder, config, generation)
  found = kind(tokens.load_tokenizer(folder))
  assert found.end_tokens == (turn, *ends)
  assert (found.fingerprint != without.fingerprint) == bool(ends)


def test_ends_of_a_multimodal_models_language_model(saved):
  folder, _ = saved
  _, turn = ids_of(folder)
  before = (folder / 'config.json').read_text()
  raw = {'model_type': 'gemma3', 'text_config': {'eos_token_id': [3, 4]}}
  (folder / 'config.json').write_text(json.dumps(raw | {'eos_token_id': 5}))
  found = tokens.ends(tokens.load_tokenizer(folder))
  (folder / 'config.json').write_text(before)
  assert found == (turn, 5, 3, 4)


@pytest.mark.parametrize(
  ('content', 'text'),
  [
    ('{', 'not JSON'),
    ('[]', 'a JSON object'),
    ('{"eos_token_id": "2"}', "eos_token_id='2'"),
    ('{"eos_token_id": [2, null]}', 'eos_token_id'),
    ('{"eos_token_id": true}', 'eos_token_id'),
    ('{"eos_token_id": 2.5}', 'eos_token_id'),
  ],
)
def test_malformed_ends_are_told_in_a_line(saved, content, text):
  folder, _ = saved
  write(folder)
  path = folder / 'generation_config.json'
  path.write_text(content)
  with pytest.raises(ValueError, match=f'^{path}: [^\n]*$') as e:
    tokens.ends(tokens.load_tokenizer(folder))
  path.unlink()
  assert text in str(e.value)
