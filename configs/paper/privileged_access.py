"""Who explains a model best: it, or another one with the very same labels?

Claim (arXiv 2606.32038 and 2511.08579): a model explains itself better than another
model does that was trained on the same labels.

  python main.py --config=configs/paper/privileged_access.py \\
    --workdir=runs/privileged_access --workers=2

The outsider has another initialisation and order of pretraining, and learns the labels
of the main run's M_0. Beside it: the main run's sibling, and the Bayes explainer, who
knows the world and not the model.

Seen on worlds 31 to 35: +14.6 [+4.9, +24.3] points over the outsider, +11.5 [+8.3,
+14.8] over the sibling, +16.4 [+9.7, +23.0] over Bayes; not shown (0.0 [-10.5, +10.6],
-7.3 [-14.7, +0.1], +2.1 [-6.5, +10.8]) once these are told the own answer. Its stages
took nine minutes of `make paper` on two cores.

Arguments: see common.py.
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
