"""Pieces of a page: tables and paragraphs as HTML, tables as Markdown."""

from html import escape

from coupling.report import numerals
from coupling.report.tables import Cell, Table


def paragraph(text: str) -> str:
  return f'<p>{escape(text)}</p>'


def table(table: Table, name: str) -> str:
  """A table of numbers; cells without a path are words."""
  head = _head(table)
  rows = []
  for label, cells in table.rows:
    texts = ''.join(map(_cell, cells))
    rows.append(f'<tr><th scope="row">{escape(label)}</th>{texts}</tr>')
  columns = len(table.columns)
  said = all(not cell.path for column in _columns(table) for cell in column)
  size = 'wide' if columns > 6 else 'slim' if columns < 4 else ''
  size = 'text' if said else size
  return (
    f'<div class="scroll"><table id="table-{escape(name)}" class="{size}">'
    f'<caption>{escape(table.caption)}</caption>'
    f'<thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
  )


_WORDS = ' class="words"'


def _head(table: Table) -> str:
  """The row of headings, each aligned as its column is."""
  said = [False, *(all(not c.path for c in column) for column in _columns(table))]
  return ''.join(
    f'<th scope="col"{_WORDS if words else ""}>{escape(heading)}</th>'
    for heading, words in zip(table.columns, said)
  )


def _columns(table: Table) -> list[tuple[Cell, ...]]:
  return list(zip(*(cells for _, cells in table.rows)))


def _cell(cell: Cell) -> str:
  if not cell.path:
    return f'<td class="words">{escape(cell.text)}</td>'
  return f'<td data-path="{escape(cell.path)}">{_breakable(cell.text)}</td>'


def _breakable(text: str) -> str:
  """A number and its bounds may stand on two lines, but neither breaks in itself."""
  value, *bounds = text.split(' ', 1)
  return ' '.join(f'<span>{escape(part)}</span>' for part in (value, *bounds))


def text_table(caption: str, columns: tuple[str, ...], rows: list[tuple]) -> str:
  head = ''.join(f'<th scope="col">{escape(column)}</th>' for column in columns)
  body = ''.join(
    '<tr>' + ''.join(f'<td>{escape(str(x))}</td>' for x in row) + '</tr>'
    for row in rows
  )
  return (
    f'<div class="scroll"><table class="text"><caption>{escape(caption)}</caption>'
    f'<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
  )


def markdown_table(table: Table) -> str:
  lines = [table.columns, ('---',) + ('---:',) * (len(table.columns) - 1)]
  lines += [(label, *(cell.text for cell in cells)) for label, cells in table.rows]
  rows = '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)
  return f'{table.caption}\n\n{rows}'


def provenance(found: dict) -> str:
  """When and on what it was computed, with which versions, and how long it took.

  `found`: of provenance.provenance or provenance.of_parts.
  """
  spent = {}
  for stage in found['stages'].values():
    spent.setdefault(stage['stage'], []).append(stage['seconds'])
  rows = [
    (name, len(times), numerals.seconds(sum(times)), numerals.seconds(max(times)))
    for name, times in spent.items()
  ]
  packages = ', '.join(f'{k} {" and ".join(v)}' for k, v in found['packages'].items())
  started = min(stage['started'] for stage in found['stages'].values())
  machines = f'Computed on {", ".join(found["devices"])}; report made on '
  machines += f'{found["report_machine"]}.'
  return (
    paragraph(f'First stage started {started}. {machines}')
    + paragraph(f'Versions: {packages}.')
    + text_table(
      'Times, since each stage was last opened. Stages may have run side by side.',
      ('Stage', 'Times run', 'Seconds together', 'Longest'),
      rows,
    )
  )


def details(summary: str, text: str) -> str:
  """Text as it is, behind a line that opens it."""
  return (
    f'<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>'
  )
