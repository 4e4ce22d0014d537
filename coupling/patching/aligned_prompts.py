"""What activation patching asks: pairs of prompts that align, and their two answers.

x' is x with its cue moved to v', the answer that the model gives without the cue, or
x without a cue (x∖C); the task's `aligned` makes it. Answers are what the model itself
does, as for Self:

  behaviour     x: B(x), x': v'; the first tokens of these options
  explanation   x: E(x) = "changed to v'", x': "unchanged"; whole statements

For v' is what the model says on both x' without the cue. Only pairs whose answer
changes without the cue have two answers.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from coupling.elicit import encoding
from coupling.elicit import options
from coupling.elicit import statements
from data import formats
from data import pairs as pairs_lib
from data import positions
from data import tokens as tokens_lib

Align = Callable[[pairs_lib.Pair, str | None], pairs_lib.Aligned]


class Asked(NamedTuple):
  """Prompts of N pairs that end at the same column, and what is read after them.

  Attributes:
    arrays: tokens [N, 2, T] of x and x'; valid [N, T]; answers [N, 2, G] of x and x';
      group [N, S + X], codes of positions.GROUPS from column `prefix` on.
    prefix: columns in which no x differs from its x'; at least 1.
    live: groups with tokens from some pair's first difference on.
  """

  arrays: dict[str, np.ndarray]
  prefix: int
  live: frozenset[str]

  @property
  def swapped(self) -> 'Asked':
    """x' in the place of x; the answers stay."""
    tokens_Nx2xT = self.arrays['tokens'][:, ::-1]
    return self._replace(arrays=self.arrays | {'tokens': tokens_Nx2xT})


class Contrasts(NamedTuple):
  """What is asked of some pairs.

  Attributes:
    kept_N: which of the pairs align.
    others: x' of these.
    behavior, explanation: of these pairs.
  """

  kept_N: np.ndarray
  others: list[str]
  behavior: Asked
  explanation: Asked


def contrasts(
  format: formats.Format,
  template: pairs_lib.Questions,
  pairs: Sequence[pairs_lib.Pair],
  behavior_N: np.ndarray,
  counterfactual_N: np.ndarray,
  align: Align,
  moved: bool,
  how: options.How = options.PLAIN,
) -> Contrasts | None:
  """Behaviour and explanation prompts of pairs, and their answers.

  Args:
    format: how the model is asked.
    template: how the task asks.
    pairs: whose answer changes without the cue.
    behavior_N: the model's options on x.
    counterfactual_N: and on x∖C.
    align: of the task: x' of a pair.
    moved: whether x' has its cue moved, or none.
    how: behaviours are read.

  Returns:
    None where no pair aligns, or there are none.
  """
  others = [
    align(pair, pair.options[k] if moved else None)
    for pair, k in zip(pairs, counterfactual_N)
  ]
  prompts = {
    name: [
      positions.aligned_prompts(format, asks, pair, other)
      for pair, other in zip(pairs, others)
    ]
    for name, asks in (('x', template.behavior), ('why', template.explanation))
  }
  kept_N = np.flatnonzero(
    [a is not None and b is not None for a, b in zip(*prompts.values())]
  )
  if not len(kept_N):
    return None
  kept = [pairs[i] for i in kept_N]
  answer_Nx2 = np.stack([behavior_N, counterfactual_N], axis=1)[kept_N]
  options_NxKxG = option_tokens(format, kept, how)
  statements_NxMxG = statements.tokens(format, kept, template)
  said_Nx2 = 2 * answer_Nx2[:, 1:] + np.array([1, 0])  # changed to v', unchanged
  rows_Nx1 = np.arange(len(kept))[:, None]
  make = lambda name, answers: asked(
    [prompts[name][i] for i in kept_N], answers, format.pad_token, format.end_tokens
  )
  return Contrasts(
    kept_N,
    [others[i].prompt for i in kept_N],
    make('x', options_NxKxG[rows_Nx1, answer_Nx2]),
    make('why', statements_NxMxG[rows_Nx1, said_Nx2]),
  )


def option_tokens(
  format: formats.Format, items: Sequence[pairs_lib.Pair], how: options.How
) -> np.ndarray:
  """Of each option its first token [N, K, 1], or all and what ends them [N, K, G]."""
  if not how.text:
    return encoding.option_tokens(format, items)[:, :, None]
  texts = list(dict.fromkeys(option for pair in items for option in pair.options))
  ids = dict(zip(texts, format.answers(texts)))
  statements.check_ends(format, ids)
  K, G = max(len(p.options) for p in items), max(map(len, ids.values()))
  tokens_NxKxG = np.full((len(items), K, G), format.pad_token, np.int32)
  for row_KxG, pair in zip(tokens_NxKxG, items):
    for row_G, option in zip(row_KxG, pair.options):
      row_G[: len(ids[option])] = ids[option]
  return tokens_NxKxG


def asked(
  prompts: Sequence[tuple[list[int], list[int], np.ndarray]],
  answers_Nx2xG: np.ndarray,
  pad_token: int,
  end_tokens: tuple[int, ...],
) -> Asked:
  """Prompts whose last tokens stand in one column, padded on the left.

  Of the group `answer` are the positions that tell the two answers apart: those which
  predict a token from the first on in which the answers differ. What stands before
  these is part of the instruction.

  Args:
    prompts: of positions.aligned_prompts.
    answers_Nx2xG: tokens of the answers of x and of x'.
    pad_token: fills the columns before a prompt.
    end_tokens: tokens that end an answer; what follows is not read.
  """
  length_N = np.array([len(own) for own, _, _ in prompts])
  first_N = np.array([np.argmax(np.not_equal(a, b)) for a, b, _ in prompts])
  suffix = width((length_N - first_N).max())
  prefix = width(max(length_N.max() - suffix, 1))
  T = prefix + suffix

  def right(rows, fill):
    return tokens_lib.pad([row[::-1] for row in rows], T, fill)[:, ::-1]

  # Column g of [N, 2, G] predicts token g of an answer: the first is the prompt's last.
  G = answers_Nx2xG.shape[2]
  own_NxG, other_NxG = answers_Nx2xG[:, 0], answers_Nx2xG[:, 1]
  apart_N = np.argmax(own_NxG != other_NxG, axis=1)
  codes = positions.CODES['answer'], positions.CODES['instruction']
  code_NxG = np.where(np.arange(G) >= apart_N[:, None], *codes)
  code_Nx2xG = np.repeat(code_NxG[:, None], 2, axis=1)
  ended_Nx2xG = np.cumsum(np.isin(answers_Nx2xG, end_tokens), axis=2) > 0
  # The end token is predicted; nothing that comes after it is.
  code_Nx2xG[:, :, 1:][ended_Nx2xG[:, :, :-1]] = positions.CODES['template']
  group_NxT = right([group.tolist() for _, _, group in prompts], 0)
  group_NxT[:, -1] = code_Nx2xG[:, 0, 0]
  after = np.arange(T) >= (T - length_N + first_N)[:, None]
  group_NxT[~after] = positions.CODES['template']  # alike in x and x': never replaced
  live = {positions.GROUPS[code] for code in np.unique(group_NxT[after])}
  live |= {'answer'}  # if only in the answers' own tokens
  answer_NxX = code_Nx2xG[:, :, 1:].reshape(len(prompts), 2 * (G - 1))
  arrays = {
    'tokens': np.stack(
      [right([x[k] for x in prompts], pad_token) for k in (0, 1)], axis=1
    ),
    'valid': np.arange(T) >= (T - length_N)[:, None],
    'answers': answers_Nx2xG.astype(np.int32),
    'group': np.concatenate([group_NxT[:, prefix:], answer_NxX], axis=1).astype(
      np.int32
    ),
  }
  return Asked(arrays, prefix, frozenset(live))


def width(columns: int) -> int:
  """Room for as many, a quarter more at most: of few widths, each its own program."""
  step = max(1, 2 ** int(columns - 1).bit_length() // 8)
  return -(-int(columns) // step) * step
