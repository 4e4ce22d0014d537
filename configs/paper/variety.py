"""Labels with less and less variety.

Claim (arXiv 2606.32038): too little variety collapses explanations to the majority
class. And ours: the report warns of such labels before it happens.

  python main.py --config=configs/paper/variety.py --workdir=runs/variety --workers=2

Worlds 41 to 45: with 10% of the labels "changed" it is said of 0.4%, true of 37.6%, and
nothing warns (docs/paper.md).
Arguments: see common.py.
"""

from ml_collections import ConfigDict

from configs.paper import common

# Of labels that say "changed"; in the main run there are as many as M_0 gives.
SHARES = (0.0, 0.01, 0.03, 0.1)


def get_config(arg: str | None = None) -> ConfigDict:
  _, config = common.start(arg)
  runs = {f'changed_{x:.0%}'.rstrip('%'): dict(changed_share=x) for x in SHARES}
  common.add_runs(config, runs)
  common.add_study(
    config,
    'variety',
    kind='variety',
    claim='Labels with too little variety collapse explanations to the majority class.',
    axis='largest share of labels that say "changed"',
    runs=(*runs, 'kl'),
    at=(*SHARES, 1.0),
  )
  return config
