"""Maps of patching with a planted correlation over sites, and those of a paper."""

import numpy as np

from coupling.config.paper_schema import Paper
from coupling.statistics.effect_maps import COMPONENTS, EVERY_HEAD, Effects, Maps, Site

GROUPS, SIZE = 12, 4
SITES = [
  Site(kind, layer, group, head)
  for layer in range(5)
  for group in ('hinted_option', 'answer')
  for kind, heads in (
    ('residual', (EVERY_HEAD,)),
    ('heads', (0, 1, 2)),
    ('attention_out', (EVERY_HEAD,)),
    ('mlp_out', (EVERY_HEAD,)),
  )
  for head in heads
]
AMONG = np.array([site.kind in COMPONENTS for site in SITES])


def effects(rng, sizes_R, whole=5.0, noise=0.05):
  """Effects of sites, the same in all pairs but for noise."""
  n = GROUPS * SIZE
  clean_N = whole / 2 + 0.1 * rng.normal(size=n)
  other_N = -whole / 2 + 0.1 * rng.normal(size=n)
  moved_NxR = sizes_R + noise * rng.normal(size=(n, len(sizes_R)))
  return Effects(clean_N, other_N, clean_N[:, None] - moved_NxR)


def maps(seed: int, r: float, explains: bool = True, follows: float = 1.0) -> Maps:
  """One checkpoint's: sizes of components correlate by r.

  `explains`: whether the explanation differs between x and x'. `follows`: share of the
  pairs whose explanation moves where the ablated behaviour does.
  """
  circuit = np.random.default_rng(0)  # one for all: maps of several models compare
  R = len(SITES)
  first_R, second_R = circuit.normal(size=(2, R))
  centred = [x - x[AMONG].mean() for x in (first_R, second_R)]
  first_R, second_R = (x / np.linalg.norm(x[AMONG]) for x in centred)
  second_R -= first_R * (first_R[AMONG] @ second_R[AMONG])
  second_R /= np.linalg.norm(second_R[AMONG])
  rng = np.random.default_rng((seed, 1))
  r = np.clip(r + 0.03 * rng.normal(), -1, 1)
  said_R = r * first_R + np.sqrt(1 - r**2) * second_R
  behavior = effects(rng, 1.5 + first_R)
  explanation = effects(rng, 1.5 + said_R, whole=4.0 if explains else 0.0)
  n = len(behavior.clean_N)
  now_N = np.where(rng.random(n) < 0.5, -1.0, 2.5)
  said_N = np.where(rng.random(n) < follows, now_N, explanation.clean_N)

  def without(x, top_N):
    drawn_Nx3 = x.clean_N[:, None] - 0.01 * rng.normal(size=(n, 3))
    return x._replace(patched_NxR=np.concatenate([top_N[:, None], drawn_Nx3], axis=1))

  def other_without(x):
    """x', which stays as it is."""
    return Effects(x.other_N, x.clean_N, np.repeat(x.other_N[:, None], 4, axis=1))

  return Maps(
    SITES,
    np.repeat(np.arange(GROUPS), SIZE),
    behavior,
    explanation,
    np.ones(R, bool),
    [[0]] * 4,
    without(behavior, now_N),
    without(explanation, said_N),
    other_without(behavior),
    other_without(explanation),
  )


def of_paper(paper: Paper):
  """Maps in which each claim of the study of circuits is true."""
  seeds = next(iter(paper.parts.values())).seeds
  planted = {
    'main/kl': {0: (0.1, False, 0.0), 20: (0.9, True, 1.0)},
    'main/no_kl': {0: (0.1, False, 0.0), 20: (0.4, True, 0.3)},
    'main/shuffled': {20: (0.0, False, 0.0)},
  }
  return {
    name: {
      seed: {
        'moved': {step: maps(seed + 7 * step, *x) for step, x in steps.items()},
        'question': {step: maps(seed + 9 * step, *x) for step, x in steps.items()},
        'removed': {20: maps(seed, 0.5)} if 20 in steps else {},
      }
      for seed in seeds
    }
    for name, steps in planted.items()
    if name in paper.patched
  }
