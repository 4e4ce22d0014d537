"""The runs of all parts of a paper by name, and their statistics over seeds."""

from collections.abc import Callable, Hashable, Mapping
import copy
import dataclasses
import functools
from typing import Any

import numpy as np
import pyarrow as pa

from coupling.config.paper_schema import MAIN, Paper
from coupling.config.schema import Train
from coupling.elicit.explanation import Explanation
from coupling.patching.outcomes import Found
from coupling.report import aggregate
from coupling.report.records import SeedRecords
from coupling.runtime.files import WorkdirError
from coupling.statistics import baselines
from coupling.statistics import intervals
from coupling.statistics import scores
from coupling.statistics.items import Items

KEPT = (
  *('n', 'self_accuracy', 'orig_accuracy', 'target_accuracy', 'behavior_similarity'),
  *('gap', 'balanced_self', 'balanced_gap', 'gap_answer', 'drift', 'invalid'),
  *('reliance', 'reliance_answer', 'change_rate'),
)
GAPS = ('gap', 'balanced_gap', 'gap_answer')
# From the seed of a world and the records of its items to what one should state who
# knows the world and not the model.
Bayes = Callable[[int, pa.Table], Explanation]
Function = Callable[..., dict]  # of a module, so that what it found can be kept


class Parts:
  """Records of every part and seed; runs are named 'part/run'."""

  def __init__(
    self,
    paper: Paper,
    records: dict[str, dict[int, SeedRecords]],
    bayes: Mapping[str, Bayes | None],
    maps: Mapping[str, Mapping[int, Found]],
  ):
    """Takes all records of a paper.

    Args:
      paper: its experiments and studies.
      records: by part and seed; of parts that have runs.
      bayes: by part, what an explainer who knows the world and not the model states of
        the items of a seed (seed, records); None where there is none.
      maps: of the runs, as 'part/run', that were patched, by seed.

    Raises:
      WorkdirError: a part has other seeds than the first ones of the main part.
    """
    self.paper, self.records = paper, records
    self.bayes, self.maps = bayes, maps
    self.main = MAIN if MAIN in records else next(iter(records))
    self.seeds = tuple(records[self.main])
    for part, found in records.items():
      if tuple(found) != self.seeds[: len(found)]:
        raise WorkdirError(
          f'part {part!r} has the seeds {tuple(found)}, but {self.main!r} has '
          f'{self.seeds}: run all parts of a paper with the same seeds'
        )
    of_main = [self.records[self.main][seed] for seed in self.seeds]
    self.shared_items = aggregate.alike(paper.parts[self.main], of_main)
    self.confidence = intervals.CONFIDENCE
    self._found = {}  # what was computed of a seed

  def at(self, confidence: float) -> 'Parts':
    """The same with intervals of another nominal coverage."""
    other = copy.copy(self)
    other.confidence = confidence
    return other

  def first(self, seeds: int) -> 'Parts':
    """The same of the first seeds alone."""
    other = copy.copy(self)
    other.seeds = self.seeds[:seeds]
    return other

  def role(self, role: str) -> str | None:
    """The run of the main part with a role of its report; None without one."""
    run = getattr(self.paper.parts[self.main].report, role)
    return f'{self.main}/{run}' if run else None

  def train(self, name: str) -> Train:
    """What a run is."""
    part, run = name.split('/', 1)
    return self.paper.parts[part].runs[run]

  def seed(self, name: str, seed: int) -> tuple[SeedRecords, str]:
    """The records that hold a run, and its name there."""
    part, run = name.split('/', 1)
    return self.records[part][seed], run

  def steps(self, name: str) -> list[int]:
    """The steps at which a run was evaluated in every seed."""
    found = [
      self.seed(name, seed)[0].items[name.split('/', 1)[1]] for seed in self.seeds
    ]
    return sorted(set.intersection(*map(set, found)))

  def items(self, name: str, seed: int, step: int | None = None) -> Items:
    """A run's evaluation, at its last step unless another is asked for."""
    s, run = self.seed(name, seed)
    return s.final(run) if step is None else s.items[run][step]

  def orig(self, name: str, seed: int) -> Items:
    """M_0's evaluation on the items of a run."""
    return self.seed(name, seed)[0].orig

  def target(self, name: str, seed: int) -> Explanation | None:
    """The labels trained on, of the held-out items; None where shuffled."""
    s, run = self.seed(name, seed)
    return s.targets[run]

  def final(self, name: str, seed: int, step: int | None = None) -> dict:
    """KEPT of `scores.coupling`, Self - Target, and what denial would have."""
    return self.of_seed(_final, (name, step), seed)

  def value(self, name: str, seed: int, key: str) -> float | None:
    """One number of `final`, by its dotted path."""
    return _node(self, name, seed, key)['value']

  def of_seed(self, function: Function, args: tuple, seed: int) -> dict:
    """function(parts, *args, seed), computed once for every level."""
    key = function, args, seed
    if key not in self._found:
      self._found[key] = function(self, *args, seed)
    return self._found[key]

  def over(
    self, function: Function, *args: Hashable, shares: bool | None = None
  ) -> dict:
    """Statistics over seeds of function(parts, *args, seed)."""
    found = [self.of_seed(function, args, seed) for seed in self.seeds]
    return aggregate.over_seeds(found, shares, self.shared_items, self.confidence)

  def entry(self, name: str, step: int | None = None) -> dict:
    """`final` of a run over seeds."""
    return self.over(_final, name, step)

  def contrast(
    self, first: str, second: str, keys: tuple[str, ...], share: float = 1.0
  ) -> dict:
    """A share of one run's numbers minus those of another, paired by seed."""
    return self.over(_contrast, first, second, keys, share, shares=False)

  def over_shuffled(self, name: str) -> dict:
    """Gap and weights on v' minus those of shuffled labels; {} without such a run."""
    shuffled = self.role('shuffled')
    keys = ('gap', 'reliance_answer.difference')
    return self.contrast(name, shuffled, keys) if shuffled else {}


def _final(parts: Parts, name: str, step: int | None, seed: int) -> dict:
  items, orig = parts.items(name, seed, step), parts.orig(name, seed)
  target = parts.target(name, seed)
  found = scores.coupling(items, orig, target)
  denied = dataclasses.replace(items, stated=baselines.denial(items))
  denial = scores.coupling(denied, orig)
  return {
    **{k: found[k] for k in KEPT},
    'denial': {k: denial[k] for k in ('self_accuracy', *GAPS)},
    'target_gap': _target_gap(items, target),
  }


def _node(parts: Parts, name: str, seed: int, key: str) -> dict[str, float | None]:
  return functools.reduce(dict.__getitem__, key.split('.'), parts.final(name, seed))


def _contrast(
  parts: Parts, first: str, second: str, keys: tuple[str, ...], share: float, seed: int
) -> dict[str, Any]:
  nodes = lambda key: (_node(parts, name, seed, key) for name in (first, second))
  return {key.replace('.', '_'): minus_of(parts, *nodes(key), share) for key in keys}


def minus_of(
  parts: Parts, first: dict, second: dict, share: float = 1.0
) -> dict[str, float | None] | float | None:
  """A share of one seed's interval minus another.

  Its value alone where items differ between seeds, which then decide; and of a single
  seed, which does not say how far trainings differ.
  """
  found = _interval_minus(share, first, second)
  return found if parts.shared_items and len(parts.seeds) > 1 else found['value']


def _interval_minus(share: float, first: dict, second: dict) -> dict[str, float | None]:
  """A share of one interval minus another, as if they were independent: too wide for
  runs of the same items, whose errors mostly cancel."""
  found = {'value': minus(times(share, first['value']), second['value'])}
  if None in (found['value'], first.get('low'), second.get('low')):
    return found | {'low': None, 'high': None}
  sides = (('low', -1, 'low', 'high'), ('high', 1, 'high', 'low'))
  for name, sign, of_first, of_second in sides:
    half = np.hypot(
      share * (first[of_first] - first['value']), second[of_second] - second['value']
    )
    found[name] = float(found['value'] + sign * half)
  return found


def _target_gap(items: Items, target: Explanation | None) -> dict[str, Any]:
  """Self - Target, paired."""
  if target is None:
    return {'value': None, 'low': None, 'high': None}
  right = items.right(items.truth), items.right(target)
  return scores.difference(*right, items.group_N, 0)


def subset(items: Items, within_N: np.ndarray) -> Items:
  """The evaluation of some of the items."""
  return dataclasses.replace(
    items,
    group_N=items.group_N[within_N],
    surface={key: x_N[within_N] for key, x_N in items.surface.items()},
    options_NxK=None if items.options_NxK is None else items.options_NxK[within_N],
    behavior_N=items.behavior_N[within_N],
    counterfactual_behavior_N=items.counterfactual_behavior_N[within_N],
    stated=Explanation(*(x_N[within_N] for x_N in items.stated)),
    against_N=None if items.against_N is None else items.against_N[within_N],
  )


def minus(first: float | None, second: float | None) -> float | None:
  """The difference; undefined where a part is."""
  return None if first is None or second is None else first - second


def times(share: float, value: float | None) -> float | None:
  return None if value is None else share * value


def short(name: str) -> str:
  """A run's name as tables and figures print it: the main part goes unsaid."""
  return name.removeprefix(f'{MAIN}/')
