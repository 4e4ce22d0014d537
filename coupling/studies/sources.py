"""Labels of other models and checkpoints: at what similarity does Self win?"""

import functools

from matplotlib import figure as figure_lib
import numpy as np

from coupling import plots
from coupling import runs as runs_lib
from coupling import siding
from coupling.config import Study
from coupling.formats import decimal, percent, points, signed
from coupling.plots import BLACK, BLUE, GREEN, ORANGE, PAGE, VERMILION
from coupling.studies import layout
from coupling.studies import rules
from coupling.studies.parts import Parts, short
from coupling.studies.rules import Row
from coupling.tables import Table

CHECKPOINT = 'step:'  # begins Train.labels of earlier checkpoints of the same lineage
ABOUT = 0.7  # where the paper sees the gap cross zero, and what is called about that
ABOUT_LOW, ABOUT_HIGH = 0.6, 0.8
TESTED = {
  'sources': 'Labels come from earlier checkpoints of the model’s own pretraining, '
  'from other models, and from mixtures of these with its own. Similarity: how far the '
  'labels trained on agree with the behaviour after training, on held-out items. Runs '
  'of one seed share much, so each seed has a line of its own, and the crossing of the '
  'mean line has Fieller’s interval over seeds.',
}
COLUMNS = (
  ('Similarity', 'final.behavior_similarity', percent),
  ('Self', 'final.self_accuracy', percent),
  ('Target', 'final.target_accuracy', percent),
  ('Self − Target', 'final.target_gap', points),
  ('Weights: self − target', 'weights.whole', signed),
  ('… on v’', 'weights.answer', signed),
  ('Self less that with own labels', 'fall.self_accuracy', points),
)
OWN, LINEAGE, OTHER = 'own labels', 'own lineage', 'another model'
MARKS = {OWN: ('o', BLUE), LINEAGE: ('^', GREEN), OTHER: ('s', VERMILION)}


def numbers(study: Study, parts: Parts) -> dict:
  """Every run's similarity and Self - Target, and where that crosses zero."""
  own = next(
    (name for name in study.runs if source(parts, name) == OWN), parts.role('main')
  )
  entries = [_entry(parts, name, own) for name in study.runs]

  def by_seed(key: str) -> list[list[float]]:
    values = [layout.lookup(x['final'], key)['per_seed'] for x in entries]
    return np.transpose(values).tolist()

  similarity_SxR, gap_SxR = by_seed('behavior_similarity'), by_seed('target_gap')
  crossing = runs_lib.zero_crossing(similarity_SxR, gap_SxR)
  for key in ('slope', 'crossing'):
    value, low, high = crossing[key].values()
    per_seed = crossing['slopes'] if key == 'slope' else _crossings(crossing)
    crossing[key] = {'mean': value, 'low': low, 'high': high, 'per_seed': per_seed}
  crossing['seen'] = [float(np.min(similarity_SxR)), float(np.max(similarity_SxR))]
  return {'runs': entries, 'own': own, 'crossing': crossing}


def source(parts: Parts, name: str) -> str:
  """Whose labels a run was trained on: OWN, LINEAGE or OTHER."""
  labels = parts.train(name).labels
  if not labels:
    return OWN
  return LINEAGE if labels.startswith(CHECKPOINT) else OTHER


def _entry(parts: Parts, name: str, own: str) -> dict:
  whose = source(parts, name)
  return {
    'name': name,
    'source': whose,
    'mixture': parts.train(name).mixture if whose != OWN else 0.0,
    'final': parts.entry(name),
    'weights': parts.over(lambda seed: _weights(parts, name, seed)),
    'fall': parts.contrast(name, own, ('self_accuracy',)),
  }


def _weights(parts: Parts, name: str, seed: int) -> dict:
  items, target = parts.items(name, seed), parts.target(name, seed)
  return {
    key: siding.siding_weights(items, target, answer_only=only)['difference']
    for key, only in (('whole', False), ('answer', True))
  }


def _crossings(found: dict) -> list[float | None]:
  """Where the line of each seed crosses zero; None where it is flat."""
  lines = zip(found['intercepts'], found['slopes'])
  return [-a / b if b else None for a, b in lines]


def _foreign(found: dict) -> list[dict]:
  """Runs whose labels are all of another model."""
  return [x for x in found['runs'] if x['source'] == OTHER and x['mixture'] == 1]


def rows(study: Study, found: dict) -> list[Row]:
  crossing, slope = found['crossing']['crossing'], found['crossing']['slope']
  located = crossing['mean'] is not None
  result = [
    Row(
      'The more the labels agree with current behaviour, the more explanations follow '
      'behaviour rather than labels',
      f'slope {signed(slope)}',
      rules.above(slope),
      'slope of Self − Target on similarity, a line for each seed, above 0',
    ),
    Row(
      f'Self − Target crosses zero at a similarity of about {ABOUT}',
      decimal(crossing) if located else 'not located',
      about(found['crossing']),
      f'slope above 0, and Fieller’s interval of the crossing inside {ABOUT_LOW} to '
      f'{ABOUT_HIGH}; disagrees where it is wholly outside, or the slope below 0; not '
      'located where the interval of the slope includes 0; not decided where neither '
      'the crossing nor this range was reached by any run',
    ),
  ]
  foreign = _foreign(found)
  if not foreign:
    return result
  shown = '; '.join(f'{short(x["name"])}: {{}}' for x in foreign)
  gaps = [x['final']['target_gap'] for x in foreign]
  falls = [x['fall']['self_accuracy'] for x in foreign]
  result += [
    Row(
      'With all labels of another model, explanations still follow the own behaviour',
      shown.format(*map(points, gaps)),
      rules.every(map(rules.above, gaps)),
      'Self − Target above 0 for every such model',
    ),
    Row(
      'With all labels of another model, explanations are less accurate (paper: 19 '
      'points)',
      shown.format(*map(points, falls)),
      rules.every(map(rules.below, falls)),
      'Self less Self with own labels, paired by seed, below 0 for every such model',
    ),
  ]
  return result


def about(found: dict) -> str:
  """Whether the gap rises through zero at a similarity of about ABOUT."""
  rises = rules.above(found['slope'])
  if rises != rules.AGREES:
    return rises
  least, most = found['seen']
  if found['extrapolated'] and not least < ABOUT_LOW < ABOUT_HIGH < most:
    return rules.UNDECIDED
  return rules.between(found['crossing'], ABOUT_LOW, ABOUT_HIGH)


def tables(study: Study, found: dict, path: str) -> dict[str, Table]:
  entries = [
    (f'{i + 1} {short(x["name"])}', f'{path}.runs.{i}', x)
    for i, x in enumerate(found['runs'])
  ]
  return {
    'sources': layout.table(
      'By source of the labels, at the final checkpoint; the share is that of labels '
      'that are not the model’s own. Numbers are those of the figure.',
      'Run',
      entries,
      COLUMNS,
      ('Labels of', 'Share'),
      lambda x: (x['source'], f'{x["mixture"]:.0%}'),
    )
  }


def figures(study: Study, found: dict) -> dict:
  caption = (
    'Self − Target against the similarity of labels and behaviour: symbols are runs, '
    'with 95% intervals and their number in the table, dots single seeds.'
  )
  return {'sources': (caption, functools.partial(_draw, study, found))}


def _draw(study: Study, found: dict) -> figure_lib.Figure:
  """Self - Target against similarity: seeds, runs, the mean line and its crossing."""
  drawn, ((ax,),) = plots.new(PAGE, 3.8)
  ax.grid(True)
  shown, seen = set(), []
  for i, x in enumerate(found['runs']):
    similarity, gap = x['final']['behavior_similarity'], x['final']['target_gap']
    marker, color = MARKS[x['source']]
    pair = (100 * np.array(s['per_seed']) for s in (similarity, gap))
    ax.plot(*pair, '.', color=color, markersize=2.5)
    seen += similarity['per_seed']
    label = None if x['source'] in shown else x['source']
    shown.add(x['source'])
    style = {'color': color, 'markerfacecolor': 'white', 'label': label}
    errors = plots.errors([similarity])
    at = plots.means([similarity])
    plots.series(ax, at, [gap], fmt=marker, xerr=errors, **style)
    spot = at[0], plots.means([gap])[0]
    ax.annotate(str(i + 1), spot, (5, 5), textcoords='offset points')
  ax.axhline(0, color=BLACK, linewidth=0.8)
  _line(ax, found['crossing'], seen)
  ax.set_xlabel('similarity of the labels trained on and behaviour, % of items')
  ax.set_ylabel('Self − Target, points')
  ax.legend(loc='center left', bbox_to_anchor=(1.0, 0.5))
  return drawn


def _line(ax, crossing: dict, seen: list[float]) -> None:
  """The mean line over the similarities seen, and the crossing's interval."""
  if crossing['slope']['mean'] is None:
    return
  ends = np.array([min(seen), max(seen)])
  height = np.mean(crossing['intercepts']) + crossing['slope']['mean'] * ends
  ax.plot(100 * ends, 100 * height, color=BLACK, linewidth=1, label='mean line')
  where = crossing['crossing']
  if where['mean'] is not None:
    bounds = 100 * where['low'], 100 * where['high']
    ax.axvspan(*bounds, color='#dddddd', zorder=0, label='crossing, 95%')
  ax.axvline(100 * ABOUT, color=ORANGE, linestyle=':', label='crossing, paper')


def finding(study: Study, found: dict) -> str:
  """Where the gap crosses zero, and what all foreign labels do."""
  crossing = found['crossing']
  where, slope = crossing['crossing'], crossing['slope']
  text = f'Self − Target changes by {signed(slope)} per unit of similarity. '
  if where['mean'] is None:
    text += (
      'Where it crosses zero is not located: the interval of that slope includes 0, '
      'or there is one seed.'
    )
  else:
    text += f'It crosses zero at a similarity of {decimal(where)}'
    text += f' (the paper: about {ABOUT}).'
    if crossing['extrapolated']:
      text += ' That lies outside the similarities of all runs: an extrapolation.'
  for x in _foreign(found):
    text += (
      f' With all labels of another model ({short(x["name"])}, similarity '
      f'{percent(x["final"]["behavior_similarity"])}), Self − Target is '
      f'{points(x["final"]["target_gap"])} points, the weights differ by '
      f'{signed(x["weights"]["whole"])}, and Self is '
      f'{points(x["fall"]["self_accuracy"])} points from that with own labels (the '
      'paper: −19).'
    )
  return text
