"""The paper as typed, immutable data: its experiments, and what they are to show."""

import dataclasses
from typing import Literal

from coupling.config import schema
from coupling.config.bounds import Finite

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Paper:
  """Several experiments, each with a workdir of its own, and what they are to show."""

  title: str
  parts: dict[str, schema.Experiment] = dataclasses.field(hash=False)
  studies: dict[str, Study] = dataclasses.field(hash=False)

  @property
  def patched(self) -> frozenset[str]:
    """The runs, as 'part/run', whose circuits a study asks for."""
    asking = [x for x in self.studies.values() if x.kind == 'mechanism']
    return frozenset(run for study in asking for run in study.runs)
