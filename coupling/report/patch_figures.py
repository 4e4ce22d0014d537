"""Figures of patching: heat maps, and a scatter of sites.

An entry is a site as a dict: the fields of effect_maps.Site, its normalised effects on
`behavior` and `explanation`, and whether it is `compared`.
"""

from collections.abc import Sequence

import matplotlib
from matplotlib import figure as figure_lib
import numpy as np

from coupling.report import plots
from coupling.report.plots import BLACK, BLUE, COLUMN, GREEN, ORANGE, PAGE, VERMILION
from coupling.statistics.effect_maps import COMPONENTS, EVERY_HEAD
from data import positions

WHOLE = {
  'attention_out': 'attention',
  'mlp_out': 'MLP',
  'residual': 'residual stream',
}
ASKED = {'behavior': 'behaviour', 'explanation': 'explanation'}
WRITTEN = 12  # layers of maps whose cells have room for their numbers
# So few that the colour bar is drawn as lines, not as an image.
SHADES = matplotlib.colormaps['Greys'].resampled(20)
NAMED = 6  # sites of a scatter that are told by name
MARKS = {
  'question': ('v', GREEN),
  'options': ('^', ORANGE),
  'hint_source': ('s', VERMILION),
  'hinted_option': ('D', BLACK),
  'answer': ('o', BLUE),
}


def word(group: str) -> str:
  return group.replace('_', ' ')


def entries(sites, behavior_R, explanation_R, compared) -> list[dict]:
  """The entries of sites, in their order; None where an effect is not defined."""
  number = lambda x: float(x) if np.isfinite(x) else None
  return [
    site._asdict()
    | {
      'behavior': number(b),
      'explanation': number(e),
      'compared': bool(i in set(compared)),
    }
    for i, (site, b, e) in enumerate(zip(sites, behavior_R, explanation_R))
  ]


def heat(found: Sequence[dict]) -> figure_lib.Figure:
  """Layer x position group, behaviour and explanation side by side."""
  kept = [x for x in found if x['head'] == EVERY_HEAD]
  groups = [
    group
    for group in positions.GROUPS
    if any(x['group'] == group and (x['behavior'] or x['explanation']) for x in kept)
  ]
  depth = 1 + max(x['layer'] for x in kept)
  height = 0.6 + len(WHOLE) * (0.5 + 0.22 * min(depth, 16))
  drawn, axes = plots.new(PAGE, height, len(WHOLE), 2, sharex=True, sharey=True)
  for row, (kind, title) in zip(axes, WHOLE.items()):
    for ax, (key, said) in zip(row, ASKED.items()):
      grid_LxZ = np.full((depth, len(groups)), np.nan)
      for x in kept:
        if x['kind'] == kind and x['group'] in groups and x[key] is not None:
          grid_LxZ[x['layer'], groups.index(x['group'])] = x[key]
      ax.grid(False)
      shown = ax.pcolormesh(
        grid_LxZ, cmap=SHADES, vmin=0, vmax=1, edgecolors='#999999', linewidth=0.3
      )
      ax.set_title(f'{title}: {said}')
      for layer, column in np.ndindex(grid_LxZ.shape if depth <= WRITTEN else (0, 0)):
        value = grid_LxZ[layer, column]
        if np.isfinite(value):
          dark = {'color': 'white' if value > 0.5 else BLACK, 'fontsize': 7}
          at = column + 0.5, layer + 0.5
          ax.text(*at, f'{round(value, 2) + 0:.2f}', ha='center', va='center', **dark)
      ax.set_xticks(np.arange(len(groups)) + 0.5, [word(x) for x in groups])
      if depth <= WRITTEN:
        ax.set_yticks(np.arange(depth) + 0.5, range(depth))
    row[0].set_ylabel('layer')
  drawn.colorbar(shown, ax=axes, label='effect of patching', shrink=0.5)
  return drawn


def scatter(found: Sequence[dict]) -> figure_lib.Figure:
  """Components by how much they matter to behaviour and to explanation."""
  drawn, ((ax,),) = plots.new(COLUMN + 1, 3.2)
  kept = [x for x in found if x['compared'] and None not in _sizes(x)]
  for group, (marker, color) in MARKS.items():
    for kind in COMPONENTS:
      here = np.array(
        [_sizes(x) for x in kept if x['group'] == group and x['kind'] == kind]
      )
      if len(here):
        face = color if kind == 'heads' else 'white'
        label = f'{word(group)}, {"heads" if kind == "heads" else "MLP"}'
        style = {'markerfacecolor': face, 'markersize': 4.5, 'label': label}
        ax.plot(*here.T, marker, color=color, **style)
  for x in sorted(kept, key=lambda x: -max(_sizes(x)))[:NAMED]:
    name = f'{x["layer"]}.{x["head"]}' if x['kind'] == 'heads' else f'MLP {x["layer"]}'
    offset = {'textcoords': 'offset points', 'xytext': (4, 3), 'fontsize': 7}
    ax.annotate(name, _sizes(x), **offset)
  ax.set_xlabel('size of the effect on behaviour')
  ax.set_ylabel('size of the effect on explanation')
  ax.legend(loc='center left', bbox_to_anchor=(1.0, 0.5))
  return drawn


def _sizes(x: dict) -> tuple[float | None, float | None]:
  return tuple(None if x[key] is None else abs(x[key]) for key in ASKED)
