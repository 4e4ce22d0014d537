"""NaN and infinity: where they are looked for, and how they are reported.

A comparison with NaN is False, and argmax returns the index of a NaN, so numbers
computed from NaN look like results. They are looked for where numbers come in
(weights), where they are kept (checkpoints, exports), in every training step, and in
all logits that an answer is read from.
"""

from collections.abc import Iterator
import contextlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from coupling.runtime import distributed

# Stands for a choice whose logits are not finite; differs from every option, token and
# fill value.
NOT_FINITE = -2
_CHUNK = 2**20  # values of the host looked at together
# Of half-precision types, which NumPy looks at slowly: NaN and infinity have all bits
# of the exponent set, and no finite number has.
_EXPONENT = {'bfloat16': 0x7F80, 'float16': 0x7C00}


class NonFiniteError(ArithmeticError):
  """NaN or infinity; the message names what holds it, why, and the remedy."""


@contextlib.contextmanager
def during(where: str) -> Iterator[None]:
  """Puts in front of a NonFiniteError what was being done."""
  try:
    yield
  except NonFiniteError as e:
    raise NonFiniteError(f'{where}: {e}') from e


def mark(choice: jax.Array, logits_xV: jax.Array) -> jax.Array:
  """A choice [...] made from logits; NOT_FINITE where some of these are not finite."""
  return jnp.where(jnp.isfinite(logits_xV).all(axis=-1), choice, NOT_FINITE)


def check_choices(
  choice_NxX: np.ndarray, what: str, dtype: Any, row_N: np.ndarray | None = None
) -> None:
  """Raises NonFiniteError where a choice is marked.

  Args:
    choice_NxX: of N pairs, made by `mark`.
    what: it was chosen from, as the error calls it.
    dtype: of the model's arithmetic.
    row_N: the pairs' numbers; default: their order.
  """
  bad_N = (choice_NxX == NOT_FINITE).reshape(len(choice_NxX), -1).any(axis=1)
  check_pairs(~bad_N, f'the logits of {what}', dtype, row_N)


def check_pairs(
  good_N: np.ndarray, what: str, dtype: Any, row_N: np.ndarray | None = None
) -> None:
  """Raises NonFiniteError unless what was computed of every pair is finite."""
  if not good_N.all():
    rows = (np.arange(len(good_N)) if row_N is None else row_N)[~good_N]
    raise NonFiniteError(
      f'{what} are not finite for {len(rows)} of {len(good_N)} pairs (the first is '
      f'pair {rows[0]}). {overflow(dtype)}'
    )


def overflow(dtype: Any) -> str:
  """Cause and remedy where finite weights, as all are that are read, give this."""
  if jnp.dtype(dtype) == jnp.float32:
    return (
      'All weights are finite, so they are too large for float32: they are of a '
      'training that diverged (lower its optimizer.learning_rate and train anew), or '
      'the checkpoint is damaged or of another model: use another.'
    )
  return (
    f'All weights are finite, so the arithmetic overflows in {jnp.dtype(dtype)}: set '
    'dtype (base.dtype, base.model.dtype) to float32. Where it does so there too, the '
    'weights are of a training that diverged.'
  )


def check(tree: Any, what: str, remedy: str) -> None:
  """Raises NonFiniteError, naming the arrays, unless all numbers of a tree are finite.

  Of several processes all find the same. Nothing is copied.
  """
  paths, leaves = [], []
  for path, x in jax.tree_util.tree_leaves_with_path(tree):
    if jnp.issubdtype(x.dtype, jnp.inexact):
      paths.append(jax.tree_util.keystr(path, simple=True, separator='.'))
      leaves.append(x)
  flags = distributed.fetch(distributed.settled(_flags(leaves)))
  if bad := [path for path, good in zip(paths, flags) if not good]:
    few = ', '.join(bad[:5]) + f' and {len(bad) - 5} more' * (len(bad) > 5)
    raise NonFiniteError(f'{what}: NaN or infinity in {few}. {remedy}')


@jax.jit
def _flags(leaves: list[jax.Array]) -> list[jax.Array]:
  return [jnp.isfinite(x).all() for x in leaves]


def is_finite(x: np.ndarray) -> bool:
  """Whether all numbers of an array of the host are finite; needs no memory."""
  flat = x.reshape(-1)  # a view, where the array lies in one piece
  parts = (flat[i : i + _CHUNK] for i in range(0, len(flat), _CHUNK))
  if (exponent := _EXPONENT.get(x.dtype.name)) and x.dtype.isnative:
    bits = (part.view(np.uint16) & exponent for part in parts)
    return all((part != exponent).all() for part in bits)
  return all(np.isfinite(part).all() for part in parts)
