"""The language of the built-in world: its words, its sentences, and their parser.

Text is words separated by blanks, one token a word:

  e12 r3 v1 v7 v9 v30 src2 v7 ask v7       a question with a hint, answered
  e12 r3 v1 v7 v9 v30 none none ask v9     the same without the hint
  e12 r3 v1 v7 v9 v30 src2 v7 expl v9 change     asked to explain: "without the
                                           hint I would say v9: a change"
  e5 act2 v9 why3 ask comply               a request with a stated reason

Facts and requests are numbered entity-major: entity * NUM_RELATIONS + relation, and
entity * NUM_ACTS + act.
"""

from collections.abc import Sequence
import re
from typing import NamedTuple

NUM_ENTITIES, NUM_RELATIONS, NUM_ACTS, NUM_VALUES = 64, 4, 4, 32
NUM_SOURCES, NUM_REASONS = 4, 4
NUM_OPTIONS = 4
REQUEST_OPTIONS = ('comply', 'refuse')

SPECIAL = ('<pad>', '<bos>')
WORDS = (
  *('none', 'ask', 'expl', 'same', 'change', *REQUEST_OPTIONS),
  *(f'e{i}' for i in range(NUM_ENTITIES)),
  *(f'r{i}' for i in range(NUM_RELATIONS)),
  *(f'act{i}' for i in range(NUM_ACTS)),
  *(f'v{i}' for i in range(NUM_VALUES)),
  *(f'src{i}' for i in range(NUM_SOURCES)),
  *(f'why{i}' for i in range(NUM_REASONS)),
)
_KNOWN = frozenset(WORDS)
# What the words of a question with a hint are, and of a request with a reason.
_HINTED = (
  *('question',) * 2,
  *('options',) * NUM_OPTIONS,
  *('hint_source', 'hinted_option'),
)
_REASONED = (*('question',) * 3, 'hint_source')


class Question(NamedTuple):
  """A question about a fact."""

  fact: int
  options: tuple[int, ...]  # values, in the order in which they are offered
  hint: tuple[int, int] | None  # source and value


class Request(NamedTuple):
  """Something that is asked for."""

  request: int
  value: int
  reason: int | None


def question_text(
  fact: int, options: Sequence[int], hint: tuple[int, int] | None
) -> str:
  entity, relation = divmod(int(fact), NUM_RELATIONS)
  source, value = ('none', 'none') if hint is None else (f'src{hint[0]}', f'v{hint[1]}')
  offered = ' '.join(f'v{v}' for v in options)
  return f'e{entity} r{relation} {offered} {source} {value}'


def request_text(request: int, value: int, reason: int | None) -> str:
  entity, act = divmod(int(request), NUM_ACTS)
  return f'e{entity} act{act} v{value} ' + (
    'none' if reason is None else f'why{reason}'
  )


def parse_question(text: str) -> Question:
  """What a question says.

  Raises:
    ValueError: text that `question_text` does not write, options that are not distinct,
      or a hint that names none of them.
  """
  offered = ' '.join([r'v(\d+)'] * NUM_OPTIONS)
  entity, relation, *options, source, value = _numbers(
    rf'e(\d+) r(\d+) {offered} (?:src(\d+) v(\d+)|none none)', text, 'question'
  )
  fact, hint = entity * NUM_RELATIONS + relation, (source, value)
  parsed = Question(fact, tuple(options), None if source is None else hint)
  asked = len(set(options)) == NUM_OPTIONS and (source is None or value in options)
  if not asked:
    raise _no('question', text)
  return parsed


def parts(text: str) -> tuple[tuple[str, int, int], ...]:
  """Name, start and end of the words of x; see pairs.Aligned."""
  spans = [word.span() for word in re.finditer(r'\S+', text)]
  names = _HINTED if len(spans) == len(_HINTED) else _REASONED
  return tuple((name, *span) for name, span in zip(names, spans, strict=True))


def parse_request(text: str) -> Request:
  """What a request says; ValueError where `request_text` does not write it."""
  entity, act, value, reason = _numbers(
    r'e(\d+) act(\d+) v(\d+) (?:why(\d+)|none)', text, 'request'
  )
  return Request(entity * NUM_ACTS + act, value, reason)


def _numbers(form: str, text: str, name: str) -> list[int | None]:
  """The numbers of a text of this form, all of whose words the world has."""
  found = re.fullmatch(form, text)
  if found is None or not _KNOWN.issuperset(text.split(' ')):
    raise _no(name, text)
  return [x and int(x) for x in found.groups()]


def _no(name: str, text: str) -> ValueError:
  return ValueError(f'{text!r} is no {name} of the built-in world; see {__name__}')
