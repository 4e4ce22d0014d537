"""What the numbers allow to be concluded, in plain words computed from them.

One finding is one paragraph {about, state, text}; `state` is what the interval says:
'above', 'below' or 'around' zero, 'unknown' where there is no interval, 'warning'
where labels or explanations are unfit to conclude from, and 'note' where nothing was
tested.
"""

from coupling import planted
from coupling import variety
from coupling import words as words_lib
from coupling.formats import decimal, percent, points, signed

# The paper's condition: labels and current behaviour agree on about this share.
SIMILARITY = 0.7
FEW_SEEDS = 5
CHECKPOINTS = ('base', 'current')  # M_0, M_t
CONTROLS = ('sibling', 'shuffled')


def sign(statistic: dict, zero: float = 0.0) -> str:
  """Where an interval lies: 'above', 'below' or 'around' zero, or 'unknown'."""
  if statistic['low'] is None:
    return 'unknown'
  if statistic['low'] > zero:
    return 'above'
  return 'below' if statistic['high'] < zero else 'around'


def verdict(summary: dict) -> list[dict]:
  """Findings on the main run and its controls, and their limits; headline first.

  The headline rests on findings that denial, and any other reader of the surface and
  the own answer, cannot pass: the raw gap together with the weights on Self and Orig,
  on whole labels and on v’ alone, the weights against a sibling, and those against a
  run on shuffled labels.
  """
  main = summary['runs'][summary['roles']['main']]['final']
  denial = summary['baselines']['denial']
  findings = [_gap(main, denial), _weights(main), _weights_answer(main)]
  if 'sibling' in summary:
    findings.append(_sibling(**summary['sibling']))
  if 'shuffled' in summary['roles']:
    findings.append(_control(summary))
  fitness = variety.findings(summary)
  warnings = [x for x in fitness if x['state'] == variety.WARNING]
  headline = _headline(summary, findings, warnings)
  words = words_lib.of(summary)
  findings += [_correction(main), _class_balance(main, denial, words)]
  findings += [_answer_gap(main, denial), _moved(main, denial, words)]
  if 'unregularised' in summary['roles']:
    findings.append(_unregularised(summary, main))
  findings += [x for x in fitness if x not in warnings]
  findings += [_similarity(main, words), _seeds(summary), _limits()]
  return [headline, *warnings, *planted.findings(summary), *findings]


def _finding(about: str, state: str, text: str) -> dict:
  return {'about': about, 'state': state, 'text': text}


def _headline(summary: dict, checks: list[dict], warnings: list[dict]) -> dict:
  state = {check['about']: check['state'] for check in checks}
  gap, weights = state['gap'], state['weights']
  failed = [about for about in state if state[about] != 'above']
  missing = [role for role in CONTROLS if role not in summary['roles']]
  if not failed and not missing:
    text = (
      'Introspective coupling is shown here: the explanations follow the model’s own '
      'current behaviour more than the labels they were trained on. This holds beyond '
      'what the prompt and the own answer give, against a sibling’s behaviour too, and '
      'more so than after training on shuffled labels.'
    )
  elif not failed:
    text = (
      'What was run agrees with introspective coupling: Self exceeds Orig, in raw '
      'agreement and beyond what the prompt and the own answer give.'
    )
  elif gap == 'above':
    text = (
      'Self exceeds Orig, but that alone is not coupling: whoever knows only the own '
      f'answer may reach it. Not confirmed: {", ".join(failed)}.'
    )
  elif gap == 'below' and weights == 'above':
    text = (
      'Two measures disagree: the explanations agree with the fixed labels more often '
      'than with the model’s own current behaviour, but given the prompt and the own '
      'answer they weigh current behaviour more. Neither coupling nor its failure is '
      'established.'
    )
  elif gap == 'below' and weights == 'below':
    text = (
      'The effect failed here: the explanations follow the fixed labels more than '
      'the model’s own current behaviour.'
    )
  elif gap == 'below':
    text = (
      'The effect is not shown here: the explanations agree with the fixed labels more '
      'often than with the model’s own current behaviour, and the weights do not tell '
      'which of the two they follow.'
    )
  elif gap == 'around':
    text = (
      'The effect is not shown here: the interval of Self − Orig includes zero. That '
      'is no proof of its absence; the interval says how large it may still be.'
    )
  else:
    text = (
      'Nothing can be concluded on Self − Orig: the data give it no interval '
      '(explanations right in the same way on every item, or too few groups).'
    )
  if missing:
    controls = ' and '.join(f'the {role} run' for role in missing)
    text += f' Controls that were not run: {controls}'
    text += '; without them coupling is unproven.' if gap == 'above' else '.'
  if gap in ('above', 'below') and len(summary['seeds']) == 1:
    text += ' This holds for one seed only.'
  if warnings:
    about = ', '.join(x['about'] for x in warnings)
    text += f' Before anything is concluded, read the warnings: {about}.'
  return _finding('headline', gap, text)


def _gap(main: dict, denial: dict) -> dict:
  texts = {
    'above': 'Its interval is above zero.',
    'below': 'Its interval is below zero: the labels are met more often.',
    'around': 'Its interval includes zero: neither is shown to win.',
    'unknown': 'It has no interval.',
  }
  state = sign(main['gap'])
  return _finding(
    'gap',
    state,
    f'Explanations agree with the model’s current behaviour (Self) on '
    f'{percent(main["self_accuracy"])} of the items and with the fixed labels (Orig) '
    f'on {percent(main["orig_accuracy"])}: a gap of {points(main["gap"])} points. '
    f'{texts[state]} For comparison, always stating the own answer, “unchanged” '
    f'(denial), has a gap of {points(denial["gap"])} points.',
  )


def _weights(main: dict) -> dict:
  texts = {
    'above': 'So what they know of single items is the current behaviour more than '
    'the labels.',
    'below': 'So what they know of single items is the labels more than the current '
    'behaviour.',
    'around': 'Neither is shown to weigh more.',
    'unknown': 'It has no interval, so nothing follows from it.',
  }
  weights = main['siding']
  state = sign(weights['difference'])
  return _finding(
    'weights',
    state,
    'Among items with the same cue and the same own answer, the explanations put a '
    f'weight of {decimal(weights["self"])} on the current behaviour and of '
    f'{decimal(weights["orig"])} on the fixed labels (0 none, 1 all): a difference '
    f'of {signed(weights["difference"])}. {texts[state]} Denial, and whoever reads '
    'only the prompt’s surface and the own answer, has 0 on both.',
  )


def _weights_answer(main: dict) -> dict:
  texts = {
    'above': 'So it is not old v’ put together with the current answer.',
    'below': 'So the labels’ v’ is repeated; weight on self in whole labels may come '
    'from the own answer, put together with it.',
    'around': 'Neither v’ is shown to weigh more.',
    'unknown': 'It has no interval, so nothing follows from it.',
  }
  weights = main['siding_answer']
  state = sign(weights['difference'])
  return _finding(
    'weights on v’',
    state,
    'On the answer without the cue alone, they put a weight of '
    f'{decimal(weights["self"])} on the current v’ and of {decimal(weights["orig"])} '
    f'on that of the labels: a difference of {signed(weights["difference"])}. '
    f'{texts[state]}',
  )


def _class_balance(main: dict, denial: dict, words: words_lib.Words) -> dict:
  raw, balanced = sign(main['gap']), sign(main['balanced_gap'])
  if raw == balanced:
    tail = 'This agrees with the raw gap.'
  elif {raw, balanced} == {'above', 'below'}:
    tail = (
      'This contradicts the raw gap, which then measures how often “changed” is true '
      'and said, rather than what is known of single items.'
    )
  else:
    tail = 'This does not confirm the raw gap; base rates may be part of it.'
  return _finding(
    'balanced gap',
    balanced,
    'With truly changed and truly unchanged items weighted alike, the gap is '
    f'{points(main["balanced_gap"])} points; denial has '
    f'{points(denial["balanced_gap"])}. {tail}{_collapse(main, words)}',
  )


def _answer_gap(main: dict, denial: dict) -> dict:
  return _finding(
    'gap on v’',
    sign(main['gap_answer']),
    'On the answer without the cue alone, the gap is '
    f'{points(main["gap_answer"])} points; denial has '
    f'{points(denial["gap_answer"])}.',
  )


def _collapse(run: dict, words: words_lib.Words) -> str:
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


def _correction(main: dict) -> dict:
  corrected = main['shuffled']['corrected_gap']
  return _finding(
    'agreement beyond the surface',
    sign(corrected),
    'Shuffling explanations among items with the same cue and the same current '
    f'answer keeps a gap of {points(main["shuffled"]["null_gap"])} points; '
    f'{points(corrected)} points remain: agreement beyond the surface. Its two '
    'ceilings differ, for Self and for Orig, so read the weights first.',
  )


def _moved(main: dict, denial: dict, words: words_lib.Words) -> dict:
  moved, other = main['moved'], denial['moved']
  if moved['self']['mean'] is None:
    return _finding(
      'moved items',
      'note',
      'In a seed at least, no true explanation moved: there is nothing on which Self '
      'and Orig could differ.',
    )
  return _finding(
    'moved items',
    'note',
    f'{words.moved} {percent(main["drift"])} of the items, and only these can tell '
    'Self from Orig. '
    f'There {percent(moved["self"])} of the explanations are right about the current '
    f'behaviour, {percent(moved["orig"])} repeat the label and '
    f'{percent(moved["neither"])} do neither; self − orig is '
    f'{points(moved["difference"])} points. Denial alone gives '
    f'{percent(other["self"])} and {percent(other["orig"])} there, so this is a '
    'description and no test.',
  )


def _sibling(explanations: dict, denial: dict) -> dict:
  weights = explanations['siding']
  state = sign(weights['difference'])
  texts = {
    'above': 'Drift that both share cannot give that.',
    'below': 'They follow the sibling more, which introspection cannot explain.',
    'around': 'So drift that both share may explain what they get right.',
    'unknown': 'The difference has no interval.',
  }
  return _finding(
    'sibling',
    state,
    'Against a sibling (same labels, another fine-tuning seed), explanations fit '
    f'their own model by {points(explanations["difference"])} points more: '
    f'{percent(explanations["own_accuracy"])} against '
    f'{percent(explanations["sibling_accuracy"])}. Denial would reach '
    f'{points(denial["difference"])}, so the weights decide: given surface and own '
    f'answer, {decimal(weights["own"])} on their own behaviour and '
    f'{decimal(weights["sibling"])} on the sibling’s, a difference of '
    f'{signed(weights["difference"])}. {texts[state]}',
  )


def _control(summary: dict) -> dict:
  control = summary['runs'][summary['roles']['shuffled']]['final']
  contrast = summary['contrasts']['shuffled']
  state = sign(contrast['siding_difference'])
  texts = {
    'above': 'That is clearly more than what training on noise gives.',
    'below': 'That is less than what training on noise gives.',
    'around': 'That is not clearly more than what training on noise gives.',
    'unknown': 'The difference has no interval.',
  }
  return _finding(
    'shuffled-label control',
    state,
    'The same run with labels shuffled over the training items has a gap of '
    f'{points(control["gap"])} points and weights that differ by '
    f'{signed(control["siding"]["difference"])}; the main run’s gap is larger by '
    f'{points(contrast["gap"])} points, its weights’ difference by '
    f'{signed(contrast["siding_difference"])} ('
    f'{signed(contrast["siding_answer_difference"])} on v’ alone). {texts[state]}',
  )


def _unregularised(summary: dict, main: dict) -> dict:
  """Gaps and weights without the regulariser, and whether behaviour collapsed."""
  run = summary['runs'][summary['roles']['unregularised']]['final']
  denial = summary['unregularised_baselines']['denial']
  gaps = ('gap', 'balanced_gap', 'gap_answer')
  weights, state = run['siding'], sign(run['siding']['difference'])
  text = (
    'Without behaviour regularisation the gap is {} points raw, {} balanced over '
    'changed and unchanged items, and {} on the counterfactual answer v’ alone; '
    'denial has {}, {} and {}. '
  ).format(*(points(x[gap]) for x in (run, denial) for gap in gaps))
  text += (
    f'Given surface and own answer, the weight is {decimal(weights["self"])} on self '
    f'and {decimal(weights["orig"])} on orig, a difference of '
    f'{signed(weights["difference"])}. '
  )
  with_it = sign(main['siding']['difference'])
  text += {
    'above': 'So current behaviour weighs more without the regulariser too.',
    'below': 'So the labels weigh more; with the regulariser they '
    + ('do not.' if with_it == 'above' else 'are not shown to weigh less.'),
    'around': 'So neither is shown to weigh more without the regulariser.',
    'unknown': 'That has no interval, so nothing follows from it.',
  }[state]
  collapse = _collapse(run, words_lib.of(summary))
  return _finding('unregularised run', state, text + collapse + _answer_kept(run))


def _answer_kept(run: dict) -> str:
  """Whether v' is followed beyond the own answer, whatever became of whole labels."""
  answer = run['siding_answer']
  if sign(answer['difference']) == 'above':
    claim = 'The current v’ is followed more than that of the labels'
  elif sign(answer['self']) == 'above':
    claim = 'The current v’ is still followed, but not clearly more than the labels’'
  else:
    claim = 'That the current v’ is followed is not shown'
  return (
    f' {claim}: beyond the own answer its weight is {decimal(answer["self"])}, that '
    f'of the labels’ v’ {decimal(answer["orig"])}.'
  )


def _similarity(main: dict, words: words_lib.Words) -> dict:
  similarity = main['behavior_similarity']
  state = sign(similarity, zero=SIMILARITY)
  where = {
    'above': 'within',
    'below': 'below',
    'around': 'at the edge of',
    'unknown': 'not comparable, for want of an interval, with',
  }
  return _finding(
    'behaviour similarity',
    state,
    f'{words.similarity} {percent(similarity)} of the current '
    f'behaviour, {where[state]} the range of about 70% or more in which the paper '
    'reports the effect (its regime of similarity 0.7).',
  )


def _seeds(summary: dict) -> dict:
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
  return _finding('seeds', 'note', text)


def _varied(summary: dict, size: str) -> str:
  """What differs between seeds, of which intervals hold the variation."""
  if summary['audit']:
    return (
      f'the checkpoint, labels and cues of its seed, {size}. Intervals hold the '
      'variation of what differs between these.'
    )
  if 'checkpoint' in summary['config']['base']:
    return (
      f'cues drawn and adapters trained anew, {size}. The base model and the held-out '
      'texts are the same for all: intervals hold the variation of cues and training, '
      'and none over models or texts.'
    )
  return (
    f'data and a base model of its own, {size}. Intervals hold the variation of the '
    'whole run over seeds.'
  )


def _limits() -> dict:
  return _finding(
    'limits',
    'note',
    'Agreement with one’s own behaviour does not tell reading one’s own computation '
    'from reading knowledge that behaviour and explanation share; only interventions '
    'on the model can. Nothing here says that the effect carries over to other '
    'models, tasks or shifts of behaviour.',
  )
