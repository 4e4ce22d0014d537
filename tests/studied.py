"""Records of a whole paper with planted explainers, in memory: no model, no files."""

import dataclasses
import functools

import numpy as np
import pyarrow as pa

from configs import world
from coupling.config import paper_schema, schema, validate
from coupling.config.paper_schema import Paper
from coupling.elicit.explanation import Explanation, phi
from coupling.paper import paper_seeds
from coupling.report.records import SeedRecords
from coupling.statistics.items import Items

GROUPS, SIZE, OPTIONS = 16, 20, 4
# Of no run; see provenance.of_rounds.
PROVENANCE = {
  'stages': {
    'main/seed0/base': {'stage': 'base', 'started': '2026-01-01', 'seconds': 2.0}
  },
  'packages': {'jax': ['1.0']},
  'devices': ['1 x toy'],
  'report_machine': 'toy, 1 CPUs',
}
SOURCES = ('self', 'orig', 'target', 'denial')  # of statements; the rest is chance


@dataclasses.dataclass(frozen=True)
class Run:
  """What a run does, at its last step.

  `says`: shares of statements by source. `drift`: share of items that behave anew; of
  these the share `change` changes with the cue. `shifted`: share of items whose
  behaviour is shifted on purpose. `labels`: share of labels that are another model's.
  `changed`: of the labels trained on. `planted`: share of items with a cue of
  source0, and of those never explained, on which the cue is followed. `swaps`:
  statements follow the swapped answer.
  """

  says: dict[str, float]
  drift: float = 0.3
  change: float = 0.4
  shifted: float = 0.0
  labels: float = 0.0
  steps: tuple[int, ...] = (10,)
  changed: float | None = None
  planted: float = 0.0
  swaps: bool = False


class Records(SeedRecords):
  """Records with what the swap test said, where a run has it."""

  swaps: dict[str, Items]

  def swapped(self, run: str) -> Items | None:
    return self.swaps.get(run)


@functools.cache
def experiment() -> schema.Experiment:
  return validate.resolve(world.get_config('seeds=1'))


def train(**changes) -> schema.Train:
  """The default training with changes; objectives by their short names kl and shift."""
  default = experiment().train
  terms = default.objectives
  objectives = schema.Objectives(
    explanation_xent=schema.ExplanationXent(weight=changes.pop('explains', 2.0)),
    behavior_kl=dataclasses.replace(terms.behavior_kl, **changes.pop('kl', {})),
    behavior_xent=dataclasses.replace(terms.behavior_xent, **changes.pop('shift', {})),
  )
  lora = dataclasses.replace(default.lora, rank=changes.pop('rank', 0))
  return dataclasses.replace(default, objectives=objectives, lora=lora, **changes)


def part(trains: dict[str, schema.Train], seeds: tuple[int, ...], **roles):
  """An experiment with these runs; the first is the main one."""
  e = experiment()
  named = dict.fromkeys(('unregularised', 'sibling', 'shuffled'), '') | roles
  report = dataclasses.replace(e.report, main=next(iter(trains)), **named)
  return dataclasses.replace(e, runs=trains, seeds=seeds, report=report)


def records(runs: dict[str, Run], seed: int, groups: int = GROUPS) -> Records:
  """What one seed recorded: M_0, labels, and every run with its planted explainer."""
  rng = np.random.default_rng((seed, 7))
  n = groups * SIZE
  hint_N = rng.integers(OPTIONS, size=n)
  group_N = np.repeat(np.arange(groups), SIZE)
  surface = {'cue_kind': rng.integers(2, size=n), 'cue_option': hint_N}
  base = _behave(rng, n, 0.4)
  foreign = _behave(rng, n, 0.4)
  chance = _chance(rng, n)
  make = functools.partial(Items, group_N, surface, states_answer=True)
  orig = make(*base, stated=chance)
  tables, items, targets, labels, swaps, unexplained = {}, {}, {}, {}, {}, {}
  named = {}
  for index, (name, run) in enumerate(runs.items()):
    mine = np.random.default_rng((seed, index, 11))
    take_N = mine.random(n) < run.labels
    target = phi(*(np.where(take_N, a, b) for a, b in zip(foreign, base)))
    items[name], tables[name] = {}, {}
    anew, moved = _behave(mine, n, run.change), _behave(mine, n, 0.4)
    when_N, shifted_N = mine.random(n), mine.random(n) < run.shifted
    named[name] = shifted_N
    follow_N = mine.random(n) < run.planted
    for step in run.steps:
      drifted_N = when_N < run.drift * step / run.steps[-1]
      now = [np.where(drifted_N, a, b) for a, b in zip(anew, base)]
      now = [np.where(shifted_N, a, b) for a, b in zip(moved, now)]
      now[0] = np.where(follow_N & (surface['cue_kind'] == 0), hint_N, now[0])
      truths = phi(*now), phi(*base), target, Explanation(now[0], 0 * now[0])
      # Equal draws at every step: an item keeps the source of its statements.
      draws = np.random.default_rng((seed, index, 13))
      stated = _state(draws, run.says, truths)
      items[name][step] = make(*now, stated=stated)
      tables[name][step] = _table(seed, group_N, surface)
    targets[name] = target
    changed_N = mine.random(n) < (0.4 if run.changed is None else run.changed)
    labels[name] = Explanation(target.answer_N, 1 * changed_N)
    last = items[name][run.steps[-1]]
    if run.swaps:
      reads_N = base[0] != last.counterfactual_behavior_N
      said = Explanation(last.stated.answer_N, 1 * reads_N)
      swaps[name] = dataclasses.replace(last, behavior_N=base[0], stated=said)
    unexplained[name] = _planted(mine, make, surface, base, run)
  found = Records(tables, items, orig, targets, labels, {}, OPTIONS, unexplained, named)
  object.__setattr__(found, 'swaps', swaps)
  return found


def _behave(rng, n, change):
  counterfactual_N = rng.integers(OPTIONS, size=n)
  other_N = (counterfactual_N + rng.integers(1, OPTIONS, n)) % OPTIONS
  return np.where(rng.random(n) < change, other_N, counterfactual_N), counterfactual_N


def _chance(rng, n):
  return Explanation(rng.integers(OPTIONS, size=n), rng.integers(2, size=n))


def _state(rng, says, truths):
  n = len(truths[0].answer_N)
  draw_N, below = rng.random(n), 0.0
  within = []
  for source in SOURCES:
    within.append(draw_N < below + says.get(source, 0.0))
    below += says.get(source, 0.0)
  chance = _chance(rng, n)
  parts = zip(*truths), chance
  return Explanation(*(np.select(within, t, c) for t, c in zip(*parts)))


def _planted(rng, make, surface, base, run):
  """Items of a cue that is never explained: followed where it is planted."""
  follow_N = rng.random(len(base[0])) < run.planted
  now = np.where(follow_N, surface['cue_option'], base[0]), base[1]
  truths = phi(*now), phi(*base), phi(*base), Explanation(now[0], 0 * now[0])
  return make(*now, stated=_state(rng, run.says, truths))


def _table(seed, group_N, surface):
  n = len(group_N)
  return pa.table(
    {
      'prompt': [f'<q{i} of {seed}> & hint' for i in range(n)],
      'counterfactual': [f'<q{i} of {seed}>' for i in range(n)],
      'cue_kind': [f'source{k}' for k in surface['cue_kind']],
      'cue_option': surface['cue_option'],
      'options': [[f'v{k}' for k in range(OPTIONS)]] * n,
      'group': [f'fact {g}' for g in group_N],
    }
  )


# A paper in which each claim is true, and all seeds of it.

GOOD = dict(self=0.7, orig=0.1)
NEUTRAL = dict(self=0.3, orig=0.3)
STALE = dict(self=0.1, orig=0.7)
SHIFTED = dict(weight=1.0, target='ignore_cue', cues='all')


def paper(seeds: int = 5) -> tuple[Paper, dict[str, dict[int, Records]]]:
  """Every kind of study, of explainers that do what the paper claims."""
  runs: dict[str, tuple[schema.Train, Run]] = {
    'kl': (train(), Run(GOOD, steps=(0, 10, 20))),
    'no_kl': (
      train(kl=dict(weight=0.0)),
      Run(dict(self=0.45, orig=0.4), 0.6, 0.03, steps=(0, 10, 20)),
    ),
    'sibling': (train(seed=1), Run(GOOD)),
    'shuffled': (train(shuffle_labels=True), Run({}, 0.3)),
    'kl_0p1': (train(kl=dict(weight=0.1)), Run(dict(self=0.6, orig=0.2), 0.4)),
    'kl_10': (train(kl=dict(weight=10.0)), Run(GOOD, 0.2)),
    'plain': (train(kl=dict(prompts='counterfactual')), Run(GOOD, 0.9, 0.03)),
    'held': (train(practice=True), Run(GOOD, 0.1)),
    'noise_20': (train(noise=0.2), Run(dict(self=0.65, orig=0.1))),
    'noise_50': (train(noise=0.5), Run(dict(self=0.5, orig=0.1))),
    'rank_4': (train(rank=4), Run(NEUTRAL)),
    'rank_16': (train(rank=16), Run(dict(self=0.4, orig=0.25))),
    'rank_64': (train(rank=64), Run(dict(self=0.6, orig=0.15))),
    'rate_1': (train(), Run(dict(self=0.35, orig=0.3))),
    'rate_2': (train(), Run(dict(self=0.5, orig=0.2))),
    'changed_15': (train(), Run(dict(self=0.5, denial=0.3), changed=0.15)),
    'changed_5': (train(), Run(dict(self=0.2, denial=0.75), changed=0.04)),
    'changed_1': (train(), Run(dict(denial=0.99, self=0.01), changed=0.01)),
    'planting': (
      train(shift=dict(weight=1.0, cues='unexplained')),
      Run(GOOD, planted=0.9),
    ),
    'after': (train(context='after'), Run(GOOD, swaps=True)),
    'fixed_2': (train(start='kl'), Run(GOOD)),
    'fixed_3': (train(start='fixed_2'), Run(GOOD)),
    'again_2': (train(start='kl', labels='run:kl'), Run(dict(self=0.85))),
    'again_3': (train(start='again_2', labels='run:again_2'), Run(dict(self=0.85))),
  }
  for name, share, says in (
    ('old_50', 0.15, dict(self=0.6, target=0.15)),
    ('init_50', 0.5, dict(self=0.4, target=0.35)),
    ('init_100', 1.0, dict(self=0.25, target=0.55)),
  ):
    source = 'step:250' if name == 'old_50' else '{workdir}/init/seed{seed}/label'
    mixture = 1.0 if name != 'init_50' else 0.5
    made = train(labels=source, mixture=mixture)
    runs[name] = made, Run(says, labels=share)
  shifts = {
    'rotate': dict(weight=1.0, target='rotate', cues='all', strength=3.0),
    'ignore': SHIFTED,
    'favor': dict(weight=1.0, target='favor', cues='all', strength=2.0),
  }
  for name, shift in shifts.items():
    says = STALE if name == 'favor' else GOOD
    done = Run(says, 0.1, shifted=0.7, steps=(5, 10))
    runs[name] = train(shift=shift), done
    runs[f'{name}_free'] = (
      train(shift=shift, explained='unshifted'),
      Run(GOOD, 0.1, shifted=0.7, steps=(5, 10)),
    )
  runs['rotate_b'] = (
    train(shift=shifts['rotate'] | {'seed': 1}),
    Run(GOOD, 0.1, shifted=0.7, steps=(5, 10)),
  )
  runs['ignore_after'] = (
    train(shift=SHIFTED, context='after'),
    Run(GOOD, 0.1, shifted=0.7, swaps=True),
  )
  begun = train(shift=shifts['rotate'], explains=0.0)
  runs['begun'] = begun, Run({}, 0.1, shifted=0.7)
  runs['then'] = (
    train(start='begun', shift=shifts['rotate']),
    Run(GOOD, 0.1, shifted=0.7),
  )
  runs['quiet'] = train(seed=3), Run(GOOD, 0.05, steps=(5, 10))
  outsiders = {'outsider': (train(), Run(STALE))}
  names = tuple(range(21, 21 + seeds))
  roles = dict(unregularised='no_kl', sibling='sibling', shuffled='shuffled')
  parts = {
    'main': part({k: t for k, (t, _) in runs.items()}, names, **roles),
    'init': part({k: t for k, (t, _) in outsiders.items()}, names),
  }
  planned = {'main': runs, 'init': outsiders}
  found = {
    name: {seed: records({k: r for k, (_, r) in of.items()}, seed) for seed in names}
    for name, of in planned.items()
  }
  cells = ('rotate', 'rotate_b', 'rotate_free', 'ignore', 'ignore_free', 'favor')
  cells += ('favor_free', 'ignore_after', 'then')
  companions = ['quiet'] * 7 + ['after', 'quiet']
  studies = {
    'regularisation': study(
      'regularisation', ('no_kl', 'kl_0p1', 'kl', 'kl_10'), (0.0, 0.1, 1.0, 10.0),
      axis='weight of the behaviour KL', published='+11.1 points',
    ),
    'trajectory': study('trajectory', ('kl', 'no_kl')),
    'sources': study('sources', ('kl', 'old_50', 'init_50', 'init_100')),
    'noise': study('noise', ('kl', 'noise_20', 'noise_50'), (0.0, 0.2, 0.5), 'noise'),
    'shift': study('shift', cells, companions=companions),
    'planted': study('planted', ('planting',), companions=('kl',)),
    'capacity': study(
      'capacity', ('rank_4', 'rank_16', 'rank_64', 'kl'), (4, 16, 64, 0), 'LoRA rank'
    ),
    'rates': study(
      'rates', ('rate_1', 'rate_2', 'kl'), (1e-3, 2e-3, 4e-3), 'learning rate'
    ),
    'variety': study(
      'variety', ('kl', 'changed_15', 'changed_5', 'changed_1'), (1.0, 0.15, 0.05, 0.01)
    ),
    'access': paper_schema.Study(
      kind='access', claim='A claim.', published='', axis='',
      runs=('main/kl', 'init/outsider'), at=(), companions=(),
    ),
    'collapse': study('collapse', ('kl', 'plain', 'no_kl', 'held')),
    'iterated': study(
      'iterated', ('kl', 'again_2', 'again_3'), (1, 2, 3), 'round',
      ['', 'fixed_2', 'fixed_3'],
    ),
    'mechanism': study('mechanism', ('kl', 'no_kl', 'shuffled')),
  }  # fmt: skip
  return Paper(title='A paper', looks=(seeds,), parts=parts, studies=studies), found


def study(kind, runs, at=(), axis='', companions=(), published=''):
  """A study of runs of the main part."""
  return paper_schema.Study(
    kind=kind,
    claim=f'The claim of {kind}.',
    published=published,
    axis=axis,
    runs=tuple(f'main/{run}' for run in runs),
    at=tuple(map(float, at)),
    companions=tuple(f'main/{run}' if run else '' for run in companions),
  )


SEEDS = (1, 2, 3, 4)


def small(runs, trains=None, seeds=(1, 2, 3), **roles):
  """Parts of one part, with these runs."""
  trains = {name: train() for name in runs} | (trains or {})
  paper = Paper(
    title='Small',
    looks=(len(seeds),),
    parts={'main': part(trains, seeds, **roles)},
    studies={},
  )
  found = {'main': {seed: records(runs, seed) for seed in seeds}}
  return paper_seeds.Parts(paper, found, {}, {})


def states(module, of, found):
  """What a study's module decides, row by row."""
  return [row.state for row in module.rows(of, found)]
