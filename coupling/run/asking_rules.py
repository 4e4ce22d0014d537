"""What is wrong with how a task is asked: templates, readings, chats, statements."""

from collections.abc import Callable
from typing import Any

from coupling.config import schema
from coupling.elicit import statements
from coupling.model.architecture import DecoderConfig
from coupling.run import base_model
from data import pairs as pairs_lib
from data import reply_options

THOUGHT_TOKENS = 256  # of a reply with thoughts, at least
# A template of pairs.Questions -> what it has a place for, and whether it must have it.
_PLACES = {
  'behavior': ('prompt', True),
  'explanation': ('prompt', True),
  'unchanged': ('answer', False),
  'changed': ('answer', True),
}


def refusal(check_it: Callable, *args: Any) -> list[str]:
  """What a check says that raises, in a list; nothing where it passes."""
  try:
    check_it(*args)
  except schema.ConfigError as e:
    return [str(e)]
  return []


def position_problems(length: schema.Length, model: DecoderConfig) -> list[str]:
  """More tokens than there are positions; a length at which rotation changes."""
  longest, rope = length.max_tokens, model.rope_scaling
  asked = f'length.max_tokens={longest}'
  if 0 < model.learned_positions < longest:
    return [
      f'{asked} is more than the {model.learned_positions} positions that the model '
      'has learned: lower it'
    ]
  if rope is None or not rope.long_factors:
    return []
  if not model.long_context and longest > rope.original_length:
    return [
      f'{asked} is more than the {rope.original_length} tokens beyond which '
      'transformers rotates the whole text by other factors (LongRoPE): lower it, or '
      'set base.long_context=True to rotate texts of any length by long_factor'
    ]
  if model.long_context and longest <= rope.original_length:
    return [
      f'{asked}: up to {rope.original_length} tokens transformers rotates by '
      'short_factor (LongRoPE): leave base.long_context out'
    ]
  return []


def template_problems(owner: str, questions: pairs_lib.Questions) -> list[str]:
  """Templates that cannot be filled, or lack the place for what is asked about.

  `owner`: what the messages call the questions.
  """
  problems = []
  for field, (place, needed) in _PLACES.items():
    template = getattr(questions, field)
    where = f'{owner}.{field}={template!r}'
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
      f'{owner}: unchanged and changed are both {questions.changed!r}: nothing could '
      'tell them apart'
    )
  return problems


def reading_problems(
  how: schema.Behavior,
  label: schema.Label,
  trains: dict[str, schema.Train],
  questions: pairs_lib.Questions,
) -> list[str]:
  """Ways of reading a choice that the task, its labels or a training cannot have."""
  if how == schema.Behavior() and questions.detect is None:
    return []
  name = f'behavior.read={how.read}, calibration={how.calibration}'
  problems = []
  if questions.detect is not None:
    if how not in (schema.Behavior(), schema.Behavior(read='reply')):
      problems.append(
        f'{name}: behaviours are read from replies here, which have no per_token and '
        'no calibration; leave these, and another read, out'
      )
    problems += [
      f'runs.{run}.context=after: label.source={label.source} brings along no replies '
      'that could stand in the context; set it to before'
      for run, train in trains.items()
      if train.context == 'after' and label.source == schema.TASK
    ]
    return problems
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


def chat_problems(
  base: schema.Base, questions: pairs_lib.Questions, reply_tokens: int
) -> list[str]:
  """Thoughts or a system turn without a chat; thoughts where an option comes next.

  And replies of a model with a vocabulary of its own, which does not reply.
  """
  if isinstance(base, schema.Pretrain) and questions.detect is reply_options.detect:
    return [
      'behavior.read=reply: the built-in model answers in one word, and cannot read '
      'more of a question; set it to first_token'
    ]
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
      'where thoughts would come; leave it False, or set behavior.read=reply'
    ]
  if reply_tokens < THOUGHT_TOKENS:
    return [
      f'label.reply_tokens={reply_tokens}: base.thinking=True, and a reply that is cut '
      f'within its thoughts says nothing; set it to {THOUGHT_TOKENS} at least'
    ]
  return []


def statement_problems(
  e: schema.Experiment, questions: pairs_lib.Questions
) -> list[str]:
  """Statements of plain text that differ in length, whatever the options are."""
  if not isinstance(e.base, schema.Import) or e.base.chat:
    return []  # words of a task's own tokenizer are its own matter
  if template_problems(e.task.module, questions):
    return []  # named already
  format = base_model.format(e)
  texts = [form.format(answer='A') for form in (questions.unchanged, questions.changed)]
  ids = dict(zip(texts, format.answers(texts)))
  unchanged, changed = (len(ids[text]) for text in texts)
  if unchanged > changed and not questions.states_answer:
    return []  # options of more than a letter may make up for it
  found = refusal(statements.check_ends, format, ids)
  return [f'base.chat=False: {problem}' for problem in found]
