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

Arguments: common.IMPORT_ARGS, hints (per question), and read: options by `letters`, or
by `text`, which is the default of smollm2 models: asked by letters, SmolLM2-135M gives
A to every question (benchmarks/results/labels_smollm2.md).
"""

from ml_collections import ConfigDict

from configs import common

# Of config.behavior, by how options are answered.
READ = dict(letters={}, text=dict(read='text', per_token=True))


def get_config(arg: str | None = None) -> ConfigDict:
  args = common.parse_arg(arg, **common.IMPORT_ARGS, hints=1, read='')
  read = args['read'] or ('text' if common.smollm2(args) else 'letters')
  if read not in READ:
    raise ValueError(f'config argument read={read!r}: choose from {[*READ]}')
  task = dict(
    module='data.hint_mmlu',
    path=args['path'],
    options=read,
    hints_per_question=args['hints'],
  )
  title = 'Introspective coupling on Hint-MMLU'
  config = common.on_checkpoint(args, title, task)
  config.behavior.update(READ[read])
  return config
