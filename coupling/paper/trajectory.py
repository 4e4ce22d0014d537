"""How Self, Orig and statements go over training."""

import dataclasses
import functools

from matplotlib import figure as figure_lib

from coupling.config.paper_schema import Study
from coupling.paper import control_claims
from coupling.paper.paper_claims import row
from coupling.paper.paper_seeds import Parts, minus, short
from coupling.report import conclusions
from coupling.report import plots
from coupling.report.conclusions import Row
from coupling.report.numerals import count, percent, points, signed
from coupling.report.plots import BLACK, BLUE, GREEN, PAGE, VERMILION
from coupling.report.tables import Table, table
from coupling.statistics import baselines
from coupling.statistics import contrasts

TESTED = {
  'trajectory': 'Checkpoints of each run are evaluated on the same held-out items. '
  'Followed: of the items whose truth moved between two checkpoints, and whose '
  'statement was not at the new truth before, the share whose statement moved to it. '
  'Unrest alone moves statements too, so it is held against items whose truth stayed. '
  'Learning the labels moves statements to M_0’s truth, so items whose truth at the '
  'later checkpoint is M_0’s are in neither. Denial follows too, as the own answer is '
  'a part of the truth.',
}
COLUMNS = (
  ('Self', 'self_accuracy', percent),
  ('Orig', 'orig_accuracy', percent),
  ('Gap', 'gap', points),
  ('Balanced gap', 'balanced_gap', points),
  ('Gap on v’', 'gap_answer', points),
  ('Reliance: self − orig', 'reliance.difference', signed),
  ('Similarity', 'behavior_similarity', percent),
  ('Drift', 'drift', percent),
  ('Denial: gap', 'denial.gap', points),
)
FOLLOW = (
  ('Items whose truth moved', 'moved_truth.n', count),
  ('… followed', 'moved_truth.followed', percent),
  ('Truth still: moved to it', 'still_truth.moved_to_truth', percent),
  ('Followed − still', 'excess', points),
  ('Denial: followed', 'denial.followed', percent),
  ('Denial: followed − still', 'denial.excess', points),
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
    'control': parts.over_shuffled(name),
    'steps': [{'step': x} | parts.entry(name, x) for x in steps],
    'follow': [
      {'from': a, 'to': b} | parts.over(_follow, name, a, b) for a, b in spans
    ],
  }


def _follow(parts: Parts, name: str, first: int, last: int, seed: int) -> dict:
  items = [parts.items(name, seed, step) for step in (first, last)]
  denied = [dataclasses.replace(x, stated=baselines.denial(x)) for x in items]
  orig = parts.orig(name, seed)
  found, denial = (contrasts.follow_rate(*x, orig) for x in (items, denied))
  excess, denied_excess = _excess(found), _excess(denial)
  followed = denial['moved_truth']['followed']
  return found | {
    'excess': excess,
    'denial': {'followed': followed, 'excess': denied_excess},
    'over_denial': minus(excess, denied_excess),
  }


def _excess(found: dict) -> float | None:
  """Followed where the truth moved, minus moved to a truth that stayed."""
  moved, still = found['moved_truth'], found['still_truth']
  return minus(moved['followed']['value'], still['moved_to_truth']['value'])


def rows(study: Study, found: dict) -> list[Row]:
  first = found['runs'][0]
  last, name = first['steps'][-1]['gap'], short(first['name'])
  coupled = control_claims.coupled(last, first['control'])
  result = [row('last_gap', last, coupled, about=name)]
  if first['follow']:
    span = first['follow'][-1]
    excess, denial = span['excess'], span['denial']['excess']['mean']
    over = conclusions.above(span['over_denial'])
    state = conclusions.provided(conclusions.above(excess), over)
    result.append(row('follows_truth', excess, state, denial, name))
  return result


def tables(study: Study, found: dict, path: str) -> dict[str, Table]:
  result = {}
  for i, run in enumerate(found['runs']):
    entries = [
      (str(x['step']), f'{path}.runs.{i}.steps.{k}', x)
      for k, x in enumerate(run['steps'])
    ]
    caption = f'{short(run["name"])} over training; step 0 is M_0.'
    result[f'steps{i}'] = table(caption, 'Step', entries, COLUMNS)
    spans = [
      (f'{x["from"]} to {x["to"]}', f'{path}.runs.{i}.follow.{k}', x)
      for k, x in enumerate(run['follow'])
    ]
    caption = f'{short(run["name"])}: whether statements follow the truth.'
    result[f'follow{i}'] = table(caption, 'Steps', spans, FOLLOW)
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
      plots.along(ax, steps, run['steps'], series, 0.012 * steps[-1])
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
