"""The page of a run's patching: index.html beside the stage's records."""

import functools
import pathlib

import numpy as np

from coupling.patching.outcomes import Found
from coupling.report import aggregate
from coupling.report import patch_figures
from coupling.report import render
from coupling.report.numerals import signed
from coupling.report.render import Section
from coupling.report.tables import Table, cell
from coupling.runtime import files
from coupling.statistics import effect_maps
from coupling.statistics import sharing

CONTRASTS = {
  'moved': 'x’ is x with its cue moved to the answer that the model gives without it.',
  'removed': 'x’ is x without its cue.',
  'question': 'x’ is the prompt of another question, with another answer without its '
  'cue. Behaviour is that answer, on x without its cue; both statements say “changed”.',
}
TITLES = {
  'moved': 'cue moved',
  'removed': 'cue removed',
  'question': 'question swapped',
}
NUMBERS = (
  (
    'Log-probability difference of both answers, x minus x’: behaviour',
    'behavior_whole',
  ),
  ('… explanation', 'explanation_whole'),
  ('Sharing: correlation of sizes over components', 'sharing.size'),
  ('… of signed effects', 'sharing.signed'),
  ('… of ranks', 'sharing.rank'),
  ('Overlap of the top sites', 'sharing.overlap'),
  (
    'Top sites knocked out: nats of x minus x’ lost, behaviour',
    'knocked_out.behavior.top',
  ),
  ('… explanation', 'knocked_out.explanation.top'),
  ('… minus that of random sites', 'knocked_out.explanation.difference'),
  ('Explanation follows, beyond chance, minus as it was', 'knocked_out.follows'),
)
NO_PAIR = 'No pair could be patched: see the counts in its records.'
NO_EXPLANATION = 'No explanation to patch: it does not separate x from x’.'


def write(folder: pathlib.Path, title: str, found: Found) -> None:
  """Writes index.html: numbers and figures of every contrast and step."""
  sections = [
    _checkpoint(contrast, step, maps)
    for contrast, steps in found.items()
    for step, maps in steps.items()
  ]
  text = render.rendered('patching.html', found={'title': title}, sections=sections)
  files.write_bytes(folder / 'index.html', text.encode())


def _checkpoint(contrast: str, step: int, maps: effect_maps.Maps | None) -> Section:
  name, heading = f'{contrast}-{step}', f'Step {step}, {TITLES[contrast]}'
  text = [('Contrast', CONTRASTS[contrast])]
  if maps is None:
    return Section(name, heading, {}, text=(*text, ('Empty', NO_PAIR)))
  numbers = aggregate.over_seeds([sharing.statistics(maps)])
  effects = [effect_maps.effect([x]) for x in (maps.behavior, maps.explanation)]
  among = effect_maps.compared(maps.sites, maps.live_R, effect_maps.COMPONENTS)
  low = numbers['explanation_whole']['low']
  drawn = {
    'heat': ('Effect of patching, as a share, by layer and group', patch_figures.heat)
  }
  if low is not None and low > 0:
    drawn['sites'] = 'Components, by both effects', patch_figures.scatter
  else:
    text.append(('Explanation', NO_EXPLANATION))
    effects[1][:] = np.nan  # shares of a whole that may be 0
  entries = patch_figures.entries(maps.sites, *effects, among)
  text.append(('Pairs', str(len(maps.group_N))))
  text.append(('Components', str(len(among))))
  rows = [(label, [cell(numbers, name, key, signed)]) for label, key in NUMBERS]
  table = Table('95% intervals: bootstrap over groups', ('', ''), rows)
  figures = {
    key: (caption, functools.partial(draw, entries))
    for key, (caption, draw) in drawn.items()
  }
  shown = render.drawn(figures, f'{name}-')
  return Section(name, heading, {name: table}, shown, text=tuple(text))
