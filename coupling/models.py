"""One decoder for every model family; a family is a `DecoderConfig`, not a class.

Grouped-query attention, rotary positions, RMSNorm, gated or plain MLP, optional
q/k norm, tied or untied head. Layers are stacked on a leading axis and scanned.

The module is used functionally: `init` returns a plain dict of arrays, `apply` and
`unembed` are pure functions of it. Shapes: B batch, T query positions, S key
positions (cache slots), C positions whose output is wanted (all T by default), D width,
N heads, K key/value heads, H head dimension, L layers, V vocabulary.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp

Params = dict[str, Any]

ACTIVATIONS = {
  'relu': jax.nn.relu,
  'silu': jax.nn.silu,
  'gelu_tanh': functools.partial(jax.nn.gelu, approximate=True),
}

# Where activations can be read or replaced, in the order of computation.
SITES = ('residual', 'heads', 'attention_out', 'mlp_out')


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
  qk_norm: bool = False
  tied_head: bool = True
  rope_theta: float = 10_000.0
  learned_positions: int = 0  # longest sequence with an embedding per position; 0: none
  norm_eps: float = 1e-6
  embedding_std: float = 0.02  # of fresh weights
  dtype: str = 'float32'
  param_dtype: str = 'float32'
  scan_layers: bool = True


class Cache(NamedTuple):
  """Keys and values of the positions seen so far; slots beyond `length` are unset."""

  k_LxBxSxKxH: jax.Array
  v_LxBxSxKxH: jax.Array
  length: jax.Array  # int32 scalar, slots in use

  @property
  def slots(self) -> int:
    return self.k_LxBxSxKxH.shape[2]

  @classmethod
  def empty(cls, config: DecoderConfig, batch: int, slots: int) -> 'Cache':
    shape = (config.depth, batch, slots, config.num_kv_heads, config.head_dim)
    zeros = jnp.zeros(shape, config.dtype)
    return cls(zeros, zeros, jnp.zeros((), jnp.int32))


class Patch(NamedTuple):
  """Values that replace a site's activation where the mask is set."""

  value_LxBxTxX: jax.Array
  mask_LxBxT: jax.Array


class Output(NamedTuple):
  hidden_BxCxD: jax.Array  # after the final norm
  cache: Cache | None
  activations: dict[str, jax.Array]  # site -> [L, B, T, ...]


class Queries(NamedTuple):
  """Which positions a layer computes, and what they see."""

  rows_BxC: jax.Array | None  # None: all T, in order
  rope: tuple[jax.Array, jax.Array]  # of these positions
  mask_BxCxS: jax.Array


def rope_tables(positions_BxT: jax.Array, config: DecoderConfig):
  """Sines and cosines of the rotary angles, [B, T, 1, H/2] each."""
  half = config.head_dim // 2
  frequency = config.rope_theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
  angle = positions_BxT[:, :, None, None] * frequency
  return jnp.sin(angle), jnp.cos(angle)


def rotate(x_BxTxNxH: jax.Array, rope: tuple[jax.Array, jax.Array]) -> jax.Array:
  """Rotary position embedding, halves convention (Su et al. 2021; as in Llama)."""
  sin, cos = rope
  a, b = jnp.split(x_BxTxNxH.astype(jnp.float32), 2, axis=-1)
  rotated = jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
  return rotated.astype(x_BxTxNxH.dtype)


class Attention(nnx.Module):
  """Grouped-query attention over the keys that the mask makes visible."""

  def __init__(self, config: DecoderConfig, rngs: nnx.Rngs):
    self.config = config
    c = config
    linear = functools.partial(
      nnx.Linear,
      use_bias=False,
      dtype=c.dtype,
      param_dtype=c.param_dtype,
      rngs=rngs,
    )
    self.q = linear(c.width, c.num_heads * c.head_dim)
    self.k = linear(c.width, c.num_kv_heads * c.head_dim)
    self.v = linear(c.width, c.num_kv_heads * c.head_dim)
    self.out = linear(c.num_heads * c.head_dim, c.width)
    if c.qk_norm:
      self.q_norm = _norm(c, c.head_dim, rngs)
      self.k_norm = _norm(c, c.head_dim, rngs)

  def __call__(self, x_BxTxD, queries, rope, cache, length, site):
    c = self.config
    B, T, _ = x_BxTxD.shape
    asked_BxCxD = _take(x_BxTxD, queries.rows_BxC)
    C = asked_BxCxD.shape[1]
    q_BxCxNxH = self.q(asked_BxCxD).reshape(B, C, c.num_heads, c.head_dim)
    k_BxTxKxH = self.k(x_BxTxD).reshape(B, T, c.num_kv_heads, c.head_dim)
    v_BxTxKxH = self.v(x_BxTxD).reshape(B, T, c.num_kv_heads, c.head_dim)
    if c.qk_norm:
      q_BxCxNxH, k_BxTxKxH = self.q_norm(q_BxCxNxH), self.k_norm(k_BxTxKxH)
    q_BxCxNxH = rotate(q_BxCxNxH, queries.rope)
    k_BxTxKxH = rotate(k_BxTxKxH, rope)
    if cache is None:
      k_BxSxKxH, v_BxSxKxH = k_BxTxKxH, v_BxTxKxH
    else:
      write = functools.partial(jax.lax.dynamic_update_slice_in_dim, axis=1)
      k_BxSxKxH = write(cache[0], k_BxTxKxH, length)
      v_BxSxKxH = write(cache[1], v_BxTxKxH, length)
      cache = (k_BxSxKxH, v_BxSxKxH)
    heads_BxCxNxH = jax.nn.dot_product_attention(
      q_BxCxNxH, k_BxSxKxH, v_BxSxKxH, mask=queries.mask_BxCxS[:, None]
    )
    heads_BxCxNxH = site('heads', heads_BxCxNxH)
    return self.out(heads_BxCxNxH.reshape(B, C, -1)), cache


class MLP(nnx.Module):
  """Gated (SwiGLU and kin) or plain feed-forward layer."""

  def __init__(self, config: DecoderConfig, rngs: nnx.Rngs):
    self.config = config
    linear = functools.partial(
      nnx.Linear,
      use_bias=False,
      dtype=config.dtype,
      param_dtype=config.param_dtype,
      rngs=rngs,
    )
    if config.gated_mlp:
      self.gate = linear(config.width, config.mlp_dim)
    self.up = linear(config.width, config.mlp_dim)
    self.down = linear(config.mlp_dim, config.width)

  def __call__(self, x_BxTxD):
    act = ACTIVATIONS[self.config.activation]
    if self.config.gated_mlp:
      return self.down(act(self.gate(x_BxTxD)) * self.up(x_BxTxD))
    return self.down(act(self.up(x_BxTxD)))


class Block(nnx.Module):
  """Pre-norm residual block: attention, then MLP.

  All T positions give keys and values; the C of `queries` are computed further.
  """

  def __init__(self, config: DecoderConfig, rngs: nnx.Rngs):
    self.attention_norm = _norm(config, config.width, rngs)
    self.attention = Attention(config, rngs)
    self.mlp_norm = _norm(config, config.width, rngs)
    self.mlp = MLP(config, rngs)

  def __call__(self, x_BxTxD, queries, rope, cache, length, site):
    x_BxTxD = site('residual', x_BxTxD)
    attended_BxCxD, cache = self.attention(
      self.attention_norm(x_BxTxD), queries, rope, cache, length, site
    )
    x_BxCxD = _take(x_BxTxD, queries.rows_BxC) + site('attention_out', attended_BxCxD)
    x_BxCxD = x_BxCxD + site('mlp_out', self.mlp(self.mlp_norm(x_BxCxD)))
    return x_BxCxD, cache


class Decoder(nnx.Module):
  """Embedding, stacked blocks, final norm and (tied) unembedding."""

  def __init__(self, config: DecoderConfig, rngs: nnx.Rngs):
    self.config = config
    embedding_init = nnx.initializers.normal(config.embedding_std)
    self.embed = nnx.Embed(
      config.vocab_size,
      config.width,
      dtype=config.dtype,
      param_dtype=config.param_dtype,
      embedding_init=embedding_init,
      rngs=rngs,
    )

    if config.learned_positions:
      self.position_embed = nnx.Embed(
        config.learned_positions,
        config.width,
        dtype=config.dtype,
        param_dtype=config.param_dtype,
        embedding_init=embedding_init,
        rngs=rngs,
      )

    # Without the metadata entry nnx.vmap would shard the layer axis silently.
    @nnx.split_rngs(splits=config.depth)
    @nnx.vmap(transform_metadata={nnx.PARTITION_NAME: None})
    def stacked(rngs):
      return Block(config, rngs)

    self.layers = stacked(rngs)
    self.final_norm = _norm(config, config.width, rngs)
    if not config.tied_head:
      self.head = nnx.Linear(
        config.width,
        config.vocab_size,
        use_bias=False,
        dtype=config.dtype,
        param_dtype=config.param_dtype,
        kernel_init=embedding_init,
        rngs=rngs,
      )

  def __call__(self, tokens_BxT, positions_BxT, every, last, cache, read, patch):
    """`every`, `last`: Queries of all layers but the last, and of the last."""
    graphdef, layers = nnx.split(self.layers)
    length = None if cache is None else cache.length

    def block(x_BxTxD, layer, queries=every):
      state, kv, patches = layer
      activations = {}

      def site(name, value):
        if name in patches:
          new, mask_BxT = patches[name]
          mask = mask_BxT.reshape(mask_BxT.shape + (1,) * (value.ndim - 2))
          value = jnp.where(mask, new.astype(value.dtype), value)
        if name in read:
          activations[name] = value
        return value

      x_BxCxD, kv = nnx.merge(graphdef, state)(
        x_BxTxD, queries, every.rope, kv, length, site
      )
      return x_BxCxD, (kv, activations)

    kv = None if cache is None else (cache.k_LxBxSxKxH, cache.v_LxBxSxKxH)
    stacked = (layers, kv, {name: tuple(p) for name, p in patch.items()})
    x_BxTxD = self.embed(tokens_BxT)
    if self.config.learned_positions:
      x_BxTxD = x_BxTxD + self.position_embed(positions_BxT)
    scan = functools.partial(
      jax.lax.scan, block, unroll=1 if self.config.scan_layers else True
    )
    if last is every:
      x_BxCxD, (kv, activations) = scan(x_BxTxD, stacked)
    else:
      # The last layer computes only what is read: 1/L of most of the work saved.
      x_BxTxD, (kv, _) = scan(x_BxTxD, jax.tree.map(lambda x: x[:-1], stacked))
      last_layer = jax.tree.map(lambda x: x[-1], stacked)
      x_BxCxD, (last_kv, activations) = block(x_BxTxD, last_layer, last)
      kv = jax.tree.map(lambda xs, x: jnp.concatenate([xs, x[None]]), kv, last_kv)
    if cache is not None:
      cache = Cache(*kv, length + tokens_BxT.shape[1])
    return Output(self.final_norm(x_BxCxD), cache, activations)

  def unembed(self, hidden):
    # Products of dtype, sums of float32: logits rounded to bfloat16 would tie.
    if self.config.tied_head:
      weight, dims = self.embed.embedding[...], '...d,vd->...v'
    else:
      weight, dims = self.head.kernel[...], '...d,dv->...v'
    return jnp.einsum(
      dims,
      hidden,
      weight.astype(hidden.dtype),
      preferred_element_type=jnp.float32,
    )


def _norm(config: DecoderConfig, width: int, rngs: nnx.Rngs) -> nnx.RMSNorm:
  return nnx.RMSNorm(
    width,
    epsilon=config.norm_eps,
    dtype=config.dtype,
    param_dtype=config.param_dtype,
    rngs=rngs,
  )


def _take(x_BxTxX: jax.Array, rows_BxC: jax.Array | None) -> jax.Array:
  """x at the positions of each row, [B, C, ...]; all of it where none are named."""
  if rows_BxC is None:
    return x_BxTxX
  rows = rows_BxC.reshape(rows_BxC.shape + (1,) * (x_BxTxX.ndim - 2))
  return jnp.take_along_axis(x_BxTxX, rows, axis=1)


@functools.lru_cache
def _graphdef(config: DecoderConfig):
  return nnx.graphdef(nnx.eval_shape(lambda: Decoder(config, nnx.Rngs(0))))


def init(config: DecoderConfig, seed: int) -> Params:
  """Fresh weights, a nested dict of arrays; block weights have a leading layer axis."""
  return nnx.to_pure_dict(nnx.state(Decoder(config, nnx.Rngs(seed))))


def abstract(config: DecoderConfig) -> Params:
  """Shapes and types of the weights, without any memory."""
  return jax.eval_shape(lambda: init(config, 0))


def causal_mask(valid_BxT: jax.Array) -> jax.Array:
  """bool [B, T, T]: a query sees itself and the valid positions before it."""
  T = valid_BxT.shape[1]
  earlier_TxT = jnp.tril(jnp.ones((T, T), bool))
  return earlier_TxT & (valid_BxT[:, None, :] | jnp.eye(T, dtype=bool))


def positions_of(valid_BxT: jax.Array) -> jax.Array:
  """Position of each token among the valid ones, so that padding shifts nothing."""
  return jnp.maximum(jnp.cumsum(valid_BxT, axis=1) - 1, 0)


def apply(
  config: DecoderConfig,
  params: Params,
  tokens_BxT: jax.Array,
  valid_BxT: jax.Array | None = None,
  *,
  rows_BxC: jax.Array | None = None,
  positions_BxT: jax.Array | None = None,
  mask_BxTxS: jax.Array | None = None,
  cache: Cache | None = None,
  read: tuple[str, ...] = (),
  patch: dict[str, Patch] | None = None,
) -> Output:
  """Runs the decoder.

  Args:
    config: the decoder's shape.
    params: weights as `init` returns them.
    tokens_BxT: int token ids.
    valid_BxT: False at padding, which may stand on either side. Default: no padding, or
      all of it on the right, where causality hides it from what is read.
    rows_BxC: positions whose hidden states are wanted; default all T, in order. The
      last layer computes only these. Not together with `read` or `patch`.
    positions_BxT: rotary positions; default: count of valid tokens before.
    mask_BxTxS: who sees whom; default causal among valid tokens. Must be given
      with a cache, where S counts its slots.
    cache: keys and values to continue from; returned extended by T.
    read: sites whose activations are returned, [L, B, T, ...] each.
    patch: site -> Patch: activations to replace. With neither, sites cost nothing.

  Returns:
    Output with the hidden states after the final norm; see `unembed`.
  """
  if rows_BxC is not None and (read or patch):
    raise ValueError('rows_BxC leaves out activations that read or patch would need.')
  limit, length = config.learned_positions, tokens_BxT.shape[1]
  if limit and max(length, 0 if cache is None else cache.slots) > limit:
    raise ValueError(
      f'{length} tokens (or a cache of them) exceed model.learned_positions={limit}.'
    )
  if positions_BxT is None and valid_BxT is None:
    positions_BxT = jnp.arange(length)[None]
  elif positions_BxT is None:
    positions_BxT = positions_of(valid_BxT)
  if mask_BxTxS is None and valid_BxT is None:
    mask_BxTxS = jnp.tril(jnp.ones((1, length, length), bool))
  elif mask_BxTxS is None:
    mask_BxTxS = causal_mask(valid_BxT)
  every = Queries(None, rope_tables(positions_BxT, config), mask_BxTxS)
  if rows_BxC is None:
    last = every
  else:
    places, masks = (
      jnp.broadcast_to(x, (tokens_BxT.shape[0], *x.shape[1:]))
      for x in (positions_BxT, mask_BxTxS)
    )
    rope = rope_tables(_take(places, rows_BxC), config)
    last = Queries(rows_BxC, rope, _take(masks, rows_BxC))
  for name in (*read, *(patch or ())):
    if name not in SITES:
      raise ValueError(f'unknown site {name!r}: choose from {SITES}.')
  model = nnx.merge(_graphdef(config), params)
  return model(tokens_BxT, positions_BxT, every, last, cache, read, patch or {})


def unembed(config: DecoderConfig, params: Params, hidden: jax.Array) -> jax.Array:
  """float32 logits [..., V] of hidden states [..., D]."""
  return nnx.merge(_graphdef(config), params).unembed(hidden)


def num_params(params: Params) -> int:
  return sum(x.size for x in jax.tree.leaves(params))
