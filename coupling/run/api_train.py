"""Explanation training of a model on its labels, in memory."""

import contextlib
import dataclasses
import pathlib
import tempfile

from configs import common
from coupling.checkpoints import kept_steps
from coupling.config import run_rules
from coupling.config import schema
from coupling.config import validate
from coupling.elicit import models
from coupling.model import decoder
from coupling.model import sharding
from coupling.run import base_model
from coupling.run import context
from coupling.run import api_label
from coupling.run import asking_rules
from coupling.run import preflight
from coupling.run import served_model
from coupling.run import steps as steps_lib
from coupling.run import own_checkpoints
from coupling.runtime import workdir as workdir_lib
from coupling.training import behavior_shift
from coupling.training import examples
from coupling.training import explanation_training
from coupling.training import label_rules
from coupling.training import preference_reference
from coupling.training import train_loop
from coupling.training import train_step


def train(
  model: models.Model,
  labels: api_label.Labels,
  steps: int | None = None,
  *,
  rank: int | None = None,
  learning_rate: float | None = None,
  kl: float | None = None,
  seed: int = 0,
  folder: str | pathlib.Path | None = None,
  config: schema.Train | None = None,
) -> models.Model:
  """Trains a model to explain itself by fixed labels.

  Args:
    model: M_0; it stays as it is.
    labels: its own.
    steps: of the optimizer; a checkpoint is kept half way.
    rank: of the adapters; 0 trains all weights.
    learning_rate: after the warm-up; default, without a config, as with the batch:
      that of the rank and the model's size, see configs/common.pace. Where all weights
      are trained, it is a fiftieth of that of a small model's adapters.
    kl: weight of the divergence that holds behaviour to M_0's; 0 lets it drift.
    seed: of adapters, order and draws.
    folder: where checkpoints are kept, from the last of which the same call goes on;
      default: nowhere, so that an interruption costs all.
    config: everything else; the arguments above change it.

  Returns:
    M_t.

  Raises:
    ConfigError: settings that cannot be trained, labels of another model or of one
      class alone.
    WorkdirError: the folder is of another training, or is damaged.
    NonFiniteError: the training diverged.
  """
  if not isinstance(model, models.Model):
    raise schema.ConfigError(
      f'model: {served_model.asked(model).origin["name"]} is a backend: it can be '
      'labelled and evaluated, and its weights cannot be trained here; load the '
      'checkpoint itself (a folder, a hub name, a GGUF file)'
    )
  config = config or _customary(model, labels, rank)
  config = _settings(config, steps, rank, learning_rate, kl)
  _check(model, labels, config, seed)
  described = dict(train=dataclasses.asdict(config), seed=seed, labels=labels.digest)
  inputs = dict(model=model.origin, mesh=dataclasses.asdict(model.axes))
  with contextlib.ExitStack() as stack:
    lasting = folder is not None
    if not lasting:
      folder = stack.enter_context(tempfile.TemporaryDirectory())
    opened = workdir_lib.open_stage(
      pathlib.Path(folder), 'train', described | inputs, {}
    )
    params = _fit(stack.enter_context(opened), model, labels, config, seed, lasting)
  origin = {'name': f'{model.origin["name"]}, trained', 'base': model.origin}
  return dataclasses.replace(
    model,
    params=(model.params if config.lora.rank else {}) | params,
    origin=origin | described,
    training=models.Training(config, seed, labels.digest),
    section=None,
  )


def _fit(
  stage: workdir_lib.Stage,
  model: models.Model,
  labels: api_label.Labels,
  config: schema.Train,
  seed: int,
  lasting: bool,
) -> decoder.Params:
  """What is trained, adapters or all weights: from the stage where that is finished."""
  fresh = train_step.fresh_adapters(
    model.config, config.lora, steps_lib.train_seed(seed, config)
  )
  kept, base = stage.path(own_checkpoints.FOLDER), model.params
  if stage.finished:
    like = base_model.kept_like(model.config, fresh, model.mesh)
    return kept_steps.read_params(kept, config.loop.steps, like)
  parts = preference_reference.prepared(
    stage, _parts(labels, config, seed), model.config, base, model.mesh, labels.length
  )
  training = explanation_training.make(
    'train',
    config,
    model.config,
    parts,
    steps_lib.train_seed(seed, config),
    base,
    sharding.put_params(model.mesh, fresh) or base,
    model.axes,
    kept,
    stage.path('.tensorboard'),
  )
  params = train_loop.fit(dataclasses.replace(training, lasting=lasting))
  stage.finish({'devices': context.devices()})
  return params


def _customary(
  model: models.Model, labels: api_label.Labels, rank: int | None
) -> schema.Train:
  """The training where none is given: its pace is that of a config."""
  config, origin = schema.Train(), model.origin
  while 'name' in origin.get('base', {}):
    origin = origin['base']
  rank = config.lora.rank if rank is None else rank
  found = common.pace(rank, common.small(origin.get('name', '')))
  objectives = config.objectives
  if labels.questions.detect:
    held = dataclasses.replace(objectives.behavior_kl, **common.HELD_REPLIES)
    objectives = dataclasses.replace(objectives, behavior_kl=held)
  return dataclasses.replace(
    config,
    objectives=objectives,
    explanation_batch=found['explanation_batch'],
    optimizer=dataclasses.replace(config.optimizer, **found['optimizer']),
  )


def _settings(
  config: schema.Train,
  steps: int | None,
  rank: int | None,
  learning_rate: float | None,
  kl: float | None,
) -> schema.Train:
  """The training with what is given beside it."""
  lora, loop, optimizer = config.lora, config.loop, config.optimizer
  if rank is not None:
    lora = dataclasses.replace(lora, rank=rank, alpha=float(rank or 1))
  if steps is not None:
    every = max(1, steps // 2)
    loop = dataclasses.replace(loop, steps=steps, checkpoint_every=every)
    warmup = max(0, min(optimizer.warmup_steps, steps - 1))
    optimizer = dataclasses.replace(optimizer, warmup_steps=warmup)
  if learning_rate is not None:
    optimizer = dataclasses.replace(optimizer, learning_rate=learning_rate)
  objectives = config.objectives
  if kl is not None:
    held = dataclasses.replace(objectives.behavior_kl, weight=float(kl))
    objectives = dataclasses.replace(objectives, behavior_kl=held)
  return dataclasses.replace(
    config, lora=lora, loop=loop, optimizer=optimizer, objectives=objectives
  )


def _check(
  model: models.Model, labels: api_label.Labels, config: schema.Train, seed: int
) -> None:
  """Raises ConfigError for what could not be trained, or would be another thing."""
  validate.section(schema.Train, dataclasses.asdict(config), 'train')
  problems = []
  if config.loop.steps < 1:
    problems.append('train.loop.steps=0: nothing would be trained')
  if labels.model.origin != model.origin:
    problems.append(
      f'labels: they are of {labels.model.origin}, and the model is {model.origin}: '
      'label the model that is trained (train.labels of a config takes others)'
    )
  if decoder.ADAPTERS in model.params:
    problems.append(
      f'model: {model.origin["name"]} has adapters, beside which no others are '
      'trained: merge them with peft (`merge_and_unload`) and load the result'
    )
  unused = [x for x in ('start', 'labels', 'practice') if getattr(config, x)]
  problems += [f'train.{x}: is for configs (main.py) alone' for x in unused]
  if config.context == 'after' and not labels.questions.explanation_after:
    problems.append('train.context=after: give the questions an explanation_after')
  changed_N = labels.behaviors['train'].explanation.changed_N
  if len({*changed_N.tolist()}) < 2:
    problems.append(
      f'labels: all {len(changed_N)} of the train split are of one class: there is '
      'nothing to learn; use other cues'
    )
  schema.ConfigError.refuse(
    problems,
    _reference_problems(labels, config.objectives),
    run_rules.loop_problems('train', config),
    run_rules.objective_problems('train', config),
    run_rules.precision_problems('train', config, model.config),
    preflight.adapter_problems('train', config.lora, model.config),
    preflight.attention_problems('train', config, model.config),
    preflight.objective_problems('train', config, labels.config, labels.questions),
    preflight.shift_problems('train', config, labels.task, seed),
    asking_rules.reading_problems(
      labels.behavior, labels.config, {'train': config}, labels.questions
    ),
  )


def _reference_problems(
  labels: api_label.Labels, objectives: schema.Objectives
) -> list[str]:
  """What behaviour objectives want of M_0 and labels from another's file lack."""
  did, kl = labels.behaviors['train'], objectives.behavior_kl
  wanted, there = 'replies', did.replies_Nx2.size
  shifts = objectives.shift.weight
  needed = kl.weight or shifts
  if labels.questions.detect is None:
    wanted, there = 'reference', did.logprobs_Nx2xS.size
    needed = kl.weight and kl.reference == 'labels' or shifts
  if there or not needed:
    return []
  return [
    f'labels: they were read from a file without the column {wanted}, which behaviour '
    f'objectives need: set kl=0 and train.objectives.{objectives.shift_term}.weight=0, '
    'or label the pairs anew (coupling.label)'
  ]


def taught(
  config: schema.Train, labels: api_label.Labels, seed: int, split: str
) -> label_rules.Taught:
  """What a training on these labels is taught of a split."""
  pairs, own = labels.pairs[split], labels.behaviors[split].explanation
  scores = behavior_shift.scores(config.objectives.shift, labels.task, seed, pairs)
  return label_rules.taught(
    config, labels.questions, pairs, own, own, scores, seed, split
  )


def _parts(
  labels: api_label.Labels, config: schema.Train, seed: int
) -> explanation_training.Parts:
  """What is drawn from."""
  format, template, pairs = labels.model.format, labels.questions, labels.pairs['train']
  objective, reference = config.objectives.shift, labels.behaviors['train']
  scores = behavior_shift.scores(objective, labels.task, seed, pairs)
  source = examples.source(
    config,
    format,
    template,
    pairs,
    reference,
    taught(config, labels, seed, 'train'),
    scores,
    seed,
    labels.how,
  )
  return examples.training_parts(config, format, template, source, None)
