r"""Refusals that are tuned while explanations are trained on old labels.

Claim (arXiv 2606.32038): explanations follow the behaviour.

  python main.py --config=configs/paper/concurrent_refusal.py \
    --workdir=runs/concurrent_refusal --workers=2

Worlds 41 to 45: not tested; labels and behaviour agree on 35% (docs/paper.md).
Arguments: see common.py; not on an imported model (concurrent_shift.py:on=refusal).
"""

from ml_collections import ConfigDict

from configs.paper import common
from configs.paper import concurrent_shift

PART = 'request'
# Tuned towards complying, on all requests; old labels cover all of them.
COMPLY = dict(target='comply', strength=0.5)


def get_config(arg: str | None = None) -> ConfigDict:
  args, config = common.start(arg, part=PART, behavior='request')
  if args['on'] != 'world':
    raise ValueError(
      f'config argument on={args["on"]!r}: this one is of the built-in world; for an '
      'imported model: configs/paper/concurrent_shift.py:on=refusal'
    )
  # A shift of everything leaves nothing that old labels do not cover.
  runs, pairs = concurrent_shift.cells({'comply': COMPLY}, True, uncovered=False)
  common.add_runs(config, runs, part=PART)
  for control in ('no_kl', 'sibling', 'shuffled'):
    with config.parts[PART].unlocked():
      del config.parts[PART].runs[control]
  config.parts[PART].report.update(unregularised='', sibling='', shuffled='')
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
