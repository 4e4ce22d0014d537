"""Refusals that are tuned while explanations are trained on old labels.

Claim (arXiv 2606.32038): explanations follow the behaviour.

  python main.py --config=configs/paper/concurrent_refusal.py \\
    --workdir=runs/concurrent_refusal --workers=2

The built-in world's comply/refuse behaviour, whose cue is a stated reason: tuned to
comply with all requests, or made to ignore its strongest reason, with old labels on
what is shifted or not; the former asked before and after the decision. Of an imported
model: concurrent_shift.py:on=refusal.

Seen on worlds 31 to 35: complying stays with the old labels: new on v' 8 of 100 before,
10 after (companions 7 and 9), on same/change 12 and 10; outside the paper's similarity.
Ignoring a reason is not decided. Its stages took 12 minutes of `make paper` on two
cores.

Arguments: see common.py.
"""

from ml_collections import ConfigDict

from configs.paper import common
from configs.paper import concurrent_shift

PART = 'request'
# Tuned towards complying, on all requests; old labels cover all of them.
COMPLY = dict(target='comply', strength=3.0)
# What the strongest reason does to the decision is taken away.
IGNORE = dict(target='ignore_cue', cues='why3')


def get_config(arg: str | None = None) -> ConfigDict:
  args, config = common.start(arg, part=PART, behavior='request')
  if args['on'] != 'world':
    raise ValueError(
      f'config argument on={args["on"]!r}: this one is of the built-in world; for an '
      'imported model: configs/paper/concurrent_shift.py:on=refusal'
    )
  # A shift of everything leaves nothing that old labels do not cover.
  runs, pairs = concurrent_shift.cells({'comply': COMPLY}, True, uncovered=False)
  more = concurrent_shift.cells({'ignore': IGNORE}, True, contexts=('before',))
  runs |= more[0]
  pairs += more[1]
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
