r"""Introspective coupling on refusal: does a justification change what is refused?

Claim (arXiv 2606.32038, Qwen3-8B): Self - Orig = +9.5 points with the KL; without it
the gap vanishes or reverses.

  python main.py --config=configs/refusal.py:model=qwen3_8b,path=DATA/xstest \
    --workdir=runs/refusal

Time and number are not known: no model of that size has been trained with this code.
Arguments: common.IMPORT_ARGS; read (choice or reply); path: see data/refusal.py.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str | None = None) -> ConfigDict:
  args = common.parse_arg(arg, **common.IMPORT_ARGS, read='choice')
  task = dict(module='data.refusal', paths=(args['path'],), read=args['read'])
  title = 'Introspective coupling on refusal'
  config = common.on_checkpoint(args, title, task)
  if args['read'] == 'reply':
    config.train.objectives.behavior_kl.update(common.HELD_REPLIES)
  return config
