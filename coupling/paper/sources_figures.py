"""Self - Target against the similarity of labels and behaviour."""

from matplotlib import figure as figure_lib
import numpy as np

from coupling.paper.paper_claims import ABOUT
from coupling.report import plots
from coupling.report.plots import BLACK, BLUE, GREEN, ORANGE, PAGE, VERMILION
from coupling.report.tables import lookup

OWN, LINEAGE, OTHER = 'own labels', 'own lineage', 'another model'
MARKS = {OWN: ('o', BLUE), LINEAGE: ('^', GREEN), OTHER: ('s', VERMILION)}
# Key of a run, its line, title; in percent, as weights of 1 are all statements.
PANELS = (
  ('weights.answer', 'weights', 'Reliance on v’: self − target, %'),
  ('final.target_gap', 'raw', 'Self − Target, points'),
)


def draw(found: dict) -> figure_lib.Figure:
  """By weights and raw: seeds, runs, the mean line and its crossing."""
  drawn, (axes,) = plots.new(PAGE, 3.4, 1, 2)
  handles = {}
  for ax, (key, line, title) in zip(axes, PANELS):
    ax.grid(True)
    for i, x in enumerate(found['runs']):
      _run(ax, i, x, key)
    ax.axhline(0, color=BLACK, linewidth=0.8)
    _line(ax, found['lines'][line])
    ax.set_ylabel(title)
    handles |= {label: x for x, label in zip(*ax.get_legend_handles_labels())}
  drawn.supxlabel('similarity of the labels trained on and behaviour, %', fontsize=8)
  drawn.legend(handles.values(), handles, loc='outside upper center', ncols=3)
  return drawn


def _run(ax, index: int, run: dict, key: str) -> None:
  """One run: its mean with intervals of both, its number, and its seeds."""
  similarity, value = (lookup(run, k) for k in ('final.behavior_similarity', key))
  if value['mean'] is None:
    return
  marker, color = MARKS[run['source']]
  pair = (100 * np.array(x['per_seed']) for x in (similarity, value))
  ax.plot(*pair, '.', color=color, markersize=2.5)
  style = {'color': color, 'markerfacecolor': 'white', 'label': run['source']}
  at = plots.means([similarity])
  errors = plots.errors([similarity])
  plots.series(ax, at, [value], fmt=marker, xerr=errors, **style)
  spot = at[0], plots.means([value])[0]
  ax.annotate(str(index + 1), spot, (5, 5), textcoords='offset points')


def _line(ax, line: dict) -> None:
  """The mean line over the similarities seen, and the crossing's interval."""
  if line['slope']['mean'] is None:
    return
  ends = np.array(line['seen'])
  height = np.mean(line['intercepts']) + line['slope']['mean'] * ends
  ax.plot(100 * ends, 100 * height, color=BLACK, linewidth=1, label='mean line')
  where = line['crossing']
  if where['mean'] is not None:
    bounds = 100 * where['low'], 100 * where['high']
    ax.axvspan(*bounds, color='#dddddd', zorder=0, label='crossing, 95%')
  ax.axvline(100 * ABOUT, color=ORANGE, linestyle=':', label='crossing, paper')
