"""The figures of the report, as SVG to stand inside an HTML page."""

import functools

from matplotlib import figure as figure_lib
import numpy as np

from coupling.report import plots
from coupling.report import tables
from coupling.report.plots import BLACK, BLUE, COLUMN, GREEN, ORANGE, PAGE, VERMILION
from coupling.report.table_rows import EXPLAINER_NAMES
from coupling.statistics import drift


def figures(summary: dict) -> dict[str, str]:
  """All figures by name, as <svg> elements whose ids differ between figures."""
  draw = {
    'learning': _learning,
    'weights': _weights,
    'moved': _moved,
    'change_rates': _change_rates,
    'cross': _cross,
  }
  if not tables.compared(summary):
    del draw['learning']
  return lead({run: x['final'] for run, x in _runs(summary).items()}) | {
    name: plots.svg(name, TITLES[name], functools.partial(function, summary))
    for name, function in draw.items()
  }


TITLES = {
  'learning': 'Self, Orig, similarity, majority and invalid share over examples',
  'weights': 'Reliance on self and on orig by run, and their difference',
  'moved': 'Where the truth moved: whose side explanations take',
  'change_rates': 'How often removing the cue changes the answer',
  'cross': 'Each explainer against each model’s behaviour',
}
# What a report begins with: title, axis, and (key, label, colour, marker, its face).
LEAD = {
  'accuracy': (
    'Self and Orig',
    'agreement, %',
    (
      ('self_accuracy', 'Self', BLUE, 'o', BLUE),
      ('orig_accuracy', 'Orig', VERMILION, 's', 'white'),
    ),
  ),
  'gaps': (
    'Self − Orig',
    'Self − Orig, points',
    (
      ('gap', 'raw', BLACK, 'D', BLACK),
      ('balanced_gap', 'balanced', GREEN, '^', 'white'),
      ('gap_answer', 'v’ alone', ORANGE, 'v', ORANGE),
    ),
  ),
  'reliance': (
    'Reliance on self and on orig, on v’ alone',
    'reliance on v’, %',
    (
      ('reliance_answer.self', 'on self', BLUE, 'o', BLUE),
      ('reliance_answer.orig', 'on orig', VERMILION, 's', 'white'),
    ),
  ),
}
NARROW = 2.6  # inches; three stand side by side, or below one another on a phone


def lead(finals: dict[str, dict]) -> dict[str, str]:
  """The figure that a report begins with: one <svg> for each of its panels.

  Args:
    finals: name -> statistics, of runs and what stands beside them.
  """
  return {
    name: plots.svg(name, title, functools.partial(plots.panels, [panel], NARROW))
    for name, (title, axis, rows) in LEAD.items()
    for panel in [(axis, list(finals), list(finals.values()), rows)]
  }


def _runs(summary: dict) -> dict[str, dict]:
  return {run: summary['runs'][run] for run in tables.run_names(summary)}


def _weights(summary: dict) -> figure_lib.Figure:
  weights = (
    ('reliance.self', 'on self', BLUE, 'o', BLUE),
    ('reliance.orig', 'on orig', VERMILION, 's', 'white'),
  )
  differences = (
    ('reliance.difference', 'whole explanation', BLACK, 'D', BLACK),
    ('reliance_answer.difference', 'v’ alone', ORANGE, 'v', ORANGE),
  )
  runs = _runs(summary)
  finals = [x['final'] for x in runs.values()]
  return plots.panels(
    [
      ('reliance, % (0 none, 100 all)', list(runs), finals, weights),
      ('reliance: self − orig, %', list(runs), finals, differences),
    ]
  )


# Panels over training: (key, label, colour, marker, line).
CURVES = (
  (
    ('self_accuracy', 'Self', BLUE, 'o', '-'),
    ('orig_accuracy', 'Orig', VERMILION, 's', '--'),
    ('behavior_similarity', 'behaviour similarity', GREEN, '^', ':'),
    ('majority', 'majority baseline', BLACK, '', '--'),
    ('invalid', 'invalid', ORANGE, 'v', '-.'),
  ),
  (
    ('change_rate.current', 'changed: M_t', BLUE, 'o', '-'),
    ('change_rate.stated', 'changed: as explained', VERMILION, 's', '--'),
    ('change_rate.base', 'changed: M_0', BLACK, '', ':'),
  ),
)


def _learning(summary: dict) -> figure_lib.Figure:
  """The learning curve of the compared runs, by training examples."""
  runs = tables.compared(summary)
  axis, title = 'examples', 'training examples'
  if 'drift' in summary:
    axis, title = 'steps', 'step of the checkpoint'
  figure, axes = plots.new(PAGE, 4.4, 2, len(runs), sharex='col', sharey='row')
  for column, run in zip(axes.T, runs):
    found = summary['runs'][run]
    steps = [
      found['over_seeds'][str(step)] | {'majority': majority}
      for step, majority in zip(found['steps'], found['majority'])
    ]
    for ax, rows in zip(column, CURVES):
      lines = tuple(x for x in rows if not x[3])  # whose intervals are in the tables
      marked = tuple(x for x in rows if x[3])
      plots.along(ax, found[axis], steps, marked, 0.0)
      for key, label, color, _, line in lines:
        means = plots.means([tables.lookup(step, key) for step in steps])
        style = {'color': color, 'linestyle': line, 'label': label}
        ax.plot(found[axis], means, linewidth=1, **style)
      ax.set_ylim(0, None)
    column[0].set_title(run)
    column[1].set_xlabel(title)
  for ax in axes[:, 0]:
    ax.set_ylabel('% of items')
  for ax in axes[:, -1]:
    ax.legend(loc='center left', bbox_to_anchor=(1.0, 0.5))
  return figure


# Of given checkpoints: title, (key, label, colour, marker, line), what it parts at.
DRIFTS = (
  (
    'Self − Self of the first, points',
    ('self_change', 'Self', BLUE, 'o', '-'),
    0.0,
  ),
  (
    'similarity to the labels, %',
    ('similarity', 'similarity', GREEN, '^', ':'),
    drift.LIMIT,
  ),
)


def drifted(summary: dict) -> str:
  """The figure of an audit of several checkpoints, as <svg>."""
  title = 'Self against the first checkpoint, and similarity to the labels'
  return plots.svg('drift', title, functools.partial(_drift, summary))


def _drift(summary: dict) -> figure_lib.Figure:
  """What given checkpoints change, by step; where it parts is a line."""
  steps = {int(step): x for step, x in summary['drift']['steps'].items()}
  figure, (axes,) = plots.new(PAGE, 2.5, 1, len(DRIFTS))
  for ax, (title, drawn, limit) in zip(axes, DRIFTS):
    plots.along(ax, [*steps], [*steps.values()], (drawn,), 0.0)
    ax.axhline(100 * limit, color=BLACK, linewidth=0.8)
    ax.set_ylabel(title)
    ax.set_xlabel('step of the checkpoint')
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
  plots.above(ax)


def _by_run(summary: dict, rows: tuple) -> tuple[list[str], list[tuple]]:
  """Final statistics of the runs, for `_bars`: rows are (key, label, colour, hatch)."""
  runs = _runs(summary)
  finals = [x['final'] for x in runs.values()]
  return list(runs), [
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
  words = tables.words(summary)
  rows = (
    ('change_rate.base', words['base'], '#ffffff', ''),
    ('change_rate.current', words['current'], BLUE, ''),
    ('change_rate.stated', 'as explained', ORANGE, '///'),
  )
  figure, ((ax,),) = plots.new(COLUMN, 2.7)
  _bars(ax, *_by_run(summary, rows), stacked=False)
  ax.set_ylabel('“changed”, % of items')
  ax.set_ylim(0, None)
  return figure


def _cross(summary: dict) -> figure_lib.Figure:
  cross, base = summary['cross'], tables.words(summary)['base']
  known = (*tables.run_names(summary), *EXPLAINER_NAMES)
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
  names = [EXPLAINER_NAMES.get(x, x) for x in explainers]
  ax.set_yticks(np.arange(len(names)) + 0.5, names)
  columns = [base if name == 'M_0' else name for name in behavers]
  ax.set_xticks(np.arange(len(behavers)) + 0.5, columns)
  ax.tick_params(length=0)
  ax.spines[:].set_visible(False)
  ax.set_xlabel('behaviour of')
  ax.set_ylabel('explained by')
  return figure
