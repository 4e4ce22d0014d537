"""The main run beside its controls, which every study is read against."""

import dataclasses

from coupling.paper.paper_claims import row
from coupling.paper.paper_seeds import GAPS, Parts, short
from coupling.report import conclusions
from coupling.report.conclusions import Row
from coupling.report.numerals import percent, points, signed
from coupling.report.tables import Table, table
from coupling.statistics import baselines
from coupling.statistics import contrasts
from coupling.statistics import scores

ANSWER = 'reliance_answer_difference'  # of the weights on v', in a contrast
KEPT = ('self_accuracy', 'orig_accuracy', *GAPS, 'reliance', 'reliance_answer')
COLUMNS = (
  ('Self', 'self_accuracy', percent),
  ('Orig', 'orig_accuracy', percent),
  ('Gap', 'gap', points),
  ('Balanced gap', 'balanced_gap', points),
  ('Gap on v’', 'gap_answer', points),
  ('Reliance: self − orig', 'reliance.difference', signed),
  ('… on v’', 'reliance_answer.difference', signed),
)
# Of a run beside that of shuffled labels.
BESIDE_COLUMNS = (
  ('Gap − shuffled', 'control.gap', points),
  ('Reliance on v’ − shuffled', f'control.{ANSWER}', signed),
)
SIBLING_COLUMNS = (
  ('Own − sibling', 'difference', points),
  ('Where they differ: own', 'differing.own', percent),
  ('… the sibling’s', 'differing.sibling', percent),
  ('Beyond what both share', 'beyond_shared.smaller', signed),
)


def numbers(parts: Parts) -> dict:
  """The main run, explainers without training, and the runs of the other roles."""
  main = parts.role('main')
  rows = [{'label': f'{short(main)}: main run', 'final': parts.entry(main)}]
  for name in ('denial', 'majority', 'cue parrot'):
    over = parts.over(_baseline, main, name)
    rows.append({'label': name, 'final': over})
  for role in ('sibling', 'shuffled', 'unregularised'):
    if other := parts.role(role):
      rows.append({'label': f'{short(other)}: {role}', 'final': parts.entry(other)})
  sibling = {}
  if other := parts.role('sibling'):
    sibling = {
      name: parts.over(_sibling, main, other, denial)
      for name, denial in (('explanations', False), ('denial', True))
    }
  return {'rows': rows, 'sibling': sibling, 'over_shuffled': parts.over_shuffled(main)}


def rows(found: dict) -> list[Row]:
  """What the main run has beyond its controls."""
  result = []
  if found['sibling']:
    own = found['sibling']['explanations']['beyond_shared']['smaller']
    result.append(row('own_beyond_sibling', own, conclusions.above(own)))
  if control := found['over_shuffled']:
    more = control[ANSWER]
    result.append(row('beyond_shuffled', more, conclusions.above(more)))
  return result


def coupled(gap: dict, control: dict) -> str:
  """Whether a gap is above 0, and the weights on v' above those of shuffled labels.

  Args:
    gap: of a run.
    control: of Parts.over_shuffled; without it nothing is decided.
  """
  more = conclusions.above(control[ANSWER]) if control else conclusions.INCONCLUSIVE
  return conclusions.every((conclusions.above(gap), more))


def _baseline(parts: Parts, main: str, name: str, seed: int) -> dict:
  items = parts.items(main, seed)
  s, run = parts.seed(main, seed)
  stated = {
    'denial': baselines.denial(items),
    'majority': baselines.majority(s.train_labels[run], items),
    'cue parrot': baselines.cue_parrot(items, items.surface['cue_option']),
  }[name]
  found = scores.coupling(dataclasses.replace(items, stated=stated), s.orig)
  return {key: found[key] for key in KEPT}


def _sibling(parts: Parts, main: str, other: str, denial: bool, seed: int) -> dict:
  pair = [parts.items(x, seed) for x in (main, other)]
  if denial:
    pair = [dataclasses.replace(x, stated=baselines.denial(x)) for x in pair]
  return contrasts.pooled_sibling(*pair)


def tables(found: dict) -> dict[str, Table]:
  entries = [
    (x['label'], f'controls.rows.{i}.final', x['final'])
    for i, x in enumerate(found['rows'])
  ]
  caption = 'The main run and its controls, at the final checkpoint. Denial, majority '
  caption += 'and cue parrot speak in place of the main run.'
  result = {'controls': table(caption, '', entries, COLUMNS)}
  if found['sibling']:
    entries = [
      (name, f'controls.sibling.{name}', found['sibling'][name])
      for name in ('explanations', 'denial')
    ]
    caption = (
      'Own behaviour against that of a sibling (another fine-tuning seed), both '
    )
    caption += 'directions pooled.'
    result['siblings'] = table(caption, '', entries, SIBLING_COLUMNS)
  return result
