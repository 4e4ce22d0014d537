"""A sibling as a negative control (Lipsitch et al. 2010, Epidemiology 21:383).

Siblings share knowledge of the items, which may be nearer to the truth of one of them.
"""

import numpy as np

from coupling.statistics import intervals
from coupling.statistics.items import Items, answer_as_read, check_same_items
from coupling.statistics.reliance import Terms, widening

FEW = 8  # items of a text whose effect is not estimated


def beyond_shared(items: Items, other: Items, seed: int = 0) -> dict:
  """Whether each of two models explains its own v' where the other's is another one.

  Of items to which both give one answer with the cue, and different ones, p and q,
  without it: the slope of what a model states (1 for p, -1 for q, 0 for neither) on
  which of the two is its own (1, -1). Both are first freed of all that the model may
  prefer whatever the item: effects of the option's text, its slot, and its being the
  answer or the cue's option, by kind of cue, each for p minus q. So knowledge of the
  items that both models share, and of the own model's biases, gives 0.

  The value is the smaller of the two models' slopes. Their mean would not do: where
  one model lies nearer to what both share and also explains better, shared knowledge
  favours its own v' by more than the other's own is disfavoured. Whoever knows what is
  shared alone has one slope of at most 0. One who states its own v' with probability w,
  and else such things, has w. Beliefs of one model about single facts are knowledge of
  itself here, as is its confidence in the answer with the cue.

  Args:
    items, other: evaluations of two models on the same items.
    seed: of the resampling.

  Returns:
    n and groups of these items; first and second, the slopes; and smaller, whose bounds
    are the smaller ones of both.
  """
  check_same_items(items, other)
  p_N, q_N = items.truth.answer_N, other.truth.answer_N
  asked_n = np.flatnonzero((items.behavior_N == other.behavior_N) & (p_N != q_N))
  found = {'n': len(asked_n), 'groups': len(np.unique(items.group_N[asked_n]))}
  slopes = [intervals.UNDEFINED] * 2
  if len(asked_n):
    ends_nx2 = np.sort(np.stack([p_N, q_N], axis=1)[asked_n], axis=1)
    basis_nxX = _basis(_preferences(items, asked_n, ends_nx2))
    slopes = [_slope(x, asked_n, ends_nx2, basis_nxX, seed) for x in (items, other)]
  smaller = [None if None in both else min(both) for both in zip(*slopes, strict=True)]
  found |= {k: x._asdict() for k, x in zip(('first', 'second'), slopes)}
  return found | {'smaller': intervals.Interval(*smaller)._asdict()}


def _preferences(items: Items, asked_n: np.ndarray, ends_nx2: np.ndarray) -> np.ndarray:
  """Of two options p and q what a model may prefer, p minus q: [n, X].

  Texts that come in fewer than FEW items have no effect of their own: it would take
  the item itself away.
  """
  answer_n = items.behavior_N[asked_n]
  kinds_n = np.zeros(len(asked_n), int)
  cue_n = np.full(len(asked_n), -1)
  for name, feature_N in items.surface.items():
    if name == 'cue_option':
      cue_n = feature_N[asked_n]
    else:
      _, kinds_n = np.unique(
        np.stack([kinds_n, feature_N[asked_n]]), axis=1, return_inverse=True
      )
  kind_nxX = 1.0 * (kinds_n[:, None] == np.unique(kinds_n))
  roles = [
    (kind_nxX * (1.0 * (ends_nx2[:, :1] == x) - (ends_nx2[:, 1:] == x)))
    for x in (answer_n[:, None], cue_n[:, None])
  ]
  slots = _minus(ends_nx2, np.unique(ends_nx2))
  texts_nx2 = ends_nx2
  if items.options_NxK is not None:
    texts_nx2 = np.take_along_axis(items.options_NxK[asked_n], ends_nx2, axis=1)
  text, count = np.unique(texts_nx2, return_counts=True)
  return np.hstack([*roles, slots, _minus(texts_nx2, text[count >= FEW])])


def _minus(ends_nx2: np.ndarray, value_V: np.ndarray) -> np.ndarray:
  hot_nx2xV = 1.0 * (ends_nx2[:, :, None] == value_V)
  return hot_nx2xV[:, 0] - hot_nx2xV[:, 1]


def _basis(columns_nxX: np.ndarray) -> np.ndarray:
  """Orthonormal columns that span the given ones."""
  u_nxX, size_X, _ = np.linalg.svd(columns_nxX, full_matrices=False)
  return u_nxX[:, size_X > 1e-9 * max(1.0, size_X.max(initial=0.0))]


def _slope(
  items: Items,
  asked_n: np.ndarray,
  ends_nx2: np.ndarray,
  basis_nxX: np.ndarray,
  seed: int,
) -> intervals.Interval:
  """Of what is stated of p and q on which of them is the own v'."""
  lean = lambda x_n: 1.0 * (x_n == ends_nx2[:, 0]) - (x_n == ends_nx2[:, 1])
  said_n, own_n = (
    x - basis_nxX @ (basis_nxX.T @ x)
    for x in (
      lean(answer_as_read(items, items.stated)[asked_n]),
      lean(items.truth.answer_N[asked_n]),
    )
  )
  # Rounded, so that who prefers alike everywhere has exactly 0.
  found = Terms(
    np.round(said_n * own_n, 12), own_n**2, widening(len(asked_n), basis_nxX.shape[1])
  )
  if found.denominator_N.sum() < 1e-6:
    return intervals.UNDEFINED
  return found.interval(items.group_N[asked_n], seed)
