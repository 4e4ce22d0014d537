"""What each token of a prompt is a part of: position groups, by meaning.

A prompt is x within what the task says around it. Every token belongs to one group: the
most specific of those whose text it shares a character with, so that a token which
holds the hinted option and a bracket is the hinted option's.
"""

from collections.abc import Sequence

import numpy as np

from data import formats
from data import pairs
from data import readers

# From the least specific to the most.
GROUPS = (
  'template',  # of the chat or the format: no text of the prompt's
  'instruction',  # what is asked about x: the behaviour, or the explanation
  'question',  # x, but for what follows
  'options',
  'hint_source',  # the cue
  'hinted_option',  # within the cue
  'answer',  # the prompt's last token; of statements see aligned_prompts.asked
)
CUE = ('hint_source', 'hinted_option')
CODES = {name: code for code, name in enumerate(GROUPS)}


def groups(
  format: formats.Format,
  template: str,
  x: str,
  parts: Sequence[tuple[str, int, int]],
) -> np.ndarray:
  """The group of each token of a prompt, int8 [T], codes of GROUPS.

  Args:
    format: how the model is asked.
    template: of {prompt}, as the task asks.
    x: the prompt of a pair.
    parts: of x; see pairs.Aligned.
  """
  text = template.format(prompt=x)
  start = len(template.partition('{prompt}')[0].format())
  code_C = np.full(len(text), CODES['instruction'], np.int8)
  code_C[start : start + len(x)] = CODES['question']
  for name, first, last in parts:
    here = slice(start + first, start + last)
    code_C[here] = np.maximum(code_C[here], CODES[name])
  found_T = np.array(
    [
      code_C[first:last].max(initial=CODES['template'])
      for first, last in format.offsets(text)
    ],
    np.int8,
  )
  found_T[-1] = CODES['answer']
  return found_T


def without_cue(
  pair: pairs.Pair, parts: Sequence[tuple[str, int, int]]
) -> list[tuple[str, int, int]]:
  """The parts of x∖C, from those of x; the cue's are what stands in its place.

  Raises:
    DataError: the parts do not say where the cue is.
  """
  cue = [span for name, *span in parts if name in CUE]
  if not cue:
    raise readers.DataError(
      f"{pair.provenance}: the task's `aligned` names no part of x among {CUE}: name "
      'where the cue is'
    )
  start, end = min(first for first, _ in cue), max(last for _, last in cue)
  moved = len(pair.counterfactual) - len(pair.prompt)
  found = []
  for name, first, last in parts:
    if name in CUE:
      first, last = start, end + moved
    elif first >= end:
      first, last = first + moved, last + moved
    if first < last:
      found.append((name, first, last))
  return found


def aligned_prompts(
  format: formats.Format, template: str, pair: pairs.Pair, other: pairs.Aligned
) -> tuple[list[int], list[int], np.ndarray] | None:
  """Tokens of a prompt with x and with x', and their groups.

  None unless they align, or where they are the same: a cue can be moved to where it is.
  """
  own, moved = format.prompts(
    [template.format(prompt=text) for text in (pair.prompt, other.prompt)]
  )
  if len(own) != len(moved) or own == moved:
    return None
  return own, moved, groups(format, template, pair.prompt, other.parts)
