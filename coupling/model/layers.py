"""The decoder's configuration and layers: rotary positions, attention, MLP, block.

Axes as in decoder.py: B batch, T positions, S key positions, C positions that a
layer computes, D width, F features, N heads, K key/value heads, H head dimension.
"""

from collections.abc import Callable, Sequence
import dataclasses
import functools
import math
from typing import NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import numpy as np

BATCH_AXES = ('data', 'fsdp')  # of the mesh: those that split the rows of a batch
BLOCK = 128  # queries whose scores are computed together: see attend_causally


def relu(x: jax.Array) -> jax.Array:
  """The positive part, and NaN of -inf, which is a sum that overflowed."""
  return jnp.where(x == -jnp.inf, jnp.nan, jax.nn.relu(x))


ACTIVATIONS = {
  'relu': relu,
  'silu': jax.nn.silu,
  'gelu_tanh': functools.partial(jax.nn.gelu, approximate=True),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class RopeScaling:
  """Rotary frequencies stretched for contexts longer than those of pretraining.

  With `original_length` 0, all are divided by `factor` (Chen et al. 2023). Otherwise as
  in Llama 3.1: those that turn fewer than `low_freq_factor` times in that length are
  divided, those that turn more than `high_freq_factor` times are kept, and those
  between are interpolated.
  """

  factor: float
  low_freq_factor: float = 1.0
  high_freq_factor: float = 4.0
  original_length: int = 0  # tokens


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
  mlp_dim: int
  activation: str = 'silu'
  gated_mlp: bool = True
  qkv_bias: bool = False
  qk_norm: bool = False
  post_norms: bool = False  # also of what attention and MLP add to the residual
  offset_norms: bool = False  # norms multiply by 1 + scale
  tied_head: bool = True
  scaled_embedding: bool = False  # tokens' embeddings times the root of the width
  query_scalar: int = 0  # scores are divided by its root; 0: head_dim
  rope_theta: float = 10_000.0
  rope_scaling: RopeScaling | None = None
  window: int = 0  # tokens that a sliding layer sees, itself included; 0: none slides
  full_layers: tuple[int, ...] = ()  # with a window: layers that see everything
  window_rope_theta: float = 0.0  # of sliding layers, unscaled; 0: as all layers
  learned_positions: int = 0  # longest sequence with an embedding per position; 0: none
  norm_eps: float = 1e-6
  embedding_std: float = 0.02  # of fresh weights
  dtype: str = 'float32'
  param_dtype: str = 'float32'
  scan_layers: bool = True
  remat: str = 'none'  # what the backward pass computes anew: see stack.REMAT
  attention: str = 'blocks'  # of whole sequences; or cudnn: see attend_fused


class View(NamedTuple):
  """What positions see, and how they are rotated.

  Where some layers slide and some do not, every leaf has a leading axis of two: the
  view of full layers, then that of sliding ones.
  """

  rope: tuple[jax.Array, jax.Array]
  mask_BxCxS: jax.Array


class Queries(NamedTuple):
  """Which positions a layer computes, and their view."""

  rows_BxC: jax.Array | None  # None: all T, in order
  view: View


def make_view(
  config: DecoderConfig,
  positions_BxC: jax.Array,
  key_positions_BxS: jax.Array,
  mask_BxCxS: jax.Array,
) -> View:
  """The view of the positions, or of both kinds of layers where a config has both."""
  scaled = rope_tables(positions_BxC, config)
  full = View(scaled, mask_BxCxS)
  if not config.window:
    return full
  distance_BxCxS = positions_BxC[:, :, None] - key_positions_BxS[:, None]
  near = View(scaled, mask_BxCxS & (distance_BxCxS < config.window))
  if config.window_rope_theta:
    own = dataclasses.replace(
      config, rope_theta=config.window_rope_theta, rope_scaling=None
    )
    near = near._replace(rope=rope_tables(positions_BxC, own))
  if not config.full_layers:
    return near
  return jax.tree.map(lambda *x: jnp.stack(jnp.broadcast_arrays(*x)), full, near)


def rope_tables(positions_BxT: jax.Array, config: DecoderConfig):
  """Sines and cosines of the rotary angles, [B, T, 1, H/2] each."""
  half = config.head_dim // 2
  frequency = config.rope_theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
  if config.rope_scaling is not None:
    frequency = frequency * _stretch(frequency, config.rope_scaling)
  angle = positions_BxT[:, :, None, None] * frequency
  return jnp.sin(angle), jnp.cos(angle)


def _stretch(frequency: jax.Array, scaling: RopeScaling) -> jax.Array | float:
  """What each frequency is multiplied by: 1 keeps it, 1 / factor stretches it."""
  if not scaling.original_length:
    return 1 / scaling.factor
  low, high = scaling.low_freq_factor, scaling.high_freq_factor
  turns = scaling.original_length * frequency / (2 * math.pi)
  kept = jnp.clip((turns - low) / (high - low), 0, 1)
  return kept + (1 - kept) / scaling.factor


def rotate(x_BxTxNxH: jax.Array, rope: tuple[jax.Array, jax.Array]) -> jax.Array:
  """Rotary position embedding, halves convention (Su et al. 2021; as in Llama)."""
  sin, cos = rope
  a, b = jnp.split(x_BxTxNxH.astype(jnp.float32), 2, axis=-1)
  rotated = jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
  return rotated.astype(x_BxTxNxH.dtype)


class Hooks(NamedTuple):
  """What may be changed from outside while a layer runs; by default nothing is.

  `site(name, value)` returns an activation or what replaces it. `adapt(name, x, y)`
  returns the output y of the linear layer `name` on x, or y with an adapter's share.
  """

  site: Callable[[str, jax.Array], jax.Array]
  adapt: Callable[[str, jax.Array, jax.Array], jax.Array]


@jax.custom_vjp
def product(x_xD: jax.Array, kernel_DxF: jax.Array) -> jax.Array:
  """x @ kernel, whose kernel's gradient is computed as it will be read.

  The rule that JAX derives gives the gradient transposed, and XLA on CPU then turns
  operands around before the product: the built-in world's step takes 1.2 times as long.
  """
  return x_xD @ kernel_DxF


def _product_forward(x_xD, kernel_DxF):
  return x_xD @ kernel_DxF, (x_xD, kernel_DxF)


def _product_backward(saved, g_xF):
  x_xD, kernel_DxF = saved
  rows = tuple(range(x_xD.ndim - 1))
  return g_xF @ kernel_DxF.T, jax.lax.dot_general(x_xD, g_xF, ((rows, rows), ((), ())))


product.defvjp(_product_forward, _product_backward)


def _dot_general(x_xD, kernel_DxF, dimensions, **_):
  """`product`, as nnx.Linear calls it."""
  del dimensions  # always the last of x and the first of the kernel
  return product(x_xD, kernel_DxF)


def _linear(config: DecoderConfig, rngs: nnx.Rngs) -> Callable[..., nnx.Linear]:
  """Makes linear layers from widths, without a bias unless they say otherwise."""
  return functools.partial(
    nnx.Linear,
    use_bias=False,
    dtype=config.dtype,
    param_dtype=config.param_dtype,
    dot_general=_dot_general,
    rngs=rngs,
  )


def _or_nan(square_x1: jax.Array, value_xX: jax.Array) -> jax.Array:
  """A value; NaN where the mean square that a norm divides by is not finite.

  The inverse root of infinity is 0: all that follows would be finite, and alike.
  """
  return jnp.where(jnp.isfinite(square_x1), value_xX, jnp.nan)


class RMSNorm(nnx.RMSNorm):
  """nnx.RMSNorm that tells of overflow."""

  def __call__(self, x):
    seen = x.astype(self.dtype).astype(jnp.float32)  # the same program computes it once
    square = jnp.mean(jnp.square(seen), axis=-1, keepdims=True)
    return _or_nan(square, super().__call__(x))


class OffsetRMSNorm(nnx.Module):
  """RMSNorm that multiplies by 1 + scale, rounded once at the end (as in Gemma)."""

  def __init__(self, config: DecoderConfig, width: int):
    self.config = config
    self.scale = nnx.Param(jnp.zeros(width, config.param_dtype))

  def __call__(self, x):
    x = x.astype(jnp.float32)
    square = jnp.mean(x * x, axis=-1, keepdims=True)
    x = x * jax.lax.rsqrt(_or_nan(square, square) + self.config.norm_eps)
    return (x * (1 + self.scale[...].astype(jnp.float32))).astype(self.config.dtype)


def make_norm(config: DecoderConfig, width: int, rngs: nnx.Rngs) -> nnx.Module:
  if config.offset_norms:
    return OffsetRMSNorm(config, width)
  return RMSNorm(
    width,
    epsilon=config.norm_eps,
    dtype=config.dtype,
    param_dtype=config.param_dtype,
    rngs=rngs,
  )


class Seen(NamedTuple):
  """Keys and values of positions, as the products of `attend` read them.

  In other orders of axes XLA on CPU turns them around first, for every new token.
  """

  k_BxKxHxS: jax.Array
  v_BxKxSxH: jax.Array


def attend(
  q_BxCxNxH: jax.Array, seen: Sequence[Seen], mask_BxCxS: jax.Array
) -> jax.Array:
  """Grouped-query attention [B, C, N, H].

  Args:
    q_BxCxNxH: queries, scaled.
    seen: keys and values in parts, whose positions together are those of the mask:
      what was read before need not be copied to stand beside what is new.
    mask_BxCxS: who sees whom; B may be 1.
  """
  B, C, N, H = q_BxCxNxH.shape
  K = seen[0].v_BxKxSxH.shape[1]
  q_BxKxGxCxH = q_BxCxNxH.reshape(B, C, K, -1, H).transpose(0, 2, 3, 1, 4)
  scores = functools.partial(
    jnp.einsum, 'bkgch,bkhs->bkgcs', q_BxKxGxCxH, preferred_element_type=jnp.float32
  )
  scores_BxKxGxCxS = jnp.concatenate([scores(x.k_BxKxHxS) for x in seen], axis=-1)
  hidden = 0.7 * jnp.finfo(jnp.float32).min  # finite: a row may see nothing
  # Below it, what is seen would count for less than what is hidden.
  too_low = scores_BxKxGxCxS <= hidden
  scores_BxKxGxCxS = jnp.where(too_low, jnp.nan, scores_BxKxGxCxS)
  scores_BxKxGxCxS = jnp.where(mask_BxCxS[:, None, None], scores_BxKxGxCxS, hidden)
  shares_BxKxGxCxS = jax.nn.softmax(scores_BxKxGxCxS).astype(q_BxCxNxH.dtype)
  ends = np.cumsum([x.v_BxKxSxH.shape[2] for x in seen])[:-1]
  shares = jnp.split(shares_BxKxGxCxS, ends, axis=-1)
  read = functools.partial(jnp.einsum, 'bkgcs,bksh->bkgch')
  heads_BxKxGxCxH = sum(read(p, x.v_BxKxSxH) for p, x in zip(shares, seen, strict=True))
  return heads_BxKxGxCxH.transpose(0, 3, 1, 2, 4).reshape(B, C, N, H)


def attend_causally(
  q_BxTxNxH: jax.Array, seen: Seen, mask_BxTxT: jax.Array
) -> jax.Array:
  """`attend`, where nothing sees what stands after it.

  Queries come in blocks, so that most of what no query sees is not computed, and the
  scores of all never lie in memory together.
  """
  T, heads = q_BxTxNxH.shape[1], []
  for start in range(0, T, BLOCK):
    end = min(start + BLOCK, T)
    earlier = Seen(seen.k_BxKxHxS[..., :end], seen.v_BxKxSxH[:, :, :end])
    block = slice(start, end)
    heads.append(attend(q_BxTxNxH[:, block], [earlier], mask_BxTxT[:, block, :end]))
  return jnp.concatenate(heads, axis=1)


def attend_fused(
  q_BxTxNxH: jax.Array,
  k_BxTxKxH: jax.Array,
  v_BxTxKxH: jax.Array,
  mask_BxTxT: jax.Array,
  implementation: str = 'cudnn',
) -> jax.Array:
  """`attend_causally` by jax.nn's fused attention, whose scores are never in memory.

  cuDNN takes bfloat16 heads of 8 to 128 features, and even lengths.
  """
  return jax.nn.dot_product_attention(
    q_BxTxNxH,
    k_BxTxKxH,
    v_BxTxKxH,
    mask=mask_BxTxT[:, None],
    scale=1.0,
    is_causal=True,  # so that what no query sees is not computed
    implementation=implementation,
  )


class Attention(nnx.Module):
  """Grouped-query attention over the keys that the mask makes visible."""

  def __init__(self, config: DecoderConfig, rngs: nnx.Rngs):
    self.config = config
    c = config
    linear = _linear(config, rngs)
    self.q = linear(c.width, c.num_heads * c.head_dim, use_bias=c.qkv_bias)
    self.k = linear(c.width, c.num_kv_heads * c.head_dim, use_bias=c.qkv_bias)
    self.v = linear(c.width, c.num_kv_heads * c.head_dim, use_bias=c.qkv_bias)
    self.out = linear(c.num_heads * c.head_dim, c.width)
    if c.qk_norm:
      self.q_norm = make_norm(c, c.head_dim, rngs)
      self.k_norm = make_norm(c, c.head_dim, rngs)

  def __call__(self, x_BxTxD, queries, rope, caches, hooks):
    c = self.config
    B, T, _ = x_BxTxD.shape
    asked_BxCxD = take(x_BxTxD, queries.rows_BxC)
    C = asked_BxCxD.shape[1]
    q_BxCxF = hooks.adapt('q', asked_BxCxD, self.q(asked_BxCxD))
    k_BxTxF = hooks.adapt('k', x_BxTxD, self.k(x_BxTxD))
    v_BxTxF = hooks.adapt('v', x_BxTxD, self.v(x_BxTxD))
    q_BxCxNxH = q_BxCxF.reshape(B, C, c.num_heads, c.head_dim)
    k_BxTxKxH = k_BxTxF.reshape(B, T, c.num_kv_heads, c.head_dim)
    v_BxTxKxH = v_BxTxF.reshape(B, T, c.num_kv_heads, c.head_dim)
    if c.qk_norm:
      q_BxCxNxH, k_BxTxKxH = self.q_norm(q_BxCxNxH), self.k_norm(k_BxTxKxH)
    q_BxCxNxH = rotate(q_BxCxNxH, queries.view.rope)
    k_BxTxKxH = rotate(k_BxTxKxH, rope)
    new = Seen(k_BxTxKxH.transpose(0, 2, 3, 1), v_BxTxKxH.swapaxes(1, 2))
    q_BxCxNxH = q_BxCxNxH * (c.query_scalar or c.head_dim) ** -0.5
    mask_BxCxS = queries.view.mask_BxCxS
    if caches or queries.rows_BxC is not None:
      heads_BxCxNxH = attend(q_BxCxNxH, [*caches, new], mask_BxCxS)
    elif c.attention == 'cudnn' and T % 2 == 0:
      heads_BxCxNxH = attend_fused(q_BxCxNxH, k_BxTxKxH, v_BxTxKxH, mask_BxCxS)
    else:
      heads_BxCxNxH = attend_causally(q_BxCxNxH, new, mask_BxCxS)
    heads_BxCxF = hooks.site('heads', heads_BxCxNxH).reshape(B, C, -1)
    return hooks.adapt('o', heads_BxCxF, self.out(heads_BxCxF)), new


class MLP(nnx.Module):
  """Gated (SwiGLU and kin) or plain feed-forward layer."""

  def __init__(self, config: DecoderConfig, rngs: nnx.Rngs):
    self.config = config
    linear = _linear(config, rngs)
    if config.gated_mlp:
      self.gate = linear(config.width, config.mlp_dim)
    self.up = linear(config.width, config.mlp_dim)
    self.down = linear(config.mlp_dim, config.width)

  def __call__(self, x_BxTxD, hooks):
    act = ACTIVATIONS[self.config.activation]
    if self.config.gated_mlp:
      gate_BxTxF = hooks.adapt('gate', x_BxTxD, self.gate(x_BxTxD))
      inner_BxTxF = act(gate_BxTxF) * hooks.adapt('up', x_BxTxD, self.up(x_BxTxD))
    else:
      inner_BxTxF = act(hooks.adapt('up', x_BxTxD, self.up(x_BxTxD)))
    return hooks.adapt('down', inner_BxTxF, self.down(inner_BxTxF))


class Block(nnx.Module):
  """Pre-norm residual block: attention, then MLP.

  All T positions give keys and values; the C of `queries` are computed further.
  """

  def __init__(self, config: DecoderConfig, rngs: nnx.Rngs):
    self.config = config
    self.attention_norm = make_norm(config, config.width, rngs)
    self.attention = Attention(config, rngs)
    self.mlp_norm = make_norm(config, config.width, rngs)
    self.mlp = MLP(config, rngs)
    if config.post_norms:
      self.attention_post_norm = make_norm(config, config.width, rngs)
      self.mlp_post_norm = make_norm(config, config.width, rngs)

  def __call__(self, x_BxTxD, queries, rope, caches, hooks):
    x_BxTxD = hooks.site('residual', x_BxTxD)
    attended_BxCxD, new = self.attention(
      self.attention_norm(x_BxTxD), queries, rope, caches, hooks
    )
    if self.config.post_norms:
      attended_BxCxD = self.attention_post_norm(attended_BxCxD)
    attended_BxCxD = hooks.site('attention_out', attended_BxCxD)
    x_BxCxD = take(x_BxTxD, queries.rows_BxC) + attended_BxCxD
    fed_BxCxD = self.mlp(self.mlp_norm(x_BxCxD), hooks)
    if self.config.post_norms:
      fed_BxCxD = self.mlp_post_norm(fed_BxCxD)
    return keep_rows(x_BxCxD + hooks.site('mlp_out', fed_BxCxD)), new


def keep_rows(x_BxTxX: jax.Array) -> jax.Array:
  """x, split over devices by its rows alone, where the program names its mesh.

  Left to itself the compiler splits activations as weights lie, by their features, and
  gathers them again and again.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if not set(BATCH_AXES) <= set(mesh.auto_axes):
    return x_BxTxX
  return jax.lax.with_sharding_constraint(x_BxTxX, P(BATCH_AXES))


def take(x_BxTxX: jax.Array, rows_BxC: jax.Array | None) -> jax.Array:
  """x at the positions of each row, [B, C, ...]; all of it where none are named."""
  if rows_BxC is None:
    return x_BxTxX
  rows = rows_BxC.reshape(rows_BxC.shape + (1,) * (x_BxTxX.ndim - 2))
  return jnp.take_along_axis(x_BxTxX, rows, axis=1)
