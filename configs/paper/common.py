"""What the paper's experiments share: models, tasks, runs, how studies become one.

Every config of configs/paper/ takes these arguments:

  on         world (default); of an imported model: facts, hint_mmlu, aita, refusal
  seeds      the most there may be, see LOOKS; of the world from 41 on, or from first
  steps      of each training; 0: as the task's own config says (world: 800)

and, for an imported model, those of configs/common.py. Part `main` holds the runs
`kl`, `no_kl`, `sibling` and `shuffled` of configs/world.py.
"""

import importlib
from typing import Any

from ml_collections import ConfigDict

from configs import common
from configs import facts
from configs import world

LOOKS = (5, 10, 20)  # seeds at which claims are decided; a decided study ends
# What was seen of which worlds, and what was tried: docs/settings.md.
FIRST_SEED = 41
# Of explanation training: half of the examples of configs/world.py, for the time that
# all of it takes.
WORLD_STEPS = 800
WORLD_BATCHES = dict(explanation_batch=96, behavior_batch=48)
CHECKPOINTS = 100
PRACTICE_PAIRS = 9_600
# Tasks of imported models, each with its arguments and their defaults.
TASKS = dict.fromkeys(('hint_mmlu', 'aita', 'refusal'), common.IMPORT_ARGS)
TASKS['facts'] = facts.ARGS
MAIN = 'main'
WORLD = 'data.world'


def start(
  arg: str | None, part: str = MAIN, behavior: str = 'hint', **more: Any
) -> tuple[dict[str, Any], ConfigDict]:
  """The arguments, and a paper with one part and no study yet.

  Args:
    arg: what follows the colon of --config.
    part: its name.
    behavior: of the built-in world.
    **more: arguments that one config has beside the common ones.
  """
  parts = (x.partition('=') for x in (arg or '').split(','))
  on = next((x.strip() for name, _, x in parts if name.strip() == 'on'), 'world')
  known = TASKS.get(on, common.IMPORT_ARGS) | dict(on='world', seeds=5, steps=0)
  known |= dict(first=FIRST_SEED) | more
  del known['kl']  # every study has runs with it and without
  args = common.parse_arg(arg, **known)
  if args['on'] == 'world':
    first = _on_world(args, behavior)
  elif args['on'] in TASKS:
    first = _on_task(args)
  else:
    raise ValueError(
      f'config argument on={args["on"]!r}: choose from {["world", *TASKS]}'
    )
  title = 'Introspective coupling: the claims of arXiv 2606.32038'
  whole = dict(title=title, looks=LOOKS, parts={part: first}, studies={})
  config = ConfigDict(whole)
  controls = {name: first.runs[name].to_dict() for name in ('sibling', 'shuffled')}
  add_runs(config, controls, part)
  return args, config


def add_runs(config: ConfigDict, runs: dict[str, dict], part: str = MAIN) -> None:
  """More runs of a part, evaluated at their end unless they say otherwise."""
  last = dict(evaluated='last')
  if config.parts[part].task.module == WORLD:  # runs of half a minute
    steps = config.parts[part].train.loop.steps
    last['loop'] = dict(checkpoint_every=steps)
  with config.unlocked():
    for name, changes in runs.items():
      config.parts[part].runs[name] = ConfigDict(last | changes)


def add_study(config: ConfigDict, name: str, **fields: Any) -> None:
  """A study; its runs are of the part `main` where they name none."""
  whole = dict(published='', axis='', at=(), companions=()) | fields
  for field in ('runs', 'companions'):
    whole[field] = tuple(
      f'{MAIN}/{run}' if run and '/' not in run else run for run in whole[field]
    )
  whole['at'] = tuple(float(x) for x in whole['at'])
  with config.unlocked():
    config.studies[name] = ConfigDict(whole)


def merge(configs: list[ConfigDict]) -> ConfigDict:
  """One paper of several; what has one name must be the same in all of them.

  Raises:
    ValueError: two that differ in a run, a part or a study of one name.
  """
  first, *others = configs
  whole = first.copy_and_resolve_references()
  with whole.unlocked():
    for other in others:
      for name, part in other.parts.items():
        if name not in whole.parts:
          whole.parts[name] = part
          continue
        runs = whole.parts[name].runs
        for run, changes in part.runs.items():
          _check_equal(f'parts.{name}.runs.{run}', runs.get(run, changes), changes)
          runs[run] = changes
        for field in part:
          if field != 'runs':
            _check_equal(f'parts.{name}.{field}', whole.parts[name][field], part[field])
      for name, study in other.studies.items():
        _check_equal(f'studies.{name}', whole.studies.get(name, study), study)
        whole.studies[name] = study
  return whole


def donor(
  config: ConfigDict,
  name: str,
  task: dict | None = None,
  base: dict | None = None,
  reference: str = 'options',
) -> None:
  """A part without runs: another M_0, whose behaviours on the same pairs are labels."""
  part = config.parts[MAIN].copy_and_resolve_references()
  with part.unlocked():
    part.label.reference = reference
    part.task.update(task or {})
    part.base.update(base or {})
    part.runs = ConfigDict()
    part.report.update(main='', unregularised='', sibling='', shuffled='')
  with config.unlocked():
    config.parts[name] = part


def labels_of(part: str) -> str:
  """train.labels of another part of the same paper."""
  return f'part:{part}'


def _check_equal(field: str, one: Any, other: Any) -> None:
  if one != other:
    raise ValueError(f'{field} differs between two experiments: {one} and {other}')


def _on_world(args: dict[str, Any], behavior: str) -> ConfigDict:
  for name in sorted(set(common.IMPORT_ARGS) - {'kl', 'seeds', 'steps'}):
    if args[name] != common.IMPORT_ARGS[name]:
      raise ValueError(f'config argument {name}: of an imported model, not of on=world')
  steps = args['steps'] or WORLD_STEPS
  part = world.get_config(f'behavior={behavior}')
  part.seeds = tuple(range(args['first'], args['first'] + args['seeds']))
  part.task.practice_pairs = PRACTICE_PAIRS
  part.patch.update(contrasts=('moved', 'question'), checkpoints=4)
  part.train.update(WORLD_BATCHES)
  part.train.loop.update(steps=steps, checkpoint_every=min(CHECKPOINTS, steps))
  with part.unlocked():
    for name in ('sibling', 'shuffled'):
      del part.runs[name]['loop']
  return part


def _on_task(args: dict[str, Any]) -> ConfigDict:
  if args['first'] != FIRST_SEED:
    raise ValueError('config argument first: of on=world; elsewhere set seeds')
  known = TASKS[args['on']]
  given = {k: args[k] for k in known if k != 'kl'}
  given['steps'] = args['steps'] or known['steps']
  text = ','.join(
    f'{k}={int(v) if isinstance(v, bool) else v}' for k, v in given.items()
  )
  return importlib.import_module(f'configs.{args["on"]}').get_config(text)
