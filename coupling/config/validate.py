"""From a config to an experiment: every problem of its fields at once.

Names, types and values of fields, and what fields want of one another; what only the
task, its tokenizer or the checkpoint can tell comes later.
"""

from collections.abc import Iterator
import dataclasses
import importlib
import inspect
import json
from typing import Any

import ml_collections

from coupling.config import run_rules
from coupling.config import schema
from coupling.config import section_rules
from coupling.config import strict

# What fields want of one another. A rule is asked where all is right by itself that its
# parameters name: sections; `pretrain`, which is base where that is of this kind;
# `runs`, of which those that are right; `names` of all runs; `part`, see `resolve`.
RULES = (
  section_rules.seeds,
  section_rules.pretraining,
  section_rules.positions,
  section_rules.corpus,
  section_rules.base_path,
  section_rules.served,
  section_rules.task_paths,
  section_rules.source_path,
  section_rules.answers,
  section_rules.checkpoints,
  run_rules.names,
  run_rules.training,
  run_rules.precision,
  run_rules.starts,
  run_rules.earlier_labels,
  run_rules.donors,
  run_rules.audit,
  run_rules.served,
  run_rules.roles,
)
TASK_NAMES = ('Config', 'questions', 'builder')  # what a task's module has


def resolve(config: ml_collections.ConfigDict, part: bool = False) -> schema.Experiment:
  """The typed experiment.

  Args:
    config: all sections.
    part: whether it is one of several, which may have no runs (but labels for others),
      and no report of its own.

  Raises:
    ConfigError: naming every field that is unknown, missing, or of a wrong type or
      value, in a run's changes too, and every rule that is broken.
  """
  values = config.to_dict()
  problems = [*misnamed(schema.Experiment, values)]
  sections = _sections(values, problems)
  changes = values.get('runs', {})
  if not isinstance(changes, dict):
    problems.append(f'runs={changes!r}: should be a section, of at least one run')
    changes = {}
  runs = _runs(values.get('train'), changes, problems)
  found = sections | dict(runs=runs, names=[*changes], part=part)
  if isinstance(sections.get('base'), schema.Pretrain):
    found['pretrain'] = sections['base']
  schema.ConfigError.refuse(problems, _broken(found))
  return schema.Experiment(**sections, runs=runs)


def _broken(found: dict[str, Any]) -> Iterator[str]:
  """The problems that the rules find; see RULES."""
  for rule in RULES:
    wanted = inspect.signature(rule).parameters
    if wanted.keys() <= found.keys():
      yield from rule(**{name: found[name] for name in wanted})


def misnamed(kind: type, values: dict[str, Any]) -> Iterator[str]:
  """Problems of the names of a config's sections, where `kind` has these as fields."""
  fields = {f.name: f for f in dataclasses.fields(kind)}
  for name in sorted(values.keys() - fields.keys()):
    yield f'{name}: unknown section; known: {sorted(fields)}'
  for name in sorted(fields.keys() - values.keys()):
    if fields[name].default is dataclasses.MISSING:
      yield f'{name}: missing'


def _sections(values: dict[str, Any], problems: list[str]) -> dict[str, Any]:
  """Every section but the runs that is right by itself."""
  built = {}
  for field in dataclasses.fields(schema.Experiment):
    name, given = field.name, values.get(field.name)
    if name not in values or name == 'runs':
      continue
    if name == 'task':
      built[name] = _task(given, problems)
    else:
      kind = base_kind(given) if name == 'base' else field.type
      built[name] = strict.read(kind, given, name, problems)
  return {name: section for name, section in built.items() if section is not None}


def _runs(
  train: Any, changes: dict[str, Any], problems: list[str]
) -> dict[str, schema.Train]:
  """The runs that are right by themselves: train, with their own changes."""
  runs = {}
  for name, changed in changes.items() if isinstance(train, dict) else ():
    found = []
    run = strict.read(schema.Train, _merged(train, changed), f'runs.{name}', found)
    if run is not None:
      runs[name] = run
    named = {f'runs.{name}' + x.removeprefix('train') for x in problems}
    problems += [x for x in found if x not in named]
  return runs


def _merged(values: Any, changes: Any) -> Any:
  """Values with changes, which leave out what stays."""
  if not isinstance(values, dict) or not isinstance(changes, dict):
    return changes
  return values | {k: _merged(values.get(k), x) for k, x in changes.items()}


def section(kind: type, values: Any, path: str) -> Any:
  """A section of the config from plain values, such as a manifest holds.

  Raises:
    ConfigError: naming every field that is unknown, missing, or of a wrong type or
      value.
  """
  problems = []
  built = strict.read(kind, values, path, problems)
  schema.ConfigError.refuse(problems)
  return built


def base_kind(values: Any) -> type:
  """Which of schema.Base a section is, by its fields."""
  if isinstance(values, dict) and 'step' in values:
    return schema.Trained
  if isinstance(values, dict) and 'checkpoint' in values:
    return schema.Import
  if isinstance(values, dict) and 'url' in values:
    return schema.Served
  return schema.Pretrain


def _task(values: Any, problems: list[str]) -> schema.Task | None:
  """The section of a task, whose fields are those of its module's Config."""
  if not isinstance(values, dict) or not isinstance(values.get('module'), str):
    problems.append(
      "task.module: missing; name the task's module, such as 'data.hint_mmlu'"
    )
    return None
  values = dict(values)
  name = values.pop('module')
  try:
    module = importlib.import_module(name)
  except (ImportError, TypeError, ValueError) as e:  # '', '.x', 'a/b'
    problems.append(
      f'task.module={name!r} is no task: {e}; one of your own lies beside main.py, or '
      'somewhere on PYTHONPATH'
    )
    return None
  if lacking := [x for x in TASK_NAMES if not hasattr(module, x)]:
    problems.append(
      f'task.module={name!r} is no task: it lacks {lacking}; see data/builder.py'
    )
    return None
  config = strict.read(module.Config, values, 'task', problems)
  if config is None:
    return None
  try:
    hash(config)
    json.dumps(dataclasses.asdict(config))
  except TypeError as e:
    problems.append(
      f'task.module={name!r}: its Config cannot be kept ({e}): make it, and what it '
      'holds, frozen dataclasses of bool, int, float, str, None, Literal and tuples'
    )
    return None
  return schema.Task(module=name, config=config)
