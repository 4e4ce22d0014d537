"""A planted behaviour that is never explained in training: Jabberwocky.

Claim (arXiv 2606.32038, Qwen3-8B): a behaviour that behaviour objectives alone have
planted (an answer that a sentence of invented words brings about) is explained rightly
in 79.8% of the cases, although explanations were trained on other cues only.

  python main.py --config=configs/jabberwocky.py:model=qwen3_8b,path=DATA/mmlu \\
    --workdir=runs/jabberwocky

Explanations are trained on the hints of hint_mmlu; cross-entropy plants the triggers of
data/jabberwocky.py, and the KL holds everything else to M_0. Run `explained_only` is
the main run without the planting, and nothing else: it has the triggers in its data
too, which the KL, where there is one, then holds to M_0 like the rest. The report
compares the two, and says whether the planted answer came about, whether explanations
of it are right, and what follows. The number above is the paper's: no model of that
size has been trained with this code yet. What was run: a random Qwen3 of 29 thousand
parameters on the 100 questions of a subject (114 s of processor time on two cores that
other work shared; six steps plant nothing, as the report says):

  SMALL=model=local,checkpoint=FOLDER,seeds=1,rank=8,steps=6
  python main.py --workdir=runs/try \\
    --config=configs/jabberwocky.py:$SMALL,path=DATA/test/abstract_algebra_test.csv \\
    --config.train.explanation_batch=4 --config.train.behavior_batch=4 \\
    --config.label.batch=8 --config.evaluate.batch=8 \\
    --config.train.loop.checkpoint_every=6

Arguments: common.IMPORT_ARGS.
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
