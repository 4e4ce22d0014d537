"""From the records of a paper to all numbers of its report, as one JSON dict."""

from collections.abc import Mapping
import dataclasses
import types
import typing

import numpy as np

from coupling.config.paper_schema import Kind, Paper, Study
from coupling.paper import access
from coupling.paper import collapse
from coupling.paper import control_claims
from coupling.paper import dose
from coupling.paper import mechanism
from coupling.paper import planted_claims
from coupling.paper import shift_claims
from coupling.paper import source_claims
from coupling.paper import trajectory
from coupling.paper import variety_claims
from coupling.paper.access import Bayes
from coupling.paper.paper_seeds import Parts
from coupling.patching.outcomes import Found
from coupling.report import aggregate
from coupling.report.records import SeedRecords

KINDS = typing.get_args(Kind)
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
    ),
    mechanism,
  )
  for kind in module.TESTED
}


def numbers(
  paper: Paper,
  records: dict[str, dict[int, SeedRecords]],
  provenance: dict,
  bayes: Mapping[str, Bayes | None],
  maps: Mapping[str, Mapping[int, Found]],
) -> dict:
  """All numbers of the report.

  Args: see paper.write.

  Returns:
    title; config; provenance, which alone holds times; seeds, items, groups and
    interval, of the main part; order, the names of studies, by kind; controls;
    studies, by name: the Study's fields, tested and numbers; conclusions: rows, each
    with the name of its study.
  """
  parts = Parts(paper, records)
  main = [records[parts.main][seed].orig for seed in parts.seeds]
  groups = [len(np.unique(items.group_N)) for items in main]
  order = sorted(paper.studies, key=lambda x: KINDS.index(paper.studies[x].kind))
  more = {'access': bayes, 'mechanism': maps}
  studies = {name: _study(study, parts, more) for name, study in paper.studies.items()}
  controls = control_claims.numbers(parts)
  rows = {'controls': control_claims.rows(controls)}
  for name in order:
    study = paper.studies[name]
    rows[name] = BY_KIND[study.kind].rows(study, studies[name]['numbers'])
  return {
    'title': paper.title,
    'config': dataclasses.asdict(paper),
    'provenance': provenance,
    'seeds': list(parts.seeds),
    'items': [len(items.group_N) for items in main],
    'groups': groups,
    'interval': aggregate.interval(parts.seeds, groups, parts.shared_items),
    'order': order,
    'controls': controls,
    'studies': studies,
    'conclusions': [
      {'study': name} | dataclasses.asdict(x) for name, of in rows.items() for x in of
    ],
  }


def _study(study: Study, parts: Parts, more: Mapping[str, Mapping]) -> dict:
  """`more`: what studies of some kinds have beside the records."""
  module = BY_KIND[study.kind]
  given = (more[study.kind],) if study.kind in more else ()
  return {
    'study': dataclasses.asdict(study),
    'tested': module.TESTED[study.kind],
    'numbers': module.numbers(study, parts, *given),
  }
