"""Do behaviour and explanation share circuits? Maps of activation patching."""

from collections.abc import Callable, Mapping
import functools

import numpy as np

from coupling.config.schema import Study
from coupling.paper import layout
from coupling.paper import mechanism_figures
from coupling.paper import rules
from coupling.paper.paper_seeds import Parts, minus, short
from coupling.paper.rules import Row
from coupling.patching.outcomes import Found
from coupling.report import patch_figures
from coupling.report.numerals import count, decimal, percent, points, signed
from coupling.report.tables import Table
from coupling.statistics import intervals
from coupling.statistics import sharing
from coupling.statistics.sharing import Maps

TESTED = {
  'mechanism': 'Activations of the run on x are replaced, one site at a time (site, '
  'layer, position group; heads each alone), by those of the run on x’, of pairs whose '
  'answer changes without the cue. x’ is x with its cue moved to the answer without it '
  '(or, told apart, x without a cue, which no training asks to explain). Behaviour: '
  'log-probability of the answer on x less that on x’. Explanation: the same of '
  '“changed” and “unchanged”, each as the model’s own behaviour makes it true. Both '
  'statements of a pair name the same v’, so that only this half of an explanation is '
  'patched: whether v’ shares its circuits is not asked. Sharing is the correlation, '
  'over heads and MLPs, of how much each matters to the one and to the other: in size, '
  'since a model that cannot explain gives its explanation map no sign. Where there '
  'are few components, one that matters much to both can make the correlation, so that '
  'of ranks stands beside it. Left out: sites at which x and x’ cannot differ or that '
  'nothing reads, and sums of components. The tenth of the components that matters '
  'most to behaviour is then replaced by its mean over both runs, in x and in x’ '
  '(knocked out), against as many others of the same kinds, drawn at random; told is '
  'how many nats of x less x’ that takes. All pairs are held out; top sites and '
  'effects are of the same pairs. What was settled beforehand was settled on '
  'validation facts of world 0.',
}
CONTRAST = 'moved'  # that claims are decided on
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
  ('… beyond chance, less unmoved', 'knocked_out.follows', points),
)
SIZE = 'sharing.size'


def numbers(
  study: Study, parts: Parts, maps: Mapping[str, Mapping[int, Found]]
) -> dict:
  """Statistics of every run by contrast and step, and their differences.

  Args:
    study: its runs: the main one, one without the KL, one of shuffled labels.
    parts: for statistics over seeds.
    maps: of these runs.
  """
  main = study.runs[0]
  contrasts = list(maps[main][parts.seeds[0]])
  cached = functools.cache(
    lambda name, contrast, step, seed: sharing.statistics(
      maps[name][seed][contrast][step]
    )
  )

  def there(name: str, contrast: str) -> list[int]:
    """Steps at which a run could be patched in every seed."""
    steps = [
      {k for k, x in maps[name][seed][contrast].items() if x is not None}
      for seed in parts.seeds
    ]
    return sorted(set.intersection(*steps))

  def size(name: str, step: int, seed: int) -> float | None:
    return cached(name, CONTRAST, step, seed)['sharing']['size']['value']

  def entry(name: str, contrast: str, step: int) -> dict:
    found = parts.over(functools.partial(cached, name, contrast, step))
    sharing_ = found['sharing'] | {
      key: _correlation(found['sharing'][key]) for key in ('size', 'signed', 'rank')
    }
    by_kind = {kind: _correlation(x) for kind, x in found['by_kind'].items()}
    return {'step': step} | found | {'sharing': sharing_, 'by_kind': by_kind}

  runs = [
    {
      'name': name,
      'contrast': contrast,
      'steps': [entry(name, contrast, step) for step in there(name, contrast)],
      # Where some seed could not be patched at its end, there is no end to tell of.
      'last': max((k for s in parts.seeds for k in maps[name][s][contrast]), default=0),
    }
    for contrast in contrasts
    for name in study.runs
  ]
  ends = _ends({'runs': runs})
  steps = there(main, CONTRAST) if main in ends else []
  last = {name: [ends[name]['step']] if name in ends else [] for name in study.runs}

  def against(value: Callable[[int], float | None]) -> dict:
    """The main run's sharing at its end, less another value."""
    return parts.over(
      lambda seed: {'less': minus(size(main, steps[-1], seed), value(seed))}
    )['less']

  found = {'runs': runs, 'against': {}, 'maps': []}
  if not steps:
    return found
  of = lambda name, step, seed: maps[name][seed][CONTRAST][step]
  end = functools.partial(of, main, steps[-1])
  if steps[0] == 0 < steps[-1]:
    found['against']['before training'] = against(lambda seed: size(main, 0, seed))
    found['against']['explanation map of M_0'] = against(
      lambda seed: sharing.cross(end(seed), of(main, 0, seed))
    )
  for name in study.runs[1:]:
    if last[name]:
      step = last[name][0]
      found['against'][short(name)] = against(functools.partial(size, name, step))
      found['against'][f'explanation map of {short(name)}'] = against(
        lambda seed, name=name, step=step: sharing.cross(
          end(seed), of(name, step, seed)
        )
      )
  for name, end_of in ends.items():
    every = [of(name, end_of['step'], seed) for seed in parts.seeds]
    sites = _mean_map(every, explained(end_of))
    found['maps'].append({'name': name, 'step': end_of['step'], 'sites': sites})
  return found


def _correlation(over: dict) -> dict:
  """A correlation over seeds, by Student's t on Fisher's scale."""
  if len(over['per_seed']) == 1 or None in over['per_seed']:
    return over
  found = intervals.seed_interval(np.arctanh(np.clip(over['per_seed'], -BOUND, BOUND)))
  value, *bounds = (x if x is None else float(np.tanh(x)) for x in found)
  return over | {'mean': value} | dict(zip(('low', 'high'), bounds))


def _mean_map(maps: list[Maps], to_patch: bool) -> list[dict]:
  """Normalised effects by site, of all seeds; none where nothing is explained."""
  behavior_R, explanation_R = (
    sharing.effect([getattr(x, key) for x in maps])
    for key in ('behavior', 'explanation')
  )
  if not to_patch:
    explanation_R = np.full(len(explanation_R), np.nan)
  live_R = np.all([x.live_R for x in maps], axis=0)
  among = sharing.compared(maps[0].sites, live_R, sharing.COMPONENTS)
  return patch_figures.entries(maps[0].sites, behavior_R, explanation_R, among)


def explained(entry: dict) -> bool:
  """Whether there is an explanation to patch: it tells x from x'."""
  return rules.above(entry['explanation_whole']) == rules.AGREES


def _ends(found: dict) -> dict[str, dict]:
  """The last step of every run that has one in all seeds, of the deciding contrast."""
  return {
    run['name']: run['steps'][-1]
    for run in found['runs']
    if run['contrast'] == CONTRAST
    and run['steps']
    and run['steps'][-1]['step'] == run['last']
  }


def rows(study: Study, found: dict) -> list[Row]:
  main, against = study.runs[0], found['against']
  ends = _ends(found)
  if main not in ends:
    return []
  last = ends[main]
  to_patch = explained(last)
  size = last['sharing']['size']
  others = [x for key, x in against.items() if key.startswith('explanation map of')]
  result = [
    Row(
      'Behaviour and explanation share circuits',
      f'correlation {signed(size)} (ranks {signed(last["sharing"]["rank"])}; ceiling '
      f'by noise {decimal(last["sharing"]["ceiling"])})',
      rules.provided(_given(to_patch, size), *map(rules.above, others)),
      'correlation over components of the sizes of both effects above 0 and above '
      'those with the explanation maps of other models, and there is an explanation to '
      'patch',
    )
  ]
  for key, claim in (
    ('before training', 'Sharing grows with explanation training'),
    ('explanation map of M_0', 'More than with the explanation map of M_0'),
  ):
    if key in against:
      result.append(_above(claim, against[key], to_patch))
  for name in study.runs[1:]:
    control = f'explanation map of {short(name)}'
    if control in against:
      result.append(_above(f'More than with the {control}', against[control], to_patch))
      result.append(
        _above(f'More than in {short(name)}', against[short(name)], to_patch)
      )
  without = last['knocked_out']
  difference, follows = without['explanation']['difference'], without['follows']
  return result + [
    Row(
      'Knocking out what matters most to behaviour moves the explanation',
      f'{signed(difference)} of {signed(last["explanation_whole"])} nats beyond random '
      f'sites (behaviour {signed(without["behavior"]["difference"])} of '
      f'{signed(last["behavior_whole"])})',
      _given(to_patch, difference),
      'nats of x less x’ in the explanation that top sites take with them, less random '
      'ones, above 0',
    ),
    Row(
      'The explanation then moves with the behaviour',
      f'{points(follows)} points of pairs; the behaviour flips on '
      f'{percent(without["flipped"])}',
      _given(to_patch, follows),
      'pairs whose explanation prefers what the ablated behaviour makes true, beyond '
      'what the shares alone give, less the same of the explanation as it was, above 0',
    ),
  ]


def _given(to_patch: bool, statistic: dict) -> str:
  """Whether a statistic is above 0; not decided without an explanation to patch."""
  return rules.above(statistic) if to_patch else rules.UNDECIDED


def _above(claim: str, difference: dict, to_patch: bool) -> Row:
  return Row(
    claim,
    f'correlation {signed(difference)} more',
    _given(to_patch, difference),
    'difference of correlations, paired by seed, above 0, and there is an explanation '
    'to patch',
  )


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
    result[f'sharing_{contrast}'] = layout.table(
      f'Sharing, cue {contrast}. Explains: x and x’ differ in the explanation.',
      *('Run', entries, COLUMNS, ('Explains',), said),
    )
    result[f'knocked_out_{contrast}'] = layout.table(
      f'The behaviour’s top components knocked out, cue {contrast}; effects are parts '
      'of x − x’.',
      *('Run', entries, KNOCKED_OUT),
    )
  return result


def figures(study: Study, found: dict) -> dict:
  result = {
    'sharing': (
      'Sharing over training; step 0 is M_0. Filled: there is an explanation to patch. '
      'Whiskers: 95% intervals; dots: single seeds.',
      functools.partial(mechanism_figures.sharing, found, CONTRAST),
    )
  }
  for x in found['maps']:
    title = f'{short(x["name"])} at step {x["step"]}, all seeds'
    key = short(x['name']).replace('/', '-')
    result[f'heat-{key}'] = (
      f'Effect of patching as a share of x less x’, by layer and group: {title}.',
      functools.partial(patch_figures.heat, x['sites']),
    )
    if any(site['explanation'] is not None for site in x['sites']):
      result[f'sites-{key}'] = (
        f'Heads and MLPs by how much they matter to both: {title}.',
        functools.partial(patch_figures.scatter, x['sites']),
      )
  return result


def finding(study: Study, found: dict) -> str:
  """What the main run shares at its end, and what becomes of it knocked out."""
  ends = _ends(found)
  if study.runs[0] not in ends:
    return 'No pair could be patched in every seed.'
  texts = []
  for name, x in ends.items():
    told = '' if explained(x) else ' (no explanation to patch)'
    texts.append(
      f'{short(name)}: correlation {signed(x["sharing"]["size"])}{told}, top sites '
      f'shared {percent(x["sharing"]["overlap"])}'
    )
  without = ends[study.runs[0]]['knocked_out']
  return (
    f'At the end, over components: {"; ".join(texts)}. With the behaviour’s top '
    f'components knocked out in {short(study.runs[0])}, the behaviour flips on '
    f'{percent(without["flipped"])} of the pairs, and the explanation then agrees with '
    f'it on {percent(without["agrees"])}.'
  )
