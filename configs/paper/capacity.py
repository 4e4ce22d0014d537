"""LoRA ranks, and all weights.

Claim (arXiv 2606.32038): the gap needs capacity; it appears from rank 96 on (Qwen3-8B,
width 4,096).

  python main.py --config=configs/paper/capacity.py --workdir=runs/capacity --workers=2

Ranks 4 to 256 of a model of width 64, whose matrices have rank 64 at most, and all
weights. The learning rate is that of the main run for all of them.

Arguments: see common.py.
"""

from ml_collections import ConfigDict

from configs.paper import common

RANKS = (4, 16, 64, 256)


def get_config(arg: str | None = None) -> ConfigDict:
  _, config = common.start(arg)
  runs = {f'rank_{r}': dict(lora=dict(rank=r, alpha=float(r))) for r in RANKS}
  common.add_runs(config, runs)
  common.add_study(
    config,
    'capacity',
    kind='capacity',
    claim='The gap needs capacity: it appears from LoRA rank 96 on.',
    published='from rank 96 of 4,096 (Qwen3-8B)',
    axis='LoRA rank; 0: all weights',
    runs=(*runs, 'kl'),
    at=(*RANKS, 0),
  )
  return config
