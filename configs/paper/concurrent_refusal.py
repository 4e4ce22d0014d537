"""DOC"""

from ml_collections import ConfigDict

from configs.paper import common
from configs.paper import concurrent_shift

PART = 'request'
SHIFTS = {
  # Tuned towards complying, on all requests; old labels cover all of them.
  'comply': dict(target='comply', strength=3.0),
  # What the strongest reason does to the decision is taken away.
  'ignore': dict(target='ignore_cue', cues='why3'),
}


def get_config(arg: str | None = None) -> ConfigDict:
  args, config = common.start(arg, part=PART, behavior='request')
  on_world = args['on'] == 'world'
  shifts = SHIFTS if on_world else {'ignore': dict(target='ignore_cue')}
  runs, pairs = concurrent_shift.cells(shifts, practice=on_world)
  # A shift of everything leaves nothing that old labels do not cover.
  pairs = [
    (run, companion)
    for run, companion in pairs
    if not run.startswith('comply_uncovered')
  ]
  wanted = {name for pair in pairs for name in pair}
  common.add_runs(config, {k: v for k, v in runs.items() if k in wanted}, part=PART)
  names, companions = zip(*pairs)
  common.add_study(
    config,
    'concurrent_refusal',
    kind='shift',
    claim='Explanations follow refusals that are tuned while they are trained.',
    runs=tuple(f'{PART}/{name}' for name in names),
    companions=tuple(f'{PART}/{name}' for name in companions),
  )
  return config
