"""Labels with less and less variety.

Claim (arXiv 2606.32038): labels with too little variety collapse explanations to the
majority class. And ours: the report warns of such labels before it happens.

  python main.py --config=configs/paper/variety.py --workdir=runs/variety --workers=2

Items whose label says "changed" are left out of training until they are at most 10, 3,
1 and 0% of it. At 0% "changed" is never taught, so collapse is looked for at 1%.

Seen on worlds 31 to 35: at 1% and at 3% explanations say "changed" of 0%, and the
report warns; at 10% four of five worlds have collapsed, unwarned. That it warns before
they collapse is not decided. Its stages took eight minutes of `make paper` on two
cores.

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
