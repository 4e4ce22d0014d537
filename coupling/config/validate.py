"""From a config to an experiment: every problem of its fields at once.

Names, types and values of fields, and what fields want of one another; what only the
task, its tokenizer or the checkpoint can tell comes later.
"""

from collections.abc import Callable, Sequence
import dataclasses
import importlib
import types
from typing import Any, NamedTuple

import ml_collections
import numpy as np

from coupling.config import close_names
from coupling.config import fields as fields_lib
from coupling.config import run_rules
from coupling.config import schema

MOST = 2**31 - 1  # of an integer: what seeds, steps and sizes are on a device
# Integers that may be 0; all others are at least 1, and mesh axes may be -1.
MAY_BE_ZERO = (
  *('.warmup_steps', '.seed', '.learned_positions'),
  *('.lora.rank', '.lora.layers'),
)


class _Bounds(NamedTuple):
  text: str
  holds: Callable[[float], bool]


# Clipping to 0, which looks like "off", would train nothing without a word.
FLOATS = {
  ('.learning_rate', '.clip_norm', '.alpha', '.norm_eps', '.rope_theta'): _Bounds(
    'above 0', lambda x: x > 0
  ),
  ('.weight', '.weight_decay', '.embedding_std'): _Bounds(
    'at least 0', lambda x: x >= 0
  ),
  ('.b1', '.b2'): _Bounds('at least 0 and below 1', lambda x: 0 <= x < 1),
  ('.mixture', '.noise', '.changed_share'): _Bounds(
    'at least 0 and at most 1', lambda x: 0 <= x <= 1
  ),
}

# What a task's module has, and what one has that M_0 can be pretrained on.
TASK_NAMES = ('Config', 'questions', 'builder')
CORPUS_NAMES = (
  *('corpus_builder', 'read_corpus', 'tokenizer'),
  *('NEW_WORDS', 'NEW_WORDS_LIKE'),
)


def resolve(config: ml_collections.ConfigDict, part: bool = False) -> schema.Experiment:
  """The typed experiment.

  Args:
    config: all sections.
    part: whether it is one of several, which may have no runs (but labels for others),
      and no report of its own.

  Raises:
    ConfigError: naming every field that is unknown, missing, or of a wrong type or
      value, and every run that changes a field that does not exist.
  """
  values = config.to_dict()
  runs = values.pop('runs', None)
  problems = []
  if not isinstance(runs, dict) or not (runs or part):
    problems.append(f'runs={runs!r}: name at least one run')
    runs = {}
  problems += close_names.problems('runs', runs)
  built = _sections(values, problems)
  trains = {}
  if isinstance(values.get('train'), dict):
    for name, changes in runs.items():
      found = []
      trains[name] = _changed(values['train'], changes, f'runs.{name}', found)
      inherited = {f'runs.{name}' + p.removeprefix('train') for p in problems}
      problems += [p for p in found if p not in inherited]
  trained = {'base': built.get('base')} | {f'runs.{k}': t for k, t in trains.items()}
  for section, one in trained.items():
    if isinstance(one, schema.Pretrain | schema.Train):
      problems += run_rules.loop_problems(section, one)
  if isinstance(base := built.get('base'), schema.Pretrain):
    problems += _pretrain_problems(base, built.get('task'), built.get('length'))
  for name, one in trains.items():
    if one is not None and None not in (one.lora, one.objectives, one.loop):
      problems += run_rules.objective_problems(f'runs.{name}', one)
      problems += run_rules.precision_problems(f'runs.{name}', one, built.get('base'))
  if not any(train is None for train in trains.values()):
    problems += run_rules.start_problems(trains)
  problems += run_rules.label_problems(trains, built.get('base'))
  sections = [built.get(name) for name in ('base', 'label', 'task')]
  problems += run_rules.path_problems(trains, *sections)
  problems += run_rules.mixture_problems(trains)
  problems += [] if part else run_rules.part_problems(trains)
  if built.get('label') is not None:
    problems += run_rules.source_problems(built['label'], built.get('task'), trains)
  reported = built.get('report')
  if runs and reported is not None and not (part and not reported.main):
    problems += run_rules.role_problems(built['report'], trains)
  seeds = built.get('seeds')
  if isinstance(seeds, tuple) and (not seeds or len(set(seeds)) < len(seeds)):
    problems.append(f'seeds={seeds}: give distinct seeds, at least one')
  if problems:
    raise schema.ConfigError.of(problems)
  return schema.Experiment(**built, runs=trains)


def _sections(values: dict, problems: list[str]) -> dict[str, Any]:
  """Every section but the runs."""
  fields = {f.name: f for f in dataclasses.fields(schema.Experiment)}
  del fields['runs']
  kinds = {name: field.type for name, field in fields.items()}
  required = {k for k, x in fields.items() if x.default is dataclasses.MISSING}
  problems += fields_lib.misnamed(kinds.keys(), required, values, '')
  special = {'task': _task, 'base': _base}
  return {
    name: special[name](values[name], problems)
    if name in special
    else fields_lib.value(kind, values[name], name, problems, misfit)
    for name, kind in kinds.items()
    if name in values
  }


def section(kind: type, values: Any, path: str) -> Any:
  """A section of the config from plain values, such as a manifest holds.

  Raises:
    ConfigError: naming every field that is unknown, missing, or of a wrong type.
  """
  problems = []
  built = fields_lib.build(kind, values, path, problems, misfit)
  if problems:
    raise schema.ConfigError.of(problems)
  return built


def base_kind(values: Any) -> type:
  """Which of schema.Base a section is, by its fields."""
  if isinstance(values, dict) and 'step' in values:
    return schema.Trained
  if isinstance(values, dict) and 'checkpoint' in values:
    return schema.Import
  return schema.Pretrain


def _changed(train: dict, changes: dict[str, Any], path: str, problems: list) -> Any:
  """The Train section with a run's changes."""
  copied = ml_collections.ConfigDict(train).lock()
  try:
    copied.update(changes)
  except (AttributeError, KeyError, TypeError, ValueError) as e:
    problems.append(f'{path}: cannot change train by {changes}: {e}')
  return fields_lib.build(schema.Train, copied.to_dict(), path, problems, misfit)


def _pretrain_problems(
  base: schema.Pretrain,
  task: schema.Task | None,
  length: schema.Length | None,
) -> list[str]:
  """Heads that do not divide; too few positions; a task without a corpus."""
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
    positions = base.model.learned_positions
    if (
      length
      and type(positions) is type(length.max_tokens) is int
      and 0 < positions < length.max_tokens
    ):
      problems.append(
        f'length.max_tokens={length.max_tokens} is more than '
        f'base.model.learned_positions={positions}: the model could not read all that '
        'it allows; lower it, or raise the other'
      )
  if task and (lacking := _lacking(importlib.import_module(task.module), CORPUS_NAMES)):
    problems.append(
      f'base: {task.module} has no corpus to pretrain on (it lacks {lacking}); import '
      'a checkpoint by base.checkpoint'
    )
  return problems


def _base(values: Any, problems: list[str]) -> Any:
  """The section of M_0: what it names decides its kind."""
  return fields_lib.build(base_kind(values), values, 'base', problems, misfit)


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
  if lacking := _lacking(module, TASK_NAMES):
    problems.append(
      f'task.module={name!r} is no task: it lacks {lacking}; see data/builder.py'
    )
    return None
  before = len(problems)
  if not dataclasses.is_dataclass(module.Config):
    problems.append(f'task.module={name!r}: its Config must be a frozen dataclass')
    return None
  built = fields_lib.build(module.Config, values, 'task', problems)
  if len(problems) > before:
    return None
  try:
    hash(built)
  except TypeError:
    problems.append(
      f'task.module={name!r}: its Config can be changed; make it, and dataclasses in '
      'it, @dataclasses.dataclass(frozen=True)'
    )
    return None
  return schema.Task(module=name, config=built)


def _lacking(module: types.ModuleType, names: Sequence[str]) -> list[str]:
  return [name for name in names if not hasattr(module, name)]


def misfit(path: str, value: Any) -> str | None:
  """What is wrong with a number of our own sections; see fields.Check."""
  if isinstance(value, tuple):
    numbers = [x for x in value if type(x) is int]
    bad = any(not 0 <= x <= MOST for x in numbers)
    return f'must be from 0 to {MOST}, each of them' if bad else None
  if type(value) is float:
    with np.errstate(over='ignore', under='ignore'):
      single = float(np.float32(value))
    if abs(single) < np.finfo(np.float32).tiny:
      single = 0.0  # as devices have it
    if not np.isfinite(single) and not path.endswith('.clip_norm'):
      return 'must be a finite number of float32'
    if value and not single:
      return 'is 0 in float32, in which it is used'
    bounds = next((b for names, b in FLOATS.items() if path.endswith(names)), None)
    if bounds is None or (bounds.holds(value) and bounds.holds(single)):
      return None
    rounded = f' (in float32 it is {single:g})' if bounds.holds(value) else ''
    return f'must be {bounds.text}{rounded}'
  untrained = path.endswith('.loop.steps') and not path.startswith('base.')
  least = 0 if untrained or path.endswith(MAY_BE_ZERO) else 1
  if type(value) is int and value > MOST:
    return f'must be at most {MOST}'
  if type(value) is not int or value >= least:
    return None
  if path.startswith('mesh.') and value == -1:
    return None
  return f'must be at least {least}'
