"""Grouped-query attention: what a position sees, rotary positions, the products.

Axes: B batch, T positions, S key positions, C positions that a layer computes, D width,
F features, N heads, K key/value heads, G queries of one of these, H head dimension.
"""

from collections.abc import Sequence
import dataclasses
import functools
import math
from typing import NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from coupling.model import layers
from coupling.model.architecture import DecoderConfig

BLOCK = 128  # queries whose scores are computed together: see attend_causally


class Kind(NamedTuple):
  """What sets layers of one model apart."""

  slides: bool
  rotates: bool


def layer_kinds(config: DecoderConfig) -> tuple[list[Kind], np.ndarray]:
  """The kinds of layers that there are, and int32 [L]: which of them each layer is."""
  layers_L = [
    Kind(
      slides=bool(config.window) and i not in config.full_layers,
      rotates=i not in config.no_rope_layers,
    )
    for i in range(config.depth)
  ]
  kinds = sorted(set(layers_L))
  return kinds, np.array([kinds.index(kind) for kind in layers_L], np.int32)


class View(NamedTuple):
  """What positions see, and how they are rotated.

  Where layers are of several kinds, every leaf has a leading axis: the view of each
  kind, in the order of `layer_kinds`.
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
  """The view of the positions, or of each kind of layers where a config has several."""
  views = [
    _view_of(kind, config, positions_BxC, key_positions_BxS, mask_BxCxS)
    for kind in layer_kinds(config)[0]
  ]
  if len(views) == 1:
    return views[0]
  return jax.tree.map(lambda *x: jnp.stack(jnp.broadcast_arrays(*x)), *views)


def _view_of(kind, config, positions_BxC, key_positions_BxS, mask_BxCxS) -> View:
  if kind.slides:
    distance_BxCxS = positions_BxC[:, :, None] - key_positions_BxS[:, None]
    mask_BxCxS = mask_BxCxS & (distance_BxCxS < config.window)
  if kind.slides and config.window_rope_theta:
    config = dataclasses.replace(
      config, rope_theta=config.window_rope_theta, rope_scaling=None
    )
  sin, cos = rope_tables(positions_BxC, config)
  if not kind.rotates:
    sin, cos = jnp.zeros_like(sin), jnp.ones_like(cos)
  return View((sin, cos), mask_BxCxS)


def rope_tables(positions_BxT: jax.Array, config: DecoderConfig):
  """Sines and cosines of the rotary angles, [B, T, 1, H/2], of H that rotate."""
  half, scaling = (config.rotary_dims or config.head_dim) // 2, config.rope_scaling
  frequency = config.rope_theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
  if scaling is not None:
    frequency = frequency * _stretch(frequency, config)
  angle = positions_BxT[:, :, None, None] * frequency
  sin, cos = jnp.sin(angle), jnp.cos(angle)
  if scaling is not None and scaling.attention_factor != 1:
    sin, cos = sin * scaling.attention_factor, cos * scaling.attention_factor
  return sin, cos


def _stretch(frequency: jax.Array, config: DecoderConfig) -> jax.Array | float:
  """What each frequency is multiplied by: 1 keeps it, 1 / factor stretches it."""
  scaling, theta = config.rope_scaling, config.rope_theta
  if scaling.short_factors:
    long = config.long_context
    return 1 / jnp.array(scaling.long_factors if long else scaling.short_factors)
  if not scaling.original_length:
    return 1 / scaling.factor
  low, high = scaling.low_freq_factor, scaling.high_freq_factor
  if scaling.yarn:
    half = len(frequency)
    number = lambda turns: (
      half * math.log(scaling.original_length / (turns * 2 * math.pi)) / math.log(theta)
    )
    first = max(math.floor(number(high)), 0)
    last = min(math.ceil(number(low)), 2 * half - 1)
    last = last + 0.001 if last == first else last  # as transformers
    kept = 1 - jnp.clip((jnp.arange(half) - first) / (last - first), 0, 1)
  else:
    turns = scaling.original_length * frequency / (2 * math.pi)
    kept = jnp.clip((turns - low) / (high - low), 0, 1)
  return kept + (1 - kept) / scaling.factor


def rotate(x_BxTxNxH: jax.Array, rope: tuple[jax.Array, jax.Array]) -> jax.Array:
  """Rotary position embedding, halves convention (Su et al. 2021; as in Llama).

  Of a head's first dimensions, as many as there are angles for.
  """
  sin, cos = rope
  half = sin.shape[-1]
  a, b, rest = jnp.split(x_BxTxNxH.astype(jnp.float32), [half, 2 * half], axis=-1)
  rotated = jnp.concatenate([a * cos - b * sin, b * cos + a * sin, rest], axis=-1)
  return rotated.astype(x_BxTxNxH.dtype)


def causal_mask(valid_BxT: jax.Array) -> jax.Array:
  """bool [B, T, T]: a query sees itself and the valid positions before it."""
  T = valid_BxT.shape[1]
  earlier_TxT = jnp.tril(jnp.ones((T, T), bool))
  return earlier_TxT & (valid_BxT[:, None, :] | jnp.eye(T, dtype=bool))


def positions_of(valid_BxT: jax.Array) -> jax.Array:
  """Position of each token among the valid ones, so that padding shifts nothing."""
  return jnp.maximum(jnp.cumsum(valid_BxT, axis=1) - 1, 0)


def tree_mask(end_BxT: jax.Array) -> jax.Array:
  """bool [B, T, T]: who sees whom in rows of prefix trees; see data.trees."""
  place_T = jnp.arange(end_BxT.shape[1])
  seen_BxTxT = place_T[:, None] < end_BxT[:, None, :]
  return seen_BxTxT & (place_T <= place_T[:, None])


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
    linear = layers.linear(config, rngs)
    self.q = linear(c.width, c.num_heads * c.head_dim, use_bias=c.qkv_bias)
    self.k = linear(c.width, c.num_kv_heads * c.head_dim, use_bias=c.qkv_bias)
    self.v = linear(c.width, c.num_kv_heads * c.head_dim, use_bias=c.qkv_bias)
    self.out = linear(c.num_heads * c.head_dim, c.width, use_bias=c.out_bias)
    if c.qk_norm:
      queries, keys = (c.num_heads, c.num_kv_heads) if c.joint_qk_norm else (1, 1)
      self.q_norm = layers.make_norm(c, queries * c.head_dim, rngs)
      self.k_norm = layers.make_norm(c, keys * c.head_dim, rngs)

  def __call__(self, x_BxTxD, queries, rope, caches, hooks):
    c = self.config
    B, T, _ = x_BxTxD.shape
    asked_BxCxD = layers.take(x_BxTxD, queries.rows_BxC)
    C = asked_BxCxD.shape[1]
    q_BxCxF = hooks.adapt('q', asked_BxCxD, self.q(asked_BxCxD))
    k_BxTxF = hooks.adapt('k', x_BxTxD, self.k(x_BxTxD))
    v_BxTxF = hooks.adapt('v', x_BxTxD, self.v(x_BxTxD))
    if c.qk_norm and c.joint_qk_norm:
      q_BxCxF, k_BxTxF = self.q_norm(q_BxCxF), self.k_norm(k_BxTxF)
    q_BxCxNxH = q_BxCxF.reshape(B, C, c.num_heads, c.head_dim)
    k_BxTxKxH = k_BxTxF.reshape(B, T, c.num_kv_heads, c.head_dim)
    v_BxTxKxH = v_BxTxF.reshape(B, T, c.num_kv_heads, c.head_dim)
    if c.qk_norm and not c.joint_qk_norm:
      q_BxCxNxH, k_BxTxKxH = self.q_norm(q_BxCxNxH), self.k_norm(k_BxTxKxH)
    q_BxCxNxH = rotate(q_BxCxNxH, queries.view.rope)
    k_BxTxKxH = rotate(k_BxTxKxH, rope)
    new = Seen(k_BxTxKxH.transpose(0, 2, 3, 1), v_BxTxKxH.swapaxes(1, 2))
    q_BxCxNxH = q_BxCxNxH * (c.attention_multiplier or c.head_dim**-0.5)
    mask_BxCxS = queries.view.mask_BxCxS
    if caches or queries.rows_BxC is not None:
      heads_BxCxNxH = attend(q_BxCxNxH, [*caches, new], mask_BxCxS)
    elif c.attention == 'cudnn' and T % 2 == 0:
      heads_BxCxNxH = attend_fused(q_BxCxNxH, k_BxTxKxH, v_BxTxKxH, mask_BxCxS)
    else:
      heads_BxCxNxH = attend_causally(q_BxCxNxH, new, mask_BxCxS)
    heads_BxCxF = hooks.site('heads', heads_BxCxNxH).reshape(B, C, -1)
    return hooks.adapt('o', heads_BxCxF, self.out(heads_BxCxF)), new
