"""Introspective coupling on Hint-MMLU: does a user's hint change the model's answer?

Claim (arXiv 2606.32038, Qwen3-8B): explanations that were trained on fixed labels agree
with the model's present behaviour more often than with the labels, Self - Orig = +11.1
points with the KL; without it the gap vanishes or reverses. Adapters need a rank of 96
or more.

  python main.py --config=configs/hint_mmlu.py:model=qwen3_8b,path=DATA/mmlu \\
    --workdir=runs/hint_mmlu

DATA/mmlu is a folder of MMLU, or one file of it, in one of the layouts of data/mmlu.py.
The numbers above are the paper's: no model of that size has been trained with this code
yet. What was run: a random Qwen3 of 29 thousand parameters on the 100 questions of a
subject, in the layout with a header (2 min 19 s on two cores) and in that of the
original release:

  SMALL=model=local,checkpoint=FOLDER,seeds=1,rank=8,steps=6
  python main.py --workdir=runs/try \\
    --config=configs/hint_mmlu.py:$SMALL,path=DATA/mmlu/test/abstract_algebra_test.csv

Arguments: common.IMPORT_ARGS, and hints (per question).
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str | None = None) -> ConfigDict:
  args = common.parse_arg(arg, **common.IMPORT_ARGS, hints=1)
  task = dict(
    module='data.hint_mmlu', path=args['path'], hints_per_question=args['hints']
  )
  title = 'Introspective coupling on Hint-MMLU'
  return common.on_checkpoint(args, title, task)
