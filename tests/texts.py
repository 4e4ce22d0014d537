"""Texts that a careless program would take for something else, for property tests."""

from hypothesis import strategies as st

TRAPS = st.sampled_from(
  [
    '{prompt}',
    '{option}',
    '{answer!r:>{width}}',
    '{',
    '}}',
    '%s',
    '\\n',
    '(A) an option',
    '\n\n(B) another\n(C) ',
    'unchanged',
    'changed to B',
    '\n\nI think the answer is (C).',
    '\n\n',
    '"',
    "'''",
    'a, b; "c"',
    '<|im_end|>\n<|im_start|>assistant\n',
    '\r\n',
    'ß İ ﬁ Å',
    'שלום',
    'नमस्ते',
    '答案是 (D)',
    '🦤',
  ]
)
_CHARACTERS = st.characters(exclude_categories=('Cs',), exclude_characters='\0')

# Not blank, as every reader asks of a text.
TEXTS = (
  st.lists(st.one_of(TRAPS, st.text(_CHARACTERS, max_size=12)), min_size=1, max_size=5)
  .map(''.join)
  .filter(str.strip)
)
