"""From the records of a paper to all numbers of its report, as one JSON dict."""

import dataclasses
import functools
import types
import typing

import numpy as np

from coupling.config.paper_schema import Kind, Paper, Study
from coupling.paper import access
from coupling.paper import claim_table
from coupling.paper import collapse
from coupling.paper import control_claims
from coupling.paper import dose
from coupling.paper import iterated_claims
from coupling.paper import mechanism
from coupling.paper import planted_claims
from coupling.paper import shift_claims
from coupling.paper import source_claims
from coupling.paper import trajectory
from coupling.paper import variety_claims
from coupling.paper.paper_seeds import Parts
from coupling.report import aggregate
from coupling.report.conclusions import Row

KINDS = typing.get_args(Kind)
CONTROLS = 'controls'  # names the rows of the controls, as a study would
# Each has TESTED, numbers, rows, tables and figures.
BY_KIND: dict[str, types.ModuleType] = {
  kind: module
  for module in (
    *(
      dose,
      trajectory,
      source_claims,
      shift_claims,
      planted_claims,
      variety_claims,
      access,
      collapse,
      iterated_claims,
    ),
    mechanism,
  )
  for kind in module.TESTED
}


def numbers(parts: Parts, provenance: dict, earlier: list[dict]) -> dict:
  """All numbers of the report.

  Args:
    parts: the records.
    provenance: of provenance.of_rounds.
    earlier: the conclusions of the look before; [] at the first.

  Returns:
    title; config; provenance, which alone holds times; seeds, items, groups and
    interval, of the main part; order, the names of studies, by kind; controls;
    studies, by name: the Study's fields, tested, its seeds and numbers, with intervals
    of 95%; conclusions, of claim_table.decide, with intervals of their own level.
  """
  paper = parts.paper
  going_on = claim_table.undecided(earlier) if earlier else {CONTROLS, *paper.studies}
  ended = {x['study']: x['seeds'] for x in earlier if x['study'] not in going_on}
  of = lambda name: parts.first(ended.get(name, len(parts.seeds)))
  main = [parts.records[parts.main][seed].orig for seed in parts.seeds]
  groups = [len(np.unique(items.group_N)) for items in main]
  rows = functools.partial(_rows, going_on)
  return {
    'title': paper.title,
    'config': dataclasses.asdict(paper),
    'provenance': provenance,
    'seeds': list(parts.seeds),
    'items': [len(items.group_N) for items in main],
    'groups': groups,
    'interval': aggregate.interval(parts.seeds, groups, parts.shared_items),
    'order': _order(paper),
    'controls': control_claims.numbers(of(CONTROLS)),
    'studies': {name: _study(x, of(name)) for name, x in paper.studies.items()},
    'conclusions': claim_table.decide(rows, parts, earlier),
  }


def _order(paper: Paper) -> list[str]:
  return sorted(paper.studies, key=lambda x: KINDS.index(paper.studies[x].kind))


def _study(study: Study, parts: Parts) -> dict:
  module = BY_KIND[study.kind]
  return {
    'study': dataclasses.asdict(study),
    'seeds': list(parts.seeds),
    'tested': module.TESTED[study.kind],
    'numbers': module.numbers(study, parts),
  }


def _rows(going_on: set[str], parts: Parts) -> dict[str, list[Row]]:
  """Claims of the studies that go on, with intervals as of `parts`; controls first."""
  found = {}
  if CONTROLS in going_on:
    found[CONTROLS] = control_claims.rows(control_claims.numbers(parts))
  for name in _order(parts.paper):
    if name in going_on:
      study = parts.paper.studies[name]
      module = BY_KIND[study.kind]
      found[name] = module.rows(study, module.numbers(study, parts))
  return found
