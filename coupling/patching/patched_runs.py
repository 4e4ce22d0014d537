"""The compiled runs of activation patching: on x, on x', and on x patched.

What the runs share is computed once: the tokens before the first at which x and x'
differ, those before the answer where only that is patched, the layers below the first
that is patched, and in models that are not deep that layer's attention (chunks).
Activations enter and leave through the sites of the one decoder. Shapes: B pairs, S
tokens from the first difference on, X of two answers without their last, R runs, K and
C columns, G tokens of an answer, L layers, Z groups.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from coupling.model import attention
from coupling.model import decoder
from coupling.model import scoring
from coupling.model import sharding
from coupling.model.architecture import DecoderConfig
from coupling.model.kv_cache import Cache
from coupling.model.sites import SITES, Patch, replace
from coupling.model.transformer import Output
from coupling.patching.chunks import Chosen

Activations = dict[str, jax.Array]  # site -> [L, B, S + X, ...]


class Begun(NamedTuple):
  """Both runs of a batch."""

  tokens_BxS: jax.Array  # of x, and of both answers
  positions_BxS: jax.Array
  mask_BxSxT: jax.Array
  prefix: Cache
  suffix: Cache  # of x
  own: Activations  # of x
  other: Activations  # of x'


@functools.lru_cache
def begin(
  config: DecoderConfig,
  mesh: jax.sharding.Mesh,
  prefix: int,
  end_tokens: tuple[int, ...],
) -> Callable:
  """The jitted runs on x and x': (params, rows) -> (Begun, d [B] of x')."""
  batched = sharding.batch_sharding(mesh)
  stacked = sharding.batch_sharding(mesh, leading=1)
  of_cache = sharding.cache_shardings(mesh, config)
  places = Begun(batched, batched, batched, of_cache, of_cache, stacked, stacked)

  @jax.jit
  @sharding.on(mesh)
  def run(params, rows):
    tokens_Bx2xT, answers_Bx2xG = rows['tokens'], rows['answers']
    B, _, G = answers_Bx2xG.shape
    positions_BxT, mask_BxTxT = _tree(rows['valid'], 2, G - 1)
    apply = functools.partial(
      decoder.apply, config, params, longest=config.learned_positions
    )
    prefix_cache = apply(
      tokens_Bx2xT[:, 0, :prefix],
      positions_BxT=positions_BxT[:, :prefix],
      mask_BxTxS=mask_BxTxT[:, :prefix, :prefix],
      keep=True,
    ).cache
    branches_BxX = answers_Bx2xG[:, :, :-1].reshape(B, -1)

    def one(tokens_BxT):
      tokens_BxS = jnp.concatenate([tokens_BxT[:, prefix:], branches_BxX], axis=1)
      out = apply(
        tokens_BxS,
        positions_BxT=positions_BxT[:, prefix:],
        mask_BxTxS=mask_BxTxT[:, prefix:],
        caches=[prefix_cache],
        keep=True,
        read=SITES,
      )
      return tokens_BxS, out

    tokens_BxS, own = one(tokens_Bx2xT[:, 0])
    _, other = one(tokens_Bx2xT[:, 1])
    begun = Begun(
      tokens_BxS,
      positions_BxT[:, prefix:],
      mask_BxTxT[:, prefix:],
      prefix_cache,
      own.cache,
      own.activations,
      other.activations,
    )
    begun = jax.lax.with_sharding_constraint(begun, places)
    read_BxCxD = other.hidden_BxCxD[:, -_num_read(answers_Bx2xG) :]
    return begun, _contrast(config, params, read_BxCxD, answers_Bx2xG, end_tokens)

  return run


@functools.lru_cache
def patched(
  config: DecoderConfig,
  mesh: jax.sharding.Mesh,
  first: int,
  column: int,
  at_once: int,
  end_tokens: tuple[int, ...],
) -> Callable:
  """The jitted patched runs: (params, rows, begun, values, chosen, at) -> d [R, B].

  They begin at a layer and at a column of the suffix. Of the layer before, where it is
  patched, only what follows its attention is computed, `at` some columns [B, K] where
  these are given.
  """

  @jax.jit
  @sharding.on(mesh)
  def run(params, rows, begun, values, chosen, at_BxK):
    answers_Bx2xG, group_BxS = rows['answers'], rows['group'][:, column:]
    own, values = (
      {site: x[:, :, column:] for site, x in every.items()}
      for every in (begun.own, values)
    )
    B, S = group_BxS.shape
    C = _num_read(answers_Bx2xG)
    read_BxC = jnp.broadcast_to(jnp.arange(S - C, S), (B, C))
    suffix = _Suffix(
      config, params, first, column, begun, own, values, group_BxS, read_BxC
    )
    contrast = lambda read_BxCxD: _contrast(
      config, params, read_BxCxD, answers_Bx2xG, end_tokens
    )
    # Logits of some runs at a time: of many short ones, they might not fit.
    read_RxBxCxD = jax.vmap(lambda x: suffix.run(x, at_BxK))(chosen)
    R = len(read_RxBxCxD)
    return jax.lax.map(contrast, read_RxBxCxD, batch_size=R // -(-R // at_once))

  return run


@dataclasses.dataclass(frozen=True)
class _Suffix:
  """What patched runs that begin at one layer and column have in common.

  Attributes:
    config, params: the decoder.
    first, column: where the runs begin.
    begun: both runs.
    own, values: activations of x, and what replaces them; like the rest, from the
      column on.
    group_BxS: codes of the position groups.
    read_BxC: the columns that are read.
  """

  config: DecoderConfig
  params: decoder.Params
  first: int
  column: int
  begun: Begun
  own: Activations
  values: Activations
  group_BxS: jax.Array
  read_BxC: jax.Array

  def run(self, chosen: Chosen, at_BxK: jax.Array | None) -> jax.Array:
    """Hidden states [B, C, D] of the columns that are read."""
    before, later = chosen
    first, depth = self.first, self.config.depth
    if before and first:
      x_BxSxD = self._leave(before, at_BxK)
    else:
      x_BxSxD = self.own['residual'][first]
    if first == depth:
      return x_BxSxD
    if before:
      mask_BxS = before['residual'][self.group_BxS]
      x_BxSxD = replace(x_BxSxD, self.values['residual'][first], mask_BxS)
    patches = self._patches(later, first, depth)
    return self._through(first, depth, x_BxSxD, patches, self.read_BxC).hidden_BxCxD

  def _leave(self, masks: dict[str, jax.Array], at_BxK: jax.Array | None) -> jax.Array:
    """What leaves the layer before; of the last layer, what is read."""
    before, first = self.first - 1, self.first
    nothing_left = first == self.config.depth
    at = self.read_BxC if nothing_left else at_BxK
    masks = {k: x_Z[None] for k, x_Z in masks.items() if k != 'residual'}
    patches = self._patches(masks, before, first)
    heads = replace(self.own['heads'][before:first], *patches['heads'])
    patches['heads'] = Patch(heads, None)
    out = self._through(before, first, self.own['residual'][before], patches, at)
    if nothing_left:
      return out.hidden_BxCxD
    if at is None:
      return out.leaving_BxCxD
    row_Bx1 = jnp.arange(len(at))[:, None]
    return self.own['residual'][first].at[row_Bx1, at].set(out.leaving_BxCxD)

  def _patches(
    self, masks: dict[str, jax.Array], start: int, stop: int
  ) -> dict[str, Patch]:
    return {
      site: Patch(self.values[site][start:stop], mask_LxZ[:, self.group_BxS])
      for site, mask_LxZ in masks.items()
    }

  def _through(
    self,
    start: int,
    stop: int,
    entering_BxSxD: jax.Array,
    patch: dict[str, Patch],
    rows_BxC: jax.Array | None,
  ) -> Output:
    """Runs some layers."""
    begun, column = self.begun, self.column
    caches = [begun.prefix.part(start, stop, begun.prefix.slots)]
    if column:
      caches.append(begun.suffix.part(start, stop, column))
    return decoder.apply(
      *decoder.some_layers(self.config, self.params, start, stop),
      begun.tokens_BxS[:, column:],
      rows_BxC=rows_BxC,
      positions_BxT=begun.positions_BxS[:, column:],
      longest=self.config.learned_positions,
      mask_BxTxS=begun.mask_BxSxT[:, column:],
      caches=caches,
      patch=patch,
      entering_BxTxD=entering_BxSxD,
    )


def _num_read(answers_Bx2xG: jax.Array) -> int:
  """Columns that are read: the prompt's last, and both answers' tokens but the last."""
  return 1 + 2 * (answers_Bx2xG.shape[2] - 1)


def _contrast(
  config: DecoderConfig,
  params: decoder.Params,
  read_BxCxD: jax.Array,
  answers_Bx2xG: jax.Array,
  end_tokens: tuple[int, ...],
) -> jax.Array:
  """d [B], from the hidden states of the columns that are read."""
  (B, _, G), D = answers_Bx2xG.shape, read_BxCxD.shape[2]
  after_Bx2xFxD = read_BxCxD[:, 1:].reshape(B, 2, G - 1, D)
  logprobs_Bx2 = scoring.statement_logprobs(
    config, params, read_BxCxD[:, 0], after_Bx2xFxD, answers_Bx2xG, end_tokens
  )
  return logprobs_Bx2[:, 0] - logprobs_Bx2[:, 1]


def _tree(valid_BxT: jax.Array, M: int, X: int) -> tuple[jax.Array, jax.Array]:
  """Positions [B, S] and mask [B, S, S] of a prompt and M branches of X tokens."""
  B, T = valid_BxT.shape
  S = T + M * X
  forward_BxMxX = jnp.broadcast_to(
    valid_BxT.sum(axis=1)[:, None, None] + jnp.arange(X), (B, M, X)
  )
  positions_BxS = jnp.concatenate(
    [attention.positions_of(valid_BxT), forward_BxMxX.reshape(B, -1)], axis=1
  )
  # A slot is seen up to the end of its subtree: all of it, or its branch.
  branch_ends_X = np.repeat(T + X * np.arange(1, M + 1), X)
  end_S = jnp.asarray(np.concatenate([np.full(T, S), branch_ends_X]))
  valid_BxS = jnp.pad(valid_BxT, ((0, 0), (0, M * X)), constant_values=True)
  end_BxS = jnp.where(valid_BxS, end_S, jnp.arange(S) + 1)  # padding: itself alone
  return positions_BxS, attention.tree_mask(end_BxS)
