"""A tokenizer's chat template: what it writes around the contents of turns.

The template is rendered around stand-ins, so that it cannot look at what contents say,
and as if on one fixed day, so that the same conversation has the same tokens tomorrow.
"""

from collections.abc import Sequence
import datetime
import itertools
import os
import re
import secrets
from typing import NamedTuple

import jinja2
import jinja2.meta

from data import encoder
from data.dates import DATE, stopped

# How templates name the switch of thoughts: Qwen3, GLM and SmolLM3; DeepSeek and
# Granite; Command A; others.
_SWITCHES = ('enable_thinking', 'thinking', 'reasoning', 'enable_reasoning')
_ROLES = ('user', 'assistant')
# What may open or close a block: <think>, <|END_THINKING|>, [THINK] and [/THINK] of
# Magistral, ◁think▷ of Kimi.
_MARKER = re.compile(r'<[^<>\s]+>|\[/?[A-Z_]+\]|◁[^◁▷\s]+▷')
# What closes one: </think>, [/THINK], ◁/think▷; <|END_THINKING|> of Command A and
# <|end_of_thought|> of OpenThinker; <|inner_suffix|> of Apertus; <channel|> of Gemma 4.
_CLOSES = re.compile(r'^\W{1,2}/|end_|_end|suffix|^<[^|].*\|>$', re.IGNORECASE)
# Names of blocks whose content is no answer: <think>, <thought> of EXAONE Deep,
# <reasoning>, <seed:think> of Seed-OSS, <|START_THINKING|>, and what others call them.
_THOUGHTS = re.compile(
  'think|thought|reason|reflect|scratchpad|analysis|plan|monologue', re.IGNORECASE
)
# What is closed by the same name after a slash; any other open block is refused.
_MIRRORED = re.compile(r'([<\[])([\w:-]+)([>\]])')


class Places(NamedTuple):
  """What stands around an answer, as text.

  Attributes:
    prompt: after the question, up to where the template's generation prompt ends.
    lead: what has to follow there, so that an answer and no thoughts come next.
    before: written before each answer: a blank, or empty thoughts.
    after: follows an answer: its end of turn, and what is between turns.
    finished: whether a finished turn is the prompt, the lead and the answer. Otherwise
      the template takes the empty thoughts away.
  """

  prompt: str
  lead: str
  before: str
  after: str
  finished: bool

  @property
  def thoughts_end(self) -> str:
    """The marker after which the answer of a reply with thoughts comes."""
    return _MARKER.findall(self.before)[-1]


class Template:
  """The chat template of a tokenizer, with or without thoughts, on one day."""

  def __init__(
    self,
    tokenizer: encoder.Tokenizer,
    thinking: bool,
    date: str = DATE,
    system: str | None = None,
  ):
    """Reads the template.

    Args:
      tokenizer: whose template it is.
      thinking: whether the model may think before it answers.
      date: the day, in ISO form.
      system: content of a system turn before all others; None: what the template has
        of its own.

    Raises:
      ValueError: there is none, it draws at random, the date is no date, or there is no
        place for the system turn.
    """
    self._tokenizer = tokenizer
    self._thinking = thinking
    self._date = date
    self._system = system
    self._name = encoder.describe(tokenizer)
    if not tokenizer.chat_template:
      raise ValueError(
        f'{self._name} has no chat template (no chat_template.jinja, and no field '
        'chat_template in its tokenizer_config.json): use the plain format, or the '
        'instruction-tuned model of the family.'
      )
    try:
      day = datetime.datetime.fromisoformat(date)
      source = tokenizer.get_chat_template()
    except ValueError as e:
      raise ValueError(f'{self._name}, its chat template on {date!r}: {e}') from e
    if re.search(r'\|\s*random\b|\blipsum\s*\(', source):
      raise ValueError(
        f'{self._name} has a chat template that draws at random (the filter random, or '
        'lipsum), so that no prompt could be asked twice: use another template.'
      )
    self._source = stopped(source, day)
    self._day = day.strftime('%d %b %Y')
    self._switches = [x for x in _SWITCHES if re.search(rf'\b{x}\b', source)]
    if system and system not in self.text(['x'], True):
      raise ValueError(
        f'{self._name} has a chat template that does not write the system turn '
        f'{system[:60]!r}: leave it out, or put it into the task.'
      )

  def text(self, contents: Sequence[str], generation: bool) -> str:
    """The template around trusted contents: of user, assistant, user, ...

    Raises:
      ValueError: the template fails.
    """
    return self._apply(contents, generation, tokenize=False)

  def ids(self, contents: Sequence[str], generation: bool, more: str = '') -> list[int]:
    """The same, and a text that follows it, in token ids as transformers reads it."""
    if not more:
      return self._apply(contents, generation, tokenize=True)['input_ids']
    text = self.text(contents, generation) + more
    return self._tokenizer(text, add_special_tokens=False)['input_ids']

  def compare(self, own: list[int], theirs: list[int], turns: int) -> None:
    """Raises ValueError where token ids are not those that transformers reads."""
    if own == theirs:
      return
    differs = [a != b for a, b in zip(own, theirs)]
    first = differs.index(True) if True in differs else len(differs)
    start = max(first - 2, 0)
    here, there = (
      self._tokenizer.convert_ids_to_tokens(ids[start : first + 4])
      for ids in (own, theirs)
    )
    raise ValueError(
      f'{self._name}: its chat template around {turns} turns is {here} from token '
      f'{start} on, but {there} as transformers reads it: in chat_template.jinja look '
      'at blanks beside contents and at what is done to contents, in the added_tokens '
      'of tokenizer.json at normalized, lstrip, rstrip and single_word.'
    )

  def pieces(self, turns: int, generation: bool) -> list[str]:
    """The template's own text around the contents of turns.

    Raises:
      ValueError: the template fails, or a content does not stand once in its place.
    """
    secret = secrets.token_hex(16)
    stand_ins = [f'{secret}x{i}y' for i in range(turns)]
    text = self.text(stand_ins, generation)
    if re.findall(f'{secret}x[0-9]+y', text) != stand_ins:
      raise ValueError(
        f'{self._name} has a chat template that drops, repeats or alters a turn of a '
        f'conversation of {turns}: use another template.'
      )
    return re.split(f'{secret}x[0-9]+y', text)

  def places(self) -> Places:
    """Where an answer begins and ends.

    Raises:
      ValueError: a generation prompt that is not how a finished turn begins, up to
        empty thoughts; thoughts that are open there and cannot be closed; thinking
        where there is none.
    """
    prompt = self.pieces(1, True)[-1]
    _, turn, after = self.pieces(2, False)
    own = self._generation(prompt)
    if self._thinking and (closing := self._closing(own)):
      # Its blanks would join those that the model has already read.
      return Places(prompt, '', closing.lstrip(), after, False)
    same = len(os.path.commonprefix([prompt, turn]))
    extra, rest = prompt[same:], turn[same:]
    markers = _MARKER.findall(extra) or ['']
    thoughts = _THOUGHTS.search(markers[-1]) or _CLOSES.search(markers[-1])
    if (extra.strip() and not thoughts) or (extra and rest.strip()):
      raise ValueError(
        f'{self._name} has a chat template whose generation prompt ends in '
        f'{prompt[-40:]!r}, while a finished turn has {turn[-40:]!r} before its '
        'answer: change the end of the generation prompt in its chat_template.jinja.'
      )
    if self._thinking:
      before = rest if _MARKER.search(rest) else self._no_thoughts(prompt)
      before += self._closing(before)
      return Places(prompt, '', before, after, before == rest and not extra)
    if extra.strip():  # thoughts, of which a finished turn has none
      return Places(prompt, self._closing(extra), '', after, False)
    # Blanks alone before an answer are the model's to write, as Mistral's are.
    lead = rest.rstrip(' ')
    closing = self._closing(own + rest)
    self._check_switches(own + rest)
    return Places(prompt, lead + closing, rest[len(lead) :], after, not closing)

  def _generation(self, prompt: str) -> str:
    """Of a prompt what the user's turn does not end with, where that can be asked."""
    try:
      turn = self.pieces(1, False)[-1]
    except ValueError:  # a template that wants an answer
      return prompt
    return prompt[len(os.path.commonprefix([prompt, turn])) :]

  def _check_switches(self, before: str) -> None:
    """Raises ValueError where a field that is not known may turn thoughts on.

    Args:
      before: what stands before an answer; thoughts there were dealt with.
    """
    source = jinja2.Environment(extensions=['jinja2.ext.loopcontrols'])
    try:
      fields = jinja2.meta.find_undeclared_variables(source.parse(self._source))
    except jinja2.TemplateSyntaxError:  # a tag of transformers' own
      return
    unknown = sorted(x for x in fields - {*_SWITCHES} if _THOUGHTS.search(x))
    opened = [m for m in _MARKER.findall(self._source) if _THOUGHTS.search(m)]
    shown = any(_THOUGHTS.search(m) for m in _MARKER.findall(before))
    if unknown and opened and not shown and not self._switches:
      raise ValueError(
        f'{self._name} has a chat template in which {", ".join(unknown)} says how '
        f'much to think ({opened[0]}); known are {", ".join(_SWITCHES)} alone, so that '
        'an answer may be asked for where thoughts come: rename it in '
        'chat_template.jinja.'
      )

  def _closing(self, text: str) -> str:
    """What closes the thoughts that are open at the end of a text; '' if none are."""
    markers = [m for m in _MARKER.finditer(text) if _THOUGHTS.search(m[0])]
    if not markers or _CLOSES.search(markers[-1][0]):
      return ''
    last = markers[-1]
    mirrored, inside = _MIRRORED.fullmatch(last[0]), text[last.end() :]
    if not mirrored:
      raise ValueError(
        f'{self._name} has a chat template whose generation prompt opens a block '
        f'({last[0]!r}) in which an answer would be no answer: close the block in its '
        'chat_template.jinja, before the answer begins.'
      )
    blank = inside if not inside.strip() else '\n'
    return f'{blank}{mirrored[1]}/{mirrored[2]}{mirrored[3]}{2 * blank}'

  def _no_thoughts(self, prompt: str) -> str:
    """Empty thoughts after a prompt, as the template writes them without thinking."""
    off = Template(self._tokenizer, False, self._date, self._system).places()
    whole = off.prompt + off.lead
    thoughts = whole.removeprefix(prompt) if whole.startswith(prompt) else ''
    if not _MARKER.search(thoughts):
      raise ValueError(
        f'{self._name} has a chat template that does not know of thinking (it writes '
        f'no thoughts before an answer, with or without {", ".join(_SWITCHES)}): '
        'leave thinking off.'
      )
    return thoughts

  def _apply(self, contents: Sequence[str], generation: bool, tokenize: bool):
    messages = [
      {'role': role, 'content': text}
      for role, text in zip(itertools.cycle(_ROLES), contents)
    ]
    if self._system is not None:
      messages.insert(0, {'role': 'system', 'content': self._system})
    try:
      return self._tokenizer.apply_chat_template(
        messages,
        chat_template=self._source,
        tokenize=tokenize,
        add_generation_prompt=generation,
        date_string=self._day,
        **dict.fromkeys(self._switches, self._thinking),
      )
    except Exception as e:  # a template is a program: it can fail in any way
      cause = ' '.join(str(e).split())[:300] or type(e).__name__
      system = '' if self._system is None else ' after a system turn'
      raise ValueError(
        f'{self._name} has a chat template that fails on a conversation of '
        f'{len(contents)} turns{system} ({cause}): use another template, or the plain '
        'format.'
      ) from e
