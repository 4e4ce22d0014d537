"""What the numbers of an experiment allow to conclude: its rows, headline first."""

import dataclasses

from coupling.report import fitness
from coupling.report import planted
from coupling.report import tables
from coupling.report.conclusions import Claim, Row, above, below, row, sign
from coupling.report.conclusions import CONTRADICTED, HALF, INCONCLUSIVE, SUPPORTED
from coupling.report.experiment_claims import CLAIMS, HEADLINES

CONTROLS = ('sibling', 'shuffled')
# Where a row stands on the page.
HEADLINE, CHECKS, FURTHER, WARNINGS = 'headline', 'checks', 'further', 'warnings'
DRIFT = 'drift'
SIMILARITY = 0.7  # the paper's condition: labels and behaviour agree on about this


def conclude(summary: dict) -> list[dict]:
  """Rows of aggregate.summarize, each with its `part` of the page.

  The headline rests on `checks`, the controls, the seeds and the warnings alone.
  """
  warnings = fitness.warnings(summary)
  parts = {
    HEADLINE: [_headline(summary, warnings)],
    CHECKS: _tested(summary),
    DRIFT: _drifted(summary),
    FURTHER: _further(summary),
    WARNINGS: warnings,
  }
  return [
    dataclasses.asdict(x) | {'part': part} for part, rows in parts.items() for x in rows
  ]


def checks(summary: dict) -> dict[str, dict]:
  """Statistics that must lie above zero before coupling is said to be shown.

  Beside the raw gap they are on v’ alone: reliance on self minus that on orig; minus
  that on the labels trained on, where these are another model's; the slope beyond a
  sibling; the first minus the same of a run on shuffled labels; and reliance on self
  minus that of the sibling's statements in the place of the own, and minus that of an
  explainer that reads inputs alone. Knowledge of the cue, of the own answer and of
  what models share raises none of these (benchmarks/impostors.py) but that over the
  sibling's statements, where these speak against the own v’; what inputs give may
  raise all but the last. Reliance of whole explanations is not among them: M_0's v’
  put together with the own current answer raises that.
  """
  main = summary['runs'][summary['roles']['main']]['final']
  found = {'gap': main['gap'], 'reliance': main['reliance_answer']['difference']}
  if 'trained_labels' in summary:
    labels = summary['trained_labels']['reliance_answer']
    found['other_labels'] = labels['difference']
  if 'sibling' in summary:
    found['sibling'] = summary['sibling']['explanations']['beyond_shared']['smaller']
    other = summary['contrasts']['other_explainer']
    found['other_explainer'] = other['reliance_answer_self']
  if 'shuffled' in summary['roles']:
    contrast = summary['contrasts']['shuffled']
    found['shuffled'] = contrast['reliance_answer_difference']
  alone = summary['contrasts']['input_only']
  return found | {'input_only': alone['reliance_answer_self']}


def failed(summary: dict) -> list[str]:
  """The checks whose interval is not above zero."""
  return [k for k, x in checks(summary).items() if sign(x) != 'above']


def _headline(summary: dict, warnings: list[Row]) -> Row:
  key = headline(
    {k: sign(x) for k, x in checks(summary).items()},
    whole=all(role in summary['roles'] for role in CONTROLS)
    and len(summary['seeds']) > 1
    and not warnings,
    audit=summary['audit'],
  )
  state, text = HEADLINES[key]
  gap = CLAIMS['gap']
  found = {'headline': Claim(text, '', gap.unit, gap.against)}
  made = row(found, 'headline', _final(summary)['gap'], state, _denial(summary, 'gap'))
  return dataclasses.replace(made, about=key)


def headline(signs: dict[str, str], whole: bool, audit: bool) -> str:
  """The key of the headline.

  Args:
    signs: where the intervals of `checks` lie.
    whole: all controls and several seeds were run, without warnings.
    audit: nothing was trained.
  """
  gap, reliance = signs['gap'], signs['reliance']
  if set(signs.values()) == {'above'}:
    return 'of_audit' if audit else 'shown' if whole else 'unproven'
  if gap == 'below':
    found = {'above': 'measures_disagree', 'below': 'failed'}
    return found.get(reliance, 'labels_more_often')
  found = {'above': 'gap_alone', 'around': 'gap_around_zero'}
  return found.get(gap, 'no_interval')


def _final(summary: dict, role: str = 'main') -> dict:
  return summary['runs'][summary['roles'][role]]['final']


def _denial(summary: dict, key: str) -> float | None:
  return summary['baselines']['denial'][key]['mean']


def _tested(summary: dict) -> list[Row]:
  """What the headline rests on, and the conditions that the paper names."""
  found, seeds = checks(summary), len(summary['seeds'])
  result = [
    row(CLAIMS, 'gap', found['gap'], above(found['gap']), _denial(summary, 'gap'))
  ]
  for key in ('reliance', 'other_labels', *CONTROLS, 'other_explainer', 'input_only'):
    if key in found:
      result.append(row(CLAIMS, key, found[key], above(found[key])))
    elif key in CONTROLS:
      result.append(row(CLAIMS, key, None, INCONCLUSIVE))
  number = {'mean': seeds, 'low': None, 'high': None}
  result.append(row(CLAIMS, 'seeds', number, SUPPORTED if seeds > 1 else INCONCLUSIVE))
  similarity = _final(summary)['behavior_similarity']
  state = above(similarity, SIMILARITY)
  return [
    *result,
    *planted.rows(summary),
    row(CLAIMS, 'similarity', similarity, state, SIMILARITY),
  ]


def _drifted(summary: dict) -> list[Row]:
  """Of several given checkpoints: since which explanations, or behaviour, left."""
  if DRIFT not in summary:
    return []
  found, rows = summary[DRIFT], []
  last = list(found['steps'].values())[-1]
  for key, number, limit in (
    ('parted', last['self_change'], 0.0),
    ('dissimilar', last['similarity'], SIMILARITY),
  ):
    since = found[key]['since']
    about = tables.name(summary, since) if since is not None else ''
    beside = limit or None
    rows.append(row(CLAIMS, key, number, below(number, limit), beside, about))
  return rows


def _further(summary: dict) -> list[Row]:
  """What others can reach too, so that nothing rests on it."""
  main, roles = _final(summary), summary['roles']
  balanced, answer = main['balanced_gap'], main['gap_answer']
  whole, surface = main['reliance']['difference'], main['shuffled']['corrected_gap']
  result = [
    *(
      row(CLAIMS, key, found, above(found), _denial(summary, key))
      for key, found in (('balanced_gap', balanced), ('gap_answer', answer))
    ),
    row(CLAIMS, 'whole_reliance', whole, above(whole)),
    row(CLAIMS, 'surface', surface, above(surface)),
    _classes(summary, 'main'),
  ]
  if 'unregularised' not in roles:
    return result
  without = _final(summary, 'unregularised')
  for key, (group, name) in {
    'unregularised': ('reliance', 'difference'),
    'unregularised_answer': ('reliance_answer', 'difference'),
    'unregularised_self': ('reliance_answer', 'self'),
  }.items():
    found = without[group][name]
    beside = main[group][name]['mean']
    run = roles['unregularised']
    result.append(row(CLAIMS, key, found, above(found), beside, run))
  return [*result, _classes(summary, 'unregularised')]


def _classes(summary: dict, role: str) -> Row:
  """Whether the rarer class of behaviour kept more than half of its share."""
  rates = _final(summary, role)['change_rate']
  base, current = (
    min(rates[k]['mean'], 1 - rates[k]['mean']) for k in ('base', 'current')
  )
  number = {'mean': current, 'low': None, 'high': None}
  state = SUPPORTED if current >= HALF * base else CONTRADICTED
  run = summary['roles'][role]
  return row(CLAIMS, 'classes', number, state, HALF * base, run)
