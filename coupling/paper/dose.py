"""Studies of a dose: weight of the regulariser, noise, adapters' rank, learning rate.

Each run has one dose; what is asked is how the gap goes with it.
"""

import functools

from matplotlib import figure as figure_lib
import numpy as np

from coupling.config.schema import ConfigError, Pretrain, Study
from coupling.paper import dose_claims
from coupling.paper import layout
from coupling.paper.paper_seeds import GAPS, Parts
from coupling.paper.rules import HALF
from coupling.report import plots
from coupling.report.numerals import percent, points, signed
from coupling.report.plots import BLACK, BLUE, GREEN, ORANGE, PAGE, VERMILION
from coupling.report.tables import Table

TESTED = {
  'regularisation': 'The same explanation training with several weights of the '
  'behaviour KL; everything else is equal, the fine-tuning seed too.',
  'noise': 'A share of the labels trained on is replaced by other labels, drawn '
  'uniformly; truth and evaluation are as before.',
  'capacity': 'Frozen weights with adapters (LoRA) of several ranks beside them; '
  '“full”: all weights are trained.',
  'rates': 'The same training with several constant learning rates.',
}
FULL = dose_claims.FULL
GAP_COLUMNS = (
  ('Self', 'self_accuracy', percent),
  ('Orig', 'orig_accuracy', percent),
  ('Gap', 'gap', points),
  ('Balanced gap', 'balanced_gap', points),
  ('Gap on v’', 'gap_answer', points),
  ('Weights: self − orig', 'siding.difference', signed),
  ('… on v’', 'siding_answer.difference', signed),
  ('Denial: gap', 'denial.gap', points),
)
BEHAVIOR_COLUMNS = (
  ('Drift', 'drift', percent),
  ('Similarity', 'behavior_similarity', percent),
  ('Changed: M_0', 'change_rate.base', percent),
  ('… M_t', 'change_rate.current', percent),
  ('… explained', 'change_rate.stated', percent),
  ('Invalid', 'invalid', percent),
)


def numbers(study: Study, parts: Parts) -> dict:
  """Every run's statistics in order of dose, and how the gap goes with it."""
  doses = [
    {'name': name, 'dose': dose, 'label': _label(study, parts, name, dose)}
    | {'final': parts.entry(name), 'control': parts.over_shuffled(name)}
    for name, dose in zip(study.runs, study.at, strict=True)
  ]
  result = {'doses': doses, **_shuffled(parts)}
  if study.kind == 'regularisation':
    with_it, without = (_run_at(study, weight) for weight in (1.0, 0.0))
    keys = (*GAPS, 'siding.difference')
    result['contrast'] = parts.contrast(with_it, without, keys)
    result['half'] = parts.contrast(with_it, without, keys, HALF)
  if study.kind in ('capacity', 'rates'):
    names = [name for name in study.runs if not _full(study, parts, name)]
    result['slope'] = parts.over(lambda seed: _slopes(study, parts, names, seed))
  if study.kind == 'capacity':
    result['half'] = parts.contrast(names[-1], names[0], GAPS, HALF)
    result['width'] = _width(parts, names[0])
  return result


def _run_at(study: Study, dose: float) -> str:
  if dose not in study.at:
    raise ConfigError(
      f'a study of {study.kind} needs a run at {dose:g}; at={study.at} has none'
    )
  return study.runs[study.at.index(dose)]


def _shuffled(parts: Parts) -> dict:
  name = parts.role('shuffled')
  return {'shuffled': parts.entry(name)} if name else {}


def _label(study: Study, parts: Parts, name: str, dose: float) -> str:
  return FULL if _full(study, parts, name) else f'{dose:g}'


def _full(study: Study, parts: Parts, name: str) -> bool:
  """Whether all weights are trained, which is no rank on a logarithmic axis."""
  return study.kind == 'capacity' and parts.train(name).lora.rank == 0


def _slopes(study: Study, parts: Parts, names: list[str], seed: int) -> dict:
  """Change of each gap with a doubling of the dose: a line of one seed's runs."""
  doubling_R = np.log2([study.at[study.runs.index(name)] for name in names])
  return {
    key: float(np.polyfit(doubling_R, [parts.value(n, seed, key) for n in names], 1)[0])
    for key in GAPS
  }


def _width(parts: Parts, name: str) -> int | None:
  base = parts.paper.parts[name.split('/', 1)[0]].base
  return base.model.width if isinstance(base, Pretrain) else None


rows, finding = dose_claims.rows, dose_claims.finding


def tables(study: Study, found: dict, path: str) -> dict[str, Table]:
  entries = [
    (x['label'], f'{path}.doses.{i}.final', x['final'])
    for i, x in enumerate(found['doses'])
  ]
  if 'shuffled' in found:
    entries.append(('control: shuffled labels', f'{path}.shuffled', found['shuffled']))
  caption = 'By dose, at the final checkpoint. Weights are beyond the kind and option '
  caption += 'of the cue and the own answer; denial always states its own answer, '
  caption += 'unchanged.'
  behavior = 'Behaviour by dose, and how often explanations say “changed”.'
  return {
    'doses': layout.table(caption, study.axis, entries, GAP_COLUMNS),
    'behavior': layout.table(behavior, study.axis, entries, BEHAVIOR_COLUMNS),
  }


PANELS = (
  (
    'Self − Orig, points',
    (
      ('gap', 'raw', BLACK, 'D', '-'),
      ('balanced_gap', 'balanced', GREEN, '^', '--'),
      ('gap_answer', 'v’ alone', ORANGE, 'v', ':'),
    ),
  ),
  (
    'weights self − orig, %',
    (
      ('siding.difference', 'whole explanation', BLACK, 'D', '-'),
      ('siding_answer.difference', 'v’ alone', ORANGE, 'v', ':'),
    ),
  ),
  (
    '% of items',
    (
      ('self_accuracy', 'Self', BLUE, 'o', '-'),
      ('orig_accuracy', 'Orig', VERMILION, 's', '--'),
      ('behavior_similarity', 'similarity', GREEN, '^', ':'),
    ),
  ),
  (
    '“changed”, % of items',
    (
      ('change_rate.current', 'M_t', BLUE, 'o', '-'),
      ('change_rate.stated', 'as explained', VERMILION, 's', '--'),
      ('change_rate.base', 'M_0', BLACK, '_', ':'),
    ),
  ),
)


def figures(study: Study, found: dict) -> dict:
  caption = 'By dose. Whiskers: 95% intervals; dots: single seeds.'
  return {'doses': (caption, functools.partial(_draw, study, found))}


def _draw(study: Study, found: dict) -> figure_lib.Figure:
  """Gaps, weights, accuracies and change rates by dose, evenly spaced."""
  drawn, axes = plots.new(PAGE, 4.6, 2, 2)
  doses = found['doses']
  for ax, (title, series) in zip(axes.flat, PANELS):
    by_dose(ax, [x['final'] for x in doses], series)
    ax.set_xticks(range(len(doses)), [x['label'] for x in doses])
    ax.set_ylabel(title)
  for ax in axes[1]:
    ax.set_ylim(0, None)
    ax.set_xlabel(study.axis)
  if study.kind == 'regularisation':
    _against_drift(axes[1, 1], doses)
  return drawn


def by_dose(ax, entries: list[dict], series: tuple) -> None:
  """Series over evenly spaced doses: whiskers, and beside them the single seeds.

  Args:
    ax: axes.
    entries: one a dose.
    series: (key, label, colour, marker, line) each.
  """
  for i, (key, label, color, marker, line) in enumerate(series):
    x = np.arange(len(entries)) + 0.16 * (i - (len(series) - 1) / 2)
    found = [layout.lookup(entry, key) for entry in entries]
    for at, statistic in zip(x, found):
      plots.single_seeds(ax, at + 0.05, statistic, color)
    style = {'color': color, 'marker': marker, 'linestyle': line, 'label': label}
    plots.series(ax, x, found, markerfacecolor='white', **style)
  ax.axhline(0, color=BLACK, linewidth=0.8)
  ax.set_xlim(-0.5, len(entries) - 0.5)
  ax.legend(loc='lower center', bbox_to_anchor=(0.5, 1.0), ncols=3, columnspacing=1.0)


def _against_drift(ax, doses: list[dict]) -> None:
  """The gap against drift in place of the change rates: seeds, and means by dose."""
  ax.clear()
  ax.grid(True)
  for x in doses:
    drift, gap = x['final']['drift'], x['final']['gap']
    ax.plot(*(100 * np.array(s['per_seed']) for s in (drift, gap)), '.', color=BLUE)
    mean = 100 * drift['mean'], 100 * gap['mean']
    ax.plot(*mean, 'D', color=BLACK, markerfacecolor='white', markersize=4.5)
    ax.annotate(x['label'], mean, (4, 4), textcoords='offset points')
  ax.axhline(0, color=BLACK, linewidth=0.8)
  ax.set_xlabel('drift, % of items (diamonds: means, with the weight)')
  ax.set_ylabel('Self − Orig, points')
