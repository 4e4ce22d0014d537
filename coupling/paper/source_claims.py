"""Labels of other models and checkpoints: at what similarity does Self win?"""

import functools

import numpy as np

from coupling.config.schema import Study
from coupling.paper import layout
from coupling.paper import rules
from coupling.paper import sources_figures
from coupling.paper.paper_seeds import Parts, short
from coupling.paper.rules import Row
from coupling.paper.sources_figures import ABOUT, LINEAGE, OTHER, OWN
from coupling.report.numerals import decimal, percent, points, signed
from coupling.report.tables import Table
from coupling.statistics import across_seeds
from coupling.statistics import reliance

CHECKPOINT = 'step:'  # begins Train.labels of earlier checkpoints of the same lineage
ABOUT_LOW, ABOUT_HIGH = 0.6, 0.8  # what is called about ABOUT
TESTED = {
  'sources': 'Labels come from earlier checkpoints of the model’s own pretraining, '
  'from other models, and from mixtures of these with its own. Similarity: how far the '
  'labels trained on agree with the behaviour after training, on held-out items. Runs '
  'of one seed share much, so each seed has a line of its own, and the crossing of the '
  'mean line has Fieller’s interval over seeds. The raw difference shrinks by itself '
  'the more both agree: statements that follow behaviour in a share p of the items and '
  'labels in q have Self − Target = (p − q)(1 − similarity), which falls for whoever '
  'always follows behaviour. So decisions are on the weights, which are p − q at every '
  'similarity, and which denial has none of.',
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


def numbers(study: Study, parts: Parts) -> dict:
  """Every run's similarity and Self - Target, and where that crosses zero."""
  own = next(
    (name for name in study.runs if source(parts, name) == OWN), parts.role('main')
  )
  entries = [_entry(parts, name, own) for name in study.runs]

  lines = {
    'weights': crossing(entries, 'weights.answer'),
    'raw': crossing(entries, 'final.target_gap'),
  }
  return {'runs': entries, 'own': own, 'lines': lines}


def crossing(entries: list[dict], key: str) -> dict:
  """across_seeds.zero_crossing of a statistic on similarity, over runs and seeds."""
  similarity_SxR, value_SxR = (
    np.transpose([layout.lookup(x, k)['per_seed'] for x in entries]).astype(float)
    for k in ('final.behavior_similarity', key)
  )
  seen = [float(similarity_SxR.min()), float(similarity_SxR.max())]
  # Where one is undefined, no line is drawn, and nothing is located.
  known = np.isfinite(value_SxR).all()
  line = (np.where(known, x, 0.0) for x in (similarity_SxR, value_SxR))
  found = across_seeds.zero_crossing(*line)
  for name in ('slope', 'crossing'):
    value, low, high = found[name].values()
    per_seed = found['slopes'] if name == 'slope' else _crossings(found)
    found[name] = {'mean': value, 'low': low, 'high': high, 'per_seed': per_seed}
  return found | {'seen': seen}


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
    key: reliance.siding_weights(items, target, answer_only=only)['difference']
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
  weights, raw = found['lines']['weights'], found['lines']['raw']
  result = [
    Row(
      'The more the labels agree with current behaviour, the more explanations follow '
      'behaviour rather than labels (weights on v’)',
      f'slope {signed(weights["slope"])}; raw {signed(raw["slope"])}',
      rising(found),
      'slope of the weights on v’, self − target, on similarity, a line for each seed, '
      'above 0; disagrees where it is below 0 and labels are shown to win in some run '
      '(weights below 0)',
    ),
    Row(
      f'Self − Target (weights on v’) crosses zero at a similarity of about {ABOUT}',
      f'{_located(weights)}; raw {_located(raw)}',
      about(found),
      f'slope of the weights above 0, and Fieller’s interval of their crossing inside '
      f'{ABOUT_LOW} to {ABOUT_HIGH}; disagrees where it is wholly outside, or where '
      'the row above disagrees; not located where the interval of the slope includes '
      '0; not decided where neither the crossing nor this range was reached by any run',
    ),
  ]
  foreign = _foreign(found)
  if not foreign:
    return result
  shown = '; '.join(f'{short(x["name"])}: {{}}' for x in foreign)
  gaps = [(x['final']['target_gap'], x['weights']['answer']) for x in foreign]
  falls = [x['fall']['self_accuracy'] for x in foreign]
  result += [
    Row(
      'With all labels of another model, explanations still follow the own behaviour',
      shown.format(*(f'{points(gap)}, weights {signed(x)}' for gap, x in gaps)),
      rules.every(rules.above(x) for pair in gaps for x in pair),
      'Self − Target above 0 for every such model, and the weights on v’ too',
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


def rising(found: dict) -> str:
  """Whether weights rise with similarity.

  A fall says nothing against it while no run's labels win: whoever always follows
  behaviour has no crossing to show.
  """
  rises = rules.above(found['lines']['weights']['slope'])
  lost = [rules.below(x['weights']['answer']) for x in found['runs']]
  beaten = rules.AGREES in lost
  return rises if rises == rules.AGREES or beaten else rules.UNDECIDED


def about(found: dict) -> str:
  """Whether the weights rise through zero at a similarity of about ABOUT."""
  rises, line = rising(found), found['lines']['weights']
  if rises != rules.AGREES:
    return rises
  least, most = line['seen']
  if line['extrapolated'] and not least < ABOUT_LOW < ABOUT_HIGH < most:
    return rules.UNDECIDED
  return rules.between(line['crossing'], ABOUT_LOW, ABOUT_HIGH)


def _located(line: dict) -> str:
  where = line['crossing']
  return 'not located' if where['mean'] is None else decimal(where)


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
    'Self − Target against the similarity of labels and behaviour, by the weights '
    '(left) and raw (right): symbols are runs, with 95% intervals and their number in '
    'the table, dots single seeds.'
  )
  return {'sources': (caption, functools.partial(sources_figures.draw, found))}


def finding(study: Study, found: dict) -> str:
  """Where the gap crosses zero, and what all foreign labels do."""
  weights, raw = found['lines']['weights'], found['lines']['raw']
  where = weights['crossing']
  text = (
    f'By the weights, Self − Target changes by {signed(weights["slope"])} per unit of '
    f'similarity, raw by {signed(raw["slope"])}; raw, a part of that is arithmetic: '
    'whoever always follows behaviour has less of a difference the more the labels '
    'agree with it. '
  )
  if where['mean'] is None:
    text += (
      'Where the weights cross zero is not located: the interval of that slope '
      f'includes 0, or there is one seed. Raw: {_located(raw)}.'
    )
  else:
    text += f'The weights cross zero at a similarity of {decimal(where)} (the paper, '
    text += f'raw: about {ABOUT}); raw: {_located(raw)}.'
    if weights['extrapolated']:
      text += ' That lies outside the similarities of all runs: an extrapolation.'
  for x in _foreign(found):
    text += (
      f' With all labels of another model ({short(x["name"])}, similarity '
      f'{percent(x["final"]["behavior_similarity"])}), Self − Target is '
      f'{points(x["final"]["target_gap"])} points, the weights differ by '
      f'{signed(x["weights"]["answer"])}, and Self is '
      f'{points(x["fall"]["self_accuracy"])} points from that with own labels (the '
      'paper: −19).'
    )
  return text
