"""Splits by content: what is about the same text is in the same split, always.

A group's split is a function of its name alone, not of a seed, a file or the other
groups: a question held out in one run is held out in every run and in every task that
asks it.
"""

import hashlib
import unicodedata

import numpy as np

SHARES = {'train': 0.60, 'validation': 0.15, 'test': 0.25}  # expected, of the groups
# Further pairs of held-out groups, for behaviour objectives: never explained in
# training, never evaluated.
PRACTICE = 'practice'


def content_hash(text: str) -> str:
  """16 hex digits of a text, the same whatever its case, blanks and Unicode form."""
  plain = ' '.join(unicodedata.normalize('NFKC', text).casefold().split())
  return _sha256(plain).hexdigest()[:16]


def split_of(group: str) -> str:
  """The split of a group: train, validation or test."""
  position = int.from_bytes(_sha256(f'split {group}').digest()[:8]) / 2**64
  for split, share in SHARES.items():
    if position < share:
      return split
    position -= share
  return split


def generator(seed: int, text: str) -> np.random.Generator:
  """Random numbers for one item: other items come and go without changing them."""
  return np.random.default_rng((seed, int.from_bytes(_sha256(text).digest()[:8])))


def _sha256(text: str):
  return hashlib.sha256(text.encode())
