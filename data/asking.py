"""What is asked, and what the formats share."""

import abc
from collections.abc import Iterable, Sequence
import itertools

import numpy as np

from data import encoder
from data import readers
from data import tokens
from data import vocabulary

# A question, or a conversation that ends in one: user, assistant, user, ...
Turns = str | Sequence[str]


class Format(abc.ABC):
  """What the formats share.

  Every id that it gives has a row in the model's embedding.

  Attributes:
    tokenizer: of the model.
    end_tokens: ids that end a reply.
    pad_token: id that fills rows.
    fingerprint: SHA-256 of everything that decides how text becomes tokens.
  """

  end_tokens: tuple[int, ...]
  fingerprint: str

  def __init__(self, tokenizer: tokens.Tokenizer, rows: int | None):
    """See the formats; `rows`: of the model's embedding, None: enough.

    Raises:
      ValueError: neither a padding nor an end token; a tokenizer that loses blanks.
    """
    self.tokenizer = tokenizer
    self.rows = rows
    self.pad_token = tokens.padding(tokenizer, rows)
    self._encoder = encoder.Encoder(tokenizer)
    vocabulary.check_blanks(tokenizer, self._encoder.encode)

  @abc.abstractmethod
  def prompts(self, items: Sequence[Turns]) -> list[list[int]]:
    """Token ids of each question or conversation, up to where the answer begins."""

  @abc.abstractmethod
  def answers(self, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each answer."""

  @abc.abstractmethod
  def offsets(self, item: str) -> list[tuple[int, int]]:
    """Where each token of a question's prompt stands in its text.

    Returns:
      Start and end, in characters; (0, 0) for tokens of the format's own.
    """

  def option_tokens(self, options: Sequence[Sequence[str]]) -> np.ndarray:
    """First answer token of each option of each item: see tokens.option_tokens."""
    return tokens.option_tokens(self.answers, options)

  def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
    """Texts of replies up to their end; control tokens before it are written out.

    So is what is no token, as U+FFFD; see vocabulary.decode.
    """
    own = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id)
    ends = {*self.end_tokens, *({self.pad_token} & {*own})}
    whole = [list(itertools.takewhile(lambda t: t not in ends, row)) for row in rows]
    return [text.strip() for text in vocabulary.decode(self.tokenizer, whole)]

  def _possible(self, *end_tokens: int | None) -> tuple[int, ...]:
    """End tokens, each once, that the model can generate.

    Raises:
      ValueError: there are some, but none that it can.
    """
    known = dict.fromkeys(t for t in end_tokens if t is not None)
    possible = tuple(t for t in known if self.rows is None or t < self.rows)
    if not possible:
      vocabulary.check_rows(self.tokenizer, [[*known]], self.rows)
    return possible

  def _further_ends(self, *others: int) -> list[list[int]]:
    """End tokens of the checkpoint's files alone, for the fingerprint; or nothing."""
    further = {*self.end_tokens} - {self.tokenizer.eos_token_id, *others}
    return [sorted(further)] if further else []

  def _encode(self, texts: Iterable[str]) -> list[list[int]]:
    try:
      found = self._encoder.encode(texts)
      vocabulary.check_rows(self.tokenizer, found, self.rows)
      return found
    except ValueError as e:
      raise readers.DataError(str(e)) from e


def turns_of(item: Turns) -> list[str]:
  """The turns, user, assistant, ..., user; raises DataError unless they are that."""
  turns = [item] if isinstance(item, str) else list(item)
  if len(turns) % 2 == 0:
    raise readers.DataError(
      f'A conversation of {len(turns)} turns does not end with a question: give the '
      "user's and the model's turns in alternation, first and last the user's."
    )
  return [valid(text) for text in turns]


def valid(text: str) -> str:
  """The same; raises DataError where it is no valid Unicode."""
  try:
    text.encode()
  except UnicodeEncodeError as e:
    raise readers.DataError(
      f'The text {text[:60]!r} is no valid Unicode: {text[e.start]!r} at character '
      f'{e.start} is half of a pair. Repair the file that it comes from.'
    ) from e
  return text
