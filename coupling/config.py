"""The experiment as typed, immutable data: every field that a config may set.

Configs are `ml_collections.ConfigDict`s made by the files in configs/; `resolve`
turns one into an `Experiment` and lists every unknown, missing or wrongly typed
field at once. Everything below main.py takes these dataclasses.
"""

import dataclasses
import typing
from typing import Any, Literal

import ml_collections


# Integers that may be 0; all others are at least 1, and mesh axes may be -1.
MAY_BE_ZERO = ('.warmup_steps', '.seed', '.learned_positions')


class ConfigError(ValueError):
  """A config that cannot be run; the message names the field and the remedy."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
  """The counterfactual pairs."""

  name: Literal['world']
  behavior: Literal['hint', 'request']
  train_pairs: int  # pool of training prompts


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
  """See models.DecoderConfig; the vocabulary comes with the tokenizer."""

  width: int
  depth: int
  num_heads: int
  num_kv_heads: int
  head_dim: int
  mlp_dim: int
  activation: Literal['relu', 'silu', 'gelu_tanh']
  gated_mlp: bool
  qk_norm: bool
  tied_head: bool
  rope_theta: float
  learned_positions: int
  norm_eps: float
  embedding_std: float
  dtype: Literal['float32', 'bfloat16']
  param_dtype: Literal['float32', 'bfloat16']
  scan_layers: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
  """AdamW with a warm-up, then a constant or cosine learning rate."""

  learning_rate: float
  warmup_steps: int
  schedule: Literal['constant', 'cosine']
  b1: float
  b2: float
  weight_decay: float
  clip_norm: float  # global norm of the gradient


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loop:
  """How long, how often."""

  steps: int
  steps_per_dispatch: int  # steps compiled into one program
  accumulation: int  # microbatches per step
  checkpoint_every: int  # steps; these checkpoints are kept


@dataclasses.dataclass(frozen=True, kw_only=True)
class Base:
  """Pretraining of M_0 on the task's corpus."""

  documents: int
  batch: int
  loop: Loop
  optimizer: Optimizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Label:
  """B(M_0), E(M_0) and M_0's reference distributions."""

  batch: int
  shard: int  # pairs per file; what an interruption can cost
  reference: Literal['vocabulary', 'options']  # support of the reference distributions


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExplanationXent:
  weight: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class BehaviorKL:
  weight: float
  direction: Literal['forward', 'reverse']  # KL(M_0 || M_t) or KL(M_t || M_0)
  support: Literal['vocabulary', 'options']


@dataclasses.dataclass(frozen=True, kw_only=True)
class BehaviorXent:
  """Post-training that shifts the behaviour on x."""

  weight: float
  target: Literal['ignore_cue', 'follow_cue']  # M_0's answer on x∖C, the cue's option


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objectives:
  """Terms of the loss (DESIGN section 3); a weight of 0 leaves a term out."""

  explanation_xent: ExplanationXent
  behavior_kl: BehaviorKL
  behavior_xent: BehaviorXent


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
  """Explanation training on fixed labels."""

  seed: int  # beside the experiment's seed: siblings differ in this alone
  labels: str  # folder of a label stage; '' for this workdir's own
  shuffle_labels: bool  # control: labels permuted over the training items
  explanation_batch: int
  behavior_batch: int  # pairs; each gives x and x∖C
  loop: Loop
  optimizer: Optimizer
  objectives: Objectives


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluate:
  split: Literal['validation', 'test']
  batch: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mesh:
  """Devices by axis; -1 for one axis means all that remain."""

  data: int
  fsdp: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
  """What is compared with what; names of runs, '' for none."""

  title: str
  main: str
  unregularised: str
  sibling: str
  shuffled: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
  """One config file, resolved."""

  seeds: tuple[int, ...]
  task: Task
  model: Model
  base: Base
  label: Label
  train: Train
  evaluate: Evaluate
  report: Report
  mesh: Mesh
  # Name -> training, after the run's own changes.
  runs: dict[str, Train] = dataclasses.field(hash=False)


def resolve(config: ml_collections.ConfigDict) -> Experiment:
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
  fields = {f.name: f.type for f in dataclasses.fields(Experiment) if f.name != 'runs'}
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
    if one is not None:
      problems += _loop_problems(section, one)
  if built.get('model') is not None:
    problems += _head_problems(built['model'])
  for name, one in trains.items():
    if one is not None and None not in (built.get('task'), one.objectives):
      problems += _objective_problems(f'runs.{name}', one.objectives, built['task'])
  if runs and built.get('report') is not None:
    problems += _role_problems(built['report'], runs)
  seeds = built.get('seeds')
  if isinstance(seeds, tuple) and (not seeds or len(set(seeds)) < len(seeds)):
    problems.append(f'seeds={seeds}: give distinct seeds, at least one')
  if problems:
    raise ConfigError(_listed(list(dict.fromkeys(problems))))
  return Experiment(**built, runs=trains)


def _changed(train: dict, changes: dict[str, Any], path: str, problems: list) -> Any:
  """The Train section with a run's changes."""
  copied = ml_collections.ConfigDict(train).lock()
  try:
    copied.update(changes)
  except (AttributeError, KeyError, TypeError, ValueError) as e:
    problems.append(f'{path}: cannot change train by {changes}: {e}')
  return _build(Train, copied.to_dict(), path, problems)


def _loop_problems(section: str, config: Base | Train) -> list[str]:
  """Lengths that do not fit one another."""
  problems, path, loop = [], f'{section}.loop', config.loop
  if loop is None or config.optimizer is None:
    return problems  # named already
  if not all(type(x) is int and x > 0 for x in dataclasses.asdict(loop).values()):
    return problems  # named already
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


def _head_problems(model: Model) -> list[str]:
  """Heads that do not divide."""
  problems = []
  heads, shared = model.num_heads, model.num_kv_heads
  if type(heads) is int and type(shared) is int and (shared < 1 or heads % shared):
    problems.append(
      f'model.num_heads={heads} is not a multiple of model.num_kv_heads={shared}'
    )
  if type(model.head_dim) is int and model.head_dim % 2:
    problems.append(f'model.head_dim={model.head_dim}: must be even, for rotary')
  return problems


def _objective_problems(section: str, terms: Objectives, task: Task) -> list[str]:
  """Losses without a term, and shifts without a target."""
  weights = [getattr(terms, f.name) for f in dataclasses.fields(terms)]
  if not any(term is None or term.weight for term in weights):
    return [f'{section}.objectives: every weight is 0; nothing would be trained']
  shift = terms.behavior_xent
  if (
    shift and shift.weight and shift.target == 'follow_cue' and task.behavior != 'hint'
  ):
    return [
      f'{section}.objectives.behavior_xent.target=follow_cue: the cues of '
      f'task.behavior={task.behavior} name no option; use ignore_cue'
    ]
  return []


def _role_problems(report: Report, runs: dict) -> list[str]:
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
    elif dataclasses.is_dataclass(kind):
      built[name] = _build(kind, values[name], prefix + name, problems)
    else:
      built[name] = _leaf(kind, values[name], prefix + name, problems)
  return built


def _leaf(kind: Any, value: Any, path: str, problems: list[str]) -> Any:
  if typing.get_origin(kind) is Literal:
    if value not in typing.get_args(kind):
      problems.append(f'{path}={value!r}: choose from {typing.get_args(kind)}')
  elif typing.get_origin(kind) is tuple:
    value = tuple(value) if isinstance(value, (list, tuple)) else value
    if not isinstance(value, tuple) or not all(
      type(v) is int and v >= 0 for v in value
    ):
      problems.append(f'{path}={value!r}: expected integers')
  elif kind is float and type(value) is int:
    return float(value)
  elif type(value) is not kind:
    problems.append(f'{path}={value!r}: expected {kind.__name__}')
  elif kind is int and value < _least(path) and (path[:5], value) != ('mesh.', -1):
    problems.append(f'{path}={value}: must be at least {_least(path)}')
  return value


def _least(path: str) -> int:
  return 0 if path.endswith(MAY_BE_ZERO) else 1


def _listed(problems: list[str]) -> str:
  return 'the config cannot be run:\n' + '\n'.join(f'  {p}' for p in problems)
