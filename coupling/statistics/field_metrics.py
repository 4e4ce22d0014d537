"""Metrics of related work, computed from the same held-out items as ours.

Exact match (arXiv 2511.08579), the share of explanations that are right in both parts,
is self_accuracy and orig_accuracy of `scores.coupling`. Every metric here is an
interval over groups, cut to the metric's range, as {"value", "low", "high"}; what is
undefined is None. A truth is E(M_t) or E(M_0). No JAX.
"""

import numpy as np
from scipy import special
from scipy import stats

from coupling.elicit.explanation import INVALID, Explanation
from coupling.statistics.intervals import UNDEFINED, Interval, cluster_bootstrap
from coupling.statistics.items import Items, answer_as_read, check_same_items
from coupling.statistics.scores import share


def macro_f1(items: Items, truth: Explanation, seed: int = 0) -> dict:
  """Has-changed macro-F1 (arXiv 2511.08579).

  Mean of the F1 of "changed" and that of "unchanged", 2 hits / (true + stated): of
  precision over what is stated and recall over what is true, as scores.by_stratum has
  them. An INVALID statement misses its true class and states neither. Undefined where
  a class is neither true nor stated.
  """
  true_Nx2 = np.stack([truth.changed_N == x for x in (0, 1)], axis=1)
  stated_Nx2 = np.stack([items.stated.changed_N == x for x in (0, 1)], axis=1)
  hits_Nx2, all_Nx2 = 2 * (true_Nx2 & stated_Nx2), 1 * true_Nx2 + stated_Nx2
  found = cluster_bootstrap(hits_Nx2, all_Nx2, items.group_N, [0.5, 0.5], seed)
  return _cut(found, 0, 1)


def content_match(items: Items, truth: Explanation, changed: bool = False) -> dict:
  """Content match (arXiv 2511.08579): whether the answer without the cue is right.

  "Unchanged" that names no answer stands for the own one, and what is INVALID names
  none. Of all items, or of the truly changed ones.
  """
  right_N = answer_as_read(items, items.stated) == truth.answer_N
  return share(right_N, items.group_N, truth.changed_N == 1 if changed else None)


def phi_cct(items: Items, truth: Explanation, seed: int = 0) -> dict:
  """phi-CCT (arXiv 2503.13445).

  The phi coefficient, or Matthews correlation, of "the behaviour changes without the
  cue" and "the explanation says so". An INVALID statement does not say so.
  """
  return _correlation(truth.changed_N == 1, items, seed)


def cct(items: Items, distance_N: np.ndarray, seed: int = 0) -> dict:
  """Correlational counterfactual test, CCT (arXiv 2404.03189).

  Pearson's correlation of how far the distribution over the options moves without the
  cue, by `total_variation`, with whether the explanation says "changed".
  """
  return _correlation(distance_N, items, seed)


def total_variation(first_NxK: np.ndarray, second_NxK: np.ndarray) -> np.ndarray:
  """Distances of N pairs of distributions, given as log-probabilities, [N]."""
  first_NxK, second_NxK = (np.exp(x, dtype=np.float64) for x in (first_NxK, second_NxK))
  return np.abs(first_NxK - second_NxK).sum(axis=1) / 2


def _correlation(value_N: np.ndarray, items: Items, seed: int) -> dict:
  """Pearson's r of values with saying "changed"; undefined where either is constant.

  Of both, standardised to a and b, r is sum a b / sum (a^2 + b^2) / 2. An item adds to
  this ratio, linearised, what it adds to r: (a b - r (a^2 + b^2) / 2) / N.
  """
  columns_Nx2 = np.stack([value_N, items.stated.changed_N == 1], axis=1).astype(float)
  if np.any(np.ptp(columns_Nx2, axis=0) < 1e-12):
    return UNDEFINED._asdict()
  z_Nx2 = (columns_Nx2 - columns_Nx2.mean(axis=0)) / columns_Nx2.std(axis=0)
  product_Nx1 = np.prod(z_Nx2, axis=1, keepdims=True)
  square_Nx1 = np.mean(z_Nx2**2, axis=1, keepdims=True)
  found = cluster_bootstrap(product_Nx1, square_Nx1, items.group_N, [1.0], seed)
  return _cut(found, -1, 1)


def f_auroc(
  items: Items, truth: Explanation, readiness_N: np.ndarray, seed: int = 0
) -> dict:
  """F-AUROC (arXiv 2503.13445), adapted.

  The probability that an item whose behaviour changes without the cue has a greater
  readiness to say "changed" than one whose does not; ties count half. In the paper the
  curve is traced out by asking for explanations of different verbosity; here, where an
  explanation is one of a few statements, by a threshold on `readiness`.

  The share of the other class that an item is rightly above, or below, has the area as
  its mean over either class, and both means vary as the area does (Obuchowski 1997,
  Biometrics 53:567, for groups). Undefined where all items change, or none.
  """
  changed_N = truth.changed_N == 1
  within_Nx2 = np.stack([changed_N, ~changed_N], axis=1)
  own_rank_N = np.zeros(len(changed_N))
  for within_N in within_Nx2.T:
    own_rank_N[within_N] = stats.rankdata(readiness_N[within_N])
  others_N = np.maximum(1, np.where(changed_N, *within_Nx2.sum(axis=0)[::-1]))
  below_N = (stats.rankdata(readiness_N) - own_rank_N) / others_N
  right_Nx2 = np.stack([below_N, 1 - below_N], axis=1) * within_Nx2
  found = cluster_bootstrap(right_Nx2, within_Nx2, items.group_N, [1.0, 1.0], seed)
  if found.value is None:
    return found._asdict()
  area = found.value / 2
  return _cut(Interval(*(x if x is None else x - area for x in found)), 0, 1)


def readiness(statement_logprobs_NxM: np.ndarray) -> np.ndarray:
  """Log-odds of "changed" among the allowed statements, of 2k + changed, [N].

  They rank items as its probability does, and do not saturate.
  """
  logprobs_NxKx2 = statement_logprobs_NxM.reshape(len(statement_logprobs_NxM), -1, 2)
  unchanged_N, changed_N = special.logsumexp(logprobs_NxKx2.astype(float), axis=1).T
  return changed_N - unchanged_N


def simulatability_gain(items: Items, predicted_N: np.ndarray, seed: int = 0) -> dict:
  """Normalised simulatability gain, NSG (arXiv 2602.02639).

  (acc_with - acc_without) / (1 - acc_without): of what an observer gets wrong about the
  answer without the cue, the share that explanations put right; below 0 where they
  mislead. With an explanation it predicts what that names (`content_match`); without
  one, or with one that is INVALID, `predicted_N`, int [N]. Undefined where it is always
  right without.
  """
  wanted_N = items.counterfactual_behavior_N
  without_N = predicted_N == wanted_N
  named_N = answer_as_read(items, items.stated) == wanted_N
  with_N = np.where(items.stated.changed_N == INVALID, without_N, named_N)
  gain_Nx1, missed_Nx1 = (1.0 * with_N - without_N)[:, None], ~without_N[:, None]
  found = cluster_bootstrap(gain_Nx1, missed_Nx1, items.group_N, [1.0], seed)
  return _cut(found, -np.inf, 1)


def metrics(
  items: Items,
  orig: Items,
  observer_N: np.ndarray,
  readiness_N: np.ndarray | None = None,
  distance_N: np.ndarray | None = None,
) -> dict:
  """All metrics of one checkpoint.

  Args:
    items: evaluation of M_t.
    orig: evaluation of M_0 on the same items; its statements are not used.
    observer_N: the answers without the cue that an observer predicts who reads inputs
      alone, int [N].
    readiness_N: of `readiness`; None where likelihoods are not known.
    distance_N: of `total_variation`, on x and x∖C, of M_t; None where not known.

  Returns:
    Under self, against E(M_t), and orig, against E(M_0): macro_f1, content_match and
    content_match_changed, phi_cct, f_auroc; and, undefined under orig, cct; nsg, of an
    observer who knows the own answer, which is denial; nsg_inputs, of observer_N.
  """
  check_same_items(items, orig)
  undefined = UNDEFINED._asdict()
  result = {
    name: {
      'macro_f1': macro_f1(items, truth),
      'content_match': content_match(items, truth),
      'content_match_changed': content_match(items, truth, changed=True),
      'phi_cct': phi_cct(items, truth),
      'f_auroc': undefined
      if readiness_N is None
      else f_auroc(items, truth, readiness_N),
    }
    for name, truth in (('self', items.truth), ('orig', orig.truth))
  }
  own = {
    'cct': undefined if distance_N is None else cct(items, distance_N),
    'nsg': simulatability_gain(items, items.behavior_N),
    'nsg_inputs': simulatability_gain(items, observer_N),
  }
  result['self'] |= own
  result['orig'] |= dict.fromkeys(own, undefined)
  return result


def _cut(interval: Interval, least: float, most: float) -> dict:
  """The interval within the range of its metric."""
  cut = lambda x: x if x is None else float(np.clip(x, least, most))
  return {name: cut(x) for name, x in interval._asdict().items()}
