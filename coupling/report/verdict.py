"""What the numbers allow to be concluded, in plain words computed from them.

The findings (see findings.py), those of the controls, and the headline that
rests on them; `state` may be 'warning' too, where labels or explanations are unfit to
conclude from.
"""

from coupling.report import controls as controls_lib
from coupling.report import findings as findings_lib
from coupling.report import fitness
from coupling.report import planted
from coupling.report import words as words_lib

CONTROLS = ('sibling', 'shuffled')


def verdict(summary: dict) -> list[dict]:
  """Findings on the main run and its controls, and their limits; headline first.

  The headline rests on `checks` alone.
  """
  main = summary['runs'][summary['roles']['main']]['final']
  denial = summary['baselines']['denial']
  findings = [findings_lib.gap(main, denial), findings_lib.weights_answer(main)]
  if 'trained_labels' in summary:
    findings.append(controls_lib.trained_labels(summary['trained_labels']))
  if 'sibling' in summary:
    findings.append(controls_lib.sibling(**summary['sibling']))
  if 'shuffled' in summary['roles']:
    findings.append(controls_lib.shuffled(summary))
  fit = fitness.findings(summary)
  warnings = [x for x in fit if x['state'] == fitness.WARNING]
  headline = _headline(summary, warnings)
  words = words_lib.of(summary)
  findings += [
    findings_lib.weights(main),
    findings_lib.correction(main),
    findings_lib.class_balance(main, denial, words),
    findings_lib.answer_gap(main, denial),
    findings_lib.moved(main, denial, words),
  ]
  if 'unregularised' in summary['roles']:
    findings.append(controls_lib.unregularised(summary, main))
  findings += [x for x in fit if x not in warnings]
  findings += [
    findings_lib.similarity(main, words),
    findings_lib.seeds(summary),
    findings_lib.limits(),
  ]
  return [headline, *warnings, *planted.findings(summary), *findings]


def checks(summary: dict) -> dict[str, dict]:
  """Statistics that must lie above zero before coupling is said to be shown.

  Beside the raw gap they are on v’ alone: the weight on self minus that on orig; minus
  that on the labels trained on, where these are another model's; the slope beyond a
  sibling; and the first minus the same of a run on shuffled labels. Knowledge of the
  cue, of the own answer and of what models share raises none of these
  (benchmarks/impostors.py). Weights on whole labels are not among them: M_0's v’ put
  together with the own current answer raises those.
  """
  main = summary['runs'][summary['roles']['main']]['final']
  found = {'gap': main['gap'], 'weights on v’': main['siding_answer']['difference']}
  if 'trained_labels' in summary:
    labels = summary['trained_labels']['siding_answer']
    found['labels of another model'] = labels['difference']
  if 'sibling' in summary:
    found['sibling'] = summary['sibling']['explanations']['beyond_shared']['smaller']
  if 'shuffled' in summary['roles']:
    contrast = summary['contrasts']['shuffled']
    found['shuffled-label control'] = contrast['siding_answer_difference']
  return found


def failed(summary: dict) -> list[str]:
  """The checks whose interval is not above zero."""
  return [k for k, x in checks(summary).items() if findings_lib.sign(x) != 'above']


def _headline(summary: dict, warnings: list[dict]) -> dict:
  state = {k: findings_lib.sign(x) for k, x in checks(summary).items()}
  gap, weights = state['gap'], state['weights on v’']
  unmet = failed(summary)
  missing = [role for role in CONTROLS if role not in summary['roles']]
  several = len(summary['seeds']) > 1
  if not unmet and summary['audit']:
    text = (
      'The explanations describe the model’s own behaviour better than these labels '
      'do, in raw agreement and beyond what the cue’s kind and option and the own '
      'answer give. That is coupling only if the model was trained to explain itself '
      'by them.'
    )
  elif not unmet and not missing and not warnings and several:
    text = (
      'Introspective coupling is shown here: the explanations follow the model’s own '
      'current behaviour more than the labels they were trained on. This holds beyond '
      'what the cue’s kind and option and the own answer give, beyond what a sibling '
      'shares, and more so than after training on shuffled labels.'
    )
  elif not unmet:
    text = (
      'What was run agrees with introspective coupling: Self exceeds Orig, in raw '
      'agreement and beyond what the cue’s kind and option and the own answer give.'
    )
  elif gap == 'above':
    text = (
      'Self exceeds Orig, but that alone is not coupling: whoever knows only the own '
      f'answer may reach it. Not confirmed: {", ".join(unmet)}.'
    )
  elif gap == 'below' and weights == 'above':
    text = (
      'Two measures disagree: the explanations agree with the fixed labels more often '
      'than with the model’s own current behaviour, but given the prompt and the own '
      'answer they weigh the current v’ more. Neither coupling nor its failure is '
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
  if gap in ('above', 'below') and not several:
    text += ' This holds for one seed only.'
  if warnings:
    about = ', '.join(x['about'] for x in warnings)
    text += f' Before anything is concluded, read the warnings: {about}.'
  return findings_lib.finding('headline', gap, text)
