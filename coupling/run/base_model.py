"""M_0: its tokenizer, its shape and its weights, wherever they come from."""

import dataclasses
import functools
import hashlib
import pathlib
import re

import jax

from coupling.checkpoints import hub
from coupling.checkpoints import kept_steps
from coupling.checkpoints import peft_format
from coupling.checkpoints import weights
from coupling.config import schema
from coupling.elicit import backend
from coupling.elicit import models
from coupling.model import decoder as decoder_lib
from coupling.model import sharding
from coupling.run import context
from coupling.run import own_checkpoints
from coupling.run import served_model
from coupling.runtime import workdir as workdir_lib
from coupling.training import train_step
from data import digests
from data import formats
from data import tokens as tokens_lib

Experiment = schema.Experiment
Path = pathlib.Path


def checkpoint_folder(e: Experiment) -> Path:
  """Where an imported M_0 lies, downloaded if need be."""
  return _folder(e.base)


def _folder(base: schema.Import) -> Path:
  """Of the weights; of a folder of adapters, of the base that they record."""
  if (adapters := adapter_folder(base)) is None:
    return hub.find(base.checkpoint, base.revision or None)
  name, revision = peft_format.base_of(adapters)
  where = f'{adapters}/adapter_config.json: base_model_name_or_path={name!r}'
  if not name:
    raise hub.CheckpointError(f'{where}: write there which model they are for')
  try:
    return hub.find(name, revision or None)
  except hub.CheckpointError as error:
    raise hub.CheckpointError(f'{where}: {error}') from error


def adapter_folder(base: schema.Import) -> Path | None:
  """Where M_0 is adapters beside a base, their folder."""
  path = Path(base.checkpoint).expanduser()
  return path if peft_format.is_adapter(path) else None


@functools.lru_cache(maxsize=1)  # all stages of a process ask alike
def format(e: Experiment) -> formats.Format:
  """How M_0 is asked.

  Raises:
    ConfigError: a checkpoint without a tokenizer that can serve; see also `decoder`.
    WorkdirError: a tokenizer that is not what it was when the checkpoint was trained.
  """
  base, made_by = own_checkpoints.origin(e.base, e.seeds[0])
  if isinstance(base, schema.Import):
    found = imported_format(base)
  elif made_by is None:
    try:
      found = formats.Plain(context.task_module(e).tokenizer())
    except ValueError as error:
      raise schema.ConfigError(f'task.module={e.task.module}: {error}') from error
  else:
    found = formats.Plain(tokens_lib.load_tokenizer(made_by.path('tokenizer')))
  if made_by is not None:
    check_fingerprint(found.fingerprint, made_by)
  return found


def imported_format(base: schema.Import) -> formats.Format:
  """How an imported checkpoint is asked; errors as of `format`."""
  try:
    tokenizer = tokens_lib.load_tokenizer(_folder(base))
    rows = imported_decoder(base).vocab_size
    if base.chat:
      return formats.Chat(tokenizer, base.thinking, base.date, rows, base.system)
    return formats.Plain(tokenizer, rows)
  except schema.ConfigError:
    raise  # of the decoder
  except ValueError as error:
    raise schema.ConfigError(
      f'base.checkpoint={base.checkpoint}: {error} (base.chat={base.chat}, '
      f'base.thinking={base.thinking}, base.date={base.date}, '
      f'base.system={base.system!r})'
    ) from error


@functools.lru_cache(maxsize=1)
def decoder(e: Experiment) -> decoder_lib.DecoderConfig:
  """M_0's shape."""
  base, _ = own_checkpoints.origin(e.base, e.seeds[0])
  if isinstance(base, schema.Pretrain):
    return pretrained_decoder(base, len(format(e).tokenizer))
  return imported_decoder(base)


def pretrained_decoder(
  base: schema.Pretrain, vocabulary: int
) -> decoder_lib.DecoderConfig:
  """The shape of a model that is pretrained here."""
  shape = dataclasses.asdict(base.model)
  return decoder_lib.DecoderConfig(vocab_size=vocabulary, **shape)


def imported_decoder(base: schema.Import) -> decoder_lib.DecoderConfig:
  """The shape of an imported checkpoint."""
  return hub.decoder_config(
    _folder(base),
    dtype=base.dtype,
    param_dtype=base.param_dtype,
    scan_layers=base.scan_layers,
    long_context=base.long_context,
  )


def fingerprint(e: Experiment) -> str:
  """SHA-256 of all that decides how M_0 reads a text; errors as of `format`."""
  if isinstance(e.base, schema.Served):
    return served_model.fingerprint(e.base)
  return format(e).fingerprint


def model(
  e: Experiment, workdir: Path, seed: int, step: int | None = None
) -> models.Model | backend.Asked:
  """M_0, to be asked; see `base_params`, or of a server served_model.of_seed."""
  if isinstance(e.base, schema.Served):
    return served_model.of_seed(e, workdir, seed)
  params = base_params(e, workdir, seed, step)
  return models.Model(decoder(e), params, format(e), e.mesh)


def base_params(
  e: Experiment, workdir: Path, seed: int, step: int | None = None
) -> decoder_lib.Params:
  """M_0; with its adapters, where it is a checkpoint of adapters.

  `step`: a kept step of its pretraining instead, before new words were added.

  Raises:
    WorkdirError: a checkpoint that is not what it was at the base stage.
  """
  mesh = sharding.make_mesh(e.mesh)
  folder = workdir / f'seed{seed}' / 'base'
  if step is not None:
    like = sharding.abstract_params(mesh, decoder(e))
    return kept_steps.read_params(folder / own_checkpoints.FOLDER, step, like)
  return _params(e.base, folder, seed, decoder(e), mesh)


def _params(
  base: schema.Base,
  folder: Path,
  seed: int,
  model: decoder_lib.DecoderConfig,
  mesh: jax.sharding.Mesh,
) -> decoder_lib.Params:
  """The weights that a base stage, in `folder`, made or took note of."""
  like = sharding.abstract_params(mesh, model)
  if isinstance(base, schema.Pretrain):
    return kept_steps.load_params(folder / 'params', like)
  info = workdir_lib.finished_stage(folder).info()
  if isinstance(base, schema.Import):
    source, added = _folder(base), adapter_folder(base)
    now = digest(source, added)
    _check_unchanged(added or source, 'weights', info['weights'], now, folder)
    return weights.load(source, model, like) | beside(added, model, mesh)
  found = own_checkpoints.find(base, seed)
  now = found.train.digest
  _check_unchanged(found.train.path(), 'training', info['trained'], now, folder)
  return trained_params(found, model, mesh)


def beside(
  folder: Path | None, model: decoder_lib.DecoderConfig, mesh: jax.sharding.Mesh
) -> decoder_lib.Params:
  """The adapters of peft that a folder holds, as a part of the weights; of none, {}."""
  if folder is None:
    return {}
  found = {decoder_lib.ADAPTERS: peft_format.load(folder, model)}
  return sharding.put_params(mesh, found)


def trained_params(
  found: own_checkpoints.Checkpoint,
  model: decoder_lib.DecoderConfig,
  mesh: jax.sharding.Mesh,
) -> decoder_lib.Params:
  """The weights of a checkpoint that was trained here, with adapters if it has any."""
  adapters = train_step.fresh_adapters(model, found.lora, seed=0)
  saved = found.train.path(own_checkpoints.FOLDER)
  last = kept_steps.read_params(saved, found.step, kept_like(model, adapters, mesh))
  if not adapters:
    return last
  return _params(found.origin, found.base.path(), found.seed, model, mesh) | last


def kept_like(
  model: decoder_lib.DecoderConfig,
  adapters: decoder_lib.Params,
  mesh: jax.sharding.Mesh,
) -> decoder_lib.Params:
  """Shapes and shardings of what a training keeps: adapters, or without all weights."""
  if adapters:
    return sharding.placed(mesh, adapters)
  return sharding.abstract_params(mesh, model)


def _check_unchanged(source: Path, what: str, then: str, now: str, folder: Path):
  """Raises WorkdirError when what lies elsewhere is not what the base stage saw."""
  if then != now:
    raise workdir_lib.WorkdirError(
      f'{source}: the {what} have changed since {folder} was made: SHA-256 {now} now, '
      f'{then} then; restore them, or use another --workdir.'
    )


def digest(folder: Path, adapters: Path | None = None) -> str:
  """SHA-256 of a checkpoint's files of weights; read once by each process.

  Args:
    folder: of the weights.
    adapters: folder of adapters beside them.

  Raises:
    CheckpointError: a file in the hub's cache is not the one that it was.
  """
  paths = hub.weight_files(folder)
  paths += [peft_format.tensor_file(adapters)] if adapters is not None else []
  stats = [(path, path.stat()) for path in paths]
  return _digest(tuple((path, x.st_size, x.st_mtime_ns) for path, x in stats))


@functools.lru_cache(maxsize=1)
def _digest(files: tuple[tuple[Path, int, int], ...]) -> str:
  hashed = hashlib.sha256()
  for path, *_ in files:
    found = digests.sha256(path)
    named = path.resolve().name  # in the hub's cache, by its content
    if re.fullmatch('[0-9a-f]{64}', named) and named != found:
      raise hub.CheckpointError(
        f'{path}: damaged: SHA-256 {found}, not {named} as the hub has it; remove '
        f'{path.resolve()} and download it again.'
      )
    hashed.update(bytes.fromhex(found))
  return hashed.hexdigest()


def check_fingerprint(now: str, made_by: workdir_lib.Stage) -> None:
  """Raises WorkdirError when a stage was made with another tokenizer or template."""
  then = made_by.info()['format']
  if now != then:
    raise workdir_lib.WorkdirError(
      f'{made_by.path("manifest.json")}: field info.format is {then}, but the '
      f'tokenizer of the task is {now} now; use another --workdir.'
    )
