"""How a question is put to a model: as plain words, or as a chat.

A format turns texts into the token ids that a model reads up to the position where its
answer begins, and into those of the answer as the model would write it. Whatever the
texts say, they are text: see encoder.Encoder.
"""

import abc
from collections.abc import Iterable, Sequence
import functools
import hashlib
import itertools
import json
import re
import secrets

import jinja2
import numpy as np

from data import encoder
from data import readers
from data import tokens

# A question, or a conversation that ends in one: user, assistant, user, ...
Turns = str | Sequence[str]

# Llama 3.1's default; its later templates would write the date of the day.
_DATE = '26 Jul 2024'
_ROLES = ('user', 'assistant')


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
    """See the formats; `rows`: of the model's embedding, None: enough."""
    self.tokenizer = tokenizer
    self.rows = rows
    self.pad_token = tokens.padding(tokenizer, rows)
    self._encoder = encoder.Encoder(tokenizer)

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

    So is what is no token, as U+FFFD; see tokens.decode.
    """
    own = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id)
    ends = {*self.end_tokens, *({self.pad_token} & {*own})}
    whole = [list(itertools.takewhile(lambda t: t not in ends, row)) for row in rows]
    return [text.strip() for text in tokens.decode(self.tokenizer, whole)]

  def _possible(self, *end_tokens: int | None) -> tuple[int, ...]:
    """End tokens, each once, that the model can generate.

    Raises:
      ValueError: there are some, but none that it can.
    """
    known = dict.fromkeys(t for t in end_tokens if t is not None)
    possible = tuple(t for t in known if self.rows is None or t < self.rows)
    if not possible:
      tokens.check_rows(self.tokenizer, [[*known]], self.rows)
    return possible

  def _encode(self, texts: Iterable[str]) -> list[list[int]]:
    try:
      found = self._encoder.encode(texts)
      tokens.check_rows(self.tokenizer, found, self.rows)
      return found
    except ValueError as e:
      raise readers.DataError(str(e)) from e


class Plain(Format):
  """Plain words: the start token, if there is one, and the text; answers do not end.

  The turns of a conversation are joined by blanks. The tokenizer's end token, if it has
  one, ends a reply.
  """

  def __init__(self, tokenizer: tokens.Tokenizer, rows: int | None = None):
    """Takes a tokenizer.

    Args:
      tokenizer: of the model.
      rows: of the model's embedding; default: enough.

    Raises:
      ValueError: neither a padding nor an end token; a start or end token without a
        row.
    """
    super().__init__(tokenizer, rows)
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    self.end_tokens = self._possible(eos)
    self.fingerprint = _digest('plain', tokens.fingerprint(tokenizer))
    self._start = [] if bos is None else [bos]
    tokens.check_rows(tokenizer, [self._start], rows)

  def prompts(self, items: Sequence[Turns]) -> list[list[int]]:
    """Token ids of each question or conversation.

    Raises:
      DataError: a word that the tokenizer does not know, turns that do not end with
        the user's, an item without any token.
    """
    texts = [' '.join(_turns(item)) for item in items]
    rows = [self._start + ids for ids in self._encode(texts)]
    if [] in rows:
      raise readers.DataError(
        f'Item {rows.index([])} has no tokens: there is nothing to ask.'
      )
    return rows

  def offsets(self, item: str) -> list[tuple[int, int]]:
    """See Format.offsets."""
    return [(0, 0)] * len(self._start) + self._encoder.offsets(item)

  def answers(self, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each answer; nothing marks its end."""
    return self._encode(map(_valid, texts))


class Chat(Format):
  """The chat template of a tokenizer.

  The template is rendered around stand-ins for the contents, so that it cannot look at
  what they say; contents are then stripped of outer blanks, as templates do, and put in
  their places. For ordinary contents the ids are those of transformers'
  `apply_chat_template`. An empty content is rendered as nothing between the template's
  own text. No start token is added to the one that a template writes or omits.

  An answer begins where the generation prompt ends: what the template puts there (a
  blank, or an empty block of thoughts) belongs to the answer, and so does the end of
  turn. Where the template's own rendering of a finished conversation begins with the
  prompt, prompt and answer together are that rendering, up to its end of turn.

  A reply ends with the end of turn, or the tokenizer's end token if it is another one.
  """

  def __init__(
    self, tokenizer: tokens.Tokenizer, thinking: bool = False, rows: int | None = None
  ):
    """Reads the template.

    Args:
      tokenizer: with a chat template.
      thinking: whether the model may think before it answers. Without, a template
        that knows of thoughts (Qwen3) puts an empty block of them into the prompt,
        and the first token of a reply is that of its answer.
      rows: of the model's embedding; default: enough.

    Raises:
      ValueError: no chat template, or one that fails, drops contents, does not end an
        answer, does not know of thinking or writes a token without a row.
    """
    super().__init__(tokenizer, rows)
    self.thinking = thinking
    self._name = encoder.describe(tokenizer)
    self._pieces = functools.cache(self._render)
    self._check_template()
    self._opening, self._before, self._after, end_token = self._answer_places()
    self._encode([f'{self._opening}{self._before}x{self._after}'])  # all has rows
    self.end_tokens = self._possible(end_token, tokenizer.eos_token_id)
    self.fingerprint = _digest(
      'chat', tokens.fingerprint(tokenizer), thinking, self._apply(['x'], True)
    )

  def prompts(self, items: Sequence[Turns]) -> list[list[int]]:
    """Token ids of each question or conversation, with the generation prompt.

    Raises:
      DataError: turns that do not end with the user's, text that is no valid Unicode.
    """
    texts = []
    for item in items:
      contents = [text.strip() for text in _turns(item)]
      first, *others = self._pieces(len(contents), True)
      texts.append(first + ''.join(map(''.join, zip(contents, others))))
    return self._encode(texts)

  def offsets(self, item: str) -> list[tuple[int, int]]:
    """See Format.offsets."""
    before, after = self._pieces(1, True)
    content = item.strip()
    blanks = len(item) - len(item.lstrip())
    places = []
    for start, end in self._encoder.offsets(before + content + after):
      start, end = (min(max(x - len(before), 0), len(content)) for x in (start, end))
      places.append((start + blanks, end + blanks) if start < end else (0, 0))
    return places

  def answers(self, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each answer, its end of turn included.

    Raises:
      DataError: an answer that would change the tokens of the prompt before it.
    """
    contents = [_valid(text).strip() for text in texts]
    opening, *rows = self._encode(
      [
        self._opening,
        *(self._opening + self._before + text + self._after for text in contents),
      ]
    )
    for row, text in zip(rows, contents):
      if row[: len(opening)] != opening:
        raise readers.DataError(
          f'{self._name} joins the beginning of the answer {text[:60]!r} with the end '
          'of the generation prompt of its chat template: no position divides the '
          'prompt from the answer. Use another wording, or another tokenizer.'
        )
    return [row[len(opening) :] for row in rows]

  def _check_template(self) -> None:
    if not self.tokenizer.chat_template:
      raise ValueError(
        f'{self._name} has no chat template (no chat_template.jinja, and no field '
        'chat_template in its tokenizer_config.json): use the plain format, or the '
        'instruction-tuned model of the family.'
      )
    if self.thinking and 'enable_thinking' not in self.tokenizer.get_chat_template():
      raise ValueError(
        f'{self._name} has a chat template that does not know of thinking (it never '
        'reads enable_thinking): leave thinking off.'
      )
    theirs = self.tokenizer(self._apply(['x'], True), add_special_tokens=False)
    if self.prompts(['x']) != [theirs['input_ids']]:
      raise ValueError(
        f'{self._name} does not read its chat template as its tokenizer.json says: '
        'save it anew as a plain PreTrainedTokenizerFast.'
      )

  def _answer_places(self) -> tuple[str, str, str, int]:
    """Marked text: end of the prompt, before and after an answer; the end of turn."""
    *_, prompt = self._pieces(1, True)
    _, before, after = self._pieces(2, False)
    # A control token divides text, so nothing before the last one matters.
    starts = [start for start, _, _ in self._encoder.marks(prompt)]
    opening = prompt[starts[-1] :] if starts else prompt
    before = before.removeprefix(prompt) if before.startswith(prompt) else ''
    ends = self._encoder.marks(after)
    if not ends:
      raise ValueError(
        f'{self._name} has a chat template that puts no end token after an answer, so '
        'that a model could not learn to stop: add one to the template.'
      )
    _, end, end_token = ends[0]
    return opening, before, after[:end], end_token

  def _render(self, turns: int, generation: bool) -> list[str]:
    """The template's own text around the contents of turns, marked."""
    secret = secrets.token_hex(16)
    stand_ins = [f'{secret}x{i}y' for i in range(turns)]
    text = self._apply(stand_ins, generation)
    if re.findall(f'{secret}x[0-9]+y', text) != stand_ins:
      raise ValueError(
        f'{self._name} has a chat template that drops, repeats or alters a turn of a '
        f'conversation of {turns}: use another template.'
      )
    pieces = re.split(f'{secret}x[0-9]+y', text)
    return [self._encoder.mark(piece) for piece in pieces]

  def _apply(self, contents: Sequence[str], generation: bool) -> str:
    """The template around trusted contents."""
    messages = [
      {'role': role, 'content': text}
      for role, text in zip(itertools.cycle(_ROLES), contents)
    ]
    try:
      return self.tokenizer.apply_chat_template(
        messages,
        tokenize=False,
        add_generation_prompt=generation,
        enable_thinking=self.thinking,
        date_string=_DATE,
      )
    except jinja2.TemplateError as e:
      raise ValueError(
        f'{self._name} has a chat template that fails on a conversation of '
        f'{len(contents)} turns ({e}): use another template.'
      ) from e


def _turns(item: Turns) -> list[str]:
  turns = [item] if isinstance(item, str) else list(item)
  if len(turns) % 2 == 0:
    raise readers.DataError(
      f'A conversation of {len(turns)} turns does not end with a question: give the '
      "user's and the model's turns in alternation, first and last the user's."
    )
  return [_valid(text) for text in turns]


def _valid(text: str) -> str:
  try:
    text.encode()
  except UnicodeEncodeError as e:
    raise readers.DataError(
      f'The text {text[:60]!r} is no valid Unicode: {text[e.start]!r} at character '
      f'{e.start} is half of a pair. Repair the file that it comes from.'
    ) from e
  return text


def _digest(*parts: object) -> str:
  return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
