"""What studies of a dose claim, and what they find in words."""

from collections.abc import Iterable

from coupling.config.schema import Study
from coupling.paper import control_claims
from coupling.paper import rules
from coupling.paper.paper_seeds import GAPS
from coupling.paper.rules import Row
from coupling.report.numerals import percent, points, signed

FULL = 'full'  # label of a run that trains all weights
NAMES = dict(zip(GAPS, ('', ', class-balanced', ', on v’ alone')))


def rows(study: Study, found: dict) -> list[Row]:
  """Claims of one kind of study, decided."""
  return {
    'regularisation': _regularisation,
    'noise': _noise,
    'capacity': _capacity,
    'rates': _rates,
  }[study.kind](found)


def _at(found: dict, dose: float) -> dict:
  return next(x for x in found['doses'] if x['dose'] == dose)


def _regularisation(found: dict) -> list[Row]:
  control = _at(found, 1.0)['control']
  with_it, without = (_at(found, x)['final'] for x in (1.0, 0.0))
  result = [
    Row(
      'With the behaviour KL, Self − Orig is above zero, and beyond shuffled labels',
      control_claims.told(with_it['gap'], control),
      control_claims.coupled(with_it['gap'], control),
      f'at weight 1: {control_claims.COUPLED}',
    ),
    Row(
      '… beyond the kind and option of the cue and the own answer (weights on v’)',
      signed(with_it['siding_answer']['difference']),
      rules.above(with_it['siding_answer']['difference']),
      'weight on the v’ of self − of orig, at weight 1, above 0',
    ),
  ]
  for key, name in NAMES.items():
    result.append(
      Row(
        f'Without it, Self − Orig vanishes or reverses{name}',
        f'{points(without[key])}, against {points(with_it[key])} with it',
        rules.lost(with_it[key], found['half'][key]),
        'half of the gap at weight 1, less the gap at weight 0 (paired by seed), '
        'above 0: less than half is left; not decided unless the gap at weight 1 is '
        'above 0',
      )
    )
  return result


def _noise(found: dict) -> list[Row]:
  doses = found['doses']
  gaps = [(x['final']['gap'], x['control']) for x in doses]
  weights = [x['final']['siding_answer']['difference'] for x in doses]

  def by_dose(shown: Iterable[str]) -> str:
    return '; '.join(f'at {x["label"]}: {said}' for x, said in zip(doses, shown))

  return [
    Row(
      'Self − Orig is above zero, and beyond shuffled labels, at every share of noise',
      by_dose(control_claims.told(*x) for x in gaps),
      rules.every(control_claims.coupled(*x) for x in gaps),
      f'at every share of noise: {control_claims.COUPLED}',
    ),
    Row(
      '… beyond the cue and the own answer (weights on v’)',
      by_dose(map(signed, weights)),
      rules.every(map(rules.above, weights)),
      'weight on the v’ of self − of orig above 0 at every share of noise',
    ),
  ]


def _capacity(found: dict) -> list[Row]:
  ranked = [x for x in found['doses'] if x['label'] != FULL]
  low, high = ranked[0], ranked[-1]
  there = control_claims.coupled(high['final']['gap'], high['control'])
  return [
    Row(
      'The gap grows with the rank of the adapters',
      f'{points(found["slope"]["gap"])} points a doubling',
      rules.above(found['slope']['gap']),
      'slope of the gap on log rank, a line for each seed, above 0',
    ),
    Row(
      'At the lowest rank there is no gap, at the highest there is',
      f'rank {low["label"]}: {points(low["final"]["gap"])}; rank {high["label"]}: '
      f'{control_claims.told(high["final"]["gap"], high["control"])}',
      rules.above(found['half']['gap']) if there == rules.AGREES else there,
      f'at the highest rank: {control_claims.COUPLED}; and then half of that gap less '
      'the gap at the lowest rank above 0',
    ),
  ]


def _rates(found: dict) -> list[Row]:
  return [
    Row(
      f'A higher learning rate widens the gap{name}',
      f'{points(found["slope"][key])} points a doubling',
      rules.above(found['slope'][key]),
      'slope of the gap on the log of the rate, a line for each seed, above 0',
    )
    for key, name in NAMES.items()
  ]


def finding(study: Study, found: dict) -> str:
  """What the doses show, in words."""
  return {
    'regularisation': _regularisation_words,
    'noise': _noise_words,
    'capacity': _capacity_words,
    'rates': _rates_words,
  }[study.kind](found)


def _regularisation_words(found: dict) -> str:
  with_it, without = (_at(found, x)['final'] for x in (1.0, 0.0))
  kept = [
    name for key, name in NAMES.items()
    if rules.lost(with_it[key], found['half'][key]) == rules.DISAGREES
  ]  # fmt: skip
  text = (
    f'At weight 1 the gap is {points(with_it["gap"])} points, at weight 0 '
    f'{points(without["gap"])}; the difference is {points(found["contrast"]["gap"])}, '
    f'class-balanced {points(found["contrast"]["balanced_gap"])}, and on v’ alone '
    f'{points(found["contrast"]["gap_answer"])}. Drift is {percent(with_it["drift"])} '
    f'and {percent(without["drift"])}. Without the KL, “changed” is true of '
    f'{percent(without["change_rate"]["current"])} and said of '
    f'{percent(without["change_rate"]["stated"])} (M_0: '
    f'{percent(without["change_rate"]["base"])}).'
  )
  if kept:
    text += ' More than half of the gap is left without the KL'
    text += f' on: {" and ".join(x.strip(", ") or "raw agreement" for x in kept)}.'
  return text


def _noise_words(found: dict) -> str:
  shown = [
    x['label'] for x in found['doses']
    if control_claims.coupled(x['final']['gap'], x['control']) == rules.AGREES
  ]  # fmt: skip
  lost = [x['label'] for x in found['doses'] if x['label'] not in shown]
  text = 'The gap is above zero, and the weights on v’ above those of shuffled labels, '
  text += f'at a share of noise of {", ".join(shown)}.'
  if not shown:
    text = 'That is shown at no share of noise: a gap above zero, and weights on v’ '
    text += 'above those of shuffled labels.'
  elif lost:
    text += f' That is not shown at {", ".join(lost)}.'
  last = found['doses'][-1]
  return text + (
    f' With the most noise ({last["label"]}), Self is '
    f'{percent(last["final"]["self_accuracy"])} and the weights differ by '
    f'{signed(last["final"]["siding_answer"]["difference"])}.'
  )


def _capacity_words(found: dict) -> str:
  ranked = [x for x in found['doses'] if x['label'] != FULL]
  start = None  # the lowest rank from which on all have a gap
  for x in reversed(ranked):
    if rules.above(x['final']['gap']) != rules.AGREES:
      break
    start = x
  if start is None:
    text = 'At the highest rank the gap is not shown to be above zero.'
  else:
    text = f'From rank {start["label"]} on, the gap is above zero'
    if found['width']:
      share = start['dose'] / found['width']
      text += f'; that is {share:.0%} of the model’s width of {found["width"]}'
      text += ' (96 of 4,096, where the paper sees it appear, are 2%)'
    text += '.'
  text += f' With a doubling of the rank it changes by {points(found["slope"]["gap"])}'
  text += f' points, on v’ alone by {points(found["slope"]["gap_answer"])}.'
  for x in found['doses']:
    if x['label'] == FULL:
      text += f' With all weights trained it is {points(x["final"]["gap"])}.'
  return text + (
    ' The scale of the adapters (alpha / rank) is the same at all ranks, so a higher '
    'rank also makes larger updates, and with all weights the embeddings of the new '
    'words are trained too: these go together here, and capacity alone is not tested.'
  )


def _rates_words(found: dict) -> str:
  low, high = found['doses'][0], found['doses'][-1]
  return (
    f'The gap is {points(low["final"]["gap"])} points at {low["label"]} and '
    f'{points(high["final"]["gap"])} at {high["label"]}; a doubling of the rate '
    f'changes it by {points(found["slope"]["gap"])} points, class-balanced by '
    f'{points(found["slope"]["balanced_gap"])}, on v’ alone by '
    f'{points(found["slope"]["gap_answer"])}. Self is '
    f'{percent(low["final"]["self_accuracy"])} and '
    f'{percent(high["final"]["self_accuracy"])}, similarity '
    f'{percent(low["final"]["behavior_similarity"])} and '
    f'{percent(high["final"]["behavior_similarity"])}.'
  )
