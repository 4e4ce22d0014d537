"""The main run beside its controls, which every study is read against."""

import dataclasses
import functools

from coupling.paper import layout
from coupling.paper import rules
from coupling.paper.paper_seeds import GAPS, Parts, short
from coupling.paper.rules import Row
from coupling.report.numerals import percent, points, signed
from coupling.report.tables import Table
from coupling.statistics import baselines
from coupling.statistics import contrasts
from coupling.statistics import scores

ANSWER = 'siding_answer_difference'  # of the weights on v', in a contrast
SHUFFLED = ': shuffled'  # ends the label of that run
KEPT = ('self_accuracy', 'orig_accuracy', *GAPS, 'siding', 'siding_answer')
COLUMNS = (
  ('Self', 'self_accuracy', percent),
  ('Orig', 'orig_accuracy', percent),
  ('Gap', 'gap', points),
  ('Balanced gap', 'balanced_gap', points),
  ('Gap on v’', 'gap_answer', points),
  ('Weights: self − orig', 'siding.difference', signed),
  ('… on v’', 'siding_answer.difference', signed),
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
    over = parts.over(functools.partial(_baseline, parts, main, name))
    rows.append({'label': name, 'final': over})
  for role in ('sibling', 'shuffled', 'unregularised'):
    if other := parts.role(role):
      rows.append({'label': f'{short(other)}: {role}', 'final': parts.entry(other)})
  sibling = {}
  if other := parts.role('sibling'):
    sibling = {
      name: parts.over(functools.partial(_sibling, parts, main, other, denial))
      for name, denial in (('explanations', False), ('denial', True))
    }
  return {'rows': rows, 'sibling': sibling, 'over_shuffled': parts.over_shuffled(main)}


def rows(found: dict) -> list[Row]:
  """What the main run has beyond its controls."""
  main = found['rows'][0]['label']
  result = []
  if found['sibling']:
    own, denial = (found['sibling'][x] for x in ('explanations', 'denial'))
    result.append(
      Row(
        'A model explains its own v’ better than that of its sibling, beyond what both '
        'share and the own answer',
        f'{signed(own["beyond_shared"]["smaller"])}; raw {points(own["difference"])} '
        f'points (denial {points(denial["difference"])})',
        rules.above(own['beyond_shared']['smaller']),
        'weight of the own v’ where both give one answer with the cue and differ in '
        'v’, the smaller of the two models’, above 0',
      )
    )
  if control := found['over_shuffled']:
    shuffled = next(x for x in found['rows'] if x['label'].endswith(SHUFFLED))['final']
    result.append(
      Row(
        f'{main}: explanations follow current behaviour more than those trained on '
        'shuffled labels (weights on v’)',
        f'{signed(control[ANSWER])}; gap {points(control["gap"])} more '
        f'than the {points(shuffled["gap"])} of shuffled labels',
        rules.above(control[ANSWER]),
        'weights on v’, self − orig, minus those of shuffled labels, paired by seed, '
        'above 0',
      )
    )
  return result


# A gap alone says little: labels that say nothing have one too, and so has denial.
COUPLED = (
  'gap above 0, and weights on v’ above those of shuffled labels, paired by seed; what '
  'siblings share is not excluded here'
)


def coupled(gap: dict, control: dict) -> str:
  """Whether a gap is above 0, and the weights on v' above those of shuffled labels.

  Args:
    gap: of a run.
    control: of Parts.over_shuffled; without it nothing is decided.
  """
  more = rules.above(control[ANSWER]) if control else rules.UNDECIDED
  return rules.every((rules.above(gap), more))


def told(gap: dict, control: dict) -> str:
  """A gap, and what it has beyond shuffled labels."""
  if not control:
    return f'{points(gap)}; no run with shuffled labels'
  return (
    f'{points(gap)}; beyond shuffled labels: weights on v’ '
    f'{signed(control[ANSWER])}, gap {points(control["gap"])}'
  )


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
  result = {'controls': layout.table(caption, '', entries, COLUMNS)}
  if found['sibling']:
    entries = [
      (name, f'controls.sibling.{name}', found['sibling'][name])
      for name in ('explanations', 'denial')
    ]
    caption = (
      'Own behaviour against that of a sibling (another fine-tuning seed), both '
    )
    caption += 'directions pooled.'
    result['siblings'] = layout.table(caption, '', entries, SIBLING_COLUMNS)
  return result
