"""The page of a run's patching: index.html beside the stage's records."""

import functools
from html import escape
import pathlib

import numpy as np

from coupling.patching.outcomes import Found
from coupling.report import aggregate
from coupling.report import markup
from coupling.report import patch_figures
from coupling.report import plots
from coupling.report import style
from coupling.report import tables
from coupling.report.numerals import signed
from coupling.runtime import files
from coupling.statistics import sharing

CONTRASTS = {
  'moved': 'x’ is x with its cue moved to the answer that the model gives without it.',
  'removed': 'x’ is x without its cue.',
}
NUMBERS = (
  (
    'Log-probability difference of both answers, x less x’: behaviour',
    'behavior_whole',
  ),
  ('… explanation', 'explanation_whole'),
  ('Sharing: correlation of sizes over components', 'sharing.size'),
  ('… of signed effects', 'sharing.signed'),
  ('… of ranks', 'sharing.rank'),
  ('Overlap of the top sites', 'sharing.overlap'),
  (
    'Top sites knocked out: nats of x less x’ lost, behaviour',
    'knocked_out.behavior.top',
  ),
  ('… explanation', 'knocked_out.explanation.top'),
  ('… less that of random sites', 'knocked_out.explanation.difference'),
  ('Explanation follows, beyond chance, less as it was', 'knocked_out.follows'),
)


def write(folder: pathlib.Path, title: str, found: Found) -> None:
  """Writes index.html: numbers and figures of every contrast and step."""
  body = ''.join(
    f'<h2>Step {step}, cue {contrast}</h2>{markup.paragraph(CONTRASTS[contrast])}'
    + _checkpoint(f'{contrast}-{step}', maps)
    for contrast, steps in found.items()
    for step, maps in steps.items()
  )
  files.write_bytes(
    folder / 'index.html',
    (
      '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
      f'<title>Patching: {escape(title)}</title><style>{style.STYLE}</style></head>\n'
      f'<body><main><h1>Patching: {escape(title)}</h1>{body}</main></body></html>\n'
    ).encode(),
  )


def _checkpoint(name: str, maps: sharing.Maps | None) -> str:
  if maps is None:
    return markup.paragraph('No pair could be patched: see the counts in its records.')
  numbers = aggregate.over_seeds([sharing.statistics(maps)])
  effects = [sharing.effect([x]) for x in (maps.behavior, maps.explanation)]
  among = sharing.compared(maps.sites, maps.live_R, sharing.COMPONENTS)
  low = numbers['explanation_whole']['low']
  explained = low is not None and low > 0
  told = f'{len(maps.group_N)} pairs, {len(among)} components.'
  figures = {
    'heat': ('Effect of patching, as a share, by layer and group', patch_figures.heat)
  }
  if explained:
    figures['sites'] = 'Components, by both effects', patch_figures.scatter
  else:
    told += ' No explanation to patch: it does not tell x from x’.'
    effects[1][:] = np.nan  # shares of a whole that may be 0
  entries = patch_figures.entries(maps.sites, *effects, among)
  rows = [(label, signed(tables.lookup(numbers, key))) for label, key in NUMBERS]
  drawn = ''.join(
    f'<figure>{plots.svg(f"{name}-{key}", caption, functools.partial(draw, entries))}'
    f'<figcaption>{escape(caption)}</figcaption></figure>'
    for key, (caption, draw) in figures.items()
  )
  table = markup.text_table('95% intervals: bootstrap over groups', ('', ''), rows)
  return f'{markup.paragraph(told)}{table}{drawn}'
