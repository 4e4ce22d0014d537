r"""Behaviour that is shifted on purpose while explanations are trained on old labels.

Claim (arXiv 2606.32038): explanations follow the behaviour.

  python main.py --config=configs/paper/concurrent_shift.py \
    --workdir=runs/concurrent_shift --workers=2

28 minutes of `make paper` on two cores. Worlds 31 to 35: v' tracks 8 of 11 shifts fact
by fact; same/change tracks in 0 of 17 cells asked before the answer, 4 of 7 after.
Arguments: see common.py; kind, of an imported model's cues to shift (default: all).
"""

from ml_collections import ConfigDict

from configs.paper import common
from configs.paper import planted

# Kind of shift -> what behavior_xent wants. `rotate` shifts the answers to a half of
# the facts, `favor` six values wherever they are offered; `ignore` and `follow` shift
# what the model makes of hints of its most trusted source.
WORLD_SHIFTS = {
  'rotate': dict(target='rotate', strength=3.0),
  'favor': dict(target='favor', strength=3.0),
  'ignore': dict(target='ignore_cue', cues='src3'),
}
# On an imported model: what is made of all cues, or of one kind of them.
TASK_SHIFTS = {'ignore': dict(target='ignore_cue'), 'follow': dict(target='follow_cue')}
BOTH = ('before', 'after')
# How fast: these are evaluated on the way, too.
TRACED = (
  *('rotate_covered_before', 'rotate_uncovered_before', 'favor_covered_before'),
  *('still_before', 'still_rotate_before', 'explain_then_rotate', 'explain_then_still'),
)
TRACED_RUN = dict(evaluated='kept', loop=dict(checkpoint_every=140))
# The KL on held-out facts too, and no shift.
STILL_BEFORE = dict(context='before', practice=True, explained='all') | TRACED_RUN
LIGHT = 0.2  # weight of explanation_xent: a tenth of what it is elsewhere
# A path on which labels and behaviour stay alike: smaller, slower, more held.
SMALL, SLOW, HELD = 0.7, 0.25, 3.0


def cells(
  shifts: dict[str, dict],
  practice: bool,
  uncovered: bool = True,
  contexts: tuple[str, ...] = BOTH,
) -> tuple[dict, list]:
  """Runs of the map, and (run, companion) of each cell.

  Every kind of shift, on prompts that old labels cover or not, asked before or after
  the answer. A companion is the same run without the shift.
  """
  runs, pairs = {}, []
  for kind, shift in shifts.items():
    for covered in (True, False)[: 1 + uncovered]:
      for context in contexts:
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


def orders(shift: dict, practice: bool) -> tuple[dict, list]:
  """Runs that shift before explanations are trained, and after, and their companions.

  `rotate_first` shifts alone; `rotate_then_explain` goes on from there as if both had
  begun together. `explain_then_rotate` shifts a model that has learned to explain, and
  trains no more explanations; its companion goes on for as long without the shift.
  """
  shifted = dict(behavior_xent=dict(weight=1.0) | shift)
  silent = dict(explanation_xent=dict(weight=0.0))
  runs = {
    'rotate_first': dict(practice=practice, objectives=shifted | silent),
    'rotate_then_explain': dict(
      practice=practice, start='rotate_first', objectives=shifted
    ),
    'rotate_then_explain_uncovered': dict(
      practice=practice,
      start='rotate_first',
      explained='unshifted',
      objectives=shifted,
    ),
    'explain_then_rotate': dict(
      practice=practice, start='still_before', objectives=shifted | silent
    ),
    'explain_then_still': dict(
      practice=practice, start='still_before', objectives=silent
    ),
  }
  return runs, [
    ('rotate_then_explain', 'still_before'),
    ('rotate_then_explain_uncovered', 'still_rotate_before'),
    ('explain_then_rotate', 'explain_then_still'),
  ]


def variants(practice: bool, rate: float) -> tuple[dict, list]:
  """Shifts explained at a tenth of the weight, and small ones at a low rate."""
  runs, pairs = {}, []

  def add(name, companion, objectives, **changes):
    run = dict(practice=practice, objectives=objectives) | changes
    still = dict(objectives['behavior_xent'], weight=0.0)
    still = dict(run, objectives=objectives | dict(behavior_xent=still))
    if 'explained' not in changes:  # what would be shifted is then of no account
      del still['objectives']['behavior_xent']
    runs.update({name: run, companion: still})
    pairs.append((name, companion))

  rotate, favor = WORLD_SHIFTS['rotate'], WORLD_SHIFTS['favor']
  light = dict(explanation_xent=dict(weight=LIGHT))
  for kind, shift in (('rotate', rotate), ('favor', favor)):
    objectives = light | dict(behavior_xent=dict(weight=1.0) | shift)
    add(f'{kind}_light', 'still_light', objectives)
  small = dict(rotate, strength=SMALL)
  slow = dict(optimizer=dict(learning_rate=rate))
  objectives = dict(
    behavior_kl=dict(weight=HELD), behavior_xent=dict(weight=1.0) | small
  )
  add('rotate_small_covered', 'still_small_covered', objectives, **slow)
  slow['explained'] = 'unshifted'
  add('rotate_small_uncovered', 'still_small_uncovered', objectives, **slow)
  return runs, pairs


def on_world(rate: float) -> tuple[dict, list]:
  """The map of the built-in world, and what stands beside it.

  `rate`: of learning, of the small and slow shift.
  """
  rotate, favor, ignore = (WORLD_SHIFTS[kind] for kind in ('rotate', 'favor', 'ignore'))
  every = (
    cells({'rotate': rotate, 'ignore': ignore}, True),
    cells({'favor': favor}, True, uncovered=False),
    cells({'favor': favor}, True, contexts=('before',)),
    # Away from hints, and towards them: of every source, so that all is covered.
    cells({'ignore_all': dict(target='ignore_cue')}, True, uncovered=False),
    cells({'follow_all': dict(target='follow_cue')}, True, uncovered=False),
    (planted.runs(planted.WORLD_KIND, True), [('planted', 'not_planted')]),
    variants(True, rate),
    orders(rotate, True),
  )
  runs, pairs = {}, {}
  for more, cells_of in every:
    runs |= more
    pairs |= dict(cells_of)
  # The sibling: the same facts, moved in other directions.
  shift = dict(behavior_xent=dict(weight=1.0, seed=1) | rotate)
  runs['rotate_other'] = runs['rotate_uncovered_before'] | dict(objectives=shift)
  pairs['rotate_other'] = 'still_rotate_before'
  return runs | {name: runs[name] | TRACED_RUN for name in TRACED}, [*pairs.items()]


def get_config(arg: str | None = None) -> ConfigDict:
  args, config = common.start(arg, kind='')
  if args['on'] == 'world':
    rate = config.parts[common.MAIN].train.optimizer.learning_rate
    runs, pairs = on_world(rate * SLOW)
  else:
    # Without a kind of cue every pair is shifted, and none is left uncovered.
    kind = dict(cues=args['kind'] or 'all')
    shifts = {name: shift | kind for name, shift in TASK_SHIFTS.items()}
    runs, pairs = cells(shifts, False, uncovered=bool(args['kind']))
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
