r"""Introspective coupling on published prompts, trained on the published answers.

Claim (arXiv 2606.32038, Qwen3-8B): on Llama's labels alone Self > Orig still holds, and
accuracy falls by 19 points. The label set is made by configs/audit.py:

  python main.py --workdir=runs/published --config=configs/audit.py:\
task=published_hints,model=qwen3_8b,path=DATA/published,labels=task
  python main.py --workdir=runs/on_published --config=configs/published_hints.py:\
model=qwen3_8b,path=DATA/published,seeds=1,labels=runs/published/seed{seed}/label
Not run at that size. Arguments: common.IMPORT_ARGS; path: see data/published_hints.py.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str | None = None) -> ConfigDict:
  args = common.parse_arg(arg, **common.IMPORT_ARGS)
  task = dict(module='data.published_hints', path=args['path'])
  title = 'Introspective coupling on published hints'
  return common.on_checkpoint(args, title, task)
