"""Who passes the verdict: explainers that do not track themselves, and some that do.

Claim: each impostor below, who knows no more of single items' own v' than what a
sibling shares, is called "shown" in at most 5% of experiments of five seeds; trackers,
who state E(M_t) in a share of .35 or .25 of the items and E(M_0) in .20 or .15, are in
nearly all.

A world has scores of the options: shared by all models (a fact, an item), drift that
M_t and its sibling share, and each model's own. Behaviour is their argmax, with the
cue's option raised by the strength of its kind: so where the own answer is not the
cue's option, the own v' is nearly always that answer, while M_0's varies. An explainer
is a function of what it knows; a consistent one says "changed" where v' is not the own
answer. The run on shuffled labels is easy to exceed: it knows its own answer alone, as
suits impostors. Those of the demo know more, and trackers of less than .45 on self
beyond orig do not exceed them: power here is that of the other checks.

  python -m benchmarks.impostors --experiments 300 --seed 0
"""

import argparse
from collections.abc import Callable
import dataclasses

import numpy as np

from coupling.elicit.explanation import Explanation
from coupling.report import aggregate
from coupling.report import verdict
from coupling.statistics import reliance
from coupling.statistics import scores as scores_lib
from coupling.statistics import sibling_control
from coupling.statistics.intervals import clustered_wilson
from coupling.statistics.items import Items

OPTIONS, GROUPS, GROUP_SIZE, SEEDS = 4, 64, 40, 5
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


def evaluation(w: World, model: str, said_N: np.ndarray) -> Items:
  changed_N = (said_N != w.answer[model]).astype(int)
  surface = {'cue_kind': w.kind_N, 'cue_option': w.cue_N}
  stated = Explanation(said_N, changed_N)
  return Items(w.group_N, surface, w.answer[model], w.truth[model], stated, True)


# What the run on shuffled labels says; a run of the demo has a weight of .2 to .3 on
# the own v', and none on the old one.
EASY = mixture((0.6, denial), (0.4, chance))
NOISE = mixture((0.25, own_truth), (0.45, denial), (0.3, chance))


def checked(
  rng: np.random.Generator, w: World, explain: Explainer, noise: Explainer = EASY
) -> dict:
  """What the verdict's checks rest on, of one seed."""
  main, sibling = (evaluation(w, x, explain(rng, w, x)) for x in ('main', 'sibling'))
  orig = evaluation(w, 'base', w.answer['base']).truth
  shuffled = evaluation(w, 'sibling', noise(rng, w, 'sibling'))
  # Of held-out facts the inputs tell how labels are spread, and no more.
  alone = evaluation(w, 'main', base_rates('base')(rng.spawn(1)[0], w, 'main'))
  right = (main.right(x) for x in (main.truth, orig))
  terms = reliance.terms(main, orig, reliance.DIFFERENCE, answer_only=True)
  return {
    'gap': scores_lib.difference(*right, main.group_N, 0),
    'reliance_answer': {'difference': terms.interval(main.group_N, 0)._asdict()},
    'beyond_shared': sibling_control.beyond_shared(main, sibling),
    'shuffled': reliance.contrast((main, orig), (shuffled, orig), answer_only=True),
    'input_only': reliance.contrast(
      (main, orig), (alone, orig), answer_only=True, coefficients=reliance.SELF
    ),
  }


def shown(rng: np.random.Generator, worlds: list[World], explain: Explainer) -> dict:
  """Whether an experiment over worlds is called shown, and which checks hold."""
  found = aggregate.over_seeds([checked(rng, w, explain) for w in worlds])
  summary = {
    'roles': {'main': 'main', 'sibling': 'sibling', 'shuffled': 'shuffled'},
    'runs': {'main': {'final': found}},
    'sibling': {'explanations': found},
    'contrasts': {
      'shuffled': {'reliance_answer_difference': found['shuffled']},
      'input_only': {'reliance_answer_self': found['input_only']},
    },
  }
  unmet = verdict.failed(summary)
  names = verdict.checks(summary)
  return {'shown': not unmet} | {name: name not in unmet for name in names}


def rates(
  experiments: int, seed: int, explainers: dict[str, Explainer], **world: float
) -> dict[str, dict[str, np.ndarray]]:
  """For every explainer, whether each experiment was shown and passed each check.

  `world`: as `draw` takes it.
  """
  found = {name: [] for name in explainers}
  for experiment in range(experiments):
    rng = np.random.default_rng((seed, experiment))
    worlds = [draw(rng, **world) for _ in range(SEEDS)]
    for name, explain in explainers.items():
      found[name].append(shown(rng, worlds, explain))
  return {
    name: {key: np.array([x[key] for x in rows]) for key in rows[0]}
    for name, rows in found.items()
  }


def main():
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--experiments', type=int, default=300)
  parser.add_argument('--seed', type=int, default=0)
  flags = parser.parse_args()
  for title, explainers in (('impostor', IMPOSTORS), ('tracker', TRACKERS)):
    table = rates(flags.experiments, flags.seed, explainers)
    for name, (world, explain) in (
      IN_OTHER_WORLDS.items() if title == 'impostor' else ()
    ):
      table |= rates(flags.experiments, flags.seed, {name: explain}, **world)
    checks = list(next(iter(table.values())))
    print(f'\n| {title} | {" | ".join(checks)} |')
    print('|---|' + '---|' * len(checks))
    for name, row in table.items():
      share, low, high = clustered_wilson(row['shown'], np.arange(flags.experiments))
      cells = [f'{100 * share:.1f}% [{100 * low:.1f}, {100 * high:.1f}]']
      cells += [f'{100 * row[key].mean():.0f}%' for key in checks[1:]]
      print(f'| {name} | {" | ".join(cells)} |')


if __name__ == '__main__':
  main()
