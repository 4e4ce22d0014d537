"""Figures of a few named things side by side: points with whiskers, and seeds' dots."""

from matplotlib import figure as figure_lib
import numpy as np

from coupling.paper import layout
from coupling.report import plots
from coupling.report.plots import BLACK, PAGE

Series = tuple[str, str, str, str, str]  # key, label, colour, marker, marker's face


def draw(
  panels: list[tuple[str, list[str], list[dict], tuple[Series, ...]]],
) -> figure_lib.Figure:
  """Panels side by side.

  Args:
    panels: title of the y axis, names on the x axis, an entry for each name, series.
  """
  drawn, (axes,) = plots.new(PAGE, 2.8, 1, len(panels))
  for ax, (title, names, entries, series) in zip(axes, panels):
    for i, (key, label, color, marker, face) in enumerate(series):
      x = np.arange(len(names)) + 0.2 * (i - (len(series) - 1) / 2)
      found = [layout.lookup(entry, key) for entry in entries]
      for at, statistic in zip(x, found):
        plots.single_seeds(ax, at + 0.06, statistic, color)
      style = {'color': color, 'markerfacecolor': face, 'label': label}
      plots.series(ax, x, found, fmt=marker, **style)
    ax.set_xticks(range(len(names)), names)
    ax.set_xlim(-0.5, len(names) - 0.5)
    ax.set_ylabel(title)
    if ax.get_ylim()[0] < 0:
      ax.axhline(0, color=BLACK, linewidth=0.8)
    else:
      ax.set_ylim(0, None)
    if len(series) > 1:
      ax.legend(loc='lower center', bbox_to_anchor=(0.5, 1.0), ncols=3)
  return drawn
