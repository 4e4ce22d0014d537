"""Behaviour that is shifted while explanations are trained: do they move with it?

The map: kind of shift x covered by old labels or not x asked before or after the own
answer. A cell is a run with a shift and its companion without (cells.py).
"""

import functools

from coupling.config.paper_schema import Study
from coupling.paper import cells
from coupling.paper import shift_figures
from coupling.paper.cells import CONCURRENT, VIEWS
from coupling.paper.paper_claims import SIMILAR, row
from coupling.paper.paper_seeds import Parts, short
from coupling.report import conclusions
from coupling.report.conclusions import Row
from coupling.report.numerals import count, percent, points, signed
from coupling.report.tables import Cell, Table, table

TESTED = {
  'shift': 'A behaviour objective shifts what the model does while explanations are '
  'trained on the fixed labels of M_0. Counted are items that the shift concerns, '
  'whose truth moved, and did not in the companion (the same run without the shift). '
  'New: statements that agree with the shifted truth; old: with that of M_0. Covered: '
  'training facts are explained, with the old labels, on prompts of the kind that is '
  'shifted; evaluated facts are never explained. Asked before or after the model’s own '
  'answer stands in the context. Tracks: new − old above 0, new above that of the '
  'companion’s statements, and, for what holds an answer, new − old above denial’s and '
  'reliance on the items that the shift concerns above 0. Follows in part: new − '
  'old below 0, but new above the companion’s. Stays: new − old below 0 without that. '
  'A shift of what cues do cannot move v’, which is then left out. Where a preference '
  'for some answers is not covered, these are never named in explanation training: '
  'lack of coverage and words that were not seen are the same there. The paper’s '
  f'condition is a similarity above {SIMILAR}.',
}
VIEW_COLUMNS = (
  ('Items', 'views.{}.n', count),
  ('New', 'views.{}.new', percent),
  ('Old', 'views.{}.old', percent),
  ('New − old', 'views.{}.difference', points),
  ('Companion: new', 'views.{}.companion.new', percent),
  ('New − companion’s', 'views.{}.gain', points),
  ('Denial: new − old', 'views.{}.denied.difference', points),
  ('New − old minus denial’s', 'views.{}.denied.gain', points),
)
CONTEXT_COLUMNS = (
  ('Self', 'final.self_accuracy', percent),
  ('Orig', 'final.orig_accuracy', percent),
  ('Balanced gap', 'final.balanced_gap', points),
  ('Gap on v’', 'final.gap_answer', points),
  ('Reliance on v’: self − orig', 'final.reliance_answer.difference', signed),
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
  ('Beyond what both share', 'sibling.beyond_shared.smaller', signed),
)
SHUFFLED_COLUMNS = (
  ('Items with shuffled labels', 'shuffled.n', count),
  ('New', 'shuffled.new', percent),
  ('Old', 'shuffled.old', percent),
  ('New − old', 'shuffled.difference', points),
  ('New − old minus denial’s', 'shuffled.denied', points),
  ('Cell − shuffled: new − old', 'shuffled.gain', points),
  ('… minus denial’s', 'shuffled.denied_gain', points),
  ('… reliance: self − orig', 'shuffled.weights', signed),
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
  """For every cell and view: whether it tracks; and whether labels make it do so."""
  tracking = [
    row(
      f'shift_{view}',
      told['difference'],
      cells.decided(x, view),
      None if view == 'change' else told['denied']['difference']['mean'],
      f'{short(x["name"])}: {x["kind"]}, {_place(x)}',
    )
    for x in found['cells']
    for view, told in x['views'].items()
  ]
  beyond = [
    row(
      'shift_beyond_shuffled',
      control['denied_gain'],
      cells.beyond_shuffled(x),
      control['denied']['mean'],
      f'{short(x["name"])}: {VIEWS[next(iter(x["views"]))]}',
    )
    for x in found['cells']
    if (control := x['shuffled'])
  ]
  return tracking + beyond


def tables(study: Study, found: dict, path: str) -> dict[str, Table]:
  entries = [
    (short(x['name']), f'{path}.cells.{i}', x) for i, x in enumerate(found['cells'])
  ]
  result = {'map': _map(found), 'kinds': _kinds(found)}
  for view in cells.shown(found['cells']):
    columns = tuple((head, key.format(view), show) for head, key, show in VIEW_COLUMNS)
    if view != 'change':
      columns += (('Reliance: self − orig', f'reliance.{view}', signed),)
    result[view] = table(
      f'Statements of {VIEWS[view]} on items whose {VIEWS[view]} the shift moved; '
      'reliance is on all items that it concerns. Denial always states the own answer, '
      'unchanged.',
      'Run',
      [entry for entry in entries if view in entry[2]['views']],
      columns,
      ('State', 'Similar?'),
      lambda x, view=view: (x['states'][view], _similar(x)),
    )
    # A shift of what cues do cannot move v'.
    result[view].rows.extend(
      (label, [Cell('–')] * (2 + len(columns)))
      for label, _, x in entries
      if view not in x['views']
    )
  result['cells'] = table(
    f'All items of each cell; the paper’s condition is a similarity above {SIMILAR}.',
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
    ('shuffled', SHUFFLED_COLUMNS, 'Against the same shift beside shuffled labels, of '
     'v’ or the whole explanation where the shift can move them, else same/change.'),
  ):  # fmt: skip
    some = [entry for entry in entries if entry[2][key]]
    result[key] = table(caption, 'Run', some, columns)
  return {name: table for name, table in result.items() if table.rows}


def _similar(cell: dict) -> str:
  return {conclusions.SUPPORTED: 'yes', conclusions.CONTRADICTED: 'no'}.get(
    cell['similar'], 'unclear'
  )


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
        [Cell(text) for text in (*(x[k] for k in keys), short(x['companion']))],
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
        views = (f'{VIEWS[view]} {state}' for view, state in x['states'].items())
        said.append(f'{short(x["name"])}: {", ".join(views)}')
    return '; '.join(said) or '–'

  return Table(
    'The map: what explanations do under each kind of shift, whatever the similarity.',
    ('Shift', *kinds),
    [
      (place, [Cell(told(there, kind)) for kind in kinds])
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
