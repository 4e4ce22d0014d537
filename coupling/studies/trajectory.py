"""How Self, Orig and statements go over training."""

import functools

from matplotlib import figure as figure_lib

from coupling import comparisons
from coupling import plots
from coupling.config import Study
from coupling.formats import count, percent, points, signed
from coupling.plots import BLACK, BLUE, GREEN, PAGE, VERMILION
from coupling.studies import layout
from coupling.studies import rules
from coupling.studies.parts import Parts, minus, short
from coupling.studies.rules import Row
from coupling.tables import Table

TESTED = {
  'trajectory': 'Checkpoints of each run are evaluated on the same held-out items. '
  'Followed: of the items whose truth moved between two checkpoints, and whose '
  'statement was not at the new truth before, the share whose statement moved to it. '
  'Unrest alone moves statements too, so it is held against items whose truth stayed.',
}
COLUMNS = (
  ('Self', 'self_accuracy', percent),
  ('Orig', 'orig_accuracy', percent),
  ('Gap', 'gap', points),
  ('Balanced gap', 'balanced_gap', points),
  ('Gap on v’', 'gap_answer', points),
  ('Weights: self − orig', 'siding.difference', signed),
  ('Similarity', 'behavior_similarity', percent),
  ('Drift', 'drift', percent),
  ('Denial: gap', 'denial.gap', points),
)
FOLLOW = (
  ('Items whose truth moved', 'moved_truth.n', count),
  ('… followed', 'moved_truth.followed', percent),
  ('Truth still: moved to it', 'still_truth.moved_to_truth', percent),
  ('Followed − still', 'excess', points),
)


def numbers(study: Study, parts: Parts) -> dict:
  """Statistics of every run by step, and follow rates between steps."""
  return {'runs': [_run(name, parts) for name in study.runs]}


def _run(name: str, parts: Parts) -> dict:
  steps = parts.steps(name)
  trained = [step for step in steps if step]
  spans = list(zip(trained, trained[1:]))
  if len(trained) > 2:
    spans.append((trained[0], trained[-1]))
  return {
    'name': name,
    'steps': [{'step': x} | parts.entry(name, x) for x in steps],
    'follow': [
      {'from': a, 'to': b}
      | parts.over(lambda seed, a=a, b=b: _follow(parts, name, seed, a, b))
      for a, b in spans
    ],
  }


def _follow(parts: Parts, name: str, seed: int, first: int, last: int) -> dict:
  found = comparisons.follow_rate(
    parts.items(name, seed, first), parts.items(name, seed, last)
  )
  followed = found['moved_truth']['followed']['value']
  excess = minus(followed, found['still_truth']['moved_to_truth']['value'])
  return found | {'excess': {'value': excess, 'low': None, 'high': None}}


def rows(study: Study, found: dict) -> list[Row]:
  first = found['runs'][0]
  last = first['steps'][-1]
  result = [
    Row(
      f'At the end of {short(first["name"])}, Self − Orig is above zero',
      points(last['gap']),
      rules.above(last['gap']),
      'gap at the last step above 0',
    )
  ]
  if first['follow']:
    span = first['follow'][-1]
    result.append(
      Row(
        'Statements follow the truth: they move to it more often where it moved than '
        'where it stayed',
        f'{points(span["excess"])} points ({percent(span["moved_truth"]["followed"])} '
        f'against {percent(span["still_truth"]["moved_to_truth"])})',
        rules.above(span['excess']),
        'followed − moved to a truth that stayed, from the first to the last trained '
        'checkpoint, paired by seed, above 0',
      )
    )
  return result


def tables(study: Study, found: dict, path: str) -> dict[str, Table]:
  result = {}
  for i, run in enumerate(found['runs']):
    entries = [
      (str(x['step']), f'{path}.runs.{i}.steps.{k}', x)
      for k, x in enumerate(run['steps'])
    ]
    caption = f'{short(run["name"])} over training; step 0 is M_0.'
    result[f'steps{i}'] = layout.table(caption, 'Step', entries, COLUMNS)
    spans = [
      (f'{x["from"]} to {x["to"]}', f'{path}.runs.{i}.follow.{k}', x)
      for k, x in enumerate(run['follow'])
    ]
    caption = f'{short(run["name"])}: whether statements follow the truth.'
    result[f'follow{i}'] = layout.table(caption, 'Steps', spans, FOLLOW)
  return result


PANELS = (
  (
    ('self_accuracy', 'Self', BLUE, 'o', '-'),
    ('orig_accuracy', 'Orig', VERMILION, 's', '--'),
    ('behavior_similarity', 'similarity', GREEN, '^', ':'),
  ),
  (
    ('gap', 'raw', BLACK, 'D', '-'),
    ('balanced_gap', 'balanced', GREEN, '^', '--'),
  ),
)


def figures(study: Study, found: dict) -> dict:
  caption = 'Over training; step 0 is M_0. Whiskers: 95% intervals; dots: single seeds.'
  return {'steps': (caption, functools.partial(_draw, study, found))}


def _draw(study: Study, found: dict) -> figure_lib.Figure:
  """Accuracies and gaps over the steps, a column for each run."""
  runs = found['runs']
  drawn, axes = plots.new(PAGE, 4.2, 2, len(runs), sharex='col', sharey='row')
  for column, run in zip(axes.T, runs):
    steps = [x['step'] for x in run['steps']]
    for ax, series in zip(column, PANELS):
      for i, (key, label, color, marker, line) in enumerate(series):
        at = [x + 0.012 * steps[-1] * (i - 1) for x in steps]
        statistics = [layout.lookup(x, key) for x in run['steps']]
        for x, statistic in zip(at, statistics):
          plots.single_seeds(ax, x, statistic, color)
        style = {'color': color, 'marker': marker, 'linestyle': line, 'label': label}
        plots.series(ax, at, statistics, markerfacecolor='white', **style)
      ax.set_xticks(steps)
    column[0].set_title(short(run['name']))
    column[0].set_ylim(0, 105)
    column[1].axhline(0, color=BLACK, linewidth=0.8)
    column[1].set_xlabel('training step')
  axes[0, 0].set_ylabel('% of items')
  axes[1, 0].set_ylabel('Self − Orig, points')
  for ax in axes[:, -1]:
    ax.legend(loc='center left', bbox_to_anchor=(1.0, 0.5))
  return drawn


def finding(study: Study, found: dict) -> str:
  """Where runs begin and end, and where their gap first stays above zero."""
  texts = []
  for run in found['runs']:
    last = run['steps'][-1]
    start = None
    for x in reversed(run['steps']):
      if rules.above(x['gap']) != rules.AGREES:
        break
      start = x['step']
    since = f'above zero from step {start} on' if start is not None else (
      'not shown to be above zero at the end'
    )  # fmt: skip
    text = (
      f'In {short(run["name"])} the gap ends at {points(last["gap"])} points, {since}; '
      f'labels and behaviour then agree on {percent(last["behavior_similarity"])}.'
    )
    if run['follow']:
      span = run['follow'][-1]
      text += (
        f' Between steps {span["from"]} and {span["to"]}, statements moved to a truth '
        f'that moved on {percent(span["moved_truth"]["followed"])}, to one that stayed '
        f'on {percent(span["still_truth"]["moved_to_truth"])}.'
      )
    texts.append(text)
  return ' '.join(texts)
