"""What the regulariser does: class collapse against loss of coupling.

Claim (arXiv 2606.32038): without the regulariser there is no coupling.

  python main.py --config=configs/paper/regulariser.py \\
    --workdir=runs/regulariser --workers=2

Feasibility studies on this world suggest that the contrast mixes two things. Without
the KL the model stops following hints, so that raw agreement measures how often "same"
is said, while coupling of v' is no weaker. Three runs tell them apart: the KL on both
prompts, on the prompt without the cue alone, and none.

Arguments: see common.py.
"""

from ml_collections import ConfigDict

from configs.paper import common


def get_config(arg: str | None = None) -> ConfigDict:
  _, config = common.start(arg)
  plain = dict(objectives=dict(behavior_kl=dict(prompts='counterfactual')))
  common.add_runs(config, {'kl_plain': plain})
  common.add_study(
    config,
    'regulariser',
    kind='collapse',
    claim='It is the regulariser that makes explanations follow current behaviour.',
    runs=('kl', 'kl_plain', 'no_kl'),
  )
  return config
