"""Labels of which a share is replaced by other statements.

Claim (arXiv 2606.32038): the effect is robust to noise in the labels.

  python main.py --config=configs/paper/label_noise.py \\
    --workdir=runs/label_noise --workers=2

10 to 50% of the labels give way to another allowed statement, drawn uniformly. Agrees
where, at every level, the gap is above zero and the weights on self less orig exceed
those of the run on shuffled labels.

Seen on worlds 31 to 35: gaps of +5.1 to +10.7, weights of +0.12 to +0.18, shown to be
above zero at all levels but none; that they exceed those of shuffled labels is shown at
none. Self falls from 60 to 53%. Its stages took seven minutes of `make paper` on two
cores.

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
