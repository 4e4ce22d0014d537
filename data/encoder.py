"""Text to token ids, in which no text can spell a control token."""

from collections.abc import Iterable, Sequence
import itertools
import json
import re
import secrets
from typing import Any

import tokenizers
import transformers

Tokenizer = transformers.PreTrainedTokenizerFast


def describe(tokenizer: Tokenizer) -> str:
  """How errors name a tokenizer."""
  return f'The tokenizer {tokenizer.name_or_path or "of the task"!r}'


def state(tokenizer: Tokenizer) -> dict[str, Any]:
  """The tokenizer as its JSON, less the settings that its last call left behind."""
  found = json.loads(tokenizer.backend_tokenizer.to_str())
  return found | {'truncation': None, 'padding': None}


class Encoder:
  """Turns text into token ids; whatever it says, it is text.

  Control tokens are the added tokens of a tokenizer (`<|im_end|>`, `<bos>`, `[INST]`,
  `<think>`), special or not. In a copy of the tokenizer each of them keeps its id and
  gets a name that nobody can guess: what was its name is text like any other. Only
  `mark` writes the new names. Added tokens that are not special and made of letters,
  digits and blanks alone (Gemma's line breaks, words added to a vocabulary) stay as
  they are: they are text. Markers that a model reads as ordinary text (`[INST]` where
  it is no token) cannot be told from data that say the same.

  transformers has `split_special_tokens`, which splits special tokens alone and not
  `<think>`, and `sanitize_control_tokens`, which fails on texts that a Unigram model
  spells and keeps no offsets; both let a template look at what contents say.

  Attributes:
    control: ids of the control tokens by name.
  """

  def __init__(self, tokenizer: Tokenizer):
    """Copies the tokenizer, which takes seconds where the vocabulary is large."""
    self._tokenizer = tokenizer
    copy = state(tokenizer)
    added = [token for token in copy['added_tokens'] if not _is_text(token)]
    self.control = {token['content']: token['id'] for token in added}
    secret = secrets.token_hex(16)
    # A digit at the end: what follows cannot compose with it into another character.
    self._names = {name: f'{secret}x{i}x0' for name, i in self.control.items()}
    self._marks = re.compile(f'{secret}x([0-9]+)x0')
    # The longest name first, as the tokenizer itself prefers it.
    longest = sorted(added, key=lambda token: len(token['content']), reverse=True)
    self._control_names = re.compile('|'.join(map(_pattern, longest)) or '(?!)')
    for token in added:
      token['content'] = self._names[token['content']]
      token['single_word'] = False  # or the text beside it could break it
    # What a tokenizer makes of words that it does not know is no control token.
    self._checked = {token['id'] for token in added} - {_unknown(copy['model'])}
    _rename(copy['model'], self._names)
    copy['post_processor'] = None  # puts control tokens around text
    self._backend = tokenizers.Tokenizer.from_str(json.dumps(copy))

  def mark(self, text: str) -> str:
    """Trusted text (a template's own), its control tokens to be read as such."""
    return self._control_names.sub(lambda match: self._names[match[0]], text)

  def marks(self, text: str) -> list[tuple[int, int, int]]:
    """Start, end and id of the control tokens of a marked text."""
    return [(m.start(), m.end(), int(m[1])) for m in self._marks.finditer(text)]

  def encode(self, texts: Iterable[str]) -> list[list[int]]:
    """Token ids of each text; nothing is put in front or behind, and nothing cut.

    Raises:
      ValueError: a text that the tokenizer cannot read, or in which it does not read
        the control tokens that are marked there, and no others.
    """
    texts = list(texts)
    try:
      encoded = self._backend.encode_batch_fast(texts, add_special_tokens=False)
    except Exception as e:  # tokenizers raises nothing more special
      raise ValueError(
        f'{describe(self._tokenizer)} cannot read {self._unreadable(texts)!r} ({e}): '
        'the text was written for another tokenizer.'
      ) from e
    rows = [e.ids for e in encoded]
    for text, row in zip(texts, rows):
      self._check(text, row)
    return rows

  def offsets(self, text: str) -> list[tuple[int, int]]:
    """Start and end in the text of each of its tokens; (i, i) where one has none."""
    return self._backend.encode(text, add_special_tokens=False).offsets

  def _check(self, text: str, row: list[int]) -> None:
    marks = [mark for mark in self.marks(text) if mark[2] in self._checked]
    found = [token for token in row if token in self._checked]
    wanted = [token for *_, token in marks]
    if found == wanted:
      return
    pairs = enumerate(itertools.zip_longest(wanted, found))
    first = next(i for i, (a, b) in pairs if a != b)
    start, end, token = marks[min(first, len(marks) - 1)] if marks else (0, 0, found[0])
    name = next(name for name, i in self.control.items() if i == token)
    before, after = (self._marks.sub('', x) for x in (text[:start], text[end:]))
    raise ValueError(
      f'{describe(self._tokenizer)} does not read its control token {name!r} as such '
      f'between {before[-20:]!r} and {after[:20]!r}: set "normalized" to false in its '
      'entry of added_tokens in tokenizer.json (and of added_tokens_decoder in '
      'tokenizer_config.json, if it is there).'
    )

  def _unreadable(self, texts: Sequence[str]) -> str:
    """The first text with a word that a whole-word tokenizer does not know."""
    words = self._tokenizer.get_vocab().keys() - self.control.keys()
    return next((t for t in texts if set(t.split()) - words), texts[0])


def _pattern(token: dict[str, Any]) -> str:
  name = re.escape(token['content'])
  return rf'(?<!\w){name}(?!\w)' if token['single_word'] else name


def _is_text(token: dict[str, Any]) -> bool:
  return not token['special'] and not re.search(r'[^\w\s▁]', token['content'])


def _unknown(model: dict[str, Any]) -> int | None:
  """Id of what stands for unknown words, as the model names it; before renaming."""
  if model.get('unk_id') is not None:
    return model['unk_id']
  vocab = model['vocab']
  return vocab.get(model.get('unk_token')) if isinstance(vocab, dict) else None


def _rename(model: dict[str, Any], names: dict[str, str]) -> None:
  """Renames entries of a tokenizer model, in place, so that no merge makes them."""
  vocab = model['vocab']
  if isinstance(vocab, dict):
    model['vocab'] = {names.get(name, name): i for name, i in vocab.items()}
  else:  # Unigram: an entry's id is its place
    model['vocab'] = [(names.get(name, name), score) for name, score in vocab]
  if 'merges' in model:
    model['merges'] = [
      (left, right)
      for left, right in model['merges']
      if names.keys().isdisjoint((left, right, left + right))
    ]
  if model.get('unk_token') in names:
    model['unk_token'] = names[model['unk_token']]
