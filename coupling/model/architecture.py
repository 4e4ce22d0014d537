"""The architecture of a decoder: a model family is a `DecoderConfig`, not a class."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class RopeScaling:
  """Rotary frequencies stretched for contexts longer than those of pretraining.

  With `original_length` 0, all are divided by `factor` (Chen et al. 2023). Otherwise as
  in Llama 3.1: those that turn fewer than `low_freq_factor` times in that length are
  divided, those that turn more than `high_freq_factor` times are kept, and those
  between are interpolated: by their turns, or in YaRN (Peng et al. 2023) by their
  number, between the whole ones next to these two. In LongRoPE (Ding et al. 2024) each
  is divided by a number of its own, another for texts beyond that length.
  """

  factor: float = 1.0
  low_freq_factor: float = 1.0
  high_freq_factor: float = 4.0
  original_length: int = 0  # tokens
  yarn: bool = False
  attention_factor: float = 1.0  # sines and cosines are multiplied by it
  short_factors: tuple[float, ...] = ()  # of LongRoPE, one a frequency
  long_factors: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderConfig:
  """Shape and arithmetic of a decoder.

  `dtype` is the type of activations and matrix products, `param_dtype` that of
  the stored weights; norms, softmax and logits are always float32.
  """

  vocab_size: int
  width: int
  depth: int
  num_heads: int
  num_kv_heads: int
  head_dim: int
  mlp_dim: int  # of each expert, where there are several
  activation: str = 'silu'
  gated_mlp: bool = True
  qkv_bias: bool = False
  out_bias: bool = False  # of what attention adds
  mlp_bias: bool = False
  num_experts: int = 0  # MLPs of a layer, of which each token has some; 0: one for all
  experts_per_token: int = 0
  norm_expert_shares: bool = False  # a token's experts' shares are made to sum to 1
  qk_norm: bool = False
  joint_qk_norm: bool = False  # over all heads together, not each by itself
  pre_norms: bool = True  # of what enters attention and MLP
  post_norms: bool = False  # of what attention and MLP add to the residual
  offset_norms: bool = False  # norms multiply by 1 + scale
  tied_head: bool = True
  embedding_multiplier: float = 1.0  # of tokens' embeddings
  residual_multiplier: float = 1.0  # of what attention and MLP add to the residual
  attention_multiplier: float = 0.0  # of scores; 0: 1 / root of head_dim
  logits_divisor: float = 1.0
  rotary_dims: int = 0  # of a head, those that rotate; 0: all
  rope_theta: float = 10_000.0
  rope_scaling: RopeScaling | None = None
  long_context: bool = False  # LongRoPE's long factors, whatever a text's length
  window: int = 0  # tokens that a sliding layer sees, itself included; 0: none slides
  full_layers: tuple[int, ...] = ()  # with a window: layers that see everything
  window_rope_theta: float = 0.0  # of sliding layers, unscaled; 0: as all layers
  no_rope_layers: tuple[int, ...] = ()  # layers that do not rotate
  learned_positions: int = 0  # longest sequence with an embedding per position; 0: none
  norm_eps: float = 1e-6
  embedding_std: float = 0.02  # of fresh weights
  dtype: str = 'float32'
  param_dtype: str = 'float32'
  scan_layers: bool = True
  remat: str = 'none'  # what the backward pass computes anew: see stack.REMAT
  attention: str = 'blocks'  # of whole sequences; or cudnn: see attend_fused
