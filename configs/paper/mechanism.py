r"""Do behaviour and explanation share circuits? Activation patching.

Claim (arXiv 2606.32038): the same parts of the network carry both.

  python main.py --config=configs/paper/mechanism.py \
    --workdir=runs/mechanism --workers=2

Worlds 51 to 60: inconclusive; effects correlate by +0.11 [-0.08, +0.29], less than
before training (docs/paper.md).
Arguments: see common.py.
"""

from ml_collections import ConfigDict

from configs.paper import common


def get_config(arg: str | None = None) -> ConfigDict:
  args, config = common.start(arg)
  if args['on'] == 'refusal':
    raise ValueError(
      "config argument on='refusal': its justifications cannot be moved to another "
      'option, so no two prompts align; choose world, hint_mmlu or aita'
    )
  common.add_study(
    config,
    'mechanism',
    kind='mechanism',
    claim='The same parts of the network carry the behaviour and its explanation.',
    published='shared circuits, by activation patching',
    axis='training step',
    runs=('kl', 'no_kl', 'shuffled'),
  )
  return config
