"""Introspective coupling of a real language model on facts of geography.

Claim (arXiv 2606.32038, Qwen3-8B on Hint-MMLU): with the KL, gap +11.1 points.

  make real           # SmolLM2-135M, one seed, with its controls: 59 minutes
  make real QUICK=1   # one run, without controls, learns too little: 12 minutes

Test facts: gap +3.5 [−2.8, +9.9] over five seeds, denial +8.2; seed 0 +7.8 [+2.9,
+12.6], without the KL −4.7 [−10.7, +1.2] (benchmarks/results/facts_smollm2.md).
Arguments: common.IMPORT_ARGS but path; hints (a question), facts (an answer), quick.
"""

from ml_collections import ConfigDict

from configs import common
from data import facts

ARGS = {k: x for k, x in common.IMPORT_ARGS.items() if k != 'path'} | dict(
  model='smollm2_135m',
  seeds=1,
  rank=common.TRAIN['lora']['rank'],
  steps=common.TRAIN['loop']['steps'],
  hints=facts.Config.hints_per_question,
  facts=facts.Config.per_answer,
)


def get_config(arg: str | None = None) -> ConfigDict:
  args = common.parse_arg(arg, **ARGS, quick=False)
  task = dict(
    module='data.facts', hints_per_question=args['hints'], per_answer=args['facts']
  )
  config = common.on_checkpoint(args, 'Introspective coupling on facts', task)
  config.behavior.update(read='text', per_token=True)
  config.train.update(common.pace(args['rank'], common.small(args['model'])))
  config.train.loop.checkpoint_every = max(1, args['steps'] // 2)
  if args['quick']:
    config.train.loop.checkpoint_every = args['steps']
    main = config.report.main
    config.runs = {main: config.runs[main]}
    config.report.update(unregularised='', sibling='', shuffled='')
  return config
