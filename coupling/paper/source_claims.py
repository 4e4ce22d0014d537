"""Labels of other models and checkpoints: at what similarity does Self win?"""

import functools

import numpy as np

from coupling.config.paper_schema import Study
from coupling.paper import sources_figures
from coupling.paper.paper_claims import ABOUT, ABOUT_HIGH, ABOUT_LOW, row
from coupling.paper.paper_seeds import Parts, short
from coupling.paper.sources_figures import LINEAGE, OTHER, OWN
from coupling.report import conclusions
from coupling.report.conclusions import Row
from coupling.report.numerals import decimal, percent, points, signed
from coupling.report.tables import Table, lookup, table
from coupling.statistics import across_seeds
from coupling.statistics import intervals
from coupling.statistics import reliance

CHECKPOINT = 'step:'  # begins Train.labels of earlier checkpoints of the same lineage
PAPER_FALL = -0.19  # of Self, in the paper
TESTED = {
  'sources': 'Labels come from earlier checkpoints of the model’s own pretraining, '
  'from other models, and from mixtures of these with its own. Similarity: how far the '
  'labels trained on agree with the behaviour after training, on held-out items. Runs '
  'of one seed share much, so each seed has a line of its own, and the crossing of the '
  'mean line has Fieller’s interval over seeds. The raw difference shrinks by itself '
  'the more both agree: statements that follow behaviour in a share p of the items and '
  'labels in q have Self − Target = (p − q)(1 − similarity), which falls for whoever '
  'always follows behaviour. So decisions are on reliance, which is p − q at every '
  'similarity, and of which denial has none.',
}
COLUMNS = (
  ('Similarity', 'final.behavior_similarity', percent),
  ('Self', 'final.self_accuracy', percent),
  ('Target', 'final.target_accuracy', percent),
  ('Self − Target', 'final.target_gap', points),
  ('Reliance: self − target', 'weights.whole', signed),
  ('… on v’', 'weights.answer', signed),
  ('Self minus that with own labels', 'fall.self_accuracy', points),
)


def numbers(study: Study, parts: Parts) -> dict:
  """Every run's similarity and Self - Target, and where that crosses zero."""
  own = next(
    (name for name in study.runs if source(parts, name) == OWN), parts.role('main')
  )
  entries = [_entry(parts, name, own) for name in study.runs]
  lines = {
    'weights': crossing(entries, 'weights.answer', parts.confidence),
    'raw': crossing(entries, 'final.target_gap', parts.confidence),
  }
  return {'runs': entries, 'own': own, 'lines': lines}


def crossing(
  entries: list[dict], key: str, confidence: float = intervals.CONFIDENCE
) -> dict:
  """across_seeds.zero_crossing of a statistic on similarity, over runs and seeds."""
  similarity_SxR, value_SxR = (
    np.transpose([lookup(x, k)['per_seed'] for x in entries]).astype(float)
    for k in ('final.behavior_similarity', key)
  )
  seen = [float(similarity_SxR.min()), float(similarity_SxR.max())]
  # Where one is undefined, no line is drawn, and nothing is located.
  known = np.isfinite(value_SxR).all()
  line = (np.where(known, x, 0.0) for x in (similarity_SxR, value_SxR))
  found = across_seeds.zero_crossing(*line, confidence)
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
    'weights': parts.over(_weights, name),
    'fall': parts.contrast(name, own, ('self_accuracy',)),
  }


def _weights(parts: Parts, name: str, seed: int) -> dict:
  items, target = parts.items(name, seed), parts.target(name, seed)
  return {
    key: reliance.reliance_weights(items, target, answer_only=only)['difference']
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
  slope, where = weights['slope'], weights['crossing']
  result = [
    row('rises_with_similarity', slope, rising(found), raw['slope']['mean']),
    row('crossing', where, about(found), ABOUT),
  ]
  foreign = _foreign(found)
  if not foreign:
    return result
  names = ', '.join(short(x['name']) for x in foreign)
  gaps = [x['final']['target_gap'] for x in foreign]
  answers = [x['weights']['answer'] for x in foreign]
  falls = [x['fall']['self_accuracy'] for x in foreign]
  follow = conclusions.every(map(conclusions.above, gaps + answers))
  fall = conclusions.every(map(conclusions.below, falls))
  return [
    *result,
    row(
      'foreign_follow',
      conclusions.smallest(answers),
      follow,
      min((x['mean'] for x in gaps if x['mean'] is not None), default=None),
      names,
    ),
    row('foreign_fall', conclusions.largest(falls), fall, PAPER_FALL, names),
  ]


def rising(found: dict) -> str:
  """Whether weights rise with similarity.

  A fall says nothing against it while no run's labels win: whoever always follows
  behaviour has no crossing to show.
  """
  rises = conclusions.above(found['lines']['weights']['slope'])
  lost = [conclusions.below(x['weights']['answer']) for x in found['runs']]
  beaten = conclusions.SUPPORTED in lost
  return rises if rises == conclusions.SUPPORTED or beaten else conclusions.INCONCLUSIVE


def about(found: dict) -> str:
  """Whether the weights rise through zero at a similarity of about ABOUT."""
  rises, line = rising(found), found['lines']['weights']
  if rises != conclusions.SUPPORTED:
    return rises
  least, most = line['seen']
  if line['extrapolated'] and not least < ABOUT_LOW < ABOUT_HIGH < most:
    return conclusions.INCONCLUSIVE
  return conclusions.between(line['crossing'], ABOUT_LOW, ABOUT_HIGH)


LINES = (
  ('Slope', 'slope', signed),
  ('Crossing: similarity', 'crossing', decimal),
)


def tables(study: Study, found: dict, path: str) -> dict[str, Table]:
  lines = [(x, f'{path}.lines.{x}', found['lines'][x]) for x in ('weights', 'raw')]
  entries = [
    (f'{i + 1} {short(x["name"])}', f'{path}.runs.{i}', x)
    for i, x in enumerate(found['runs'])
  ]
  return {
    'sources': table(
      'By source of the labels, at the final checkpoint; the share is that of labels '
      'that are not the model’s own. Numbers are those of the figure.',
      'Run',
      entries,
      COLUMNS,
      ('Labels of', 'Share'),
      lambda x: (x['source'], f'{x["mixture"]:.0%}'),
    ),
    'lines': table(
      'Self − Target on similarity: mean lines, of reliance on v’ (weights) and raw.',
      '',
      lines,
      LINES,
    ),
  }


def figures(study: Study, found: dict) -> dict:
  caption = (
    'Self − Target against the similarity of labels and behaviour, by reliance '
    '(left) and raw (right): symbols are runs, with 95% intervals and their number in '
    'the table, dots single seeds.'
  )
  return {'sources': (caption, functools.partial(sources_figures.draw, found))}
