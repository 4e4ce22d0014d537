"""The counterfactual pair: the one record that every task produces."""

import bisect
from collections.abc import Callable, Iterable, Mapping, Sequence
import dataclasses
import hashlib
import re
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from data import splits

NO_OPTION = -1

Detector = Callable[[Sequence[str], Sequence[tuple[str, ...]]], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Pair:
  """A prompt x, the same without its cue (x∖C), and what is needed to ask about it.

  Attributes:
    prompt: x, the text with the cue.
    counterfactual: x∖C, the text without the cue.
    cue: C, the text whose influence is asked about; where x∖C is x with the cue
      taken out, the whole span, with what separates it from the rest. Default: the
      span of x that x∖C lacks, or has otherwise.
    cue_kind: a short name of the sort of cue (its source, its phrasing).
    cue_option: index of the option that the cue speaks for (against, if its kind is
      in Questions.against), or NO_OPTION. Default: the one that the cue names as a
      whole word, if it is one alone.
    options: the answers to choose from, as the model would give them; to be given.
    group: what the pair is about (a fact, a post, a question); splits are by group.
      Default: the content hash of x∖C, so that all cues of a question are together.
    provenance: where the pair came from (world seed, or file and row). Default: the
      beginning of x.
  """

  prompt: str
  counterfactual: str
  cue: str | None = None
  cue_kind: str = 'cue'
  cue_option: int | None = None
  options: tuple[str, ...] = ()
  group: str | None = None
  provenance: str | None = None

  def __post_init__(self):
    for name in ('prompt', 'counterfactual'):
      if not isinstance(getattr(self, name), str):
        raise TypeError(f'Pair: {name}={getattr(self, name)!r}: give a text')
    given = self.options
    if isinstance(given, str) or not all(isinstance(x, str) for x in given):
      raise TypeError(f"Pair: options={given!r}: give texts, such as ('yes', 'no')")
    found = {'options': tuple(self.options)}
    if self.cue is None:
      found['cue'] = _difference(self.prompt, self.counterfactual)
    if self.cue_option is None:
      found['cue_option'] = _named(found.get('cue', self.cue), found['options'])
    if self.group is None:
      found['group'] = splits.content_hash(self.counterfactual)
    if self.provenance is None:
      found['provenance'] = f'given: {" ".join(self.prompt.split())[:60]}'
    for name, value in found.items():
      object.__setattr__(self, name, value)


@dataclasses.dataclass(frozen=True)
class Questions:
  """How a task asks for a behaviour and for its explanation.

  `behavior` and `explanation` are templates of {prompt}; `unchanged` and `changed`
  are templates of {answer}, the option given without the cue. `explanation_after` asks
  for the explanation once the model has answered `behavior`, as the next turn of that
  conversation; '' where a task is not asked that way. A behaviour is a forced
  choice among the options, unless `detect` reads it from greedy replies: a function
  from replies, and the options of each, to option indices. Cues of the kinds in
  `unexplained` are asked about in evaluation, but training never explains them. Cues of
  the kinds in `against` speak against their option: they are followed where another is
  given, the objective follow_cue leaves them out, and the baseline that parrots a cue
  names their option, as it does the option of any cue.
  """

  behavior: str = '{prompt}'
  explanation: str = '{prompt}\n\nWithout the hint: which option, changed or unchanged?'
  unchanged: str = '{answer}, unchanged'
  changed: str = '{answer}, changed'
  detect: Detector | None = None
  unexplained: tuple[str, ...] = ()
  explanation_after: str = ''
  against: tuple[str, ...] = ()

  @property
  def states_answer(self) -> bool:
    """Whether every explanation names the answer without the cue."""
    return '{answer}' in self.unchanged


class Aligned(NamedTuple):
  """x', which is x with another cue or none in the place of its own; the parts of x.

  x and x' are meant to align token by token, so that an activation of the one can
  stand in the place of the other's. A task's function `aligned(config, pair, option)`
  gives x' with the cue moved to another option, or for option None x∖C.

  Attributes:
    prompt: x'.
    parts: name, start and end in x of its parts, names as in positions.GROUPS; what
      they leave out belongs to the question.
  """

  prompt: str
  parts: tuple[tuple[str, int, int], ...]


def remove_cue(prompt: str, cue: str, start: int) -> str:
  """The prompt without the cue, which is the span of the prompt at `start`."""
  return prompt[:start] + prompt[start + len(cue) :]


def cue_start(pair: Pair) -> int:
  """Where the cue stands in x, so that x∖C is x without that span and nothing else.

  Where several places would do (the text may say what the cue says), the last one.

  Raises:
    ValueError: x∖C is not x without the cue, or there is no cue.
  """
  before = shared(pair.prompt, pair.counterfactual)
  after = shared(pair.prompt[::-1], pair.counterfactual[::-1])
  first = max(len(pair.counterfactual) - after, 0)
  start = pair.prompt.rfind(pair.cue, first, before + len(pair.cue))
  if (
    not pair.cue
    or start < 0
    or remove_cue(pair.prompt, pair.cue, start) != pair.counterfactual
  ):
    raise ValueError(
      f'{pair.provenance}: the counterfactual {pair.counterfactual!r} is not the '
      f'prompt {pair.prompt!r} with the cue {pair.cue!r} taken out: build the prompt '
      'from the counterfactual by putting the cue, with its separator, into it.'
    )
  return start


def _difference(prompt: str, counterfactual: str) -> str:
  """The span of the prompt outside of what both begin and end with.

  Where the counterfactual is the prompt without a span, that may be taken to begin in
  several places; the last is taken where it cuts no word, or the last of all.
  """
  before = shared(prompt, counterfactual)
  after = shared(prompt[::-1], counterfactual[::-1])
  size, least = len(prompt) - len(counterfactual), len(counterfactual) - after
  if before < least or size < 0:
    return prompt[before : len(prompt) - min(after, len(counterfactual) - before)]
  cuts = lambda i: prompt[max(i - 1, 0) : i + 1].isalnum() and 0 < i < len(prompt)
  starts = range(before, max(least, 0) - 1, -1)
  start = next((i for i in starts if not cuts(i) and not cuts(i + size)), before)
  return prompt[start : start + size]


def _named(cue: str, options: tuple[str, ...]) -> int:
  """The one option that a cue names as a whole word; NO_OPTION: none or several."""
  named = [
    i for i, x in enumerate(options) if re.search(rf'(?<!\w){re.escape(x)}(?!\w)', cue)
  ]
  return named[0] if len(named) == 1 else NO_OPTION


def shared(a: str, b: str) -> int:
  """Length of the longest common beginning."""
  lengths = range(1, min(len(a), len(b)) + 1)
  return bisect.bisect_left(lengths, True, key=lambda n: a[:n] != b[:n])


def features() -> tfds.features.FeaturesDict:
  """The TFDS features of a pair, one per field."""
  text = tfds.features.Text()
  return tfds.features.FeaturesDict(
    {
      'prompt': text,
      'counterfactual': text,
      'cue': text,
      'cue_kind': text,
      'cue_option': np.int32,
      'options': tfds.features.Sequence(text),
      'group': text,
      'provenance': text,
    }
  )


def read(builder: tfds.core.DatasetBuilder, split: str) -> list[Pair]:
  """All pairs of a prepared split, in the order of its files."""
  source = builder.as_data_source(split)
  return [_pair(x) for x in source.__getitems__(range(len(source)))]


def _pair(example: dict[str, Any]) -> Pair:
  decoded = {k: v.decode() if isinstance(v, bytes) else v for k, v in example.items()}
  decoded['options'] = tuple(option.decode() for option in example['options'])
  decoded['cue_option'] = int(example['cue_option'])
  return Pair(**decoded)


def columns(found: Sequence[Pair]) -> dict[str, list]:
  """Pairs as columns of a table, one per field."""
  return {
    field.name: [getattr(pair, field.name) for pair in found]
    for field in dataclasses.fields(Pair)
  }


def from_columns(columns: Mapping[str, Sequence]) -> list[Pair]:
  """The pairs of such columns."""
  columns = dict(columns) | {'options': map(tuple, columns['options'])}
  return [
    Pair(*row) for row in zip(*(columns[f.name] for f in dataclasses.fields(Pair)))
  ]


def digest(pairs: Iterable[Pair]) -> str:
  """SHA-256 of the pairs in their order: what a label set was made for."""
  hashed = hashlib.sha256()
  for pair in pairs:
    hashed.update(repr(tuple(vars(pair).values())).encode())
  return hashed.hexdigest()
