"""What the map of shifts shows, in words."""

from coupling.config.schema import Study
from coupling.paper import cells
from coupling.paper import rules
from coupling.paper.cells import PREFERENCES, VIEWS
from coupling.paper.paper_seeds import short


def finding(study: Study, found: dict) -> str:
  """What tracks, what stays, and what is beyond the own answer."""
  known = found['cells']
  texts = []
  for view in cells.shown(known):
    by_state = {}
    for x in known:
      if view in x['states']:
        by_state.setdefault(x['states'][view], []).append(short(x['name']))
    said = '; '.join(
      f'{state} in {", ".join(by_state[state])}'
      for state in (cells.TRACKS, cells.PARTLY, cells.STAYS, rules.UNDECIDED)
      if state in by_state
    )
    texts.append(f'On {VIEWS[view]}: {said}.')
    outside = [
      short(x['name'])
      for x in known
      if x['states'].get(view) == cells.STAYS and cells.outside(x, view)
    ]
    if outside:
      texts.append(
        f'In {", ".join(outside)} what is said of {VIEWS[view]} does not follow the '
        'behaviour: it stays with the old labels. There labels and behaviour are not '
        f'shown to agree on more than {cells.SIMILAR}, so this is outside the paper’s '
        'condition, and no test of its claim.'
      )
  bare = [
    short(x['name'])
    for x in known
    for view in x['siding']
    if x['states'][view] == rules.UNDECIDED
    and rules.above(x['views'][view]['difference']) == rules.AGREES
  ]
  if bare:
    texts.append(
      f'In {", ".join(bare)}, new − old is above 0, but not shown to go beyond the '
      'own answer, which denial knows too.'
    )
  favored = [x['covered'] for x in known if x['kind'].endswith(PREFERENCES['favor'])]
  if cells.FREE in favored:
    texts.append(
      'Where a preference for some answers is not covered, these answers are never '
      'offered, hence never named, in explanation training: lack of coverage and words '
      'that were not seen cannot be told apart there.'
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
