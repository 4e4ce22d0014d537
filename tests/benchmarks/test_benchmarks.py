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


@pytest.mark.slow
def test_both_sides_of_the_accelerator_benchmark(tmp_path):
  (tmp_path / 'config.json').write_text(json.dumps(SHAPE))

  def told(*more: str) -> str:
    done = subprocess.run(
      [sys.executable, '-m', 'benchmarks.accelerator', f'--shape={tmp_path}', *FEW]
      + [*more],
      cwd=pathlib.Path(__file__).parents[2],
      capture_output=True,
      text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout

  sides = (told(f'--side={x}') for x in ('here', 'PyTorch'))
  here, peer = (json.loads(text.splitlines()[-1]) for text in sides)
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
  assert 'times as fast' in told()
