"""What stages take from the config and from one another: task, model, pairs, labels."""

from collections.abc import Callable
import dataclasses
import importlib
import json
import pathlib
from types import ModuleType

from absl import logging
import jax
import pyarrow as pa
import tensorflow_datasets as tfds

from coupling.config import schema
from coupling.elicit import explanation
from coupling.elicit import label_set
from coupling.elicit import options as options_lib
from coupling.runtime import workdir as workdir_lib
from data import pairs as pairs_lib
from data import reply_options

# Orbax and TFDS tell much of themselves; what the user needs goes through progress.
logging.set_verbosity(logging.ERROR)
tfds.disable_progress_bar()

ROUNDING = ('remat', 'attention')  # of a training: fields that change no more than that
SERVING = ('key', 'concurrency', 'timeout')  # of a server: no answer depends on these
Experiment = schema.Experiment
Path = pathlib.Path


def stage_config(
  e: Experiment,
  stage: str,
  seed: int,
  run: str | None = None,
  step: int | None = None,
) -> dict:
  """The part of the experiment that a stage's result depends on, beside its inputs.

  `step`: of the label stage, which step of the base's training is asked; None: M_0.
  """
  corpus = getattr(e.base, 'documents', 0)
  unheeded = SERVING if isinstance(e.base, schema.Served) else ()
  parts = {
    'prepare': {'task': e.task, 'documents': corpus},
    'base': {'base': _but(e.base, *unheeded), 'mesh': e.mesh},
    'label': {
      'label': _but(e.label, 'stop_if_constant'),
      'behavior': e.behavior,
      'length': e.length,
      'questions': questions(e),
      'asks_after': asks_after(e),
      'practised': practised(e),
    },
    'train': {
      'behavior': e.behavior,
      'train': _but(e.runs.get(run), *ROUNDING, 'evaluated'),
      'mesh': e.mesh,
      'questions': questions(e),
    },
    'evaluate': {
      'behavior': e.behavior,
      'evaluate': e.evaluate,
      'train': _but(e.runs.get(run), *ROUNDING),
      'questions': questions(e),
    },
    'patch': {
      'behavior': e.behavior,
      'patch': _but(e.patch, 'batch', 'sites_at_once'),
      'evaluate': e.evaluate,
      'train': _but(e.runs.get(run), *ROUNDING),
      'questions': questions(e),
    },
  }[stage]
  described = {
    k: dataclasses.asdict(x) if dataclasses.is_dataclass(x) else x
    for k, x in parts.items()
  }
  if asked := described.get('questions'):
    asked['detect'] = asked['detect'] and asked['detect'].__qualname__
  return described | {'seed': seed} | ({} if step is None else {'step': step})


def asks_after(e: Experiment) -> bool:
  """Whether a run explains after its answer, which takes longer prompts."""
  return any(train.context == 'after' for train in e.runs.values())


def practised(e: Experiment) -> bool:
  """Whether behaviours of the split `practice` are trained on."""
  return any(train.practice for train in e.runs.values())


def _but(
  section: schema.Train | schema.Patch | schema.Label | schema.Base | None, *fields: str
) -> dict | None:
  """A section without fields that a stage's result does not depend on."""
  if section is None:
    return None
  return {k: x for k, x in dataclasses.asdict(section).items() if k not in fields}


def stage(e: Experiment, workdir: Path, seed: int, name: str) -> workdir_lib.Stage:
  """A finished stage of this experiment, as an input; refuses another config's."""
  folder = workdir / f'seed{seed}' / name
  return workdir_lib.finished_stage(folder, stage_config(e, name, seed))


def sibling_seed(seed: int, sibling: int) -> int:
  """The seed of what an experiment has several of, which differ in their seed alone."""
  return seed + 1_000_003 * sibling


def task_module(e: Experiment) -> ModuleType:
  return importlib.import_module(e.task.module)


def questions(e: Experiment) -> pairs_lib.Questions:
  """How the task asks, and what more is asked where an option is read from replies."""
  asked = task_module(e).questions(e.task.config)
  return reply_options.questions(asked) if e.behavior.read == 'reply' else asked


def bayes(e: Experiment) -> Callable[[int, pa.Table], explanation.Explanation] | None:
  """What the task's Bayes explainer states of recorded items, by seed; None without."""
  module = task_module(e)
  if not hasattr(module, 'bayes'):
    return None

  def state(seed: int, table: pa.Table) -> explanation.Explanation:
    prompts, options = (table[name].to_pylist() for name in ('prompt', 'options'))
    return explanation.phi(*module.bayes(e.task.config, seed, prompts, options))

  return state


def pairs_builder(e: Experiment, workdir: Path, seed: int):
  """The TFDS builder of the pairs."""
  folder = workdir / f'seed{seed}' / 'prepare'
  return task_module(e).builder(e.task.config, seed, folder)


def corpus_builder(e: Experiment, workdir: Path, seed: int):
  """The TFDS builder of the corpus that M_0 is pretrained on."""
  folder = workdir / f'seed{seed}' / 'prepare'
  return task_module(e).corpus_builder(e.task.config, e.base.documents, seed, folder)


def devices() -> str:
  """How many, of which kind."""
  return f'{jax.device_count()} x {jax.devices()[0].device_kind}'


def how(e: Experiment, labels: workdir_lib.Stage) -> options_lib.How:
  """How choices are read: by the config, and by the prior that M_0's labels keep."""
  prior = ()
  if e.behavior.calibration == 'prior':
    prior = tuple(json.loads(labels.path(label_set.PRIOR).read_text()))
  return options_lib.How.of(e.behavior, prior)
