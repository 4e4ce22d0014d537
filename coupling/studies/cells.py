"""Cells of the map of shifts: what a run shifts, and what its statements then do."""

import dataclasses

from coupling import baselines
from coupling import comparisons
from coupling.config import Train
from coupling.items import Items
from coupling.studies import rules
from coupling.studies.parts import MAIN, Parts

VIEWS = {'answer': 'v’', 'change': 'same/change', 'label': 'whole explanation'}
SIMILAR = 0.7  # the paper's condition on behaviour similarity
TRACKS, STAYS = 'tracks', 'stays'
STATES = {TRACKS: rules.AGREES, STAYS: rules.DISAGREES}
CONCURRENT, SHIFT_FIRST, EXPLAIN_FIRST = 'concurrent', 'shift first', 'explain first'
ON_CUES = {'ignore_cue': 'cues ignored', 'follow_cue': 'cues followed'}
PREFERENCES = {  # of the built-in world; others go by their own names
  'rotate': 'answers moved fact by fact',
  'favor': 'some answers preferred',
  'comply': 'complying preferred',
  'refuse': 'refusing preferred',
}
SIDES = ('new', 'old', 'difference')


def cell(parts: Parts, name: str, companion: str, others: tuple[str, ...]) -> dict:
  """What a shifted run is, and how its statements side.

  Args:
    parts: the records.
    name: the run.
    companion: the run without the shift.
    others: runs among which its sibling may be.

  Returns:
    name, companion, and what `described` says; final; views (of
    `comparisons.companion`); denial, the same of denial in place of both runs'
    statements; steps, the views over training; swap and sibling, {} without; states,
    by view; beyond, whether v' sides with the current truth beyond the own answer,
    which denial knows too; similar, whether similarity is above SIMILAR.
  """
  views = parts.over(lambda seed: _views(parts, name, companion, seed))
  final = parts.entry(name)
  sibling = _sibling_of(parts, name, others)
  swapped = [s.swapped(run) for s, run in (parts.seed(name, x) for x in parts.seeds)]
  return {
    'name': name,
    'companion': companion,
    **described(parts, name),
    'final': final,
    'views': views,
    'denial': parts.over(lambda seed: _denial(parts, name, companion, seed)),
    'steps': _steps(parts, name, companion),
    'swap': parts.over(lambda seed: _swap(parts, name, seed)) if all(swapped) else {},
    'sibling': parts.over(lambda seed: _sibling(parts, name, sibling, seed))
    if sibling
    else {},
    'states': {view: state(found) for view, found in views.items()},
    'beyond': rules.above(final['siding_answer']['difference']),
    'similar': rules.above(final['behavior_similarity'], SIMILAR),
  }


def described(parts: Parts, name: str) -> dict[str, str]:
  """What is shifted, how, whether old labels cover it, when it is asked, the order."""
  train = parts.train(name)
  part, run = name.split('/', 1)
  begun = parts.train(f'{part}/{train.start}') if train.start else None
  shift = (train if shifts(train) or not begun else begun).objectives.behavior_xent
  order = CONCURRENT
  if begun and shifts(begun) and not explains(begun):
    order = SHIFT_FIRST
  elif begun and explains(begun) and not shifts(begun):
    order = EXPLAIN_FIRST
  kind = (ON_CUES | PREFERENCES).get(shift.target, shift.target)
  if shift.cues not in ('all', 'explained'):
    kind += f', {shift.cues} alone'
  return {
    'kind': kind if part == MAIN else f'{part}: {kind}',
    'strength': '–' if shift.target in ON_CUES else f'{shift.strength:g} nats',
    'weights': f'{train.objectives.behavior_xent.weight:g}, '
    f'{train.objectives.explanation_xent.weight:g}, '
    f'{train.objectives.behavior_kl.weight:g}',
    'rate': f'{train.optimizer.learning_rate:g}',
    'covered': 'not covered' if train.explained == 'unshifted' else 'covered',
    'context': train.context,
    'order': order,
  }


def shifts(train: Train) -> bool:
  return train.objectives.behavior_xent.weight > 0


def explains(train: Train) -> bool:
  return train.objectives.explanation_xent.weight > 0


def shown(found: list[dict]) -> tuple[str, str]:
  """Views to show: v', or where "unchanged" names none the whole explanation."""
  return ('answer' if all('answer' in x['views'] for x in found) else 'label', 'change')


def state(view: dict) -> str:
  """TRACKS, STAYS, or not decided.

  Tracks: new - old is above 0, and new is above what the companion, which has nothing
  new to tell, states of it by chance. Stays: new - old is below 0.
  """
  leaning = rules.above(view['difference'])
  if leaning == rules.DISAGREES:
    return STAYS
  both = rules.every((leaning, rules.above(view['gain'])))
  return TRACKS if both == rules.AGREES else rules.UNDECIDED


def _triple(parts: Parts, name: str, companion: str, seed: int, step: int | None):
  return (
    parts.items(name, seed, step),
    parts.items(companion, seed, step),
    parts.orig(name, seed),
  )


def _views(
  parts: Parts, name: str, companion: str, seed: int, step: int | None = None
) -> dict:
  return comparisons.companion(*_triple(parts, name, companion, seed, step))


def _denial(parts: Parts, name: str, companion: str, seed: int) -> dict:
  items, other, orig = _triple(parts, name, companion, seed, None)
  found = comparisons.companion(_denied(items), _denied(other), orig)
  return {view: {side: found[view][side] for side in SIDES} for view in found}


def _denied(items: Items) -> Items:
  return dataclasses.replace(items, stated=baselines.denial(items))


def _steps(parts: Parts, name: str, companion: str) -> list[dict]:
  """Views at every trained step that both were evaluated at; none for a single one."""
  steps = [x for x in parts.steps(name) if x and x in parts.steps(companion)]
  if len(steps) < 2:
    return []
  return [
    {'step': step}
    | parts.over(lambda seed, step=step: _views(parts, name, companion, seed, step))
    for step in steps
  ]


def _swap(parts: Parts, name: str, seed: int) -> dict:
  s, run = parts.seed(name, seed)
  return comparisons.swap_test(s.final(run), s.swapped(run))


def _sibling_of(parts: Parts, name: str, others: tuple[str, ...]) -> str | None:
  """Another run of the same part that differs in seeds and kept steps alone."""
  part, _ = name.split('/', 1)
  wanted = _seedless(parts.train(name))
  same = (
    x for x in others
    if x != name and x.startswith(f'{part}/') and _seedless(parts.train(x)) == wanted
  )  # fmt: skip
  return next(same, None)


def _seedless(train: Train) -> Train:
  shift = dataclasses.replace(train.objectives.behavior_xent, seed=0)
  objectives = dataclasses.replace(train.objectives, behavior_xent=shift)
  loop = dataclasses.replace(train.loop, checkpoint_every=1)
  return dataclasses.replace(
    train, seed=0, objectives=objectives, loop=loop, evaluated='last'
  )


def _sibling(parts: Parts, name: str, sibling: str, seed: int) -> dict:
  """Own behaviour against the sibling's, on whole explanations and on v' alone."""
  items, other = parts.items(name, seed), parts.items(sibling, seed)
  found = comparisons.sibling(items, other)
  return {
    'differing': found['differing'],
    'difference': found['siding_answer']['difference'],
  }
