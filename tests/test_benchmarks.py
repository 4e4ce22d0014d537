"""Benchmarks that need other machines run on this one, with a tiny model."""

import json
import pathlib
import re
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


@pytest.mark.slow
def test_a_step_and_an_evaluation_of_both_sides(tmp_path):
  (tmp_path / 'config.json').write_text(json.dumps(SHAPE))
  few = ['--rank=4', '--tokens=40', '--pairs=2', '--evaluated=4', '--rounds=1']
  done = subprocess.run(
    [sys.executable, '-m', 'benchmarks.accelerator', f'--shape={tmp_path}', *few],
    cwd=pathlib.Path(__file__).parent.parent,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  told = re.findall(r'([\d.]+) (?:times as fast|pairs/s|TB/s)', done.stdout)
  assert len(told) == 4 and all(float(x) > 0 for x in told), done.stdout
  assert 'failed' not in done.stdout
