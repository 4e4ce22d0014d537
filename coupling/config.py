"""The experiment as typed, immutable data: every field that a config may set.

Configs are `ml_collections.ConfigDict`s made by the files in configs/; `resolve`
turns one into an `Experiment` and lists every unknown, missing or wrongly typed
field at once. Everything below main.py takes these dataclasses.
"""

import dataclasses
import importlib
import types
import typing
from typing import Any, Literal

import ml_collections


# Integers that may be 0; all others are at least 1, and mesh axes may be -1.
MAY_BE_ZERO = ('.warmup_steps', '.seed', '.learned_positions', '.lora.rank')


class ConfigError(ValueError):
  """A config that cannot be run; the message names the field and the remedy."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
  """The counterfactual pairs: a module of data/ (or the user's own) and its Config."""

  module: str  # importable name, such as data.hint_mmlu
  config: Any  # the module's Config


@dataclasses.dataclass(frozen=True, kw_only=True)
class Length:
  """Prompts that are too long are never cut."""

  max_tokens: int  # of a prompt with its answer
  too_long: Literal['raise', 'drop']  # dropped pairs are counted and reported


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
class Pretrain:
  """M_0 is pretrained on the task's corpus."""

  model: Model
  documents: int
  batch: int
  loop: Loop
  optimizer: Optimizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Import:
  """M_0 is a checkpoint in the hub's format."""

  checkpoint: str  # a folder, or a name on the hub
  revision: str  # on the hub; '' for its main branch
  chat: bool  # ask by the tokenizer's chat template; else as plain text
  dtype: Literal['float32', 'bfloat16']
  param_dtype: Literal['float32', 'bfloat16']
  scan_layers: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Label:
  """B(M_0), E(M_0) and M_0's reference distributions."""

  batch: int
  shard: int  # pairs per file; what an interruption can cost
  reference: Literal['vocabulary', 'options']  # support of the reference distributions
  reply_tokens: int  # longest reply, where the task reads behaviours from replies


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExplanationXent:
  weight: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class BehaviorKL:
  """`reference`: M_0's distributions as the label set keeps them, or computed in the
  train step by the same weights without their adapters (LoRA alone)."""

  weight: float
  direction: Literal['forward', 'reverse']  # KL(M_0 || M_t) or KL(M_t || M_0)
  support: Literal['vocabulary', 'options']
  reference: Literal['labels', 'adapters_off']


@dataclasses.dataclass(frozen=True, kw_only=True)
class BehaviorXent:
  """Post-training that shifts the behaviour on x, where behavior_kl then lets it go."""

  weight: float
  target: Literal['ignore_cue', 'follow_cue']  # M_0's answer on x∖C, the cue's option
  cues: Literal['all', 'explained', 'unexplained']  # whose x: see pairs.Questions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objectives:
  """Terms of the loss (DESIGN section 3); a weight of 0 leaves a term out."""

  explanation_xent: ExplanationXent
  behavior_kl: BehaviorKL
  behavior_xent: BehaviorXent


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lora:
  """Low-rank adapters beside frozen weights; see lora.init."""

  rank: int  # 0: none, all weights are trained
  alpha: float
  targets: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
  """Explanation training on fixed labels."""

  seed: int  # beside the experiment's seed: siblings differ in this alone
  labels: str  # folder of a label stage; '' for this workdir's own
  shuffle_labels: bool  # control: labels permuted over the training items
  explanation_batch: int
  behavior_batch: int  # prompts, of x and x∖C alike
  lora: Lora
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
  base: Pretrain | Import
  length: Length
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
    if isinstance(one, Pretrain | Train):
      problems += _loop_problems(section, one)
  if isinstance(base := built.get('base'), Pretrain):
    problems += _pretrain_problems(base, built.get('task'))
  for name, one in trains.items():
    if one is not None and None not in (one.lora, one.objectives):
      problems += _objective_problems(f'runs.{name}', one)
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


def _loop_problems(section: str, config: Pretrain | Train) -> list[str]:
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


def _pretrain_problems(base: Pretrain, task: Task | None) -> list[str]:
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


def _objective_problems(section: str, train: Train) -> list[str]:
  """Losses without a term; a reference that is not there."""
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
    elif kind is Task:
      built[name] = _task(values[name], problems)
    elif isinstance(kind, types.UnionType):  # of Pretrain and Import
      imported = isinstance(values[name], dict) and 'checkpoint' in values[name]
      section = Import if imported else Pretrain
      built[name] = _build(section, values[name], prefix + name, problems)
    elif dataclasses.is_dataclass(kind):
      built[name] = _build(kind, values[name], prefix + name, problems)
    else:
      built[name] = _leaf(kind, values[name], prefix + name, problems)
  return built


def _task(values: Any, problems: list[str]) -> Task | None:
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
  return built and Task(module=name, config=built)


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
  return 0 if path.endswith(MAY_BE_ZERO) else 1


def _listed(problems: list[str]) -> str:
  return 'the config cannot be run:\n' + '\n'.join(f'  {p}' for p in problems)
