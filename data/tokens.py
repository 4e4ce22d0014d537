"""Text to token arrays: tokenizers, prompts, completions, option tokens."""

from collections.abc import Iterable, Sequence
import hashlib
import itertools
import os

import numpy as np
import tokenizers

# Only tokenizers are used: that PyTorch is not installed is no news.
os.environ.setdefault('TRANSFORMERS_VERBOSITY', 'error')
import transformers  # noqa: E402

from data import pairs

Tokenizer = transformers.PreTrainedTokenizerFast


def word_tokenizer(words: Sequence[str], special: Sequence[str]) -> Tokenizer:
  """A tokenizer of whole words; `special` names the padding and the start token."""
  vocabulary = {word: i for i, word in enumerate((*special, *words))}
  backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary))
  backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
  pad, bos = special
  return Tokenizer(tokenizer_object=backend, pad_token=pad, bos_token=bos)


def fingerprint(tokenizer: Tokenizer) -> str:
  """SHA-256 of everything that decides how text becomes tokens."""
  special = tokenizer.special_tokens_map
  text = f'{tokenizer.backend_tokenizer.to_str()}{special}{tokenizer.chat_template}'
  return hashlib.sha256(text.encode()).hexdigest()


def encode(
  tokenizer: Tokenizer, texts: Iterable[str], *, start: bool
) -> list[list[int]]:
  """Token ids of each text, with the start token in front if `start`.

  Raises:
    ValueError: a word that the tokenizer does not know.
  """
  texts = list(texts)
  prefix = [tokenizer.bos_token_id] if start else []
  try:
    encoded = tokenizer.backend_tokenizer.encode_batch_fast(
      texts, add_special_tokens=False
    )
  except Exception as e:  # tokenizers raises nothing more special
    raise ValueError(
      f'The tokenizer cannot read {_unreadable(tokenizer, texts)!r} ({e}): the text '
      'was written for another tokenizer.'
    ) from e
  return [prefix + e.ids for e in encoded]


def _unreadable(tokenizer: Tokenizer, texts: Sequence[str]) -> str:
  """The first text with a word that a whole-word tokenizer does not know."""
  known = tokenizer.get_vocab()
  return next((t for t in texts if set(t.split()) - set(known)), texts[0])


def pad(rows: Sequence[Sequence[int]], length: int, fill: int) -> np.ndarray:
  """int32 [N, length], padded on the right.

  Raises:
    ValueError: a row that is longer than `length`; nothing is cut silently.
  """
  length_N = np.fromiter(map(len, rows), np.int64, len(rows))
  if length_N.max() > length:
    raise ValueError(
      f'A sequence of {length_N.max()} tokens exceeds the length {length}: raise it.'
    )
  out_NxT = np.full((len(rows), length), fill, np.int32)
  flat = itertools.chain.from_iterable(rows)
  out_NxT[np.arange(length) < length_N[:, None]] = np.fromiter(flat, np.int32)
  return out_NxT


def option_tokens(tokenizer: Tokenizer, options: Sequence[Sequence[str]]) -> np.ndarray:
  """First token of each option, int32 [N, K], -1 where an item has fewer than K.

  Raises:
    ValueError: two options of one item that start with the same token, so that the
      answer position could not tell them apart.
  """
  distinct = sorted({option for row in options for option in row})
  first = {o: t[0] for o, t in zip(distinct, encode(tokenizer, distinct, start=False))}
  rows = [[first[option] for option in row] for row in options]
  for row, names in zip(rows, options):
    if len(set(row)) != len(row):
      raise ValueError(f'Options {tuple(names)} share their first token.')
  return pad(rows, max(map(len, rows)), pairs.NO_OPTION)
