"""What activation patching asks of v', the other half of an explanation.

x' is the prompt of another question, of which the model says something else without a
cue. Both answers are options of both, and neither is the other prompt's hint or the
answer on it: what is offered, hinted or answered tells them apart no better than v'.
Behaviour is then what it says without a cue, so that x∖C stands in the place of x:

  behaviour     x∖C: v', x'∖C: v' of x'; the options' first tokens or texts
  explanation   x: "changed to v'", x': "changed to v' of x'"; whole statements

Both statements say "changed", so that v' alone tells them apart. Two pairs are compared
whose prompts are of equally many tokens, in the same position groups. A prompt may be x
of one pair and x' of others, so that pairs are not independent: intervals within one
seed are too narrow, those over seeds are not.
"""

import collections
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from coupling.elicit import options
from coupling.elicit import statements
from coupling.patching import aligned_prompts
from coupling.patching.aligned_prompts import Align, Asked, Contrasts
from data import formats
from data import pairs as pairs_lib
from data import positions


class _Prompt(NamedTuple):
  """Its tokens and their groups [T]."""

  tokens: list[int]
  group_T: np.ndarray


def contrasts(
  format: formats.Format,
  template: pairs_lib.Questions,
  pairs: Sequence[pairs_lib.Pair],
  behavior_N: np.ndarray,
  counterfactual_N: np.ndarray,
  align: Align,
  how: options.How = options.PLAIN,
) -> Contrasts | None:
  """See aligned_prompts.contrasts; of pairs whose answer changes without the cue."""
  prompts = [_prompts(format, template, pair, align) for pair in pairs]
  said = [pair.options[k] for pair, k in zip(pairs, counterfactual_N)]
  partner = _partners(pairs, prompts, behavior_N, said)
  if not partner:
    return None
  kept_N, other_N = (np.array(x) for x in (list(partner), list(partner.values())))
  options_NxKxG = aligned_prompts.option_tokens(format, pairs, how)
  statements_NxMxG = statements.tokens(format, pairs, template)
  rows_N = np.arange(len(pairs))
  answers = (
    options_NxKxG[rows_N, counterfactual_N],
    statements_NxMxG[rows_N, 2 * counterfactual_N + 1],  # changed to v'
  )

  def asked(part: int) -> Asked:
    both = [
      (prompts[i][part].tokens, prompts[j][part].tokens, prompts[i][part].group_T)
      for i, j in partner.items()
    ]
    answer_NxG = answers[part]
    answer_Nx2xG = np.stack([answer_NxG[kept_N], answer_NxG[other_N]], axis=1)
    return aligned_prompts.asked(
      both, answer_Nx2xG, format.pad_token, format.end_tokens
    )

  others = [pairs[j].prompt for j in other_N]
  return Contrasts(kept_N, others, asked(0), asked(1))


def _prompts(
  format: formats.Format,
  template: pairs_lib.Questions,
  pair: pairs_lib.Pair,
  align: Align,
) -> tuple[_Prompt, _Prompt]:
  """x∖C as behaviour is asked for, and x as explanations are."""
  parts = align(pair, None).parts
  found = []
  for asks, text, of_text in (
    (template.behavior, pair.counterfactual, positions.without_cue(pair, parts)),
    (template.explanation, pair.prompt, parts),
  ):
    (tokens,) = format.prompts([asks.format(prompt=text)])
    found.append(_Prompt(tokens, positions.groups(format, asks, text, of_text)))
  return found[0], found[1]


def _partners(
  pairs: Sequence[pairs_lib.Pair],
  prompts: Sequence[tuple[_Prompt, _Prompt]],
  behavior_N: np.ndarray,
  said: Sequence[str],
) -> dict[int, int]:
  """For each pair that has one, another of its shape: of another group, another v'."""
  near = [  # the hint and the own answer
    {pair.options[k] for k in (pair.cue_option, own) if k != pairs_lib.NO_OPTION}
    for pair, own in zip(pairs, behavior_N)
  ]

  def fits(i: int, j: int) -> bool:
    return (
      pairs[i].group != pairs[j].group
      and said[i] != said[j]
      and said[i] in set(pairs[j].options) - near[j]
      and said[j] in set(pairs[i].options) - near[i]
    )

  alike = collections.defaultdict(list)
  for i, both in enumerate(prompts):
    alike[tuple(x.group_T.tobytes() for x in both)].append(i)
  partner = {}
  for rows in alike.values():
    for at, i in enumerate(rows):
      # From half way on: pairs of one question stand beside each other.
      turned = np.roll(rows, -at - len(rows) // 2)
      if (j := next((j for j in turned if fits(i, j)), None)) is not None:
        partner[i] = int(j)
  return partner
