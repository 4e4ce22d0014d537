"""Cells of the map of shifts: what a run shifts, and what its statements then do."""

import dataclasses

import numpy as np

from coupling.config import schema
from coupling.config.schema import Train
from coupling.paper.paper_claims import SIMILAR
from coupling.paper.paper_seeds import MAIN, Parts, minus_of, subset
from coupling.report import conclusions
from coupling.statistics import contrasts
from coupling.statistics import reliance
from coupling.statistics import sibling_control
from coupling.training import behavior_shift

VIEWS = {'answer': 'v’', 'change': 'same/change', 'label': 'whole explanation'}
TRACKS, STAYS, PARTLY = 'tracks', 'stays', 'follows in part'
CONCURRENT, SHIFT_FIRST, EXPLAIN_FIRST = 'concurrent', 'shift first', 'explain first'
ON_CUES = {
  behavior_shift.IGNORE: 'cues ignored',
  behavior_shift.FOLLOW: 'cues followed',
}
PREFERENCES = {  # of the built-in world; others go by their own names
  'rotate': 'answers moved fact by fact',
  'favor': 'some answers preferred',
  'comply': 'complying preferred',
  'refuse': 'refusing preferred',
}
ORDER = ('answer', 'label', 'change')
FREE = 'not covered'
UNKNOWN = {'value': None, 'low': None, 'high': None}


def cell(parts: Parts, name: str, companion: str, others: tuple[str, ...]) -> dict:
  """What a shifted run is, and how its statements side.

  Args:
    parts: the records.
    name: the run.
    companion: the run without the shift.
    others: runs among which its sibling may be.

  Returns:
    name, companion, and what `described` says; final; views (of
    `contrasts.companion`, where the shift can move them); reliance, weights of the
    current minus M_0's truth on items that the shift concerns, for views that hold an
    answer; steps, the views over training; swap, sibling and shuffled (of `_shuffled`),
    {} without; states, by view; similar, whether similarity is above SIMILAR.
  """
  final = parts.entry(name)
  sibling = _twin(parts, name, others, shuffled=False)
  shuffled = _twin(parts, name, others, shuffled=True)
  swapped = [s.swapped(run) for s, run in (parts.seed(name, x) for x in parts.seeds)]
  views = parts.over(_views, name, companion, None)
  weights = parts.over(_weights, name)
  return {
    'name': name,
    'companion': companion,
    **described(parts, name),
    'final': final,
    'views': views,
    'reliance': weights,
    'steps': _steps(parts, name, companion),
    'swap': parts.over(_swap, name) if all(swapped) else {},
    'sibling': parts.over(_sibling, name, sibling) if sibling else {},
    'shuffled': parts.over(_shuffled, name, shuffled, companion, shares=False)
    if shuffled
    else {},
    'states': {view: state(found, weights.get(view)) for view, found in views.items()},
    'similar': conclusions.above(final['behavior_similarity'], SIMILAR),
  }


def _shifter(parts: Parts, name: str) -> str:
  """The run whose shift a cell is of: the run itself, or the one it starts from."""
  part, _ = name.split('/', 1)
  train = parts.train(name)
  return name if shifts(train) or not train.start else f'{part}/{train.start}'


def _on_cues(parts: Parts, name: str) -> bool:
  """Whether x alone is shifted, which cannot move v'."""
  target = parts.train(_shifter(parts, name)).objectives.shift.target
  return target in ON_CUES


def described(parts: Parts, name: str) -> dict[str, str]:
  """What is shifted, how, whether old labels cover it, when it is asked, the order."""
  train = parts.train(name)
  part, _ = name.split('/', 1)
  begun = parts.train(f'{part}/{train.start}') if train.start else None
  shift = parts.train(_shifter(parts, name)).objectives.shift
  order = CONCURRENT
  if begun and shifts(begun) and not explains(begun):
    order = SHIFT_FIRST
  elif begun and explains(begun) and not shifts(begun):
    order = EXPLAIN_FIRST
  kind = (ON_CUES | PREFERENCES).get(shift.target, shift.target)
  if shift.cues not in ('all', 'explained'):
    kind += f', {shift.cues} alone'
  if isinstance(shift, schema.DPO):
    kind += ', by DPO'
  return {
    'kind': kind if part == MAIN else f'{part}: {kind}',
    'strength': _strength(shift),
    'weights': f'{train.objectives.shift.weight:g}, '
    f'{train.objectives.explanation_xent.weight:g}, '
    f'{train.objectives.behavior_kl.weight:g}',
    'rate': f'{train.optimizer.learning_rate:g}',
    'covered': FREE if train.explained == 'unshifted' else 'covered',
    'context': train.context,
    'order': order,
  }


def _strength(shift: schema.Shift) -> str:
  """How far a preference moves log-probabilities; DPO knows only which option wins."""
  if isinstance(shift, schema.DPO):
    return f'beta {shift.beta:g}'
  return '–' if shift.target in ON_CUES else f'{shift.strength:g} nats'


def shifts(train: Train) -> bool:
  return train.objectives.shift.weight > 0


def explains(train: Train) -> bool:
  return train.objectives.explanation_xent.weight > 0


def shown(found: list[dict]) -> list[str]:
  """The views of any cell, v' or the whole explanation first."""
  return [view for view in ORDER if any(view in x['views'] for x in found)]


def state(view: dict, weights: dict | None) -> str:
  """TRACKS, STAYS, PARTLY, or inconclusive.

  Args:
    view: of `contrasts.companion`, over seeds.
    weights: self - orig on the items that the shift concerns, of a view that holds an
      answer. Denial knows the own answer, which is v' wherever nothing changes, so such
      a view tracks only where it sides with the new truth more than denial does, and
      these weights are above 0; SAME/CHANGE has none.
  """
  follows = conclusions.above(view['gain'])  # more than the companion, by chance
  leaning = conclusions.above(view['difference'])
  if leaning == conclusions.CONTRADICTED:
    return PARTLY if follows == conclusions.SUPPORTED else STAYS
  found = [leaning, follows]
  if weights is not None:
    found += [conclusions.above(view['denied']['gain']), conclusions.above(weights)]
  return TRACKS if set(found) == {conclusions.SUPPORTED} else conclusions.INCONCLUSIVE


def decided(cell: dict, view: str) -> str:
  """Whether a cell agrees with the claim, which is made of similar behaviour alone."""
  if cell['similar'] == conclusions.CONTRADICTED:
    return conclusions.NOT_TESTED  # no number of seeds makes it one
  if cell['similar'] != conclusions.SUPPORTED:
    return conclusions.INCONCLUSIVE
  if cell['states'][view] == TRACKS:
    return conclusions.SUPPORTED
  # It stays, or follows in part: new - old is below 0.
  leaning = conclusions.above(cell['views'][view]['difference'])
  return leaning if leaning == conclusions.CONTRADICTED else conclusions.INCONCLUSIVE


def beyond_shuffled(cell: dict) -> str:
  """Whether a cell tracks, and has more than its shift beside shuffled labels."""
  control, view = cell['shuffled'], next(iter(cell['views']))
  more = [control[key] for key in ('gain', 'denied_gain', 'weights') if key in control]
  found = conclusions.every(map(conclusions.above, more))
  return conclusions.provided(found, decided(cell, view))


def _shifted(parts: Parts, name: str, seed: int) -> np.ndarray:
  """bool [N]: the items that the shift of a cell concerns."""
  s, run = parts.seed(_shifter(parts, name), seed)
  return s.shifted[run]


def _views(
  parts: Parts, name: str, companion: str, step: int | None, seed: int
) -> dict:
  """The views that the shift can move: v' or the whole explanation, and SAME/CHANGE."""
  found = contrasts.companion(
    parts.items(name, seed, step),
    parts.items(companion, seed, step),
    parts.orig(name, seed),
    _shifted(parts, name, seed),
  )
  first = [] if _on_cues(parts, name) else [next(x for x in ORDER if x in found)]
  return {view: found[view] for view in (*first, 'change')}


def _weights(parts: Parts, name: str, seed: int) -> dict:
  """Weights self - orig on the items that the shift concerns."""
  if _on_cues(parts, name):
    return {}
  items, shifted_N = parts.items(name, seed), _shifted(parts, name, seed)
  view = 'answer' if items.states_answer else 'label'
  if not shifted_N.any():
    return {view: UNKNOWN}
  within, orig = (subset(x, shifted_N) for x in (items, parts.orig(name, seed)))
  found = reliance.reliance_weights(within, orig.truth, answer_only=view == 'answer')
  return {view: found['difference']}


def _steps(parts: Parts, name: str, companion: str) -> list[dict]:
  """Views at every trained step that both were evaluated at; none for a single one."""
  steps = [x for x in parts.steps(name) if x and x in parts.steps(companion)]
  if len(steps) < 2:
    return []
  return [{'step': step} | parts.over(_views, name, companion, step) for step in steps]


def _swap(parts: Parts, name: str, seed: int) -> dict:
  s, run = parts.seed(name, seed)
  return contrasts.swap_test(s.final(run), s.swapped(run))


def _twin(
  parts: Parts, name: str, others: tuple[str, ...], shuffled: bool
) -> str | None:
  """Another run of the same part that differs in seeds and kept steps alone.

  `shuffled`: and in that its labels are shuffled; of a run whose labels are, there is
  none.
  """
  part, _ = name.split('/', 1)
  wanted = _seedless(parts.train(name))
  if shuffled and wanted.shuffle_labels:
    return None
  wanted = dataclasses.replace(wanted, shuffle_labels=shuffled or wanted.shuffle_labels)
  same = (
    x for x in others
    if x != name and x.startswith(f'{part}/') and _seedless(parts.train(x)) == wanted
  )  # fmt: skip
  return next(same, None)


def _seedless(train: Train) -> Train:
  terms = train.objectives
  shift = {terms.shift_term: dataclasses.replace(terms.shift, seed=0)}
  objectives = dataclasses.replace(terms, **shift)
  loop = dataclasses.replace(train.loop, checkpoint_every=1)
  return dataclasses.replace(
    train, seed=0, objectives=objectives, loop=loop, evaluated='last'
  )


def _sibling(parts: Parts, name: str, sibling: str, seed: int) -> dict:
  """Own behaviour against the sibling's, raw and beyond what both share."""
  items, other = parts.items(name, seed), parts.items(sibling, seed)
  return {
    'differing': contrasts.sibling(items, other)['differing'],
    'beyond_shared': sibling_control.beyond_shared(items, other),
  }


def _shuffled(
  parts: Parts, name: str, shuffled: str, companion: str, seed: int
) -> dict:
  """A cell against the same shift beside labels that say nothing.

  Of the first view of `_views`, each run on the items whose truth it moved itself and
  the companion, which learned true labels, did not. Shuffled labels also make
  explanations worse, so that the difference holds that too.

  Returns:
    Of the control: n; new and old; difference, new - old; denied, that minus denial's.
    Of the cell minus the control: gain, of new - old; denied_gain, of new - old minus
    denial's; and, for a view that holds an answer, weights, self - orig.
  """
  runs = name, shuffled
  views = [_views(parts, x, companion, None, seed) for x in runs]
  view = next(iter(views[0]))
  own, control = (x[view] for x in views)
  found = {
    'n': control['n'],
    **{key: control[key]['value'] for key in ('new', 'old', 'difference')},
    'denied': control['denied']['gain']['value'],
    'gain': minus_of(parts, own['difference'], control['difference']),
    'denied_gain': minus_of(parts, own['denied']['gain'], control['denied']['gain']),
  }
  weights = [_weights(parts, x, seed) for x in runs]
  if view in weights[0]:
    found['weights'] = minus_of(parts, *(x[view] for x in weights))
  return found
