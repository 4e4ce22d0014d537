"""What the numbers of the main run say, one finding a function.

A finding is one paragraph {about, state, text}; `state` is what the interval says:
'above', 'below' or 'around' zero, or 'unknown' where there is no interval; 'note' where
nothing was tested.
"""

from coupling.report import words as words_lib
from coupling.report.numerals import decimal, percent, points, signed

# The paper's condition: labels and current behaviour agree on about this share.
SIMILARITY = 0.7
FEW_SEEDS = 5
CHECKPOINTS = ('base', 'current')  # M_0, M_t


def finding(about: str, state: str, text: str) -> dict:
  return {'about': about, 'state': state, 'text': text}


def sign(statistic: dict, zero: float = 0.0) -> str:
  """Where an interval lies: 'above', 'below' or 'around' zero, or 'unknown'."""
  if statistic['low'] is None:
    return 'unknown'
  if statistic['low'] > zero:
    return 'above'
  return 'below' if statistic['high'] < zero else 'around'


def gap(main: dict, denial: dict) -> dict:
  texts = {
    'above': 'Its interval is above zero.',
    'below': 'Its interval is below zero: the labels are met more often.',
    'around': 'Its interval includes zero: neither is shown to win.',
    'unknown': 'It has no interval.',
  }
  state = sign(main['gap'])
  return finding(
    'gap',
    state,
    f'Explanations agree with the model’s current behaviour (Self) on '
    f'{percent(main["self_accuracy"])} of the items and with the fixed labels (Orig) '
    f'on {percent(main["orig_accuracy"])}: a gap of {points(main["gap"])} points. '
    f'{texts[state]} For comparison, always stating the own answer, “unchanged” '
    f'(denial), has a gap of {points(denial["gap"])} points.',
  )


def weights(main: dict) -> dict:
  texts = {
    'above': 'Old v’ put together with the own answer has that too.',
    'below': 'So what they know of single items is the labels more than the current '
    'behaviour.',
    'around': 'Neither is shown to weigh more.',
    'unknown': 'It has no interval, so nothing follows from it.',
  }
  found = main['siding']
  state = sign(found['difference'])
  return finding(
    'weights',
    state,
    'Among items with the same kind and option of cue and the same own answer, the '
    'explanations put a '
    f'weight of {decimal(found["self"])} on the current behaviour and of '
    f'{decimal(found["orig"])} on the fixed labels (0 none, 1 all): a difference '
    f'of {signed(found["difference"])}. {texts[state]} Denial, and whoever reads '
    'only these, has 0 on both.',
  )


def weights_answer(main: dict) -> dict:
  texts = {
    'above': 'So it is not old v’ put together with the current answer, nor equal '
    'knowledge of both. What siblings share may still lie nearer to one of them.',
    'below': 'So the labels’ v’ is repeated; weight on self in whole labels may come '
    'from the own answer, put together with it.',
    'around': 'Neither v’ is shown to weigh more.',
    'unknown': 'It has no interval, so nothing follows from it.',
  }
  found = main['siding_answer']
  state = sign(found['difference'])
  return finding(
    'weights on v’',
    state,
    'On the answer without the cue alone, they put a weight of '
    f'{decimal(found["self"])} on the current v’ and of {decimal(found["orig"])} '
    f'on that of the labels: a difference of {signed(found["difference"])}. '
    f'{texts[state]}',
  )


def correction(main: dict) -> dict:
  corrected = main['shuffled']['corrected_gap']
  return finding(
    'agreement beyond the surface',
    sign(corrected),
    'Shuffling explanations among items with the same cue and the same current '
    f'answer keeps a gap of {points(main["shuffled"]["null_gap"])} points; '
    f'{points(corrected)} points remain: agreement beyond the surface. Its two '
    'ceilings differ, for Self and for Orig, so read the weights first.',
  )


def class_balance(main: dict, denial: dict, words: words_lib.Words) -> dict:
  raw, balanced = sign(main['gap']), sign(main['balanced_gap'])
  if 'unknown' in (raw, balanced):
    tail = 'Without an interval it cannot be held against the raw gap.'
  elif raw == balanced:
    tail = 'This agrees with the raw gap.'
  elif {raw, balanced} == {'above', 'below'}:
    tail = (
      'This contradicts the raw gap, which then measures how often “changed” is true '
      'and said, rather than what is known of single items.'
    )
  else:
    tail = 'This does not confirm the raw gap; base rates may be part of it.'
  return finding(
    'balanced gap',
    balanced,
    'With truly changed and truly unchanged items weighted alike, the gap is '
    f'{points(main["balanced_gap"])} points; denial has '
    f'{points(denial["balanced_gap"])}. {tail}{collapse(main, words)}',
  )


def answer_gap(main: dict, denial: dict) -> dict:
  return finding(
    'gap on v’',
    sign(main['gap_answer']),
    'On the answer without the cue alone, the gap is '
    f'{points(main["gap_answer"])} points; denial has '
    f'{points(denial["gap_answer"])}.',
  )


def moved(main: dict, denial: dict, words: words_lib.Words) -> dict:
  found, other = main['moved'], denial['moved']
  if found['self']['mean'] is None:
    return finding(
      'moved items',
      'note',
      'No true explanation moved, in one seed or more: there is nothing on which Self '
      'and Orig could differ.',
    )
  return finding(
    'moved items',
    'note',
    f'{words.moved} {percent(main["drift"])} of the items, and only these can tell '
    'Self from Orig. '
    f'There {percent(found["self"])} of the explanations are right about the current '
    f'behaviour, {percent(found["orig"])} repeat the label and '
    f'{percent(found["neither"])} do neither; self − orig is '
    f'{points(found["difference"])} points. Denial alone gives '
    f'{percent(other["self"])} and {percent(other["orig"])} there, so this is a '
    'description and no test.',
  )


def collapse(run: dict, words: words_lib.Words) -> str:
  """Says so where the rarer class of behaviour lost more than half of its share."""
  rates = run['change_rate']
  base, current = (min(rates[k]['mean'], 1 - rates[k]['mean']) for k in CHECKPOINTS)
  if current >= base / 2:
    return ''
  shown = {name: percent(rates[name]) for name in CHECKPOINTS}
  return (
    f' {words.collapsed.format(**shown)}, while {percent(rates["stated"])} of the '
    'explanations say so. Raw agreement then mostly measures how often “changed” is '
    'said.'
  )


def similarity(main: dict, words: words_lib.Words) -> dict:
  found = main['behavior_similarity']
  state = sign(found, zero=SIMILARITY)
  where = {
    'above': 'within',
    'below': 'below',
    'around': 'at the edge of',
    'unknown': 'not comparable, for want of an interval, with',
  }
  return finding(
    'behaviour similarity',
    state,
    f'{words.similarity} {percent(found)} of the current '
    f'behaviour, {where[state]} the range of about 70% or more in which the paper '
    'reports the effect (its regime of similarity 0.7).',
  )


def seeds(summary: dict) -> dict:
  n, items, groups = (summary[k] for k in ('seeds', 'items', 'groups'))
  size = f'{items[0]:,} held-out items in {groups[0]} groups'
  if len(n) == 1:
    text = (
      f'One seed was run, on {size}. Its intervals hold the variation over groups of '
      'items only: nothing can be concluded about variation over seeds.'
    )
  else:
    text = f'{len(n)} seeds were run, each with {_varied(summary, size)}'
    if len(n) < FEW_SEEDS:
      text += (
        f' {len(n)} seeds are few: the intervals are wide and lean on the assumption '
        'that seeds vary normally.'
      )
  return finding('seeds', 'note', text)


def _varied(summary: dict, size: str) -> str:
  """What differs between seeds, of which intervals hold the variation."""
  if summary['audit']:
    return (
      f'the checkpoint, labels and cues of its seed, {size}. Intervals hold the '
      'variation of what differs between these.'
    )
  if summary['interval']['shared_items']:
    return (
      f'cues drawn and adapters trained anew, {size}. The base model and the held-out '
      'texts are the same for all: intervals hold the variation of cues and training, '
      'and, where that is wider, of texts within a run; none over models.'
    )
  return (
    f'data and a base model of its own, {size}. Intervals hold the variation of the '
    'whole run over seeds.'
  )


def limits() -> dict:
  return finding(
    'limits',
    'note',
    'Agreement with one’s own behaviour does not tell reading one’s own computation '
    'from reading knowledge that behaviour and explanation share; only interventions '
    'on the model can. Nothing here says that the effect carries over to other '
    'models, tasks or shifts of behaviour.',
  )
