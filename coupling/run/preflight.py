"""What is wrong with an experiment, told by its task, tokenizer, model and devices.

validate.resolve has looked at the config alone. Here the task's module, the tokenizer
and the checkpoint's config.json are read as well; weights and data are not. What only
the data can tell is an error of the stage that reads them first.
"""

from collections.abc import Iterator
import importlib

import jax

from coupling.config import bounds
from coupling.config import schema
from coupling.model import lora
from coupling.model import sharding
from coupling.model.architecture import DecoderConfig
from coupling.run import asking_rules
from coupling.run import base_model
from coupling.run import context
from coupling.run import served_model
from coupling.training import behavior_shift
from coupling.training import preferences
from data import pairs as pairs_lib
from data import preference_file
from data import readers
from data import splits


def check(e: schema.Experiment) -> None:
  """Refuses an experiment that could not be run to its end, before anything is spent.

  Raises:
    ConfigError: listing all problems, each with its field and the remedy.
  """
  questions = context.questions(e)
  problems = asking_rules.template_problems(
    f'task.module={e.task.module!r}: questions()', questions
  )
  for name, train in e.trained.items():
    problems += objective_problems(f'runs.{name}', train, e.label, questions)
    problems += shift_problems(f'runs.{name}', train, e.task, e.seeds[0])
    problems += _device_problems(f'runs.{name}', train)
    if train.practice and not getattr(e.task.config, 'practice_pairs', 0):
      problems.append(
        f'runs.{name}.practice: this task has no split {splits.PRACTICE!r} '
        '(task.practice_pairs), so leave it False'
      )
  for name, train in e.runs.items():
    if train.context == 'after' and not questions.explanation_after:
      problems.append(
        f'runs.{name}.context=after: {e.task.module} does not say how to ask after the '
        'answer; give its questions() an `explanation_after`, or ask before'
      )
  problems += asking_rules.chat_problems(e.base, questions, e.label.reply_tokens)
  problems += asking_rules.reading_problems(e.behavior, e.label, e.trained, questions)
  problems += _batch_problems(e)
  if isinstance(e.base, schema.Served):
    problems += served_model.problems(e, questions)
  else:
    problems += _unreadable(e) or [
      *_model_problems(e),
      *asking_rules.statement_problems(e, questions),
    ]
  schema.ConfigError.refuse(problems)


def objective_problems(
  section: str,
  train: schema.Train,
  label: schema.Label,
  questions: pairs_lib.Questions,
) -> list[str]:
  """Objectives that want what the task, or its labels, will not have."""
  terms, path, problems = train.objectives, f'{section}.objectives', []
  kl, shift = terms.behavior_kl, terms.shift
  if questions.detect is not None:
    why = 'this task reads behaviours from replies'
    if shift.weight:
      problems.append(
        f'{path}.{terms.shift_term}.weight={shift.weight}: {why}, and a shift needs a '
        'forced choice; set it to 0, or let the task ask for a choice'
      )
    if kl.weight and (kl.support, kl.reference) != ('vocabulary', 'adapters_off'):
      problems.append(
        f'{path}.behavior_kl: support={kl.support}, reference={kl.reference}: {why}, '
        'which are held to M_0 by support=vocabulary and reference=adapters_off alone'
      )
    return problems
  held = (kl.reference, kl.support, label.reference)
  if kl.weight and held == ('labels', 'vocabulary', 'options'):
    problems.append(
      f'{path}.behavior_kl.support=vocabulary, but label.reference=options keeps '
      "M_0's distributions over the options only; set label.reference=vocabulary, or "
      'the support to options'
    )
  if shift.weight and shift.cues == 'unexplained' and not questions.unexplained:
    problems.append(
      f'{path}.{terms.shift_term}.cues=unexplained: this task explains cues of all '
      'kinds, so nothing would be shifted; choose all or explained'
    )
  return problems


def attention_problems(
  section: str, train: schema.Train, model: DecoderConfig
) -> list[str]:
  """Fused attention on other devices than it is for, or of heads that it lacks."""
  return _device_problems(section, train) + _head_problems(section, train, model)


def _device_problems(section: str, train: schema.Train) -> list[str]:
  if train.attention != 'cudnn' or jax.default_backend() == 'gpu':
    return []
  return [
    f'{section}.attention=cudnn is for NVIDIA GPUs, and the devices here are '
    f'{jax.devices()[0].platform}: set it to blocks'
  ]


def _head_problems(
  section: str, train: schema.Train, model: DecoderConfig
) -> list[str]:
  fits = model.head_dim % 8 == 0 and model.head_dim <= 128
  if train.attention != 'cudnn' or fits:
    return []
  return [
    f'{section}.attention=cudnn takes heads of 8, 16, … 128 features, and those '
    f'of this model have {model.head_dim}: set it to blocks'
  ]


def shift_problems(
  section: str, train: schema.Train, task: schema.Task | None, seed: int
) -> list[str]:
  """A shift towards what the task does not know, or the behaviour asked about.

  And a file of preferences that cannot be used.
  Without a task, which is None where pairs were given, no preferences are known.
  """
  terms, known, problems = train.objectives, behavior_shift.ON_CUES, []
  if terms.dpo.weight and terms.dpo.file:
    try:
      preference_file.read(terms.dpo.file)
    except readers.DataError as error:
      problems.append(f'{section}.objectives.dpo.file: {error}')
  who = 'given pairs know'
  if task is not None:
    module = importlib.import_module(task.module)
    known = (*known, *behavior_shift.preferences(module))
    who = f'{task.module} knows'
  shift = terms.shift
  field = f'{section}.objectives.{terms.shift_term}.target={shift.target!r}'
  if shift.target not in known:
    return [*problems, f'{field}: {who} {", ".join(known)}']
  try:
    behavior_shift.scores(shift, task, seed, [])
  except ValueError as error:
    problems.append(f'{field}: {error}')
  return problems


def _batch_problems(e: schema.Experiment) -> list[str]:
  """A mesh that the devices do not give, and batches that it does not divide."""
  if found := asking_rules.refusal(sharding.make_mesh, e.mesh):
    return found
  mesh = sharding.make_mesh(e.mesh)
  return [
    problem
    for batch in _batches(e)
    for problem in (
      _too_large(e, *batch) or asking_rules.refusal(sharding.check_batch, mesh, *batch)
    )
  ]


def _too_large(e: schema.Experiment, field: str, batch: int, parts: int) -> list[str]:
  """A batch with more tokens than an index of arrays counts."""
  tokens = batch // parts * e.length.max_tokens
  if tokens <= bounds.MOST:
    return []
  return [
    f'{field}={batch} of up to length.max_tokens={e.length.max_tokens} are {tokens} '
    f'tokens, of {bounds.MOST} that arrays are indexed by; lower it'
  ]


def _batches(e: schema.Experiment) -> Iterator[tuple[str, int, int]]:
  """Field, size and number of microbatches of every batch."""
  if isinstance(e.base, schema.Pretrain):
    yield 'base.batch', e.base.batch, e.base.loop.accumulation
  yield 'label.batch', e.label.batch, 1
  for name, train in e.trained.items():
    parts = train.loop.accumulation
    if train.objectives.dpo.weight:
      yield f'runs.{name}.objectives.dpo.batch', train.objectives.dpo.batch, parts
    if train.trees:
      continue  # rows of trees are made as many as divide
    if train.objectives.explanation_xent.weight:
      yield f'runs.{name}.explanation_batch', train.explanation_batch, parts
    if train.objectives.behavior_kl.weight or train.objectives.behavior_xent.weight:
      yield f'runs.{name}.behavior_batch', train.behavior_batch, parts
  yield 'evaluate.batch', e.evaluate.batch, 1


def _unreadable(e: schema.Experiment) -> list[str]:
  """A checkpoint that is not there; a tokenizer or a config.json that cannot serve."""
  imported = isinstance(e.base, schema.Import)
  if imported and (missing := asking_rules.refusal(base_model.checkpoint_folder, e)):
    return missing
  # Of an imported model the format needs the decoder, and reports its problems again.
  found = [
    *asking_rules.refusal(base_model.format, e),
    *asking_rules.refusal(base_model.decoder, e),
  ]
  return list(dict.fromkeys(found))


def adapter_problems(
  section: str, low_rank: schema.Lora, model: DecoderConfig
) -> list[str]:
  """Layers, or sizes, that a model lacks."""
  if not low_rank.rank:
    return []
  field = f'{section}.lora'
  found = asking_rules.refusal(
    lora.check_targets, model, low_rank.targets, f'{field}.targets'
  ) or asking_rules.refusal(lora.check_rank, model, low_rank, f'{field}.rank')
  return found + asking_rules.refusal(
    lora.check_first, model, low_rank.layers, f'{field}.layers'
  )


def _form_problems(section: str, dpo: schema.DPO, e: schema.Experiment) -> list[str]:
  """A file of preferences in a form, or of a length, in which M_0 is not asked."""
  if not (dpo.weight and dpo.file):
    return []
  try:
    found = preference_file.read(dpo.file)
  except readers.DataError:
    return []  # named by shift_problems
  try:
    preferences.fitting_rows(preferences.rows(base_model.format(e), found), e.length)
  except (readers.DataError, schema.ConfigError) as error:
    return [f'{section}.objectives.dpo.file={dpo.file!r}: {error}']
  return []


def _model_problems(e: schema.Experiment) -> list[str]:
  """Positions, layers or heads that it lacks; preferences; what cannot be split."""
  model = base_model.decoder(e)
  problems = asking_rules.position_problems(e.length, model)
  for name, train in e.trained.items():
    problems += adapter_problems(f'runs.{name}', train.lora, model)
    problems += _head_problems(f'runs.{name}', train, model)
    problems += _form_problems(f'runs.{name}', train.objectives.dpo, e)
  if not asking_rules.refusal(sharding.make_mesh, e.mesh):
    mesh = sharding.make_mesh(e.mesh)
    if model.num_kv_heads % mesh.shape['tensor']:
      problems.append(
        f"mesh.tensor={mesh.shape['tensor']} does not divide the model's "
        f'{model.num_kv_heads} heads of keys and values: choose a divisor'
      )
    problems += asking_rules.refusal(sharding.abstract_params, mesh, model)
  return problems
