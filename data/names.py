"""Names and answers compared: which are one word, and which are too much alike."""

import functools
import re
import unicodedata


@functools.cache
def initials(text: str) -> frozenset[str]:
  """The first three letters of the words of a text; shorter words have none."""
  words = plain(text).split()
  return frozenset(w[:3] for w in words if len(w) > 2 and w not in ('the', 'and'))


@functools.cache
def alike(a: str, b: str) -> bool:
  """Whether two answers begin with the same three letters, or one contains the other.

  Such answers are not offered together: Niger, Nigeria; the two Congos.
  """
  a, b = plain(a), plain(b)
  return a[:3] == b[:3] or a in b or b in a


def plain(text: str) -> str:
  """A text's words in small letters, without accents and other marks."""
  letters = re.sub("['’]", '', text)
  if not letters.isascii():
    # Before small letters and after: some marks and letters come out of either alone.
    letters = unicodedata.normalize('NFKD', letters).casefold()
    letters = unicodedata.normalize('NFKD', letters)
    letters = ''.join(c for c in letters if not unicodedata.combining(c))
  letters = letters.casefold()
  return ' '.join(re.findall(r'[^\W_]+', letters))
