"""What the regulariser does: class collapse against loss of coupling.

Claim (arXiv 2606.32038): without the regulariser there is no coupling.

  python main.py --config=configs/paper/regulariser.py \\
    --workdir=runs/regulariser --workers=2

Feasibility studies on this world suggest that the contrast mixes two things. Without
the KL the model stops following hints, so that raw agreement measures how often "same"
is said, while coupling of v' seemed no weaker. Runs that tell them apart: the KL on
both prompts, on the prompt without the cue alone (at the same weight for each of
those), on both and on prompts about held-out facts too, and none.

Seen on worlds 31 to 35: "changed" is true of 44% with the KL on both prompts, 13% with
it on the prompt without the cue alone, 3.8% with none (M_0: 39%). Weights on v' fall
from +0.33 to +0.11 [-0.04, +0.26] and +0.16 [+0.07, +0.25]. Its stages took seven
minutes of `make paper` on two cores.

Arguments: see common.py.
"""

from ml_collections import ConfigDict

from configs.paper import common
from configs.paper import concurrent_shift


def get_config(arg: str | None = None) -> ConfigDict:
  args, config = common.start(arg)
  # The mean is over the prompts that are held: half of them at half of the weight.
  weight = config.parts[common.MAIN].train.objectives.behavior_kl.weight / 2
  kl = dict(prompts='counterfactual', weight=weight)
  runs = {'kl_plain': dict(objectives=dict(behavior_kl=kl))}
  names = ('kl', 'kl_plain', 'no_kl')
  if args['on'] == 'world':
    runs['still_before'] = concurrent_shift.STILL_BEFORE
    names = ('kl', 'still_before', 'kl_plain', 'no_kl')
  common.add_runs(config, runs)
  common.add_study(
    config,
    'regulariser',
    kind='collapse',
    claim='It is the regulariser that makes explanations follow current behaviour.',
    runs=names,
  )
  return config
