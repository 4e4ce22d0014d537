"""An audit: do a checkpoint's explanations follow its behaviour, or a label set's?

Nothing is trained. Any checkpoint is asked the questions of a task, what it would do
and how it explains that, and scored against its own behaviour (Self) and a given label
set (Orig): that of the checkpoint it was trained from, of another model, or answers
that were published with the data. Claim (arXiv 2606.32038): after explanation training
on fixed labels, Self exceeds Orig.

A checkpoint of this program, of any step, adapters or all weights, by its folder; here
the end of the built-in world's main run, against the labels it was trained on:

  python main.py --workdir=runs/audit_world --config=configs/audit.py:task=world,\\
model=local,checkpoint=runs/world/seed{seed}/kl/train/checkpoints/560,\\
labels=runs/world/seed{seed}/label,seed=1

A checkpoint in the hub's format, against labels of Llama that were made by
configs/hint_mmlu.py with --stage=label on the same data and seed. Labels are option
indices, joined by pair, so their tokenizer may be another one:

  python main.py --workdir=runs/audit --config=configs/audit.py:task=hint_mmlu,\\
model=qwen3_8b,path=DATA/mmlu,labels=runs/llama/seed{seed}/label

Published prompts and answers (data/published_hints.py; labels=task):

  python main.py --workdir=runs/published --config=configs/audit.py:\\
task=published_hints,model=qwen3_8b,path=DATA/published,labels=task

Its folder runs/published/seed0/label is a label set like any other: to train on these
answers, give it as `labels` to configs/published_hints.py with the same path.

The first took 39 s on two cores beside other work, the second 68 s on small random
models and three subjects of MMLU; the third was run by the tests alone, on a small set
of their own, and none on a model of a real size. Expect what the checkpoint's own run
found at that step: an audit repeats its evaluation (the tests compare item by item).
One seed has intervals over held-out groups alone, and no audit has a sibling or a run
on shuffled labels: its report names these controls as not run, and calls coupling
unproven without them.

Arguments: task (one of TASKS), model and checkpoint (as in common.IMPORT_ARGS; the
folder of a checkpoint of this program too), labels (folder of a label stage, or task),
path (of the task's data; none for world and facts), seed. {seed} stands for the seed.
"""

import importlib
import pathlib

from ml_collections import ConfigDict

from configs import common
from configs import world

WORLD = 'world'
TASKS = (
  'hint_mmlu',
  'aita',
  'refusal',
  'jabberwocky',
  'published_hints',
  'facts',
  WORLD,
)
RUN = 'audited'


def get_config(arg: str | None = None) -> ConfigDict:
  args = common.parse_arg(
    arg,
    task='published_hints',
    model='qwen3_8b',
    checkpoint='',
    labels='task',
    path='',
    seed=0,
  )
  if args['task'] not in TASKS:
    raise ValueError(f"config argument task='{args['task']}': choose from {TASKS}")
  if not args['labels']:
    raise ValueError(
      "config argument labels='': give the folder of a label stage, or task for "
      'answers that come with the data'
    )
  config = _of_world() if args['task'] == WORLD else _of_imported(args)
  if _is_step(args['checkpoint']):
    config.base = dict(step=args['checkpoint'])
  elif args['task'] == WORLD:
    raise ValueError(
      f"config argument checkpoint='{args['checkpoint']}': for task=world give the "
      'folder of a checkpoint, WORKDIR/seed{seed}/RUN/train/checkpoints/STEP'
    )
  config.seeds = (args['seed'],)
  config.label.source = args['labels']
  config.train.loop.steps = 0
  config.runs = {RUN: {}}
  audited = args['checkpoint'].replace('{seed}', str(args['seed'])) or args['model']
  config.report = dict(
    title=f'Audit of {audited} on {args["task"]}',
    main=RUN,
    unregularised='',
    sibling='',
    shuffled='',
  )
  return config


def _of_world() -> ConfigDict:
  return world.get_config('kl=0').unlock()


def _of_imported(args: dict) -> ConfigDict:
  """That of the task's own config, of which an audit leaves out the training."""
  given = {k: args[k] for k in ('model', 'checkpoint', 'path') if args[k]}
  module = importlib.import_module(f'configs.{args["task"]}')
  return module.get_config(','.join(f'{k}={x}' for k, x in given.items())).unlock()


def _is_step(checkpoint: str) -> bool:
  """Whether a folder is that of a checkpoint which this program kept."""
  path = pathlib.Path(checkpoint)
  return path.parent.name == 'checkpoints' and path.name.isdigit()
