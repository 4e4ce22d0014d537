"""What a tokenizer's ids stand for: rows of the model, and text that comes back."""

from collections.abc import Callable, Iterable, Sequence
import functools
import itertools

import tokenizers

from data import encoder

Tokenizer = encoder.Tokenizer

# What has to come back from its token ids.
_TEXTS = (
  'Which is a gas at room temperature?\n\n(A) iron (B) helium\n\n\nAnswer: B',
  'if x:\n  y = 2\n\tz  =  3',
  'Un café, s\'il vous plaît. Der Fluß heißt "Rhein" – 20 °C.',
  '日本語のテキスト и русский текст 🙂',
)


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


def check_blanks(tokenizer: Tokenizer, encode: Callable) -> None:
  """Raises ValueError where text does not come back from its token ids.

  It comes back as the tokenizer's own normalizer writes it (composed, in lower case),
  which takes no blank away between words. What a tokenizer has no tokens for is not
  tried, nor are tokenizers of whole words between single blanks.
  """
  backend = tokenizer.backend_tokenizer
  if isinstance(backend.model, tokenizers.models.WordLevel):
    return
  added = tokenizer.added_tokens_decoder.values()
  words = [f'a {x.content} b' for x in added if x.lstrip or x.rstrip]
  for text in (*_TEXTS, *words):
    try:
      [ids] = encode([text])
    except ValueError:
      continue
    if tokenizer.unk_token_id in ids:
      continue
    normal = backend.normalizer.normalize_str(text) if backend.normalizer else text
    wanted = {text, normal.replace('▁', ' ').strip()}
    found = tokenizer.decode(ids, clean_up_tokenization_spaces=False).strip()
    if found not in wanted or len(found.split()) < len(text.split()):
      raise ValueError(
        f'{encoder.describe(tokenizer)} reads {text!r} as {found!r}: it changes '
        'blanks or signs. Where its tokenizer.json is right, name the class that reads '
        'it as it is in tokenizer_config.json ("tokenizer_class": '
        '"PreTrainedTokenizerFast"), or install another version of transformers.'
      )
