"""The paper as typed, immutable data: its experiments, and what they are to show."""

from collections.abc import Collection
import dataclasses
from typing import Literal

from coupling.config import borrowed_labels
from coupling.config import schema
from coupling.config.bounds import Count, Finite

MAIN = 'main'  # the part whose report names the main run; the first where none is it
Kind = Literal[
  'regularisation',
  'trajectory',
  'sources',
  'noise',
  'shift',
  'planted',
  'capacity',
  'rates',
  'variety',
  'access',
  'collapse',
  'iterated',
  'mechanism',
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
  """One claim of the paper, and the runs of a Paper that speak to it."""

  kind: Kind
  claim: str  # one sentence, of the paper
  published: str  # its number in words; '' for none
  axis: str  # name of the x axis; '' for none
  runs: tuple[str, ...]  # 'part/run', in order
  at: tuple[Finite, ...]  # x of each run; () where runs are not ordered
  companions: tuple[str, ...]  # for each run the one to compare it with; '' for none


def planned(looks: tuple[int, ...], seeds: int) -> tuple[int, ...]:
  """The looks of so many seeds: those of the plan, or those below, and all seeds."""
  return looks if seeds in looks else (*(x for x in looks if x < seeds), seeds)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Paper:
  """Several experiments, each with a workdir of its own, and what they are to show."""

  title: str
  # Numbers of seeds at which the claims are decided; a study goes on with more seeds
  # while one of its claims is inconclusive. The seeds of the parts are the most there
  # can be. Planned beforehand: levels go by all looks, also those that never come.
  looks: tuple[Count, ...]
  parts: dict[str, schema.Experiment] = dataclasses.field(hash=False)
  studies: dict[str, Study] = dataclasses.field(hash=False)

  @property
  def seeds(self) -> tuple[int, ...]:
    """Of every part."""
    return next(iter(self.parts.values())).seeds

  def of_seeds(self, seeds: tuple[int, ...]) -> 'Paper':
    """The whole of it for some seeds."""
    parts = {k: dataclasses.replace(x, seeds=seeds) for k, x in self.parts.items()}
    return dataclasses.replace(self, parts=parts)

  def only(self, seeds: tuple[int, ...], studies: Collection[str]) -> 'Paper':
    """Some seeds of what some studies need: their runs, and what these need in turn.

    Runs that have a role in a part's report are needed wherever one of that part is.
    """
    asking = {k: x for k, x in self.studies.items() if k in studies}
    named = {run for x in asking.values() for run in (*x.runs, *x.companions)}
    parts, main = {}, MAIN if MAIN in self.parts else next(iter(self.parts))
    for name, part in self.parts.items():
      wanted = {run for run in part.runs if f'{name}/{run}' in named}
      if wanted or name == main:
        wanted.update(part.report.played)
      while more := {
        of
        for run in wanted
        for of in borrowed_labels.needs(part.runs[run])
        if of not in wanted
      }:
        wanted |= more
      runs = {run: train for run, train in part.runs.items() if run in wanted}
      parts[name] = dataclasses.replace(part, seeds=seeds, runs=runs)
    trains = [train for part in parts.values() for train in part.runs.values()]
    donors = {borrowed_labels.donor(train.labels) for train in trains}
    parts = {k: x for k, x in parts.items() if x.runs or k in donors}
    return dataclasses.replace(self, parts=parts, studies=asking)

  @property
  def patched(self) -> frozenset[str]:
    """The runs, as 'part/run', whose circuits a study asks for."""
    asking = [x for x in self.studies.values() if x.kind == 'mechanism']
    return frozenset(run for study in asking for run in study.runs)
