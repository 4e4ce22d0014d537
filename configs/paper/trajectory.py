"""DOC"""

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
