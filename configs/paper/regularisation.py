"""How the gap depends on the weight of the behaviour KL.

Claim (arXiv 2606.32038): Self - Orig is above zero when behaviour is held near to what
it was (+11.1 points on Hint-MMLU, +7.0 on AITA, +9.5 on refusal; Qwen3-8B), and
vanishes or reverses without.

  python main.py --config=configs/paper/regularisation.py \\
    --workdir=runs/regularisation --workers=2

Four weights from 0 to 10, the gap, the balanced gap and the gap on v' of each, and how
far behaviour has drifted. Agrees where the gap at weight 1 is above zero and its
weights on self less orig exceed those of the run on shuffled labels, and where more
than half of the gap is gone at weight 0.

Seen on worlds 31 to 35: gap +5.1 [-1.8, +12.0] at weight 1 (denial +13.8), not shown to
exceed shuffled labels in weights (+0.02 [-0.10, +0.14]); without the KL +8.4 [-3.2,
+20.0] (denial +53.9), balanced -16.8 [-26.4, -7.2], on v' +30.0 [+22.8, +37.2] (denial
+31.2): of the three gaps only the balanced one is lower. At a weight of 10 +7.2 [+4.3,
+10.1], at 0.1 -2.6 [-13.5, +8.3]. Its stages took seven minutes of `make paper` on two
cores.

Arguments: see common.py.
"""

from ml_collections import ConfigDict

from configs.paper import common

WEIGHTS = (0.0, 0.1, 1.0, 10.0)  # of behavior_kl
KNOWN = {0.0: 'no_kl', 1.0: 'kl'}


def get_config(arg: str | None = None) -> ConfigDict:
  _, config = common.start(arg)
  names = {x: KNOWN.get(x, f'kl_{x:g}'.replace('.', '_')) for x in WEIGHTS}
  runs = {
    name: dict(objectives=dict(behavior_kl=dict(weight=x)))
    for x, name in names.items()
    if x not in KNOWN
  }
  common.add_runs(config, runs)
  common.add_study(
    config,
    'regularisation',
    kind='regularisation',
    claim=(
      'Explanations describe current behaviour better than the behaviour that the '
      'labels came from when behaviour is held by a KL term; without it the effect '
      'vanishes or reverses.'
    ),
    published='+11.1 points (Qwen3-8B, Hint-MMLU), +7.0 (AITA), +9.5 (refusal)',
    axis='weight of the behaviour KL',
    runs=tuple(names.values()),
    at=WEIGHTS,
  )
  return config
