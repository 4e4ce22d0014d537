"""What the numbers allow to be concluded, in plain words computed from them.

One finding is one paragraph {about, state, text}; `state` is what the interval says:
'above', 'below' or 'around' zero, 'unknown' where there is no interval, and 'note'
where nothing was tested.
"""

from coupling.formats import percent, points

# The paper's condition: labels and current behaviour agree on about this share.
SIMILARITY = 0.7
FEW_SEEDS = 5
CHECKPOINTS = ('base', 'current')  # M_0, M_t


def sign(statistic: dict, zero: float = 0.0) -> str:
  """Where an interval lies: 'above', 'below' or 'around' zero, or 'unknown'."""
  if statistic['low'] is None:
    return 'unknown'
  if statistic['low'] > zero:
    return 'above'
  return 'below' if statistic['high'] < zero else 'around'


def verdict(summary: dict) -> list[dict]:
  """Findings on the main run and its controls, and their limits; headline first."""
  main = summary['runs'][summary['roles']['main']]['final']
  findings = [_gap(main), _class_balance(main)]
  findings += [_correction(main, summary['baselines']['denial']), _moved(main)]
  if 'sibling' in summary:
    findings.append(_sibling(**summary['sibling']))
  if 'shuffled' in summary['roles']:
    findings.append(_control(summary))
  headline = _headline(summary, findings)
  if 'unregularised' in summary['roles']:
    findings.append(_unregularised(summary, main))
  return [headline, *findings, _similarity(main), _seeds(summary), _limits()]


def _finding(about: str, state: str, text: str) -> dict:
  return {'about': about, 'state': state, 'text': text}


def _headline(summary: dict, checks: list[dict]) -> dict:
  gap, others = checks[0]['state'], checks[1:]
  against = [c for c in others if c['state'] == 'below']
  open_ones = [c for c in others if c['state'] in ('around', 'unknown')]
  if gap == 'above' and not against and not open_ones:
    text = (
      'Introspective coupling is shown here: the explanations follow the model’s own '
      'current behaviour more than the labels they were trained on, and every check '
      'below agrees.'
    )
  elif gap == 'above':
    names = ', '.join(c['about'] for c in against + open_ones)
    text = (
      'Self exceeds Orig, but that alone is not coupling, and not every check '
      f'confirms it. Not confirmed: {names}.'
    )
  elif gap == 'below':
    text = (
      'The effect failed here: the explanations follow the fixed labels more than '
      'the model’s own current behaviour.'
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
  if gap in ('above', 'below') and len(summary['seeds']) == 1:
    text += ' This holds for one seed only.'
  return _finding('headline', gap, text)


def _gap(main: dict) -> dict:
  texts = {
    'above': 'Its interval is above zero.',
    'below': 'Its interval is below zero: the labels win.',
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
    + texts[state],
  )


def _class_balance(main: dict) -> dict:
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
    f'{points(main["balanced_gap"])} points. {tail}{_collapse(main)}',
  )


def _collapse(run: dict) -> str:
  """Says so where the rarer class of behaviour lost more than half of its share."""
  rates = run['change_rate']
  base, current = (min(rates[k]['mean'], 1 - rates[k]['mean']) for k in CHECKPOINTS)
  if current >= base / 2:
    return ''
  return (
    ' Behaviour itself collapsed to one class: removing the cue changed the answer '
    f'on {percent(rates["base"])} of the items before training and on '
    f'{percent(rates["current"])} after it, while {percent(rates["stated"])} of the '
    'explanations say so. Raw agreement then mostly measures how often “changed” is '
    'said.'
  )


def _correction(main: dict, denial: dict) -> dict:
  corrected = main['shuffled']['corrected_gap']
  state = sign(corrected)
  texts = {
    'above': 'So the statements hold knowledge of single items that favours Self.',
    'below': 'So what they know of single items favours the labels.',
    'around': 'So base rates and surface reading may explain the gap.',
    'unknown': 'It has no interval, so nothing follows from it.',
  }
  return _finding(
    'corrected gap',
    state,
    'Shuffling explanations among items with the same cue and the same current '
    f'answer keeps a gap of {points(main["shuffled"]["null_gap"])} points; '
    f'{points(corrected)} points remain after subtracting it. {texts[state]} '
    'For comparison, always stating the own answer, “unchanged”, gives a raw gap of '
    f'{points(denial["gap"])} points.',
  )


def _moved(main: dict) -> dict:
  moved = main['moved']
  state = sign(moved['difference'])
  if moved['self']['mean'] is None:
    return _finding(
      'moved items',
      'unknown',
      'In a seed at least, no true explanation moved: there is nothing on which Self '
      'and Orig could differ.',
    )
  texts = {
    'above': 'They side with the current behaviour.',
    'below': 'They side with the labels.',
    'around': 'Neither side is shown to be ahead.',
    'unknown': 'Their difference has no interval.',
  }
  return _finding(
    'moved items',
    state,
    'The true explanation moved since the labels were made on '
    f'{percent(main["drift"])} of the items, and only these can tell Self from Orig. '
    f'There '
    f'{percent(moved["self"])} of the explanations are right about the current '
    f'behaviour, {percent(moved["orig"])} repeat the label and '
    f'{percent(moved["neither"])} do neither; self − orig is '
    f'{points(moved["difference"])} points. {texts[state]}',
  )


def _sibling(explanations: dict, denial: dict) -> dict:
  state = sign(explanations['difference'])
  no_more = explanations['difference']['mean'] <= denial['difference']['mean']
  texts = {
    'above': 'Drift that both share cannot give that.',
    'below': 'They fit the sibling better, which introspection cannot explain.',
    'around': 'So drift that both share may explain what they get right.',
    'unknown': 'The difference has no interval.',
  }
  return _finding(
    'sibling',
    state,
    'Against a sibling (same labels, another fine-tuning seed), explanations fit '
    f'their own model by {points(explanations["difference"])} points more: '
    f'{percent(explanations["own_accuracy"])} against '
    f'{percent(explanations["sibling_accuracy"])}. {texts[state]} Knowing the own '
    f'current answer, and nothing else, would give {points(denial["difference"])}'
    + (', so no more than that may be known.' if no_more else '.'),
  )


def _control(summary: dict) -> dict:
  control = summary['runs'][summary['roles']['shuffled']]['final']
  difference = summary['contrasts']['shuffled']['gap']
  state = sign(difference)
  texts = {
    'above': 'The gap is clearly larger than what training on noise gives.',
    'below': 'The gap is smaller than what training on noise gives.',
    'around': 'The gap is not clearly larger than what training on noise gives.',
    'unknown': 'The difference has no interval.',
  }
  return _finding(
    'shuffled-label control',
    state,
    'The same run with labels shuffled over the training items has a gap of '
    f'{points(control["gap"])} points; that of the main run is larger by '
    f'{points(difference)} points. {texts[state]}',
  )


def _unregularised(summary: dict, main: dict) -> dict:
  """Whether raw, balanced and v' gap agree, and whether behaviour collapsed."""
  run = summary['runs'][summary['roles']['unregularised']]['final']
  gaps = [run[name] for name in ('gap', 'balanced_gap', 'gap_answer')]
  raw, balanced, answer = states = [sign(gap) for gap in gaps]
  collapse = _collapse(run)
  text = (
    'Without behaviour regularisation the gap is {} points raw, {} balanced over '
    'changed and unchanged items, and {} on the counterfactual answer v’ alone.'
  ).format(*map(points, gaps))
  corrected = run['shuffled']['corrected_gap']
  if set(states) == {'above'} and sign(corrected) != 'above':
    text += (
      f' All three are above zero, but {points(corrected)} points remain after the '
      'correction by shuffling: base rates and surface reading may explain them.'
    )
  elif len(set(states)) == 1:
    text += (
      ' The three tell the same story: '
      + {
        'above': 'coupling does not need the regulariser here.',
        'below': 'the labels win, and with the regulariser they '
        + ('do not.' if sign(main['gap']) == 'above' else 'are not shown to lose.'),
        'around': 'no coupling is shown without the regulariser.',
        'unknown': 'none has an interval.',
      }[raw]
    )
  else:
    text += ' The three do not tell the same story, so no single one is the answer.'
  text += collapse
  if collapse and answer == 'above' and balanced != 'above':
    text += (
      ' The answer v’ is still followed: this is a collapse of behaviour, not a loss '
      'of all coupling.'
    )
  return _finding('unregularised run', balanced, text)


def _similarity(main: dict) -> dict:
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
    f'The labels trained on still describe {percent(similarity)} of the current '
    f'behaviour, {where[state]} the range of about 70% or more in which the paper '
    'reports the effect.',
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
    text = (
      f'{len(n)} seeds were run, each with data and a base model of its own, {size}. '
      'Intervals hold the variation of the whole run over seeds.'
    )
    if len(n) < FEW_SEEDS:
      text += (
        f' {len(n)} seeds are few: the intervals are wide and lean on the assumption '
        'that seeds vary normally.'
      )
  return _finding('seeds', 'note', text)


def _limits() -> dict:
  return _finding(
    'limits',
    'note',
    'Agreement with one’s own behaviour does not tell reading one’s own computation '
    'from reading knowledge that behaviour and explanation share; only interventions '
    'on the model can. Nothing here says that the effect carries over to other '
    'models, tasks or shifts of behaviour.',
  )
