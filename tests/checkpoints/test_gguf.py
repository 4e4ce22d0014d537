"""GGUF files of every family: their weights, and how a conversion is kept."""

from concurrent import futures
import dataclasses
import importlib
import pathlib
import shutil
import subprocess
import sys

import gguf
import numpy as np
import pytest
import transformers

from coupling.checkpoints import gguf_checkpoint, gguf_config, gguf_file, hub
from coupling.checkpoints import peft_format
from coupling.checkpoints.hf_config import CheckpointError
from coupling.model import lora
from tests import chat_checkpoints, command, small_checkpoints, gguf_models
from tests.gguf_models import KINDS

TOKENS_BxT = np.random.default_rng(0).integers(250, size=(2, 40))
VALID_BxT = np.ones((2, 40), bool)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> pathlib.Path:
  monkeypatch.setenv(gguf_checkpoint.CACHE, str(tmp_path / 'converted'))
  return tmp_path / 'converted'


@pytest.fixture
def llama(tmp_path) -> pathlib.Path:
  gguf_models.save(tmp_path / 'llama.gguf', 'llama', KINDS.Q8_0)
  return tmp_path / 'llama.gguf'


# --- Weights.


@pytest.mark.parametrize(
  'family, kind',
  [
    ('llama', KINDS.F32),
    ('llama', KINDS.Q4_1),
    ('linear', KINDS.Q5_1),
    ('mistral', KINDS.Q4_0),
    ('qwen2', KINDS.Q5_0),
    ('qwen3', KINDS.BF16),
    ('gemma3', KINDS.F16),
    ('gemma3', KINDS.Q8_0),
  ],
  ids=lambda x: x if isinstance(x, str) else x.name,
)
def test_logits_equal_those_of_the_model_that_was_written(family, kind, tmp_path):
  model = gguf_models.save(tmp_path / 'a.gguf', family, kind)
  config, params = small_checkpoints.imported(hub.find(str(tmp_path / 'a.gguf')))
  found = small_checkpoints.logits(config, params, TOKENS_BxT, VALID_BxT)
  want = small_checkpoints.torch_logits(model, TOKENS_BxT, VALID_BxT)
  assert small_checkpoints.worst_relative(found, want, VALID_BxT) < 2e-4


@pytest.mark.parametrize('family', ['mistral', 'qwen2', 'qwen3'])
def test_logits_equal_those_of_transformers_reading_of_the_file(family, tmp_path):
  """What it reads: no window of Mistral's, no head_dim of Qwen3's (given here)."""
  model = gguf_models.make(family, KINDS.Q8_0)
  values = gguf_models.content(model, gguf_models.FAMILIES[family][1])
  values.pop('llama.attention.sliding_window', None)
  data = gguf_models.tensors(model)
  gguf_models.write(tmp_path / 'a.gguf', values, data, KINDS.Q8_0)
  given = {'head_dim': model.config.head_dim} if family == 'qwen3' else {}
  theirs = transformers.AutoModelForCausalLM.from_pretrained(
    tmp_path, gguf_file='a.gguf', attn_implementation='eager', **given
  ).eval()
  config, params = small_checkpoints.imported(hub.find(str(tmp_path / 'a.gguf')))
  found = small_checkpoints.logits(config, params, TOKENS_BxT, VALID_BxT)
  want = small_checkpoints.torch_logits(theirs, TOKENS_BxT, VALID_BxT)
  assert small_checkpoints.worst_relative(found, want, VALID_BxT) < 2e-4


@pytest.mark.parametrize('family', gguf_models.FAMILIES)
def test_the_decoder_is_that_of_the_model_on_the_hub(family, tmp_path):
  model = gguf_models.save(tmp_path / 'a.gguf', family)
  model.save_pretrained(tmp_path / 'hub')
  found = hub.decoder_config(hub.find(str(tmp_path / 'a.gguf')))
  want = hub.decoder_config(tmp_path / 'hub')
  if family == 'llama':  # the same factors, from other parameters
    scaling, theirs = found.rope_scaling, want.rope_scaling
    assert scaling.factor == theirs.factor
    for name in ('low_freq_factor', 'high_freq_factor'):
      ratio = getattr(scaling, name) / scaling.original_length
      wanted = getattr(theirs, name) / theirs.original_length
      assert ratio == pytest.approx(wanted, rel=1e-3)
    found = dataclasses.replace(found, rope_scaling=theirs)
  assert found == want


def test_llama3_scaling_is_that_of_the_models(tmp_path):
  """Where the factors are those of Llama 3.1, so are the parameters, exactly."""
  model = gguf_models.make('llama')
  scaling = {'factor': 32.0, 'low_freq_factor': 1.0, 'high_freq_factor': 4.0}
  scaling |= {'rope_type': 'llama3', 'original_max_position_embeddings': 8192}
  model.config.rope_parameters = scaling | {'rope_theta': 500_000.0}
  values = gguf_models.content(model, 'llama')
  gguf_models.write(tmp_path / 'a.gguf', values, gguf_models.tensors(model))
  raw = gguf_config.config(gguf_file.GGUF(tmp_path / 'a.gguf'))
  assert raw['rope_scaling'] == scaling and raw['rope_theta'] == 500_000


@pytest.mark.parametrize('depth, scalar', [(7, 32), (62, 16)])
def test_attention_of_gemma_27b_is_scaled_otherwise(depth, scalar, tmp_path):
  """By width / heads, 64 / 4; of the others, by the width of a head."""
  model = gguf_models.make('gemma3')
  values = gguf_models.content(model, 'gemma') | {'gemma3.block_count': depth}
  gguf_models.write(tmp_path / 'a.gguf', values, gguf_models.tensors(model))
  raw = gguf_config.config(gguf_file.GGUF(tmp_path / 'a.gguf'))
  assert raw['query_pre_attn_scalar'] == scalar
  full = [i for i, x in enumerate(raw['layer_types']) if x == 'full_attention']
  assert full == list(range(5, depth, 6))


def _dequantised() -> list[KINDS]:
  found = []
  for kind in KINDS:
    block = np.zeros((1, gguf.GGML_QUANT_SIZES[kind][1]), np.uint8)
    try:
      gguf.dequantize(block, kind)
    except NotImplementedError:
      continue
    found.append(kind)
  return found


@pytest.mark.parametrize('kind', _dequantised(), ids=lambda x: x.name)
def test_every_type_that_gguf_dequantises_is_read(kind, tmp_path, monkeypatch):
  """By parts of rows as all at once; bytes are such that no scale is infinite."""
  monkeypatch.setattr(gguf_file, '_CHUNK', 700)
  numbers, size = gguf.GGML_QUANT_SIZES[kind]
  columns = 256 // numbers * size
  raw = np.random.default_rng(0).integers(64, size=(11, columns), dtype=np.uint8)
  if kind in (KINDS.F32, KINDS.F16):
    raw = raw.view(kind.name.replace('F', 'float'))
  writer = gguf.GGUFWriter(tmp_path / 'a.gguf', 'llama')
  writer.add_tensor('x', raw, raw_dtype=kind)
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  found = gguf_file.GGUF(tmp_path / 'a.gguf').read('x')
  want = gguf.dequantize(raw, kind).reshape(11, 256)
  assert want.any()
  np.testing.assert_array_equal(found.astype(np.float32), want)


# --- The conversion is done once, and is whole.


def _count(monkeypatch) -> list:
  calls, convert = [], gguf_checkpoint._convert
  monkeypatch.setattr(
    gguf_checkpoint, '_convert', lambda *args: (calls.append(args), convert(*args))
  )
  return calls


def test_a_file_is_converted_once_wherever_it_lies(llama, tmp_path, monkeypatch):
  calls = _count(monkeypatch)
  with futures.ThreadPoolExecutor(4) as pool:  # as workers that start together
    folders = set(pool.map(hub.find, [str(llama)] * 4))
  (tmp_path / 'elsewhere').mkdir()
  folders.add(hub.find(shutil.copy(llama, tmp_path / 'elsewhere')))
  assert hub.find(shutil.copy(llama, tmp_path / 'no_suffix')) not in folders
  del calls[1]
  assert len(folders) == len(calls) == 1
  gguf_models.save(llama, 'llama', KINDS.Q4_0)  # another model by the same name
  assert hub.find(str(llama)) not in folders


@pytest.mark.parametrize('name', ['model.safetensors', 'tokenizer.json', 'config.json'])
def test_a_damaged_conversion_is_made_anew(llama, name, monkeypatch):
  folder = hub.find(str(llama))
  calls = _count(monkeypatch)
  whole = (folder / name).read_bytes()
  (folder / name).write_bytes(whole[:-9] + bytes(9))
  assert (hub.find(str(llama)) / name).read_bytes() == whole
  (folder / name).unlink()
  assert (hub.find(str(llama)) / name).read_bytes() == whole
  assert len(calls) == 2


def test_what_a_killed_conversion_left_is_no_conversion(llama, cache, monkeypatch):
  folder = hub.find(str(llama))
  shutil.rmtree(folder)

  def killed(*_):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(gguf_config, 'as_on_hub', killed)
    with pytest.raises(KeyboardInterrupt):
      hub.find(str(llama))
  assert [x.name for x in cache.iterdir() if x.is_dir()] == [f'{folder.name}.partial']
  assert (hub.find(str(llama)) / 'model.safetensors').stat().st_size > 0
  assert [x for x in cache.iterdir() if x.is_dir()] == [folder]


def test_a_package_stands_for_its_name_on_the_hub(monkeypatch, tmp_path):
  """Unless a revision is wanted, or it is not installed."""
  name = 'HuggingFaceTB/SmolLM2-135M-Instruct'
  package, file = gguf_checkpoint.PACKAGED[name]
  monkeypatch.syspath_prepend(tmp_path)
  monkeypatch.setattr(sys, 'path', [str(tmp_path)])
  importlib.invalidate_caches()
  assert gguf_checkpoint.find(name, None) is None
  (tmp_path / package).mkdir()
  (tmp_path / package / '__init__.py').write_text('import nothing_of_the_kind')
  assert gguf_checkpoint.find(name, None) is None
  (tmp_path / package / file).touch()
  assert gguf_checkpoint.find(name, None) == tmp_path / package / file
  assert gguf_checkpoint.find(name, 'main') is None
  assert gguf_checkpoint.find('HuggingFaceTB/SmolLM2-360M-Instruct', None) is None


@pytest.mark.parametrize('packaged', [True, False])
def test_adapters_name_a_file_or_the_name_it_stands_for(
  packaged, llama, tmp_path, monkeypatch
):
  """So that they load again, from any folder."""
  source, want = 'llama.gguf', (str(llama), None)
  if packaged:
    source, want = 'some/llama', ('some/llama', None)
    (tmp_path / 'brings_llama').mkdir()
    (tmp_path / 'brings_llama' / '__init__.py').touch()
    shutil.copy(llama, tmp_path / 'brings_llama')
    monkeypatch.setitem(
      gguf_checkpoint.PACKAGED, source, ('brings_llama', 'llama.gguf')
    )
    monkeypatch.syspath_prepend(tmp_path)
  monkeypatch.chdir(tmp_path)
  config = hub.decoder_config(hub.find(source))
  adapters = lora.init(config, rank=2, alpha=2.0, seed=0)
  peft_format.save(tmp_path / 'adapters', adapters, source)
  monkeypatch.chdir('/')
  raw = hub.read_json(tmp_path / 'adapters' / 'adapter_config.json')
  named = raw['base_model_name_or_path'], raw['revision']
  assert named == want
  again = peft_format.load(tmp_path / 'adapters', hub.decoder_config(hub.find(*named)))
  assert again.rank == 2


def test_a_run_keeps_the_conversion_in_its_workdir(tmp_path, monkeypatch):
  monkeypatch.delenv(gguf_checkpoint.CACHE)
  gguf_models.save(tmp_path / 'a.gguf', 'qwen3')
  questions = chat_checkpoints.save_questions(tmp_path / 'questions.csv')

  def run(stage) -> command.Completed:
    arguments = f'model=local,checkpoint={tmp_path}/a.gguf,path={questions},seeds=1'
    return command.run(
      f'--stage={stage}',
      f'--workdir={tmp_path}/w',
      f'--config=configs/hint_mmlu.py:{arguments}',
    )

  first, second = run('prepare'), run('base')
  assert first.returncode == second.returncode == 0, first.stderr + second.stderr
  assert 'converting' in first.stderr and 'converting' not in second.stderr
  found = list((tmp_path / 'w' / gguf_checkpoint.FOLDER).glob('a-*/config.json'))
  assert len(found) == 1
  whole = (tmp_path / 'a.gguf').read_bytes()
  (tmp_path / 'a.gguf').write_bytes(whole[:-1000])
  third = run('base')
  assert third.returncode and f'{tmp_path}/a.gguf: this is no whole' in third.stderr
  assert 'Traceback' not in third.stderr


def test_no_torch_at_run_time(llama):
  code = (
    'import sys; sys.modules["torch"] = None; from coupling.checkpoints import hub; '
    'from data import formats, tokens; folder = hub.find(sys.argv[1]); '
    'formats.Chat(tokens.load_tokenizer(folder)); hub.decoder_config(folder)'
  )
  subprocess.run([sys.executable, '-c', code, llama], check=True)


def test_parts_are_read_as_one(tmp_path, llama):
  model = gguf_models.make('llama', KINDS.Q8_0)
  values = gguf_models.content(model, 'llama')
  data = gguf_models.tensors(model)
  gguf_models.write(tmp_path / 'b.gguf', values, data, KINDS.Q8_0, split_max_tensors=9)
  parts = sorted(tmp_path.glob('b-*.gguf'))
  assert len(parts) > 2
  folder = hub.find(str(parts[1]))
  whole = hub.find(str(llama)) / 'model.safetensors'
  assert (folder / 'model.safetensors').read_bytes() == whole.read_bytes()
  parts[-1].unlink()
  with pytest.raises(CheckpointError, match=parts[-1].name):
    hub.find(str(parts[0]))
