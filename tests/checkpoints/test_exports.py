"""What is exported loads by itself, in `peft` and `transformers`, with equal logits."""

import json
import os
import shutil
import warnings

import huggingface_hub
import jax
import jax.numpy as jnp
import numpy as np
import peft
import pytest
from safetensors import numpy as safetensors_numpy
import torch
import transformers

from configs import hint_mmlu
from coupling.checkpoints import families, hub, peft_format, weights
from coupling.config import validate
from coupling.model import lora
from coupling.run import pipeline
from data import tokens
from tests import chat_checkpoints, chat_tokenizers, small_checkpoints

TOKENS_BxT = np.random.default_rng(0).integers(
  small_checkpoints.VOCABULARY, size=(2, 20)
)
VALID_BxT = np.ones((2, 20), bool)
ALL = small_checkpoints.CONFIGS | small_checkpoints.MULTIMODAL
TARGETS = [('q', 'k', 'v', 'o', 'gate', 'up', 'down'), ('v', 'down')]


def adapters_of(config, targets=TARGETS[0], first=0):
  """Adapters none of whose matrices is zero."""
  rng = np.random.default_rng(0)
  if config.num_experts:
    targets = [x for x in targets if x in ('q', 'k', 'v', 'o')]
  like = lora.abstract(config, rank=5, alpha=3.0, targets=targets, first=first)
  return jax.tree.map(
    lambda x: jnp.asarray(rng.normal(size=x.shape, scale=0.3), x.dtype), like
  )


def load_alone(folder):
  """The model and its adapters, by the folder of the adapters alone.

  Checks that every adapter is found in the model: peft itself only warns.
  """
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter('always')
    model = peft.AutoPeftModelForCausalLM.from_pretrained(
      folder, attn_implementation='eager', dtype=torch.float32
    ).eval()
  assert not [w for w in caught if 'adapter' in str(w.message)]
  saved = safetensors_numpy.load_file(folder / 'adapter_model.safetensors')
  there = peft.get_peft_model_state_dict(model)
  assert there.keys() == saved.keys()
  for name, tensor in there.items():
    np.testing.assert_array_equal(tensor.numpy(), saved[name], name)
  return model


def check_logits(model, config, params, adapters=None, tokens_BxT=TOKENS_BxT):
  valid_BxT = np.ones_like(tokens_BxT, bool)
  want = small_checkpoints.torch_logits(model, tokens_BxT, valid_BxT)
  found = small_checkpoints.logits(config, params, tokens_BxT, valid_BxT, adapters)
  assert small_checkpoints.worst_relative(found, want, valid_BxT) < 2e-4
  return want


@pytest.mark.parametrize('targets, first', [*zip(TARGETS, (0, 2))], ids=str)
@pytest.mark.parametrize('name', ALL)
def test_adapters_load_alone_from_any_directory(
  name, targets, first, tmp_path, monkeypatch
):
  """The base is named as a user does who stands beside it."""
  source, model = small_checkpoints.saved(name)
  monkeypatch.chdir(source.parent)
  config, params = small_checkpoints.imported(source)
  adapters = adapters_of(config, targets, first)
  peft_format.save(tmp_path / 'a', adapters, base=source.name, first=first)
  monkeypatch.chdir(tmp_path)
  adapted = check_logits(load_alone(tmp_path / 'a'), config, params, adapters)
  base = small_checkpoints.torch_logits(model, TOKENS_BxT, VALID_BxT)
  assert np.abs(adapted - base).max() > 0.1  # the adapters do something
  again = peft_format.load(tmp_path / 'a', config)
  jax.tree.map(np.testing.assert_array_equal, again, adapters)


def of_peft(base, options: peft.LoraConfig, folder):
  """A model with adapters that peft made and saved, which change what it says."""
  model = peft.get_peft_model(base, options).eval()
  with torch.no_grad():
    for key, p in model.named_parameters():
      if 'lora_' in key:
        p.normal_(0, 0.3)
  model.save_pretrained(folder)
  return model


@pytest.mark.parametrize('chosen', [[2, 1], [2], 2, [0, 1, 2], []], ids=str)
def test_adapters_that_peft_made_of_the_last_layers_are_imported(chosen, tmp_path):
  source, _ = small_checkpoints.saved('qwen3')
  options = peft.LoraConfig(
    r=4, target_modules=['q_proj', 'down_proj'], layers_to_transform=chosen
  )
  base = transformers.AutoModelForCausalLM.from_pretrained(
    source, attn_implementation='eager'
  )
  model = of_peft(base, options, tmp_path)
  config, params = small_checkpoints.imported(source)
  adapters = peft_format.load(tmp_path, config)
  assert adapters.depth == {'2': 1, '[2]': 1, '[2, 1]': 2}.get(str(chosen), 3)
  check_logits(model, config, params, adapters)


def test_adapters_name_the_commit_of_a_model_on_the_hub(tmp_path, monkeypatch):
  """Of two commits in the cache, the one that was trained on, not main."""
  monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_OFFLINE', True)
  monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_CACHE', str(tmp_path))
  monkeypatch.setattr(transformers.utils.hub, 'is_offline_mode', lambda: True)
  own, other = ('0123456789abcdef0123456789abcdef0123456' + x for x in '78')
  repo = tmp_path / 'models--some--model'
  shutil.copytree(small_checkpoints.saved('qwen3')[0], repo / 'snapshots' / own)
  shutil.copytree(small_checkpoints.saved('llama')[0], repo / 'snapshots' / other)
  (repo / 'refs').mkdir()
  (repo / 'refs' / 'main').write_text(other)
  (repo / 'refs' / 'v1').write_text(own)
  config, params = small_checkpoints.imported(hub.find('some/model', 'v1'))
  adapters = adapters_of(config)
  peft_format.save(tmp_path / 'a', adapters, base='some/model', revision='v1')
  said = json.loads((tmp_path / 'a' / 'adapter_config.json').read_text())
  assert (said['base_model_name_or_path'], said['revision']) == ('some/model', own)
  model = peft.AutoPeftModelForCausalLM.from_pretrained(
    tmp_path / 'a', cache_dir=tmp_path, local_files_only=True
  )
  check_logits(model.eval(), config, params, adapters)


def test_adapters_of_a_base_that_is_nowhere_are_not_written(tmp_path):
  config, _ = small_checkpoints.imported(small_checkpoints.saved('llama')[0])
  with pytest.raises(families.CheckpointError, match='no such folder'):
    peft_format.save(tmp_path / 'a', adapters_of(config), base='no/such/folder')
  assert not (tmp_path / 'a').exists()


@pytest.mark.parametrize('older', [True, False])
def test_adapters_that_peft_made_of_a_multimodal_model_are_imported(older, tmp_path):
  source, _ = small_checkpoints.saved('gemma3_multimodal')
  base = transformers.AutoModelForCausalLM.from_pretrained(
    source, attn_implementation='eager'
  )
  options = peft.LoraConfig(
    r=4, lora_alpha=8, target_modules=r'.*language_model.*\.(q_proj|v_proj)'
  )
  model = of_peft(base, options, tmp_path)
  path = tmp_path / 'adapter_model.safetensors'
  if older:  # as before transformers 4.52
    data = {
      name.replace('model.language_model', 'language_model.model'): x
      for name, x in safetensors_numpy.load_file(path).items()
    }
    weights.save_tensors(path, data)
  config, params = small_checkpoints.imported(source)
  check_logits(model, config, params, peft_format.load(tmp_path, config))


@pytest.mark.parametrize(
  'change',
  [
    {'r': '4'},
    {'r': 0},
    {'r': True},
    {'r': None},
    {'lora_alpha': '8'},
    {'lora_alpha': None},
    {'lora_alpha': -1},
    {'kasa_config': {'a': 1}},
    {'use_bdlora': {'a': 1}},
    {'of_a_later_version': True},
    *({'layers_to_transform': x} for x in ([0, 1], [0, 2], [1, 1, 2], [3], 3, -1)),
    *({'layers_to_transform': x} for x in ([-1], [True, 2], ['2'], '2', 2.0, {})),
    {'init_lora_weights': 'loftq', 'loftq_config': {'bits': 4}},
    *({'peft_type': 'IA3'}, {'use_dora': True}, {'use_rslora': True}, {'bias': 'all'}),
    *({'rank_pattern': {'q_proj': 2}}, {'modules_to_save': ['lm_head']}),
    {'init_lora_weights': 'pissa'},
    {'rank_pattern': {'q_proj': 8}},
    {'alpha_pattern': {'qkv_proj': 9}},
  ],
  ids=str,
)
def test_adapters_of_another_arithmetic_are_refused_in_a_line(change, tmp_path):
  config, _ = small_checkpoints.imported(small_checkpoints.saved('qwen3')[0])
  peft_format.save(tmp_path / 'a', adapters_of(config))
  path = tmp_path / 'a' / 'adapter_config.json'
  path.write_text(json.dumps(json.loads(path.read_text()) | change))
  with pytest.raises(families.CheckpointError, match=f'^{path}: [^\n]*$') as e:
    peft_format.load(tmp_path / 'a', config)
  assert next(iter(change)) in str(e.value)


def test_what_peft_writes_by_itself_is_read(tmp_path):
  """Every field of the installed version, as it is by default."""
  config, _ = small_checkpoints.imported(small_checkpoints.saved('qwen3')[0])
  peft_format.save(tmp_path / 'a', adapters_of(config))
  said = peft.PeftConfig.from_pretrained(tmp_path / 'a')
  said.save_pretrained(tmp_path / 'a')
  assert peft_format.load(tmp_path / 'a', config).rank == 5


def test_adapters_that_peft_made_of_several_layers_in_one_are_imported(tmp_path):
  """Each has the same A."""
  source, _ = small_checkpoints.saved('phi3')
  modules = ['qkv_proj', 'o_proj', 'gate_up_proj']
  base = transformers.AutoModelForCausalLM.from_pretrained(
    source, attn_implementation='eager'
  )
  model = of_peft(base, peft.LoraConfig(r=4, target_modules=modules), tmp_path)
  config, params = small_checkpoints.imported(source)
  adapters = peft_format.load(tmp_path, config)
  assert set(adapters.weights) == {'q', 'k', 'v', 'o', 'gate', 'up'}
  check_logits(model, config, params, adapters)


def test_an_adapter_that_mixes_layers_in_one_is_refused(tmp_path):
  source, _ = small_checkpoints.saved('phi3')
  config, _ = small_checkpoints.imported(source)
  folder = tmp_path / 'a'
  peft_format.save(folder, adapters_of(config), base=str(source))
  data = safetensors_numpy.load_file(folder / peft_format.TENSORS)
  name = next(x for x in data if 'qkv_proj.lora_B' in x)
  data[name] = data[name] + 1
  weights.save_tensors(folder / peft_format.TENSORS, data)
  with pytest.raises(families.CheckpointError, match=f'{name}: .*3 blocks.*merge'):
    peft_format.load(folder, config)


@pytest.mark.parametrize('name', ALL)
def test_all_weights_load_alone_with_tokenizer_template_and_ends(name, tmp_path):
  source, model = small_checkpoints.saved(name)
  folder = shutil.copytree(source, tmp_path / 'source')
  family = 'gemma' if name.startswith('gemma') else 'qwen'
  chat_tokenizers.save(family, folder)
  ends = {'eos_token_id': [3, 5], 'repetition_penalty': 1.05}
  (folder / hub.GENERATION).write_text(json.dumps(ends))
  config, params = small_checkpoints.imported(folder)
  before = tokens.load_tokenizer(folder)
  weights.save(
    tmp_path / 'out',
    config,
    params,
    tokenizer=before,
    like=hub.read_config(folder),
    source=folder,
  )
  os.rename(folder, tmp_path / 'gone')
  again, report = transformers.AutoModelForCausalLM.from_pretrained(
    tmp_path / 'out',
    attn_implementation='eager',
    dtype=torch.float32,
    output_loading_info=True,
  )
  assert not any(report.values()), report
  check_logits(again.eval(), config, params)
  np.testing.assert_allclose(
    small_checkpoints.torch_logits(again, TOKENS_BxT, VALID_BxT),
    small_checkpoints.torch_logits(model, TOKENS_BxT, VALID_BxT),
    atol=1e-5,
  )
  assert again.generation_config.eos_token_id == [3, 5]
  assert again.generation_config.repetition_penalty == 1.05
  tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / 'out')
  assert tokenizer.chat_template == before.chat_template
  turns = [{'role': 'user', 'content': 'Who are  you?\n'}]
  asked = dict(add_generation_prompt=True, tokenize=True)
  assert tokenizer.apply_chat_template(turns, **asked) == before.apply_chat_template(
    turns, **asked
  )
  assert tokens.ends(tokens.load_tokenizer(tmp_path / 'out'))[1:] == (3, 5)


def config_of(tmp_path, base, **lora_config):
  config = hint_mmlu.get_config(
    f'model=local,checkpoint={tmp_path / "qwen"},path={tmp_path / "q.csv"},seeds=1,'
    'rank=4,steps=1,kl=0'
  ).unlock()
  config.runs = {'r': dict(lora=lora_config)}
  config.report.main = 'r'
  config.base = base or config.base
  config.label.batch = 8
  config.train.update(explanation_batch=4, behavior_batch=4)
  config.train.optimizer.update(warmup_steps=0, learning_rate=0.03)
  return config


@pytest.mark.usefixtures('few_optimizations')
def test_what_long_factors_trained_rotates_by_them_at_every_length(tmp_path):
  shape = small_checkpoints.phi3_longrope(32)
  shape.vocab_size = len(chat_tokenizers.load('qwen'))
  small_checkpoints.torch_model(shape).save_pretrained(tmp_path / 'qwen')
  chat_tokenizers.save('qwen', tmp_path / 'qwen')
  chat_checkpoints.save_questions(tmp_path / 'q.csv')
  config = config_of(tmp_path, None, rank=4)
  config.base.long_context = True
  e = validate.resolve(config)
  for stage in ('prepare', 'base', 'label', 'train', 'export'):
    pipeline.run(e, tmp_path / 'w', stage, workers=1, follow=False)
  folder = tmp_path / 'w' / 'seed0' / 'r' / 'export' / 'model'
  config, params = small_checkpoints.imported(tmp_path / 'qwen', long_context=True)
  adapted = load_alone(folder)
  for length in (20, 40):
    tokens_BxT = np.tile(TOKENS_BxT, 2)[:, :length]
    check_logits(adapted, config, params, peft_format.load(folder, config), tokens_BxT)


@pytest.mark.usefixtures('few_optimizations')
def test_adapters_on_weights_that_were_trained_here_bring_them_along(tmp_path):
  chat_checkpoints.save(tmp_path / 'qwen')
  (tmp_path / 'qwen' / hub.GENERATION).write_text('{"eos_token_id": [3, 5]}')
  chat_checkpoints.save_questions(tmp_path / 'q.csv')
  step = tmp_path / 'first' / 'seed0' / 'r' / 'train' / 'checkpoints' / '1'
  for workdir, base, rank in (('first', None, 0), ('second', {'step': str(step)}, 4)):
    e = validate.resolve(config_of(tmp_path, base, rank=rank))
    for stage in ('prepare', 'base', 'label', 'train', 'export'):
      pipeline.run(e, tmp_path / workdir, stage, workers=1, follow=False)
  folder = tmp_path / 'second' / 'seed0' / 'r' / 'export' / 'model'
  adapted = load_alone(folder)
  assert adapted.get_base_model().generation_config.eos_token_id == [3, 5]
  config, params = small_checkpoints.imported(
    tmp_path / 'first' / 'seed0' / 'r' / 'export' / 'model'
  )
  check_logits(adapted, config, params, peft_format.load(folder, config))
  untrained = small_checkpoints.imported(tmp_path / 'qwen')[1]
  assert np.any(untrained['embed']['embedding'] != params['embed']['embedding'])
