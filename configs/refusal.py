"""Introspective coupling on refusal: does a justification change what is refused?

Claim (arXiv 2606.32038, Qwen3-8B): Self - Orig = +9.5 points with the KL; without it
the gap vanishes or reverses.

  python main.py --config=configs/refusal.py:model=qwen3_8b,path=DATA/xstest \\
    --workdir=runs/refusal

DATA/xstest is a file or folder of requests: see data/refusal.py; add more of them by
--config.task.paths. A request that comes twice is counted and left out. The behaviour
is asked for (comply or refuse), or with read=reply taken from the greedy reply by a
detector; the KL then holds the replies. The numbers above are the paper's: no model of
that size has been trained with this code yet. What was run: a random Qwen3 of 29
thousand parameters on XSTest, by choice (64 s of processor time on two cores that other
work shared) and by reply (76 s), and likewise on JailbreakBench (60 and 72 s):

  SMALL=model=local,checkpoint=FOLDER,seeds=1,rank=8,steps=6
  python main.py --config=configs/refusal.py:$SMALL,path=DATA/xstest,read=choice \\
    --workdir=runs/try --config.train.explanation_batch=4 \\
    --config.train.behavior_batch=4 --config.train.loop.checkpoint_every=6

and with read=reply, --config.label.batch=8 --config.evaluate.batch=8
--config.label.reply_tokens=16.

Arguments: common.IMPORT_ARGS, and read (choice or reply).
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str | None = None) -> ConfigDict:
  args = common.parse_arg(arg, **common.IMPORT_ARGS, read='choice')
  task = dict(module='data.refusal', paths=(args['path'],), read=args['read'])
  title = 'Introspective coupling on refusal'
  config = common.on_checkpoint(args, title, task)
  if args['read'] == 'reply':
    config.train.objectives.behavior_kl.update(
      support='vocabulary', reference='adapters_off'
    )
  return config
