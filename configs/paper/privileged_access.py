r"""Who explains a model best: it, or another one with the very same labels?

Claim (arXiv 2606.32038, 2511.08579): it does.

  python main.py --config=configs/paper/privileged_access.py \
    --workdir=runs/privileged_access --workers=2

Worlds 51 to 60: +16.6 [+13.8, +19.4] points of v' over an outsider, +2.7 [+1.9, +3.5]
over a sibling (docs/paper.md).
Arguments: see common.py; not on an imported model (use configs/audit.py).
"""

from ml_collections import ConfigDict

from configs.paper import common
from configs.paper import label_source


def get_config(arg: str | None = None) -> ConfigDict:
  args, config = common.start(arg)
  if args['on'] != 'world':
    raise ValueError(
      f'config argument on={args["on"]!r}: the outsider is another model of the '
      'built-in world; on an imported one, train the other model in a workdir of its '
      'own on the labels of this one (labels=...) and compare by configs/audit.py'
    )
  common.donor(config, 'init', **label_source.DONORS['init'])
  labels = common.labels_of(common.MAIN)
  common.add_runs(config, {'outsider': dict(labels=labels)}, part='init')
  common.add_study(
    config,
    'privileged_access',
    kind='access',
    claim=(
      'A model explains itself better than another model does that was trained on the '
      'very same labels.'
    ),
    runs=('kl', 'init/outsider', 'sibling'),
  )
  return config
