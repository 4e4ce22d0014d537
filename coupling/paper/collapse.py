"""What the regulariser does: class collapse apart from loss of coupling."""

import functools

from coupling.config.paper_schema import Study
from coupling.config.schema import Train
from coupling.paper.paper_claims import row
from coupling.paper.paper_seeds import GAPS, Parts, minus, short, times
from coupling.report import conclusions
from coupling.report import plots
from coupling.report.conclusions import HALF, Row
from coupling.report.numerals import percent, points, signed
from coupling.report.plots import BLACK, BLUE, GREEN, ORANGE, VERMILION
from coupling.report.tables import Table, table

TESTED = {
  'collapse': 'The behaviour KL on prompts with and without the cue, on those without '
  'alone, and not at all; and on both prompts of held-out facts too, which are '
  'evaluated. Class collapse: “changed” is true less than half as often as of M_0. '
  'Loss of coupling: of what the KL on both prompts has, less than half is left of the '
  'gap on v’ and of the weights on v’. Both, since classes play a part on v’ too: '
  'where nearly all truths are “same”, the own answer is v’, and denial has a gap on '
  'it; and within strata of equal own answers the v’ of a collapsed run then hardly '
  'varies, so that its reliance rests on few items. Where coupling on v’ is not lost '
  'but the balanced gap falls, that is of classes, not of v’.',
}
COLUMNS = (
  ('Changed: M_0', 'final.change_rate.base', percent),
  ('… M_t', 'final.change_rate.current', percent),
  ('… explained', 'final.change_rate.stated', percent),
  ('Gap', 'final.gap', points),
  ('Balanced gap', 'final.balanced_gap', points),
  ('Gap on v’', 'final.gap_answer', points),
  ('Reliance on v’: self − orig', 'final.reliance_answer.difference', signed),
  ('Denial: gap', 'final.denial.gap', points),
  ('Denial: balanced gap', 'final.denial.balanced_gap', points),
  ('Denial: gap on v’', 'final.denial.gap_answer', points),
  ('Similarity', 'final.behavior_similarity', percent),
)
LESS_COLUMNS = (
  ('Gap', 'contrast.gap', points),
  ('Balanced gap', 'contrast.balanced_gap', points),
  ('Gap on v’', 'contrast.gap_answer', points),
  ('Reliance on v’', 'contrast.reliance_answer_difference', signed),
  ('Similarity', 'contrast.behavior_similarity', points),
  ('Half of its gap on v’', 'half.gap_answer', points),
  ('Half of its reliance on v’', 'half.reliance_answer_difference', signed),
)
BOTH, PLAIN, NONE = 'KL on both prompts', 'KL without the cue alone', 'no KL'
HELD = 'KL, on held-out facts too'
KEYS = (*GAPS, 'reliance_answer.difference', 'behavior_similarity')


def numbers(study: Study, parts: Parts) -> dict:
  """Every run beside the one that is regularised on both prompts."""
  full = next(x for x in study.runs if kind(parts.train(x)) == BOTH)
  runs = []
  for name in study.runs:
    rate = parts.over(_rate, name)
    entry = {'name': name, 'kind': kind(parts.train(name)), 'final': parts.entry(name)}
    entry |= {'rate': rate, 'collapsed': conclusions.below(rate['excess'])}
    if name != full:
      entry['half'] = parts.contrast(full, name, KEYS, HALF)
      entry['contrast'] = parts.contrast(full, name, KEYS)
      if entry['kind'] != HELD:
        entry['lost'] = _lost(parts.entry(full), entry['half'])
    runs.append(entry)
  return {'runs': runs, **_shuffled(parts)}


def _lost(full: dict, half: dict) -> str:
  """Whether coupling on v' is lost, by the gap and by reliance."""
  found = {
    conclusions.lost(full['gap_answer'], half['gap_answer']),
    conclusions.lost(
      full['reliance_answer']['difference'], half['reliance_answer_difference']
    ),
  }
  return found.pop() if len(found) == 1 else conclusions.INCONCLUSIVE


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
  """The current rate of changes, minus half of M_0's."""
  now, before = (
    parts.value(name, seed, f'change_rate.{key}') for key in ('current', 'base')
  )
  return {'excess': minus(now, times(HALF, before))}


def rows(study: Study, found: dict) -> list[Row]:
  result = [
    row(
      'keeps_classes',
      x['rate']['excess'],
      conclusions.opposite(x['collapsed']),
      about=x['kind'],
    )
    for x in found['runs']
  ]
  for x in found['runs']:
    if 'lost' in x:
      half = x['half']['reliance_answer_difference']
      kept = x['final']['reliance_answer']['difference']['mean']
      result.append(row('loses_coupling', half, x['lost'], kept, x['kind']))
  return result


def tables(study: Study, found: dict, path: str) -> dict[str, Table]:
  entries = [
    (f'{short(x["name"])}: {x["kind"]}', f'{path}.runs.{i}', x)
    for i, x in enumerate(found['runs'])
  ]
  if 'shuffled' in found:
    entries.append(('control: shuffled labels', f'{path}.shuffled', found['shuffled']))
  caption = 'Change rates and gaps, at the final checkpoint.'
  less = [x for x in entries if 'contrast' in x[2]]
  return {
    'collapse': table(caption, 'Run', entries, COLUMNS),
    'less': table('The KL on both prompts minus each run.', 'Run', less, LESS_COLUMNS),
  }


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
  return {'collapse': (caption, functools.partial(plots.panels, panels))}
