"""Fitness of labels and explanations to conclude from: a row for each that is unfit.

Too little variety in either (see statistics/variety.py), explanations that do not
parse, pairs that were left out: one seed beyond a limit is enough. And explanations
that are right less often than denial, class-balanced.
"""

import numpy as np

from coupling.report.conclusions import WARNING, Row, row
from coupling.report.experiment_claims import WARNINGS

# Rules of thumb, not measured: beyond these there is a warning, at them there is none.
MIN_CHANGED, MAX_CHANGED = 0.05, 0.95  # share of the labels that say "changed"
MAX_COMMONEST = 0.9  # share of the commonest label
MAX_STATEMENT = 0.95  # share of the commonest explanation
MAX_INVALID = 0.05  # share of the explanations that do not parse
MAX_UNNAMED = 0.1  # share of the replies that name no option, or several
MAX_LEFT_OUT = 0.05  # share of the held-out pairs that are too long


def warnings(summary: dict) -> list[Row]:
  """Rows of all that is unfit, each with its number in the worst seed.

  Args:
    summary: of aggregate.summarize.
  """
  roles, runs = summary['roles'], summary['runs']
  found = []
  for role, run in roles.items():
    faults = label_faults(runs[run]['labels'])
    faults |= {} if role == 'shuffled' else _collapse(runs[run]['statements'])
    invalid = max(runs[run]['final']['invalid']['per_seed'])
    if invalid > MAX_INVALID:
      faults['invalid'] = invalid, MAX_INVALID
    if (share := _unnamed(runs[run])) > MAX_UNNAMED:
      faults['unnamed'] = share, MAX_UNNAMED
    found += [(key, *numbers, run) for key, numbers in faults.items()]
  main, denial = runs[roles['main']]['final'], summary['baselines']['denial']
  own, other = main['balanced_self'], denial['balanced_self']
  if own['high'] is not None and own['high'] < other['mean']:
    found.append(('below_denial', own['mean'], other['mean'], roles['main']))
  if (share := _left_out(summary)) > MAX_LEFT_OUT:
    found.append(('left_out', share, MAX_LEFT_OUT, ''))
  found.sort(key=lambda x: list(WARNINGS).index(x[0]))
  alike = {}  # runs mostly have the same labels: what holds of several is one row
  for *fault, run in found:
    alike.setdefault(tuple(fault), []).append(run)
  return [_row(*fault, ', '.join(names)) for fault, names in alike.items()]


def _unnamed(found: dict) -> float:
  """Share of a run's replies that name no single option, in the worst seed."""
  return max((max(x['per_seed']) for x in found.get('unnamed', {}).values()), default=0)


def _row(key: str, value: float, limit: float, about: str) -> Row:
  statistic = {'mean': float(value), 'low': None, 'high': None}
  return row(WARNINGS, key, statistic, WARNING, limit, about)


def label_faults(found: dict) -> dict[str, tuple[float, float]]:
  """What is wrong with the labels of a run: key -> number in the worst seed, limit.

  `found`: statistics `changed` and `commonest` of variety.labels.
  """
  changed, commonest = (found[k]['per_seed'] for k in ('changed', 'commonest'))
  faults = {}
  if min(changed) < MIN_CHANGED:
    faults['few_changed'] = min(changed), MIN_CHANGED
  if max(changed) > MAX_CHANGED:
    faults['many_changed'] = max(changed), MAX_CHANGED
  if max(commonest) > MAX_COMMONEST:
    faults['one_label'] = max(commonest), MAX_COMMONEST
  return faults


def _collapse(found: dict) -> dict[str, tuple[float, float]]:
  """Explanations of nearly one statement; of shuffled labels nothing else is wanted."""
  seeds = zip(*(found[k]['per_seed'] for k in ('commonest', 'labels', 'majority')))
  fallen = [x for x in seeds if x[0] > MAX_STATEMENT >= x[1]]
  if not fallen:
    return {}
  majority = all(x[2] > MAX_STATEMENT for x in fallen)
  key = 'collapsed_majority' if majority else 'collapsed'
  faults = {key: (max(x[0] for x in fallen), MAX_STATEMENT)}
  behavior = max(found['behavior']['per_seed'])
  if behavior > MAX_STATEMENT:
    faults['one_behavior'] = behavior, MAX_STATEMENT
  return faults


def _left_out(summary: dict) -> float:
  """Share of the held-out pairs that were too long, in the worst seed."""
  held_out = summary['config']['evaluate']['split']
  counts = summary['provenance']['too_long'].values()
  # Cues that are never explained stand apart, but are of the same pairs.
  apart = next(iter(summary.get('planted', {}).values()), None)
  kept_S = np.array(summary['items']) + (apart['n']['per_seed'] if apart else 0)
  left_S = np.array([found[held_out] for found in counts])
  return float((left_S / (left_S + kept_S)).max())
