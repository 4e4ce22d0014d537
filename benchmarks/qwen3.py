"""Qwen3 models of random weights, made and saved by transformers."""

import pathlib

import torch
import transformers

# Fields of transformers.Qwen3Config. SMALL is of the built-in world's size; LARGER has
# 17.8 million parameters.
SMALL = dict(
  hidden_size=64,
  num_hidden_layers=3,
  num_attention_heads=4,
  num_key_value_heads=4,
  head_dim=16,
  intermediate_size=172,
  vocab_size=121,
)
LARGER = dict(
  hidden_size=512,
  num_hidden_layers=5,
  num_attention_heads=8,
  num_key_value_heads=4,
  head_dim=64,
  intermediate_size=1536,
  vocab_size=4096,
)


def save(folder: pathlib.Path, fields: dict[str, int]) -> float:
  """Writes a model with these fields; returns its million parameters."""
  config = transformers.Qwen3Config(
    **fields,
    tie_word_embeddings=True,
    max_position_embeddings=1024,
    bos_token_id=None,
    eos_token_id=None,
  )
  torch.manual_seed(0)
  model = transformers.AutoModelForCausalLM.from_config(config)
  model.save_pretrained(folder)
  return sum(p.numel() for p in model.parameters()) / 1e6
