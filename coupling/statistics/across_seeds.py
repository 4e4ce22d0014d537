"""Statistics over many runs: means over seeds, and where the gap crosses zero."""

import dataclasses

import numpy as np
from scipy import special

from coupling.statistics.intervals import CONFIDENCE, UNDEFINED, Interval
from coupling.statistics.intervals import seed_interval, seed_share_interval

COUNTS = {'n', 'groups', 'self_only', 'orig_only'}
SHARES = {
  *('self_accuracy', 'orig_accuracy', 'target_accuracy', 'behavior_similarity'),
  *('own_accuracy', 'sibling_accuracy', 'balanced_self', 'balanced_orig'),
  *('balanced_accuracy', 'drift', 'invalid', 'exchangeable', 'null_self', 'null_orig'),
  *('macro_f1', 'content_match', 'content_match_changed', 'f_auroc'),
  *('exact_match', 'precision', 'recall', 'f1', 'greedy_agreement'),
  *('followed', 'statement_moved', 'moved_to_truth'),
  *('overlap', 'flipped', 'agrees'),
  *('change_rate_own', 'change_rate_swapped', 'to_changed', 'to_unchanged'),
}
# All in these is a share, except for differences, ratios and counts.
SHARE_GROUPS = {'moved', 'differing', 'change_rate', 'behavior_agreement'}
SHARE_GROUPS |= {'label', 'change', 'answer', 'companion'}


@dataclasses.dataclass(frozen=True)
class _How:
  """How values become a statistic: see across_seeds."""

  shares: bool | None
  shared_items: bool
  confidence: float


def _interval(values_S: list, path: tuple[str, ...], how: _How) -> Interval:
  name = path[-1]
  # The number of strata is a count; the strata by class are a dict of shares.
  if name in COUNTS or path[-2:] == ('shuffled', 'strata'):
    return Interval(float(np.mean(values_S)), None, None)
  found = seed_share_interval if _is_share(path, how) else seed_interval
  return found(values_S, how.confidence)


def _is_share(path: tuple[str, ...], how: _How) -> bool:
  if how.shares is not None:
    return how.shares
  name, group = path[-1], path[-2] if len(path) > 1 else ''
  grouped = group in SHARE_GROUPS and name not in ('difference', 'ratio', 'gain')
  return name in SHARES or grouped


def _widened(
  found: dict, values_S: list[dict], is_share: bool, confidence: float
) -> dict:
  """The interval, with what is uncertain within a run, on the average, added.

  Variances add, so half-widths do by their squares. Those within a run are of
  CONFIDENCE, and wider or narrower at another level as normal ones are. Without an
  interval within some run there is none.
  """
  if found['low'] is None or any(v['low'] is None for v in values_S):
    return found | {'low': None, 'high': None}
  wider = np.divide(*special.ndtri((1 + np.array([confidence, CONFIDENCE])) / 2))
  below = wider * np.mean([v['value'] - v['low'] for v in values_S])
  above = wider * np.mean([v['high'] - v['value'] for v in values_S])
  low = found['mean'] - np.hypot(found['mean'] - found['low'], below)
  high = found['mean'] + np.hypot(found['high'] - found['mean'], above)
  if is_share:
    low, high = max(low, 0.0), min(high, 1.0)
  return found | {'low': float(low), 'high': float(high)}


def _across(values_S: list, path: tuple[str, ...], how: _How) -> dict:
  first = values_S[0]
  if isinstance(first, dict):
    if any(not isinstance(v, dict) or v.keys() != first.keys() for v in values_S):
      name = '.'.join(('results', *path))
      raise ValueError(f"across_seeds: the seeds' results differ in the keys of {name}")
    if 'value' in first:
      values = [v['value'] for v in values_S]
      found = _across(values, path, how)
      if how.shared_items:
        return _widened(found, values_S, _is_share(path, how), how.confidence)
      return found
    return {
      key: _across([v[key] for v in values_S], (*path, key), how)
      for key in first
      if not key.endswith('_p')
    }
  found = UNDEFINED if None in values_S else _interval(values_S, path, how)
  mean, low, high = found
  return {'mean': mean, 'low': low, 'high': high, 'per_seed': values_S}


def across_seeds(
  results: list[dict],
  shares: bool | None = None,
  shared_items: bool = False,
  confidence: float = CONFIDENCE,
) -> dict:
  """Every scalar statistic over the seeds of one experiment.

  Each number, and the value of each interval, becomes {mean, low, high, per_seed}:
  the headline, as it holds the variation of the whole run. Student's t over seeds,
  for shares on the logit scale (`intervals.seed_interval`, `seed_share_interval`);
  counts of items have no bounds, as they are what was measured. A statistic
  undefined for one seed has no mean. Values of p are left out; their mean tests
  nothing.

  Args:
    results: dicts of `coupling` or of comparisons, one a seed, of equal structure.
    shares: whether all of their numbers are shares, or none is, as of differences;
      None: those are that SHARES and SHARE_GROUPS name.
    shared_items: whether seeds have M_0 or the held-out texts in common. That cancels
      from the variation over seeds, so the uncertainty within a run is added to it.
      Numbers without an interval within a run have Student's t alone.
    confidence: nominal coverage.
  """
  if not results:
    raise ValueError('across_seeds: there are no results')
  return _across(results, (), _How(shares, shared_items, confidence))


def zero_crossing(
  similarity_SxR: np.ndarray, gap_SxR: np.ndarray, confidence: float = CONFIDENCE
) -> dict:
  """Behaviour similarity at which the gap crosses zero, over S seeds of R runs.

  Runs of one seed share M_0 and the items and are not independent; seeds are. So each
  seed has a line of its own by least squares, gap = a_s + b_s similarity, and the
  crossing is that of the mean line, -a / b. Its interval is Fieller's (1954, JRSS B
  16:175): all x at which a t test over seeds does not tell a_s + b_s x from zero,
  (a + b x)^2 <= t_{S-1}^2 Var(a_s + b_s x) / S. It is bounded only where b differs
  significantly from zero; where not, the runs do not locate a crossing.

  Args:
    similarity_SxR: similarities of the runs of each seed; runs may differ by seed.
    gap_SxR: their gaps.
    confidence: nominal coverage.

  Returns:
    seeds and runs (a seed); slope, per_seed slopes and intercepts beside its t
    interval; crossing, an interval; extrapolated, whether the crossing lies outside
    the similarities seen (None where it is undefined).

  Raises:
    ValueError: shapes are not [S, R], or values are not finite.
  """
  similarity_SxR = np.asarray(similarity_SxR, np.float64)
  gap_SxR = np.asarray(gap_SxR, np.float64)
  if similarity_SxR.shape != gap_SxR.shape or similarity_SxR.ndim != 2:
    raise ValueError(
      'zero_crossing: needs one similarity and one gap for each seed and run, found '
      f'shapes {similarity_SxR.shape} and {gap_SxR.shape}'
    )
  if not np.all(np.isfinite(similarity_SxR)) or not np.all(np.isfinite(gap_SxR)):
    raise ValueError('zero_crossing: similarities and gaps must be finite')
  seeds, runs = gap_SxR.shape
  found = {
    'seeds': seeds,
    'runs': runs,
    'slope': UNDEFINED._asdict(),
    'crossing': UNDEFINED._asdict(),
    'extrapolated': None,
    'slopes': [],
    'intercepts': [],
  }
  offset_SxR = similarity_SxR - similarity_SxR.mean(axis=1, keepdims=True)
  spread_S = np.sum(offset_SxR**2, axis=1)
  if runs < 2 or np.any(spread_S == 0):
    return found
  slope_S = np.sum(offset_SxR * gap_SxR, axis=1) / spread_S
  # Heights of the lines at the common center, where they depend least on the slopes.
  center = float(similarity_SxR.mean())
  height_S = gap_SxR.mean(axis=1) + slope_S * (center - similarity_SxR.mean(axis=1))
  slope = seed_interval(slope_S, confidence)
  found |= {
    'slope': slope._asdict(),
    'slopes': slope_S.tolist(),
    'intercepts': (height_S - slope_S * center).tolist(),
  }
  if slope.low is None or slope.low <= 0 <= slope.high:
    return found
  t = special.stdtrit(seeds - 1, (1 + confidence) / 2)
  # In d = x - center: (height + slope d)^2 <= t^2 / S Var(height_s + slope_s d).
  covariance = t**2 / seeds * np.cov(height_S, slope_S)
  square = slope.value**2 - covariance[1, 1]
  linear = slope.value * height_S.mean() - covariance[0, 1]
  constant = height_S.mean() ** 2 - covariance[0, 0]
  root = np.sqrt(max(0.0, linear**2 - square * constant))
  crossing = Interval(
    float(center - height_S.mean() / slope.value),
    float(center + (-linear - root) / square),
    float(center + (-linear + root) / square),
  )
  inside = similarity_SxR.min() <= crossing.value <= similarity_SxR.max()
  return found | {'crossing': crossing._asdict(), 'extrapolated': not inside}
