"""Tokenizers, text to token ids, and rows of ids to arrays."""

from collections.abc import Callable, Sequence
import hashlib
import itertools
import json
import os
import pathlib
from typing import Any, Literal

import numpy as np
import tokenizers
import transformers

from data import encoder
from data import pairs

Tokenizer = encoder.Tokenizer

# What transformers can read a tokenizer from, besides a vocab.json with its merges.txt.
_TOKENIZER_FILES = ('tokenizer.json', 'tokenizer.model', 'tekken.json')
# Of generation_config.json: what changes a greedy reply, and when it changes nothing.
_CHANGING = {
  'repetition_penalty': (None, 1, 1.0),
  'encoder_repetition_penalty': (None, 1, 1.0),
  'no_repeat_ngram_size': (None, 0),
  'min_length': (None, 0),
  'min_new_tokens': (None, 0),
  'num_beams': (None, 1),
  'suppress_tokens': (None, []),
  'begin_suppress_tokens': (None, []),
  'bad_words_ids': (None, []),
  'sequence_bias': (None, {}, []),
  'forced_bos_token_id': (None,),
  'guidance_scale': (None, 1, 1.0),
  'stop_strings': (None, []),
}
_NAMING_ENDS = ('config.json', 'generation_config.json')


def word_tokenizer(words: Sequence[str], special: Sequence[str]) -> Tokenizer:
  """A tokenizer of whole words; `special` names the padding and the start token."""
  vocabulary = {word: i for i, word in enumerate((*special, *words))}
  backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary))
  backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
  pad, bos = special
  return Tokenizer(tokenizer_object=backend, pad_token=pad, bos_token=bos)


def load_tokenizer(folder: str | os.PathLike) -> Tokenizer:
  """The tokenizer of a checkpoint's folder.

  Code that a checkpoint brings along is never run.

  Raises:
    ValueError: no such folder, no tokenizer in it, one that needs code of its own, or
      one without the fast (`tokenizers`) form.
  """
  source = os.fspath(pathlib.Path(folder).expanduser())
  if not os.path.isdir(source):
    raise ValueError(
      f'Tokenizer {os.fspath(folder)!r}: there is no such folder; give one that holds '
      'a tokenizer.json.'
    )
  _check_files(pathlib.Path(source))
  try:
    tokenizer = transformers.AutoTokenizer.from_pretrained(
      source, trust_remote_code=False, local_files_only=True
    )
  except Exception as e:  # each tokenizer class fails in a way of its own
    raise ValueError(
      f'Tokenizer {source!r} cannot be loaded: {" ".join(str(e).split())} Its '
      'tokenizer files must be whole and need no code of their own.'
    ) from e
  if not isinstance(tokenizer, Tokenizer):
    raise ValueError(
      f'Tokenizer {source!r} is a {type(tokenizer).__name__}, which has no fast form: '
      'convert it to one with a tokenizer.json.'
    )
  if dropout := getattr(tokenizer.backend_tokenizer.model, 'dropout', None):
    raise ValueError(
      f'Tokenizer {source!r}: model.dropout={dropout:g} in its tokenizer.json reads a '
      'text otherwise each time; set it to null.'
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
    if several := sorted(x for x in named if x.startswith('checkpoint-')):
      raise ValueError(
        f'Tokenizer {str(folder)!r}: this is the output folder of a trainer; give one '
        f'of {", ".join(several)} in it, or audit all of them by checkpoints='
      )
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


def unheeded(folder: str | os.PathLike) -> dict[str, Any]:
  """Fields of generation_config.json that change greedy replies of transformers alone.

  Answers are read here as the model itself gives them.
  """
  path = pathlib.Path(folder) / 'generation_config.json'
  if not path.is_file():
    return {}
  found = json.loads(path.read_text(encoding='utf-8'))
  return {k: found[k] for k, none in _CHANGING.items() if found.get(k) not in none}


def ends(tokenizer: Tokenizer) -> tuple[int, ...]:
  """Tokens that end a reply: all that a tokenizer and its checkpoint's files name.

  `generate` of transformers stops at those of generation_config.json, or of config.json
  where that is missing; neither need be the tokenizer's.

  Args:
    tokenizer: its name_or_path is the checkpoint's folder, as load_tokenizer leaves
      it; one that was made here, or whose folder has moved since, has no files.

  Returns:
    Distinct ids, the tokenizer's end token first.

  Raises:
    ValueError: a file that is not JSON, or whose eos_token_id is not null, an integer
      or integers.
  """
  found = [tokenizer.eos_token_id]
  for name in _NAMING_ENDS if tokenizer.name_or_path else ():
    if (path := pathlib.Path(tokenizer.name_or_path, name)).is_file():
      found += _named_ends(path)
  return tuple(dict.fromkeys(x for x in found if x is not None))


def _named_ends(path: pathlib.Path) -> list[int]:
  """The end tokens of a file; those of a multimodal model's language model too."""
  try:
    content = json.loads(path.read_text(encoding='utf-8'))
  except ValueError as e:
    raise ValueError(f'{path}: not JSON ({e}); download it again.') from e
  if not isinstance(content, dict):
    raise ValueError(f'{path}: a JSON object is expected; download it again.')
  found = []
  for part in (content, content.get('text_config')):
    value = part.get('eos_token_id') if isinstance(part, dict) else None
    several = value if isinstance(value, list) else [value] * (value is not None)
    if not all(type(x) is int for x in several):
      raise ValueError(
        f'{path}: eos_token_id={value!r}, where null, a token id or several are '
        'expected; correct the file, or download it again.'
      )
    found += several
  return found


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
