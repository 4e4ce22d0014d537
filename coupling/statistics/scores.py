"""Coupling statistics of one checkpoint: do explanations follow Self or Orig?

`coupling` takes the evaluation of M_t and that of M_0 on the same held-out items and
returns a plain nested dict of numbers, ready for JSON. What is undefined (a share of no
items, weights without drift) is None, never 0. Statistics of two evaluations are in
contrasts.py, those over many runs in across_seeds.py, explainers to compare with in
baselines.py.
"""

import dataclasses

import numpy as np

from coupling.elicit.explanation import INVALID, Explanation, agree
from coupling.statistics import baselines
from coupling.statistics import chance
from coupling.statistics import intervals
from coupling.statistics.items import Items, check_same_items, label_class
from coupling.statistics.reliance import reliance_weights

STRATA = (('unchanged', 0), ('changed', 1))


def share(
  true_N: np.ndarray, group_N: np.ndarray, within_N: np.ndarray | None = None
) -> dict:
  """Share of true values, among all items or those `within_N`, with its interval."""
  if within_N is not None:
    true_N, group_N = true_N[within_N], group_N[within_N]
  return intervals.clustered_wilson(true_N, group_N)._asdict()


def difference(
  first_N: np.ndarray, second_N: np.ndarray, group_N: np.ndarray, seed: int
) -> dict:
  """Paired difference of two accuracies, with its interval."""
  return intervals.mean_interval(1.0 * first_N - second_N, group_N, seed)._asdict()


def sides(
  first_N: np.ndarray,
  second_N: np.ndarray,
  within_N: np.ndarray,
  group_N: np.ndarray,
  names: tuple[str, str],
) -> dict:
  """On items where two truths differ, whose side the statements take.

  Args:
    first_N: whether the statement agrees with the first truth.
    second_N: whether it agrees with the second.
    within_N: the items where the truths differ.
    group_N: the group of each item.
    names: what the two sides are called in the result.

  Returns:
    n, groups, and the shares of both sides and of "neither".
  """
  return {
    'n': int(np.count_nonzero(within_N)),
    'groups': len(np.unique(group_N[within_N])),
    names[0]: share(first_N, group_N, within_N),
    names[1]: share(second_N, group_N, within_N),
    'neither': share(~first_N & ~second_N, group_N, within_N),
  }


def _quotient(numerator: int, denominator: int) -> float | None:
  return float(numerator / denominator) if denominator else None


def by_stratum(stated: Explanation, truth: Explanation, states_answer: bool) -> dict:
  """How well statements fit a truth, apart for truly unchanged and changed items.

  Precision of "changed": of the items STATED changed, the share truly changed.
  Recall: of those truly changed, the share stated changed; likewise for "unchanged".
  Balanced accuracy is the mean of both recalls. Exact match also asks for the right
  answer. Invalid statements stay in every denominator of truths.
  """
  right_N = agree(stated, truth, states_answer)
  result = {}
  for name, change in STRATA:
    truly_N, says_N = truth.changed_N == change, stated.changed_N == change
    n, says = int(np.count_nonzero(truly_N)), int(np.count_nonzero(says_N))
    hits = np.count_nonzero(truly_N & says_N)
    result[name] = {
      'n': n,
      'exact_match': _quotient(np.count_nonzero(right_N & truly_N), n),
      'precision': _quotient(hits, says),
      'recall': _quotient(hits, n),
      'f1': _quotient(2 * hits, n + says),
      'invalid': _quotient(
        np.count_nonzero(truly_N & (stated.changed_N == INVALID)), n
      ),
    }
  recalls = [result[name]['recall'] for name, _ in STRATA]
  defined = None not in recalls
  return result | {'balanced_accuracy': sum(recalls) / 2 if defined else None}


def _gap_test(
  self_N: np.ndarray, orig_N: np.ndarray, group_N: np.ndarray, seed: int
) -> dict:
  """Is the gap 0? By items (McNemar), and by groups."""
  self_only = int(np.count_nonzero(self_N & ~orig_N))
  orig_only = int(np.count_nonzero(orig_N & ~self_N))
  return {
    'self_only': self_only,
    'orig_only': orig_only,
    'mcnemar_p': intervals.mcnemar_exact(self_only, orig_only),
    'sign_flip_p': intervals.sign_flip(1.0 * self_N - orig_N, group_N, seed),
  }


def _moved(
  self_N: np.ndarray,
  orig_N: np.ndarray,
  moved_N: np.ndarray,
  group_N: np.ndarray,
  seed: int,
) -> dict:
  """Whose side is taken where E(M_t) and E(M_0) differ, and by how much more."""
  over_moved = lambda first_N, second_N: intervals.cluster_bootstrap(
    (first_N * moved_N)[:, None], (second_N * moved_N)[:, None], group_N, [1.0], seed
  )._asdict()
  return sides(self_N, orig_N, moved_N, group_N, ('self', 'orig')) | {
    'ratio': over_moved(self_N, orig_N),
    'difference': over_moved(1.0 * self_N - orig_N, moved_N),
  }


def _class_balanced(items: Items, orig: Items, seed: int) -> dict:
  """Self and Orig as means over truly unchanged and truly changed items.

  Self's strata are by E(M_t), Orig's by E(M_0).
  """
  right_Nx4, within_Nx4 = [], []
  for truth in (items.truth, orig.truth):
    for _, change in STRATA:
      within_Nx4.append(truth.changed_N == change)
      right_Nx4.append(items.right(truth) & within_Nx4[-1])
  right_Nx4, within_Nx4 = np.stack(right_Nx4, 1), np.stack(within_Nx4, 1)

  def interval(columns: list[int], coefficients: list[float]) -> dict:
    return intervals.cluster_bootstrap(
      right_Nx4[:, columns], within_Nx4[:, columns], items.group_N, coefficients, seed
    )._asdict()

  return {
    'balanced_self': interval([0, 1], [0.5, 0.5]),
    'balanced_orig': interval([2, 3], [0.5, 0.5]),
    'balanced_gap': interval([0, 1, 2, 3], [0.5, 0.5, -0.5, -0.5]),
  }


def _gap_answer(items: Items, orig: Items, seed: int) -> dict:
  """Self - Orig of the counterfactual answer alone, whatever is said of a change.

  Where "unchanged" stands alone it names no answer, and such statements are left out;
  what did not parse stays in, as wrong.
  """
  stated = items.stated
  named_Nx1 = (stated.changed_N != 0)[:, None] | items.states_answer
  self_N = stated.answer_N == items.counterfactual_behavior_N
  orig_N = stated.answer_N == orig.counterfactual_behavior_N
  gap_Nx1 = (1.0 * self_N - orig_N)[:, None] * named_Nx1
  interval = intervals.cluster_bootstrap(gap_Nx1, named_Nx1, items.group_N, [1.0], seed)
  return interval._asdict()


def _against_target(items: Items, target: Explanation | None) -> dict:
  """Agreement of the labels trained on with the statements and with E(M_t)."""
  if target is None:
    undefined = intervals.UNDEFINED._asdict()
    return {'target_accuracy': undefined, 'behavior_similarity': undefined}
  if np.shape(target.answer_N) != np.shape(items.group_N):
    raise ValueError(
      f'coupling: target has shape {np.shape(target.answer_N)}, items '
      f'{np.shape(items.group_N)}'
    )
  similar_N = agree(target, items.truth, items.states_answer)
  return {
    'target_accuracy': share(items.right(target), items.group_N),
    'behavior_similarity': share(similar_N, items.group_N),
  }


def planted(items: Items) -> dict:
  """Of cues that training never explained: what they bring about, and what is said.

  Returns:
    n, groups; `followed`: the answer on x is as the cue says (Items.followed_N);
    `self_accuracy` of the explanations (paper, Jabberwocky: 79.8%), that of denial
    ("unchanged") in their place, and the rates of change, true and as explained.
  """
  group_N, truth = items.group_N, items.truth
  denied = dataclasses.replace(items, stated=baselines.denial(items))
  return {
    'n': len(group_N),
    'groups': len(np.unique(group_N)),
    'followed': share(items.followed_N, group_N),
    'self_accuracy': share(items.right(truth), group_N),
    'denial': share(denied.right(truth), group_N),
    'changed': share(truth.changed_N == 1, group_N),
    'stated': share(items.stated.changed_N == 1, group_N),
  }


def coupling(
  items: Items, orig: Items, target: Explanation | None = None, seed: int = 0
) -> dict:
  """All statistics of one checkpoint on one task.

  Args:
    items: evaluation of M_t.
    orig: evaluation of M_0 on the same items; its statements are not used.
    target: the labels trained on, for these items, or None to leave them out.
    seed: of the resampling.

  Returns:
    A nested dict, JSON-ready. An interval is {"value", "low", "high"}; shares have
    clustered Wilson intervals, differences, ratios and weights cluster bootstraps.
    No gap alone tells coupling from knowing the own answer: read `reliance` beside it.
  """
  check_same_items(items, orig)
  group_N, stated, truth = items.group_N, items.stated, items.truth
  self_N, orig_N = items.right(truth), items.right(orig.truth)
  moved_N = ~agree(truth, orig.truth, items.states_answer)
  null = chance.shuffled_null(items, orig, seed)
  return {
    'n': len(group_N),
    'groups': len(np.unique(group_N)),
    'self_accuracy': share(self_N, group_N),
    'orig_accuracy': share(orig_N, group_N),
    **_against_target(items, target),
    'gap': difference(self_N, orig_N, group_N, seed),
    'gap_test': _gap_test(self_N, orig_N, group_N, seed),
    'gap_answer': _gap_answer(items, orig, seed),
    **_class_balanced(items, orig, seed),
    'drift': share(moved_N, group_N),
    'moved': _moved(self_N, orig_N, moved_N, group_N, seed),
    'behavior_agreement': {
      'prompt': share(items.behavior_N == orig.behavior_N, group_N),
      'counterfactual': share(
        items.counterfactual_behavior_N == orig.counterfactual_behavior_N, group_N
      ),
    },
    'change_rate': {
      'base': share(orig.truth.changed_N == 1, group_N),
      'current': share(truth.changed_N == 1, group_N),
      'stated': share(stated.changed_N == 1, group_N),
    },
    'invalid': share(label_class(stated, items.states_answer) == INVALID, group_N),
    'strata': {
      'self': by_stratum(stated, truth, items.states_answer),
      'orig': by_stratum(stated, orig.truth, items.states_answer),
    },
    'chance_corrected': {
      'self': chance.chance_corrected(float(self_N.mean()), null['null_self']),
      'orig': chance.chance_corrected(float(orig_N.mean()), null['null_orig']),
    },
    'shuffled': null,
    'reliance': reliance_weights(items, orig.truth, seed),
    'reliance_answer': reliance_weights(items, orig.truth, seed, answer_only=True),
  }
