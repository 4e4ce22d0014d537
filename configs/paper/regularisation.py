r"""How the gap depends on the weight of the behaviour KL.

Claim (arXiv 2606.32038): Self - Orig > 0 with it; without, it vanishes or reverses.

  python main.py --config=configs/paper/regularisation.py \
    --workdir=runs/regularisation --workers=2

Worlds 51 to 60: gap +4.6 [+3.7, +5.6] with it, +1.0 [-4.9, +7.0] without; balanced
+4.9 [+3.8, +6.0] and -23.2 [-28.3, -18.0] (docs/paper.md).
Arguments: see common.py.
"""

from ml_collections import ConfigDict

from configs.paper import common

WEIGHTS = (0.0, 0.1, 1.0, 10.0)  # of behavior_kl, times that of the main run
KNOWN = {0.0: 'no_kl', 1.0: 'kl'}


def get_config(arg: str | None = None) -> ConfigDict:
  _, config = common.start(arg)
  weight = config.parts[common.MAIN].train.objectives.behavior_kl.weight
  names = {x: KNOWN.get(x, f'kl_{x:g}'.replace('.', '_')) for x in WEIGHTS}
  runs = {
    name: dict(objectives=dict(behavior_kl=dict(weight=x * weight)))
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
    axis='weight of the behaviour KL, times that of the main run',
    runs=tuple(names.values()),
    at=WEIGHTS,
  )
  return config
