"""How a question is put to a model: as plain words, or as a chat.

A format turns texts into the token ids that a model reads up to the position where its
answer begins, and into those of the answer as the model would write it. Whatever the
texts say, they are text: see encoder.Encoder.
"""

from collections.abc import Sequence
import functools
import hashlib
import json

from data import encoder
from data import readers
from data import templates
from data import tokens
from data import vocabulary
from data.asking import Format, Turns, turns_of, valid

# What every chat is held against transformers with: blanks, line breaks, signs.
_QUESTION = (
  'Which is a gas at 20 °C, if x < y & y > "z"?  It\'s one of:\n\n(A) iron\n(B) '
  'helium\n'
  + 'A template that cuts or wraps what is long is seen by this. ' * 12
  + 'Which?'
)
_ANSWERS = ('B', 'It would be:\n\n"helium",  a café\'s balloon')


class Plain(Format):
  """Plain words: the start token, if there is one, and the text; answers do not end.

  The turns of a conversation are joined by blanks. What the tokenizer and its
  checkpoint name as end tokens ends a reply.
  """

  def __init__(self, tokenizer: tokens.Tokenizer, rows: int | None = None):
    """Takes a tokenizer.

    Args:
      tokenizer: of the model.
      rows: of the model's embedding; default: enough.

    Raises:
      ValueError: neither a padding nor an end token; a start or end token without a
        row; a tokenizer that loses blanks.
    """
    super().__init__(tokenizer, rows)
    bos = tokenizer.bos_token_id
    self.end_tokens = self._possible(*tokens.ends(tokenizer))
    self.fingerprint = _digest(
      'plain', tokens.fingerprint(tokenizer), *self._further_ends()
    )
    self._start = [] if bos is None else [bos]
    vocabulary.check_rows(tokenizer, [self._start], rows)

  def prompts(self, items: Sequence[Turns]) -> list[list[int]]:
    """Token ids of each question or conversation.

    Raises:
      DataError: a word that the tokenizer does not know, turns that do not end with
        the user's, an item without any token.
    """
    texts = [' '.join(turns_of(item)) for item in items]
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
    return self._encode(map(valid, texts))


class Chat(Format):
  """The chat template of a tokenizer.

  The template is rendered around stand-ins for the contents (templates.Template), which
  are stripped of outer blanks, as templates do, and put in their places. For ordinary
  contents the ids are those of transformers' `apply_chat_template`, which is tried on
  samples. An empty content is rendered as nothing between the template's own text. No
  start token is added to the one that a template writes or omits.

  An answer begins where the generation prompt ends; a blank that the template puts
  there belongs to the answer, and so does the end of turn. Where the template's own
  rendering of a finished conversation begins with the prompt, both together are that.

  Without thinking the first token after a prompt is that of an answer: what else the
  template has there (empty thoughts, the name of a channel) ends the prompt, and a
  block of thoughts that a generation prompt leaves open is closed. With thinking,
  empty thoughts are part of an answer that is trained on.

  A reply ends with the end of turn, or what the tokenizer and its checkpoint name as
  end tokens.
  """

  def __init__(
    self,
    tokenizer: tokens.Tokenizer,
    thinking: bool = False,
    date: str = templates.DATE,
    rows: int | None = None,
    system: str | None = None,
  ):
    """Reads the template.

    Args:
      tokenizer: with a chat template.
      thinking: whether the model may think before it answers.
      date: the day, in ISO form, for templates that write it.
      rows: of the model's embedding; default: enough.
      system: content of a system turn that begins each chat, '' for one that says
        nothing; None: what the template has of its own.

    Raises:
      ValueError: no chat template, or one that fails, drops contents, does not end an
        answer, does not know of thinking, writes a token without a row, or is read
        otherwise than by transformers; a tokenizer that loses blanks; a system turn
        with control tokens.
    """
    super().__init__(tokenizer, rows)
    self.thinking, self.system = thinking, system
    self._name = encoder.describe(tokenizer)
    if system and self._encoder.marks(self._encoder.mark(system)):
      raise ValueError(
        f'{self._name} would read a control token in the system turn {system[:60]!r}: '
        'leave it out.'
      )
    self._template = templates.Template(tokenizer, thinking, date, system)
    self._pieces = functools.cache(self._marked)
    self._places = self._template.places()
    self._opening, self._before, self._after, end_token = self._answer_places()
    self.end_tokens = self._possible(end_token, *tokens.ends(tokenizer))
    asked = self._template.text(['x'], True) + self._places.lead
    self.fingerprint = _digest(
      'chat',
      tokens.fingerprint(tokenizer),
      thinking,
      asked,
      *self._further_ends(end_token),
    )
    self._hold_against_transformers()

  def prompts(self, items: Sequence[Turns]) -> list[list[int]]:
    """Token ids of each question or conversation, with the generation prompt.

    Raises:
      DataError: turns that do not end with the user's, text that is no valid Unicode.
      ValueError: a template that fails on a conversation of so many turns.
    """
    texts = []
    for item in items:
      contents = [text.strip() for text in turns_of(item)]
      first, *others = self._pieces(len(contents))
      texts.append(first + ''.join(map(''.join, zip(contents, others))))
    return self._encode(texts)

  def offsets(self, item: str) -> list[tuple[int, int]]:
    """See Format.offsets."""
    before, after = self._pieces(1)
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
    contents = [valid(text).strip() for text in texts]
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

  def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
    """Texts of replies up to their end; with thinking, of what follows the thoughts.

    Of a reply whose thoughts do not end that is nothing.
    """
    texts = super().decode(rows)
    if not self.thinking:
      return texts
    end = self._places.thoughts_end
    return [text.split(end)[-1].strip() if end in text else '' for text in texts]

  def _answer_places(self) -> tuple[str, str, str, int]:
    """Marked text: end of the prompt, before and after an answer; the end of turn."""
    prompt = self._pieces(1)[-1]
    before, after = map(self._encoder.mark, (self._places.before, self._places.after))
    # A control token divides text, so nothing before the last one matters.
    starts = [start for start, _, _ in self._encoder.marks(prompt)]
    opening = prompt[starts[-1] :] if starts else prompt
    ends = self._encoder.marks(after)
    if not ends:
      raise ValueError(
        f'{self._name} has a chat template that puts no end token after an answer, so '
        'that a model could not learn to stop: add one to the template.'
      )
    _, end, end_token = ends[0]
    return opening, before, after[:end], end_token

  def _marked(self, turns: int) -> list[str]:
    """The template's own text around the contents of turns, marked."""
    *pieces, last = self._template.pieces(turns, True)
    return [self._encoder.mark(piece) for piece in (*pieces, last + self._places.lead)]

  def _hold_against_transformers(self) -> None:
    """Raises ValueError where transformers reads a conversation otherwise.

    A template that fails on three turns does so again when it is asked for them.
    """
    ids, places = self._template.ids, self._places
    end = self.tokenizer.decode(self.end_tokens[0])
    after = places.after.partition(end)[0] + end
    [prompt], answers = self.prompts([_QUESTION]), self.answers(_ANSWERS)
    self._template.compare(prompt, ids([_QUESTION], True, places.lead), 1)
    for text, answer in zip(_ANSWERS, answers):
      own, theirs = prompt + answer, ids([_QUESTION, text], False)
      if not places.finished:  # the template takes empty thoughts away
        theirs = ids([_QUESTION], True, places.lead + places.before + text + after)
      self._template.compare(own, theirs[: len(own)], 2)
    if self.thinking:
      self._check_thoughts()
    turns = [_QUESTION, _ANSWERS[1], _QUESTION]
    try:
      [own], theirs = self.prompts([turns]), ids(turns, True, places.lead)
    except ValueError:
      return
    self._template.compare(own, theirs, 3)

  def _check_thoughts(self) -> None:
    """Raises ValueError where the answer of a reply with thoughts is not found."""
    end = self._places.thoughts_end
    opening, _, rest = self._places.before.rpartition(end)
    reply = f'{opening}{_ANSWERS[1]}{end}{rest}{_ANSWERS[0]}{self._places.after}'
    [found] = self.decode(self._encode([self._encoder.mark(reply)]))
    if found != _ANSWERS[0]:
      raise ValueError(
        f'{self._name} writes thoughts that end in {end!r} and then '
        f'{_ANSWERS[0]!r}, and {found!r} is read as the answer: make {end!r} no end '
        'token (eos_token_id of generation_config.json), or leave thinking off.'
      )


def _digest(*parts: object) -> str:
  return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
