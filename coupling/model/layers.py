"""Layers that decoders are built of: linear layers, norms, MLPs; and their rows.

Axes: B batch, T positions, C some of these, D width, F features, E experts, K those of
a token, X any others.
"""

from collections.abc import Callable
import functools

from flax import nnx
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from coupling.model import sites
from coupling.model.architecture import DecoderConfig

BATCH_AXES = ('data', 'fsdp')  # of the mesh: those that split the rows of a batch


def relu(x: jax.Array) -> jax.Array:
  """The positive part, and NaN of -inf, which is a sum that overflowed."""
  return jnp.where(x == -jnp.inf, jnp.nan, jax.nn.relu(x))


ACTIVATIONS = {
  'relu': relu,
  'silu': jax.nn.silu,
  'gelu_tanh': functools.partial(jax.nn.gelu, approximate=True),
}


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


def linear(config: DecoderConfig, rngs: nnx.Rngs) -> Callable[..., nnx.Linear]:
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


class MLP(nnx.Module):
  """Gated (SwiGLU and kin) or plain feed-forward layer."""

  def __init__(self, config: DecoderConfig, rngs: nnx.Rngs):
    self.config = config
    make = functools.partial(linear(config, rngs), use_bias=config.mlp_bias)
    if config.gated_mlp:
      self.gate = make(config.width, config.mlp_dim)
    self.up = make(config.width, config.mlp_dim)
    self.down = make(config.mlp_dim, config.width)

  def __call__(self, x_BxTxD, hooks):
    act = ACTIVATIONS[self.config.activation]
    if self.config.gated_mlp:
      gate_BxTxF = hooks.adapt('gate', x_BxTxD, self.gate(x_BxTxD))
      inner_BxTxF = act(gate_BxTxF) * hooks.adapt('up', x_BxTxD, self.up(x_BxTxD))
    else:
      inner_BxTxF = act(hooks.adapt('up', x_BxTxD, self.up(x_BxTxD)))
    return hooks.adapt('down', inner_BxTxF, self.down(inner_BxTxF))


class Mixture(nnx.Module):
  """E experts, each an MLP; a token has the K of the largest shares (Qwen3-MoE).

  Every expert is computed for all tokens, one after another: E / K times the products
  that are needed. jax.lax.ragged_dot computes these alone on TPU, but on CPU and GPU it
  does E times as many, and it has no rule for jax.vmap with common weights.
  """

  def __init__(self, config: DecoderConfig, rngs: nnx.Rngs):
    self.config = config
    self.router = linear(config, rngs)(config.width, config.num_experts)

    @nnx.split_rngs(splits=config.num_experts)
    @nnx.vmap(transform_metadata={nnx.PARTITION_NAME: None})
    def experts(rngs):
      return MLP(config, rngs)

    self.experts = experts(rngs)

  def __call__(self, x_BxTxD, hooks):
    del hooks  # experts have no adapters: see lora.check_targets
    graphdef, experts = nnx.split(self.experts)

    # Of what an expert computes nothing is kept for the backward pass.
    @functools.partial(jax.checkpoint, prevent_cse=False)
    def add(sum_BxTxD, expert):
      state, share_BxTx1 = expert
      # What a token would make overflow in an expert that it does not have is no
      # matter: 0 goes in, for the gradient; 0 is added, not 0 * y, for what is NaN yet.
      none_BxTx1 = share_BxTx1 == 0
      own_BxTxD = jnp.where(none_BxTx1, 0, x_BxTxD)
      y_BxTxD = nnx.merge(graphdef, state)(own_BxTxD, sites.NO_HOOKS)
      return sum_BxTxD + jnp.where(none_BxTx1, 0, share_BxTx1 * y_BxTxD), None

    shares_ExBxTx1 = jnp.moveaxis(self._shares(x_BxTxD), -1, 0)[..., None]
    return jax.lax.scan(add, jnp.zeros_like(x_BxTxD), (experts, shares_ExBxTx1))[0]

  def _shares(self, x_BxTxD):
    """Each expert's share of the output, 0 of those that a token does not have."""
    c = self.config
    logits_BxTxE = self.router(x_BxTxD).astype(jnp.float32)
    shares = jax.lax.top_k(jax.nn.softmax(logits_BxTxE), c.experts_per_token)
    share_BxTxK, expert_BxTxK = shares
    if c.norm_expert_shares:
      share_BxTxK = share_BxTxK / share_BxTxK.sum(-1, keepdims=True)
    one_hot_BxTxKxE = jax.nn.one_hot(expert_BxTxK, c.num_experts)
    shares_BxTxE = (share_BxTxK[..., None] * one_hot_BxTxKxE).sum(-2)
    return shares_BxTxE.astype(x_BxTxD.dtype)


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
