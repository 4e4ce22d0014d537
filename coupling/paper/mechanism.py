"""Do behaviour and explanation share circuits? Maps of activation patching."""

import functools

import numpy as np

from coupling.config.paper_schema import Study
from coupling.paper import mechanism_figures
from coupling.paper.paper_claims import MORE, row
from coupling.paper.paper_seeds import Parts, minus, short
from coupling.report import conclusions
from coupling.report import patch_figures
from coupling.report.conclusions import Row
from coupling.report.numerals import count, decimal, percent, points, signed
from coupling.report.patch_page import TITLES
from coupling.report.tables import Table, table
from coupling.statistics import effect_maps
from coupling.statistics import intervals
from coupling.statistics import sharing
from coupling.statistics.effect_maps import Maps

TESTED = {
  'mechanism': 'Activations of the run on x are replaced, one site at a time (site, '
  'layer, position group; heads each alone), by those of the run on x’, of pairs whose '
  'answer changes without the cue. x’ is x with its cue moved to the answer without it '
  '(or, told apart, x without a cue, which no training asks to explain). Behaviour: '
  'log-probability of the answer on x minus that on x’. Explanation: the same of '
  '“changed” and “unchanged”, each as the model’s own behaviour makes it true. Both '
  'statements of a pair name the same v’, so that only this half of an explanation is '
  'patched. For v’, x’ is the prompt of another question, whose v’ is another one; '
  'both are offered by both, and neither is the other’s hint or answer. Behaviour is '
  'then v’ itself, on x without its cue, and both statements say “changed”. A prompt '
  'may stand in several pairs: intervals within one seed are too narrow, those over '
  'seeds are not. Sharing is the correlation, '
  'over heads and MLPs, of how much each matters to the one and to the other: in size, '
  'since a model that cannot explain gives its explanation map no sign. Where there '
  'are few components, one that matters much to both can make the correlation, so that '
  'of ranks stands beside it. Left out: sites at which x and x’ cannot differ or that '
  'nothing reads, and sums of components. The tenth of the components that matters '
  'most to behaviour is then replaced by its mean over both runs, in x and in x’ '
  '(knocked out), against as many others of the same kinds, drawn at random; told is '
  'how many nats of x minus x’ that takes. All pairs are held out; top sites and '
  'effects are of the same pairs. What was settled beforehand was settled on '
  'validation facts of world 0.',
}
# Contrasts that claims are decided on, and which half of an explanation each patches.
HALVES = {'moved': '', 'question': 'v’'}
MOVES = 'moves beyond '  # key of a difference, before what it is from
BOUND = 0.9999  # of correlations, whose Fisher's z would be infinite
COLUMNS = (
  ('Pairs', 'n', count),
  ('Components', 'sites', count),
  ('Behaviour: x − x’, nats', 'behavior_whole', signed),
  ('Explanation: x − x’, nats', 'explanation_whole', signed),
  ('Sharing (sizes)', 'sharing.size', signed),
  ('… signed', 'sharing.signed', signed),
  ('… ranks', 'sharing.rank', signed),
  ('Top sites shared', 'sharing.overlap', percent),
  ('… by chance', 'sharing.chance', percent),
  ('Ceiling by noise', 'sharing.ceiling', decimal),
  ('Residual stream', 'by_kind.residual', signed),
)
KNOCKED_OUT = (
  ('Behaviour: x − x’, nats', 'behavior_whole', signed),
  ('lost by top', 'knocked_out.behavior.top', signed),
  ('by random', 'knocked_out.behavior.random', signed),
  ('Explanation: x − x’, nats', 'explanation_whole', signed),
  ('lost by top', 'knocked_out.explanation.top', signed),
  ('by random', 'knocked_out.explanation.random', signed),
  ('top − random', 'knocked_out.explanation.difference', signed),
  ('Behaviour flips', 'knocked_out.flipped', percent),
  ('Explanation then agrees', 'knocked_out.agrees', percent),
  ('… beyond chance, minus unmoved', 'knocked_out.follows', points),
)


def _map(parts: Parts, name: str, contrast: str, step: int, seed: int) -> Maps:
  return parts.maps[name][seed][contrast][step]


def _statistics(parts: Parts, *which) -> dict:
  """Of `_map`'s arguments."""
  return sharing.statistics(_map(parts, *which))


def _there(parts: Parts, name: str, contrast: str) -> list[int]:
  """Steps at which a run could be patched in every seed."""
  steps = [
    {k for k, x in parts.maps[name][seed][contrast].items() if x is not None}
    for seed in parts.seeds
  ]
  return sorted(set.intersection(*steps))


def _entry(parts: Parts, name: str, contrast: str, step: int) -> dict:
  found = parts.over(_statistics, name, contrast, step)
  to_z = functools.partial(_correlation, confidence=parts.confidence)
  sharing_ = {key: to_z(found['sharing'][key]) for key in ('size', 'signed', 'rank')}
  by_kind = {kind: to_z(x) for kind, x in found['by_kind'].items()}
  sharing_ = found['sharing'] | sharing_
  return {'step': step} | found | {'sharing': sharing_, 'by_kind': by_kind}


def _run(parts: Parts, name: str, contrast: str) -> dict:
  """Every step of a run that was patched in every seed."""
  every = [parts.maps[name][seed][contrast] for seed in parts.seeds]
  return {
    'name': name,
    'contrast': contrast,
    'steps': [_entry(parts, name, contrast, x) for x in _there(parts, name, contrast)],
    # Where some seed could not be patched at its end, there is no end to speak of.
    'last': max((k for x in every for k in x), default=0),
  }


def numbers(study: Study, parts: Parts) -> dict:
  """Statistics of every run by contrast and step, and their differences.

  Args:
    study: its runs: the main one, one without the KL, one of shuffled labels.
    parts: with the maps of these runs.
  """
  main = study.runs[0]
  contrasts = list(parts.maps[main][parts.seeds[0]])
  runs = [_run(parts, name, x) for x in contrasts for name in study.runs]
  found = {'runs': runs, 'against': {}, 'maps': []}
  for contrast in HALVES:
    ends = _ends(found, contrast)
    if main not in ends:
      continue
    found['against'][contrast] = _against(study, parts, contrast, ends)
    for name, end in ends.items():
      every = [_map(parts, name, contrast, end['step'], seed) for seed in parts.seeds]
      about = {'name': name, 'contrast': contrast, 'step': end['step']}
      found['maps'].append(about | {'sites': _mean_map(every, explained(end))})
  return found


def _against(study: Study, parts: Parts, contrast: str, ends: dict[str, dict]) -> dict:
  """The main run's sharing at its end, minus that of others or with their maps."""
  main = study.runs[0]
  first, last = _there(parts, main, contrast)[0], ends[main]['step']
  others = {name: ends[name]['step'] for name in study.runs[1:] if name in ends}
  named = [(name, step, short(name), short(name)) for name, step in others.items()]
  if first == 0 < last:
    named.insert(0, (main, 0, 'before training', 'M_0'))
  result = {}
  for name, step, alone, crossed in named:
    for key, cross in ((alone, False), (f'explanation map of {crossed}', True)):
      which = contrast, (main, last), (name, step), cross
      over = parts.over(_over_other, *which, shares=False)
      result[key] = over['sharing']
    result[f'{MOVES}{alone}'] = over['moves']
  return result


def _over_other(
  parts: Parts,
  contrast: str,
  main: tuple[str, int],
  other: tuple[str, int],
  cross: bool,
  seed: int,
) -> dict:
  """What the main run has minus another's; `cross`: of sharing, minus that with the
  other's explanation map."""
  which = [(name, contrast, step) for name, step in (main, other)]
  found = [parts.of_seed(_statistics, x, seed) for x in which]
  own, its = (x['sharing']['size']['value'] for x in found)
  if cross:
    its = sharing.cross(*(_map(parts, *x, seed) for x in which))
  moves = (x['knocked_out']['follows']['value'] for x in found)
  return {'sharing': minus(own, its), 'moves': minus(*moves)}


def _correlation(over: dict, confidence: float) -> dict:
  """A correlation over seeds, by Student's t on Fisher's scale."""
  if len(over['per_seed']) == 1 or None in over['per_seed']:
    return over
  z_S = np.arctanh(np.clip(over['per_seed'], -BOUND, BOUND))
  found = intervals.seed_interval(z_S, confidence)
  value, *bounds = (x if x is None else float(np.tanh(x)) for x in found)
  return over | {'mean': value} | dict(zip(('low', 'high'), bounds))


def _mean_map(maps: list[Maps], to_patch: bool) -> list[dict]:
  """Normalised effects by site, of all seeds; none where nothing is explained."""
  behavior_R, explanation_R = (
    effect_maps.effect([getattr(x, key) for x in maps])
    for key in ('behavior', 'explanation')
  )
  if not to_patch:
    explanation_R = np.full(len(explanation_R), np.nan)
  live_R = np.all([x.live_R for x in maps], axis=0)
  among = effect_maps.compared(maps[0].sites, live_R, effect_maps.COMPONENTS)
  return patch_figures.entries(maps[0].sites, behavior_R, explanation_R, among)


def explained(entry: dict) -> bool:
  """Whether there is an explanation to patch: it tells x from x'."""
  return conclusions.above(entry['explanation_whole']) == conclusions.SUPPORTED


def _ends(found: dict, contrast: str) -> dict[str, dict]:
  """The last step of every run that has one in all seeds."""
  return {
    run['name']: run['steps'][-1]
    for run in found['runs']
    if run['contrast'] == contrast
    and run['steps']
    and run['steps'][-1]['step'] == run['last']
  }


def rows(study: Study, found: dict) -> list[Row]:
  return [x for contrast in found['against'] for x in _rows(study, found, contrast)]


def _rows(study: Study, found: dict, contrast: str) -> list[Row]:
  half, against = HALVES[contrast], found['against'][contrast]
  last = _ends(found, contrast)[study.runs[0]]
  given = functools.partial(_given, explained(last))
  size = last['sharing']['size']
  others = [x for key, x in against.items() if key.startswith('explanation map of')]
  more = (conclusions.above(x, MORE) for x in others)
  shared = conclusions.provided(given(size), *more)
  ceiling = last['sharing']['ceiling']['mean']
  result = [row('shares_circuits', size, shared, ceiling, half)]
  for claim, key, about in (
    ('sharing_grows', 'before training', ''),
    ('beyond_base_map', 'explanation map of M_0', ''),
    *(
      (claim, start + short(name), short(name))
      for name in study.runs[1:]
      for claim, start in (('beyond_map', 'explanation map of '), ('beyond_run', ''))
    ),
  ):
    if key in against:
      told = _about(half, about)
      state = given(against[key], MORE)
      result.append(row(claim, against[key], state, about=told))
  without, whole = last['knocked_out'], last['explanation_whole']['mean']
  difference, follows = without['explanation']['difference'], without['follows']
  return [
    *result,
    row('knocked_out', difference, given(difference), whole, half),
    row('moves_with_behavior', follows, given(follows), about=half),
    *(
      row('moves_beyond', x, given(x), about=_about(half, key.removeprefix(MOVES)))
      for key, x in against.items()
      if key.startswith(MOVES)
    ),
  ]


def _about(half: str, run: str) -> str:
  return ', '.join(x for x in (half, run) if x)


def _given(to_patch: bool, statistic: dict, zero: float = 0.0) -> str:
  """Whether it is above a number; inconclusive without an explanation to patch."""
  return conclusions.above(statistic, zero) if to_patch else conclusions.INCONCLUSIVE


def tables(study: Study, found: dict, path: str) -> dict[str, Table]:
  result = {}
  for contrast in dict.fromkeys(run['contrast'] for run in found['runs']):
    entries = [
      (f'{short(run["name"])}, step {x["step"]}', f'{path}.runs.{i}.steps.{k}', x)
      for i, run in enumerate(found['runs'])
      for k, x in enumerate(run['steps'])
      if run['contrast'] == contrast
    ]
    said = lambda x: ('yes' if explained(x) else 'no',)
    result[f'sharing_{contrast}'] = table(
      f'Sharing, {TITLES[contrast]}. Explains: x and x’ differ in the explanation.',
      *('Run', entries, COLUMNS, ('Explains',), said),
    )
    result[f'knocked_out_{contrast}'] = table(
      f'The behaviour’s top components knocked out, {TITLES[contrast]}; effects are '
      'parts of x − x’.',
      *('Run', entries, KNOCKED_OUT),
    )
  return result


def figures(study: Study, found: dict) -> dict:
  result = {}
  for contrast in found['against']:
    result[f'sharing-{contrast}'] = (
      f'Sharing over training, {TITLES[contrast]}; step 0 is M_0. Filled: there is an '
      'explanation to patch. Whiskers: 95% intervals; dots: single seeds.',
      functools.partial(mechanism_figures.sharing, found, contrast),
    )
  for x in found['maps']:
    title = f'{short(x["name"])} at step {x["step"]}, {TITLES[x["contrast"]]}'
    key = f'{short(x["name"]).replace("/", "-")}-{x["contrast"]}'
    result[f'heat-{key}'] = (
      'Effect of patching as a share of x minus x’, by layer and group, all seeds: '
      f'{title}.',
      functools.partial(patch_figures.heat, x['sites']),
    )
    if any(site['explanation'] is not None for site in x['sites']):
      result[f'sites-{key}'] = (
        f'Heads and MLPs by how much they matter to both, all seeds: {title}.',
        functools.partial(patch_figures.scatter, x['sites']),
      )
  return result
