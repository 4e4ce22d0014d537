"""A planted behaviour that is never explained in training: Jabberwocky.

Claim (arXiv 2606.32038, Qwen3-8B): a behaviour that behaviour objectives alone have
planted (an answer that a sentence of invented words brings about) is explained rightly
in 79.8% of the cases, although explanations were trained on other cues only.

  python main.py --config=configs/jabberwocky.py:model=qwen3_8b,path=DATA/mmlu \\
    --workdir=runs/jabberwocky

Explanations are trained on the hints of hint_mmlu; cross-entropy plants the triggers of
data/jabberwocky.py, and the KL holds everything else to M_0. Run `explained_only` has
the triggers in its data too, but plants nothing. The number above is the paper's: no
model of that size has been trained with this code yet.

Arguments: common.IMPORT_ARGS.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str | None = None) -> ConfigDict:
  args = common.parse_arg(arg, **common.IMPORT_ARGS)
  task = dict(module='data.jabberwocky', path=args['path'])
  config = common.on_checkpoint(args, 'Jabberwocky: a planted behaviour', task)
  config.train.objectives.behavior_xent.update(
    weight=1.0, target='follow_cue', cues='unexplained'
  )
  control = config.runs[config.report.main].to_dict()
  control.setdefault('objectives', {})['behavior_xent'] = dict(weight=0.0)
  with config.unlocked():
    config.runs.explained_only = control
  return config
