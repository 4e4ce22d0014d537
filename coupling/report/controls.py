"""What the controls say: sibling, shuffled labels, other labels, no regulariser."""

from coupling.report import findings
from coupling.report import words
from coupling.report.findings import finding, sign
from coupling.report.numerals import decimal, percent, points, signed


def sibling(explanations: dict, denial: dict) -> dict:
  """Whether explanations know more of their own model than what a sibling shares."""
  found = explanations['beyond_shared']
  state = sign(found['smaller'])
  texts = {
    'above': 'Knowledge that both share, of labels and of drift, cannot give both of '
    'them that, nor can the own answer, or what a model prefers whatever the item.',
    'below': 'They follow the sibling more, which introspection cannot explain.',
    'around': 'So what both share, put together with the own answer, may explain what '
    'they get right.',
    'unknown': 'It has no interval.',
  }
  return finding(
    'sibling',
    state,
    'Against a sibling (same labels, another fine-tuning seed), explanations fit '
    f'their own model by {points(explanations["difference"])} points more: '
    f'{percent(explanations["own_accuracy"])} against '
    f'{percent(explanations["sibling_accuracy"])}. Denial would reach '
    f'{points(denial["difference"])}, so this does not decide. Where both give one '
    f'answer with the cue and differ in v’, the weight of the own v’ is '
    f'{signed(found["first"])} and {signed(found["second"])}, the smaller of both '
    f'{signed(found["smaller"])}. {texts[state]}',
  )


def shuffled(summary: dict) -> dict:
  """The main run against the same training on labels that are noise."""
  run = summary['runs'][summary['roles']['shuffled']]['final']
  contrast = summary['contrasts']['shuffled']
  whole, answer = contrast['siding_difference'], contrast['siding_answer_difference']
  state = sign(answer)
  texts = {
    'above': 'On v’ that is more than what training on noise gives.',
    'below': 'On v’ that is less than what training on noise gives.',
    'around': 'On v’ that is not shown to be more than what training on noise gives.',
    'unknown': 'The difference has no interval.',
  }
  return finding(
    'shuffled-label control',
    state,
    'The same run with labels shuffled over the training items has a gap of '
    f'{points(run["gap"])} points and weights that differ by '
    f'{signed(run["siding"]["difference"])}, on v’ by '
    f'{signed(run["siding_answer"]["difference"])}; the main run’s gap is larger by '
    f'{points(contrast["gap"])} points, its weights’ difference by {signed(whole)}, '
    f'on v’ by {signed(answer)}. {texts[state]} Where both runs give one answer with '
    'the cue and differ in v’, the weight of the own v’ is '
    f'{signed(contrast["beyond_shared"]["first"])} and, after training on noise, '
    f'{signed(contrast["beyond_shared"]["second"])}.',
  )


def trained_labels(found: dict) -> dict:
  """Own behaviour against the labels trained on, where these are not of M_0."""
  whole, answer = found['siding'], found['siding_answer']
  state = sign(answer['difference'])
  texts = {
    'above': 'So the current v’ weighs more than that of the labels trained on.',
    'below': 'So the v’ of the labels trained on weighs more.',
    'around': 'Neither is shown to weigh more.',
    'unknown': 'A difference has no interval.',
  }
  return finding(
    'labels of another model',
    state,
    'The labels trained on are another model’s, and Orig is still M_0. Given the kind '
    f'and option of the cue and the own answer, the weight is {decimal(whole["self"])} '
    f'on current behaviour and {decimal(whole["target"])} on these labels, a '
    f'difference of {signed(whole["difference"])}; on v’ alone of '
    f'{signed(answer["difference"])}. {texts[state]}',
  )


def unregularised(summary: dict, main: dict) -> dict:
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
  collapse = findings.collapse(run, words.of(summary))
  return finding('unregularised run', state, text + collapse + _answer_kept(run))


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
