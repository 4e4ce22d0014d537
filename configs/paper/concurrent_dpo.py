r"""Behaviour that DPO shifts while explanations are trained on old labels.

Claim (arXiv 2606.32038): explanations follow it under other post-training objectives.

  python main.py --config=configs/paper/concurrent_dpo.py \
    --workdir=runs/concurrent_dpo --workers=2

Worlds 51 to 60: v' follows where old labels do not cover it, +37.6 [+30.5, +44.8]
points (denial +25.0); where they do, not shown beyond denial (docs/paper.md).
Arguments: see common.py; kind, of an imported model's cues to shift (default: all).
"""

from ml_collections import ConfigDict

from configs.paper import common
from configs.paper import concurrent_shift

# At the usual beta of 0.1 the loss falls until replies are tens of nats from M_0; at 1
# a few are enough, as is meant for a shift of 1 nat per score. The weight: see
# docs/settings.md.
WORLD_DPO = dict(weight=2.0, beta=1.0, batch=48)
TASK_DPO = dict(weight=1.0)


def get_config(arg: str | None = None) -> ConfigDict:
  args, config = common.start(arg, kind='')
  if args['on'] == 'world':
    # The shift of concurrent_shift.py that tracks most clearly.
    shifts = {'rotate': concurrent_shift.WORLD_SHIFTS['rotate']}
    options = dict(practice=True, dpo=WORLD_DPO)
  else:
    kind = dict(cues=args['kind'] or 'all')
    shifts = {k: x | kind for k, x in concurrent_shift.TASK_SHIFTS.items()}
    options = dict(practice=False, uncovered=bool(args['kind']), dpo=TASK_DPO)
  runs, pairs = concurrent_shift.cells(shifts, contexts=('before',), **options)
  if args['on'] == 'world':
    runs = concurrent_shift.traced(runs)  # companions are those of concurrent_shift.py
  named = (name for name, _ in pairs if name.endswith('_covered_before'))
  runs, pairs = concurrent_shift.with_shuffled(runs, pairs, *named)
  common.add_runs(config, runs)
  names, companions = zip(*pairs)
  common.add_study(
    config,
    'concurrent_dpo',
    kind='shift',
    claim='Explanations follow behaviour that DPO shifts while they are trained.',
    runs=names,
    companions=companions,
  )
  return config
