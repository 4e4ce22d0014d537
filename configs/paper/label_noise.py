r"""Labels of which a share is replaced by other statements.

Claim (arXiv 2606.32038): the effect is robust to noise in the labels.

  python main.py --config=configs/paper/label_noise.py \
    --workdir=runs/label_noise --workers=2

Seven minutes of `make paper` on two cores. Inconclusive on worlds 31 to 35: gaps of
+5.1 to +10.7 points, at no share of noise shown to exceed those of shuffled labels.
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
