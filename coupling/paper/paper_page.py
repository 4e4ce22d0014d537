"""The report of a paper: index.html, report.json and report.md."""

import collections
import pathlib

from coupling.config.paper_schema import Study
from coupling.paper import control_claims
from coupling.paper.study_numbers import BY_KIND, CONTROLS
from coupling.report import figures as figures_lib
from coupling.report import provenance
from coupling.report import render
from coupling.report.render import Section


def write(folder: pathlib.Path, found: dict) -> None:
  """Writes the three files.

  Args:
    folder: where to; it exists.
    found: of study_numbers.numbers.

  Raises:
    WorkdirError: a number is not finite; the message names its field.
  """
  finals = {x['label'].split(':')[0]: x['final'] for x in found['controls']['rows']}
  context = {
    'counts': collections.Counter(x['state'] for x in found['conclusions']),
    'lead': figures_lib.lead(finals),
    'sections': [_controls(found), *(_study(found, name) for name in found['order'])],
    'times': provenance.times(found['provenance']),
  }
  render.write(folder, 'paper', found, context)


def _rows(found: dict, name: str) -> list[dict]:
  return [x for x in found['conclusions'] if x['study'] == name]


def _controls(found: dict) -> Section:
  tables = control_claims.tables(found['controls'])
  return Section('study-controls', CONTROLS, tables, rows=_rows(found, CONTROLS))


def _study(found: dict, name: str) -> Section:
  saved = found['studies'][name]
  study, numbers = Study(**saved['study']), saved['numbers']
  module = BY_KIND[study.kind]
  tables = module.tables(study, numbers, f'studies.{name}.numbers')
  text = [('Claim', study.claim), ('Paper', study.published)]
  text.append(('How it was tested', saved['tested']))
  return Section(
    f'study-{name}',
    name.replace('_', ' '),
    {f'{name}-{key}': x for key, x in tables.items() if x.rows},
    render.drawn(module.figures(study, numbers), f'{name}-'),
    _rows(found, name),
    tuple((head, said) for head, said in text if said),
  )
