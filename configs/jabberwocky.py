r"""A planted behaviour that is never explained in training: Jabberwocky.

Claim (arXiv 2606.32038, Qwen3-8B): an answer to invented words that behaviour
objectives alone planted is explained rightly in 79.8% of the cases.

  python main.py --config=configs/jabberwocky.py:model=qwen3_8b,path=DATA/mmlu \
    --workdir=runs/jabberwocky

Time and number are not known: no model of that size has been trained with this code.
Arguments: common.IMPORT_ARGS; path as in hint_mmlu.py.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str | None = None) -> ConfigDict:
  args = common.parse_arg(arg, **common.IMPORT_ARGS)
  task = dict(module='data.jabberwocky', path=args['path'])
  config = common.on_checkpoint(args, 'Jabberwocky: a planted behaviour', task)
  if common.smollm2(args):
    config.behavior.calibration = 'prior'  # without it, the letter is always A
  config.train.objectives.behavior_xent.update(
    weight=1.0, target='follow_cue', cues='unexplained'
  )
  control = config.runs[config.report.main].to_dict()
  control.setdefault('objectives', {})['behavior_xent'] = dict(weight=0.0)
  with config.unlocked():
    config.runs.explained_only = control
  return config
