r"""Introspective coupling on Hint-MMLU: does a user's hint change the model's answer?

Claim (arXiv 2606.32038, Qwen3-8B): Self - Orig = +11.1 points with the KL, from a LoRA
rank of 96; without the KL the gap vanishes or reverses.

  python main.py --config=configs/hint_mmlu.py:model=qwen3_8b,path=DATA/mmlu \
    --workdir=runs/hint_mmlu

Time and number are not known: no model of that size has been trained with this code.
Arguments: common.IMPORT_ARGS; hints (a question); read: letters, text or reply.
"""

from ml_collections import ConfigDict

from configs import common

# Of config.behavior, by how options are answered.
READ = dict(
  letters={}, text=dict(read='text', per_token=True), reply=dict(read='reply')
)


def get_config(arg: str | None = None) -> ConfigDict:
  args = common.parse_arg(arg, **common.IMPORT_ARGS, hints=1, read='')
  read = args['read'] or ('text' if common.smollm2(args) else 'letters')
  if read not in READ:
    raise ValueError(f'config argument read={read!r}: choose from {[*READ]}')
  task = dict(
    module='data.hint_mmlu',
    path=args['path'],
    options='letters' if read == 'letters' else 'text',
    hints_per_question=args['hints'],
  )
  title = 'Introspective coupling on Hint-MMLU'
  config = common.on_checkpoint(args, title, task)
  config.behavior.update(READ[read])
  if read == 'reply':
    config.train.objectives.behavior_kl.update(common.HELD_REPLIES)
  return config
