"""Tables of studies: a row for each run, a column for each statistic."""

from collections.abc import Callable, Iterable

from coupling.report.tables import Cell, Table, lookup

Column = tuple[str, str, Callable[[dict], str]]  # heading, dotted path, format


def table(
  caption: str,
  head: str,
  rows: Iterable[tuple[str, str, dict]],
  columns: tuple[Column, ...],
  words: tuple[str, ...] = (),
  said: Callable[[dict], tuple[str, ...]] = lambda entry: (),
) -> Table:
  """A table of statistics.

  Args:
    caption: above it.
    head: of the first column.
    rows: label, dotted path in report.json, and entry of each.
    columns: numbers of an entry.
    words: headings of columns of words, which come first.
    said: those words of an entry.
  """
  return Table(
    caption,
    (head, *words, *(heading for heading, _, _ in columns)),
    [
      (
        label,
        [Cell(text, '') for text in said(entry)]
        + [Cell(show(lookup(entry, key)), f'{path}.{key}') for _, key, show in columns],
      )
      for label, path, entry in rows
    ],
  )
