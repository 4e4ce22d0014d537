"""Statistics over many runs: means over seeds, and where the gap crosses zero."""

import numpy as np
from scipy import special

from coupling.intervals import CONFIDENCE, UNDEFINED, Interval
from coupling.intervals import seed_interval, seed_share_interval

COUNTS = {'n', 'groups', 'self_only', 'orig_only'}
SHARES = {
  *('self_accuracy', 'orig_accuracy', 'target_accuracy', 'behavior_similarity'),
  *('own_accuracy', 'sibling_accuracy', 'balanced_self', 'balanced_orig'),
  *('balanced_accuracy', 'drift', 'invalid', 'exchangeable', 'null_self', 'null_orig'),
  *('exact_match', 'precision', 'recall', 'f1', 'greedy_agreement'),
  *('followed', 'statement_moved', 'moved_to_truth'),
  *('change_rate_own', 'change_rate_swapped', 'to_changed', 'to_unchanged'),
}
# All in these is a share, except for differences, ratios and counts.
SHARE_GROUPS = {'moved', 'differing', 'change_rate', 'behavior_agreement'}
SHARE_GROUPS |= {'label', 'change', 'answer', 'companion'}


def _interval(values_S: list, path: tuple[str, ...], shares: bool) -> Interval:
  name, group = path[-1], path[-2] if len(path) > 1 else ''
  # The number of strata is a count; the strata by class are a dict of shares.
  if name in COUNTS or path[-2:] == ('shuffled', 'strata'):
    return Interval(float(np.mean(values_S)), None, None)
  grouped = group in SHARE_GROUPS and name not in ('difference', 'ratio')
  if shares or name in SHARES or grouped:
    return seed_share_interval(values_S)
  return seed_interval(values_S)


def _widened(found: dict, values_S: list[dict]) -> dict:
  """The interval, no narrower to either side than those within a run on the average."""
  if found['low'] is None or any(v['low'] is None for v in values_S):
    return found
  below = np.mean([v['value'] - v['low'] for v in values_S])
  above = np.mean([v['high'] - v['value'] for v in values_S])
  return found | {
    'low': min(found['low'], float(found['mean'] - below)),
    'high': max(found['high'], float(found['mean'] + above)),
  }


def _across(values_S: list, path: tuple[str, ...], shares: bool, shared_items: bool):
  first = values_S[0]
  if isinstance(first, dict):
    if any(not isinstance(v, dict) or v.keys() != first.keys() for v in values_S):
      name = '.'.join(('results', *path))
      raise ValueError(f"across_seeds: the seeds' results differ in the keys of {name}")
    if 'value' in first:
      values = [v['value'] for v in values_S]
      found = _across(values, path, shares, shared_items)
      return _widened(found, values_S) if shared_items else found
    return {
      key: _across([v[key] for v in values_S], (*path, key), shares, shared_items)
      for key in first
      if not key.endswith('_p')
    }
  found = UNDEFINED if None in values_S else _interval(values_S, path, shares)
  mean, low, high = found
  return {'mean': mean, 'low': low, 'high': high, 'per_seed': values_S}


def across_seeds(
  results: list[dict], shares: bool = False, shared_items: bool = False
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
    shares: whether all of their numbers are shares, whatever their names.
    shared_items: whether seeds were asked about the same held-out texts. What these
      have in common then cancels from the variation over seeds, so intervals are no
      narrower than those within a run are on the average.
  """
  if not results:
    raise ValueError('across_seeds: there are no results')
  return _across(results, (), shares, shared_items)


def zero_crossing(
  similarity_R: np.ndarray, gap_R: np.ndarray, confidence: float = CONFIDENCE
) -> dict:
  """Behaviour similarity at which the gap crosses zero, over R independent runs.

  Least squares gap = a + b similarity, crossing -a / b; its interval is Fieller's
  (1954, JRSS B 16:175): all x with (a + b x)^2 <= t_{R-2}^2 Var(a + b x). It is
  bounded only where b differs significantly from zero; where not, the runs do not
  locate a crossing and it is undefined.

  Returns:
    n; slope, with its t interval; crossing, an interval; extrapolated, whether the
    crossing lies outside the similarities seen (None where it is undefined).
  """
  similarity_R = np.asarray(similarity_R, np.float64)
  gap_R = np.asarray(gap_R, np.float64)
  if similarity_R.shape != gap_R.shape or similarity_R.ndim != 1:
    raise ValueError(
      'zero_crossing: needs one similarity and one gap a run, found shapes '
      f'{similarity_R.shape} and {gap_R.shape}'
    )
  if not np.all(np.isfinite(similarity_R)) or not np.all(np.isfinite(gap_R)):
    raise ValueError('zero_crossing: similarities and gaps must be finite')
  runs = len(gap_R)
  undefined = {
    'n': runs,
    'slope': UNDEFINED._asdict(),
    'crossing': UNDEFINED._asdict(),
    'extrapolated': None,
  }
  if runs < 3 or np.ptp(similarity_R) == 0:
    return undefined
  center = similarity_R.mean()
  offset_R = similarity_R - center
  spread, mean_gap = float(offset_R @ offset_R), float(gap_R.mean())
  slope = float(offset_R @ gap_R) / spread
  residual_R = gap_R - mean_gap - slope * offset_R
  t = float(special.stdtrit(runs - 2, (1 + confidence) / 2))
  t2_noise = t**2 * float(residual_R @ residual_R) / (runs - 2)
  half = float(np.sqrt(t2_noise / spread))
  located = undefined | {'slope': Interval(slope, slope - half, slope + half)._asdict()}
  # In d = x - center: (mean + b d)^2 <= t^2 s^2 (1 / R + d^2 / spread).
  square = slope**2 - half**2
  if square <= 0:
    return located
  linear, constant = slope * mean_gap, mean_gap**2 - t2_noise / runs
  root = np.sqrt(max(0.0, linear**2 - square * constant))
  crossing = Interval(
    float(center - mean_gap / slope),
    float(center + (-linear - root) / square),
    float(center + (-linear + root) / square),
  )
  inside = similarity_R.min() <= crossing.value <= similarity_R.max()
  return located | {'crossing': crossing._asdict(), 'extrapolated': not inside}
