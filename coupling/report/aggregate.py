"""From the records of an experiment to all numbers of its report, as one JSON dict.

A number over seeds is a *statistic* {mean, low, high, per_seed}. With several seeds
its interval is Student's t over the seeds' values. One seed shows no variation over
seeds: then the interval is the one within its run, over groups of items, and
`interval.kind` says so. No model and no JAX here.
"""

from collections.abc import Callable
import dataclasses
import functools
import pathlib
from typing import Any

import numpy as np

from coupling.config.schema import Experiment, Pretrain
from coupling.elicit.explanation import Explanation, agree
from coupling.report import drift_numbers
from coupling.report import explainers
from coupling.report import provenance
from coupling.report import records
from coupling.report.explainers import ROLES
from coupling.report.records import SeedRecords
from coupling.runtime import workdir as workdir_lib
from coupling.statistics import across_seeds
from coupling.statistics import baselines
from coupling.statistics import contrasts
from coupling.statistics import reliance
from coupling.statistics import scores
from coupling.statistics import variety
from coupling.statistics.items import Items

EXAMPLES_PER_KIND = 2


def summarize(e: Experiment, workdir: pathlib.Path) -> dict:
  """All numbers of the report.

  Args:
    e: the experiment; its evaluate stages must be finished for all seeds and runs.
    workdir: where they are.

  Returns:
    title, audit (whether nothing was trained), config, seeds, roles, items, groups,
    interval; runs (every statistic of `scores.coupling` by run and step, with the
    examples seen and the majority class's share, and the variety of labels and
    statements), sibling, contrasts, cross, baselines and
    unregularised_baselines, follow (comparisons), examples; trained_labels, where the
    main run's are another model's; drift, of given checkpoints; likelihood, where every
    run was evaluated by it; and provenance, which alone holds times.

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
  shared = alike(e, list(seeds.values()))
  across = functools.partial(over_seeds, shared_items=shared)
  runs = {run: _run(run, e, seeds, across) for run in e.runs}
  return {
    'title': e.report.title,
    'audit': e.runs[e.report.main].loop.steps == 0,
    'config': dataclasses.asdict(e),
    'seeds': list(e.seeds),
    'roles': roles,
    'items': [len(s.orig.group_N) for s in seeds.values()],
    'groups': groups,
    'interval': interval(e.seeds, groups, shared),
    'runs': runs,
    **_beside(e, roles, list(seeds.values()), across),
    'follow': _follow(roles['main'], list(seeds.values()), across),
    **_drift(drift_numbers.numbers(roles['main'], next(iter(seeds.values())))),
    'examples': _examples(roles['main'], seeds[e.seeds[0]]),
    'provenance': made,
  }


def _beside(
  e: Experiment, roles: dict[str, str], seeds: list[SeedRecords], across: Callable
) -> dict:
  """What the main run is held against: controls and explainers without training."""
  main = roles['main']

  def over(function: Callable, *names, shares: bool | None = None) -> dict:
    return across([function(*names, s) for s in seeds], shares)

  result = {
    'contrasts': {
      role: over(_contrast, main, roles[role])
      for role in ('unregularised', 'shuffled')
      if role in roles
    }
    | {'input_only': across([_over(s.input_only(main), main, s) for s in seeds])},
    'cross': over(explainers.cross, roles, shares=True),
    'baselines': over(explainers.baseline_scores, main, main),
    'unregularised_baselines': {},
  }
  if 'unregularised' in roles:
    run = roles['unregularised']
    found = over(explainers.baseline_scores, run, main)
    result['unregularised_baselines'] = found
  if all(s.unexplained for s in seeds):
    planted = lambda run, s: scores.planted(s.unexplained[run])
    result['planted'] = {run: over(planted, run, shares=True) for run in e.runs}
  if all(s.scored(run) for s in seeds for run in e.runs):
    result['likelihood'] = {run: over(_likelihood, run) for run in e.runs}
  if e.runs[main].labels:
    result['trained_labels'] = over(_trained_labels, main)
  if 'sibling' in roles:
    result['sibling'] = over(_sibling, main, roles['sibling'])
    result['contrasts']['other_explainer'] = across(
      [_over(s.final(roles['sibling']).stated, main, s) for s in seeds]
    )
  return result


def interval(
  seeds: tuple[int, ...], groups: list[int], shared_items: bool
) -> dict[str, Any]:
  shared = {'shared_items': shared_items}
  if len(seeds) > 1:
    text = f'over {len(seeds)} seeds, t'
    text += ', with the variation over groups within a run' if shared_items else ''
    return {'kind': 'seeds', 'text': text} | shared
  text = f'over {groups[0]} groups, bootstrap; shares: clustered Wilson'
  return {'kind': 'groups', 'text': text} | shared


def alike(e: Experiment, seeds: list[SeedRecords]) -> bool:
  """Whether seeds have M_0, or most of the held-out texts, in common.

  What is common to them cancels from the variation over seeds: draws of hints and
  trainings differ, and the model and what it was asked about do not.
  """
  if not isinstance(e.base, Pretrain) and '{seed' not in getattr(e.base, 'step', ''):
    return True
  first, *others = (
    set(next(iter(s.tables[e.report.main].values()))['counterfactual'].to_pylist())
    for s in seeds
  )
  return any(len(first & other) > len(first) / 2 for other in others)


def over_seeds(results: list[dict], *how, **more) -> dict:
  """See across_seeds.across_seeds; of one seed, the intervals within its run."""
  if len(results) == 1:
    return _alone(results[0])
  return across_seeds.across_seeds(results, *how, **more)


def _alone(result: Any) -> dict:
  if not isinstance(result, dict):
    result = {'value': result, 'low': None, 'high': None}
  if 'value' in result:
    value = result['value']
    bounds = {'low': result['low'], 'high': result['high']}
    return {'mean': value, **bounds, 'per_seed': [value]}
  return {k: _alone(v) for k, v in result.items() if not k.endswith('_p')}


def _run(
  run: str, e: Experiment, seeds: dict[int, SeedRecords], across: Callable
) -> dict:
  """Coupling at every evaluated step; the field's metrics at the last one alone."""
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
  field = [explainers.field(run, e.report.main, s) for s in seeds.values()]
  over = {step: across([r[step] for r in per_seed.values()]) for step in steps}
  named = {
    str(seed): {str(k): r for k, r in steps.items()} for seed, steps in per_seed.items()
  }
  return {
    'steps': steps,
    'examples': [e.runs[run].explanation_batch * step for step in steps],
    'majority': [_majority(run, step, list(seeds.values()), across) for step in steps],
    'final': over[steps[-1]] | {'field': across(field)},
    'over_seeds': {str(step): over[step] for step in steps},
    'per_seed': named,
    **_variety(run, list(seeds.values()), across),
    **_unnamed(run, list(seeds.values()), across),
  }


def _unnamed(run: str, seeds: list[SeedRecords], across: Callable) -> dict:
  """How often final replies name no single option, where that is how they are read."""
  found = [
    {k: scores.share(x, s.orig.group_N) for k, x in s.unnamed(run).items()}
    for s in seeds
  ]
  return {'unnamed': across(found, True)} if all(found) else {}


def _majority(run: str, step: int, seeds: list[SeedRecords], across: Callable) -> dict:
  """How often the majority class of the labels is right about a run at a step."""
  shares = []
  for s in seeds:
    items = s.items[run][step]
    stated = baselines.majority(s.train_labels[run], items)
    right_N = dataclasses.replace(items, stated=stated).right(items.truth)
    shares.append({'right': scores.share(right_N, items.group_N)})
  return across(shares, True)['right']


def _variety(run: str, seeds: list[SeedRecords], across: Callable) -> dict:
  """How much the labels trained on vary, and how much the final explanations do."""
  trained = [s.train_labels[run] for s in seeds]
  labels = [
    variety.labels(x, s.orig.states_answer, s.options) for x, s in zip(trained, seeds)
  ]
  numbers = [{k: found.pop(k) for k in variety.NOT_SHARES} for found in labels]
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
  pair = s.final(main), s.final(other)
  return _paired(*pair, s)


def _over(stated: Explanation, main: str, s: SeedRecords) -> dict:
  """The same of the main run and these statements in the place of its own."""
  items = s.final(main)
  other = dataclasses.replace(items, stated=stated)
  own, orig = items.truth.answer_N, s.orig.truth.answer_N
  gaps = [
    1.0 * (x.stated.answer_N == own) - (x.stated.answer_N == orig)
    for x in (items, other)
  ]
  pairs = (items, s.orig.truth), (other, s.orig.truth)
  # Who learned E(M_0) alone has self - orig mostly below 0, which is easily exceeded.
  own = reliance.contrast(*pairs, answer_only=True, coefficients=reliance.SELF)
  beyond = {'gap_answer': scores.difference(*gaps, s.orig.group_N, 0)}
  return _paired(items, other, s) | beyond | {'reliance_answer_self': own}


def _paired(one: Items, other: Items, s: SeedRecords) -> dict:
  """Differences of two evaluations of the same items."""
  gaps = [1.0 * x.right(x.truth) - x.right(s.orig.truth) for x in (one, other)]
  pairs = (one, s.orig.truth), (other, s.orig.truth)
  return {
    'gap': scores.difference(*gaps, s.orig.group_N, 0),
    'reliance_difference': reliance.contrast(*pairs),
    'reliance_answer_difference': reliance.contrast(*pairs, answer_only=True),
  }


def _trained_labels(main: str, s: SeedRecords) -> dict:
  """Weights of the own truth and of the labels trained on, which are not M_0's."""
  items, target = s.final(main), s.targets[main]

  def weights(answer_only: bool) -> dict:
    found = reliance.reliance_weights(items, target, answer_only=answer_only)
    return dict(zip(('self', 'target', 'difference'), found.values(), strict=True))

  return {'reliance': weights(False), 'reliance_answer': weights(True)}


def _likelihood(run: str, s: SeedRecords) -> dict:
  return contrasts.likelihood(s.final(run), s.scored(run), s.orig)


def _drift(found: dict) -> dict:
  """Of drift_numbers.numbers; {} of anything but an audit of several checkpoints."""
  steps = {k: _alone(x) for k, x in found.get('steps', {}).items()}
  return {'drift': found | {'steps': steps}} if found else {}


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
