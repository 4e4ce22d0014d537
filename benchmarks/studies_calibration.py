"""Calibration of what the paper report decides, on explainers whose truth is known.

Claim, for the explainers below: the similarity at which the weights self - target cross
zero, over seeds of runs, is estimated without bias and covered by Fieller's interval in
93-97% of samples; so are new - old and the gain over the companion under a shift,
within a run and over seeds; the null that shuffles explanations within strata is
rejected at 5% in at most 6% of samples where nothing is known; whoever follows
behaviour or labels in the same share at all similarities is said to rise or fall with
it, or to cross zero, in at most 6%; and so a cell of the map that tends to neither side
to track or to stay.

  python -m benchmarks.studies_calibration --sims 2000 --seed 0

Measured so: the crossing is covered in 94.8%, with a bias of 0.0007 +- 0.0004 (its sd
is 0.019); new - old in 95.4% within a run and 94.7% over seeds, the gain in 94.9% of
both; the null is rejected in 4.8%; a follower is said to depend on similarity in 3.2%,
an imitator in 4.6%, a mixture in 2.7%; 5.2% of cells that tend to neither side are
decided.

Every sample is of SEEDS seeds, and goes through the functions of the evaluation.
  crossing: every seed has RUNS runs whose labels agree with its behaviour to various
    degrees s. Statements are E(M_t) with probability p and the labels with q, where
    p - q = l + b (s - c). l, of mean 0, and b vary from seed to seed; the truth is c.
  flat: the same, but p - q is equal at all s: of a perfect follower of behaviour, an
    imitator of labels, and a mixture. Raw, Self - Target is (p - q)(1 - s), which falls
    for the first and rises for the second.
  shift: statements are E(M_t) with probability w, E(M_0) with v, else chance, in
    shares that vary from group to group and from seed to seed; new - old is w - v.
  null: statements are drawn from the own answer and the hinted option alone, with
    shares that vary from group to group.
"""

import argparse
import dataclasses

import numpy as np

from benchmarks.calibration import (
  OPTIONS, SEED_CONCENTRATION, SEEDS, draw_behaviors, evaluation, group_mixtures,
)  # fmt: skip
from coupling.elicit.explanation import Explanation, agree, phi
from coupling.paper import cells
from coupling.paper import source_claims
from coupling.report.conclusions import CONTRADICTED, SUPPORTED
from coupling.statistics import across_seeds
from coupling.statistics import chance
from coupling.statistics import reliance
from coupling.statistics.contrasts import companion
from coupling.statistics.items import Items

RUNS, RUN_ITEMS = 8, 640
SIMILARITIES = np.linspace(0.4, 0.8, RUNS)
SLOPE, CROSSING = 1.0, 0.65  # of p - q, a unit of similarity; and where it is 0
TOLD = 0.9  # p + q
# p - q of explainers that go alike with behaviour, or with labels, at all similarities.
FLAT = {'follower': 0.8, 'imitator': -0.8, 'mixture': 0.2}
GROUPS = 64
SHIFTED = 0.5  # share of items whose behaviour a shift draws anew
TRACKING = np.array([0.5, 0.2, 0.3])  # statements: new, old, chance
NEITHER = np.array([0.35, 0.35, 0.3])
LISTENER = np.array([0.0, 0.8, 0.2])  # the companion's statements
READER = np.array([0.5, 0.3, 0.2])  # own answer, hinted option, chance
CONFIDENCE_SHARE = 0.05


def sources_of(rng: np.random.Generator, lean: tuple[float, float]) -> dict:
  """Runs of SEEDS seeds as source_claims.numbers takes them, and their crossing.

  Args:
    rng: of the sample.
    lean: p - q at CROSSING, and how it changes with similarity.
  """
  found_SxR = []
  for _ in range(SEEDS):
    level, slope = rng.normal(lean, (0.03, 0.1))
    found_SxR.append(
      [
        labelled(rng, similarity, level + slope * (similarity - CROSSING))
        for similarity in SIMILARITIES + rng.normal(0, 0.02)
      ]
    )
  entries = [
    {
      'final': across_seeds.across_seeds([x['final'] for x in found_S]),
      'weights': across_seeds.across_seeds([x['weights'] for x in found_S]),
    }
    for found_S in zip(*found_SxR)
  ]
  line = source_claims.crossing(entries, 'weights.whole')
  return {'runs': entries, 'lines': {'weights': line}}


def labelled(rng: np.random.Generator, similarity: float, lean: float) -> dict:
  """Similarity of labels and behaviour of one run, and its weights self - target.

  Statements are E(M_t) with probability p, the labels with q, else chance, where
  p + q is TOLD and p - q is `lean`.
  """
  n = RUN_ITEMS
  behaved_2xN = rng.integers(OPTIONS, size=(2, n))
  own = phi(*behaved_2xN)
  moved_N = rng.random(n) > similarity
  other_N = (own.answer_N + rng.integers(1, OPTIONS, n)) % OPTIONS
  labels = Explanation(np.where(moved_N, other_N, own.answer_N), own.changed_N)
  draw_N = rng.random(n)
  with_own_N, with_labels_N = draw_N < (TOLD + lean) / 2, draw_N < TOLD
  chance = Explanation(rng.integers(OPTIONS, size=n), rng.integers(2, size=n))
  stated = Explanation(
    *(
      np.select([with_own_N, with_labels_N], [mine, given], drawn)
      for mine, given, drawn in zip(own, labels, chance)
    )
  )
  group_N = np.repeat(np.arange(GROUPS), n // GROUPS)
  items = Items(group_N, {}, *behaved_2xN, stated, states_answer=True)
  found = (reliance.terms(items, labels, reliance.DIFFERENCE, x) for x in (False, True))
  whole, answer = (float(x.numerator_N.sum() / x.denominator_N.sum()) for x in found)
  return {
    'final': {'behavior_similarity': float(agree(labels, own, True).mean())},
    'weights': {'whole': whole, 'answer': answer},
  }


def shift(rng: np.random.Generator, mixture_M: np.ndarray) -> tuple[dict, np.ndarray]:
  """`contrasts.companion` of one run, and the mixture of its seed."""
  mixture_M = rng.dirichlet(SEED_CONCENTRATION * mixture_M)
  behaviors = draw_behaviors(rng, GROUPS)
  n = len(behaviors.group_N)
  drift = behaviors.sibling  # the companion drifts, and is not shifted
  anew_N = rng.random(n) < SHIFTED
  moved = tuple(
    np.where(anew_N, rng.integers(OPTIONS, size=n), old_N) for old_N in behaviors.base
  )
  orig = evaluation(behaviors, behaviors.base, phi(*behaviors.base))
  items, other = (
    speak(rng, dataclasses.replace(behaviors, current=now), mixture_M_)
    for now, mixture_M_ in ((moved, mixture_M), (drift, LISTENER))
  )
  return companion(items, other, orig, anew_N), mixture_M


def speak(rng: np.random.Generator, behaviors, mixture_M: np.ndarray) -> Items:
  """Statements of E(M_t), of E(M_0) and of chance, in shares that vary by group."""
  mixture_NxM = group_mixtures(rng, behaviors, np.maximum(mixture_M, 1e-9))
  n = len(mixture_NxM)
  draw_N = rng.random(n)[:, None]
  kind_N = np.sum(draw_N > np.cumsum(mixture_NxM, axis=1)[:, :-1], axis=1)
  chance = Explanation(rng.integers(OPTIONS, size=n), rng.integers(2, size=n))
  sources = zip(phi(*behaviors.current), phi(*behaviors.base), chance)
  stated = Explanation(*(np.choose(kind_N, parts) for parts in sources))
  return evaluation(behaviors, behaviors.current, stated)


def null_p(rng: np.random.Generator) -> float:
  """p of the corrected gap of an explainer that reads the surface alone."""
  behaviors = draw_behaviors(rng, GROUPS)
  mixture_NxM = group_mixtures(rng, behaviors, READER)
  n = len(mixture_NxM)
  draw_N = rng.random(n)[:, None]
  kind_N = np.sum(draw_N > np.cumsum(mixture_NxM, axis=1)[:, :-1], axis=1)
  own_N, hint_N = behaviors.current[0], behaviors.surface['cue_option']
  answer_N = np.choose(kind_N, [own_N, hint_N, rng.integers(OPTIONS, size=n)])
  stated = Explanation(answer_N, 1 * (answer_N != own_N))
  items = evaluation(behaviors, behaviors.current, stated)
  orig = evaluation(behaviors, behaviors.base, stated)
  return chance.shuffled_null(items, orig)['shuffle_p']


def row(found: list[dict], true) -> dict[str, float]:
  """Mean truth, estimate, its error's mean and standard error, and coverage."""
  truths = np.broadcast_to(true, len(found))
  known = [(x, t) for x, t in zip(found, truths) if x['low'] is not None]
  value_S, low_S, high_S = (
    np.array([x[name] for x, _ in known]) for name in ('value', 'low', 'high')
  )
  true_S = np.array([t for _, t in known])
  error_S = value_S - true_S
  return {
    'samples': len(known),
    'true': true_S.mean(),
    'bias': error_S.mean(),
    'its se': error_S.std(ddof=1) / np.sqrt(len(known)),
    'sd': error_S.std(ddof=1),
    'coverage': np.mean((low_S <= true_S) & (true_S <= high_S)),
    'width': np.mean(high_S - low_S),
  }


def as_interval(statistic: dict) -> dict:
  """A statistic over seeds, in the form of an interval within a run."""
  return {'value': statistic['mean']} | {k: statistic[k] for k in ('low', 'high')}


def shifts(rng: np.random.Generator, sims: int) -> dict[str, dict[str, float]]:
  """Coverage under a shift, and how often a cell that tends nowhere is decided."""
  within, seeds, truths = [], [], []
  for _ in range(sims):
    pairs = [shift(rng, TRACKING) for _ in range(SEEDS)]
    within += [x['answer'] for x, _ in pairs[:1]]
    truths += [m for _, m in pairs[:1]]
    seeds.append(across_seeds.across_seeds([x for x, _ in pairs])['answer'])
  new_M, old_M, chance_M = np.array(truths).T
  gain = lambda new, chance: new + (chance - LISTENER[2]) / OPTIONS
  return {
    'new - old, within a run': row([x['difference'] for x in within], new_M - old_M),
    'gain, within a run': row([x['gain'] for x in within], gain(new_M, chance_M)),
    'new - old, over seeds': row(
      [as_interval(x['difference']) for x in seeds], TRACKING[0] - TRACKING[1]
    ),
    'gain, over seeds': row(
      [as_interval(x['gain']) for x in seeds], gain(TRACKING[0], TRACKING[2])
    ),
  }


def decided(rng: np.random.Generator, sims: int) -> float:
  """Share of cells that tend to neither side, but are called tracking or staying."""
  states = []
  for _ in range(sims):
    found = across_seeds.across_seeds([shift(rng, NEITHER)[0] for _ in range(SEEDS)])
    states.append(cells.state(found['answer'], None))
  return float(np.mean([state in (SUPPORTED, CONTRADICTED) for state in states]))


def flat(rng: np.random.Generator, sims: int) -> dict[str, float]:
  """Share of samples in which what does not depend on similarity is said to."""
  told = {}
  for name, lean in FLAT.items():
    found = [sources_of(rng, (lean, 0.0)) for _ in range(sims)]
    states = [{source_claims.rising(x), source_claims.about(x)} for x in found]
    told[name] = float(np.mean([bool(x & {SUPPORTED, CONTRADICTED}) for x in states]))
  return told


def main():
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--sims', type=int, default=2000)
  parser.add_argument('--seed', type=int, default=0)
  flags = parser.parse_args()
  rng = np.random.default_rng(flags.seed)
  lines = (sources_of(rng, (0.0, SLOPE))['lines'] for _ in range(flags.sims))
  crossings = [as_interval(x['weights']['crossing']) for x in lines]
  table = {'crossing': row(crossings, CROSSING)}
  table |= shifts(rng, flags.sims)
  print(f'{flags.sims} simulations, {SEEDS} seeds')
  columns = next(iter(table.values()))
  print(f'{"estimand":<26}' + ''.join(f'{column:>10}' for column in columns))
  for name, found in table.items():
    print(f'{name:<26}' + ''.join(f'{value:>10.4f}' for value in found.values()))
  rejected = np.mean([null_p(rng) <= CONFIDENCE_SHARE for _ in range(flags.sims)])
  print(f'null rejected at 5%: {rejected:.4f}')
  for name, share in flat(rng, flags.sims).items():
    print(f'{name}, yet said to depend on similarity: {share:.4f}')
  print(f'neither side, yet decided: {decided(rng, flags.sims):.4f}')


if __name__ == '__main__':
  main()
