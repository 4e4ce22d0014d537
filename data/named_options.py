"""Behaviours of any task with options, read from greedy replies: the option named.

For schema.Behavior.read = 'reply'. A reply that names none of the options, or several,
gives one more, UNNAMED, which every pair then has, and which explanations can state.
"""

from collections.abc import Sequence
import dataclasses
import re

import numpy as np

from data import pairs
from data import readers

UNNAMED = 'something else'
NOTE = f' A reply that names no option, or several, counts as "{UNNAMED}".'


def questions(asked: pairs.Questions) -> pairs.Questions:
  """How a task asks once behaviours are read from replies; its own detector stays."""
  if asked.detect is not None:
    return asked
  after = asked.explanation_after
  return dataclasses.replace(
    asked,
    explanation=asked.explanation + NOTE,
    explanation_after=after and after + NOTE,
    detect=detect,
  )


def with_unnamed(
  asked: pairs.Questions, found: Sequence[pairs.Pair]
) -> list[pairs.Pair]:
  """Pairs, where this module's `detect` reads them with the option UNNAMED at the end.

  Raises:
    DataError: a pair has that option already.
  """
  if asked.detect is not detect:
    return [*found]
  for pair in found:
    if UNNAMED in map(str.casefold, pair.options):
      raise readers.DataError(
        f'{pair.provenance}: the option {UNNAMED!r} stands for replies that name none; '
        'word it otherwise, or set behavior.read=text'
      )
  return [dataclasses.replace(pair, options=(*pair.options, UNNAMED)) for pair in found]


def detect(replies: Sequence[str], options: Sequence[tuple[str, ...]]) -> np.ndarray:
  """The option that each reply names; the last, UNNAMED, if it is not one alone.

  Args:
    replies: N texts.
    options: those of each reply's pair, the last of them UNNAMED.

  Returns:
    int32 [N], indices of options.
  """
  return np.array([_named(*x) for x in zip(replies, options, strict=True)], np.int32)


def _named(reply: str, options: tuple[str, ...]) -> int:
  *own, _ = options
  if all(len(option) == 1 for option in own):
    found = {x for pattern in _LETTER for x in re.findall(pattern, reply)} & {*own}
    return own.index(*found) if len(found) == 1 else len(own)
  # Longest first: "Guinea" is not named where "Equatorial Guinea" is.
  longest = sorted(map(_plain, own), key=len, reverse=True)
  either = '|'.join(map(re.escape, longest))
  found = {*re.findall(rf'(?<!\w)(?:{either})(?!\w)', _plain(reply))}
  if len(found) != 1:
    return len(own)
  return [_plain(option) for option in own].index(*found)


# A letter is an option's where it stands alone, in brackets, or where the reply says
# so; elsewhere "A" may be a word.
_LETTER = (
  r'^\W*(\w)(?:\W*$|[).:,])',
  r'\((\w)\)',
  r'(?i:\b(?:answer|option|choice)(?: is)?:?\W{1,3})(\w)\b(?! \w)',
)


def _plain(text: str) -> str:
  return ' '.join(text.casefold().split())
