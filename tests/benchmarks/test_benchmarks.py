"""Benchmarks that need other machines run on this one, with a tiny model."""

import json
import pathlib
import subprocess
import sys

import pytest

SHAPE = dict(
  architectures=['Qwen3ForCausalLM'],
  model_type='qwen3',
  hidden_size=32,
  intermediate_size=64,
  num_hidden_layers=2,
  num_attention_heads=2,
  num_key_value_heads=1,
  head_dim=16,
  vocab_size=97,
  max_position_embeddings=256,
  tie_word_embeddings=True,
  rms_norm_eps=1e-6,
  rope_theta=10000.0,
  hidden_act='silu',
  attention_bias=False,
)


FEW = ['--rank=4', '--tokens=40', '--pairs=2', '--evaluated=4', '--rounds=1']
# The benchmark as it is, which also prints what the processes of its sides printed.
RECORDED = """
import subprocess
from absl import app
from benchmarks import accelerator
run = subprocess.run
def recorded(*args, **more):
  done = run(*args, **more)
  print(done.stdout)
  return done
subprocess.run = recorded
app.run(accelerator.main)
"""


@pytest.mark.slow
def test_both_sides_of_the_accelerator_benchmark(tmp_path):
  (tmp_path / 'config.json').write_text(json.dumps(SHAPE))
  done = subprocess.run(
    [sys.executable, '-c', RECORDED, f'--shape={tmp_path}', *FEW],
    cwd=pathlib.Path(__file__).parents[2],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stdout + done.stderr
  sides = [x for x in done.stdout.splitlines() if x.startswith('{')]
  here, peer = map(json.loads, sides)
  for side in (here, peer):
    assert side['device'] == 'cpu' and side['peak'] is None
    for name in {'train', 'tokens', 'evaluate', 'read', 'rate', 'bandwidth'} & {*side}:
      assert side[name] > 0, name
  # Forward and backward of the adapters' inputs, at least, of the tokens in rows.
  weights = 2 * (32 * (2 + 1 + 1) * 16 + 2 * 16 * 32 + 3 * 32 * 64)
  assert here['flops'] > 2 * 2 * weights * peer['tokens'] / 3
  # Weights in bfloat16, adapters in float32, caches: for every token but the first.
  assert here['decoded_bytes'] > 15 * 2 * here['parameters']
  assert here['tokens'] < peer['tokens']  # prefix trees
  assert 'times as fast' in done.stdout
