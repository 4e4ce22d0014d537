"""One decoder for every model family; a family is a `DecoderConfig`, not a class.

Grouped-query attention, rotary positions, RMSNorm, gated or plain MLP, and what
families add to these. Layers are stacked on a leading axis and scanned.

The module, in transformer.py, is used functionally: `init` returns a plain dict of
arrays, `apply` and `unembed` are pure functions of it. Shapes: B batch, T query
positions, S key positions (cache slots), C positions whose output is wanted (all T by
default), D width, N heads, L layers, V vocabulary.
"""

from collections.abc import Sequence
import dataclasses
import functools
from typing import Any

from flax import nnx
import jax
import jax.numpy as jnp

from coupling.model import attention
from coupling.model import layers
from coupling.model.architecture import DecoderConfig
from coupling.model.kv_cache import Cache
from coupling.model.sites import SITES, Patch
from coupling.model.transformer import Decoder, Output
from data import trees

Params = dict[str, Any]
ADAPTERS = 'adapters'  # among the params: a lora.Adapters, of the upper layers or all


@functools.lru_cache
def _graphdef(config: DecoderConfig):
  return nnx.graphdef(nnx.eval_shape(lambda: Decoder(config, nnx.Rngs(0))))


def init(config: DecoderConfig, seed: int) -> Params:
  """Fresh weights, a nested dict of arrays; block weights have a leading layer axis."""
  return nnx.to_pure_dict(nnx.state(Decoder(config, nnx.Rngs(seed))))


def abstract(config: DecoderConfig) -> Params:
  """Shapes and types of the weights, without any memory."""
  return jax.eval_shape(lambda: init(config, 0))


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
  _check(config, tokens_BxT, rows_BxC, positions_BxT, longest, caches, read, patch)
  T = tokens_BxT.shape[1]
  if positions_BxT is None and valid_BxT is None:
    positions_BxT = jnp.arange(T)[None]
  elif positions_BxT is None:
    positions_BxT = attention.positions_of(valid_BxT)
  if mask_BxTxS is None and valid_BxT is None:
    mask_BxTxS = jnp.tril(jnp.ones((1, T, T), bool))
  elif mask_BxTxS is None:
    mask_BxTxS = attention.causal_mask(valid_BxT)
  every, last = _queries(
    config, tokens_BxT, rows_BxC, positions_BxT, mask_BxTxS, caches
  )
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


def _check(config, tokens_BxT, rows_BxC, positions_BxT, longest, caches, read, patch):
  """Raises ValueError where what `apply` is given does not go together."""
  if rows_BxC is not None and read:
    raise ValueError('rows_BxC leaves out activations that read asks for.')
  if longest is None or positions_BxT is None:
    longest = tokens_BxT.shape[1] + sum(cache.slots for cache in caches)
  if config.learned_positions and longest > config.learned_positions:
    raise ValueError(
      f'{longest} tokens (those of caches included) exceed '
      f'model.learned_positions={config.learned_positions}.'
    )
  for name in (*read, *(patch or ())):
    if name not in SITES:
      raise ValueError(f'unknown site {name!r}: choose from {SITES}.')


def _queries(config, tokens_BxT, rows_BxC, positions_BxT, mask_BxTxS, caches):
  """Queries of all layers but the last, and of the last."""
  keys_BxS = positions_BxT
  if caches and config.window:
    new_BxT = jnp.broadcast_to(positions_BxT, tokens_BxT.shape)
    before = [cache.positions_BxS for cache in caches]
    keys_BxS = jnp.concatenate([*before, new_BxT], axis=1)
  view = attention.make_view(config, positions_BxT, keys_BxS, mask_BxTxS)
  every = attention.Queries(None, view)
  if rows_BxC is None:
    return every, every
  places_BxC, mask_BxCxS = (
    layers.take(jnp.broadcast_to(x, (tokens_BxT.shape[0], *x.shape[1:])), rows_BxC)
    for x in (positions_BxT, mask_BxTxS)
  )
  view = attention.make_view(config, places_BxC, keys_BxS, mask_BxCxS)
  return every, attention.Queries(rows_BxC, view)


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
    mask_BxTxS=attention.tree_mask(rows.end),
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
  those = lambda layers: tuple(i - first for i in layers if first <= i < stop)
  config = dataclasses.replace(
    config,
    depth=stop - first,
    scan_layers=config.scan_layers and stop - first > 1,
    full_layers=those(config.full_layers),
    no_rope_layers=those(config.no_rope_layers),
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
