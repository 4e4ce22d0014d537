r"""Self, Orig, similarity and follow rates over training.

Claim (arXiv 2606.32038): as behaviour drifts, explanations move with it.

  python main.py --config=configs/paper/trajectory.py \
    --workdir=runs/trajectory --workers=2

Worlds 51 to 60: inconclusive; statements move to a truth that moved +5.7 [+1.9, +9.6]
points more often than to one that stayed, denial +30.0 (docs/paper.md).
Arguments: see common.py.
"""

from ml_collections import ConfigDict

from configs.paper import common


def get_config(arg: str | None = None) -> ConfigDict:
  _, config = common.start(arg)
  common.add_study(
    config,
    'trajectory',
    kind='trajectory',
    claim=(
      'As behaviour drifts during training, explanations move with it: Self comes to '
      'exceed Orig.'
    ),
    axis='training step',
    runs=('kl', 'no_kl'),
  )
  return config
