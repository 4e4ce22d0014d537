"""Tokenizers, text to token ids, and rows of ids to arrays."""

from collections.abc import Callable, Iterable, Sequence
import functools
import hashlib
import itertools
import json
import os
import pathlib
from typing import Literal

import numpy as np
import tokenizers
import transformers

from data import encoder
from data import pairs

Tokenizer = encoder.Tokenizer

# What transformers can read a tokenizer from, besides a vocab.json with its merges.txt.
_TOKENIZER_FILES = ('tokenizer.json', 'tokenizer.model', 'tekken.json')


def word_tokenizer(words: Sequence[str], special: Sequence[str]) -> Tokenizer:
  """A tokenizer of whole words; `special` names the padding and the start token."""
  vocabulary = {word: i for i, word in enumerate((*special, *words))}
  backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary))
  backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
  pad, bos = special
  return Tokenizer(tokenizer_object=backend, pad_token=pad, bos_token=bos)


def load_tokenizer(source: str | os.PathLike) -> Tokenizer:
  """The tokenizer of a checkpoint: a local folder, or a name on the hub.

  Code that a checkpoint brings along is never run.

  Raises:
    ValueError: no such folder, no tokenizer in it, one that needs code of its own, or
      one without the fast (`tokenizers`) form.
  """
  source = os.fspath(source)
  folder = pathlib.Path(source).expanduser()
  if folder.is_dir():
    source = str(folder)
    _check_files(folder)
  elif folder.is_absolute() or source.startswith(('.', '~')) or source.count('/') > 1:
    raise ValueError(
      f'Tokenizer {source!r}: there is no such folder; give a folder that holds a '
      "tokenizer.json, or a name on the hub such as 'Qwen/Qwen3-8B'."
    )
  try:
    tokenizer = transformers.AutoTokenizer.from_pretrained(
      source, trust_remote_code=False
    )
  except Exception as e:  # each tokenizer class fails in a way of its own
    raise ValueError(
      f'Tokenizer {source!r} cannot be loaded: {e}\nIts tokenizer files must be whole '
      'and need no code of their own; for a name on the hub, also check the spelling, '
      'the network, and that you are logged in where the model asks for it.'
    ) from e
  if not isinstance(tokenizer, Tokenizer):
    raise ValueError(
      f'Tokenizer {source!r} is a {type(tokenizer).__name__}, which has no fast form: '
      'convert it to one with a tokenizer.json.'
    )
  # transformers makes an empty tokenizer where a repository has no more than a config.
  if len(tokenizer) <= len(tokenizer.added_tokens_decoder):
    raise ValueError(
      f'Tokenizer {source!r} has an empty vocabulary: its tokenizer.json is missing.'
    )
  return tokenizer


def _check_files(folder: pathlib.Path) -> None:
  named = {path.name for path in folder.iterdir()}
  if named.isdisjoint(_TOKENIZER_FILES) and not {'vocab.json', 'merges.txt'} <= named:
    raise ValueError(
      f'Tokenizer {str(folder)!r}: the folder holds no tokenizer (none of '
      f'{", ".join(_TOKENIZER_FILES)}, nor vocab.json with merges.txt). Copy the '
      'tokenizer files of the model that the checkpoint comes from into it.'
    )


def padding(tokenizer: Tokenizer, rows: int | None = None) -> int:
  """The token that fills rows: the padding token, or else the end token, or else 0.

  Padding is masked everywhere, so that which token it is never matters, as long as the
  model has an embedding of it: no mask stops NaN.

  Args:
    tokenizer: of the model.
    rows: of the model's embedding; None: there are enough.

  Raises:
    ValueError: the tokenizer has neither.
  """
  own = (tokenizer.pad_token_id, tokenizer.eos_token_id)
  if own == (None, None):
    raise ValueError(
      f'{encoder.describe(tokenizer)} has neither a padding nor an end token: name one '
      'in the field pad_token of its tokenizer_config.json.'
    )
  return next((t for t in own if t is not None and (rows is None or t < rows)), 0)


def check_rows(
  tokenizer: Tokenizer, found: Iterable[Sequence[int]], rows: int | None
) -> None:
  """Raises ValueError, naming a token, where ids have no row in the embedding.

  Args:
    tokenizer: of the model.
    found: sequences of ids.
    rows: of the model's embedding; None: there are enough.
  """
  for ids in found if rows is not None else ():
    if ids and max(ids) >= rows:
      token = next(i for i in ids if i >= rows)
      raise ValueError(
        f'{encoder.describe(tokenizer)} reads '
        f'{tokenizer.convert_ids_to_tokens(token)!r} as the id {token}, but the '
        f"model's embedding has {rows} rows, for ids below {rows}: the token was added "
        'to the tokenizer alone. Give the model a row for it '
        '(`model.resize_token_embeddings(len(tokenizer))` of transformers, then save '
        'both), use the tokenizer that the model was trained with, or keep that text '
        'out of the data.'
      )


def decode(tokenizer: Tokenizer, rows: Sequence[Sequence[int]]) -> list[str]:
  """The text of each row; what is no token, as spare rows of models, as U+FFFD each.

  Tokenizers leave such ids out, and the text would look as if they were not there.
  """
  ids = {int(i) for row in rows for i in row}
  spare = {i for i in ids if tokenizer.convert_ids_to_tokens(i) is None}
  read = functools.partial(tokenizer.batch_decode, clean_up_tokenization_spaces=False)
  if not spare:
    return read(rows)
  texts = []
  for row in rows:
    parts = [list(x) for _, x in itertools.groupby(row, key=spare.__contains__)]
    known = zip(parts, read(parts))
    texts.append(
      ''.join('\ufffd' * len(x) if x[0] in spare else text for x, text in known)
    )
  return texts


def fingerprint(tokenizer: Tokenizer) -> str:
  """SHA-256 of everything that decides how text becomes tokens."""
  state = encoder.state(tokenizer)
  parts = [state, tokenizer.special_tokens_map, tokenizer.chat_template]
  return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


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


def option_tokens(
  answers: Callable[[Sequence[str]], list[list[int]]], options: Sequence[Sequence[str]]
) -> np.ndarray:
  """First answer token of each option, int32 [N, K], -1 where an item has fewer than K.

  Args:
    answers: token ids of answers, of a format.
    options: the answers to choose from, of each item.

  Raises:
    ValueError: two options of one item that start with the same token, so that the
      answer position could not tell them apart; an empty option.
  """
  distinct = sorted({option for row in options for option in row})
  if any(not option.strip() for option in distinct):
    raise ValueError('An option is empty: every option needs a text.')
  first = {option: ids[0] for option, ids in zip(distinct, answers(distinct))}
  rows = [[first[option] for option in row] for row in options]
  for row, names in zip(rows, options):
    by_token: dict[int, str] = {}
    for token, option in zip(row, names):
      if token in by_token:
        raise ValueError(
          f'Options {by_token[token]!r} and {option!r} share their first token '
          f'({token}), and a forced choice cannot tell them apart: word them so that '
          'they differ from the start.'
        )
      by_token[token] = option
  return pad(rows, max(map(len, rows)), pairs.NO_OPTION)


def fit_lengths(
  length_N: np.ndarray, limit: int, rule: Literal['raise', 'drop']
) -> np.ndarray:
  """Which items have at most `limit` tokens; nothing is ever cut.

  Args:
    length_N: tokens of whole items, prompt and answer.
    limit: the longest item allowed, in tokens.
    rule: what to do with longer items: 'raise' an error, or 'drop' them, to be
      counted and reported.

  Returns:
    Indices of the items to keep, in order.

  Raises:
    ValueError: items that are too long under 'raise'; all are too long; another rule.
  """
  if rule not in ('raise', 'drop'):
    raise ValueError(f"The rule for lengths is {rule!r}: it must be 'raise' or 'drop'.")
  kept_N = np.flatnonzero(length_N <= limit)
  dropped = len(length_N) - len(kept_N)
  if dropped and (rule == 'raise' or not len(kept_N)):
    longest = int(length_N.argmax())
    raise ValueError(
      f'{dropped} of {len(length_N)} items exceed the length {limit}; the longest has '
      f'{length_N[longest]} tokens (index {longest}). Raise the length'
      + (", or drop such items by the rule 'drop'." if len(kept_N) else '.')
    )
  return kept_N
