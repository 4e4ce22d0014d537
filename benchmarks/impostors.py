"""Who passes the verdict: explainers that do not track themselves, and some that do.

Claim: each impostor of simulated_explainers.py, who knows no more of single items' own
v' than what a sibling shares, is called "shown" in at most 5% of experiments of five
seeds; trackers, who state E(M_t) in a share of .35 or .25 of the items and E(M_0) in
.20 or .15, are in nearly all. The run on shuffled labels is easy to exceed: it knows
its own answer alone, as suits impostors. Those of the demo know more, and trackers of
less than .45 on self beyond orig do not exceed them: power here is that of the other
checks.

  python -m benchmarks.impostors --experiments 300 --seed 0
"""

import argparse
import dataclasses

import numpy as np

from benchmarks import simulated_explainers as simulated
from coupling.elicit.explanation import Explanation
from coupling.report import aggregate
from coupling.report import verdict
from coupling.statistics import reliance
from coupling.statistics import scores
from coupling.statistics import sibling_control
from coupling.statistics.intervals import clustered_wilson
from coupling.statistics.items import Items

SEEDS = 5  # of an experiment


def evaluation(w: simulated.World, model: str, said_N: np.ndarray) -> Items:
  changed_N = (said_N != w.answer[model]).astype(int)
  surface = {'cue_kind': w.kind_N, 'cue_option': w.cue_N}
  stated = Explanation(said_N, changed_N)
  return Items(w.group_N, surface, w.answer[model], w.truth[model], stated, True)


# What the run on shuffled labels says; a run of the demo has a weight of .2 to .3 on
# the own v', and none on the old one.
EASY = simulated.mixture((0.6, simulated.denial), (0.4, simulated.chance))
NOISE = simulated.mixture(
  (0.25, simulated.own_truth), (0.45, simulated.denial), (0.3, simulated.chance)
)


def checked(
  rng: np.random.Generator,
  w: simulated.World,
  explain: simulated.Explainer,
  noise: simulated.Explainer = EASY,
) -> dict:
  """What the verdict's checks rest on, of one seed."""
  main, sibling = (evaluation(w, x, explain(rng, w, x)) for x in ('main', 'sibling'))
  orig = evaluation(w, 'base', w.answer['base']).truth
  shuffled = evaluation(w, 'sibling', noise(rng, w, 'sibling'))
  # Of held-out facts the inputs tell how labels are spread, and no more.
  alone = evaluation(
    w, 'main', simulated.base_rates('base')(rng.spawn(1)[0], w, 'main')
  )
  right = (main.right(x) for x in (main.truth, orig))
  terms = reliance.terms(main, orig, reliance.DIFFERENCE, answer_only=True)
  return {
    'gap': scores.difference(*right, main.group_N, 0),
    'reliance_answer': {'difference': terms.interval(main.group_N, 0)._asdict()},
    'beyond_shared': sibling_control.beyond_shared(main, sibling),
    'shuffled': reliance.contrast((main, orig), (shuffled, orig), answer_only=True),
    'other_explainer': reliance.contrast(
      (main, orig),
      (dataclasses.replace(main, stated=sibling.stated), orig),
      answer_only=True,
      coefficients=reliance.SELF,
    ),
    'input_only': reliance.contrast(
      (main, orig), (alone, orig), answer_only=True, coefficients=reliance.SELF
    ),
  }


def shown(
  rng: np.random.Generator, worlds: list[simulated.World], explain: simulated.Explainer
) -> dict:
  """Whether an experiment over worlds is called shown, and which checks hold."""
  found = aggregate.over_seeds([checked(rng, w, explain) for w in worlds])
  summary = {
    'roles': {'main': 'main', 'sibling': 'sibling', 'shuffled': 'shuffled'},
    'runs': {'main': {'final': found}},
    'sibling': {'explanations': found},
    'contrasts': {
      'shuffled': {'reliance_answer_difference': found['shuffled']},
      'other_explainer': {'reliance_answer_self': found['other_explainer']},
      'input_only': {'reliance_answer_self': found['input_only']},
    },
  }
  unmet = verdict.failed(summary)
  names = verdict.checks(summary)
  return {'shown': not unmet} | {name: name not in unmet for name in names}


def rates(
  experiments: int,
  seed: int,
  explainers: dict[str, simulated.Explainer],
  **world: float,
) -> dict[str, dict[str, np.ndarray]]:
  """For every explainer, whether each experiment was shown and passed each check.

  `world`: as `draw` takes it.
  """
  found = {name: [] for name in explainers}
  for experiment in range(experiments):
    rng = np.random.default_rng((seed, experiment))
    worlds = [simulated.draw(rng, **world) for _ in range(SEEDS)]
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
  of_kind = {'impostor': simulated.IMPOSTORS, 'tracker': simulated.TRACKERS}
  parser.add_argument('--kind', choices=of_kind, help='one of them alone')
  flags = parser.parse_args()
  for title in [flags.kind] if flags.kind else of_kind:
    explainers = of_kind[title]
    table = rates(flags.experiments, flags.seed, explainers)
    for name, (world, explain) in (
      simulated.IN_OTHER_WORLDS.items() if title == 'impostor' else ()
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
