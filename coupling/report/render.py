"""Pages from templates: one HTML file that stands alone, and the same as Markdown.

Styles and figures are inside the page; it loads nothing and runs no script. Each number
in a table carries the dotted path of its statistic in report.json (`data-path`).
"""

from collections.abc import Callable
import dataclasses
import functools
import pathlib

import jinja2
from matplotlib import figure as figure_lib

from coupling.report import conclusions
from coupling.report import numerals
from coupling.report import plots
from coupling.report.conclusions import CONTRADICTED, INCONCLUSIVE, NOT_TESTED
from coupling.report.conclusions import SUPPORTED, WARNING
from coupling.report.tables import Table
from coupling.runtime import files

SYMBOLS = {SUPPORTED: '✓', CONTRADICTED: '✗', INCONCLUSIVE: '?', NOT_TESTED: '–'}
SYMBOLS |= {WARNING: '!'}


@dataclasses.dataclass(frozen=True)
class Section:
  """What is folded behind a heading."""

  key: str
  heading: str
  tables: dict[str, Table]
  figures: dict[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
  rows: list[dict] = dataclasses.field(default_factory=list)
  text: tuple[tuple[str, str], ...] = ()  # (head, paragraph)


def write(folder: pathlib.Path, page: str, found: dict, context: dict) -> None:
  """Writes report.json, report.md and index.html.

  Args:
    folder: where to; it exists.
    page: name of the template.
    found: what report.json holds; `found` in the template.
    context: more of the template.

  Raises:
    WorkdirError: a number is not finite; the message names its field.
  """
  files.write_json(folder / 'report.json', found)
  for name, kind in (('report.md', 'md'), ('index.html', 'html')):
    text = rendered(f'{page}.{kind}', found=found, **context)
    files.write_bytes(folder / name, text.encode())


def rendered(template: str, **context) -> str:
  """A template's text."""
  return _environment().get_template(template).render(**context)


def drawn(
  figures: dict[str, tuple[str, Callable[[], figure_lib.Figure]]], before: str = ''
) -> dict[str, tuple[str, str]]:
  """Figures as (caption, <svg>), by name.

  Args:
    figures: caption and function of each.
    before: begins the names, so that no two on a page are equal.
  """
  return {
    f'{before}{key}': (caption, plots.svg(f'{before}{key}', caption, draw))
    for key, (caption, draw) in figures.items()
  }


@functools.cache
def _environment() -> jinja2.Environment:
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent / 'templates'),
    autoescape=jinja2.select_autoescape(('html',)),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  environment.filters |= {
    'number': _number,
    'seconds': numerals.seconds,
    'cell': _cell,
    'by_median': _by_median,
    'interval': _interval,
  }
  environment.globals['symbols'] = SYMBOLS
  return environment


def _number(row: dict) -> str:
  """The number of a row with its interval, in its unit."""
  return getattr(numerals, row['unit'])(row | {'mean': row['number']})


def _interval(row: dict) -> str:
  """The interval of a row alone, in its unit."""
  _, bracket, bounds = _number(row).partition('[')
  return bracket + bounds


def _by_median(row: dict) -> bool:
  """Whether the interval of the median lies elsewhere about zero than the mean's."""
  if row['low'] is None or row['median_low'] is None:
    return False
  mean, median = (
    conclusions.sign({'low': row[f'{x}low'], 'high': row[f'{x}high']})
    for x in ('', 'median_')
  )
  return mean != median


def _cell(text: str) -> str:
  """Text that may stand in a cell of a Markdown table."""
  return ' '.join(str(text).split()).replace('|', '\\|')
