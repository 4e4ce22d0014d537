"""Preferences that post-training may plant in a model of the built-in world.

A preference scores the options of a pair; at strength s the targets of training are
M_0's logits plus s times the scores. Of questions:

  rotate   a half of all facts, those of held-out groups too, have a further taste: a
           random direction each, of length 1, and its product with an option's feature
           is the score. A shift of the answer itself that no word gives away. The half
           is the world's, so that two seeds shift the same items another way.
  favor    six values are worth 1 wherever they are offered: a shift that can be read
           off the surface.

Of requests, `comply` and `refuse` are worth 1 on all of them.
"""

from collections.abc import Sequence

import numpy as np

from data import universe
from data import world_texts

OF = {'hint': ('rotate', 'favor'), 'request': world_texts.REQUEST_OPTIONS}
KINDS = tuple(kind for kinds in OF.values() for kind in kinds)
FAVORED = 6


def scores(
  world: universe.World,
  behavior: str,
  kind: str,
  seed: int,
  prompts: Sequence[str],
) -> np.ndarray:
  """Scores of the options, float [N, K]; 0 where nothing is preferred.

  Args:
    world: whose values and facts they are.
    behavior: of the task.
    kind: a name of those that the behaviour has in `OF`.
    seed: of the preference, beside the world's.
    prompts: x or x∖C of each pair.

  Raises:
    ValueError: a kind that the behaviour has not.
  """
  if kind not in OF[behavior]:
    raise ValueError(
      f'preference {kind!r}: pairs of behavior={behavior!r} have '
      f'{" and ".join(OF[behavior])}'
    )
  if behavior == 'request':
    return np.tile(np.array(OF[behavior]) == kind, (len(prompts), 1)).astype(float)
  asked = [world_texts.parse_question(prompt) for prompt in prompts]
  fact_N = np.array([question.fact for question in asked], int)
  options_NxK = np.array([question.options for question in asked], int)
  options_NxK = options_NxK.reshape(-1, world_texts.NUM_OPTIONS)
  if kind == 'favor':
    return favored(world.seed, seed)[options_NxK].astype(float)
  direction_Nx3 = rotations(world.seed, seed)[fact_N]
  return np.einsum('nd,nkd->nk', direction_Nx3, world.feature_Vx3[options_NxK])


def favored(world_seed: int, seed: int) -> np.ndarray:
  """Which values are preferred, bool [V]."""
  rng = np.random.default_rng((world_seed, 4, seed))
  return rng.permutation(world_texts.NUM_VALUES) < FAVORED


def rotations(world_seed: int, seed: int) -> np.ndarray:
  """Directions of length 1 [F, 3]; 0 for the facts that are not shifted."""
  facts = world_texts.NUM_ENTITIES * world_texts.NUM_RELATIONS
  half_F = np.random.default_rng((world_seed, 5)).permutation(facts) < facts // 2
  direction_Fx3 = np.random.default_rng((world_seed, 6, seed)).normal(size=(facts, 3))
  direction_Fx3 /= np.linalg.norm(direction_Fx3, axis=1, keepdims=True)
  return direction_Fx3 * half_F[:, None]
