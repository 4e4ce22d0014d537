"""Privileged access: does a model explain itself better than another one can?"""

import dataclasses
import functools

import numpy as np

from coupling.config.paper_schema import Study
from coupling.elicit.explanation import INVALID, Explanation
from coupling.paper.paper_claims import row
from coupling.paper.paper_seeds import Parts, minus, short
from coupling.report import conclusions
from coupling.report import plots
from coupling.report import records
from coupling.report.conclusions import Row
from coupling.report.numerals import percent, points
from coupling.report.plots import BLUE, GREEN, ORANGE
from coupling.report.tables import Table, table
from coupling.runtime.files import WorkdirError
from coupling.statistics import baselines
from coupling.statistics import scores
from coupling.statistics.items import Items, check_same_items

BAYES = 'Bayes explainer'
TOLD = ', told'  # ends the name of a speaker who is told the model's own answer
TESTED = {
  'access': 'The behaviour of one model, as explained by itself, by other models that '
  'were trained on the very same labels, by its sibling (another fine-tuning seed), by '
  'explainers without training, and, where the world is known, by one that knows the '
  'world and not the model. All are about the same items; differences are paired. '
  'Others do not know the answer that the model gives with the cue; told: their v’ is '
  'held against that answer, and “changed” said where it differs. Who learned the '
  'labels less well may be behind for that alone: Target accuracy stands beside.',
}
COLUMNS = (
  ('Right', 'right', percent),
  ('… class-balanced', 'balanced', percent),
  ('… on v’ alone', 'answer', percent),
  ('Self minus that', 'less.right', points),
  ('… class-balanced', 'less.balanced', points),
  ('… on v’', 'less.answer', points),
)


def numbers(study: Study, parts: Parts) -> dict:
  """Who is right about the study's first run: it, the other runs, and baselines.

  Raises:
    WorkdirError: an outsider was trained on other labels, or evaluated on other items.
  """
  main, *outsiders = study.runs
  if (sibling := parts.role('sibling')) and sibling not in outsiders:
    outsiders.append(sibling)
  asked = main, tuple(outsiders)
  right = parts.over(_scored, *asked, shares=True)
  less = parts.over(_less, *asked)
  entries = [{'speaker': x, 'less': less[x]} | found for x, found in right.items()]
  learned = [
    {'name': name, 'target_accuracy': parts.entry(name)['target_accuracy']}
    for name in (main, *outsiders)
  ]
  return {
    'main': main,
    'outsiders': outsiders,
    'speakers': entries,
    'learned': learned,
  }


def _scored(parts: Parts, main: str, outsiders: tuple[str, ...], seed: int) -> dict:
  items = parts.items(main, seed)
  s, run = parts.seed(main, seed)
  table = list(s.tables[run].values())[-1]
  others = {}
  for name in outsiders:
    _check(parts, main, name, seed)
    others[short(name)] = parts.items(name, seed).stated
  if knows := parts.bayes.get(main.split('/', 1)[0]):  # the world that the model was in
    others[BAYES] = knows(seed, table)
  said = {'itself': items.stated}
  for who, stated in others.items():
    said |= {who: stated, who + TOLD: _told(items, stated)}
  said |= {
    'denial': baselines.denial(items),
    'majority': baselines.majority(s.train_labels[run], items),
    'cue parrot': baselines.cue_parrot(items, items.surface['cue_option']),
    'M_0, before training': s.orig.stated,
  }
  return {who: _right(items, stated) for who, stated in said.items()}


def _less(parts: Parts, main: str, outsiders: tuple[str, ...], seed: int) -> dict:
  """How much oftener the model itself is right than each speaker."""
  scored = parts.of_seed(_scored, (main, outsiders), seed)
  own = scored['itself']
  return {
    who: {key: minus(own[key]['value'], x['value']) for key, x in found.items()}
    for who, found in scored.items()
  }


def _told(items: Items, stated: Explanation) -> Explanation:
  """Another's v', with "changed" where it is not the answer that the model gives.

  Where "unchanged" names no answer, it is taken as said: v' is then the own answer.
  """
  valid_N = stated.changed_N != INVALID
  named_N = valid_N & ((stated.changed_N == 1) | items.states_answer)
  differs_N = stated.answer_N != items.behavior_N
  return Explanation(
    stated.answer_N, np.where(named_N, differs_N, stated.changed_N).astype(int)
  )


def _check(parts: Parts, main: str, name: str, seed: int) -> None:
  """The same items, in one order, and the same labels."""
  found = (parts.seed(which, seed) for which in (main, name))
  ours, theirs = (list(s.tables[run].values())[-1] for s, run in found)
  for column in records.QUESTION:
    if not ours[column].equals(theirs[column]):
      raise WorkdirError(
        f'{name} (seed {seed}): column {column} of its items is not that of {main}: '
        'who explains whom is measured on the same items'
      )
  check_same_items(parts.items(main, seed), parts.items(name, seed))
  labels = [parts.target(which, seed) for which in (main, name)]
  if None in labels or not all(map(np.array_equal, *labels)):
    raise WorkdirError(
      f'{name} (seed {seed}): its labels are not those of {main}; privileged access is '
      'measured against models trained on the very same labels: set train.labels'
    )


def _right(items: Items, stated: Explanation) -> dict:
  """How often statements are right about a model's behaviour, in three ways."""
  right_N = dataclasses.replace(items, stated=stated).right(items.truth)
  changed_N = items.truth.changed_N == 1
  halves = [scores.share(right_N, items.group_N, x)['value'] for x in (
    changed_N, ~changed_N
  )]  # fmt: skip
  balanced = None if None in halves else float(np.mean(halves))
  answer_N = stated.answer_N == items.truth.answer_N
  if not items.states_answer:  # "unchanged" stands for the own answer
    unnamed_N = stated.changed_N == 0
    answer_N = np.where(unnamed_N, items.behavior_N == items.truth.answer_N, answer_N)
  return {
    'right': scores.share(right_N, items.group_N),
    'balanced': {'value': balanced, 'low': None, 'high': None},
    'answer': scores.share(answer_N, items.group_N),
  }


def rows(study: Study, found: dict) -> list[Row]:
  by_speaker = {x['speaker']: x for x in found['speakers']}
  result = []
  for who in (*map(short, found['outsiders']), BAYES):
    if who in by_speaker:
      alone, told = (by_speaker[x]['less'] for x in (who, who + TOLD))
      both = alone['answer'], told['answer']
      state = conclusions.every(map(conclusions.above, both))
      ahead = alone['right']['mean']
      smaller = conclusions.smallest(both)
      result.append(row('privileged_access', smaller, state, ahead, who))
  return result


def tables(study: Study, found: dict, path: str) -> dict[str, Table]:
  entries = [
    (x['speaker'], f'{path}.speakers.{i}', x) for i, x in enumerate(found['speakers'])
  ]
  caption = f'Statements about the behaviour of {short(found["main"])}, at the final '
  caption += 'checkpoint.'
  learned = [
    (short(x['name']), f'{path}.learned.{i}', x) for i, x in enumerate(found['learned'])
  ]
  columns = (('Target accuracy', 'target_accuracy', percent),)
  return {
    'access': table(caption, 'Explained by', entries, COLUMNS),
    'learned': table(
      'How well each model learned the labels, on held-out items.',
      'Model',
      learned,
      columns,
    ),
  }


SERIES = (
  ('right', 'right', BLUE, 'o', BLUE),
  ('balanced', 'class-balanced', GREEN, '^', 'white'),
  ('answer', 'v’ alone', ORANGE, 'v', ORANGE),
)


UNDRAWN = ('cue parrot', 'M_0, before training')


def figures(study: Study, found: dict) -> dict:
  drawn = [x for x in found['speakers'] if x['speaker'] not in UNDRAWN]
  names = [x['speaker'].replace(' ', '\n').replace('/', '/\n') for x in drawn]
  panels = [('right about it, % of items', names, drawn, SERIES)]
  caption = f'Who is right about the behaviour of {short(found["main"])}.'
  return {'access': (caption, functools.partial(plots.panels, panels))}
