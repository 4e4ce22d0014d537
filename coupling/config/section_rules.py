"""What sections other than the runs want of one another; see validate.RULES."""

from collections.abc import Iterator
import importlib
import urllib.parse

from coupling.config import checkpoint_lists
from coupling.config import close_names
from coupling.config import run_rules
from coupling.config import schema

# What a task's module has that M_0 can be pretrained on.
CORPUS_NAMES = (
  *('corpus_builder', 'read_corpus', 'tokenizer'),
  *('NEW_WORDS', 'NEW_WORDS_LIKE'),
)


def seeds(seeds: tuple[int, ...]) -> Iterator[str]:
  """None, or the same twice."""
  if not seeds or len(set(seeds)) < len(seeds):
    yield f'seeds={seeds}: give distinct seeds, at least one'


def pretraining(pretrain: schema.Pretrain) -> Iterator[str]:
  """Lengths and heads that do not divide."""
  model = pretrain.model
  yield from run_rules.loop_problems('base', pretrain)
  if not pretrain.loop.steps:
    yield 'base.loop.steps=0: give M_0 at least 1, or import it by base.checkpoint'
  if model.num_heads % model.num_kv_heads:
    yield (
      f'base.model.num_heads={model.num_heads} is not a multiple of '
      f'base.model.num_kv_heads={model.num_kv_heads}'
    )
  if model.head_dim % 2:
    yield f'base.model.head_dim={model.head_dim}: must be even, for rotary'


def positions(pretrain: schema.Pretrain, length: schema.Length) -> Iterator[str]:
  """Fewer than prompts may have."""
  if 0 < (learned := pretrain.model.learned_positions) < length.max_tokens:
    yield (
      f'length.max_tokens={length.max_tokens} is more than '
      f'base.model.learned_positions={learned}: the model could not read all that it '
      'allows; lower it, or raise the other'
    )


def corpus(pretrain: schema.Pretrain, task: schema.Task) -> Iterator[str]:
  """A task without texts."""
  del pretrain
  module = importlib.import_module(task.module)
  if lacking := [name for name in CORPUS_NAMES if not hasattr(module, name)]:
    yield (
      f'base: {task.module} has no corpus to pretrain on (it lacks {lacking}); import '
      'a checkpoint by base.checkpoint'
    )


def base_path(base: schema.Base) -> Iterator[str]:
  """A path that cannot be, or cannot be filled in."""
  if isinstance(base, schema.Import):
    yield from close_names.path_problems('base.checkpoint', base.checkpoint)
  if isinstance(base, schema.Trained):
    yield from close_names.pattern_problems('base.step', base.step)


def served(base: schema.Base) -> Iterator[str]:
  """An address that is none, or holds what must not be written down."""
  if isinstance(base, schema.Served):
    yield from served_problems('base', base)


def served_problems(section: str, base: schema.Served) -> Iterator[str]:
  """The same; `section`: what the messages call it."""
  try:
    url = urllib.parse.urlsplit(base.url)
    right = url.scheme in ('http', 'https') and url.hostname and url.port != 0
  except ValueError:
    right = False
  if not right:
    shown = base.url.rpartition('@')[2]  # what stands before may be secret
    yield (
      f'{section}.url={shown!r}: no address of a server; give one such as '
      'http://localhost:8000/v1'
    )
  elif url.username or url.password or url.query or url.fragment:
    shown = f'{url.scheme}://{url.hostname}{url.path}'  # never what may be secret
    yield (
      f'{section}.url={shown}: has a password, a query or a fragment; leave them out: '
      f'manifests keep the address. {section}.key names the variable with the API key'
    )
  if not base.model:
    yield f"{section}.model='': name the model as the server's GET /models lists it"
  if base.completions and base.system is not None:
    yield (
      f'{section}.system={base.system!r} is of chats: leave it out, or set '
      f'{section}.completions=False'
    )


def task_paths(task: schema.Task) -> Iterator[str]:
  """Paths that cannot be."""
  paths = getattr(task.config, 'paths', ())
  found = {'path': getattr(task.config, 'path', '')}
  found |= {f'paths[{i}]': x for i, x in enumerate(paths)}
  for field, path in found.items():
    if isinstance(path, str):
      yield from close_names.path_problems(f'task.{field}', path)


def source_path(label: schema.Label) -> Iterator[str]:
  """A path that cannot be filled in."""
  yield from close_names.pattern_problems('label.source', label.source)


def answers(label: schema.Label, task: schema.Task) -> Iterator[str]:
  """Labels that the data were to bring along, and do not."""
  module = importlib.import_module(task.module)
  if label.source == schema.TASK and not hasattr(module, 'behaviors'):
    yield (
      f'label.source={label.source!r}: the data of {task.module} bring no answers '
      'along (it has no `behaviors`); name the folder of a label stage'
    )


def checkpoints(
  evaluate: schema.Evaluate, base: schema.Base, runs: run_rules.Runs, seeds: tuple
) -> Iterator[str]:
  """Given checkpoints where something is trained, or of several seeds."""
  if not (text := evaluate.checkpoints):
    return
  where = f'{checkpoint_lists.FIELD}={text!r}'
  if isinstance(base, schema.Pretrain | schema.Served):
    yield f'{where}: M_0 (base) must be one too: give base.checkpoint or base.step'
  if trained := [name for name, train in runs.items() if train.loop.steps]:
    yield (
      f'{where} makes an audit, in which nothing is trained, but runs {trained} have '
      'steps: leave it empty'
    )
  if len(runs) > 1 or len(seeds) > 1:
    yield (
      f'{where}: these are measured once, but there are the runs {[*runs]} and the '
      f'seeds {seeds}: give one of each'
    )
