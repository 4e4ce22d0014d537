"""From the records of a paper to all numbers of its report, as one JSON dict."""

from collections.abc import Mapping
import dataclasses
import types
import typing

import numpy as np

from coupling import config as config_lib
from coupling import summary
from coupling.config import Paper, Study
from coupling.patch_records import Found
from coupling.records import SeedRecords
from coupling.studies import access
from coupling.studies import collapse
from coupling.studies import controls
from coupling.studies import dose
from coupling.studies import mechanism
from coupling.studies import planted
from coupling.studies import shift
from coupling.studies import sources
from coupling.studies import trajectory
from coupling.studies import variety
from coupling.studies.access import Bayes
from coupling.studies.parts import Parts

KINDS = typing.get_args(config_lib.Kind)
# Each has TESTED, numbers, rows, tables, figures and finding.
BY_KIND: dict[str, types.ModuleType] = {
  kind: module
  for module in (
    *(dose, trajectory, sources, shift, planted, variety, access, collapse),
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

  Args: see studies.write.

  Returns:
    title; config; provenance, which alone holds times; seeds, items, groups and
    interval, of the main part; order, the names of studies, by kind; controls, with
    claims; studies, by name: the Study's fields, tested, numbers, rows (claims decided)
    and finding.
  """
  parts = Parts(paper, records)
  main = [records[parts.main][seed].orig for seed in parts.seeds]
  groups = [len(np.unique(items.group_N)) for items in main]
  return {
    'title': paper.title,
    'config': dataclasses.asdict(paper),
    'provenance': provenance,
    'seeds': list(parts.seeds),
    'items': [len(items.group_N) for items in main],
    'groups': groups,
    'interval': summary.interval(parts.seeds, groups, parts.shared_items),
    'order': sorted(
      paper.studies, key=lambda name: KINDS.index(paper.studies[name].kind)
    ),
    'controls': _controls(parts),
    'studies': {
      name: _study(study, parts, {'access': bayes, 'mechanism': maps})
      for name, study in paper.studies.items()
    },
  }


def _controls(parts: Parts) -> dict:
  found = controls.numbers(parts)
  return found | {'claims': [dataclasses.asdict(row) for row in controls.rows(found)]}


def _study(study: Study, parts: Parts, more: Mapping[str, Mapping]) -> dict:
  """`more`: what studies of some kinds have beside the records."""
  module = BY_KIND[study.kind]
  given = (more[study.kind],) if study.kind in more else ()
  found = module.numbers(study, parts, *given)
  return {
    'study': dataclasses.asdict(study),
    'tested': module.TESTED[study.kind],
    'numbers': found,
    'rows': [dataclasses.asdict(row) for row in module.rows(study, found)],
    'finding': module.finding(study, found),
  }
