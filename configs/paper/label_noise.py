r"""Labels of which a share is replaced by other statements.

Claim (arXiv 2606.32038): the effect is robust to noise in the labels.

  python main.py --config=configs/paper/label_noise.py \
    --workdir=runs/label_noise --workers=2

Worlds 41 to 45, each interval alone: gaps of +3.0 to +4.5 points, reliance above that
of shuffled labels at every share of noise (docs/paper.md).
Arguments: see common.py.
"""

from ml_collections import ConfigDict

from configs.paper import common

NOISE = (0.1, 0.3, 0.5)


def get_config(arg: str | None = None) -> ConfigDict:
  _, config = common.start(arg)
  runs = {f'noise_{x:.0%}'.rstrip('%'): dict(noise=x) for x in NOISE}
  common.add_runs(config, runs)
  common.add_study(
    config,
    'label_noise',
    kind='noise',
    claim='The effect is robust to noise in the labels.',
    axis='share of labels replaced',
    runs=('kl', *runs),
    at=(0.0, *NOISE),
  )
  return config
