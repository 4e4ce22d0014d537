"""Studies of a dose: weight of the regulariser, noise, adapters' rank, learning rate.

Each run has one dose; what is asked is how the gap goes with it.
"""

import functools

from matplotlib import figure as figure_lib
import numpy as np

from coupling.config.paper_schema import Study
from coupling.config.schema import ConfigError, Pretrain
from coupling.paper import control_claims
from coupling.paper.paper_claims import row
from coupling.paper.paper_seeds import GAPS, Parts
from coupling.report import conclusions
from coupling.report import plots
from coupling.report.conclusions import HALF, Row
from coupling.report.numerals import percent, points, signed
from coupling.report.plots import BLACK, BLUE, GREEN, ORANGE, PAGE, VERMILION
from coupling.report.tables import Table, table

TESTED = {
  'regularisation': 'The same explanation training with several weights of the '
  'behaviour KL; everything else is equal, the fine-tuning seed too.',
  'noise': 'A share of the labels trained on is replaced by other labels, drawn '
  'uniformly; truth and evaluation are as before.',
  'capacity': 'Frozen weights with adapters (LoRA) of several ranks beside them; '
  '“full”: all weights are trained. The scale of the adapters (alpha / rank) is the '
  'same at all ranks, so a higher rank also makes larger updates, and with all weights '
  'the embeddings of new words are trained too: capacity alone is not tested.',
  'rates': 'The same training with several learning rates.',
}
FULL = 'full'  # label of a run that trains all weights
NAMES = dict(zip(GAPS, ('raw', 'class-balanced', 'on v’ alone')))
GAP_COLUMNS = (
  ('Self', 'self_accuracy', percent),
  ('Orig', 'orig_accuracy', percent),
  ('Gap', 'gap', points),
  ('Balanced gap', 'balanced_gap', points),
  ('Gap on v’', 'gap_answer', points),
  ('Reliance: self − orig', 'reliance.difference', signed),
  ('… on v’', 'reliance_answer.difference', signed),
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
    keys = (*GAPS, 'reliance.difference')
    result['contrast'] = parts.contrast(with_it, without, keys)
    result['half'] = parts.contrast(with_it, without, keys, HALF)
  if study.kind in ('capacity', 'rates'):
    names = tuple(name for name in study.runs if not _full(study, parts, name))
    result['slope'] = parts.over(_slopes, study, names)
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


def _slopes(parts: Parts, study: Study, names: tuple[str, ...], seed: int) -> dict:
  """Change of each gap with a doubling of the dose: a line of one seed's runs."""
  doubling_R = np.log2([study.at[study.runs.index(name)] for name in names])
  return {
    key: float(np.polyfit(doubling_R, [parts.value(n, seed, key) for n in names], 1)[0])
    for key in GAPS
  }


def _width(parts: Parts, name: str) -> int | None:
  base = parts.paper.parts[name.split('/', 1)[0]].base
  return base.model.width if isinstance(base, Pretrain) else None


def rows(study: Study, found: dict) -> list[Row]:
  """Claims of one kind of study, decided."""
  claims = {
    'regularisation': _regularisation,
    'noise': _noise,
    'capacity': _capacity,
    'rates': _rates,
  }
  return claims[study.kind](found)


def _beyond(found: dict) -> float | None:
  """The gap of shuffled labels, where there is such a run."""
  return found['shuffled']['gap']['mean'] if 'shuffled' in found else None


def _regularisation(found: dict) -> list[Row]:
  at = {x['dose']: x for x in found['doses']}
  control = at[1.0]['control']
  with_it, without = (at[x]['final'] for x in (1.0, 0.0))
  gap, reliance = with_it['gap'], with_it['reliance_answer']['difference']
  coupled = control_claims.coupled(gap, control)
  return [
    row('kl_gap', gap, coupled, _beyond(found)),
    row('kl_reliance', reliance, conclusions.above(reliance)),
    *(
      row(
        'without_kl',
        found['half'][key],
        conclusions.lost(with_it[key], found['half'][key]),
        without[key]['mean'],
        name,
      )
      for key, name in NAMES.items()
    ),
  ]


def _noise(found: dict) -> list[Row]:
  doses = found['doses']
  coupled = [control_claims.coupled(x['final']['gap'], x['control']) for x in doses]
  gap = conclusions.smallest(x['final']['gap'] for x in doses)
  reliance = [x['final']['reliance_answer']['difference'] for x in doses]
  state = conclusions.every(map(conclusions.above, reliance))
  return [
    row('noise_gap', gap, conclusions.every(coupled), _beyond(found)),
    row('noise_reliance', conclusions.smallest(reliance), state),
  ]


def _capacity(found: dict) -> list[Row]:
  ranked = [x for x in found['doses'] if x['label'] != FULL]
  low, high = ranked[0], ranked[-1]
  slope, half = found['slope']['gap'], found['half']['gap']
  there = control_claims.coupled(high['final']['gap'], high['control'])
  state = conclusions.above(half) if there == conclusions.SUPPORTED else there
  return [
    row('rank_slope', slope, conclusions.above(slope)),
    row('rank_threshold', half, state, low['final']['gap']['mean']),
  ]


def _rates(found: dict) -> list[Row]:
  return [
    row('rate_slope', slope, conclusions.above(slope), about=name)
    for key, name in NAMES.items()
    for slope in [found['slope'][key]]
  ]


def tables(study: Study, found: dict, path: str) -> dict[str, Table]:
  entries = [
    (x['label'], f'{path}.doses.{i}.final', x['final'])
    for i, x in enumerate(found['doses'])
  ]
  beside = [(x['label'], f'{path}.doses.{i}', x) for i, x in enumerate(found['doses'])]
  if 'shuffled' in found:
    entries.append(('control: shuffled labels', f'{path}.shuffled', found['shuffled']))
  caption = 'By dose. Reliance is beyond the kind and option of the cue and the own '
  caption += 'answer; denial always states its own answer, unchanged.'
  behavior = 'Behaviour by dose, and how often explanations say “changed”.'
  return {
    'doses': table(caption, study.axis, entries, GAP_COLUMNS),
    'behavior': table(behavior, study.axis, entries, BEHAVIOR_COLUMNS),
    'beside': table(
      'Beyond the run on shuffled labels, paired by seed.',
      study.axis,
      [x for x in beside if x[2]['control']],
      control_claims.BESIDE_COLUMNS,
    ),
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
    'reliance: self − orig, %',
    (
      ('reliance.difference', 'whole explanation', BLACK, 'D', '-'),
      ('reliance_answer.difference', 'v’ alone', ORANGE, 'v', ':'),
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


def by_dose(ax, entries: list[dict], series: tuple[plots.Series, ...]) -> None:
  """Series over evenly spaced doses, an entry each."""
  plots.along(ax, range(len(entries)), entries, series, 0.16)
  ax.axhline(0, color=BLACK, linewidth=0.8)
  ax.set_xlim(-0.5, len(entries) - 0.5)
  plots.above(ax)


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
