"""A behaviour planted by behaviour objectives alone, and never explained."""

import dataclasses
import functools

import numpy as np

from coupling.config.paper_schema import Study
from coupling.paper.paper_claims import row
from coupling.paper.paper_seeds import Parts, minus, short, subset
from coupling.report import conclusions
from coupling.report import plots
from coupling.report.conclusions import Row
from coupling.report.numerals import percent, points
from coupling.report.plots import BLUE, GREEN, ORANGE, VERMILION
from coupling.report.tables import Table, table
from coupling.runtime.files import WorkdirError
from coupling.statistics import baselines
from coupling.statistics import scores
from coupling.statistics.items import Items

TESTED = {
  'planted': 'Behaviour objectives alone bring about an answer to cues of a kind that '
  'explanation training never explains. Counted are items with these cues alone. The '
  'companion is the same training without the planting; its statements, held against '
  'the behaviour of the planted model, are what any model that was trained to explain '
  'might say.',
}
PAPER = 0.798  # of such explanations are right, Qwen3-8B
SPEAKERS = ('self_accuracy', 'denial', 'companion_says', 'majority', 'always_changed')
COLUMNS = (
  ('Answers as planted', 'followed', percent),
  ('Companion’s answers', 'companion_followed', percent),
  ('Explained rightly', 'self_accuracy', percent),
  ('Companion’s statements', 'companion_says', percent),
  ('Denial', 'denial', percent),
  ('Majority', 'majority', percent),
  ('Changed', 'changed', percent),
  ('… as explained', 'stated', percent),
  ('… by the companion', 'companion_stated', percent),
)


OVER_COLUMNS = (
  ('Answers as planted − companion’s', 'planted', points),
  ('Explained rightly − denial', 'denial', points),
  ('… − companion’s statements', 'companion_says', points),
  ('… − majority', 'majority', points),
  ('… − always “changed”', 'always_changed', points),
  ('“Changed” said − by the companion', 'said', points),
)


def numbers(study: Study, parts: Parts) -> dict:
  """Of every planted run: what was planted, what is said, and what others would say."""
  runs = []
  for name, companion in zip(study.runs, study.companions, strict=True):
    if not companion:
      continue
    shares = parts.over(_shares, name, companion, shares=True)
    over = parts.over(_over, name, companion)
    runs.append(dict(name=name, companion=companion, shares=shares, over=over))
  return {'runs': runs}


def _with_cues(parts: Parts, name: str, cues: str, seed: int) -> Items:
  """Items with the planted cues: those never explained, all, or those of one kind."""
  s, run = parts.seed(name, seed)
  if cues == 'unexplained':
    return s.unexplained[run]
  items = s.final(run)
  if cues in ('all', 'explained'):
    return items
  kind_N = np.array(list(s.tables[run].values())[-1]['cue_kind'].to_pylist())
  if not np.any(kind_N == cues):
    raise WorkdirError(
      f'{name} (seed {seed}): no item has a cue of the kind {cues!r}, which its '
      f'training plants; found {sorted(set(kind_N.tolist()))}'
    )
  return subset(items, kind_N == cues)


def _shares(parts: Parts, name: str, companion: str, seed: int) -> dict:
  cues = parts.train(name).objectives.shift.cues
  items, other = (_with_cues(parts, x, cues, seed) for x in (name, companion))
  s, run = parts.seed(name, seed)
  found = scores.planted(items)
  before = scores.planted(other)

  def right(stated) -> dict:
    said = dataclasses.replace(items, stated=stated)
    return scores.share(said.right(items.truth), items.group_N)

  return {
    **{k: found[k] for k in ('followed', 'self_accuracy', 'denial', 'changed')},
    'stated': found['stated'],
    'companion_followed': before['followed'],
    'companion_stated': before['stated'],
    'companion_says': right(other.stated),
    'majority': right(baselines.majority(s.train_labels[run], items)),
    # No statement "changed" is right where nothing changed; the most it can reach.
    'always_changed': found['changed'],
  }


def _over(parts: Parts, name: str, companion: str, seed: int) -> dict:
  """How far the explanations are better than other speakers, paired by seed."""
  shares = parts.of_seed(_shares, (name, companion), seed)
  value = {k: v['value'] for k, v in shares.items()}
  result = {
    key: minus(value['self_accuracy'], value[key])
    for key in SPEAKERS
    if key != SPEAKERS[0]
  }
  return result | {
    'planted': minus(value['followed'], value['companion_followed']),
    'said': minus(value['stated'], value['companion_stated']),
  }


def rows(study: Study, found: dict) -> list[Row]:
  return [
    row(
      'planted_explained',
      run['shares']['self_accuracy'],
      state(run['over']),
      PAPER,
      short(run['name']),
    )
    for run in found['runs']
  ]


def state(over: dict) -> str:
  """Whether explanations tell what was planted; inconclusive where nothing was."""
  if conclusions.above(over['planted']) != conclusions.SUPPORTED:
    return conclusions.INCONCLUSIVE
  told = conclusions.every(
    conclusions.above(over[k]) for k in ('denial', 'companion_says')
  )
  if told == conclusions.CONTRADICTED:
    return told
  others = [conclusions.above(over[k]) for k in ('majority', 'always_changed')]
  return (
    conclusions.SUPPORTED
    if {told, *others} == {conclusions.SUPPORTED}
    else conclusions.INCONCLUSIVE
  )


def tables(study: Study, found: dict, path: str) -> dict[str, Table]:
  entries = [
    (short(x['name']), f'{path}.runs.{i}.shares', x['shares'])
    for i, x in enumerate(found['runs'])
  ]
  caption = 'Items with planted cues alone, at the final checkpoint. Companion’s '
  caption += 'statements, denial and majority are held against the planted behaviour.'
  over = [
    (short(x['name']), f'{path}.runs.{i}.over', x['over'])
    for i, x in enumerate(found['runs'])
  ]
  return {
    'planted': table(caption, 'Run', entries, COLUMNS),
    'over': table(
      'The same as differences, paired by seed.', 'Run', over, OVER_COLUMNS
    ),
  }


SERIES = (
  ('self_accuracy', 'explanations', BLUE, 'o', BLUE),
  ('companion_says', 'companion’s', VERMILION, 's', 'white'),
  ('denial', 'denial', ORANGE, 'v', ORANGE),
)
PLANTED = (
  ('followed', 'planted', BLUE, 'o', BLUE),
  ('companion_followed', 'companion', GREEN, '^', 'white'),
)


def figures(study: Study, found: dict) -> dict:
  names = [short(x['name']) for x in found['runs']]
  entries = [x['shares'] for x in found['runs']]
  panels = [
    ('answers as planted, %', names, entries, PLANTED),
    ('right about the behaviour, %', names, entries, SERIES),
  ]
  caption = 'How far the behaviour was planted, and who describes it rightly.'
  return {'planted': (caption, functools.partial(plots.panels, panels))}
