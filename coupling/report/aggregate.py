"""From the records of an experiment to all numbers of its report, as one JSON dict.

A number over seeds is a *statistic* {mean, low, high, per_seed}. With several seeds
its interval is Student's t over the seeds' values. One seed shows no variation over
seeds: then the interval is the one within its run, over groups of items, and
`interval.kind` says so. No model and no JAX here.
"""

import collections
from collections.abc import Callable
import dataclasses
import functools
import pathlib
from typing import Any

import numpy as np

from coupling.config.schema import Experiment
from coupling.elicit.explanation import Explanation, agree
from coupling.report import provenance
from coupling.report import records
from coupling.report.records import BASE, SeedRecords
from coupling.runtime import workdir as workdir_lib
from coupling.statistics import across_seeds
from coupling.statistics import baselines
from coupling.statistics import contrasts
from coupling.statistics import reliance
from coupling.statistics import scores
from coupling.statistics import variety
from coupling.statistics.items import Items

ROLES = ('main', 'unregularised', 'sibling', 'shuffled')
EXAMPLES_PER_KIND = 2
BASELINE_STATISTICS = (
  *('self_accuracy', 'orig_accuracy', 'gap'),
  *('balanced_self', 'balanced_orig', 'balanced_gap'),
  *('gap_answer', 'moved', 'siding', 'siding_answer'),
)


def summarize(e: Experiment, workdir: pathlib.Path) -> dict:
  """All numbers of the report.

  Args:
    e: the experiment; its evaluate stages must be finished for all seeds and runs.
    workdir: where they are.

  Returns:
    title, audit (whether nothing was trained), config, seeds, roles, items, groups,
    interval; runs (every statistic of `scores.coupling` by run and step, and the
    variety of labels and statements), sibling, contrasts, cross, baselines and
    unregularised_baselines, follow (comparisons), examples; trained_labels, where the
    main run's are another model's; likelihood, where every run
    was evaluated by it; and provenance, which alone holds times.

  Raises:
    WorkdirError: a stage is unfinished or damaged, or files are of other items.
  """
  seeds = {seed: records.read_seed(e, workdir, seed) for seed in e.seeds}
  return of_records(e, seeds, provenance.provenance(e, workdir))


def of_records(
  e: Experiment, seeds: dict[int, SeedRecords], made: dict[str, Any]
) -> dict:
  """`summarize` of what was recorded; `made`: see provenance.provenance."""
  roles = {role: getattr(e.report, role) for role in ROLES if getattr(e.report, role)}
  groups = [len(np.unique(s.orig.group_N)) for s in seeds.values()]
  shared = share_items(e.report.main, list(seeds.values()))
  across = functools.partial(over_seeds, shared_items=shared)

  def over(function, shares=False):
    return across([function(seed) for seed in seeds.values()], shares)

  result = {
    'title': e.report.title,
    'audit': e.runs[e.report.main].loop.steps == 0,
    'config': dataclasses.asdict(e),
    'seeds': list(e.seeds),
    'roles': roles,
    'items': [len(s.orig.group_N) for s in seeds.values()],
    'groups': groups,
    'interval': interval(e.seeds, groups, shared),
    'runs': {run: _run(run, seeds, across) for run in e.runs},
    'contrasts': {
      role: over(functools.partial(_contrast, roles['main'], roles[role]))
      for role in ('unregularised', 'shuffled')
      if role in roles
    },
    'cross': over(functools.partial(_cross, roles), shares=True),
    'baselines': over(functools.partial(_baselines, roles['main'])),
    'unregularised_baselines': over(
      functools.partial(_baselines, roles['unregularised'])
    )
    if 'unregularised' in roles
    else {},
    'follow': _follow(roles['main'], list(seeds.values()), across),
    'examples': _examples(roles['main'], seeds[e.seeds[0]]),
    'provenance': made,
  }
  if all(s.unexplained for s in seeds.values()):
    result['planted'] = {
      run: over(lambda s, run=run: scores.planted(s.unexplained[run]), shares=True)
      for run in e.runs
    }
  if all(s.scored(run) for s in seeds.values() for run in e.runs):
    result['likelihood'] = {
      run: over(functools.partial(_likelihood, run)) for run in e.runs
    }
  if e.runs[roles['main']].labels:
    result['trained_labels'] = over(functools.partial(_trained_labels, roles['main']))
  if 'sibling' in roles:
    pair = roles['main'], roles['sibling']
    result['sibling'] = over(functools.partial(_sibling, *pair))
  return result


def interval(
  seeds: tuple[int, ...], groups: list[int], shared_items: bool
) -> dict[str, Any]:
  shared = {'shared_items': shared_items}
  if len(seeds) > 1:
    text = f'over {len(seeds)} seeds, t'
    text += ', but no narrower than within a run, over groups' if shared_items else ''
    return {'kind': 'seeds', 'text': text} | shared
  text = f'over {groups[0]} groups, bootstrap; shares: clustered Wilson'
  return {'kind': 'groups', 'text': text} | shared


def share_items(run: str, seeds: list[SeedRecords]) -> bool:
  """Whether seeds ask about the same held-out texts, but for a few."""
  first, *others = (
    set(next(iter(s.tables[run].values()))['counterfactual'].to_pylist()) for s in seeds
  )
  return any(len(first & other) > len(first) / 2 for other in others)


def over_seeds(
  results: list[dict], shares: bool = False, shared_items: bool = False
) -> dict:
  """Statistics of the seeds' results; of one seed, with intervals within its run."""
  if len(results) == 1:
    return _alone(results[0])
  return across_seeds.across_seeds(results, shares, shared_items)


def _alone(result: Any) -> dict:
  if not isinstance(result, dict):
    result = {'value': result, 'low': None, 'high': None}
  if 'value' in result:
    value = result['value']
    bounds = {'low': result['low'], 'high': result['high']}
    return {'mean': value, **bounds, 'per_seed': [value]}
  return {k: _alone(v) for k, v in result.items() if not k.endswith('_p')}


def _run(run: str, seeds: dict[int, SeedRecords], across: Callable) -> dict:
  """Coupling at every evaluated step, by seed and over seeds."""
  steps = list(next(iter(seeds.values())).items[run])
  for seed, recorded in seeds.items():
    if list(recorded.items[run]) != steps:
      raise workdir_lib.WorkdirError(
        f'seed{seed}/{run}/evaluate: found the steps {list(recorded.items[run])}, '
        f'but another seed has {steps}: evaluate the same checkpoints of every seed'
      )
  per_seed = {
    seed: {
      step: scores.coupling(items, s.orig, s.targets[run])
      for step, items in s.items[run].items()
    }
    for seed, s in seeds.items()
  }
  over = {step: across([r[step] for r in per_seed.values()]) for step in steps}
  named = {
    str(seed): {str(k): r for k, r in steps.items()} for seed, steps in per_seed.items()
  }
  return {
    'steps': steps,
    'final': over[steps[-1]],
    'over_seeds': {str(step): over[step] for step in steps},
    'per_seed': named,
    **_variety(run, list(seeds.values()), across),
  }


def _variety(run: str, seeds: list[SeedRecords], across: Callable) -> dict:
  """How much the labels trained on vary, and how much the final explanations do."""
  trained = [s.train_labels[run] for s in seeds]
  labels = [
    variety.labels(x, s.orig.states_answer, s.options) for x, s in zip(trained, seeds)
  ]
  numbers = [{k: found[k] for k in variety.NOT_SHARES} for found in labels]
  said = [variety.statements(s.final(run), x) for x, s in zip(trained, seeds)]
  return {
    'labels': across(labels, shares=True) | across(numbers),
    'statements': across(said, shares=True),
  }


def _sibling(main: str, sibling: str, s: SeedRecords) -> dict:
  """Both directions pooled.

  `denial` stands for what knowing one's own current answer, and nothing else, would
  give.
  """
  pair = s.final(main), s.final(sibling)
  denials = [dataclasses.replace(x, stated=baselines.denial(x)) for x in pair]
  return {
    'explanations': contrasts.pooled_sibling(*pair),
    'denial': contrasts.pooled_sibling(*denials),
  }


def _contrast(main: str, other: str, s: SeedRecords) -> dict:
  """Gap and weights' difference of the main run minus those of another, paired."""
  gaps = []
  for items in (s.final(main), s.final(other)):
    gaps.append(1.0 * items.right(items.truth) - items.right(s.orig.truth))
  pairs = [(s.final(run), s.orig.truth) for run in (main, other)]
  return {
    'gap': scores.difference(*gaps, s.orig.group_N, 0),
    'siding_difference': reliance.contrast(*pairs),
    'siding_answer_difference': reliance.contrast(*pairs, answer_only=True),
    'beyond_shared': reliance.beyond_shared(s.final(main), s.final(other)),
  }


def _trained_labels(main: str, s: SeedRecords) -> dict:
  """Weights of the own truth and of the labels trained on, which are not M_0's."""
  items, target = s.final(main), s.targets[main]

  def weights(answer_only: bool) -> dict:
    found = reliance.siding_weights(items, target, answer_only=answer_only)
    return dict(zip(('self', 'target', 'difference'), found.values(), strict=True))

  return {'siding': weights(False), 'siding_answer': weights(True)}


def _likelihood(run: str, s: SeedRecords) -> dict:
  return contrasts.likelihood(s.final(run), s.scored(run), s.orig)


def _explainers(items: Items, s: SeedRecords, run: str) -> dict[str, Explanation]:
  """Statements of explainers that were not trained, made for one model."""
  before = {} if list(s.items[run]) == [0] else {BASE: s.orig.stated}  # else the same
  return before | {
    'majority': baselines.majority(s.train_labels[run], items),
    'denial': baselines.denial(items),
    'cue_parrot': baselines.cue_parrot(items, items.surface['cue_option']),
    'input_only': s.input_only(run),
  }


def _cross(roles: dict[str, str], s: SeedRecords) -> dict:
  """Each explainer's statements against each model's behaviour, at the final step.

  Those of M_0 and of the runs are what these models said. Majority, denial and cue
  parrot speak for the model of the column: they know its own answer.
  """
  models = [BASE, *(roles[k] for k in ROLES[:3] if k in roles)]
  result = collections.defaultdict(dict)
  for name in models:
    behaver = s.final(name)
    stated = {run: s.final(run).stated for run in roles.values()}
    for explainer, statements in (
      stated | _explainers(behaver, s, roles['main'])
    ).items():
      items = dataclasses.replace(behaver, stated=statements)
      accuracy = contrasts.cross_accuracy(items, behaver)
      result[explainer][name] = accuracy._asdict()
  return dict(result)


def _baselines(run: str, s: SeedRecords) -> dict:
  """Untrained explainers of a run's final model, scored like its own statements."""
  items = s.final(run)
  result = {}
  for name, stated in _explainers(items, s, run).items():
    explained = dataclasses.replace(items, stated=stated)
    found = scores.coupling(explained, s.orig)
    result[name] = {key: found[key] for key in BASELINE_STATISTICS}
  return result


def _follow(main: str, seeds: list[SeedRecords], across: Callable) -> list[dict]:
  """Follow rates between consecutive trained checkpoints, then from first to last.

  M_0 has not learned to explain, so the first checkpoint is the first trained one.
  """
  steps = [step for step in seeds[0].items[main] if step > 0]
  spans = list(zip(steps, steps[1:]))
  if len(steps) > 2:
    spans.append((steps[0], steps[-1]))
  return [
    {'from': a, 'to': b}
    | across(
      [contrasts.follow_rate(s.items[main][a], s.items[main][b], s.orig) for s in seeds]
    )
    for a, b in spans
  ]


def _examples(main: str, s: SeedRecords) -> list[dict]:
  """The first items, in file order, of each of four kinds: not chosen by hand."""
  items, orig = s.final(main), s.orig
  self_N, orig_N = items.right(items.truth), items.right(orig.truth)
  moved_N = ~agree(items.truth, orig.truth, items.states_answer)
  kinds = {
    'self': moved_N & self_N,
    'orig': moved_N & orig_N,
    'neither': moved_N & ~self_N & ~orig_N,
    'unmoved_right': ~moved_N & self_N,
  }
  table = list(s.tables[main].values())[-1]
  result = []
  for kind, within_N in kinds.items():
    for i in np.flatnonzero(within_N)[:EXAMPLES_PER_KIND]:
      row = {k: v[0] for k, v in table.slice(int(i), 1).to_pydict().items()}
      options = row['options']
      did = {}
      for name, model in (('base', orig), ('current', items)):
        did[name] = {
          'prompt': options[model.behavior_N[i]],
          'counterfactual': options[model.counterfactual_behavior_N[i]],
        }
      asked = {k: row[k] for k in ('prompt', 'counterfactual', 'options', 'statement')}
      result.append({'kind': kind, 'row': int(i), **asked, 'did': did})
  return result
