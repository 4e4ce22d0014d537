"""From a config to an experiment: every problem of its fields at once.

Names, types and values of fields, and what fields want of one another; what only the
task, its tokenizer or the checkpoint can tell comes later.
"""

import dataclasses
import importlib
import typing
from typing import Any, Literal

import ml_collections

from coupling import config as config_lib

# Integers that may be 0; all others are at least 1, and mesh axes may be -1.
MAY_BE_ZERO = ('.warmup_steps', '.seed', '.learned_positions', '.lora.rank')


def resolve(config: ml_collections.ConfigDict) -> config_lib.Experiment:
  """The typed experiment.

  Raises:
    ConfigError: naming every field that is unknown, missing, or of a wrong type or
      value, and every run that changes a field that does not exist.
  """
  values = config.to_dict()
  runs = values.pop('runs', None)
  problems = []
  if not isinstance(runs, dict) or not runs:
    problems.append(f'runs={runs!r}: name at least one run')
    runs = {}
  fields = {
    f.name: f.type
    for f in dataclasses.fields(config_lib.Experiment)
    if f.name != 'runs'
  }
  built = _fields(fields, values, '', problems)
  trains = {}
  if isinstance(values.get('train'), dict):
    for name, changes in runs.items():
      found = []
      trains[name] = _changed(values['train'], changes, f'runs.{name}', found)
      inherited = {f'runs.{name}' + p.removeprefix('train') for p in problems}
      problems += [p for p in found if p not in inherited]
  trained = {'base': built.get('base')} | {f'runs.{k}': t for k, t in trains.items()}
  for section, one in trained.items():
    if isinstance(one, config_lib.Pretrain | config_lib.Train):
      problems += _loop_problems(section, one)
  if isinstance(base := built.get('base'), config_lib.Pretrain):
    problems += _pretrain_problems(base, built.get('task'))
  for name, one in trains.items():
    if one is not None and None not in (one.lora, one.objectives, one.loop):
      problems += _objective_problems(f'runs.{name}', one)
  if built.get('label') is not None:
    problems += _source_problems(built['label'], built.get('task'), trains)
  if runs and built.get('report') is not None:
    problems += _role_problems(built['report'], runs)
  seeds = built.get('seeds')
  if isinstance(seeds, tuple) and (not seeds or len(set(seeds)) < len(seeds)):
    problems.append(f'seeds={seeds}: give distinct seeds, at least one')
  if problems:
    raise config_lib.ConfigError(_listed(list(dict.fromkeys(problems))))
  return config_lib.Experiment(**built, runs=trains)


def section(kind: type, values: Any, path: str) -> Any:
  """A section of the config from plain values, such as a manifest holds.

  Raises:
    ConfigError: naming every field that is unknown, missing, or of a wrong type.
  """
  problems = []
  built = _build(kind, values, path, problems)
  if problems:
    raise config_lib.ConfigError(_listed(problems))
  return built


def base_kind(values: Any) -> type:
  """Which of config.Base a section is, by its fields."""
  if isinstance(values, dict) and 'step' in values:
    return config_lib.Trained
  if isinstance(values, dict) and 'checkpoint' in values:
    return config_lib.Import
  return config_lib.Pretrain


def _changed(train: dict, changes: dict[str, Any], path: str, problems: list) -> Any:
  """The Train section with a run's changes."""
  copied = ml_collections.ConfigDict(train).lock()
  try:
    copied.update(changes)
  except (AttributeError, KeyError, TypeError, ValueError) as e:
    problems.append(f'{path}: cannot change train by {changes}: {e}')
  return _build(config_lib.Train, copied.to_dict(), path, problems)


def _loop_problems(
  section: str, config: config_lib.Pretrain | config_lib.Train
) -> list[str]:
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


def _pretrain_problems(
  base: config_lib.Pretrain, task: config_lib.Task | None
) -> list[str]:
  """Heads that do not divide; a task without a corpus."""
  problems = []
  if base.model is not None:
    heads, shared = base.model.num_heads, base.model.num_kv_heads
    if type(heads) is int and type(shared) is int and (shared < 1 or heads % shared):
      problems.append(
        f'base.model.num_heads={heads} is not a multiple of '
        f'base.model.num_kv_heads={shared}'
      )
    if type(base.model.head_dim) is int and base.model.head_dim % 2:
      problems.append(
        f'base.model.head_dim={base.model.head_dim}: must be even, for rotary'
      )
  if task and not hasattr(importlib.import_module(task.module), 'corpus_builder'):
    problems.append(
      f'base: {task.module} has no corpus to pretrain on; import a checkpoint by '
      'base.checkpoint'
    )
  return problems


def _objective_problems(section: str, train: config_lib.Train) -> list[str]:
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


def _source_problems(
  label: config_lib.Label,
  task: config_lib.Task | None,
  trains: dict[str, config_lib.Train | None],
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
    label.source == config_lib.TASK
    and task
    and not hasattr(importlib.import_module(task.module), 'behaviors')
  ):
    problems.append(
      f'label.source={label.source!r}: the data of {task.module} bring no answers '
      'along (it has no `behaviors`); name the folder of a label stage'
    )
  return problems


def _role_problems(report: config_lib.Report, runs: dict) -> list[str]:
  """Roles that name no run."""
  return [
    f'report.{field}={name!r} is not a run; choose from {sorted(runs)}'
    for field in ('main', 'unregularised', 'sibling', 'shuffled')
    if ((name := getattr(report, field)) or field == 'main') and name not in runs
  ]


def _build(cls: type, values: Any, path: str, problems: list[str]) -> Any:
  if not isinstance(values, dict):
    problems.append(f'{path}: expected a section, found {values!r}')
    return None
  fields = {f.name: f.type for f in dataclasses.fields(cls)}
  built = _fields(fields, values, path + '.', problems)
  return None if set(built) != set(fields) else cls(**built)


def _fields(fields: dict, values: dict, prefix: str, problems: list[str]) -> dict:
  for name in sorted(set(values) - set(fields)):
    problems.append(f'{prefix}{name}: unknown field; known: {sorted(fields)}')
  built = {}
  for name, kind in fields.items():
    if name not in values:
      problems.append(f'{prefix}{name}: missing')
    elif kind is config_lib.Task:
      built[name] = _task(values[name], problems)
    elif kind == config_lib.Base:
      one = base_kind(values[name])
      built[name] = _build(one, values[name], prefix + name, problems)
    elif dataclasses.is_dataclass(kind):
      built[name] = _build(kind, values[name], prefix + name, problems)
    else:
      built[name] = _leaf(kind, values[name], prefix + name, problems)
  return built


def _task(values: Any, problems: list[str]) -> config_lib.Task | None:
  """The section of a task, whose fields are those of its module's Config."""
  if not isinstance(values, dict) or not isinstance(values.get('module'), str):
    problems.append(
      "task.module: missing; name the task's module, such as 'data.hint_mmlu'"
    )
    return None
  values = dict(values)
  name = values.pop('module')
  try:
    kind = importlib.import_module(name).Config
  except (ImportError, AttributeError) as e:
    problems.append(f'task.module={name!r} is no task: {e}')
    return None
  # What a task's Config leaves to its defaults need not be repeated.
  left = {
    f.name: f.default
    for f in dataclasses.fields(kind)
    if f.default is not dataclasses.MISSING
  }
  built = _build(kind, left | values, 'task', problems)
  return built and config_lib.Task(module=name, config=built)


def _leaf(kind: Any, value: Any, path: str, problems: list[str]) -> Any:
  if typing.get_origin(kind) is Literal:
    if value not in typing.get_args(kind):
      problems.append(f'{path}={value!r}: choose from {typing.get_args(kind)}')
  elif typing.get_origin(kind) is tuple:
    value = tuple(value) if isinstance(value, (list, tuple)) else value
    of, _ = typing.get_args(kind)
    if not isinstance(value, tuple) or not all(
      type(v) is of and (of is str or v >= 0) for v in value
    ):
      words = {int: 'integers', str: 'strings'}
      problems.append(f'{path}={value!r}: expected {words[of]}')
  elif kind is float and type(value) is int:
    return float(value)
  elif type(value) is not kind:
    problems.append(f'{path}={value!r}: expected {kind.__name__}')
  elif kind is int and value < _least(path) and (path[:5], value) != ('mesh.', -1):
    problems.append(f'{path}={value}: must be at least {_least(path)}')
  return value


def _least(path: str) -> int:
  untrained = path.endswith('.loop.steps') and not path.startswith('base.')
  return 0 if untrained or path.endswith(MAY_BE_ZERO) else 1


def _listed(problems: list[str]) -> str:
  return 'the config cannot be run:\n' + '\n'.join(f'  {p}' for p in problems)
