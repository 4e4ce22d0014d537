"""LoRA ranks, and all weights.

Claim (arXiv 2606.32038): the gap appears from rank 96 on (Qwen3-8B, width 4,096).

  python main.py --config=configs/paper/capacity.py --workdir=runs/capacity --workers=2

Worlds 41 to 45, alone: contradicted, -0.4 [-1.1, +0.2] points a doubling of the rank
(docs/paper.md).
Arguments: see common.py.
"""

from ml_collections import ConfigDict

from configs.paper import common

WORLD_RANKS = (4, 16, 64, 256)
RANKS = (32, 64, 96, 256)  # of an imported model, beside that of the main run


def get_config(arg: str | None = None) -> ConfigDict:
  args, config = common.start(arg)
  on_world = args['on'] == 'world'
  ranks = WORLD_RANKS if on_world else RANKS
  names = {r: f'rank_{r}' for r in ranks}
  runs = {name: dict(lora=dict(rank=r, alpha=float(r))) for r, name in names.items()}
  common.add_runs(config, runs)
  names[0 if on_world else args['rank']] = 'kl'
  at = sorted(names, key=lambda r: (r == 0, r))  # all weights come last
  common.add_study(
    config,
    'capacity',
    kind='capacity',
    claim='The gap needs capacity: it appears from LoRA rank 96 on.',
    published='from rank 96 of 4,096 (Qwen3-8B)',
    axis='LoRA rank; 0: all weights',
    runs=tuple(names[r] for r in at),
    at=tuple(at),
  )
  return config
