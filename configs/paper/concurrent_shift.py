"""placeholder docstring: written once measured."""

from ml_collections import ConfigDict

from configs.paper import common

# Kind of shift -> what behavior_xent wants. `rotate` shifts the answers to a half of
# the facts, `favor` six values wherever they are offered; `ignore` and `follow` shift
# what the model makes of hints of its most trusted source.
WORLD_SHIFTS = {
  'rotate': dict(target='rotate', strength=3.0),
  'favor': dict(target='favor', strength=3.0),
  'ignore': dict(target='ignore_cue', cues='src3'),
}


def cells(shifts: dict[str, dict], practice: bool) -> tuple[dict, list]:
  """Runs of the map, and (run, companion) of each cell.

  Every kind of shift, on prompts that old labels cover or not, asked before or after
  the answer. A companion is the same run without the shift.
  """
  runs, pairs = {}, []
  for kind, shift in shifts.items():
    for covered in (True, False):
      for context in ('before', 'after'):
        where = 'covered' if covered else 'uncovered'
        run = dict(
          context=context,
          practice=practice,
          explained='all' if covered else 'unshifted',
          objectives=dict(behavior_xent=dict(weight=1.0) | shift),
        )
        name = f'{kind}_{where}_{context}'
        runs[name] = run
        still = dict(run, objectives=dict(behavior_xent=dict(shift, weight=0.0)))
        companion = f'still_{context}' if covered else f'still_{kind}_{context}'
        if covered:
          del still['objectives']
        runs[companion] = still
        pairs.append((name, companion))
  return runs, pairs


def get_config(arg: str | None = None) -> ConfigDict:
  args, config = common.start(arg)
  runs, pairs = cells(WORLD_SHIFTS, practice=True)
  common.add_runs(config, runs)
  names, companions = zip(*pairs)
  common.add_study(
    config,
    'concurrent_shift',
    kind='shift',
    claim='Explanations follow behaviour that is shifted while they are trained.',
    runs=names,
    companions=companions,
  )
  return config
