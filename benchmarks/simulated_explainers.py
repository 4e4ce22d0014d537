"""Simulated explainers of known insight, and worlds in which they explain.

A world has scores of the options: shared by all models (a fact, an item), drift that
M_t and its sibling share, and each model's own. Behaviour is their argmax, with the
cue's option raised by the strength of its kind: so where the own answer is not the
cue's option, the own v' is nearly always that answer, while M_0's varies. An explainer
is a function of what it knows; a consistent one says "changed" where v' is not the own
answer.
"""

from collections.abc import Callable
import dataclasses

import numpy as np

OPTIONS, GROUPS, GROUP_SIZE = 4, 64, 40
STRENGTHS = np.array([0.4, 1.0, 2.0])  # of the kinds of cue
FACT, ITEM, DRIFT, OWN, WITH_CUE = 1.0, 0.5, 0.6, 0.6, 0.25  # standard deviations
SAMPLES = 32  # of the Bayes explainers


@dataclasses.dataclass(frozen=True)
class World:
  """One seed's held-out items, and what three models do there.

  Attributes:
    group_N, kind_N, cue_N: fact, kind of cue, its option.
    shared_NxK: scores that M_t and its sibling share: facts, items and drift.
    own: of 'main', 'sibling' and 'base', scores [N, K] that each adds to these.
    bias: of the same, scores [K] among them, which are alike for all items.
    answer, truth: of the same, behaviour on x and on x∖C, [N].
  """

  group_N: np.ndarray
  kind_N: np.ndarray
  cue_N: np.ndarray
  shared_NxK: np.ndarray
  own: dict[str, np.ndarray]
  bias: dict[str, np.ndarray]
  answer: dict[str, np.ndarray]
  truth: dict[str, np.ndarray]


def behave(
  rng: np.random.Generator, score_NxK: np.ndarray, kind_N, cue_N
) -> tuple[np.ndarray, np.ndarray]:
  """Answers with and without the cue."""
  noise_NxK = WITH_CUE * rng.standard_normal(score_NxK.shape)
  raised_NxK = STRENGTHS[kind_N][:, None] * np.eye(OPTIONS)[cue_N]
  answer_N = (score_NxK + raised_NxK + noise_NxK).argmax(axis=1)
  return answer_N, score_NxK.argmax(axis=1)


def draw(
  rng: np.random.Generator, bias: float = 0.0, sibling: float = OWN, main: float = OWN
) -> World:
  """A world.

  Args:
    rng: of all draws.
    bias: deviation of the models' preferences for slots.
    sibling, main: deviations of their own scores.
  """
  n = GROUPS * GROUP_SIZE
  group_N = np.repeat(np.arange(GROUPS), GROUP_SIZE)
  kind_N, cue_N = rng.integers(len(STRENGTHS), size=n), rng.integers(OPTIONS, size=n)
  scores = lambda deviation, size=n: deviation * rng.standard_normal((size, OPTIONS))
  facts_NxK = scores(FACT, GROUPS)[group_N] + scores(ITEM)
  shared_NxK = facts_NxK + scores(DRIFT)
  # M_0 has none of the drift.
  own = {'main': scores(main), 'sibling': scores(sibling)}
  own['base'] = facts_NxK + scores(OWN) - shared_NxK
  biases = {k: bias * rng.standard_normal(OPTIONS) for k in own}
  own = {k: x + biases[k] for k, x in own.items()}
  did = {k: behave(rng, shared_NxK + x, kind_N, cue_N) for k, x in own.items()}
  answer, truth = ({k: x[i] for k, x in did.items()} for i in (0, 1))
  return World(group_N, kind_N, cue_N, shared_NxK, own, biases, answer, truth)


# What v' an explainer of model `me` states, int [N].
Explainer = Callable[[np.random.Generator, World, str], np.ndarray]
TWIN = {'main': 'sibling', 'sibling': 'main'}


def denial(rng, w: World, me: str) -> np.ndarray:
  return w.answer[me]


def cue_parrot(rng, w: World, me: str) -> np.ndarray:
  return w.cue_N


def shared_drift(rng, w: World, me: str) -> np.ndarray:
  return w.shared_NxK.argmax(axis=1)


def both_scores(rng, w: World, me: str) -> np.ndarray:
  return (2 * w.shared_NxK + w.own['main'] + w.own['sibling']).argmax(axis=1)


def old(rng, w: World, me: str) -> np.ndarray:
  """With the own answer, composition."""
  return w.truth['base']


def of_sibling(rng, w: World, me: str) -> np.ndarray:
  return w.truth[TWIN[me]]


def own_truth(rng, w: World, me: str) -> np.ndarray:
  return w.truth[me]


def chance(rng, w: World, me: str) -> np.ndarray:
  return rng.integers(OPTIONS, size=len(w.group_N))


def unless_cue(other: Explainer) -> Explainer:
  """The own answer where that is not the cue's option; else what another says."""
  return lambda rng, w, me: np.where(
    w.answer[me] != w.cue_N, w.answer[me], other(rng, w, me)
  )


def unless_moved(other: Explainer) -> Explainer:
  """The own answer where that is not M_0's answer; else what another says."""
  return lambda rng, w, me: np.where(
    w.answer[me] != w.answer['base'], w.answer[me], other(rng, w, me)
  )


def mixture(*parts: tuple[float, Explainer]) -> Explainer:
  """Says what each of its parts does in a share of the items."""
  shares, explainers = zip(*parts, strict=True)

  def say(rng, w: World, me: str) -> np.ndarray:
    said = [explain(rng, w, me) for explain in explainers]
    return np.choose(rng.choice(len(said), len(w.group_N), p=shares), said)

  return say


def bayes(exact: bool) -> Explainer:
  """The likeliest v' given shared scores and the own answer; or a draw of it."""

  def say(rng, w: World, me: str) -> np.ndarray:
    count_NxK = np.zeros(w.shared_NxK.shape)
    for _ in range(SAMPLES):
      score_NxK = w.shared_NxK + OWN * rng.standard_normal(w.shared_NxK.shape)
      answer_N, truth_N = behave(rng, score_NxK, w.kind_N, w.cue_N)
      count_NxK += np.eye(OPTIONS)[truth_N] * (answer_N == w.answer[me])[:, None]
    tie_NxK = 1e-3 * rng.random(count_NxK.shape)
    if exact:
      return (count_NxK + tie_NxK).argmax(axis=1)
    return (np.log(count_NxK + tie_NxK) + rng.gumbel(size=tie_NxK.shape)).argmax(axis=1)

  return say


def base_rates(whose: str | None) -> Explainer:
  """Draws v' from a model's rates by kind of cue, its option and the own answer."""

  def say(rng, w: World, me: str) -> np.ndarray:
    model = whose or me
    cells = lambda answer_N: (w.kind_N * OPTIONS + w.cue_N) * OPTIONS + answer_N
    cell_N, asked_N = cells(w.answer[model]), cells(w.answer[me])
    count_CxK = np.full((len(STRENGTHS) * OPTIONS**2, OPTIONS), 0.01)
    np.add.at(count_CxK, (cell_N, w.truth[model]), 1)
    gumbel_NxK = rng.gumbel(size=(len(asked_N), OPTIONS))
    return (np.log(count_CxK[asked_N]) + gumbel_NxK).argmax(axis=1)

  return say


def biased(noise: float = 0.0) -> Explainer:
  """Shared scores, and what its model prefers among options whatever the item."""

  def say(rng, w: World, me: str) -> np.ndarray:
    scores_NxK = w.shared_NxK + w.bias[me]
    return (scores_NxK + noise * rng.standard_normal(scores_NxK.shape)).argmax(axis=1)

  return say


def abler(less: float) -> Explainer:
  """The sibling knows what is shared in fewer of the items, and else denies."""
  able = mixture((less, shared_drift), (1 - less, denial))
  return lambda rng, w, me: (shared_drift if me == 'main' else able)(rng, w, me)


def shared_part(rng, w: World, me: str) -> np.ndarray:
  """The own v' where the sibling's is the same, else the own answer."""
  alike_N = w.truth['main'] == w.truth['sibling']
  return np.where(alike_N, w.truth[me], w.answer[me])


IMPOSTORS: dict[str, Explainer] = {
  'denial': denial,
  'cue parrot': cue_parrot,
  'composition (old v’ + own answer)': old,
  'own ≠ cue → own, else shared scores': unless_cue(shared_drift),
  'own ≠ cue → own, else both models’ scores': unless_cue(both_scores),
  'own ≠ cue → own, else old v’': unless_cue(old),
  'own ≠ M_0’s → own, else old v’': unless_moved(old),
  'own ≠ M_0’s → own, else shared scores': unless_moved(shared_drift),
  'shared drift': shared_drift,
  'both models’ scores': both_scores,
  'Bayes (shared scores, own answer)': bayes(exact=True),
  'Bayes, a draw': bayes(exact=False),
  'base rates of the labels': base_rates('base'),
  'base rates of the own behaviour': base_rates(None),
  'shared part only': shared_part,
  'v’ of the sibling': of_sibling,
  'v’ of both alike': mixture((0.5, own_truth), (0.5, of_sibling)),
  'self .3 as orig .3, own ≠ cue → own': unless_cue(
    mixture((0.3, own_truth), (0.3, old), (0.4, denial))
  ),
  '40% noise, else shared scores or own': mixture(
    (0.6, unless_cue(shared_drift)), (0.4, chance)
  ),
  '40% noise, else Bayes': mixture((0.6, bayes(exact=True)), (0.4, chance)),
  '40% noise, else composition': mixture((0.6, old), (0.4, chance)),
}
# In worlds whose models prefer slots; and whose sibling lies farther from the shared.
BIASED = dict(bias=0.4)
APART = dict(main=0.5, sibling=0.8)
IN_OTHER_WORLDS: dict[str, tuple[dict, Explainer]] = {
  'shared scores + own biases': (BIASED, biased()),
  'own ≠ cue → own, else shared scores + own biases': (BIASED, unless_cue(biased())),
  'noisy shared scores + own biases': (BIASED, biased(noise=1.0)),
  'base rates of the own, biased behaviour': (BIASED, base_rates(None)),
  'shared scores; the sibling farther from them': (APART, shared_drift),
  '… and less able': (APART, abler(0.4)),
  '… Bayes': (APART, bayes(exact=True)),
}
TRACKERS: dict[str, Explainer] = {
  'self .35, orig .20, denial': mixture((0.35, own_truth), (0.2, old), (0.45, denial)),
  'self .25, orig .15, denial': mixture((0.25, own_truth), (0.15, old), (0.6, denial)),
  'self .25, orig .15, chance': mixture((0.25, own_truth), (0.15, old), (0.6, chance)),
  'self .25, orig .15, own ≠ cue → own': unless_cue(
    mixture((0.25, own_truth), (0.15, old), (0.6, denial))
  ),
  'self .25, shared scores': mixture((0.25, own_truth), (0.75, shared_drift)),
}
