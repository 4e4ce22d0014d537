"""Tests over seeds that are looked at several times, as more seeds come in.

A test that is done at 5, at 10 and at 20 seeds, each time at 5%, is wrong more often
than 5%. Here each look has a nominal level of its own, so that all looks together keep
the error: the boundaries of Wang and Tsiatis (1987, Biometrics 43:193) with Delta =
0.25, strict at first and nearly that of one test at the end, as levels of Student's t
(Jennison and Turnbull 2000, section 4.4). Intervals at these levels cover at all looks
together (their section 9.1: repeated confidence intervals), so one may stop at any of
them. The constant is found by simulation, from a fixed seed.
"""

from collections.abc import Iterator
import functools

import numpy as np
from scipy import special

DELTA = 0.25
PATHS = 200_000
# Below this level too few simulated paths cross; then the looks share it (Bonferroni),
# in the proportion that they have at this level.
FEWEST = 500


def level(alpha: float, looks: tuple[int, ...], seeds: int) -> float:
  """Two-sided nominal level of the look at `seeds` seeds, alpha over all looks.

  Args:
    alpha: probability that an effect of zero is called one at some look.
    looks: numbers of seeds, all that are planned, ascending, at least 2 each.
    seeds: of this look, one of them.

  Raises:
    ValueError: a look that is not planned.
  """
  if seeds not in looks:
    raise ValueError(f'level: no look is planned at {seeds} seeds: {looks}')
  if len(looks) == 1:
    return alpha
  scaled_P = _null(looks)
  least = FEWEST / len(scaled_P)
  found_L = _levels(max(alpha, least), scaled_P, looks)
  if alpha < least:
    found_L *= alpha / max(least, found_L.sum())
  found = found_L[looks.index(seeds)]
  return float(min(alpha, found))  # by the simulation's error it may be above


def _levels(alpha: float, scaled_P: np.ndarray, looks: tuple[int, ...]) -> np.ndarray:
  """The nominal levels of all looks, [L]."""
  constant = np.quantile(scaled_P, 1 - alpha, method='higher')
  return 2 * special.ndtr(-constant * _shape(looks))


def power(effect: float, alpha: float, looks: tuple[int, ...]) -> dict[int, float]:
  """Probability that an effect is decided, the right way, by each look.

  Args:
    effect: its mean over its standard deviation over seeds.
    alpha: see `level`.
    looks: see `level`.
  """
  found, crossed_P = {}, np.zeros(PATHS, bool)
  for seeds, t_P in zip(looks, _paths(looks, effect), strict=True):
    crossed_P |= t_P > special.stdtrit(seeds - 1, 1 - level(alpha, looks, seeds) / 2)
    found[seeds] = float(crossed_P.mean())
  return found


def _shape(looks: tuple[int, ...]) -> np.ndarray:
  """What the constant is multiplied with at each look, [L]."""
  return (np.array(looks) / looks[-1]) ** (DELTA - 0.5)


@functools.lru_cache(maxsize=8)
def _null(looks: tuple[int, ...]) -> np.ndarray:
  """Of each path without an effect, the constant up to which some look decides, [P]."""
  largest_P = np.zeros(PATHS)
  for seeds, t_P, shape in zip(looks, _paths(looks, 0.0), _shape(looks), strict=True):
    z_P = -special.ndtri(special.stdtr(seeds - 1, -np.abs(t_P)))
    largest_P = np.maximum(largest_P, z_P / shape)
  return largest_P


def _paths(looks: tuple[int, ...], effect: float) -> Iterator[np.ndarray]:
  """Student's t at each look, [P], of normal values of mean `effect` and variance 1.

  What comes in between two looks adds its sum, and its squares about its own mean.
  """
  rng = np.random.default_rng(0)
  sum_P, squares_P, before = np.zeros(PATHS), np.zeros(PATHS), 0
  for seeds in looks:
    new = seeds - before
    new_P = new * effect + np.sqrt(new) * rng.standard_normal(PATHS)
    squares_P += new_P**2 / new
    if new > 1:
      squares_P += rng.chisquare(new - 1, PATHS)
    sum_P, before = sum_P + new_P, seeds
    variance_P = (squares_P - sum_P**2 / seeds) / (seeds - 1)
    yield sum_P / np.sqrt(seeds * variance_P)
