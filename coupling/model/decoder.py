"""One decoder for every model family; a family is a `DecoderConfig`, not a class.

Grouped-query attention, rotary positions, RMSNorm, gated or plain MLP; what families
add to it is in layers.py. Layers are stacked on a leading axis and scanned.

The module is used functionally: `init` returns a plain dict of arrays, `apply` and
`unembed` are pure functions of it. Shapes: B batch, T query positions, S key
positions (cache slots), C positions whose output is wanted (all T by default), D width,
N heads, K key/value heads, H head dimension, L layers, V vocabulary.
"""

from collections.abc import Callable, Sequence
import dataclasses
import functools
from typing import Any, NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from coupling.model import layers
from coupling.model import stack
from coupling.model.layers import DecoderConfig
from data import trees

Params = dict[str, Any]
ADAPTERS = 'adapters'  # among the params: a lora.Adapters, of the upper layers or all

# Where activations can be read or replaced, in the order of computation.
SITES = ('residual', 'heads', 'attention_out', 'mlp_out')


class Cache(NamedTuple):
  """Keys and values of positions, all layers', in slots; see layers.Seen.

  A model reads caches side by side, so that what grows is apart from what stays.
  """

  k_LxBxKxHxS: jax.Array
  v_LxBxKxSxH: jax.Array
  positions_BxS: jax.Array | None  # of the slots; only where layers slide

  @property
  def slots(self) -> int:
    return self.k_LxBxKxHxS.shape[-1]

  def empty(self, slots: int) -> 'Cache':
    """One of other slots for the same rows, not yet written."""

    def zeros(x, axis):
      shape = list(x.shape)
      shape[axis] = slots
      return jnp.zeros(shape, x.dtype)

    return self._along_slots(zeros)

  def write(self, new: 'Cache', slot: jax.Array | int) -> 'Cache':
    """With slots from `slot` on as in `new`."""
    return self._along_slots(
      lambda x, axis, y: jax.lax.dynamic_update_slice_in_dim(x, y, slot, axis), new
    )

  def part(self, first: int, stop: int, slots: int) -> 'Cache':
    """Of some layers, the first slots."""
    some = self._along_slots(
      lambda x, axis: jax.lax.slice_in_dim(x, 0, slots, axis=axis)
    )
    return some._replace(
      k_LxBxKxHxS=some.k_LxBxKxHxS[first:stop], v_LxBxKxSxH=some.v_LxBxKxSxH[first:stop]
    )

  def _along_slots(self, f: Callable[..., jax.Array], *others: 'Cache') -> 'Cache':
    """f(x, axis of its slots, those of the others) of every array."""
    axes = Cache(-1, -2, None if self.positions_BxS is None else -1)
    return jax.tree.map(f, self, axes, *others)


class Patch(NamedTuple):
  """Values that replace a site's activation where the mask is set.

  Without a mask they stand everywhere, and what would lead there is not computed.
  """

  value_LxBxTxX: jax.Array
  mask_LxBxT: jax.Array | None  # or [L, B, T, N] of single heads


class Output(NamedTuple):
  hidden_BxCxD: jax.Array  # after the final norm
  leaving_BxCxD: jax.Array  # the last layer, before that norm
  cache: Cache | None  # of the tokens given
  activations: dict[str, jax.Array]  # site -> [L, B, T, ...]


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
      return layers.Block(config, rngs)

    self.layers = stacked(rngs)
    self.final_norm = layers.make_norm(config, config.width, rngs)
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

  def __call__(
    self,
    tokens_BxT,
    positions_BxT,
    *,
    every,
    last,
    caches,
    keep,
    read,
    patch,
    adapters,
    entering_BxTxD,
  ):
    """`every`, `last`: Queries of all layers but the last, and of the last."""
    graphdef, blocks = nnx.split(self.layers)

    def block(x_BxTxD, layer, queries=every):
      (state, seen, patches, slides), low_rank = layer
      activations = {}

      def site(name, value):
        if name in patches:
          patched = patches[name]
          if name != 'residual':
            patched = jax.tree.map(lambda x: layers.take(x, queries.rows_BxC), patched)
          value = replace(value, *patched)
        if name in read:
          activations[name] = value
        return value

      def adapt(name, x, y):
        return y + adapters.delta(low_rank[name], x) if name in low_rank else y

      rope = _of_kind(slides, every.view).rope
      queries = queries._replace(view=_of_kind(slides, queries.view))
      x_BxCxD, new = nnx.merge(graphdef, state)(
        x_BxTxD, queries, rope, seen, layers.Hooks(site, adapt)
      )
      return x_BxCxD, (new if keep else None, activations)

    layers_L = (
      blocks,
      [layers.Seen(*cache[:2]) for cache in caches],
      {name: tuple(p) for name, p in patch.items()},
      _kinds(self.config),
    )
    low_rank = {} if adapters is None else adapters.weights
    x_BxTxD = entering_BxTxD
    if entering_BxTxD is None:
      x_BxTxD = self._embedded(tokens_BxT, positions_BxT)
    x_BxTxD = layers.keep_rows(x_BxTxD)
    run = functools.partial(stack.run, self.config, block)
    if last is every or self.config.scan_layers:
      # To scan all layers but one would copy their weights.
      x_BxTxD, (new, activations) = run(x_BxTxD, layers_L, low_rank)
      x_BxCxD = layers.take(x_BxTxD, last.rows_BxC)
    else:
      # The last layer computes only what is read: 1/L of most of the work saved.
      x_BxTxD, (new, _) = run(
        x_BxTxD, *jax.tree.map(lambda x: x[:-1], (layers_L, low_rank))
      )
      last_layer = jax.tree.map(lambda x: x[-1], (layers_L, low_rank))
      of_last = stack.remat(self.config, block)
      x_BxCxD, (last_new, activations) = of_last(x_BxTxD, last_layer, last)
      new = jax.tree.map(lambda xs, x: jnp.concatenate([xs, x[None]]), new, last_new)
    kept = None
    if keep:
      slides = self.config.window
      places_BxT = jnp.broadcast_to(positions_BxT, tokens_BxT.shape).astype(jnp.int32)
      kept = Cache(*new, places_BxT if slides else None)
    return Output(self.final_norm(x_BxCxD), x_BxCxD, kept, activations)

  def _embedded(self, tokens_BxT, positions_BxT):
    """What enters the first layer."""
    x_BxTxD = self.embed(tokens_BxT)
    if self.config.scaled_embedding:
      x_BxTxD = x_BxTxD * jnp.asarray(self.config.width**0.5, x_BxTxD.dtype)
    if self.config.learned_positions:
      x_BxTxD = x_BxTxD + self.position_embed(positions_BxT)
    return x_BxTxD

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


def replace(
  value_xX: jax.Array, new_xX: jax.Array, mask_x: jax.Array | None
) -> jax.Array:
  """An activation, or where the mask is set another; as Patch has them."""
  new_xX = new_xX.astype(value_xX.dtype)
  if mask_x is None:
    return new_xX
  mask = mask_x.reshape(mask_x.shape + (1,) * (value_xX.ndim - mask_x.ndim))
  return jnp.where(mask, new_xX, value_xX)


def _kinds(config: DecoderConfig) -> np.ndarray | None:
  """int32 [L]: 1 where a layer slides; None where all layers are of one kind."""
  if not (config.window and config.full_layers):
    return None
  return np.array([i not in config.full_layers for i in range(config.depth)], np.int32)


def _of_kind(slides: jax.Array | None, view: layers.View) -> layers.View:
  """A layer's own view; see layers.View."""
  if slides is None:
    return view
  pick = functools.partial(jax.lax.dynamic_index_in_dim, index=slides, keepdims=False)
  return jax.tree.map(pick, view)


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


def tree_mask(end_BxT: jax.Array) -> jax.Array:
  """bool [B, T, T]: who sees whom in rows of prefix trees; see data.trees."""
  place_T = jnp.arange(end_BxT.shape[1])
  seen_BxTxT = place_T[:, None] < end_BxT[:, None, :]
  return seen_BxTxT & (place_T <= place_T[:, None])


def apply(
  config: DecoderConfig,
  params: Params,
  tokens_BxT: jax.Array,
  valid_BxT: jax.Array | None = None,
  *,
  rows_BxC: jax.Array | None = None,
  positions_BxT: jax.Array | None = None,
  longest: int | None = None,
  mask_BxTxS: jax.Array | None = None,
  caches: Sequence[Cache] = (),
  keep: bool = False,
  read: tuple[str, ...] = (),
  patch: dict[str, Patch] | None = None,
  entering_BxTxD: jax.Array | None = None,
) -> Output:
  """Runs the decoder.

  Args:
    config: the decoder's shape.
    params: weights as `init` returns them, and where there are adapters these beside
      them, as `adapters`; without, it is the base model, bit by bit.
    tokens_BxT: int token ids.
    valid_BxT: False at padding, which may stand on either side. Default: no padding, or
      all of it on the right, where causality hides it from what is read.
    rows_BxC: positions whose hidden states are wanted; default all T, in order. Layers
      that are not scanned compute only these in the end. Not with `read`.
    positions_BxT: of rotation and of learned embeddings; default: count of valid
      tokens before.
    longest: with positions, the longest sequence that they number: all are below it.
      Branches of one prefix number alike. Default: all T, and the slots of caches.
    mask_BxTxS: who sees whom, never a later token; default causal among valid tokens.
      Must be given with caches, where S counts their slots and then the T tokens.
      Sliding layers see less of it.
    caches: what was read before.
    keep: whether a cache of the T tokens is returned.
    read: sites whose activations are returned, [L, B, T, ...] each.
    patch: site -> Patch: activations to replace. With neither, sites cost nothing.
    entering_BxTxD: what enters the first layer; default: the tokens' embeddings. See
      `some_layers`.

  Returns:
    Output with the hidden states after the final norm; see `unembed`.
  """
  if rows_BxC is not None and read:
    raise ValueError('rows_BxC leaves out activations that read asks for.')
  limit, length = config.learned_positions, tokens_BxT.shape[1]
  if longest is None or positions_BxT is None:
    longest = length + sum(cache.slots for cache in caches)
  if limit and longest > limit:
    raise ValueError(
      f'{longest} tokens (those of caches included) exceed '
      f'model.learned_positions={limit}.'
    )
  if positions_BxT is None and valid_BxT is None:
    positions_BxT = jnp.arange(length)[None]
  elif positions_BxT is None:
    positions_BxT = positions_of(valid_BxT)
  if mask_BxTxS is None and valid_BxT is None:
    mask_BxTxS = jnp.tril(jnp.ones((1, length, length), bool))
  elif mask_BxTxS is None:
    mask_BxTxS = causal_mask(valid_BxT)
  keys_BxS = positions_BxT
  if caches and config.window:
    new_BxT = jnp.broadcast_to(positions_BxT, tokens_BxT.shape)
    before = [cache.positions_BxS for cache in caches]
    keys_BxS = jnp.concatenate([*before, new_BxT], axis=1)
  view = layers.make_view(config, positions_BxT, keys_BxS, mask_BxTxS)
  every = last = layers.Queries(None, view)
  if rows_BxC is not None:
    places, masks = (
      layers.take(jnp.broadcast_to(x, (tokens_BxT.shape[0], *x.shape[1:])), rows_BxC)
      for x in (positions_BxT, mask_BxTxS)
    )
    view = layers.make_view(config, places, keys_BxS, masks)
    last = layers.Queries(rows_BxC, view)
  for name in (*read, *(patch or ())):
    if name not in SITES:
      raise ValueError(f'unknown site {name!r}: choose from {SITES}.')
  return _model(config, params)(
    tokens_BxT,
    positions_BxT,
    every=every,
    last=last,
    caches=caches,
    keep=keep,
    read=read,
    patch=patch or {},
    adapters=params.get(ADAPTERS),
    entering_BxTxD=entering_BxTxD,
  )


def apply_trees(
  config: DecoderConfig,
  params: Params,
  rows: trees.Rows,
  rows_BxC: jax.Array | None = None,
) -> jax.Array:
  """Hidden states [B, C, D] of rows of prefix trees.

  A sequence has the hidden states that it has alone, but for rounding.

  Args:
    config: the decoder's shape.
    params: see `apply`.
    rows: of trees. Positions must be below `learned_positions`, where there are such.
    rows_BxC: positions whose hidden states are wanted; default all T.
  """
  return apply(
    config,
    params,
    rows.tokens,
    rows_BxC=rows_BxC,
    positions_BxT=rows.position,
    longest=config.learned_positions,  # as preflight.check has seen
    mask_BxTxS=tree_mask(rows.end),
  ).hidden_BxCxD


def some_layers(
  config: DecoderConfig, params: Params, first: int, stop: int
) -> tuple[DecoderConfig, Params]:
  """The decoder of some of its layers, which goes on from what enters the first.

  So what is known of a run up to a layer need not be computed again.
  """
  cut = lambda x, first, stop: jax.tree.map(lambda x: x[first:stop], x)
  some = without_adapters(params) | {'layers': cut(params['layers'], first, stop)}
  adapters = params.get(ADAPTERS)
  below = config.depth if adapters is None else config.depth - adapters.depth
  if stop > below:
    some[ADAPTERS] = cut(adapters, max(first - below, 0), stop - below)
  config = dataclasses.replace(
    config,
    depth=stop - first,
    scan_layers=config.scan_layers and stop - first > 1,
    full_layers=tuple(i - first for i in config.full_layers if first <= i < stop),
  )
  return config, some


def unembed(config: DecoderConfig, params: Params, hidden: jax.Array) -> jax.Array:
  """float32 logits [..., V] of hidden states [..., D]."""
  return _model(config, params).unembed(hidden)


def without_adapters(params: Params) -> Params:
  """The base model."""
  return {name: x for name, x in params.items() if name != ADAPTERS}


def _model(config: DecoderConfig, params: Params) -> Decoder:
  return nnx.merge(_graphdef(config), without_adapters(params))


def num_params(params: Params) -> int:
  return sum(x.size for x in jax.tree.leaves(params))
