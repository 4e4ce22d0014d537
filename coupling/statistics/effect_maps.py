"""Effect maps of activation patching, and what of them is compared; no JAX here.

A map holds for every site how far patching it moves d, the log-probability difference
of two answers, from its value on x towards that on x'. The maps of behaviour and of
explanation are compared over components, each counted once: single heads and MLPs, at
the position groups that both prompts have. Left out, since both maps are 0 there by
construction: what comes before x and x' differ, and what nothing reads any more. Left
out too: the residual stream and whole attention layers, which are sums of components,
and whose last positions carry everything in both maps; they are told apart.

How much a site matters is the size of its effect: the sign of a map is that of the
whole effect, which a model that cannot explain does not have. Shapes: N pairs, R sites.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any, NamedTuple

import numpy as np

EVERY_HEAD = -1
COMPONENTS = ('heads', 'mlp_out')
SUMS = ('residual', 'attention_out')
SHARED = ('question', 'options', 'hint_source', 'hinted_option', 'answer')  # groups
TOP = 0.1  # share of the sites that matter most


class Site(NamedTuple):
  """Where an activation is replaced."""

  kind: str  # of model.sites.SITES
  layer: int
  group: str  # of positions.GROUPS
  head: int  # EVERY_HEAD but for single heads


class Effects(NamedTuple):
  """d on x, on x', and on x with each of R sites, or sets of sites, replaced."""

  clean_N: np.ndarray
  other_N: np.ndarray
  patched_NxR: np.ndarray

  @property
  def whole_N(self) -> np.ndarray:
    """What replacing everything does."""
    return self.clean_N - self.other_N

  @property
  def moved_NxR(self) -> np.ndarray:
    """What replacing each site does."""
    return self.clean_N[:, None] - self.patched_NxR

  def of(self, rows: Any) -> 'Effects':
    """Of some of the pairs."""
    return Effects(*(x[rows] for x in self))


@dataclasses.dataclass(frozen=True)
class Maps:
  """One checkpoint's patching.

  Attributes:
    sites: R sites.
    group_N: the cluster of each pair: its fact, post or question.
    behavior, explanation: patched at each site.
    live_R: sites that are inert in neither; see engine.inert.
    knocked_out: sets of components that were mean-ablated: those that matter most to
      the behaviour, then random ones.
    behavior_without, explanation_without: on x, with each of these sets ablated.
    behavior_other_without, explanation_other_without: the same on x'; x is the other.
  """

  sites: Sequence[Site]
  group_N: np.ndarray
  behavior: Effects
  explanation: Effects
  live_R: np.ndarray
  knocked_out: Sequence[Sequence[int]]
  behavior_without: Effects
  explanation_without: Effects
  behavior_other_without: Effects
  explanation_other_without: Effects


def compared(sites: Sequence[Site], live_R: np.ndarray, kinds: Sequence[str]):
  """Indices of the sites of some kinds over which maps are compared."""
  fits = [site.kind in kinds and site.group in SHARED for site in sites]
  return np.flatnonzero(live_R & np.array(fits))


def used(behavior: Effects) -> np.ndarray:
  """Pairs of which each run prefers its own answer to the other's, bool [N]."""
  return (behavior.clean_N > 0) & (behavior.other_N < 0)


def effect(every: Sequence[Effects]) -> np.ndarray:
  """Normalised effect of each site in some models together, about 0 to 1, [R].

  A ratio of means over pairs, and over models: a whole near 0 weighs little. NaN where
  replacing everything does nothing on average.
  """
  whole = np.mean([x.whole_N.mean() for x in every])
  moved_R = np.mean([x.moved_NxR.mean(axis=0) for x in every], axis=0)
  return moved_R / whole if whole else np.full(len(moved_R), np.nan)


def most(behavior: Effects, among: np.ndarray) -> np.ndarray:
  """The TOP share of some sites that matter most, as indices."""
  size_R = np.abs(behavior.moved_NxR.mean(axis=0))[among]
  return among[np.argsort(-size_R, kind='stable')[: top_count(len(among))]]


def top_count(sites: int) -> int:
  return max(1, round(TOP * sites))


def matched(
  sites: Sequence[Site], top: np.ndarray, among: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
  """Random ones among some sites, none of the top: as many, and of the same kinds.

  Where a kind has too few left, others stand in.
  """
  rest = rng.permutation(np.setdiff1d(among, top))
  wanted = [sites[i].kind for i in top]
  drawn = []
  for i in rest:
    if sites[i].kind in wanted:
      wanted.remove(sites[i].kind)
      drawn.append(i)
  others = [i for i in rest if i not in drawn]
  return np.array([*drawn, *others][: len(top)], int)
