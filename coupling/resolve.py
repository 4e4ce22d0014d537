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

from coupling import config as config_lib
from coupling import fields as fields_lib
from coupling import label as label_lib

# Integers that may be 0; all others are at least 1, and mesh axes may be -1.
MAY_BE_ZERO = ('.warmup_steps', '.seed', '.learned_positions', '.lora.rank')


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


def resolve_paper(config: ml_collections.ConfigDict) -> config_lib.Paper:
  """Several experiments and their studies, typed.

  Raises:
    ConfigError: like resolve's, with the part in front of the field; a study that names
      a run that is not there, or lists that do not fit one another.
  """
  problems, parts, studies = [], {}, {}
  names = ('title', 'parts', 'studies')
  problems += fields_lib.misnamed(names, names, config.to_dict(), '')
  for name, part in config.get('parts', {}).items():
    try:
      parts[name] = resolve(part, part=True)
    except config_lib.ConfigError as error:
      lines = str(error).split('\n')[1:]
      problems += [f'parts.{name}.{line.strip()}' for line in lines]
  for name, values in config.to_dict().get('studies', {}).items():
    path, found = f'studies.{name}', []
    study = fields_lib.build(config_lib.Study, values, path, found, _misfit)
    studies[name] = study
    problems += found or _study_problems(path, study, parts)
  if problems:
    raise config_lib.ConfigError.of(problems)
  return config_lib.Paper(title=config.title, parts=parts, studies=studies)


def _study_problems(
  path: str, study: config_lib.Study, parts: dict[str, config_lib.Experiment]
) -> list[str]:
  """Runs that are not there; lists of other lengths."""
  problems = []
  for field in ('runs', 'companions'):
    for name in getattr(study, field):
      part, _, run = name.partition('/')
      here = part in parts and run in parts[part].runs
      if not here and not (field == 'companions' and not name):
        problems.append(
          f'{path}.{field}: {name!r} is no run of the parts {sorted(parts)}; write '
          'part/run'
        )
  for field in ('at', 'companions'):
    if len(getattr(study, field)) not in (0, len(study.runs)):
      problems.append(
        f'{path}.{field} has {len(getattr(study, field))} entries, but {path}.runs '
        f'{len(study.runs)}: give one for each, or none'
      )
  return problems


def resolve(
  config: ml_collections.ConfigDict, part: bool = False
) -> config_lib.Experiment:
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
    if isinstance(one, config_lib.Pretrain | config_lib.Train):
      problems += _loop_problems(section, one)
  if isinstance(base := built.get('base'), config_lib.Pretrain):
    problems += _pretrain_problems(base, built.get('task'), built.get('length'))
  for name, one in trains.items():
    if one is not None and None not in (one.lora, one.objectives, one.loop):
      problems += _objective_problems(f'runs.{name}', one)
      problems += _precision_problems(f'runs.{name}', one, built.get('base'))
  if not any(train is None for train in trains.values()):
    problems += _start_problems(trains)
  problems += _label_problems(trains, built.get('base'))
  if built.get('label') is not None:
    problems += _source_problems(built['label'], built.get('task'), trains)
  reported = built.get('report')
  if runs and reported is not None and not (part and not reported.main):
    problems += _role_problems(built['report'], trains)
  seeds = built.get('seeds')
  if isinstance(seeds, tuple) and (not seeds or len(set(seeds)) < len(seeds)):
    problems.append(f'seeds={seeds}: give distinct seeds, at least one')
  if problems:
    raise config_lib.ConfigError.of(problems)
  return config_lib.Experiment(**built, runs=trains)


def _sections(values: dict, problems: list[str]) -> dict[str, Any]:
  """Every section but the runs."""
  kinds = {f.name: f.type for f in dataclasses.fields(config_lib.Experiment)}
  del kinds['runs']
  problems += fields_lib.misnamed(kinds.keys(), kinds.keys(), values, '')
  special = {'task': _task, 'base': _base}
  return {
    name: special[name](values[name], problems)
    if name in special
    else fields_lib.value(kind, values[name], name, problems, _misfit)
    for name, kind in kinds.items()
    if name in values
  }


def section(kind: type, values: Any, path: str) -> Any:
  """A section of the config from plain values, such as a manifest holds.

  Raises:
    ConfigError: naming every field that is unknown, missing, or of a wrong type.
  """
  problems = []
  built = fields_lib.build(kind, values, path, problems, _misfit)
  if problems:
    raise config_lib.ConfigError.of(problems)
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
  return fields_lib.build(config_lib.Train, copied.to_dict(), path, problems, _misfit)


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
  base: config_lib.Pretrain,
  task: config_lib.Task | None,
  length: config_lib.Length | None,
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


def _start_problems(trains: dict[str, config_lib.Train]) -> list[str]:
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


def _label_problems(trains: dict[str, config_lib.Train | None], base: Any) -> list[str]:
  """Labels of a step of M_0's pretraining that is not kept."""
  problems = []
  for name, train in trains.items():
    labels = train.labels if train is not None else None
    if not isinstance(labels, str) or not labels.startswith(label_lib.EARLIER):
      continue
    loop = base.loop if isinstance(base, config_lib.Pretrain) else None
    every = loop.checkpoint_every if loop is not None else None
    if not isinstance(every, int) or every < 1:
      kept = []
    else:
      kept = [*range(0, loop.steps, every), loop.steps]
    if label_lib.earlier_step(labels) not in kept:
      problems.append(
        f'runs.{name}.labels={labels!r}: no step that the pretraining of M_0 keeps; '
        f'choose from {kept} (base.loop), or name the folder of a label stage'
      )
  return problems


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


def _precision_problems(section: str, train: config_lib.Train, base: Any) -> list[str]:
  """Weights too coarse to be trained."""
  trained = train.loop.steps and not train.lora.rank
  if not trained or getattr(base, 'param_dtype', '') != 'bfloat16':
    return []
  return [
    f'{section}.lora.rank=0 trains all weights, but base.param_dtype=bfloat16 is too '
    "coarse for AdamW's steps, which would round away: set it to float32"
  ]


def _role_problems(
  report: config_lib.Report, trains: dict[str, config_lib.Train | None]
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
  _, main = played.pop('main')
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


def _base(values: Any, problems: list[str]) -> Any:
  """The section of M_0: what it names decides its kind."""
  return fields_lib.build(base_kind(values), values, 'base', problems, _misfit)


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
    module = importlib.import_module(name)
  except ImportError as e:
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
  return config_lib.Task(module=name, config=built)


def _lacking(module: types.ModuleType, names: Sequence[str]) -> list[str]:
  return [name for name in names if not hasattr(module, name)]


def _misfit(path: str, value: Any) -> str | None:
  """What is wrong with a number of our own sections; see fields.Check."""
  if isinstance(value, tuple):
    negative = any(type(x) is int and x < 0 for x in value)
    return 'must be at least 0, each of them' if negative else None
  if type(value) is float:
    bounds = next((b for names, b in FLOATS.items() if path.endswith(names)), None)
    return None if bounds is None or bounds.holds(value) else f'must be {bounds.text}'
  untrained = path.endswith('.loop.steps') and not path.startswith('base.')
  least = 0 if untrained or path.endswith(MAY_BE_ZERO) else 1
  if type(value) is not int or value >= least:
    return None
  if path.startswith('mesh.') and value == -1:
    return None
  return f'must be at least {least}'
