"""What is wrong with an experiment, told by its task, tokenizer, model and devices.

validate.resolve has looked at the config alone. Here the task's module, the tokenizer
and the checkpoint's config.json are read as well; weights and data are not. What only
the data can tell is an error of the stage that reads them first.
"""

from collections.abc import Callable, Iterator
import importlib
from typing import Any

import jax

from coupling.config import bounds
from coupling.config import schema
from coupling.elicit import statements
from coupling.model import decoder
from coupling.model import lora
from coupling.model import sharding
from coupling.run import context
from coupling.runtime import distributed
from coupling.training import behavior_shift
from data import pairs as pairs_lib
from data import splits

# A template of pairs.Questions -> what it has a place for, and whether it must have it.
_PLACES = {
  'behavior': ('prompt', True),
  'explanation': ('prompt', True),
  'unchanged': ('answer', False),
  'changed': ('answer', True),
}


def check(e: schema.Experiment) -> None:
  """Refuses an experiment that could not be run to its end, before anything is spent.

  Raises:
    ConfigError: listing all problems, each with its field and the remedy.
  """
  questions = context.questions(e)
  problems = template_problems(e.task.module, questions)
  for name, train in e.trained.items():
    problems += objective_problems(f'runs.{name}', train, e.label, questions)
    problems += shift_problems(f'runs.{name}', train, e.task, e.seeds[0])
    problems += _device_problems(f'runs.{name}', train)
    if train.attention == 'cudnn' and e.runs_at_once > 1:
      problems.append(
        f'runs.{name}.attention=cudnn trains one run at a time, and runs_at_once='
        f'{e.runs_at_once}: set it to 1, or attention to blocks'
      )
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
  problems += _chat_problems(e.base, questions)
  problems += reading_problems(e.behavior, e.label, e.trained, questions)
  problems += _batch_problems(e)
  if e.runs_at_once > 1 and e.runs_at_once % jax.device_count():
    problems.append(
      f'runs_at_once={e.runs_at_once} does not divide over {jax.device_count()} '
      'devices: make it a multiple, or 1 to give each run all of them'
    )
  if e.runs_at_once > 1 and distributed.several():
    problems.append(
      f'runs_at_once={e.runs_at_once}: several processes train one run after another; '
      'set it to 1, or use one process'
    )
  problems += _unreadable(e) or [
    *_model_problems(e),
    *_statement_problems(e, questions),
  ]
  schema.ConfigError.refuse(problems)


def _refusal(check_it: Callable, *args: Any) -> list[str]:
  """What a check says that raises, in a list; nothing where it passes."""
  try:
    check_it(*args)
  except schema.ConfigError as e:
    return [str(e)]
  return []


def template_problems(module: str, questions: pairs_lib.Questions) -> list[str]:
  """Templates that cannot be filled, or lack the place for what is asked about."""
  problems = []
  for field, (place, needed) in _PLACES.items():
    template = getattr(questions, field)
    where = f'task.module={module!r}: questions().{field}={template!r}'
    try:
      filled = {template.format(**{place: word}) for word in ('x', 'y')}
    except (KeyError, IndexError, ValueError) as e:
      problems.append(
        f'{where} cannot be filled ({type(e).__name__}: {e}): it has a place for '
        f'{{{place}}} alone; write other braces twice, {{{{ and }}}}'
      )
      continue
    if needed and len(filled) == 1:
      problems.append(f'{where} has no place for {{{place}}}; give it one')
  if questions.unchanged == questions.changed:
    problems.append(
      f'task.module={module!r}: questions().unchanged and .changed are both '
      f'{questions.changed!r}: nothing could tell them apart'
    )
  return problems


def objective_problems(
  section: str,
  train: schema.Train,
  label: schema.Label,
  questions: pairs_lib.Questions,
) -> list[str]:
  """Objectives that want what the task, or its labels, will not have."""
  kl, shift = train.objectives.behavior_kl, train.objectives.behavior_xent
  path, problems = f'{section}.objectives', []
  if questions.detect is not None:
    why = 'this task reads behaviours from replies'
    if shift.weight:
      problems.append(
        f'{path}.behavior_xent.weight={shift.weight}: {why}, and a shift needs a '
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
      f'{path}.behavior_xent.cues=unexplained: this task explains cues of all kinds, '
      'so nothing would be shifted; choose all or explained'
    )
  return problems


def attention_problems(
  section: str, train: schema.Train, model: decoder.DecoderConfig
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
  section: str, train: schema.Train, model: decoder.DecoderConfig
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

  Without a task, which is None where pairs were given, no preferences are known.
  """
  shift, known = train.objectives.behavior_xent, behavior_shift.ON_CUES
  who = 'given pairs know'
  if task is not None:
    module = importlib.import_module(task.module)
    known = (*known, *behavior_shift.preferences(module))
    who = f'{task.module} knows'
  field = f'{section}.objectives.behavior_xent.target={shift.target!r}'
  if shift.target not in known:
    return [f'{field}: {who} {", ".join(known)}']
  try:
    behavior_shift.scores(shift, task, seed, [])
  except ValueError as error:
    return [f'{field}: {error}']
  return []


def _batch_problems(e: schema.Experiment) -> list[str]:
  """A mesh that the devices do not give, and batches that it does not divide."""
  if found := _refusal(sharding.make_mesh, e.mesh):
    return found
  mesh = sharding.make_mesh(e.mesh)
  return [
    problem
    for batch in _batches(e)
    for problem in (
      _too_large(e, *batch) or _refusal(sharding.check_batch, mesh, *batch)
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
  if imported and (missing := _refusal(context.checkpoint_folder, e)):
    return missing
  # Of an imported model the format needs the decoder, and reports its problems again.
  found = [*_refusal(context.format, e), *_refusal(context.decoder, e)]
  return list(dict.fromkeys(found))


def adapter_problems(
  section: str, low_rank: schema.Lora, model: decoder.DecoderConfig
) -> list[str]:
  """Layers, or sizes, that a model lacks."""
  if not low_rank.rank:
    return []
  field = f'{section}.lora'
  found = _refusal(
    lora.check_targets, model, low_rank.targets, f'{field}.targets'
  ) or _refusal(lora.check_rank, model, low_rank, f'{field}.rank')
  return found + _refusal(lora.check_first, model, low_rank.layers, f'{field}.layers')


def _model_problems(e: schema.Experiment) -> list[str]:
  """Too few positions; layers, or heads, that it lacks; what the mesh cannot split."""
  model, problems = context.decoder(e), []
  if 0 < model.learned_positions < e.length.max_tokens:
    problems.append(
      f'length.max_tokens={e.length.max_tokens} is more than the '
      f'{model.learned_positions} positions that the model has learned: lower it'
    )
  for name, train in e.trained.items():
    problems += adapter_problems(f'runs.{name}', train.lora, model)
    problems += _head_problems(f'runs.{name}', train, model)
  if not _refusal(sharding.make_mesh, e.mesh):
    mesh = sharding.make_mesh(e.mesh)
    if model.num_kv_heads % mesh.shape['tensor']:
      problems.append(
        f"mesh.tensor={mesh.shape['tensor']} does not divide the model's "
        f'{model.num_kv_heads} heads of keys and values: choose a divisor'
      )
    problems += _refusal(sharding.abstract_params, mesh, model)
  return problems


def reading_problems(
  how: schema.Behavior,
  label: schema.Label,
  trains: dict[str, schema.Train],
  questions: pairs_lib.Questions,
) -> list[str]:
  """Ways of reading a choice that the task, its labels or a training cannot have."""
  if how == schema.Behavior():
    return []
  name = f'behavior.read={how.read}, calibration={how.calibration}'
  problems = []
  if questions.detect is not None:
    problems.append(
      f'{name}: this task reads behaviours from replies; leave out the section behavior'
    )
  if how.per_token and how.read != 'text':
    problems.append(f'behavior.per_token=True: {name} reads one token; set read=text')
  if label.source and how.calibration == 'prior':
    problems.append(
      f'{name}: label.source={label.source} asks no M_0, whose prior would be taken '
      'away; set calibration=none'
    )
  if label.reference == 'vocabulary':
    problems.append(
      f'{name}: label.reference=vocabulary keeps what follows the prompt and not what '
      'is read of the options; set it to options'
    )
  for run, train in trains.items():
    objectives, field = train.objectives, f'runs.{run}'
    held = objectives.behavior_kl.weight > 0
    if (held or objectives.behavior_xent.weight) and not train.trees:
      problems.append(f'{field}.trees=False: {name} wants prefix trees; set it to True')
    if held and objectives.behavior_kl.support == 'vocabulary':
      problems.append(
        f'{field}.objectives.behavior_kl.support=vocabulary: {name} holds the '
        'distribution over the options; set it to options'
      )
  return problems


def _chat_problems(base: schema.Base, questions: pairs_lib.Questions) -> list[str]:
  """Thoughts or a system turn without a chat; thoughts where an option comes next."""
  if not isinstance(base, schema.Import):
    return []
  if base.system and not base.chat:
    return [f'base.system={base.system!r} is of chats: leave it out, or set base.chat']
  if not base.thinking:
    return []
  if not base.chat:
    return ['base.thinking=True is for chats: leave it False, or set base.chat=True']
  if questions.detect is None:
    return [
      'base.thinking=True: this task reads which option comes right after the prompt, '
      'where thoughts would come; leave it False, or use a task that reads replies'
    ]
  return []


def _statement_problems(
  e: schema.Experiment, questions: pairs_lib.Questions
) -> list[str]:
  """Statements of plain text that differ in length, whatever the options are."""
  if not isinstance(e.base, schema.Import) or e.base.chat:
    return []  # words of a task's own tokenizer are its own matter
  if template_problems(e.task.module, questions):
    return []  # named already
  format = context.format(e)
  texts = [form.format(answer='A') for form in (questions.unchanged, questions.changed)]
  ids = dict(zip(texts, format.answers(texts)))
  unchanged, changed = (len(ids[text]) for text in texts)
  if unchanged > changed and not questions.states_answer:
    return []  # options of more than a letter may make up for it
  found = _refusal(statements.check_ends, format, ids)
  return [f'base.chat=False: {problem}' for problem in found]
