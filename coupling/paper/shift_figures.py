"""Figures of the map of shifts."""

from matplotlib import figure as figure_lib

from coupling.paper import cells as cells_lib
from coupling.paper.cells import CONCURRENT, VIEWS
from coupling.paper.paper_seeds import short
from coupling.report import plots
from coupling.report.plots import BLACK, BLUE, PAGE, VERMILION

MARKS = (('o', BLUE, -0.16, '-'), ('s', VERMILION, 0.16, '--'))  # of the two views


def cells(found: dict) -> figure_lib.Figure:
  """New - old of every cell and view, and what denial would have."""
  known = found['cells']
  drawn, ((ax,),) = plots.new(PAGE, 0.8 + 0.34 * len(known))
  ax.grid(False)
  ax.grid(axis='x')
  for view, (marker, color, offset, _) in zip(cells_lib.shown(known), MARKS):
    label = VIEWS[view]
    for i, x in enumerate(known):
      if view not in x['views']:
        continue
      found_here, at = x['views'][view]['difference'], i + offset
      if found_here['mean'] is None:
        continue
      dots = [100 * v for v in found_here['per_seed']]
      if len(dots) > 1:
        ax.plot(dots, [at + 0.1] * len(dots), '.', color=color, markersize=2.5)
      style = {'color': color, 'capsize': 2, 'markersize': 4.5, 'elinewidth': 0.8}
      mean, errors = plots.means([found_here]), plots.errors([found_here])
      ax.errorbar(mean, [at], xerr=errors, fmt=marker, label=label, **style)
      label = None
      denied = x['views'][view]['denied']['difference']
      if denied['mean'] is not None:
        style = {'color': color, 'markerfacecolor': 'white', 'markersize': 3.5}
        ax.plot(plots.means([denied]), [at - 0.02], marker, **style)
  ax.axvline(0, color=BLACK, linewidth=0.8)
  names = [
    f'{short(x["name"])}: {x["covered"]}, {x["context"]}'
    + (f', {x["order"]}' if x['order'] != CONCURRENT else '')
    for x in known
  ]
  ax.set_yticks(range(len(known)), names)
  ax.set_ylim(len(known) - 0.5, -0.5)
  ax.set_xlim(-105, 105)
  ax.set_xlabel('stays with the labels   ←   new − old, points   →   follows the shift')
  ax.legend(loc='lower center', bbox_to_anchor=(0.5, 1.0), ncols=2)
  return drawn


ACROSS = 4  # small panels in a row


def speed(found: dict) -> figure_lib.Figure:
  """A small panel for each cell that was evaluated at several steps."""
  known = [x for x in found['cells'] if x['steps']]
  down = -(-len(known) // ACROSS)
  drawn, axes = plots.new(PAGE, 0.5 + 1.35 * down, down, ACROSS, sharey=True)
  for ax, x in zip(axes.flat, known):
    steps = [s['step'] for s in x['steps']]
    for view, (marker, color, _, line) in zip(cells_lib.shown(known), MARKS):
      if view not in x['views']:
        continue
      style = {'marker': marker, 'color': color, 'linestyle': line, 'markersize': 3}
      differences = [s[view]['difference'] for s in x['steps']]
      plots.series(ax, steps, differences, label=VIEWS[view], **style)
    ax.axhline(0, color=BLACK, linewidth=0.8)
    ax.set_title(short(x['name']))
    ax.set_xticks([steps[0], steps[-1]])
    ax.set_ylim(-105, 105)
  for ax in axes.flat[len(known) :]:
    ax.set_visible(False)
  drawn.supylabel('new − old, points', fontsize=8)
  drawn.supxlabel('training step', fontsize=8)
  handles = {}
  for ax in axes.flat:
    handles |= {label: x for x, label in zip(*ax.get_legend_handles_labels())}
  drawn.legend(handles.values(), handles, loc='outside upper center', ncols=2)
  return drawn
