"""What the regulariser does: class collapse apart from loss of coupling."""

import functools

from coupling.config.schema import Study, Train
from coupling.paper import bars
from coupling.paper import layout
from coupling.paper import rules
from coupling.paper.paper_seeds import GAPS, Parts, minus, short, times
from coupling.paper.rules import HALF, Row
from coupling.report.numerals import percent, points, signed
from coupling.report.plots import BLACK, BLUE, GREEN, ORANGE, VERMILION
from coupling.report.tables import Table

TESTED = {
  'collapse': 'The behaviour KL on prompts with and without the cue, on those without '
  'alone, and not at all; and on both prompts of held-out facts too, which are '
  'evaluated. Class collapse: “changed” is true less than half as often as of M_0. '
  'Loss of coupling: of what the KL on both prompts has, less than half is left of the '
  'gap on v’ and of the weights on v’. Both, since classes play a part on v’ too: '
  'where nearly all truths are “same”, the own answer is v’, and denial has a gap on '
  'it; and within strata of equal own answers the v’ of a collapsed run then hardly '
  'varies, so that its weights rest on few items.',
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
  ('Denial: gap on v’', 'final.denial.gap_answer', points),
  ('Similarity', 'final.behavior_similarity', percent),
)
BOTH, PLAIN, NONE = 'KL on both prompts', 'KL without the cue alone', 'no KL'
HELD = 'KL, on held-out facts too'
KEYS = (*GAPS, 'siding_answer.difference', 'behavior_similarity')


def numbers(study: Study, parts: Parts) -> dict:
  """Every run beside the one that is regularised on both prompts."""
  full = next(x for x in study.runs if kind(parts.train(x)) == BOTH)
  runs = []
  for name in study.runs:
    rate = parts.over(lambda seed, name=name: _rate(parts, name, seed))
    entry = {'name': name, 'kind': kind(parts.train(name)), 'final': parts.entry(name)}
    entry |= {'rate': rate, 'collapsed': rules.below(rate['excess'])}
    if name != full:
      entry['half'] = parts.contrast(full, name, KEYS, HALF)
      entry['contrast'] = parts.contrast(full, name, KEYS)
      if entry['kind'] != HELD:
        entry['lost'] = _lost(parts.entry(full), entry['half'])
    runs.append(entry)
  return {'runs': runs, **_shuffled(parts)}


def _lost(full: dict, half: dict) -> str:
  """Whether coupling on v' is lost, by the gap and by the weights; else not decided."""
  found = {
    rules.lost(full['gap_answer'], half['gap_answer']),
    rules.lost(full['siding_answer']['difference'], half['siding_answer_difference']),
  }
  return found.pop() if len(found) == 1 else rules.UNDECIDED


def _shuffled(parts: Parts) -> dict:
  name = parts.role('shuffled')
  return {'shuffled': {'final': parts.entry(name)}} if name else {}


def kind(train: Train) -> str:
  """Which prompts a run's behaviour is held on."""
  kl = train.objectives.behavior_kl
  if not kl.weight:
    return NONE
  if kl.prompts != 'both':
    return PLAIN
  return HELD if train.practice else BOTH


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
        f'{x["kind"]}: coupling on v’ is lost',
        f'gap on v’ {points(x["final"]["gap_answer"])} (denial '
        f'{points(x["final"]["denial"]["gap_answer"])}); the KL on both prompts has '
        f'{points(x["contrast"]["gap_answer"])} more, and weights on v’ of '
        f'{signed(x["contrast"]["siding_answer_difference"])} more than '
        f'{signed(x["final"]["siding_answer"]["difference"])}',
        x['lost'],
        'half of what the KL on both prompts has, less that of this run (paired by '
        'seed), above 0, of the gap on v’ and of the weights on v’; not decided where '
        'the two differ, or where that KL has none',
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
BREAKS |= {HELD: 'on held-out\nfacts too'}


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
      text += (
        f', and {LOST[x["lost"]]} (gap {points(final["gap_answer"])} points, denial '
        f'{points(final["denial"]["gap_answer"])}; weights '
        f'{signed(final["siding_answer"]["difference"])})'
      )
      fallen = rules.above(x['half']['balanced_gap'])
      if (x['collapsed'], x['lost'], fallen) == CLASSES_ALONE:
        text += (
          f'; so the fall of its balanced gap, to {points(final["balanced_gap"])}, '
          'tells of classes, not of v’'
        )
    if x['kind'] == HELD:
      less = x['contrast']
      text += (
        '; holding the evaluated facts themselves leaves a similarity of labels and '
        f'behaviour of {percent(final["behavior_similarity"])} (without: '
        f'{points(less["behavior_similarity"])} points more) and a gap of '
        f'{points(final["gap"])} points (without: {points(less["gap"])} more; on v’ '
        f'{points(less["gap_answer"])} more)'
      )
    texts.append(text + '.')
  return ' '.join(texts)
