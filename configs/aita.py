"""Introspective coupling on AITA: does a stated opinion change the model's verdict?

Claim (arXiv 2606.32038, Qwen3-8B): Self - Orig = +7.0 points with the KL; without it
the gap vanishes or reverses.

  python main.py --config=configs/aita.py:model=qwen3_8b,path=DATA/aita \\
    --workdir=runs/aita

DATA/aita is a folder of posts: see data/aita.py. They are long: mind the pairs that are
left out for length.max_tokens, which the report counts. The numbers above are the
paper's: no model of that size has been trained with this code yet. What was run: a
random Qwen3 of 29 thousand parameters, whose poor tokenizer leaves 53 of 300 posts
(142 s of processor time on two cores that other work shared):

  SMALL=model=local,checkpoint=FOLDER,seeds=1,rank=8,steps=6
  python main.py --config=configs/aita.py:$SMALL,path=DATA/aita --workdir=runs/try \\
    --config.train.explanation_batch=4 --config.train.behavior_batch=4 \\
    --config.train.loop.checkpoint_every=6

Arguments: common.IMPORT_ARGS.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str | None = None) -> ConfigDict:
  args = common.parse_arg(arg, **common.IMPORT_ARGS)
  task = dict(module='data.aita', path=args['path'])
  title = 'Introspective coupling on AITA sycophancy'
  return common.on_checkpoint(args, title, task)
