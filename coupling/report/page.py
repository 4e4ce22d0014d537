"""The report of an experiment: report.json, report.md, and one page, index.html."""

import pathlib

from coupling.report import figures as figures_lib
from coupling.report import provenance
from coupling.report import render
from coupling.report import tables as tables_lib
from coupling.report import verdict
from coupling.report.render import Section

EXAMPLES = 3  # in words; the table has all
# What stands in each section of the details: heading, tables, figures.
SECTIONS = {
  'main-result': ('Self, Orig and reliance', ('main',), ('weights',)),
  'over-training': ('Over training', ('trajectory', 'follow'), ('learning',)),
  'controls': (
    'Controls and explainers without training',
    (
      *('sibling', 'baselines', 'unregularised_baselines', 'contrasts', 'likelihood'),
      'cross',
    ),
    ('cross',),
  ),
  'field': ('The field’s metrics', ('field',), ()),
  'moved-items': ('Moved items and change rates', (), ('moved', 'change_rates')),
  'labels': ('The labels', ('labels',), ()),
  'by-stratum': ('Changed and unchanged items', ('strata',), ()),
  'planted': ('Cues never explained in training', ('planted',), ()),
}
CAPTIONS = {
  'learning': 'Learning curve: training examples are steps × pairs a step.',
  'weights': 'How far explanations follow the current truth and the labels, given the '
  'surface and the own answer. Denial, and whoever reads the surface alone, have 0.',
  'moved': 'Where the true explanation differs from the label: whose side is taken.',
  'change_rates': '“Changed” when the cue goes.',
  'cross': 'The same in colour: agreement in %.',
  'drift': 'What changes from the first checkpoint on. Whiskers cover all checkpoints '
  'together.',
}
GIVEN = {'learning': 'What every checkpoint does and says, by its step.'}  # in an audit


def write(folder: pathlib.Path, summary: dict) -> None:
  """Writes the three files.

  Args:
    folder: where to; it exists.
    summary: of aggregate.summarize.

  Raises:
    WorkdirError: a number is not finite; the message names its field.
  """
  render.write(folder, 'experiment', *_content(summary))


def html(summary: dict) -> str:
  """The page, which stands alone, of a summary of aggregate.summarize."""
  found, context = _content(summary)
  return render.rendered('experiment.html', found=found, **context)


def _content(summary: dict) -> tuple[dict, dict]:
  """What report.json holds, and what else the templates take."""
  rows = verdict.conclude(summary)
  of_part = lambda part: [x for x in rows if x['part'] == part]
  (headline,) = of_part(verdict.HEADLINE)
  figures = figures_lib.figures(summary)
  return summary | {'conclusions': rows}, {
    'headline': headline,
    'lead': {name: figures[name] for name in figures_lib.LEAD},
    **{part: of_part(part) for part in (verdict.CHECKS, verdict.FURTHER)},
    'warnings': of_part(verdict.WARNINGS),
    'examples': _examples(summary),
    'drift': _drift(summary, of_part(verdict.DRIFT)),
    'sections': _sections(summary, figures),
    'words': tables_lib.words(summary),
    'times': provenance.times(summary['provenance']),
  }


def _examples(summary: dict) -> list[dict]:
  """The first of each kind, at most EXAMPLES."""
  first = {x['kind']: x for x in reversed(summary['examples'])}
  kinds = dict.fromkeys(x['kind'] for x in summary['examples'])
  return [first[kind] for kind in kinds][:EXAMPLES]


def _drift(summary: dict, rows: list[dict]) -> Section | None:
  """Of several given checkpoints: since which explanations are others."""
  if not rows:
    return None
  drawn = {verdict.DRIFT: (CAPTIONS['drift'], figures_lib.drifted(summary))}
  tables = {verdict.DRIFT: tables_lib.drift(summary)}
  return Section(verdict.DRIFT, 'Since which checkpoint', tables, drawn, rows)


def _sections(summary: dict, figures: dict[str, str]) -> list[Section]:
  tables = tables_lib.tables(summary)
  captions = CAPTIONS | (GIVEN if 'drift' in summary else {})
  found = []
  for key, (heading, names, drawn) in SECTIONS.items():
    within = {
      name: table
      for start in names
      for name, table in tables.items()
      if name == start or name.startswith(f'{start}_')
    }
    shown = {name: (captions[name], figures[name]) for name in drawn if name in figures}
    if within or shown:
      found.append(Section(key, heading, within, shown))
  return found
