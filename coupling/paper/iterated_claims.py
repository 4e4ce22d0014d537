"""Labels that are made anew from the model itself, against labels that stay fixed."""

import functools

from matplotlib import figure as figure_lib
import numpy as np

from coupling.config.paper_schema import Study
from coupling.paper.paper_claims import SETTLED, row
from coupling.paper.paper_seeds import Parts
from coupling.report import conclusions
from coupling.report import plots
from coupling.report.conclusions import Row
from coupling.report.numerals import percent, points, signed
from coupling.report.plots import BLUE, PAGE, VERMILION
from coupling.report.tables import Table, table

TESTED = {
  'iterated': 'Training goes on for several rounds of equal length, each from the end '
  'of the last. Refreshed: round n has labels of what the model does at the end of '
  'round n − 1. Fixed: every round has those of M_0. The first round is the same. The '
  'KL holds behaviour to M_0 in both.',
}
CHAINS = {'refreshed': 'Refreshed', 'fixed': 'Fixed'}
STATISTICS = (
  ('Self', 'self_accuracy', percent),
  ('balanced', 'balanced_self', percent),
  ('gap', 'gap', points),
  ('reliance on v’: self', 'reliance_answer.self', signed),
  ('similarity to the labels', 'behavior_similarity', percent),
)
COLUMNS = tuple(
  (f'{title}: {name}', f'{chain}.{key}', show)
  for chain, title in CHAINS.items()
  for name, key, show in STATISTICS
)
COMPARED = ('self_accuracy', 'balanced_self', 'gap', 'reliance_answer.self')
BESIDE = (
  ('Self', 'self_accuracy', points),
  ('balanced', 'balanced_self', points),
  ('gap', 'gap', points),
  ('reliance on v’: self', 'reliance_answer_self', signed),
)


def numbers(study: Study, parts: Parts) -> dict:
  """Every round of both chains; refreshed minus fixed; the last minus the second."""
  rounds = [
    {
      'round': at,
      'refreshed': parts.entry(name),
      'fixed': parts.entry(fixed or name),
      'contrast': parts.contrast(name, fixed, COMPARED) if fixed else {},
    }
    for name, fixed, at in zip(study.runs, study.companions, study.at, strict=True)
  ]
  last, second = study.runs[-1], study.runs[1]
  return {'rounds': rounds, 'later': parts.contrast(last, second, COMPARED)}


def rows(study: Study, found: dict) -> list[Row]:
  last = found['rounds'][-1]
  more, later = last['contrast'], found['later']['self_accuracy']
  kept = last['fixed']['reliance_answer']['difference']
  learned = found['rounds'][1]['refreshed']['reliance_answer']['difference']
  settled = conclusions.between(later, -SETTLED, SETTLED)
  return [
    row(
      'refreshed_self',
      more['self_accuracy'],
      conclusions.above(more['self_accuracy']),
      last['fixed']['self_accuracy']['mean'],
    ),
    row(
      'refreshed_reliance',
      more['reliance_answer_self'],
      conclusions.above(more['reliance_answer_self']),
      last['fixed']['reliance_answer']['self']['mean'],
    ),
    row('fixed_lasts', kept, conclusions.above(kept)),
    row('settles', later, conclusions.provided(settled, conclusions.above(learned))),
  ]


def tables(study: Study, found: dict, path: str) -> dict[str, Table]:
  entries = [
    (f'{x["round"]:g}', f'{path}.rounds.{i}', x) for i, x in enumerate(found['rounds'])
  ]
  beside = [
    (label, f'{where}.contrast', x['contrast'])
    for label, where, x in entries
    if x['contrast']
  ]
  return {
    'rounds': table('By round, each at its end.', study.axis, entries, COLUMNS),
    'contrast': table(
      'Refreshed minus fixed labels, trained as long, paired by seed.',
      study.axis,
      beside,
      BESIDE,
    ),
  }


PANELS = (
  ('self_accuracy', 'Self, %'),
  ('reliance_answer.self', 'reliance on v’: self, %'),
)


def figures(study: Study, found: dict) -> dict:
  caption = (
    'Labels made anew each round (circles), and fixed ones (squares). Whiskers: 95% '
    'intervals; dots: single seeds.'
  )
  return {'rounds': (caption, functools.partial(_draw, found['rounds']))}


def _draw(rounds: list[dict]) -> figure_lib.Figure:
  drawn, (axes,) = plots.new(PAGE, 2.7, 1, len(PANELS))
  for ax, (key, title) in zip(axes, PANELS):
    series = (
      (f'refreshed.{key}', CHAINS['refreshed'], BLUE, 'o', '-'),
      (f'fixed.{key}', CHAINS['fixed'], VERMILION, 's', '--'),
    )
    plots.along(ax, range(len(rounds)), rounds, series, 0.16)
    ax.set_xticks(np.arange(len(rounds)), [f'{x["round"]:g}' for x in rounds])
    ax.set_xlabel('round')
    ax.set_ylabel(title)
    plots.above(ax)
  return drawn
