"""What figures share: style, whiskers, dots of single seeds, and SVG for a page.

Colours are Okabe & Ito's, and each is doubled by a marker, line style or hatch: the
figures hold in greyscale. Sizes are those of a two-column page in print. A statistic is
the dict {mean, low, high, per_seed} of aggregate.py.
"""

import io
import re
from collections.abc import Callable
from html import escape

import matplotlib
from matplotlib import figure as figure_lib
import numpy as np

from coupling.report.tables import lookup

BLUE, ORANGE, GREEN, VERMILION, BLACK = (
  '#0072B2',
  '#E69F00',
  '#009E73',
  '#D55E00',
  '#000000',
)
COLUMN, PAGE = 3.4, 7.0  # inches
STYLE = {
  'font.size': 8,
  'axes.titlesize': 8,
  'axes.spines.top': False,
  'axes.spines.right': False,
  'axes.linewidth': 0.6,
  'grid.linewidth': 0.4,
  'grid.color': '#cccccc',
  'legend.frameon': False,
  'legend.handlelength': 2.4,
  'hatch.linewidth': 0.6,
  'svg.fonttype': 'none',  # text stays text
  'svg.hashsalt': 'coupling',  # equal numbers give equal bytes
}


def svg(name: str, title: str, draw: Callable[[], figure_lib.Figure]) -> str:
  """A figure as an <svg> element, its ids begun with its name.

  Args:
    name: of the figure; no two on a page are equal.
    title: what it shows, for those who cannot see it.
    draw: makes the figure; called with STYLE set.
  """
  with matplotlib.rc_context(STYLE):
    figure = draw()
    buffer = io.StringIO()
    nothing = dict.fromkeys(('Creator', 'Date', 'Format', 'Type'))
    figure.savefig(buffer, format='svg', metadata=nothing)
  text = buffer.getvalue()
  text = text[text.index('<svg') :]
  text = re.sub(r'<metadata>.*?</metadata>', '', text, flags=re.DOTALL)
  text = re.sub(r'(id="|url\(#|href="#)', rf'\g<1>{name}-', text)
  return text.replace('<svg', f'<svg role="img" aria-label="{escape(title)}"', 1)


def new(width: float, height: float, rows: int = 1, columns: int = 1, **kwargs):
  """A figure, in inches, and its axes [rows, columns]."""
  figure = figure_lib.Figure(figsize=(width, height), layout='constrained')
  axes = figure.subplots(rows, columns, squeeze=False, **kwargs)
  for ax in axes.flat:
    ax.grid(axis='y')
    ax.set_axisbelow(True)
  return figure, axes


def errors(statistics: list[dict]) -> np.ndarray:
  """Lengths of error bars below and above, in percent; 0 where there is no interval."""
  rows = [
    (0, 0) if s['low'] is None else (s['mean'] - s['low'], s['high'] - s['mean'])
    for s in statistics
  ]
  return 100 * np.array(rows).T


def means(statistics: list[dict]) -> np.ndarray:
  """Means, in percent; NaN where there is none."""
  means = [np.nan if s['mean'] is None else s['mean'] for s in statistics]
  return 100 * np.array(means)


def series(ax, x, statistics, **style):
  """Means with intervals."""
  style = {'capsize': 2, 'markersize': 4.5, 'linewidth': 1, 'elinewidth': 0.8} | style
  return ax.errorbar(x, means(statistics), yerr=errors(statistics), **style)


# Key of a statistic, label, colour, marker, and style: a line, or else marker's face.
Series = tuple[str, str, str, str, str]
LINES = ('-', '--', ':', '-.')
LONG = 18  # letters of names that fit below each other's points


def along(ax, x, entries: list[dict], drawn: tuple[Series, ...], spread: float) -> None:
  """Series over entries, one a value of x: whiskers, and beside them the single seeds.

  `spread`: how far the series stand apart.
  """
  for i, (key, label, color, marker, style) in enumerate(drawn):
    at = np.asarray(x) + spread * (i - (len(drawn) - 1) / 2)
    found = [lookup(entry, key) for entry in entries]
    for where, statistic in zip(at, found):
      single_seeds(ax, where + 0.3 * spread, statistic, color)
    line, face = (style, 'white') if style in LINES else ('', style)
    shape = {'marker': marker, 'linestyle': line, 'markerfacecolor': face}
    series(ax, at, found, color=color, label=label, **shape)


def panels(
  wanted: list[tuple[str, list[str], list[dict], tuple[Series, ...]]],
  width: float = PAGE,
) -> figure_lib.Figure:
  """A few named things side by side.

  Args:
    wanted: for each panel the title of its y axis, names on the x axis, an entry for
      each name, and series.
    width: of all panels together, in inches.
  """
  figure, (axes,) = new(width, 2.7, 1, len(wanted))
  for ax, (title, names, entries, drawn) in zip(axes, wanted):
    along(ax, range(len(names)), entries, drawn, 0.2)
    letters, room = ''.join(names), LONG * width / COLUMN / len(wanted)
    short = '\n' in letters or len(letters) <= room
    turned = {'rotation': 35, 'ha': 'right', 'rotation_mode': 'anchor'}
    ax.set_xticks(range(len(names)), names, **({} if short else turned))
    ax.set_xlim(-0.5, len(names) - 0.5)
    ax.set_ylabel(title)
    from_zero(ax)
    if len(drawn) > 1:
      above(ax)
  return figure


def from_zero(ax) -> None:
  """A line at zero where values lie below it, or else an axis that begins there."""
  if ax.get_ylim()[0] < 0:
    ax.axhline(0, color=BLACK, linewidth=0.8)
  else:
    ax.set_ylim(0, None)


def above(ax) -> None:
  """The legend, above the axes."""
  place = {'loc': 'lower center', 'bbox_to_anchor': (0.5, 1.0)}
  ax.legend(**place, ncols=3, columnspacing=1.0)


def single_seeds(ax, x: float, statistic: dict, color: str) -> None:
  """A dot for each seed, where there are several."""
  dots = [100 * v for v in statistic['per_seed'] if v is not None]
  if len(dots) > 1:
    ax.plot([x] * len(dots), dots, '.', color=color, markersize=2.5)
