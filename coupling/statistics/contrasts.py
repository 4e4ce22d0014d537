"""Comparisons of two evaluations: other checkpoints, siblings, contexts, companions.

Every function takes evaluations of the same items in one order and returns a nested
dict like `scores.coupling` does.
"""

import dataclasses

import numpy as np

from coupling.elicit.explanation import Explanation, agree
from coupling.statistics import baselines
from coupling.statistics.intervals import Interval, cluster_bootstrap
from coupling.statistics.items import Items, check_same_items, label_class
from coupling.statistics.scores import coupling, difference, share, sides
from coupling.statistics.sibling_control import beyond_shared

LIKELIHOOD = (
  *('self_accuracy', 'orig_accuracy', 'gap', 'balanced_gap', 'gap_answer'),
  'reliance',
)


def follow_rate(items_s: Items, items_t: Items, orig: Items) -> dict:
  """Whether statements move with the truth between two checkpoints s and t.

  An item whose statement at s agreed with E(M_t) already has nowhere to go: it is in
  no number. So a statement that stays right while the truth comes and goes counts in
  neither cell. Statements also move as labels are learned, and where E(M_t) is the
  label, that looks like following; so only items with E(M_t) != E(M_0), which no label
  tells, are counted. `orig`: M_0's evaluation.

  Returns:
    moved_truth: of the other items with E(M_t) != E(M_s): their number n; followed,
    the share whose statement moved to E(M_t); statement_moved, the share whose
    statement moved at all.
    still_truth: for comparison, of those with E(M_t) = E(M_s): n; statement_moved;
    and moved_to_truth, the share whose statement moved to E(M_t). Following is more
    than unrest only where `followed` is well above `moved_to_truth`.
  """
  check_same_items(items_s, items_t)
  states_answer, group_N = items_t.states_answer, items_t.group_N
  open_N = ~items_s.right(items_t.truth)
  open_N &= ~agree(items_t.truth, orig.truth, states_answer)
  same_N = agree(items_s.truth, items_t.truth, states_answer)
  moved_N, still_N = open_N & ~same_N, open_N & same_N
  restless_N = label_class(items_s.stated, states_answer) != label_class(
    items_t.stated, states_answer
  )
  arrived_N = items_t.right(items_t.truth)
  return {
    'moved_truth': {
      'n': int(np.count_nonzero(moved_N)),
      'followed': share(arrived_N, group_N, moved_N),
      'statement_moved': share(restless_N, group_N, moved_N),
    },
    'still_truth': {
      'n': int(np.count_nonzero(still_N)),
      'moved_to_truth': share(arrived_N, group_N, still_N),
      'statement_moved': share(restless_N, group_N, still_N),
    },
  }


def cross_accuracy(explainer: Items, behaver: Items) -> Interval:
  """Share of one model's statements that agree with another model's behaviour."""
  check_same_items(explainer, behaver)
  return Interval(**share(explainer.right(behaver.truth), explainer.group_N))


def sibling(items: Items, sibling_items: Items, seed: int = 0) -> dict:
  """Own accuracy against agreement with a sibling's behaviour.

  The sibling is the same run with another fine-tuning seed. Drift to a truth common
  to both cannot favour a model's own behaviour. Its own answer does: denial has a
  difference above zero, and only `beyond_shared` is free of that.

  Returns:
    own_accuracy, sibling_accuracy, difference (own - sibling, paired); differing: on
    items where the siblings' truths differ, the shares siding with own, with sibling,
    with neither.
  """
  check_same_items(items, sibling_items)
  group_N = items.group_N
  own_N, sibling_N = items.right(items.truth), items.right(sibling_items.truth)
  differ_N = ~agree(items.truth, sibling_items.truth, items.states_answer)
  return {
    'own_accuracy': share(own_N, group_N),
    'sibling_accuracy': share(sibling_N, group_N),
    'difference': difference(own_N, sibling_N, group_N, seed),
    'differing': sides(own_N, sibling_N, differ_N, group_N, ('own', 'sibling')),
  }


def pooled_sibling(first: Items, second: Items, seed: int = 0) -> dict:
  """`sibling` in both directions, pooled: each explains itself and the other.

  One direction alone would favour whichever of the two is easier to explain; pooled,
  that cancels: (own + own) / 2 - (other + other) / 2. Groups stay whole.

  Returns:
    What `sibling` does, and `beyond_shared` of the two.
  """
  check_same_items(first, second)
  both, swapped = _concatenate(first, second), _concatenate(second, first)
  found = sibling(both, swapped, seed)
  return found | {'beyond_shared': beyond_shared(first, second, seed)}


def _concatenate(first: Items, second: Items) -> Items:
  both = lambda *arrays: np.concatenate(arrays)
  return dataclasses.replace(
    first,
    group_N=both(first.group_N, second.group_N),
    surface={k: both(v, second.surface[k]) for k, v in first.surface.items()},
    options_NxK=None,
    behavior_N=both(first.behavior_N, second.behavior_N),
    counterfactual_behavior_N=both(
      first.counterfactual_behavior_N, second.counterfactual_behavior_N
    ),
    stated=Explanation(*map(both, first.stated, second.stated)),
    against_N=None if first.against_N is None else np.tile(first.against_N, 2),
  )


def swap_test(items_after: Items, items_swapped: Items) -> dict:
  """Whether statements read the answer that stands in the context (WORLD: swap test).

  Args:
    items_after: asked after the model's own answer; behavior_N is that answer.
    items_swapped: asked after M_0's answer; behavior_N is that answer.

  Returns:
    On the n items where the two answers differ: change_rate_own and
    change_rate_swapped, shares stated "changed"; to_changed, the share of statements
    "unchanged" that flip to "changed" with M_0's answer in the context; to_unchanged,
    likewise the other way. Flips say that the statement reads the answer.
  """
  check_same_items(items_after, items_swapped)
  group_N = items_after.group_N
  differ_N = items_after.behavior_N != items_swapped.behavior_N
  own_N, swapped_N = items_after.stated.changed_N, items_swapped.stated.changed_N
  return {
    'n': int(np.count_nonzero(differ_N)),
    'change_rate_own': share(own_N == 1, group_N, differ_N),
    'change_rate_swapped': share(swapped_N == 1, group_N, differ_N),
    'to_changed': share(swapped_N == 1, group_N, differ_N & (own_N == 0)),
    'to_unchanged': share(swapped_N == 0, group_N, differ_N & (own_N == 1)),
  }


def likelihood(items: Items, scored: Explanation, orig: Items) -> dict:
  """What the likeliest allowed statements say, beside the greedy ones.

  Args:
    items: evaluation of M_t, with its greedy statements.
    scored: the likeliest of the allowed statements, item by item.
    orig: evaluation of M_0.

  Returns:
    The statistics LIKELIHOOD of `scores.coupling`, of the scored statements, and
    greedy_agreement: the share of items whose greedy statement says the same. Where
    that is invalid it does not.
  """
  found = coupling(dataclasses.replace(items, stated=scored), orig)
  same_N = items.right(scored)
  return {name: found[name] for name in LIKELIHOOD} | {
    'greedy_agreement': share(same_N, items.group_N)
  }


def companion(
  items: Items,
  companion_items: Items,
  orig: Items,
  shifted_N: np.ndarray,
  seed: int = 0,
) -> dict:
  """Statements on items where a shift on purpose, and not drift, moved the truth.

  The companion is the same run without the shift. Counted are items that the shift
  concerns, where the truth of M_t differs from that of M_0 and the companion's does
  not. Without the first condition, drift of single runs would be counted as a shift.

  Args:
    items: evaluation of the run that is shifted.
    companion_items: of its companion.
    orig: of M_0.
    shifted_N: bool [N], items that the shift concerns (`SeedRecords.shifted`).
    seed: of the resampling.

  Returns:
    For each view of an explanation, "label" (all of it), "change" (its SAME/CHANGE
    part) and, where every explanation names one, "answer": n, groups, and the shares
    of statements siding with "new" (M_t's truth), "old" (M_0's) and "neither";
    "difference", new - old; "gain", new less what the companion's statements have of
    new, paired by item; under "companion" the shares of the companion's statements
    and their difference, on the same items; and under "denied" what denial would have
    on them: its difference, and "gain", the statements' difference less that, paired.
  """
  check_same_items(items, companion_items)
  check_same_items(items, orig)
  views = {
    'label': lambda explanation: label_class(explanation, items.states_answer),
    'change': lambda explanation: explanation.changed_N,
  }
  if items.states_answer:
    views['answer'] = lambda explanation: explanation.answer_N
  result = {}
  for name, view in views.items():
    new_N, old_N = view(items.truth), view(orig.truth)
    counted_N = shifted_N & (new_N != old_N) & (view(companion_items.truth) == old_N)

    def mean(values_N: np.ndarray, counted_N=counted_N) -> dict:
      return _within(values_N, counted_N, items.group_N, seed)

    found, leaning, with_new = [], [], []
    for stated in (items.stated, companion_items.stated, baselines.denial(items)):
      with_new_N, with_old_N = view(stated) == new_N, view(stated) == old_N
      with_new.append(1.0 * with_new_N)
      leaning.append(1.0 * with_new_N - with_old_N)
      shares = sides(with_new_N, with_old_N, counted_N, items.group_N, ('new', 'old'))
      found.append(shares | {'difference': mean(leaning[-1])})
    own, other, denied = found
    result[name] = own | {
      'gain': mean(with_new[0] - with_new[1]),
      'companion': {k: other[k] for k in ('new', 'old', 'neither', 'difference')},
      'denied': {
        'difference': denied['difference'],
        'gain': mean(leaning[0] - leaning[2]),
      },
    }
  return result


def _within(
  values_N: np.ndarray, within_N: np.ndarray, group_N: np.ndarray, seed: int
) -> dict:
  """The mean of the items within, and its interval."""
  interval = cluster_bootstrap(
    (values_N * within_N)[:, None], within_N[:, None], group_N, [1.0], seed
  )
  return interval._asdict()
