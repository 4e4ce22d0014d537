"""Statistics over many runs: means over seeds, and where the gap crosses zero."""

import numpy as np
from scipy import special

from coupling.intervals import CONFIDENCE, UNDEFINED, Interval, seed_interval


def _across(values_S: list, path: str):
  first = values_S[0]
  if isinstance(first, dict):
    if any(not isinstance(v, dict) or v.keys() != first.keys() for v in values_S):
      raise ValueError(f"across_seeds: the seeds' results differ in the keys of {path}")
    if 'value' in first:
      return _across([v['value'] for v in values_S], path)
    return {
      key: _across([v[key] for v in values_S], f'{path}.{key}')
      for key in first
      if not key.endswith('_p')
    }
  mean, low, high = UNDEFINED if None in values_S else seed_interval(values_S)
  return {'mean': mean, 'low': low, 'high': high, 'per_seed': values_S}


def across_seeds(results: list[dict]) -> dict:
  """Every scalar statistic over the seeds of one experiment.

  Each number, and the value of each interval, becomes {mean, low, high, per_seed},
  with Student's t interval over seeds (`intervals.seed_interval`): the headline, as
  it holds the variation of the whole run. A statistic undefined for one seed has no
  mean. Values of p are left out; their mean tests nothing.

  Args:
    results: dicts of `coupling` or of comparisons, one a seed, of equal structure.
  """
  if not results:
    raise ValueError('across_seeds: there are no results')
  return _across(results, 'results')


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
