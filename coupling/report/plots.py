"""What figures share: style, whiskers, dots of single seeds, and SVG for a page.

Colours are Okabe & Ito's, and each is doubled by a marker, line style or hatch: the
figures hold in greyscale. Sizes are those of a two-column page in print. A statistic is
the dict {mean, low, high, per_seed} of summary.py.
"""

import io
import re
from collections.abc import Callable
from html import escape

import matplotlib
from matplotlib import figure as figure_lib
import numpy as np

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


def single_seeds(ax, x: float, statistic: dict, color: str) -> None:
  """A dot for each seed, where there are several."""
  dots = [100 * v for v in statistic['per_seed'] if v is not None]
  if len(dots) > 1:
    ax.plot([x] * len(dots), dots, '.', color=color, markersize=2.5)
