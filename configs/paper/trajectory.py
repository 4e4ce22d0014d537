"""Self, Orig, similarity and follow rates over training.

Claim (arXiv 2606.32038): as behaviour drifts, explanations move with it, so that Self
comes to exceed Orig.

  python main.py --config=configs/paper/trajectory.py \\
    --workdir=runs/trajectory --workers=2

The main run and the one without the KL, at eight checkpoints each. Agrees where the gap
is above zero at the end and the weights exceed those of the run on shuffled labels, and
statements follow the truth where it moved more often than they come to be true where it
did not, among items whose truth is no longer the label.

Seen on worlds 31 to 35: gap +5.1 [-1.8, +12.0] at the end, denial's +13.8; statements
are not shown to move more often to a truth that moved over steps 60 to 420 (+9.0 [-2.1,
+20.1] points); from checkpoint to checkpoint they are, by +5 to +15, always less than
denial; without the KL by +36 [+16, +56] from first to last. Its stages took six minutes
of `make paper` on two cores.

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
