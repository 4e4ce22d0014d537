"""The decoder as a module: blocks, stacked on a leading axis, between two embeddings.

Axes as in decoder.py.
"""

from collections.abc import Callable
import functools
from typing import Any, NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from coupling.model import attention
from coupling.model import layers
from coupling.model import stack
from coupling.model.architecture import DecoderConfig
from coupling.model.kv_cache import Cache
from coupling.model.sites import Hooks, replace


class Output(NamedTuple):
  hidden_BxCxD: jax.Array  # after the final norm
  leaving_BxCxD: jax.Array  # the last layer, before that norm
  cache: Cache | None  # of the tokens given
  activations: dict[str, jax.Array]  # site -> [L, B, T, ...]


class Block(nnx.Module):
  """Residual block: attention, then MLP, with norms before them, after, or both.

  All T positions give keys and values; the C of `queries` are computed further.
  """

  def __init__(self, config: DecoderConfig, rngs: nnx.Rngs):
    self.config = config
    if config.pre_norms:
      self.attention_norm = layers.make_norm(config, config.width, rngs)
    self.attention = attention.Attention(config, rngs)
    if config.pre_norms:
      self.mlp_norm = layers.make_norm(config, config.width, rngs)
    feeds = layers.Mixture if config.num_experts else layers.MLP
    self.mlp = feeds(config, rngs)
    if config.post_norms:
      self.attention_post_norm = layers.make_norm(config, config.width, rngs)
      self.mlp_post_norm = layers.make_norm(config, config.width, rngs)

  def __call__(self, x_BxTxD, queries, rope, caches, hooks):
    x_BxTxD = hooks.site('residual', x_BxTxD)
    entering_BxTxD = x_BxTxD
    if self.config.pre_norms:
      entering_BxTxD = self.attention_norm(x_BxTxD)
    attended_BxCxD, new = self.attention(entering_BxTxD, queries, rope, caches, hooks)
    if self.config.post_norms:
      attended_BxCxD = self.attention_post_norm(attended_BxCxD)
    attended_BxCxD = self._added('attention_out', attended_BxCxD, hooks)
    x_BxCxD = layers.take(x_BxTxD, queries.rows_BxC) + attended_BxCxD
    entering_BxCxD = self.mlp_norm(x_BxCxD) if self.config.pre_norms else x_BxCxD
    fed_BxCxD = self.mlp(entering_BxCxD, hooks)
    if self.config.post_norms:
      fed_BxCxD = self.mlp_post_norm(fed_BxCxD)
    fed_BxCxD = self._added('mlp_out', fed_BxCxD, hooks)
    return layers.keep_rows(x_BxCxD + fed_BxCxD), new

  def _added(self, site, x_BxCxD, hooks):
    """What is added to the residual stream."""
    if self.config.residual_multiplier != 1:
      x_BxCxD = x_BxCxD * self.config.residual_multiplier
    return hooks.site(site, x_BxCxD)


class Decoder(nnx.Module):
  """Embedding, stacked blocks, final norm and (tied) unembedding."""

  def __init__(self, config: DecoderConfig, rngs: nnx.Rngs):
    self.config = config
    drawn = nnx.initializers.normal(config.embedding_std)
    how = dict(dtype=config.dtype, param_dtype=config.param_dtype, rngs=rngs)
    embed = functools.partial(
      nnx.Embed, features=config.width, embedding_init=drawn, **how
    )
    self.embed = embed(config.vocab_size)
    if config.learned_positions:
      self.position_embed = embed(config.learned_positions)

    # Without the metadata entry nnx.vmap would shard the layer axis silently.
    @nnx.split_rngs(splits=config.depth)
    @nnx.vmap(transform_metadata={nnx.PARTITION_NAME: None})
    def stacked(rngs):
      return Block(config, rngs)

    self.layers = stacked(rngs)
    self.final_norm = layers.make_norm(config, config.width, rngs)
    if not config.tied_head:
      self.head = nnx.Linear(
        config.width, config.vocab_size, use_bias=False, kernel_init=drawn, **how
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
    block = _block(graphdef, every, keep, read, adapters)
    seen = [attention.Seen(*cache[:2]) for cache in caches]
    low_rank = {} if adapters is None else adapters.weights
    stacked = (blocks, seen, patch, _kinds(self.config)), low_rank
    x_BxTxD = entering_BxTxD
    if entering_BxTxD is None:
      x_BxTxD = self._embedded(tokens_BxT, positions_BxT)
    x_BxTxD = layers.keep_rows(x_BxTxD)
    if last is every or self.config.scan_layers:
      # To scan all layers but one would copy their weights.
      x_BxTxD, (new, activations) = stack.run(self.config, block, x_BxTxD, *stacked)
      x_BxCxD = layers.take(x_BxTxD, last.rows_BxC)
    else:
      # The last layer computes only what is read: 1/L of most of the work saved.
      lower = jax.tree.map(lambda x: x[:-1], stacked)
      x_BxTxD, (new, _) = stack.run(self.config, block, x_BxTxD, *lower)
      last_layer = jax.tree.map(lambda x: x[-1], stacked)
      of_last = stack.remat(self.config, block)
      x_BxCxD, (last_new, activations) = of_last(x_BxTxD, last_layer, last)
      new = jax.tree.map(lambda xs, x: jnp.concatenate([xs, x[None]]), new, last_new)
    cache = None
    if keep:
      places_BxT = jnp.broadcast_to(positions_BxT, tokens_BxT.shape).astype(jnp.int32)
      cache = Cache(*new, places_BxT if self.config.window else None)
    return Output(self.final_norm(x_BxCxD), x_BxCxD, cache, activations)

  def _embedded(self, tokens_BxT, positions_BxT):
    """What enters the first layer."""
    x_BxTxD = self.embed(tokens_BxT)
    if self.config.embedding_multiplier != 1:
      x_BxTxD = x_BxTxD * jnp.asarray(self.config.embedding_multiplier, x_BxTxD.dtype)
    if self.config.learned_positions:
      x_BxTxD = x_BxTxD + self.position_embed(positions_BxT)
    return x_BxTxD

  def unembed(self, hidden):
    # Products of dtype, sums of float32: logits rounded to bfloat16 would tie.
    if self.config.tied_head:
      weight, dims = self.embed.embedding[...], '...d,vd->...v'
    else:
      weight, dims = self.head.kernel[...], '...d,dv->...v'
    weight = weight.astype(hidden.dtype)
    logits = jnp.einsum(dims, hidden, weight, preferred_element_type=jnp.float32)
    divisor = self.config.logits_divisor
    return logits if divisor == 1 else logits / divisor


def _block(
  graphdef: nnx.GraphDef,
  every: attention.Queries,
  keep: bool,
  read: tuple[str, ...],
  adapters: Any,
) -> Callable:
  """A layer of the stack: stack.Block, and which `queries` are asked of it."""

  def block(x_BxTxD, layer, queries=every):
    (state, seen, patches, kind), low_rank = layer
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

    rope = _of_kind(kind, every.view).rope
    queries = queries._replace(view=_of_kind(kind, queries.view))
    x_BxCxD, new = nnx.merge(graphdef, state)(
      x_BxTxD, queries, rope, seen, Hooks(site, adapt)
    )
    return x_BxCxD, (new if keep else None, activations)

  return block


def _kinds(config: DecoderConfig) -> np.ndarray | None:
  """int32 [L]: of attention.layer_kinds; None where all layers are of one kind."""
  kinds, kind_L = attention.layer_kinds(config)
  return kind_L if len(kinds) > 1 else None


def _of_kind(kind: jax.Array | None, view: attention.View) -> attention.View:
  """A layer's own view; see attention.View."""
  if kind is None:
    return view
  pick = functools.partial(jax.lax.dynamic_index_in_dim, index=kind, keepdims=False)
  return jax.tree.map(pick, view)
