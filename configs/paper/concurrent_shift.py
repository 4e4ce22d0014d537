r"""Behaviour that is shifted on purpose while explanations are trained on old labels.

Claim (arXiv 2606.32038): explanations follow the behaviour.

  python main.py --config=configs/paper/concurrent_shift.py \
    --workdir=runs/concurrent_shift --workers=2

Worlds 41 to 45, each interval alone: where answers are moved fact by fact v' tracks in
six cells of seven, same/change in none of them (docs/paper.md).
Arguments: see common.py; kind, of the world's shifts, asked before alone, or of cues.
"""

from ml_collections import ConfigDict

from configs.paper import common
from configs.paper import planted

# Kind of shift -> what behavior_xent wants: `rotate` shifts the answers to a half of
# the facts, `favor` six values wherever they are offered; `ignore` what the model makes
# of hints of its most trusted source. Weak enough that labels and behaviour stay alike.
WORLD_SHIFTS = {
  'rotate': dict(target='rotate', strength=1.0),
  'favor': dict(target='favor', strength=0.5),
  'ignore': dict(target='ignore_cue', cues='src3'),
}
WORDS = 'favor'  # always covered: else its words would never be read in training
# On an imported model: what is made of all cues, or of one kind of them.
TASK_SHIFTS = {'ignore': dict(target='ignore_cue'), 'follow': dict(target='follow_cue')}
# These are evaluated on the way, too: how fast?
TRACED = ('rotate_covered_before', 'still_before')
TRACED += ('explain_then_rotate', 'explain_then_still')
TRACED_RUN = dict(evaluated='kept', loop=dict(checkpoint_every=common.WORLD_STEPS // 4))


def cells(
  shifts: dict[str, dict],
  practice: bool,
  uncovered: bool = True,
  contexts: tuple[str, ...] = ('before', 'after'),
  dpo: dict | None = None,
) -> tuple[dict, list]:
  """Runs of the map, and (run, companion) of each cell.

  Every kind of shift, on prompts that old labels cover or not, asked before or after
  the answer. A companion is the same run without the shift.

  `dpo`: fields of that objective, which then shifts in place of cross-entropy.
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
        if dpo is not None:
          run['objectives'], name = dict(dpo=dpo | shift), f'dpo_{name}'
        runs[name] = run
        still = dict(run, objectives=dict(behavior_xent=dict(shift, weight=0.0)))
        companion = f'still_{context}' if covered else f'still_{kind}_{context}'
        if covered:
          del still['objectives']
        runs[companion] = still
        pairs.append((name, companion))
  return runs, pairs


def with_shuffled(runs: dict[str, dict], pairs: list, *names: str) -> tuple[dict, list]:
  """The same, and of each run that is named its control: labels that say nothing."""
  control = dict(shuffle_labels=True)
  controls = {f'{name}_shuffled': runs[name] | control for name in names}
  return runs | controls, [*pairs, *((name, '') for name in controls)]


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
    'explain_then_rotate': dict(
      practice=practice, start='still_before', objectives=shifted | silent
    ),
    'explain_then_still': dict(
      practice=practice, start='still_before', objectives=silent
    ),
  }
  return runs, [
    ('rotate_then_explain', 'still_before'),
    ('explain_then_rotate', 'explain_then_still'),
  ]


def on_world() -> tuple[dict, list]:
  """The map of the built-in world, and what stands beside it."""
  shifts = dict(WORLD_SHIFTS)
  favor = {WORDS: shifts.pop(WORDS)}
  every = (
    cells(shifts, True),
    cells(favor, True, uncovered=False),
    (planted.runs(planted.WORLD_KIND, True), [('planted', 'not_planted')]),
    orders(shifts['rotate'], True),
  )
  runs, pairs = {}, {}
  for more, cells_of in every:
    runs |= more
    pairs |= dict(cells_of)
  # The sibling: the same facts, moved in other directions.
  shift = dict(behavior_xent=dict(weight=1.0, seed=1) | shifts['rotate'])
  runs['rotate_other'] = runs['rotate_uncovered_before'] | dict(objectives=shift)
  pairs['rotate_other'] = 'still_rotate_before'
  return with_shuffled(traced(runs), [*pairs.items()], 'rotate_covered_before')


def traced(runs: dict[str, dict]) -> dict[str, dict]:
  """The runs, of which those of TRACED keep what they are on the way."""
  return runs | {name: runs[name] | TRACED_RUN for name in TRACED if name in runs}


def get_config(arg: str | None = None) -> ConfigDict:
  args, config = common.start(arg, kind='')
  if args['on'] == 'world' and args['kind']:
    if args['kind'] not in WORLD_SHIFTS:
      raise ValueError(
        f"config argument kind='{args['kind']}': choose from {[*WORLD_SHIFTS]}"
      )
    shifts = {args['kind']: WORLD_SHIFTS[args['kind']]}
    runs, pairs = cells(shifts, True, args['kind'] != WORDS, contexts=('before',))
    runs, pairs = with_shuffled(traced(runs), pairs, f'{args["kind"]}_covered_before')
  elif args['on'] == 'world':
    runs, pairs = on_world()
  else:
    # Without a kind of cue every pair is shifted, and none is left uncovered.
    kind = dict(cues=args['kind'] or 'all')
    shifts = {name: shift | kind for name, shift in TASK_SHIFTS.items()}
    runs, pairs = cells(shifts, False, uncovered=bool(args['kind']))
    named = (name for name, _ in pairs if name.endswith('_covered_before'))
    runs, pairs = with_shuffled(runs, pairs, *named)
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
