"""Introspective coupling on published prompts, trained on the published answers.

Claim (arXiv 2606.32038): trained on another model's labels alone (Llama's on Qwen3-8B),
explanations still agree with the model's own behaviour more often than with M_0's, Self
> Orig, while overall accuracy falls by 19 points.

  python main.py --workdir=runs/published --config=configs/audit.py:\\
task=published_hints,model=qwen3_8b,path=DATA/published,labels=task
  python main.py --workdir=runs/on_published --config=configs/published_hints.py:\\
model=qwen3_8b,path=DATA/published,seeds=1,labels=runs/published/seed{seed}/label

DATA/published is a folder of Parquet files: see data/published_hints.py. Nothing is
drawn there, so a seed is another training only. Without `labels` M_0 labels the
prompts. The numbers above are the paper's: no model of that size has been trained with
this code yet.

Arguments: common.IMPORT_ARGS.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str | None = None) -> ConfigDict:
  args = common.parse_arg(arg, **common.IMPORT_ARGS)
  task = dict(module='data.published_hints', path=args['path'])
  title = 'Introspective coupling on published hints'
  return common.on_checkpoint(args, title, task)
