"""What is wrong with runs: in themselves, with one another, with their roles.

Told by the config alone, for validate.resolve. A section that is itself wrong is None
there and was named already.
"""

import dataclasses
import importlib
from typing import Any

from coupling.config import borrowed_labels
from coupling.config import close_names
from coupling.config import schema


def loop_problems(section: str, config: schema.Pretrain | schema.Train) -> list[str]:
  """Lengths that do not fit one another, where anything is trained."""
  problems, path, loop = [], f'{section}.loop', config.loop
  if loop is None or config.optimizer is None:
    return problems  # named already
  if not all(type(x) is int and x > 0 for x in dataclasses.asdict(loop).values()):
    return problems  # named already, or no steps
  for field in ('steps', 'checkpoint_every'):
    if getattr(loop, field) % loop.steps_per_dispatch:
      problems.append(
        f'{path}.{field}={getattr(loop, field)} is not a multiple of '
        f'{path}.steps_per_dispatch={loop.steps_per_dispatch}: checkpoints fall '
        'between dispatches'
      )
  warmup = config.optimizer.warmup_steps
  if type(warmup) is int and warmup >= loop.steps:
    problems.append(
      f'{section}.optimizer.warmup_steps={warmup} must be less than '
      f'{path}.steps={loop.steps}'
    )
  return problems


def objective_problems(section: str, train: schema.Train) -> list[str]:
  """Losses without a term; a reference that is not there."""
  if train.loop.steps == 0:
    return []
  terms = train.objectives
  weights = [getattr(terms, f.name) for f in dataclasses.fields(terms)]
  if not any(term is None or term.weight for term in weights):
    return [f'{section}.objectives: every weight is 0; nothing would be trained']
  kl = terms.behavior_kl
  if kl and kl.weight and kl.reference == 'adapters_off' and not train.lora.rank:
    return [
      f'{section}.objectives.behavior_kl.reference=adapters_off: without adapters '
      '(train.lora.rank=0) M_0 is not kept; use labels'
    ]
  return []


def start_problems(trains: dict[str, schema.Train]) -> list[str]:
  """Runs that start from none, from themselves, or from other kinds of weights."""
  problems = []
  for name, train in trains.items():
    chain, first = {name}, train.start
    while first and first in trains and first not in chain:
      chain.add(first)
      first = trains[first].start
    if first:
      problems.append(
        f'runs.{name}.start={train.start!r}: name another run, of {sorted(trains)}, '
        'that does not start from this one in turn'
      )
    elif train.start and trains[train.start].lora != train.lora:
      problems.append(
        f'runs.{name}.lora differs from that of runs.{train.start}, where it starts: '
        'the same weights must be trained in both'
      )
    elif train.start and not trains[train.start].loop.steps:
      problems.append(
        f'runs.{name}.start={train.start!r}: that run has no steps and is M_0; leave '
        'start empty'
      )
  return problems


def label_problems(trains: dict[str, schema.Train | None], base: Any) -> list[str]:
  """Labels of a step of M_0's pretraining that is not kept."""
  problems = []
  for name, train in trains.items():
    labels = train.labels if train is not None else None
    if not isinstance(labels, str) or not labels.startswith(borrowed_labels.EARLIER):
      continue
    loop = base.loop if isinstance(base, schema.Pretrain) else None
    every = loop.checkpoint_every if loop is not None else None
    if not isinstance(every, int) or every < 1:
      kept = []
    else:
      kept = [*range(0, loop.steps, every), loop.steps]
    if borrowed_labels.earlier_step(labels) not in kept:
      problems.append(
        f'runs.{name}.labels={labels!r}: no step that the pretraining of M_0 keeps; '
        f'choose from {kept} (base.loop), or name the folder of a label stage'
      )
  return problems


def path_problems(
  trains: dict[str, schema.Train | None], base: Any, label: Any, task: Any
) -> list[str]:
  """Folders of labels, checkpoints and data that cannot be filled in, or be at all."""
  paths = {f'runs.{k}.labels': train.labels for k, train in trains.items() if train}
  paths['label.source'] = getattr(label, 'source', '')
  paths['base.step'] = getattr(base, 'step', '')
  return [
    problem
    for field, path in paths.items()
    if isinstance(path, str)
    for problem in close_names.pattern_problems(field, path)
  ] + [
    problem
    for field, path in _plain_paths(base, task).items()
    if isinstance(path, str)
    for problem in close_names.path_problems(field, path)
  ]


def _plain_paths(base: Any, task: schema.Task | None) -> dict[str, Any]:
  """Field -> path, of those in which nothing is filled in."""
  found = {'base.checkpoint': getattr(base, 'checkpoint', '')}
  config = getattr(task, 'config', None)
  found['task.path'] = getattr(config, 'path', '')
  paths = getattr(config, 'paths', ())
  for i, path in enumerate(paths if isinstance(paths, tuple) else ()):
    found[f'task.paths[{i}]'] = path
  return found


def part_problems(trains: dict[str, schema.Train | None]) -> list[str]:
  """Labels of another part, in an experiment that is no part of several."""
  return [
    f'runs.{name}.labels={train.labels!r}: an experiment alone has no parts; name the '
    'folder of a label stage'
    for name, train in trains.items()
    if train is not None
    and isinstance(train.labels, str)
    and borrowed_labels.donor(train.labels) is not None
  ]


def mixture_problems(trains: dict[str, schema.Train | None]) -> list[str]:
  """Mixtures of one set, and answers in the context that the labels do not go with."""
  problems = []
  for name, train in trains.items():
    if train is None or type(train.mixture) is not float:
      continue
    if train.mixture < 1 and not train.labels:
      problems.append(
        f'runs.{name}.mixture={train.mixture}, but runs.{name}.labels is empty: all '
        "labels are M_0's own; name the other set, or leave the mixture at 1.0"
      )
    if train.labels and train.context == 'after':
      problems.append(
        f"runs.{name}.context=after puts M_0's answers into the context, but "
        f'runs.{name}.labels={train.labels!r} are of another model; ask before'
      )
  return problems


def source_problems(
  label: schema.Label,
  task: schema.Task | None,
  trains: dict[str, schema.Train | None],
) -> list[str]:
  """Labels of another model where something is trained; a task without answers."""
  if not label.source:
    return []
  problems = [
    f'label.source={label.source!r} makes an audit, in which nothing is trained, but '
    f'runs.{name}.loop.steps={train.loop.steps}: to train on the labels of another '
    f'model, set train.labels and leave label.source empty'
    for name, train in trains.items()
    if train is not None and train.loop is not None and train.loop.steps
  ]
  if (
    label.source == schema.TASK
    and task
    and not hasattr(importlib.import_module(task.module), 'behaviors')
  ):
    problems.append(
      f'label.source={label.source!r}: the data of {task.module} bring no answers '
      'along (it has no `behaviors`); name the folder of a label stage'
    )
  return problems


def precision_problems(section: str, train: schema.Train, base: Any) -> list[str]:
  """Weights too coarse to be trained, or arithmetic that fused attention lacks."""
  problems = []
  if train.attention == 'cudnn' and getattr(base, 'dtype', '') != 'bfloat16':
    problems.append(
      f'{section}.attention=cudnn computes in bfloat16: set base.dtype to it, or '
      'attention to blocks'
    )
  trained = train.loop.steps and not train.lora.rank
  if trained and getattr(base, 'param_dtype', '') == 'bfloat16':
    problems.append(
      f'{section}.lora.rank=0 trains all weights, but base.param_dtype=bfloat16 is too '
      "coarse for AdamW's steps, which would round away: set it to float32"
    )
  return problems


def role_problems(
  report: schema.Report, trains: dict[str, schema.Train | None]
) -> list[str]:
  """Roles that name no run, or a run that cannot play them."""
  problems, played = [], {}
  for role in ('main', 'unregularised', 'sibling', 'shuffled'):
    name = getattr(report, role)
    if (name or role == 'main') and name not in trains:
      problems.append(
        f'report.{role}={name!r} is not a run; choose from {sorted(trains)}'
      )
    elif name:
      played[role] = name, trains[name]
  if problems or any(train is None for _, train in played.values()):
    return problems
  name, main = played.pop('main')
  if main.evaluated != 'kept':
    problems.append(
      f'runs.{name}.evaluated={main.evaluated!r}, but it is report.main, whose step 0 '
      'says what M_0 states: set it to kept'
    )
  for role, (name, train) in played.items():
    every = main.loop.checkpoint_every  # controls may be looked at more rarely
    like = dataclasses.replace(
      train,
      loop=dataclasses.replace(train.loop, checkpoint_every=every),
      evaluated=main.evaluated,
    )
    if role == 'unregularised':
      kl = dataclasses.replace(main.objectives.behavior_kl, weight=0.0)
      objectives = dataclasses.replace(main.objectives, behavior_kl=kl)
      fits = like == dataclasses.replace(main, objectives=objectives)
      wanted = 'like report.main without behavior_kl, and nothing else'
    elif role == 'sibling':
      fits = (
        train.seed != main.seed and dataclasses.replace(like, seed=main.seed) == main
      )
      wanted = 'like report.main with another seed, and nothing else'
    else:
      fits = like == dataclasses.replace(main, shuffle_labels=True)
      fits = fits and not main.shuffle_labels
      wanted = 'like report.main with shuffle_labels, and nothing else'
    if not fits:
      problems.append(
        f'report.{role}={name!r}: that run is not {wanted}; change runs.{name}, or '
        f'set report.{role} to another run or to nothing'
      )
  return problems
