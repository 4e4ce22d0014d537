"""From the records of an experiment to all numbers of its report, as one JSON dict.

A number over seeds is a *statistic* {mean, low, high, per_seed}. With several seeds
its interval is Student's t over the seeds' values. One seed shows no variation over
seeds: then the interval is the one within its run, over groups of items, and
`interval.kind` says so. No model and no JAX here.
"""

import collections
import dataclasses
import functools
import json
import os
import pathlib
import platform
from typing import Any

import numpy as np
import pyarrow as pa

from coupling import baselines
from coupling import comparisons
from coupling import records
from coupling import runs as runs_lib
from coupling import statistics
from coupling import workdir as workdir_lib
from coupling.config import Experiment
from coupling.explanation import Explanation, agree, phi
from coupling.items import Items

BASE = 'M_0'  # the model before explanation training, beside the names of runs
ROLES = ('main', 'unregularised', 'sibling', 'shuffled')
EXAMPLES_PER_KIND = 2
BASELINE_STATISTICS = (
    *('self_accuracy', 'orig_accuracy', 'gap'),
    *('balanced_self', 'balanced_orig', 'balanced_gap'),
)


@dataclasses.dataclass(frozen=True)
class _Seed:
  """What one seed recorded."""

  tables: dict[str, dict[int, pa.Table]]  # run -> step -> records
  items: dict[str, dict[int, Items]]
  orig: Items  # M_0: the behaviours of the label set, the statements of step 0
  targets: dict[str, Explanation]  # run -> labels trained on, for the held-out items
  train_labels: dict[str, Explanation]  # run -> labels trained on

  def final(self, run: str) -> Items:
    return self.orig if run == BASE else list(self.items[run].values())[-1]


def summarize(e: Experiment, workdir: pathlib.Path) -> dict:
  """All numbers of the report.

  Args:
    e: the experiment; its evaluate stages must be finished for all seeds and runs.
    workdir: where they are.

  Returns:
    title, config, seeds, roles, items, groups, interval; runs (every statistic of
    `statistics.coupling` by run and step), sibling, contrasts, cross, baselines,
    follow (comparisons), examples; and provenance, which alone holds times.

  Raises:
    WorkdirError: a stage is unfinished or damaged, or files are of other items.
  """
  seeds = {seed: _read_seed(e, workdir, seed) for seed in e.seeds}
  roles = {role: getattr(e.report, role) for role in ROLES if getattr(e.report, role)}
  groups = [len(np.unique(s.orig.group_N)) for s in seeds.values()]
  over = functools.partial(_over_seeds, seeds=list(seeds.values()))
  result = {
      'title': e.report.title,
      'config': dataclasses.asdict(e),
      'seeds': list(e.seeds),
      'roles': roles,
      'items': [len(s.orig.group_N) for s in seeds.values()],
      'groups': groups,
      'interval': _interval(e.seeds, groups),
      'runs': {run: _run(run, seeds) for run in e.runs},
      'contrasts': {
          role: over(functools.partial(_contrast, roles['main'], roles[role]))
          for role in ('unregularised', 'shuffled')
          if role in roles
      },
      'cross': over(functools.partial(_cross, roles)),
      'baselines': over(functools.partial(_baselines, roles['main'])),
      'follow': _follow(roles['main'], list(seeds.values())),
      'examples': _examples(roles['main'], seeds[e.seeds[0]]),
      'provenance': _provenance(e, workdir),
  }
  if 'sibling' in roles:
    pair = roles['main'], roles['sibling']
    result['sibling'] = over(functools.partial(_sibling, *pair))
  return result


def _read_seed(e: Experiment, workdir: pathlib.Path, seed: int) -> _Seed:
  root = workdir / f'seed{seed}'
  label = workdir_lib.finished_stage(root / 'label')
  states_answer = label.info()['states_answer']
  tables, like = {}, None
  for run in e.runs:
    folder = workdir_lib.finished_stage(root / run / 'evaluate').path()
    tables[run] = {}
    for step, path in records.evaluated_steps(folder).items():
      tables[run][step] = records.read_evaluation(path)
      like = like or (path, tables[run][step])
      records.check_same_items(path, tables[run][step], *like)

  def labels(folder: pathlib.Path) -> pa.Table:
    table = records.read_labels(folder, e.evaluate.split)
    records.check_same_items(folder, table, like[0], like[1].select(['group']))
    return table

  items = {
      run: {step: records.items(table, states_answer) for step, table in steps.items()}
      for run, steps in tables.items()
  }
  base = labels(label.path())
  orig = dataclasses.replace(
      next(iter(items[e.report.main].values())),
      behavior_N=base['behavior'].to_numpy(),
      counterfactual_behavior_N=base['counterfactual_behavior'].to_numpy(),
  )
  folders = {
      run: pathlib.Path(train.labels or label.path()) for run, train in e.runs.items()
  }
  targets = {run: _phi(labels(folder)) for run, folder in folders.items()}
  train_labels = {
      run: _phi(records.read_labels(folder, 'train'))
      for run, folder in folders.items()
  }
  return _Seed(tables, items, orig, targets, train_labels)


def _phi(table: pa.Table) -> Explanation:
  return phi(
      table['behavior'].to_numpy(), table['counterfactual_behavior'].to_numpy()
  )


def _interval(seeds: tuple[int, ...], groups: list[int]) -> dict[str, Any]:
  if len(seeds) > 1:
    return {'kind': 'seeds', 'text': f'over {len(seeds)} seeds, t'}
  text = f'over {groups[0]} groups, bootstrap; shares: clustered Wilson'
  return {'kind': 'groups', 'text': text}


def over_seeds(results: list[dict]) -> dict:
  """Statistics of the seeds' results; of one seed, with its intervals within the run."""
  return _alone(results[0]) if len(results) == 1 else runs_lib.across_seeds(results)


def _alone(result: Any) -> dict:
  if not isinstance(result, dict):
    result = {'value': result, 'low': None, 'high': None}
  if 'value' in result:
    value = result['value']
    bounds = {'low': result['low'], 'high': result['high']}
    return {'mean': value, **bounds, 'per_seed': [value]}
  return {k: _alone(v) for k, v in result.items() if not k.endswith('_p')}


def _over_seeds(function, seeds: list[_Seed]) -> dict:
  return over_seeds([function(seed) for seed in seeds])


def _run(run: str, seeds: dict[int, _Seed]) -> dict:
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
          step: statistics.coupling(items, s.orig, s.targets[run])
          for step, items in s.items[run].items()
      }
      for seed, s in seeds.items()
  }
  over = {step: over_seeds([r[step] for r in per_seed.values()]) for step in steps}
  named = {
      str(seed): {str(k): r for k, r in steps.items()}
      for seed, steps in per_seed.items()
  }
  return {
      'steps': steps,
      'final': over[steps[-1]],
      'over_seeds': {str(step): over[step] for step in steps},
      'per_seed': named,
  }


def _sibling(main: str, sibling: str, s: _Seed) -> dict:
  """Both directions pooled: each of two siblings explains itself and the other.

  One direction alone would favour whichever of the two is easier to explain; pooled,
  that cancels: (own + own) / 2 - (other + other) / 2. Groups stay whole.
  """
  pair = s.final(main), s.final(sibling)
  return comparisons.sibling(_concatenate(*pair), _concatenate(*reversed(pair)))


def _concatenate(first: Items, second: Items) -> Items:
  both = lambda *arrays: np.concatenate(arrays)
  return dataclasses.replace(
      first,
      group_N=both(first.group_N, second.group_N),
      surface={k: both(v, second.surface[k]) for k, v in first.surface.items()},
      behavior_N=both(first.behavior_N, second.behavior_N),
      counterfactual_behavior_N=both(
          first.counterfactual_behavior_N, second.counterfactual_behavior_N
      ),
      stated=Explanation(*map(both, first.stated, second.stated)),
  )


def _contrast(main: str, other: str, s: _Seed) -> dict:
  """Gap of the main run minus that of another, paired item by item."""
  gaps = []
  for items in (s.final(main), s.final(other)):
    gaps.append(1.0 * items.right(items.truth) - items.right(s.orig.truth))
  return {'gap': statistics.difference(*gaps, s.orig.group_N, 0)}


def _explainers(items: Items, s: _Seed, run: str) -> dict[str, Explanation]:
  """Statements of explainers that were not trained, made for one model."""
  return {
      BASE: s.orig.stated,
      'majority': baselines.majority(s.train_labels[run], items),
      'denial': baselines.denial(items),
      'cue_parrot': baselines.cue_parrot(items, items.surface['cue_option']),
  }


def _cross(roles: dict[str, str], s: _Seed) -> dict:
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
      accuracy = comparisons.cross_accuracy(items, behaver)
      result[explainer][name] = accuracy._asdict()
  return dict(result)


def _baselines(main: str, s: _Seed) -> dict:
  """Untrained explainers of the main run's final model, scored like its own."""
  items = s.final(main)
  result = {}
  for name, stated in _explainers(items, s, main).items():
    explained = dataclasses.replace(items, stated=stated)
    found = statistics.coupling(explained, s.orig)
    result[name] = {key: found[key] for key in BASELINE_STATISTICS}
  return result


def _follow(main: str, seeds: list[_Seed]) -> list[dict]:
  """Follow rates between consecutive trained checkpoints, then from first to last.

  M_0 has not learned to explain, so the first checkpoint is the first trained one.
  """
  steps = [step for step in seeds[0].items[main] if step > 0]
  spans = list(zip(steps, steps[1:]))
  if len(steps) > 2:
    spans.append((steps[0], steps[-1]))
  return [
      {'from': a, 'to': b}
      | over_seeds([
          comparisons.follow_rate(s.items[main][a], s.items[main][b]) for s in seeds
      ])
      for a, b in spans
  ]


def _examples(main: str, s: _Seed) -> list[dict]:
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


def _provenance(e: Experiment, workdir: pathlib.Path) -> dict:
  """Versions and times, from the manifests of every stage."""
  folders = [f'seed{seed}/{k}' for seed in e.seeds for k in ('prepare', 'base', 'label')]
  folders += [
      f'seed{seed}/{run}/{stage}'
      for seed in e.seeds
      for run in e.runs
      for stage in ('train', 'evaluate')
  ]
  stages, packages = {}, collections.defaultdict(set)
  for folder in folders:
    path = workdir / folder / workdir_lib.MANIFEST
    if path.exists():  # label sets may come from elsewhere
      manifest = json.loads(path.read_text())
      stages[folder] = {k: manifest[k] for k in ('stage', 'started', 'seconds')}
      versions = manifest['packages'] | {'python': manifest['python']}
      for name, version in versions.items():
        packages[name].add(version)
  return {
      'stages': stages,
      'packages': {name: sorted(found) for name, found in packages.items()},
      'report_machine': f'{platform.platform()}, {os.cpu_count()} CPUs',
  }
