"""Labels with less and less variety, until the majority class wins."""

import functools

from matplotlib import figure as figure_lib
import numpy as np

from coupling.config.paper_schema import Study
from coupling.paper.dose import by_dose
from coupling.paper.paper_claims import LEFT, row
from coupling.paper.paper_seeds import Parts, minus, short, times
from coupling.report import conclusions
from coupling.report import fitness
from coupling.report import plots
from coupling.report.conclusions import Row
from coupling.report.experiment_claims import WARNINGS
from coupling.report.numerals import percent, points
from coupling.report.plots import BLUE, GREEN, PAGE, VERMILION
from coupling.report.tables import Cell, Table, table
from coupling.statistics import variety

TESTED = {
  'variety': 'Items whose label says “changed” are left out of training until at most '
  'a share of the labels says so. Truth and evaluation are as before. Collapsed: '
  f'“changed” is said less than {LEFT:.0%} as often as it is true. This is decided at '
  'the lowest share above 0: at 0, “changed” is never trained at all. The warning is '
  'the report’s own, on the labels trained on.',
}
COLUMNS = (
  ('Labels that say “changed”', 'labels.changed', percent),
  ('Commonest label', 'labels.commonest', percent),
  ('Changed: M_t', 'final.change_rate.current', percent),
  ('… as explained', 'final.change_rate.stated', percent),
  ('Self', 'final.self_accuracy', percent),
  ('Self, class-balanced', 'final.balanced_self', percent),
  ('Denial: Self', 'final.denial.self_accuracy', percent),
  (f'Said − {LEFT:.0%} of the true rate', 'excess.said', points),
)


def numbers(study: Study, parts: Parts) -> dict:
  """Every dose: labels, explanations, whether the warning is there; fall of Self."""
  pairs = zip(study.runs, study.at, strict=True)
  doses = [_dose(parts, name, share) for name, share in pairs]
  doses.sort(key=lambda x: -x['labels']['changed']['mean'])
  most, least = doses[0], _least(doses)
  keys = 'balanced_self', 'self_accuracy', 'change_rate.stated'
  return {'doses': doses, 'fall': parts.contrast(most['name'], least['name'], keys)}


def _least(doses: list[dict]) -> dict:
  """The dose of least variety at which “changed” is trained at all."""
  return [x for x in doses if x['share'] > 0][-1]


def _dose(parts: Parts, name: str, share: float) -> dict:
  labels = parts.over(_labels, name, shares=True)
  excess = parts.over(_excess, name)
  return {
    'name': name,
    'share': share,
    'labels': labels,
    'final': parts.entry(name),
    'excess': excess,
    'collapsed': conclusions.below(excess['said']),
    'warning': sorted(fitness.label_faults(labels)),
  }


def _labels(parts: Parts, name: str, seed: int) -> dict:
  s, run = parts.seed(name, seed)
  found = variety.labels(s.train_labels[run], s.orig.states_answer, s.options)
  return {key: found[key] for key in ('changed', 'commonest')}


def _excess(parts: Parts, name: str, seed: int) -> dict:
  """What is said of changes, minus LEFT of what is true."""
  said, true = (
    parts.value(name, seed, f'change_rate.{key}') for key in ('stated', 'current')
  )
  return {'said': minus(said, times(LEFT, true))}


def rows(study: Study, found: dict) -> list[Row]:
  least = _least(found['doses'])
  trained = [x for x in found['doses'] if x['share'] > 0]  # see TESTED
  bare = [x['excess']['said'] for x in trained if not x['warning']]
  bare = [said for said in bare if said['mean'] is not None]
  return [
    row(
      'variety_collapse',
      least['excess']['said'],
      least['collapsed'],
      about=short(least['name']),
    ),
    row(
      'variety_warning',
      min(bare, key=lambda said: said['mean'], default=None),
      warned(trained),
    ),
  ]


def warned(doses: list[dict]) -> str:
  """Whether the warning comes before collapse.

  It must be at every dose that collapsed or may have, and at one with more variety that
  has not.

  Args:
    doses: the most variety first.
  """
  bare = {x['collapsed'] for x in doses if not x['warning']}
  if conclusions.SUPPORTED in bare:
    return conclusions.CONTRADICTED
  fallen = [i for i, x in enumerate(doses) if x['collapsed'] == conclusions.SUPPORTED]
  before = doses[: fallen[0]] if fallen else []
  early = any(
    x['warning'] and x['collapsed'] == conclusions.CONTRADICTED for x in before
  )
  return (
    conclusions.SUPPORTED
    if early and conclusions.INCONCLUSIVE not in bare
    else conclusions.INCONCLUSIVE
  )


def tables(study: Study, found: dict, path: str) -> dict[str, Table]:
  entries = [
    (short(x['name']), f'{path}.doses.{i}', x) for i, x in enumerate(found['doses'])
  ]
  names = {conclusions.SUPPORTED: 'yes', conclusions.CONTRADICTED: 'no'}
  warnings = [
    (short(x['name']), '; '.join(WARNINGS[key].text for key in x['warning']))
    for x in found['doses']
    if x['warning']
  ]
  return {
    'variety': table(
      'By variety of the labels trained on, at the final checkpoint.',
      'Run',
      entries,
      COLUMNS,
      ('Warned', 'Collapsed'),
      lambda x: (
        'yes' if x['warning'] else 'no',
        names.get(x['collapsed'], 'unclear'),
      ),
    ),
    'warnings': Table(
      'What the report warns of.',
      ('Run', 'Labels trained on'),
      [(name, [Cell(text)]) for name, text in warnings],
    ),
  }


SERIES = (
  ('final.change_rate.current', '“changed”: M_t', BLUE, 'o', '-'),
  ('final.change_rate.stated', 'as explained', VERMILION, 's', '--'),
)
ACCURACIES = (
  ('final.self_accuracy', 'Self', BLUE, 'o', '-'),
  ('final.balanced_self', 'Self, balanced', GREEN, '^', '--'),
)


def figures(study: Study, found: dict) -> dict:
  caption = (
    'By share of the labels that say “changed”, from left to right fewer. Shaded: the '
    'report warns. Whiskers: 95% intervals; dots: single seeds.'
  )
  return {'variety': (caption, functools.partial(_draw, found['doses']))}


def _draw(doses: list[dict]) -> figure_lib.Figure:
  drawn, (axes,) = plots.new(PAGE, 2.9, 1, 2)
  labels = [f'{100 * x["labels"]["changed"]["mean"]:.1f}' for x in doses]
  for ax, series in zip(axes, (SERIES, ACCURACIES)):
    for at, dose in enumerate(doses):
      if dose['warning']:
        ax.axvspan(at - 0.5, at + 0.5, color='#eeeeee', zorder=0)
    by_dose(ax, doses, series)
    ax.set_ylim(0, None)
    ax.set_ylabel('% of items')
    ax.set_xlabel('labels that say “changed”, %')
    ax.set_xticks(np.arange(len(doses)), labels)
  return drawn
