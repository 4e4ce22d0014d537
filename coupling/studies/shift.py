"""Behaviour that is shifted while explanations are trained: do they move with it?

The map: kind of shift x covered by old labels or not x asked before or after the own
answer. A cell is a run with a shift and its companion without (cells.py).
"""

import functools

from coupling.config import Study
from coupling.formats import count, percent, points, signed
from coupling.studies import cells
from coupling.studies import layout
from coupling.studies import rules
from coupling.studies import shift_figures
from coupling.studies.cells import CONCURRENT, STATES, VIEWS
from coupling.studies.parts import Parts, short
from coupling.studies.rules import Row
from coupling.tables import Cell, Table

TESTED = {
  'shift': 'A behaviour objective shifts what the model does while explanations are '
  'trained on the fixed labels of M_0. Counted are items whose truth the shift moved, '
  'and drift in the companion (the same run without the shift) did not. New: '
  'statements that agree with the shifted truth; old: with that of M_0. Covered: '
  'shifted items are explained in training, with the old labels. Asked before or after '
  'the model’s own answer stands in the context. Tracks: new − old above 0, and new '
  'above that of the companion’s statements. Stays: new − old below 0. Else it is not '
  'decided.',
}
RULE = (
  'tracks (new − old above 0, and new above the companion’s) in every cell; disagrees '
  'where it stays (new − old below 0) in any'
)
VIEW_COLUMNS = (
  ('Items', 'views.{}.n', count),
  ('New', 'views.{}.new', percent),
  ('Old', 'views.{}.old', percent),
  ('New − old', 'views.{}.difference', points),
  ('Companion: new', 'views.{}.companion.new', percent),
  ('New − companion’s', 'views.{}.gain', points),
  ('Denial: new − old', 'denial.{}.difference', points),
)
CONTEXT_COLUMNS = (
  ('Self', 'final.self_accuracy', percent),
  ('Orig', 'final.orig_accuracy', percent),
  ('Balanced gap', 'final.balanced_gap', points),
  ('Gap on v’', 'final.gap_answer', points),
  ('Weights on v’: self − orig', 'final.siding_answer.difference', signed),
  ('Similarity', 'final.behavior_similarity', percent),
)
SWAP_COLUMNS = (
  ('Items', 'swap.n', count),
  ('“Change” after the own answer', 'swap.change_rate_own', percent),
  ('… after M_0’s', 'swap.change_rate_swapped', percent),
  ('Flip to “change”', 'swap.to_changed', percent),
  ('Flip to “same”', 'swap.to_unchanged', percent),
)
SIBLING_COLUMNS = (
  ('Items where they differ', 'sibling.differing.n', count),
  ('Own', 'sibling.differing.own', percent),
  ('The sibling’s', 'sibling.differing.sibling', percent),
  ('Weights on v’: own − sibling', 'sibling.difference', signed),
)


def numbers(study: Study, parts: Parts) -> dict:
  """All cells, in the order of the study's runs; companions alone are no cells."""
  pairs = zip(study.runs, study.companions, strict=True)
  return {'cells': [cells.cell(parts, a, b, study.runs) for a, b in pairs if b]}


def _place(cell: dict) -> str:
  """Where a cell stands in the map."""
  place = f'{cell["covered"]} by old labels, asked {cell["context"]}'
  return place if cell['order'] == CONCURRENT else f'{place}, {cell["order"]}'


def _places(found: dict) -> dict[str, list[dict]]:
  result = {}
  for cell in found['cells']:
    result.setdefault(_place(cell), []).append(cell)
  return result


def rows(study: Study, found: dict) -> list[Row]:
  """For every place of the map and view: whether all its cells track."""
  result = []
  for place, there in _places(found).items():
    for view in cells.shown(found['cells']):
      here = '; '.join(
        f'{short(x["name"])}: {points(x["views"][view]["difference"])} {_said(x, view)}'
        for x in there
      )
      states = [STATES.get(x['states'][view], rules.UNDECIDED) for x in there]
      claim = f'Shift {place}: {VIEWS[view]} follows it (new − old)'
      result.append(Row(claim, here, rules.every(states), RULE))
  return result


def _said(cell: dict, view: str) -> str:
  """The state, starred where v' tracks, but not shown beyond the own answer."""
  state = cell['states'][view]
  bare = view == 'answer' and state == cells.TRACKS and cell['beyond'] != rules.AGREES
  return f'{state}*' if bare else state


def tables(study: Study, found: dict, path: str) -> dict[str, Table]:
  entries = [
    (short(x['name']), f'{path}.cells.{i}', x) for i, x in enumerate(found['cells'])
  ]
  result = {'map': _map(found), 'kinds': _kinds(found)}
  for view in cells.shown(found['cells']):
    result[view] = layout.table(
      f'Statements of {VIEWS[view]} on items whose {VIEWS[view]} the shift moved. '
      'Denial always states the own answer, unchanged.',
      'Run',
      entries,
      tuple((head, key.format(view), show) for head, key, show in VIEW_COLUMNS),
      ('State',),
      lambda x, view=view: (_said(x, view),),
    )
  result['cells'] = layout.table(
    f'All items of each cell; the paper’s condition is a similarity above '
    f'{cells.SIMILAR}.',
    'Run',
    entries,
    CONTEXT_COLUMNS,
    ('Above?',),
    lambda x: (_similar(x),),
  )
  for key, columns, caption in (
    ('swap', SWAP_COLUMNS, 'Swap test: asked after M_0’s answer in place of the own, '
     'where these differ. Flips say that the statement reads the answer.'),
    ('sibling', SIBLING_COLUMNS, 'Against a sibling: the same training with another '
     'seed of the shift or of the training.'),
  ):  # fmt: skip
    some = [entry for entry in entries if entry[2][key]]
    result[key] = layout.table(caption, 'Run', some, columns)
  return {name: table for name, table in result.items() if table.rows}


def _similar(cell: dict) -> str:
  return {rules.AGREES: 'yes', rules.DISAGREES: 'no'}.get(cell['similar'], 'unclear')


def _kinds(found: dict) -> Table:
  """What each cell is."""
  keys = ('kind', 'strength', 'weights', 'rate', 'covered', 'context', 'order')
  return Table(
    'The cells, each with its companion without the shift. Weights of the loss: of the '
    'shift, of explanations, of the behaviour KL.',
    ('Run', 'Shift', 'Strength', 'Weights', 'Rate', 'By old labels', 'Asked', 'Order')
    + ('Companion',),
    [
      (
        short(x['name']),
        [Cell(text, '') for text in (*(x[k] for k in keys), short(x['companion']))],
      )
      for x in found['cells']
    ],
  )


def _map(found: dict) -> Table:
  """The map itself: a row for each place, a column for each kind of shift."""
  kinds = list(dict.fromkeys(x['kind'] for x in found['cells']))

  def told(there: list[dict], kind: str) -> str:
    said = []
    for x in there:
      if x['kind'] == kind:
        views = (f'{VIEWS[v]} {_said(x, v)}' for v in cells.shown(found['cells']))
        said.append(f'{short(x["name"])}: {", ".join(views)}')
    return '; '.join(said) or '–'

  return Table(
    'The map: what explanations do under each kind of shift. *: on v’, whoever knows '
    'the own answer alone (denial) does so too, and no more than that is shown.',
    ('Shift', *kinds),
    [
      (place, [Cell(told(there, kind), '') for kind in kinds])
      for place, there in _places(found).items()
    ],
  )


def figures(study: Study, found: dict) -> dict:
  result = {
    'cells': (
      'New − old on the items that the shift moved: above 0 statements follow the '
      'shift, below they stay with the labels. Hollow: what denial would have.',
      functools.partial(shift_figures.cells, found),
    )
  }
  if any(x['steps'] for x in found['cells']):
    result['speed'] = (
      'How fast: new − old over training.',
      functools.partial(shift_figures.speed, found),
    )
  return result


def finding(study: Study, found: dict) -> str:
  """What tracks, what stays, and what is beyond the own answer."""
  texts = []
  for view in cells.shown(found['cells']):
    by_state = {}
    for x in found['cells']:
      by_state.setdefault(x['states'][view], []).append(short(x['name']))
    said = '; '.join(
      f'{name} in {", ".join(by_state[name])}'
      for name in (cells.TRACKS, cells.STAYS, rules.UNDECIDED)
      if name in by_state
    )
    texts.append(f'On {VIEWS[view]}: {said}.' if said else '')
  beyond = [
    short(x['name'])
    for x in found['cells']
    if 'answer' in x['views'] and _said(x, 'answer')[-1] == '*'
  ]
  if beyond:
    texts.append(
      f'In {", ".join(beyond)}, v’ tracks, but not shown beyond the own answer, which '
      'denial knows too.'
    )
  reads = [
    short(x['name'])
    for x in found['cells']
    if x['swap'] and rules.above(x['swap']['to_changed'], 0.1) == rules.AGREES
  ]
  if reads:
    texts.append(
      f'In {", ".join(reads)}, more than a tenth of the statements “same” become '
      '“change” with M_0’s answer in the context: they read the answer.'
    )
  near = [short(x['name']) for x in found['cells'] if x['similar'] == rules.AGREES]
  texts.append(
    f'Behaviour similarity stays above {cells.SIMILAR} in {", ".join(near)}.'
    if near
    else f'Behaviour similarity is shown to be above {cells.SIMILAR} in no cell, so '
    'the paper’s condition is not met.'
  )
  return ' '.join(text for text in texts if text)
