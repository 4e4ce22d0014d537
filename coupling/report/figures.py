"""The figures of the report, as SVG to stand inside an HTML page."""

import functools

from matplotlib import figure as figure_lib
import numpy as np

from coupling.report import plots
from coupling.report import tables
from coupling.report import words as words_lib
from coupling.report.plots import BLACK, BLUE, COLUMN, GREEN, ORANGE, PAGE, VERMILION


def figures(summary: dict) -> dict[str, str]:
  """All figures by name, as <svg> elements whose ids differ between figures."""
  draw = {
    'accuracy': _accuracy,
    'trajectory': _trajectory,
    'weights': _weights,
    'moved': _moved,
    'change_rates': _change_rates,
    'cross': _cross,
  }
  if not tables.compared(summary):
    del draw['trajectory']
  return {
    name: plots.svg(name, TITLES[name], functools.partial(function, summary))
    for name, function in draw.items()
  }


TITLES = {
  'accuracy': 'Self, Orig and the gap by run, at the final checkpoint',
  'trajectory': 'Self, Orig and similarity, and change rates, over training',
  'weights': 'Weights on self and on orig by run, and their difference',
  'moved': 'Where the truth moved: whose side explanations take',
  'change_rates': 'How often removing the cue changes the answer',
  'cross': 'Each explainer against each model’s behaviour',
}


def _dots(ax, summary: dict, rows: tuple) -> None:
  """Final statistics by run with intervals, single seeds beside them.

  Rows are (key, label, colour, marker, marker's face).
  """
  finals = {run: summary['runs'][run]['final'] for run in tables.run_names(summary)}
  for i, (key, label, color, marker, face) in enumerate(rows):
    x = np.arange(len(finals)) + 0.22 * (i - (len(rows) - 1) / 2)
    statistics = [tables.lookup(final, key) for final in finals.values()]
    for at, statistic in zip(x, statistics):
      plots.single_seeds(ax, at + 0.07, statistic, color)
    style = {'color': color, 'markerfacecolor': face, 'label': label}
    plots.series(ax, x, statistics, fmt=marker, **style)
  ax.set_xticks(range(len(finals)), finals)
  ax.set_xlim(-0.5, len(finals) - 0.5)
  ax.legend(loc='lower center', bbox_to_anchor=(0.5, 1.0), ncols=3)


def _accuracy(summary: dict) -> figure_lib.Figure:
  figure, ((left, right),) = plots.new(PAGE, 2.7, 1, 2)
  accuracies = (
    ('self_accuracy', 'Self', BLUE, 'o', BLUE),
    ('orig_accuracy', 'Orig', VERMILION, 's', 'white'),
  )
  gaps = (
    ('gap', 'raw', BLACK, 'D', BLACK),
    ('balanced_gap', 'balanced', GREEN, '^', 'white'),
    ('gap_answer', 'v’ alone', ORANGE, 'v', ORANGE),
  )
  _dots(left, summary, accuracies)
  _dots(right, summary, gaps)
  left.set_ylabel('agreement, %')
  right.set_ylabel('Self − Orig, points')
  right.axhline(0, color=BLACK, linewidth=0.8)
  return figure


def _weights(summary: dict) -> figure_lib.Figure:
  figure, ((left, right),) = plots.new(PAGE, 2.7, 1, 2)
  weights = (
    ('siding.self', 'on self', BLUE, 'o', BLUE),
    ('siding.orig', 'on orig', VERMILION, 's', 'white'),
  )
  differences = (
    ('siding.difference', 'whole explanation', BLACK, 'D', BLACK),
    ('siding_answer.difference', 'v’ alone', ORANGE, 'v', ORANGE),
  )
  _dots(left, summary, weights)
  _dots(right, summary, differences)
  left.set_ylabel('weight, % (0 none, 100 all)')
  right.set_ylabel('self − orig, % of weight')
  for ax in (left, right):
    ax.axhline(0, color=BLACK, linewidth=0.8)
  return figure


def _trajectory(summary: dict) -> figure_lib.Figure:
  runs = tables.compared(summary)
  rows = (
    (
      ('self_accuracy', 'Self', BLUE, 'o', '-'),
      ('orig_accuracy', 'Orig', VERMILION, 's', '--'),
      ('behavior_similarity', 'behaviour similarity', GREEN, '^', ':'),
    ),
    (
      ('change_rate.current', 'changed: M_t', BLUE, 'o', '-'),
      ('change_rate.stated', 'changed: as explained', VERMILION, 's', '--'),
      ('change_rate.base', 'changed: M_0', BLACK, '', ':'),
    ),
  )
  figure, axes = plots.new(PAGE, 4.2, 2, len(runs), sharex='col', sharey='row')
  for column, run in enumerate(runs):
    steps = summary['runs'][run]['steps']
    over = summary['runs'][run]['over_seeds']
    for ax, row in zip(axes[:, column], rows):
      for key, label, color, marker, line in row:
        statistics = [tables.lookup(over[str(step)], key) for step in steps]
        style = {'color': color, 'marker': marker, 'linestyle': line, 'label': label}
        if marker:
          plots.series(ax, steps, statistics, markerfacecolor='white', **style)
        else:  # one number for all steps, whose interval is in the table
          ax.plot(steps, plots.means(statistics), linewidth=1, **style)
      ax.set_xticks(steps)
      ax.set_ylim(0, None)
    axes[0, column].set_title(run)
    axes[1, column].set_xlabel('training step')
  for ax in axes[:, 0]:
    ax.set_ylabel('% of items')
  for ax in axes[:, -1]:
    ax.legend(loc='center left', bbox_to_anchor=(1.0, 0.5))
  return figure


def _bars(ax, names: list[str], sets: list[tuple], stacked: bool) -> None:
  """Bars by run, one a (label, colour, hatch, statistics) of `sets`."""
  bottom = np.zeros(len(names))
  for i, (label, color, hatch, statistics) in enumerate(sets):
    height = np.nan_to_num(plots.means(statistics))
    offset = 0 if stacked else 0.27 * (i - (len(sets) - 1) / 2)
    x = np.arange(len(names)) + offset
    style = {'color': color, 'hatch': hatch, 'edgecolor': BLACK, 'linewidth': 0.5}
    ax.bar(x, height, 0.6 if stacked else 0.25, bottom, label=label, **style)
    if stacked:
      for at, low, value in zip(x, bottom, height):
        if value >= 7:
          box = {'facecolor': 'white', 'edgecolor': 'none', 'pad': 1}
          style = {'ha': 'center', 'va': 'center', 'bbox': box}
          ax.text(at, low + value / 2, f'{value:.1f}', **style)
      bottom += height
    else:
      plots.series(ax, x, statistics, fmt='none', color=BLACK)
  ax.set_xticks(range(len(names)), names)
  ax.legend(loc='lower center', bbox_to_anchor=(0.5, 1.0), ncols=3, columnspacing=1.0)


def _by_run(summary: dict, rows: tuple) -> tuple[list[str], list[tuple]]:
  """Final statistics of the runs, for `_bars`: rows are (key, label, colour, hatch)."""
  names = list(tables.run_names(summary))
  finals = [summary['runs'][run]['final'] for run in names]
  return names, [
    (label, color, hatch, [tables.lookup(final, key) for final in finals])
    for key, label, color, hatch in rows
  ]


def _moved(summary: dict) -> figure_lib.Figure:
  rows = (
    ('moved.self', 'self', '#56B4E9', ''),
    ('moved.orig', 'orig', ORANGE, '///'),
    ('moved.neither', 'neither', '#eeeeee', '..'),
  )
  figure, ((ax,),) = plots.new(COLUMN, 2.7)
  _bars(ax, *_by_run(summary, rows), stacked=True)
  ax.set_ylabel('% of moved items')
  ax.set_ylim(0, 100)
  return figure


def _change_rates(summary: dict) -> figure_lib.Figure:
  words = words_lib.of(summary)
  rows = (
    ('change_rate.base', words.base, '#ffffff', ''),
    ('change_rate.current', words.current, BLUE, ''),
    ('change_rate.stated', 'as explained', ORANGE, '///'),
  )
  figure, ((ax,),) = plots.new(COLUMN, 2.7)
  _bars(ax, *_by_run(summary, rows), stacked=False)
  ax.set_ylabel('“changed”, % of items')
  ax.set_ylim(0, None)
  return figure


def _cross(summary: dict) -> figure_lib.Figure:
  cross, base = summary['cross'], words_lib.of(summary).base
  known = (*tables.run_names(summary), *tables.EXPLAINER_NAMES)
  explainers = [x for x in known if x in cross]
  behavers = list(cross[summary['roles']['main']])
  value = np.stack([plots.means([cross[x][b] for b in behavers]) for x in explainers])
  figure, ((ax,),) = plots.new(0.75 * PAGE, 3.2)
  ax.grid(False)
  ax.pcolormesh(value, cmap='Blues', vmin=0, vmax=100, edgecolor='white')
  ax.invert_yaxis()
  for (row, column), v in np.ndenumerate(value):
    own = explainers[row] == behavers[column]
    ax.text(
      column + 0.5,
      row + 0.5,
      f'{v:.1f}' + (' (own)' if own else ''),
      ha='center',
      va='center',
      color='white' if v > 60 else BLACK,
      weight='bold' if own else 'normal',
    )
  names = [tables.EXPLAINER_NAMES.get(x, x) for x in explainers]
  ax.set_yticks(np.arange(len(names)) + 0.5, names)
  columns = [base if name == 'M_0' else name for name in behavers]
  ax.set_xticks(np.arange(len(behavers)) + 0.5, columns)
  ax.tick_params(length=0)
  ax.spines[:].set_visible(False)
  ax.set_xlabel('behaviour of')
  ax.set_ylabel('explained by')
  return figure
