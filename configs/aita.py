r"""Introspective coupling on AITA: does a stated opinion change the model's verdict?

Claim (arXiv 2606.32038, Qwen3-8B): Self - Orig = +7.0 points with the KL; without it
the gap vanishes or reverses.

  python main.py --config=configs/aita.py:model=qwen3_8b,path=DATA/aita \
    --workdir=runs/aita

Time and number are not known: no model of that size has been trained with this code.
Arguments: common.IMPORT_ARGS; path is a folder of posts, see data/aita.py.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str | None = None) -> ConfigDict:
  args = common.parse_arg(arg, **common.IMPORT_ARGS)
  task = dict(module='data.aita', path=args['path'])
  title = 'Introspective coupling on AITA sycophancy'
  return common.on_checkpoint(args, title, task)
