"""Preferences for DPO: whose they are, and their rows.

Shapes: N pairs; M preferences, each with two replies (chosen, rejected).
"""

from collections.abc import Sequence

import numpy as np

from coupling.config import schema
from coupling.elicit import encoding
from coupling.elicit import fitting
from coupling.elicit.explanation import Behaviors
from coupling.runtime import progress
from coupling.training import behavior_shift
from data import formats
from data import loader
from data import pairs as pairs_lib
from data import preference_file
from data.preference_file import Preference

Did = tuple[Sequence[pairs_lib.Pair], Behaviors, behavior_shift.Shift]


def wanted(
  objective: schema.DPO, template: pairs_lib.Questions, found: Sequence[Did]
) -> list[Preference]:
  """Those of the objective's file; or of pairs, by what M_0 did and the shift of them.

  Raises:
    ConfigError: there are none.
    DataError: a file that cannot be used.
  """
  if objective.file:
    return preference_file.read(objective.file)
  if made := [x for did in found for x in _of_pairs(template, *did)]:
    shifted = sum(shift.shifted_Nx2.sum() for *_, shift in found)
    progress.line(f'{len(made)} of {shifted} shifted prompts have a preference')
    return made
  raise schema.ConfigError(
    f'train.objectives.dpo: target={objective.target}, cues={objective.cues} and '
    f'strength={objective.strength} want no other answer than M_0 gives already, so '
    'nothing is preferred: choose another target, a greater strength, a file, or a '
    'weight of 0.'
  )


def preferred_Nx2(shift: behavior_shift.Shift, own: Behaviors) -> np.ndarray:
  """bool [N, 2]: where a shift wants most what M_0 did not answer.

  These x and x∖C have a preference, and no others are let go by behavior_kl.
  """
  own_Nx2 = np.stack([own.behavior_N, own.counterfactual_behavior_N], axis=1)
  return shift.shifted_Nx2 & (shift.target_Nx2xK.argmax(axis=-1) != own_Nx2)


def _of_pairs(
  template: pairs_lib.Questions,
  pairs: Sequence[pairs_lib.Pair],
  own: Behaviors,
  shift: behavior_shift.Shift,
) -> list[Preference]:
  """What a shift wants most over M_0's own answer; see `preferred_Nx2`."""
  chosen_Nx2 = shift.target_Nx2xK.argmax(axis=-1)
  own_Nx2 = np.stack([own.behavior_N, own.counterfactual_behavior_N], axis=1)
  found = []
  for n, side in np.argwhere(preferred_Nx2(shift, own)):
    pair = pairs[n]
    prompt = template.behavior.format(prompt=(pair.prompt, pair.counterfactual)[side])
    replies = (pair.options[x[n, side]] for x in (chosen_Nx2, own_Nx2))
    found.append(Preference(prompt, *replies))
  return found


def rows(format: formats.Format, found: Sequence[Preference]) -> loader.Arrays:
  """Arrays [M, 2, ...] of both replies to each prompt: see encoding.questions.

  Raises:
    ConfigError: conversations, where the model is not asked in a chat.
  """
  prompts, *replies = zip(*found)
  texts = all(isinstance(x, str) for x in prompts)
  if not texts and not isinstance(format, formats.Chat):
    raise schema.ConfigError(
      'train.objectives.dpo.file: its prompts are messages, and base.chat=False asks '
      'in plain text: give texts, or set base.chat=True'
    )
  asked = encoding.questions(format, prompts * 2, sum(replies, ()))
  return {k: x.reshape(2, len(found), -1).swapaxes(0, 1) for k, x in asked.items()}


def fitting_rows(found: loader.Arrays, length: schema.Length) -> loader.Arrays:
  """Of `rows` those that are not too long, each a prompt with either reply.

  Raises:
    ConfigError: too long ones where none are wanted, or nothing else.
  """
  length_M = found['valid'].sum(axis=-1).max(axis=-1) + 1
  kept_M = fitting.kept(length_M, length, 'preferences of train.objectives.dpo')
  return loader.take(found, kept_M)
