r"""Labels that are made anew from the model itself, round after round.

Claim (public replications): scores settle after two rounds. And ours: does refreshing
labels buy anything that fixed labels do not give?

  python main.py --config=configs/paper/iterated.py --workdir=runs/iterated --workers=2

Worlds 51 to 60: after four rounds Self is +1.1 [+0.5, +1.8] points higher than with
fixed labels (docs/paper.md).
Arguments: see common.py.
"""

from ml_collections import ConfigDict

from configs.paper import common

ROUNDS = 4  # the first is the main run


def get_config(arg: str | None = None) -> ConfigDict:
  _, config = common.start(arg)
  runs, again, fixed = {}, ['kl'], ['kl']
  for n in range(2, ROUNDS + 1):
    runs[f'again_{n}'] = dict(start=again[-1], labels=f'run:{again[-1]}')
    runs[f'fixed_{n}'] = dict(start=fixed[-1])
    again.append(f'again_{n}')
    fixed.append(f'fixed_{n}')
  common.add_runs(config, runs)
  common.add_study(
    config,
    'iterated',
    kind='iterated',
    claim='Labels that are made anew from the model itself buy what fixed ones do not.',
    axis='round',
    runs=tuple(again),
    companions=('', *fixed[1:]),
    at=tuple(range(1, ROUNDS + 1)),
  )
  return config
