"""Small random checkpoints of every family, made and saved by `transformers`."""

import functools
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers

from coupling.checkpoints import hub
from coupling.checkpoints import weights
from coupling.config import schema
from coupling.model import decoder
from coupling.model import sharding
from coupling.model.architecture import DecoderConfig

torch.set_num_threads(1)  # these models are too small to share

VOCABULARY = 101
MESH = sharding.make_mesh(schema.Mesh(fsdp=1), jax.devices()[:1])
# Sizes that no two axes share, so that none can be mistaken for another.
_SIZES = {
  'vocab_size': VOCABULARY,
  'hidden_size': 24,
  'intermediate_size': 40,
  'num_hidden_layers': 3,
  'num_attention_heads': 4,
  'num_key_value_heads': 2,
  'head_dim': 16,
  'bos_token_id': None,
  'eos_token_id': None,
  'pad_token_id': None,
  'max_position_embeddings': 512,
}
_LLAMA3 = {
  'rope_type': 'llama3',
  'factor': 8.0,
  'low_freq_factor': 1.0,
  'high_freq_factor': 4.0,
  'original_max_position_embeddings': 64,
}
_YARN = {
  'rope_type': 'yarn',
  'factor': 8.0,
  'beta_fast': 4.0,
  'beta_slow': 1.0,
  'original_max_position_embeddings': 64,
  'attention_factor': 1.2079441541679836,
}
_QWEN2 = {k: v for k, v in _SIZES.items() if k != 'head_dim'}


def phi3_longrope(length: int) -> transformers.Phi3Config:
  """As microsoft/Phi-4-mini-instruct: long factors beyond so many tokens."""
  return transformers.Phi3Config(
    **_QWEN2 | {'hidden_size': 64},
    partial_rotary_factor=0.75,
    original_max_position_embeddings=length,
    rope_scaling={
      'type': 'longrope',
      'short_factor': [1.0, 1.1, 1.3, 1.6, 2.0, 2.5],
      'long_factor': [1.0, 1.5, 3.0, 6.0, 9.0, 20.0],
    },
  )


CONFIGS = {
  'llama': lambda: transformers.LlamaConfig(
    **_SIZES, rope_theta=10_000.0, rope_scaling=_LLAMA3
  ),
  'llama_biased': lambda: transformers.LlamaConfig(
    **_SIZES, attention_bias=True, mlp_bias=True
  ),
  'mistral': lambda: transformers.MistralConfig(**_SIZES, sliding_window=9),
  'qwen2': lambda: transformers.Qwen2Config(**_QWEN2, rope_theta=1e6),
  'qwen2_windowed': lambda: transformers.Qwen2Config(
    **_QWEN2, use_sliding_window=True, sliding_window=9, max_window_layers=1
  ),
  'qwen3': lambda: transformers.Qwen3Config(**_SIZES, tie_word_embeddings=True),
  'qwen3_moe': lambda: transformers.Qwen3MoeConfig(
    **_SIZES,
    moe_intermediate_size=20,
    num_experts=5,
    num_experts_per_tok=2,
    norm_topk_prob=True,
  ),
  'gemma3': lambda: transformers.Gemma3TextConfig(
    **_SIZES,
    layer_types=['sliding_attention', 'full_attention', 'sliding_attention'],
    sliding_window=9,
    query_pre_attn_scalar=40,
    rope_parameters={
      'full_attention': {'rope_type': 'linear', 'factor': 8.0, 'rope_theta': 1e4},
      'sliding_attention': {'rope_type': 'default', 'rope_theta': 100.0},
    },
  ),
  'olmo2': lambda: transformers.Olmo2Config(**_SIZES),
  # As allenai/Olmo-3-1025-7B.
  'olmo3': lambda: transformers.Olmo3Config(
    **_SIZES,
    layer_types=['sliding_attention', 'full_attention', 'sliding_attention'],
    sliding_window=9,
    rope_theta=10_000.0,
    rope_scaling=_YARN,
  ),
  'smollm3': lambda: transformers.SmolLM3Config(**_SIZES, no_rope_layers=[1, 0, 1]),
  'granite': lambda: transformers.GraniteConfig(
    **_SIZES,
    embedding_multiplier=3.0,
    residual_multiplier=0.4,
    attention_multiplier=0.15,
    logits_scaling=5.0,
  ),
  'phi3': lambda: transformers.Phi3Config(
    **_SIZES, partial_rotary_factor=0.75, sliding_window=9
  ),
  'phi3_longrope': lambda: phi3_longrope(128),
}
# As google/gemma-3-4b-it: a language model within a model that also sees.
MULTIMODAL = {
  'gemma3_multimodal': lambda: transformers.Gemma3Config(
    text_config=CONFIGS['gemma3'](),
    vision_config={
      'hidden_size': 16,
      'intermediate_size': 24,
      'num_hidden_layers': 2,
      'num_attention_heads': 2,
      'image_size': 28,
      'patch_size': 14,
    },
    mm_tokens_per_image=4,
    image_token_index=VOCABULARY - 1,
    boi_token_index=VOCABULARY - 2,
    eoi_token_index=VOCABULARY - 3,
  )
}


def torch_model(config: transformers.PreTrainedConfig, seed: int = 0):
  """A model whose every weight matters: no norm is 1, no bias 0, attention is sharp."""
  torch.manual_seed(seed)
  model = transformers.AutoModelForCausalLM.from_config(
    config, attn_implementation='eager'
  )
  with torch.no_grad():
    for name, p in model.named_parameters():
      if 'norm' in name:
        p.add_(0.3 * torch.randn_like(p))
      elif 'embed' in name and config.model_type.startswith('gemma3'):
        p.normal_(0, 0.02)  # is scaled up; layers must count beside it
      elif name.endswith('bias') and getattr(config, 'mlp_bias', False):
        p.normal_(0, 0.15)  # of so many, or every position would say one word
      elif p.ndim == 1 or 'embed' in name:
        p.normal_(0, 0.5)
      else:
        p.normal_(0, 1.3 * p.shape[1] ** -0.5)
  return model.eval()


@functools.cache
def saved(name: str) -> tuple[pathlib.Path, torch.nn.Module]:
  """A family's checkpoint and the model that it holds; neither is to be changed."""
  model = torch_model((CONFIGS | MULTIMODAL)[name]())
  folder = pathlib.Path(tempfile.mkdtemp(prefix=f'{name}-'))
  model.save_pretrained(folder)
  return folder, model


def imported(folder: pathlib.Path, **options) -> tuple[DecoderConfig, decoder.Params]:
  config = hub.decoder_config(folder, **options)
  return config, weights.load(folder, config)


@torch.no_grad()
def torch_logits(model, tokens_BxT: np.ndarray, valid_BxT: np.ndarray) -> np.ndarray:
  """[B, T, V] of transformers, positions counted from the first valid token."""
  valid_BxT = torch.tensor(valid_BxT)
  return model(
    input_ids=torch.tensor(tokens_BxT),
    attention_mask=valid_BxT.long(),
    position_ids=(valid_BxT.cumsum(1) - 1).clamp(min=0),
  ).logits.numpy()


def logits(config, params, tokens_BxT, valid_BxT, adapters=None) -> jnp.ndarray:
  """[B, T, V] of our decoder."""
  if adapters is not None:
    params = params | {decoder.ADAPTERS: adapters}
  hidden_BxTxD = decoder.apply(config, params, tokens_BxT, valid_BxT).hidden_BxCxD
  return decoder.unembed(config, params, hidden_BxTxD)


def worst_relative(found, want, valid_BxT) -> float:
  """Largest error of a valid position's logits, relative to the largest of them."""
  error_BxT = np.abs(np.asarray(found) - want).max(-1) / np.abs(want).max(-1)
  return float(error_BxT[valid_BxT].max())
