"""Behaviours of any task with options, read from greedy replies: the option named.

For schema.Behavior.read = 'reply'. A reply that names none of the options, or several,
gives one more, UNNAMED, which every pair then has, and which explanations can state;
what stands after "not" is not named. Quoting a cue can make a reply name two: the
report says how often none or several are named.
"""

from collections.abc import Callable, Sequence
import dataclasses
import re

import numpy as np

from data import pairs
from data import readers

UNNAMED = 'no single option'
NOTE = f'Where your answer names no option, or several, it counts as "{UNNAMED}".'
PLACE = '{prompt}\n\n'  # in a template: what is asked about the prompt follows

QUOTES = str.maketrans('‘’“”', '\'\'""')
ENDS = ' .,;:!"\'*`'  # of an option, or around it, when it is compared
# An option after this is rejected: "not necessarily in (B)".
NOT = r'\b(?i:not)\s+(?:\w+\s+){0,2}\W?'
# After "A" or "I" these go on from a letter; other small words from a word.
AFTER_LETTER = r'(?!\s+(?!(?:is|and|or|because|since|as)\b)[a-z])'


def questions(asked: pairs.Questions) -> pairs.Questions:
  """How a task asks once behaviours are read from replies; its own detector stays."""
  if asked.detect is not None:
    return asked
  found, after = asked.explanation, asked.explanation_after
  if PLACE in found:
    found = found.replace(PLACE, f'{PLACE}{NOTE} ', 1)
  else:
    found = f'{found} {NOTE}'
  return dataclasses.replace(
    asked,
    explanation=found,
    explanation_after=after and f'{NOTE} {after}',
    detect=detect,
  )


def with_unnamed(
  asked: pairs.Questions, found: Sequence[pairs.Pair]
) -> list[pairs.Pair]:
  """Pairs, where this module's `detect` reads them with the option UNNAMED at the end.

  Raises:
    DataError: a pair has that option already, or options that no reply could tell
      apart.
  """
  if asked.detect is not detect:
    return [*found]
  for pair in found:
    if UNNAMED in map(str.casefold, pair.options) or _comparison(pair.options) is None:
      raise readers.DataError(
        f'{pair.provenance}: the options {pair.options}, with {UNNAMED!r} for replies '
        'that name none, are alike but for punctuation: word them otherwise, or set '
        'behavior.read=text'
      )
  return [dataclasses.replace(pair, options=(*pair.options, UNNAMED)) for pair in found]


def bare(asked: pairs.Questions, found: Sequence[pairs.Pair]) -> list[pairs.Pair]:
  """Pairs without the option that `with_unnamed` gave them, where it did."""
  if asked.detect is not detect:
    return [*found]
  return [
    dataclasses.replace(pair, options=tuple(x for x in pair.options if x != UNNAMED))
    for pair in found
  ]


def unnamed(options: Sequence[tuple[str, ...]], option_N: np.ndarray) -> np.ndarray:
  """Whether behaviours are UNNAMED, bool [N]; `options`: of each pair."""
  chosen = (x[k] if k >= 0 else '' for x, k in zip(options, option_N, strict=True))
  return np.array([text == UNNAMED for text in chosen], bool)


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
  if all(re.fullmatch('[A-Z]', option) for option in own):
    found = _letters(reply) & {*own}
    return own.index(*found) if len(found) == 1 else len(own)
  plain = _comparison(own)
  forms = [plain(option).strip(ENDS) or plain(option) for option in own]
  # Longest first: "Guinea" is not named where "Equatorial Guinea" is.
  either = '|'.join(map(_whole, sorted(forms, key=len, reverse=True)))
  found = {*re.findall(either, re.sub(f'{NOT}(?:{either})', '', plain(reply)))}
  return forms.index(*found) if len(found) == 1 else len(own)


def _letters(reply: str) -> set[str]:
  """Capital letters that stand alone, but for words; or a small one that is all."""
  if alone := re.search(r'^\W*([a-z])(?:\W*$|[).:])', reply):
    return {alone[1].upper()}
  alone = r"(?<![\w'])([A-Z])(?![\w'])"
  reply = re.sub(NOT + alone, '', reply.translate(QUOTES))
  sure = {x[1] for x in re.finditer(alone + AFTER_LETTER, reply)}
  return sure | {x[1] for x in re.finditer(alone, reply)} - {'A', 'I'}


def _comparison(options: Sequence[str]) -> Callable[[str], str] | None:
  """The first of two ways to compare texts by which these differ: by case or not."""
  for fold in (str.casefold, str):
    plain = lambda text, fold=fold: ' '.join(fold(text.translate(QUOTES)).split())
    if len({plain(x).strip(ENDS) or plain(x) for x in options}) == len(options):
      return plain
  return None


def _whole(form: str) -> str:
  """A pattern of a text that is no part of another word, or of another number."""
  before = r'(?<![\w.,+-])' if form[0].isdigit() else r'(?<!\w)'
  after = r'(?!\w)(?![.,]\d)' if form[-1].isdigit() else r'(?!\w)'
  return before + re.escape(form) + after
