r"""An audit: do a checkpoint's explanations follow its behaviour? Nothing is trained.

Claim (arXiv 2606.32038): after explanation training on fixed labels, Self > Orig.

  python main.py --workdir=runs/audit_world --config=configs/audit.py:task=world,\
model=local,checkpoint=runs/world/seed{seed}/kl/train/checkpoints/1200,\
labels=runs/world/seed{seed}/label,seed=1

After `make demo`: 21 s. Arguments: task (one's own module too), path, pairs (a file),
model, checkpoint, checkpoints, endpoint, seed; labels (a stage, task, own, first, base)
"""

import dataclasses
import difflib
import importlib.util
import pathlib

from ml_collections import ConfigDict
from ml_collections import config_dict

from configs import common
from configs import world
from coupling.config import checkpoint_lists
from coupling.config import schema
from data import pair_file

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
# Labels that are made here: of the model; of the first checkpoint, or of their base.
OWN, FIRST, BASE = 'own', 'first', 'base'
OF_CHECKPOINTS = (
  f'labels={FIRST} (what the first checkpoint does), labels={BASE} with model= or '
  'checkpoint= (what that one does, which they began as), or labels= the folder of a '
  'label stage'
)


def get_config(arg: str | None = None) -> ConfigDict:
  args = common.parse_arg(
    arg,
    task='',  # default published_hints
    pairs='',
    model='',  # default qwen3_8b
    checkpoint='',
    checkpoints='',
    endpoint='',
    labels='task',
    path='',
    seed=0,
  )
  args['task'] = _task(args)
  checkpoints = args['checkpoints'].replace('{seed}', str(args['seed']))
  if checkpoints and args['checkpoint']:  # what they began as
    args['model'] = args['model'] or common.LOCAL
  source = _source(args, checkpoints)
  revision = ''
  if checkpoints and not args['model']:
    # The first gives tokenizer and shape; where it holds adapters, their base does.
    first = checkpoint_lists.first(checkpoints)
    args['model'] = common.LOCAL
    args['checkpoint'], revision = checkpoint_lists.split(first)
  if not args['endpoint']:
    args['model'] = args['model'] or 'qwen3_8b'
  config = _of_world() if args['task'] == WORLD else _of_imported(args)
  if args['endpoint']:
    _serve(config, args)
  elif _is_step(args['checkpoint']):
    config.base = dict(step=args['checkpoint'])
  elif args['task'] == WORLD:
    raise ValueError(
      f"config argument checkpoint='{args['checkpoint']}': for task=world give the "
      'folder of a checkpoint, WORKDIR/seed{seed}/RUN/train/checkpoints/STEP'
    )
  elif revision:
    config.base.revision = revision
  module = importlib.import_module(config.task.module)
  if source == schema.TASK and not hasattr(module, 'behaviors'):
    raise ValueError(_no_answers(config.task.module))
  config.seeds = (args['seed'],)
  config.label.source = source
  config.evaluate.checkpoints = checkpoints
  config.train.loop.steps = 0
  config.runs = {RUN: {}}
  audited = checkpoints or args['checkpoint'].replace('{seed}', str(args['seed']))
  audited = audited or args['model']
  if args['endpoint']:
    audited += f' at {args["endpoint"]}'
  config.report = dict(
    title=f'Audit of {audited} on {args["task"] or pathlib.Path(args["pairs"]).name}',
    main=RUN,
    unregularised='',
    sibling='',
    shuffled='',
  )
  return config


def _source(args: dict, checkpoints: str) -> str:
  """Whose labels: label.source, which is '' for those of M_0."""
  wanted = args['labels']
  if not wanted:
    raise ValueError(
      "config argument labels='': give the folder of a label stage, task for answers "
      'that come with the data, or own for those of the model itself'
    )
  if wanted not in (OWN, FIRST, BASE):
    return wanted
  if wanted == OWN and not checkpoints:
    return ''
  if not checkpoints:
    raise ValueError(
      f"config argument labels='{wanted}': is for checkpoints=; of one model give "
      f'labels={OWN}'
    )
  if wanted == OWN or (wanted == BASE) != bool(args['model']):
    raise ValueError(
      f"config argument labels='{wanted}': of checkpoints= give {OF_CHECKPOINTS}; "
      f'{FIRST} goes without model= and checkpoint='
    )
  return ''


def _no_answers(source: str) -> str:
  """What to do where answers that come with the data were to be the labels."""
  return (
    f"config argument labels='{schema.TASK}': {source} has no answers of a model: of "
    f'one model give labels={OWN}, what it does itself, or the folder of a label '
    f'stage; of checkpoints= {OF_CHECKPOINTS}'
  )


def _of_world() -> ConfigDict:
  return world.get_config('kl=0').unlock()


def _task(args: dict) -> str:
  """The task's name, '' for a file of pairs.

  Raises:
    ValueError: it is neither one of TASKS nor a module; of checkpoints, none is named.
  """
  if args['checkpoints'] and not (args['task'] or args['pairs'] or args['path']):
    raise ValueError(
      f"config argument checkpoints='{args['checkpoints']}': say what they are asked: "
      f'pairs=FILE or task= one of {TASKS} (facts needs no files), and {OF_CHECKPOINTS}'
    )
  if args['pairs'] and (args['task'] or args['path']):
    raise ValueError(
      f"config argument pairs='{args['pairs']}': leave out task= and path=, which are "
      'of pairs that a task makes'
    )
  name = args['task'] or ('' if args['pairs'] else 'published_hints')
  if not name or name in TASKS:
    return name
  try:
    there = importlib.util.find_spec(name) is not None
  except (ImportError, ValueError):  # of a.b without a; of '.'
    there = False
  if not there:
    near = difflib.get_close_matches(name, TASKS, 1)
    raise ValueError(
      f"config argument task='{name}': "
      + ''.join(f'did you mean {x}? ' for x in near)
      + f'choose from {TASKS}, name a module of your own, beside main.py or on '
      'PYTHONPATH, or give pairs=, a file of them'
    )
  return name


def _of_imported(args: dict) -> ConfigDict:
  """That of the task's own config, of which an audit leaves out the training."""
  given = {k: args[k] for k in ('model', 'checkpoint', 'path') if args[k]}
  if args['endpoint']:
    given |= dict(model=common.LOCAL, checkpoint='replaced by the endpoint')
  if args['pairs']:
    task = dict(module='data.pair_file', path=args['pairs'])
    config = common.on_checkpoint(common.IMPORT_ARGS | given, '', task)
    config.behavior.update(_reading(args['pairs'], args['labels']))
    return config.unlock()
  if args['task'] in TASKS:
    module = importlib.import_module(f'configs.{args["task"]}')
    return module.get_config(','.join(f'{k}={x}' for k, x in given.items())).unlock()
  task = dict(module=args['task']) | {k: x for k, x in given.items() if k == 'path'}
  return common.on_checkpoint(common.IMPORT_ARGS | given, '', task).unlock()


def _reading(path: str, labels: str) -> dict:
  """Fields of behavior: as the answers were read that are the labels, else by letters
  or texts, as the options are.

  Raises:
    DataError: pairs, or answers, that are none; by file, row and field.
    ValueError: answers are the labels, and there are none.
  """
  rows = [*pair_file.rows(path)]
  made = pair_file.make(pair_file.Config(path=path), 0)
  options = {x for pair in made for x in pair.options}
  if labels == schema.TASK:
    if any(name not in row.values for row in rows for name in pair_file.ANSWERS):
      raise ValueError(
        _no_answers(f'{path} lacks the fields {pair_file.ANSWERS}, so it')
      )
    if said := pair_file.read_by(rows):
      return dict(zip(pair_file.READ, said))
  if all(len(x) == 1 and x.isalnum() for x in options):
    return {}
  return dict(read='text', per_token=True)


def _serve(config: ConfigDict, args: dict) -> None:
  """The model answers at an endpoint, by letters or by replies."""
  others = args['checkpoint'] or args['checkpoints']
  if args['task'] == WORLD or others or not args['model']:
    raise ValueError(
      f"config argument endpoint='{args['endpoint']}': goes with model=NAME, the name "
      'there, without checkpoints and not with task=world, whose words are its own'
    )
  base = schema.Served(url=args['endpoint'], model=args['model'])
  config.base = dataclasses.asdict(base)
  config.base.system = config_dict.placeholder(str)
  if config.behavior.read == 'text':
    config.behavior.update(read='reply', per_token=False)


def _is_step(checkpoint: str) -> bool:
  """Whether a folder is that of a checkpoint which this program kept."""
  path = pathlib.Path(checkpoint)
  return path.parent.name == 'checkpoints' and path.name.isdigit()
