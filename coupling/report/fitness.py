"""Fitness of labels and explanations to conclude from, with warnings of what is unfit.

Too little variety in either (see statistics/variety.py), explanations that do not
parse, pairs that were left out.
"""

from collections.abc import Callable

import numpy as np

from coupling.report import words as words_lib
from coupling.report.numerals import decimal
from coupling.report.numerals import percent

# Rules of thumb, not measured: beyond these there is a warning, at them there is none.
MIN_CHANGED, MAX_CHANGED = 0.05, 0.95  # share of the labels that say "changed"
MAX_COMMONEST = 0.9  # share of the commonest label
MAX_STATEMENT = 0.95  # share of the commonest explanation
MAX_INVALID = 0.05  # share of the explanations that do not parse
MAX_LEFT_OUT = 0.05  # share of the held-out pairs that are too long

WARNING = 'warning'


def findings(summary: dict) -> list[dict]:
  """What the verdict says of fitness: of the labels always, of the rest if need be.

  One seed beyond a limit is enough for a warning.

  Args:
    summary: of aggregate.summarize.

  Returns:
    Findings {about, state, text}; state is WARNING or 'note'.
  """
  found = [_labels(summary), *_collapsed(summary), *_invalid(summary)]
  return found + _left_out(summary)


def _labels(summary: dict) -> dict:
  roles, words = summary['roles'], words_lib.of(summary)
  runs = {run: summary['runs'][run]['labels'] for run in roles.values()}
  texts = {}  # runs mostly have the same labels: what holds of several is said once
  for run, found in runs.items():
    if faults := label_faults(found):
      texts.setdefault(f'{faults}; {_equivalent(found)}.', []).append(run)
  if not texts:
    found = runs[roles['main']]
    text = (
      f'Of the {words.labels}, {percent(found["changed"])} say “changed” and '
      f'{percent(found["commonest"])} are the commonest one; {_equivalent(found)}. By '
      f'rules of thumb ({MIN_CHANGED:.0%} to {MAX_CHANGED:.0%} changed, the commonest '
      f'at most {MAX_COMMONEST:.0%}) this is variety enough {words.variety}.'
    )
    return {'about': 'labels', 'state': 'note', 'text': text}
  faults = ' '.join(f'Of {", ".join(names)}: {text}' for text, names in texts.items())
  changed = np.mean([runs[x]['changed']['mean'] for xs in texts.values() for x in xs])
  fewer, weaker = ('fewer', 'weaker') if changed > 0.5 else ('more', 'stronger')
  text = (
    f'The {words.labels} have too little variety {words.no_variety}. {faults} '
    f'Whoever always says the commonest label is then nearly always right: '
    f'{words.base_rate}, not what is known of single items. What can be done: '
    f'{weaker} cues, which change {fewer} of the answers; labels balanced by leaving '
    'out items with the commonest one; another model. The limits are rules of thumb.'
  )
  return {'about': 'labels', 'state': WARNING, 'text': text}


def _equivalent(found: dict) -> str:
  return f'they vary as much as {decimal(found["effective"])} equally frequent labels'


def label_faults(found: dict) -> str:
  """What is wrong with the labels of a run; empty where nothing is."""
  changed, commonest = found['changed'], found['commonest']
  faults = (
    (
      _where(changed, lambda x: x < MIN_CHANGED, f'below {MIN_CHANGED:.0%}'),
      f'only {percent(changed)} say “changed”',
    ),
    (
      _where(changed, lambda x: x > MAX_CHANGED, f'above {MAX_CHANGED:.0%}'),
      f'as many as {percent(changed)} say “changed”',
    ),
    (
      _where(commonest, lambda x: x > MAX_COMMONEST, f'above {MAX_COMMONEST:.0%}'),
      f'the commonest label holds {percent(commonest)} of the items',
    ),
  )
  return ', '.join(f'{text} ({where})' for where, text in faults if where)


def _where(statistic: dict, beyond: Callable[[float], bool], limit: str) -> str:
  """The limit and the number of seeds beyond it; empty where none is."""
  seeds = statistic['per_seed']
  n = sum(map(beyond, seeds))
  return (
    limit + (f' in {n} of {len(seeds)} seeds' if n < len(seeds) else '') if n else ''
  )


def _collapsed(summary: dict) -> list[dict]:
  """Explanations of nearly one statement; of shuffled labels nothing else is wanted."""
  texts = []
  for role, run in summary['roles'].items():
    found = summary['runs'][run]['statements']
    seeds = list(
      zip(*(found[k]['per_seed'] for k in ('commonest', 'labels', 'majority')))
    )
    collapsed = [x > MAX_STATEMENT >= label for x, label, _ in seeds]
    if role == 'shuffled' or not any(collapsed):
      continue
    majority = all(m > MAX_STATEMENT for (_, _, m), c in zip(seeds, collapsed) if c)
    into = 'the majority class of the labels' if majority else 'one statement'
    where = f' in {sum(collapsed)} of {len(seeds)} seeds' if not all(collapsed) else ''
    text = (
      f'The explainer of {run} has collapsed to {into}{where}: '
      f'{percent(found["commonest"])} of its explanations are one statement '
      f'(above {MAX_STATEMENT:.0%}), but only {percent(found["labels"])} of its labels.'
    )
    if any(x > MAX_STATEMENT for x in found['behavior']['per_seed']):
      text += (
        f' Its behaviour is nearly one class too ({percent(found["behavior"])})'
        ': explanations that follow it look the same.'
      )
    texts.append(text)
  return _warning('explanations', texts)


def _invalid(summary: dict) -> list[dict]:
  texts = []
  for run in summary['roles'].values():
    invalid = summary['runs'][run]['final']['invalid']
    if where := _where(invalid, lambda x: x > MAX_INVALID, f'above {MAX_INVALID:.0%}'):
      texts.append(f'{percent(invalid)} of {run} ({where})')
  if not texts:
    return []
  return _warning(
    'invalid explanations',
    [
      f'Of the explanations, these do not parse: {", ".join(texts)}. They count as '
      'wrong, so Self and Orig are too low by up to as much. What was said is in the '
      'column “statement” of the files in seed*/RUN/evaluate. What can be done: '
      f'{words_lib.of(summary).parsing}.'
    ],
  )


def _left_out(summary: dict) -> list[dict]:
  """Pairs that were too long, of the held-out split and of that trained on."""
  held_out = summary['config']['evaluate']['split']
  counts = summary['provenance']['too_long'].values()
  # Cues that are never explained stand apart, but are of the same pairs.
  apart = next(iter(summary.get('planted', {}).values()), None)
  kept = np.array(summary['items']) + (apart['n']['per_seed'] if apart else 0)
  left_S = np.array([found[held_out] for found in counts])
  train_S = np.array([found['train'] for found in counts])
  if not (left_S + train_S).any():
    return []
  share_S, words = left_S / (left_S + kept), words_lib.of(summary)
  limit = summary['config']['length']['max_tokens']
  text = (
    f'Pairs longer than length.max_tokens={limit:,} tokens were left out, of '
    f'{words.left_out} alike: {_counts(left_S)} of the held-out pairs '
    f'(split {held_out}; {share_S.max():.1%}{" at most" if len(share_S) > 1 else ""}) '
    f'and {_counts(train_S)} of {words.train_split}.'
  )
  if share_S.max() <= MAX_LEFT_OUT:
    return [{'about': 'pairs left out', 'state': 'note', 'text': text}]
  text += (
    f' That is above {MAX_LEFT_OUT:.0%}: what is said here is about the shorter texts. '
    'What can be done: a higher length.max_tokens, where memory allows.'
  )
  return _warning('pairs left out', [text])


def _counts(count_S: np.ndarray) -> str:
  """The count of the only seed, or the least and the most of several."""
  low, high = int(count_S.min()), int(count_S.max())
  return f'{low:,}' if low == high else f'{low:,} to {high:,}'


def _warning(about: str, texts: list[str]) -> list[dict]:
  return [{'about': about, 'state': WARNING, 'text': ' '.join(texts)}] if texts else []
