"""The sharing of circuits over training."""

from matplotlib import figure as figure_lib

from coupling.paper.paper_seeds import short
from coupling.report import conclusions
from coupling.report import plots
from coupling.report.plots import BLACK, BLUE, COLUMN, GREEN, VERMILION

SERIES = ((BLUE, 'o', '-'), (VERMILION, 's', '--'), (GREEN, '^', ':'))


def sharing(found: dict, contrast: str) -> figure_lib.Figure:
  """Correlation over components, by step and run."""
  drawn, ((ax,),) = plots.new(COLUMN + 1.6, 2.8)
  kept = [x for x in found['runs'] if x['contrast'] == contrast and x['steps']]
  last = max((run['steps'][-1]['step'] for run in kept), default=1)
  for i, (run, (color, marker, line)) in enumerate(zip(kept, SERIES)):
    at = [x['step'] + 0.012 * last * (i - 1) for x in run['steps']]
    series = (('sharing.size', short(run['name']), color, marker, line),)
    plots.along(ax, at, run['steps'], series, 0.01 * last)
    statistics = [x['sharing']['size'] for x in run['steps']]
    told = [
      (x, y)
      for x, y, entry in zip(at, plots.means(statistics), run['steps'])
      if conclusions.above(entry['explanation_whole']) == conclusions.SUPPORTED
    ]
    if told:
      ax.plot(*zip(*told), marker, color=color, markersize=4.5, zorder=5)
  ax.axhline(0, color=BLACK, linewidth=0.8)
  ax.set_xlabel('training step')
  ax.yaxis.set_major_formatter(lambda y, _: f'{y / 100:.1f}'.replace('-', '−'))
  ax.set_ylabel('correlation')
  ax.legend(loc='center left', bbox_to_anchor=(1.0, 0.5))
  return drawn
