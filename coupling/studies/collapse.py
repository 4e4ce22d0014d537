"""What the regulariser does: class collapse apart from loss of coupling."""

import functools

from coupling.config import Study, Train
from coupling.formats import percent, points, signed
from coupling.plots import BLACK, BLUE, GREEN, ORANGE, VERMILION
from coupling.studies import bars
from coupling.studies import layout
from coupling.studies import rules
from coupling.studies.parts import GAPS, Parts, minus, short, times
from coupling.studies.rules import HALF, Row
from coupling.tables import Table

TESTED = {
  'collapse': 'The behaviour KL on prompts with and without the cue, on those without '
  'alone, and not at all. Class collapse: “changed” is true less than half as often as '
  'of M_0. Loss of coupling: of the gap on v’ alone, which classes do not enter, less '
  'than half is left of what the KL on both prompts has.',
}
COLUMNS = (
  ('Changed: M_0', 'final.change_rate.base', percent),
  ('… M_t', 'final.change_rate.current', percent),
  ('… explained', 'final.change_rate.stated', percent),
  ('Gap', 'final.gap', points),
  ('Balanced gap', 'final.balanced_gap', points),
  ('Gap on v’', 'final.gap_answer', points),
  ('Weights on v’: self − orig', 'final.siding_answer.difference', signed),
  ('Denial: gap', 'final.denial.gap', points),
  ('Denial: balanced gap', 'final.denial.balanced_gap', points),
)
BOTH, PLAIN, NONE = 'KL on both prompts', 'KL without the cue alone', 'no KL'


def numbers(study: Study, parts: Parts) -> dict:
  """Every run beside the one that is regularised on both prompts."""
  full = next(x for x in study.runs if kind(parts.train(x)) == BOTH)
  runs = []
  for name in study.runs:
    rate = parts.over(lambda seed, name=name: _rate(parts, name, seed))
    entry = {'name': name, 'kind': kind(parts.train(name)), 'final': parts.entry(name)}
    entry |= {'rate': rate, 'collapsed': rules.below(rate['excess'])}
    if name != full:
      entry['half'] = parts.contrast(full, name, GAPS, HALF)
      entry['contrast'] = parts.contrast(full, name, GAPS)
      entry['lost'] = rules.above(entry['half']['gap_answer'])
    runs.append(entry)
  return {'runs': runs, **_shuffled(parts)}


def _shuffled(parts: Parts) -> dict:
  name = parts.role('shuffled')
  return {'shuffled': {'final': parts.entry(name)}} if name else {}


def kind(train: Train) -> str:
  """Which prompts a run's behaviour is held on."""
  kl = train.objectives.behavior_kl
  if not kl.weight:
    return NONE
  return BOTH if kl.prompts == 'both' else PLAIN


def _rate(parts: Parts, name: str, seed: int) -> dict:
  """The current rate of changes, less half of M_0's."""
  now, before = (
    parts.value(name, seed, f'change_rate.{key}') for key in ('current', 'base')
  )
  return {'excess': minus(now, times(HALF, before))}


def rows(study: Study, found: dict) -> list[Row]:
  result = []
  for x in found['runs']:
    rate = x['final']['change_rate']
    result.append(
      Row(
        f'{x["kind"]}: behaviour keeps both classes, so that raw agreement compares '
        'like with like',
        f'“changed” is true of {percent(rate["current"])} (M_0: '
        f'{percent(rate["base"])})',
        rules.opposite(x['collapsed']),
        'current rate of changes less half of M_0’s above 0',
      )
    )
  for x in found['runs']:
    if 'lost' not in x:
      continue
    result.append(
      Row(
        f'{x["kind"]}: coupling is lost, on v’ alone too, where classes play no part',
        f'gap on v’ {points(x["final"]["gap_answer"])}; the KL on both prompts has '
        f'{points(x["contrast"]["gap_answer"])} more',
        x['lost'],
        'half of the gap on v’ with the KL on both prompts, less that of this run '
        '(paired by seed), above 0',
      )
    )
  return result


def tables(study: Study, found: dict, path: str) -> dict[str, Table]:
  entries = [
    (f'{short(x["name"])}: {x["kind"]}', f'{path}.runs.{i}', x)
    for i, x in enumerate(found['runs'])
  ]
  if 'shuffled' in found:
    entries.append(('control: shuffled labels', f'{path}.shuffled', found['shuffled']))
  caption = 'Change rates and gaps, at the final checkpoint.'
  return {'collapse': layout.table(caption, 'Run', entries, COLUMNS)}


RATES = (
  ('final.change_rate.base', 'M_0', BLACK, 'D', 'white'),
  ('final.change_rate.current', 'M_t', BLUE, 'o', BLUE),
  ('final.change_rate.stated', 'as explained', VERMILION, 's', 'white'),
)
GAP_SERIES = (
  ('final.gap', 'raw', BLACK, 'D', BLACK),
  ('final.balanced_gap', 'balanced', GREEN, '^', 'white'),
  ('final.gap_answer', 'v’ alone', ORANGE, 'v', ORANGE),
)
BREAKS = {BOTH: 'KL on\nboth', PLAIN: 'KL without\nthe cue', NONE: 'no KL'}


def figures(study: Study, found: dict) -> dict:
  names = [BREAKS[x['kind']] for x in found['runs']]
  panels = [
    ('“changed”, % of items', names, found['runs'], RATES),
    ('Self − Orig, points', names, found['runs'], GAP_SERIES),
  ]
  caption = (
    'Class collapse (left) and coupling (right). Whiskers: 95% intervals; dots: single '
    'seeds.'
  )
  return {'collapse': (caption, functools.partial(bars.draw, panels))}


COLLAPSED = {
  rules.AGREES: 'behaviour collapses to one class',
  rules.DISAGREES: 'behaviour does not collapse to one class',
  rules.UNDECIDED: 'whether behaviour collapses is not decided',
}
LOST = {
  rules.AGREES: 'less than half of the coupling on v’ is left',
  rules.DISAGREES: 'more than half of the coupling on v’ is left',
  rules.UNDECIDED: 'whether half of the coupling on v’ is left is not decided',
}


CLASSES_ALONE = (rules.AGREES, rules.DISAGREES, rules.AGREES)


def finding(study: Study, found: dict) -> str:
  texts = []
  for x in found['runs']:
    final = x['final']
    text = (
      f'{x["kind"]}: {COLLAPSED[x["collapsed"]]} '
      f'({percent(final["change_rate"]["current"])} changed; M_0 '
      f'{percent(final["change_rate"]["base"])})'
    )
    if 'lost' in x:
      text += f', and {LOST[x["lost"]]} ({points(final["gap_answer"])} points)'
      fallen = rules.above(x['half']['balanced_gap'])
      if (x['collapsed'], x['lost'], fallen) == CLASSES_ALONE:
        text += (
          f'; so the fall of its balanced gap, to {points(final["balanced_gap"])}, '
          'tells of classes, not of v’'
        )
    texts.append(text + '.')
  return ' '.join(texts)
