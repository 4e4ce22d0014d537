"""What stages take from the config and from one another: task, model, pairs, labels."""

from collections.abc import Sequence
import dataclasses
import functools
import hashlib
import importlib
import pathlib
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np

from coupling import behavior
from coupling import checkpoint
from coupling import config as config_lib
from coupling import hub
from coupling import models
from coupling import sharding
from coupling import weights
from coupling import workdir as workdir_lib
from data import formats
from data import pairs as pairs_lib
from data import tokens as tokens_lib

Experiment = config_lib.Experiment
Path = pathlib.Path


def stage_config(e: Experiment, stage: str, seed: int, run: str | None = None) -> dict:
  """The part of the experiment that a stage's result depends on, beside its inputs."""
  corpus = getattr(e.base, 'documents', 0)
  parts = {
    'prepare': {'task': e.task, 'documents': corpus},
    'base': {'base': e.base, 'mesh': e.mesh},
    'label': {'label': e.label, 'length': e.length, 'questions': questions(e)},
    'train': {'train': e.runs.get(run), 'mesh': e.mesh, 'questions': questions(e)},
    'evaluate': {
      'evaluate': e.evaluate,
      'train': e.runs.get(run),
      'questions': questions(e),
    },
  }[stage]
  described = {
    k: dataclasses.asdict(x) if dataclasses.is_dataclass(x) else x
    for k, x in parts.items()
  }
  if asked := described.get('questions'):
    asked['detect'] = asked['detect'] and asked['detect'].__qualname__
  return described | {'seed': seed}


def stage(e: Experiment, workdir: Path, seed: int, name: str) -> workdir_lib.Stage:
  """A finished stage of this experiment, as an input; refuses another config's."""
  folder = workdir / f'seed{seed}' / name
  return workdir_lib.finished_stage(folder, stage_config(e, name, seed))


def task_module(e: Experiment) -> ModuleType:
  return importlib.import_module(e.task.module)


def questions(e: Experiment) -> pairs_lib.Questions:
  """How the task asks."""
  return task_module(e).questions(e.task.config)


def pairs_builder(e: Experiment, workdir: Path, seed: int):
  """The TFDS builder of the pairs."""
  folder = workdir / f'seed{seed}' / 'prepare'
  return task_module(e).builder(e.task.config, seed, folder)


def corpus_builder(e: Experiment, workdir: Path, seed: int):
  """The TFDS builder of the corpus that M_0 is pretrained on."""
  folder = workdir / f'seed{seed}' / 'prepare'
  return task_module(e).corpus_builder(e.base.documents, seed, folder)


def checkpoint_folder(e: Experiment) -> Path:
  """Where an imported M_0 lies, downloaded if need be."""
  return hub.find(e.base.checkpoint, e.base.revision or None)


@functools.lru_cache(maxsize=1)  # all stages of a process ask alike
def format(e: Experiment) -> formats.Format:
  """How M_0 is asked.

  Raises:
    ConfigError: a checkpoint without a tokenizer that can serve.
  """
  if isinstance(e.base, config_lib.Pretrain):
    return formats.Plain(task_module(e).tokenizer())
  try:
    tokenizer = tokens_lib.load_tokenizer(checkpoint_folder(e))
    return formats.Chat(tokenizer) if e.base.chat else formats.Plain(tokenizer)
  except ValueError as error:
    raise config_lib.ConfigError(
      f'base.checkpoint={e.base.checkpoint}: {error} (base.chat={e.base.chat})'
    ) from error


@functools.lru_cache(maxsize=1)
def decoder(e: Experiment) -> models.DecoderConfig:
  """M_0's shape."""
  if isinstance(e.base, config_lib.Pretrain):
    vocabulary = len(format(e).tokenizer)
    shape = dataclasses.asdict(e.base.model)
    return models.DecoderConfig(vocab_size=vocabulary, **shape)
  return hub.decoder_config(
    checkpoint_folder(e),
    dtype=e.base.dtype,
    param_dtype=e.base.param_dtype,
    scan_layers=e.base.scan_layers,
  )


def base_params(e: Experiment, workdir: Path, seed: int) -> models.Params:
  """M_0.

  Raises:
    WorkdirError: an imported checkpoint that is not what it was at the base stage.
  """
  like = sharding.abstract_params(sharding.make_mesh(e.mesh), decoder(e))
  folder = workdir / f'seed{seed}' / 'base'
  if isinstance(e.base, config_lib.Pretrain):
    return checkpoint.load_params(folder / 'params', like)
  source = checkpoint_folder(e)
  then, now = workdir_lib.finished_stage(folder).info()['weights'], digest(source)
  if then != now:
    raise workdir_lib.WorkdirError(
      f'{source}: the weights have changed since {folder} was made: SHA-256 {now} now, '
      f'{then} then; restore them, or use another --workdir.'
    )
  return weights.load(source, decoder(e), like)


def digest(folder: Path) -> str:
  """SHA-256 of a checkpoint's files of weights; read once by each process."""
  stats = [(path, path.stat()) for path in hub.weight_files(folder)]
  return _digest(tuple((path, x.st_size, x.st_mtime_ns) for path, x in stats))


@functools.lru_cache(maxsize=1)
def _digest(files: tuple[tuple[Path, int, int], ...]) -> str:
  hashed = hashlib.sha256()
  for path, *_ in files:
    with path.open('rb') as file:
      hashed.update(hashlib.file_digest(file, 'sha256').digest())
  return hashed.hexdigest()


def start_new_words(e: Experiment, params: models.Params, seed: int) -> models.Params:
  """Words that the corpus lacks start near a word that it has."""
  task, tokenizer = task_module(e), format(e).tokenizer
  embedding_VxD = params['embed']['embedding']
  new_N = jnp.array(tokenizer.convert_tokens_to_ids(list(task.NEW_WORDS)))
  like = tokenizer.convert_tokens_to_ids(task.NEW_WORDS_LIKE)
  noise_NxD = 0.02 * jax.random.normal(
    jax.random.key(seed), (len(new_N), embedding_VxD.shape[1])
  )
  embedding_VxD = embedding_VxD.at[new_N].set(embedding_VxD[like] + noise_NxD)
  params = params | {'embed': {'embedding': embedding_VxD}}
  if 'head' in params:
    kernel_DxV = params['head']['kernel']
    kernel_DxV = kernel_DxV.at[:, new_N].set(kernel_DxV[:, [like]] + noise_NxD.T)
    params = params | {'head': {'kernel': kernel_DxV}}
  return params


def reply(e: Experiment) -> behavior.Reply | None:
  """How behaviours are read from replies, where the task wants that."""
  detect = questions(e).detect
  return detect and behavior.Reply(format(e), detect, e.label.reply_tokens)


def fitting(e: Experiment, split: str, found: Sequence[pairs_lib.Pair]) -> np.ndarray:
  """Indices of the pairs none of whose prompts, with its answer, is too long.

  Raises:
    ConfigError: too long prompts where the config wants none, or nothing else.
  """
  template, ask = questions(e), format(e)
  options = dict.fromkeys(option for pair in found for option in pair.options)
  forms = (template.unchanged, template.changed)
  statements = ask.answers([form.format(answer=o) for o in options for form in forms])
  answer = e.label.reply_tokens if template.detect else 1

  def lengths(form: str, field: str) -> np.ndarray:
    prompts = ask.prompts([form.format(prompt=getattr(p, field)) for p in found])
    return np.array([len(prompt) for prompt in prompts])

  longest = (
    lengths(template.behavior, 'prompt') + answer,
    lengths(template.behavior, 'counterfactual') + answer,
    lengths(template.explanation, 'prompt') + max(map(len, statements)),
  )
  length_N = np.max(longest, axis=0)
  limit, rule = e.length.max_tokens, e.length.too_long
  try:
    return tokens_lib.fit_lengths(length_N, limit, rule)
  except ValueError as error:
    raise config_lib.ConfigError(
      f'length.max_tokens={limit}, split {split} of {e.task.module}: {error}'
    ) from error


def label_stage(
  e: Experiment, workdir: Path, seed: int, config: config_lib.Train
) -> workdir_lib.Stage:
  """The labels to train on: this workdir's own, or those the config names.

  Raises:
    WorkdirError: this workdir was made with another tokenizer, or the labels for other
      pairs or by another question.
  """
  own = stage(e, workdir, seed, 'label')
  for made_by in (own, stage(e, workdir, seed, 'base')):
    _check_format(e, made_by)
  if not config.labels:
    return own
  return foreign_labels('train.labels', config.labels, seed, own.info(), own.config)


def foreign_labels(
  field: str, folder: str, seed: int, info: dict, config: dict
) -> workdir_lib.Stage:
  """A finished label stage of another workdir, whatever its model and tokenizer.

  Args:
    field: of the config, which names it.
    folder: what the field says; {seed} stands for the seed.
    seed: of the experiment.
    info: what this workdir's own label stage says of its labels (or is about to).
    config: what this workdir's own label stage is made with.

  Raises:
    WorkdirError: not finished, or made for other pairs or by another question.
  """
  other = workdir_lib.finished_stage(Path(folder.format(seed=seed)))
  wanted, found = _labelled(info, config), _labelled(other.info(), other.config)
  for name, here in wanted.items():
    if found[name] != here:
      raise workdir_lib.WorkdirError(
        f'{field}={folder}: {name} in {other.path("manifest.json")} is '
        f'{found[name]!r}, but this workdir has {here!r}. Labels serve only the pairs '
        'and the question that they were made for: make them anew with --stage=label '
        'in a workdir of this task and seed.'
      )
  return other


def _labelled(info: dict, config: dict) -> dict:
  """What label sets must have in common to serve one another's pairs."""
  asked = config.get('questions', {})
  return {
    'info.pairs': info.get('pairs'),
    'info.states_answer': info.get('states_answer'),
    'config.questions.behavior': asked.get('behavior'),
    'config.questions.detect': asked.get('detect'),
  }


def _check_format(e: Experiment, made_by: workdir_lib.Stage) -> None:
  """Raises WorkdirError when a stage was made with another tokenizer or template."""
  now, then = format(e).fingerprint, made_by.info()['format']
  if now != then:
    raise workdir_lib.WorkdirError(
      f'{made_by.path("manifest.json")}: field info.format is {then}, but the '
      f'tokenizer of the task is {now} now; use another --workdir.'
    )
