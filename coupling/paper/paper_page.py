"""The report of a paper: index.html, report.json and report.md.

The page stands alone: styles and figures are inside it, it loads nothing and runs no
script. Each number in a table carries the dotted path of its statistic in report.json.
"""

import collections
from html import escape
import json
import pathlib

from coupling.config.schema import Study
from coupling.paper import control_claims
from coupling.paper import rules
from coupling.paper.study_numbers import BY_KIND
from coupling.report import glossary
from coupling.report import markup
from coupling.report import plots
from coupling.report import style
from coupling.report.tables import Table
from coupling.runtime import files

QUESTION = (
  'A model is trained to explain its own behaviour by labels that stay fixed, while '
  'its behaviour drifts or is shifted. When do its explanations follow what it does '
  'now (Self), and when the labels (Orig, or Target where the labels are not its own)?'
)
SUMMARY = ('Study', 'Claim', 'Paper', 'Here (95% interval)', 'Agrees?')
RULES = ('Claim', 'Here', 'Agrees?', 'Agrees where')
SYMBOLS = {rules.AGREES: '✓', rules.DISAGREES: '✗', rules.UNDECIDED: '?'}
STYLE = """
.state { font-weight: bold; white-space: nowrap; }
.decided { break-inside: auto; }
h2::first-letter { text-transform: uppercase; }
.agrees { color: #00563f; }
.disagrees { color: #8a3a00; }
nav { font-size: .85rem; }
"""


def write(folder: pathlib.Path, found: dict) -> None:
  """Writes the three files.

  Args:
    folder: where to; it exists.
    found: of study_numbers.numbers.

  Raises:
    WorkdirError: a number is not finite; the message names its field.
  """
  files.write_json(folder / 'report.json', found)
  tables = {'': control_claims.tables(found['controls'])}
  for name, study in _studies(found):
    module, config = _module(study)
    tables[name] = module.tables(config, study['numbers'], f'studies.{name}.numbers')
  files.write_bytes(folder / 'report.md', _markdown(found, tables).encode())
  files.write_bytes(folder / 'index.html', _page(found, tables).encode())


def _module(study: dict):
  config = Study(**study['study'])
  return BY_KIND[config.kind], config


def basis(found: dict) -> str:
  """What the intervals are over."""
  seeds = found['seeds']
  text = f'Seeds: {", ".join(map(str, seeds))}. Intervals: 95%, '
  text += f'{found["interval"]["text"]}.'
  if len(seeds) == 1:
    text += (
      ' With one seed, differences between runs have no interval and nothing is '
      'decided on them; what is decided holds for this seed alone.'
    )
  return text


def _studies(found: dict) -> list[tuple[str, dict]]:
  """In the order of the report, which JSON does not keep."""
  return [(name, found['studies'][name]) for name in found['order']]


def _heading(name: str) -> str:
  return name.replace('_', ' ')


def _rows(found: dict) -> list[tuple[str, dict, str]]:
  """Name of the study, row and what the paper reports: once for each study."""
  claims = [('controls', row, '') for row in found['controls']['claims']]
  return claims + [
    (name, row, study['study']['published'] if i == 0 else '')
    for name, study in _studies(found)
    for i, row in enumerate(study['rows'])
  ]


def tally(found: dict) -> str:
  """How many rows agree, and how to read that."""
  counts = collections.Counter(row['state'] for _, row, _ in _rows(found))
  return (
    f'{sum(counts.values())} statements were tested: {counts[rules.AGREES]} agree, '
    f'{counts[rules.DISAGREES]} disagree, {counts[rules.UNDECIDED]} are not decided. '
    'A statement agrees where the whole interval lies where the claim puts it, '
    'disagrees where the whole interval lies elsewhere, and is not decided otherwise; '
    'the rule of each stands in its section. Intervals are not corrected for the '
    'number of statements: each misses the true value in about one of twenty '
    'repetitions. Rows whose rule joins several conditions err at other rates: they '
    'agree more rarely, and disagree more often. Rows are not independent: the main '
    'run stands in several studies, and its gap in several rows.'
  )


def _markdown(found: dict, tables: dict[str, dict[str, Table]]) -> str:
  parts = [f'# {found["title"]}', QUESTION, basis(found), tally(found)]
  lines = [SUMMARY, ('---',) * len(SUMMARY)]
  lines += [
    (_heading(name), row['claim'], published, row['here'], row['state'])
    for name, row, published in _rows(found)
  ]
  parts.append('\n'.join('| ' + ' | '.join(line) + ' |' for line in lines))
  parts += [markup.markdown_table(table) for table in tables[''].values()]
  for name, study in _studies(found):
    parts += [
      f'## {_heading(name).capitalize()}',
      f'**Claim.** {study["study"]["claim"]}',
    ]
    parts += [f'**Tested.** {study["tested"]}', f'**Finding.** {study["finding"]}']
    parts += [markup.markdown_table(t) for t in tables[name].values() if t.rows]
  return '\n\n'.join(parts) + '\n'


def _page(found: dict, tables: dict[str, dict[str, Table]]) -> str:
  title = escape(found['title'])
  sections = [
    _summary(found),
    _section(
      'controls',
      'Controls',
      _claims(found['controls']['claims']) + _tables('', tables['']),
    ),
  ]
  for name, study in _studies(found):
    sections.append(
      _section(_anchor(name), _heading(name), _study(name, study, tables[name]))
    )
  made = markup.provenance(found['provenance'])
  made += markup.details(
    'Config', json.dumps(found['config'], indent=2, sort_keys=True)
  )
  sections.append(_section('provenance', 'What was run', made))
  sections.append(_section('glossary', 'Words', _glossary()))
  links = ' · '.join(
    f'<a href="#{_anchor(name)}">{escape(_heading(name))}</a>'
    for name in found['order']
  )
  return (
    '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    f'<title>{title}</title><style>{style.STYLE}{STYLE}</style></head>\n'
    f'<body><main><h1>{title}</h1>{markup.paragraph(QUESTION)}'
    f'{markup.paragraph(basis(found))}<nav>{links}</nav>\n{"".join(sections)}'
    '</main></body></html>\n'
  )


def _anchor(name: str) -> str:
  """Id of a study's section, or of that of the controls."""
  return name if name == 'controls' else f'study-{escape(name)}'


def _section(key: str, heading: str, content: str) -> str:
  return f'<section id="{escape(key)}"><h2>{escape(heading)}</h2>{content}</section>\n'


def _summary(found: dict) -> str:
  body = ''.join(
    f'<tr><td><a href="#{_anchor(name)}">{escape(_heading(name))}</a></td>'
    f'<td>{escape(row["claim"])}</td><td>{escape(published)}</td>'
    f'<td>{escape(row["here"])}</td><td>{_state(row["state"])}</td></tr>'
    for name, row, published in _rows(found)
  )
  table = _decided(SUMMARY, body)
  return _section('summary', 'Summary', markup.paragraph(tally(found)) + table)


def _decided(columns: tuple[str, ...], body: str) -> str:
  head = ''.join(f'<th scope="col">{escape(x)}</th>' for x in columns)
  return (
    '<div class="scroll"><table class="text decided"><thead><tr>'
    f'{head}</tr></thead><tbody>{body}</tbody></table></div>'
  )


def _state(state: str) -> str:
  name = state.replace(' ', '-')
  return f'<span class="state {name}">{SYMBOLS[state]} {escape(state)}</span>'


def _study(name: str, study: dict, tables: dict[str, Table]) -> str:
  module, config = _module(study)
  told = [('Claim', config.claim)]
  if config.published:
    told.append(('Paper', config.published))
  told += [('How it was tested', study['tested']), ('Finding', study['finding'])]
  text = ''.join(f'<p><b>{head}.</b> {escape(said)}</p>' for head, said in told)
  drawn = ''.join(
    _figure(f'{name}-{key}', caption, draw)
    for key, (caption, draw) in module.figures(config, study['numbers']).items()
  )
  return f'{text}{_claims(study["rows"])}{drawn}{_tables(name, tables)}'


def _claims(rows: list[dict]) -> str:
  """Claims with their rules."""
  body = ''.join(
    f'<tr><td>{escape(row["claim"])}</td><td>{escape(row["here"])}</td>'
    f'<td>{_state(row["state"])}</td><td>{escape(row["rule"])}</td></tr>'
    for row in rows
  )
  return _decided(RULES, body)


def _glossary() -> str:
  return (
    '<details><summary>What each number is</summary>'
    + markup.text_table(
      'Over several seeds, intervals are Student’s t over the seeds’ values, for '
      'shares on the logit scale; the last column is that of a single run.',
      ('Word', 'In report.json', 'Meaning', 'Interval within one run'),
      glossary.TERMS,
    )
    + '</details>'
  )


def _figure(name: str, caption: str, draw) -> str:
  return (
    f'<figure id="figure-{escape(name)}">{plots.svg(name, caption, draw)}'
    f'<figcaption>{escape(caption)}</figcaption></figure>'
  )


def _tables(name: str, tables: dict[str, Table]) -> str:
  return ''.join(
    markup.table(table, f'{name}-{key}') for key, table in tables.items() if table.rows
  )
