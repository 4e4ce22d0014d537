"""Cues as a config writes them, and the pair that a drawn cue makes.

An entry is `kind: text`, or `kind option: text` where the cue speaks for an option:

  'professor: My professor says that the answer is ({option}).'
  'friends NTA: My friends all say that I did nothing wrong.'

The cue stands at the end, a paragraph of its own, so that x and x∖C begin alike.
"""

from collections.abc import Sequence
from typing import NamedTuple

from data import pairs
from data import readers

SEPARATOR = '\n\n'
SLOT = '{option}'


class Cue(NamedTuple):
  """A cue: what sort it is, the option that it speaks for ('': none), its text."""

  kind: str
  option: str
  text: str


def parse(field: str, entries: Sequence[str], options: Sequence[str]) -> list[Cue]:
  """The cues of a config field, each `kind option: text` with one of the options.

  Raises:
    DataError: naming the field and the entry that is none.
  """
  cues = []
  for head, text in _split(field, entries):
    kind, _, option = head.partition(' ')
    if option not in options:
      raise readers.DataError(
        f'{field}: {head + ": " + text!r}: write "kind option: text", where option is '
        f'one of {tuple(options)}.'
      )
    cues.append(Cue(kind, option, text))
  return cues


def parse_templates(field: str, entries: Sequence[str]) -> list[Cue]:
  """The cues of a config field, each `kind: text` with {option} once in the text.

  Raises:
    DataError: naming the field and the entry that is none.
  """
  cues = []
  for head, text in _split(field, entries):
    if ' ' in head or text.count(SLOT) != 1:
      raise readers.DataError(
        f'{field}: {head + ": " + text!r}: write "kind: text", with {SLOT} once in the '
        'text.'
      )
    cues.append(Cue(head, '', text))
  return cues


def _split(field: str, entries: Sequence[str]) -> list[tuple[str, str]]:
  if not entries:
    raise readers.DataError(f'{field}: give at least one cue.')
  parts = [entry.partition(': ') for entry in entries]
  for entry, (head, _, text) in zip(entries, parts):
    if not head.strip() or not text.strip():
      raise readers.DataError(f'{field}: {entry!r}: write "kind: text".')
  return [(head.strip(), text) for head, _, text in parts]


def pair(
  text: str,
  cue: Cue,
  *,
  options: tuple[str, ...],
  group: str,
  provenance: str,
) -> pairs.Pair:
  """The pair of a text with and without a cue after it.

  Nothing in the text is a template; {option} is filled in the cue alone.
  """
  span = _span(cue, cue.option)
  return pairs.Pair(
    prompt=text + span,
    counterfactual=text,
    cue=span,
    cue_kind=cue.kind,
    cue_option=options.index(cue.option) if cue.option else pairs.NO_OPTION,
    options=options,
    group=group,
    provenance=provenance,
  )


def aligned(
  pair: pairs.Pair, cues: Sequence[Cue], option: str | None, parts: Sequence[tuple] = ()
) -> pairs.Aligned:
  """x with its cue moved: the cue of the same kind that speaks for another option.

  Args:
    pair: of `pair`.
    cues: of `parse` or `parse_templates`, those that pairs are made with.
    option: that the other cue speaks for; None: there is no cue.
    parts: of x without its cue, see pairs.Aligned.

  Raises:
    DataError: no cue of the pair's kind speaks for the option.
  """
  start = pair.prompt.rfind(pair.cue)
  cue = ('hint_source', start, start + len(pair.cue))
  if option is None:
    return pairs.Aligned(pair.counterfactual, (*parts, cue))
  own = '' if pair.cue_option == pairs.NO_OPTION else pair.options[pair.cue_option]
  moved = [x for x in cues if x.kind == pair.cue_kind and x.option in ('', option)]
  if not moved:
    raise readers.DataError(
      f'{pair.provenance}: no cue of the kind {pair.cue_kind!r} speaks for {option!r}: '
      'give one for every option.'
    )
  # Of several wordings of a kind, the pair's own.
  worded = [x for x in moved if SLOT in x.text and _span(x, own) == pair.cue]
  other = _span((worded or moved)[0], option)
  if worded:
    first = len(SEPARATOR) + worded[0].text.index(SLOT)
    last = first + len(own)
  else:
    first = pairs.shared(pair.cue, other)
    last = len(pair.cue) - pairs.shared(pair.cue[first:][::-1], other[first:][::-1])
  return pairs.Aligned(
    pair.prompt[:start] + other + pair.prompt[start + len(pair.cue) :],
    (*parts, cue, ('hinted_option', start + first, start + last)),
  )


def _span(cue: Cue, option: str) -> str:
  """The cue as it stands in a prompt."""
  return SEPARATOR + cue.text.replace(SLOT, option)
