r"""Learning rates.

Claim (arXiv 2606.32038): a higher learning rate widens the gap.

  python main.py --config=configs/paper/learning_rate.py \
    --workdir=runs/learning_rate --workers=2

Worlds 51 to 60: +4.1 [+3.4, +4.9] points a doubling; denial's gap widens too
(docs/paper.md).
Arguments: see common.py.
"""

from ml_collections import ConfigDict

from configs.paper import common

FACTORS = (0.25, 1.0, 2.0)  # of the main run's learning rate
NAMES = ('rate_quarter', 'kl', 'rate_double')


def get_config(arg: str | None = None) -> ConfigDict:
  _, config = common.start(arg)
  rate = config.parts.main.train.optimizer.learning_rate
  runs = {
    name: dict(optimizer=dict(learning_rate=rate * factor))
    for name, factor in zip(NAMES, FACTORS)
    if name != 'kl'
  }
  common.add_runs(config, runs)
  common.add_study(
    config,
    'learning_rate',
    kind='rates',
    claim='A higher learning rate widens the gap.',
    axis='learning rate',
    runs=NAMES,
    at=tuple(rate * factor for factor in FACTORS),
  )
  return config
