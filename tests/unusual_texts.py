"""Texts of unusual characters, always the same, on which tokenizers may differ."""

import random

_PIECES = (
  *(
    'Hello',
    'world',
    " don't",
    "I'LL",
    ' the',
    'café',
    'cafe\u0301',
    'naïve',
    'ſ',
    'ẞ',
  ),
  *(
    '12',
    '3456',
    ' 7',
    '½',
    '٣',
    '²',
    'Ⅷ',
    '１２',
    '3.14',
    '1,000',
    'x2',
    '漢字',
    'かな',
  ),
  *(
    'שלום',
    'नमस्ते',
    'Ω',
    'ﬁ',
    '🦤',
    '👩🏽‍🚀',
    '\u200b',
    '\u00a0',
    '\u3000',
    '\ufeff',
    '▁',
  ),
  *(' ', '  ', '   ', '\n', '\n\n', '\n\n\n', '\r\n', '\t', ' \n ', '   x', '\u2028'),
  *('<|im_end|>', '<bos>', '</s>', '<unk>', '[INST]', '<think>', '<0x41>', '<|x|>'),
  *(
    '"',
    "''",
    '...',
    '!?',
    '(A)',
    '{x}',
    '\\n',
    '<b>',
    '&amp;',
    '#',
    '_',
    'a_b',
    '\x00',
  ),
)
_RANGES = (
  (32, 127),
  (160, 0x250),
  (0x300, 0x370),
  (0x4E00, 0x9FFF),
  (0x1F300, 0x1F700),
)


def make(count: int, seed: int = 0) -> list[str]:
  """Texts of words, numbers, blanks, names of control tokens and rare characters."""
  draw = random.Random(seed)

  def piece() -> str:
    if draw.random() < 0.7:
      return draw.choice(_PIECES)
    if draw.random() < 0.1:  # any character that is one
      return chr(
        draw.choice((draw.randrange(1, 0xD800), draw.randrange(0xE000, 2**20)))
      )
    return ''.join(
      chr(draw.randrange(*draw.choice(_RANGES))) for _ in range(draw.randrange(1, 5))
    )

  return [''.join(piece() for _ in range(draw.randrange(1, 12))) for _ in range(count)]
