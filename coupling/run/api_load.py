"""A model of any kind that this program can ask, by its name or its path."""

import dataclasses
import difflib
import pathlib
from typing import Any

from configs import common
from coupling.checkpoints import hf_config
from coupling.checkpoints import hub
from coupling.checkpoints import peft_format
from coupling.checkpoints import weights
from coupling.config import schema
from coupling.elicit import backend
from coupling.elicit import models
from coupling.model import decoder as decoder_lib
from coupling.model import sharding
from coupling.run import base_model
from coupling.run import own_checkpoints
from coupling.run import served_model
from data import digests
from data import formats
from data import tokens as tokens_lib

_ADAPTER = 'adapter_config.json'


def load(
  source: str | pathlib.Path | backend.Backend,
  *,
  chat: bool | None = None,
  system: str | None = None,
  dtype: str = '',
  revision: str = '',
  base: str | pathlib.Path = '',
  mesh: schema.Mesh | None = None,
  answers: str | pathlib.Path = '',
  **served: Any,
) -> models.Model | backend.Asked:
  """Loads a model.

  Args:
    source: a name of configs/common.MODELS, such as smollm2_135m, or the same model's
      on the hub; another name on the hub; a folder in its format; a GGUF file; a folder
      of peft's adapters, which stay beside their base; or a step that this program
      kept, .../train/checkpoints/STEP; or the URL of an OpenAI-compatible endpoint; or
      a Python object, see backend.Backend.
    chat: ask by the chat template; None: where the tokenizer has one.
    system: turn that begins each chat; None: the template's own, but none for SmolLM2,
      as in configs/.
    dtype: of weights and arithmetic; '': float32, or bfloat16 for the large ones of
      configs/common.MODELS.
    revision: on the hub, of adapters that of their base; '' for its main branch, or
      what adapters record.
    base: of adapters; '': as their folder names it.
    mesh: how devices are laid out; default: all share the weights.
    answers: of a URL: the file that keeps what it answers, from which another session
      goes on; default: a new one, which is named.
    **served: of a URL: fields of schema.Served, `model` at least.

  Raises:
    ConfigError: there is no such model, or it lacks a tokenizer or weights that can
      serve; a server does not answer.
    WorkdirError: a kept step that is damaged.
  """
  if not isinstance(source, str | pathlib.Path):
    return served_model.asked(source)
  if str(source).startswith(('http://', 'https://')):
    others = dict(chat=chat, dtype=dtype, revision=revision, base=base, mesh=mesh)
    return served_model.load(str(source), answers, others, system=system, **served)
  if served or answers:
    raise schema.ConfigError(
      f'load: {", ".join([*served, *["answers"] * bool(answers)])}: for a URL alone, '
      f'and {source} is none'
    )
  path, axes = pathlib.Path(source).expanduser(), mesh or schema.Mesh()
  if (path / _ADAPTER).exists():
    named, recorded = peft_format.base_of(path)
    if base:
      named, recorded = str(base), ''  # which is another model's
    if not named:
      raise schema.ConfigError(
        f'{path / _ADAPTER}: base_model_name_or_path is empty: give the base of these '
        'adapters, load(..., base=...)'
      )
    under = dict(chat=chat, system=system, dtype=dtype, mesh=axes)
    return _adapted(path, load(named, revision=revision or recorded, **under))
  if base:
    raise schema.ConfigError(
      f'load: base={str(base)!r}, but {source} has no {_ADAPTER}'
    )
  if path.parent.name == own_checkpoints.FOLDER and path.name.isdigit():
    given = dict(
      chat=chat, system=system, dtype=dtype or None, revision=revision or None
    )
    if wrong := [name for name, value in given.items() if value is not None]:
      raise schema.ConfigError(
        f'load: {", ".join(wrong)}: {source} is asked as it was when it was trained; '
        'leave them out'
      )
    return _kept(path, axes)
  try:
    return _imported(_section(str(source), chat, system, dtype, revision), axes)
  except hf_config.CheckpointError as error:
    near = difflib.get_close_matches(str(source), common.MODELS, 1)
    if path.exists() or source in common.MODELS or not near:
      raise
    raise hf_config.CheckpointError(f'{error} Did you mean {near[0]!r}?') from error


def _section(
  source: str, chat: bool | None, system: str | None, dtype: str, revision: str
) -> schema.Import:
  """What a config would say of the model."""
  dtype = dtype or ('float32' if common.small(source) else 'bfloat16')
  if system is None and common.smollm2({'model': common.named(source)}):
    system = ''
  section = schema.Import(
    checkpoint=common.MODELS.get(source, source),
    revision=revision,
    chat=True,
    system=system,
    dtype=dtype,
    param_dtype=dtype,
  )
  if chat is None:
    try:
      folder = hub.find(section.checkpoint, revision or None)
      chat = tokens_lib.load_tokenizer(folder).chat_template is not None
    except schema.ConfigError:
      raise
    except ValueError as error:
      raise schema.ConfigError(f'{source}: {error}') from error
  if system and not chat:
    raise schema.ConfigError(f'load: system={system!r} is of chats: leave it out')
  return dataclasses.replace(section, chat=chat, system=system if chat else None)


def _imported(base: schema.Import, axes: schema.Mesh) -> models.Model:
  folder = hub.find(base.checkpoint, base.revision or None)
  config, format = base_model.imported_decoder(base), base_model.imported_format(base)
  like = sharding.abstract_params(sharding.make_mesh(axes), config)
  params = weights.load(folder, config, like)
  origin = {'name': base.checkpoint, 'weights': base_model.digest(folder)}
  asked = _asked(origin, config, format)
  return models.Model(config, params, format, axes, asked, section=base)


def _adapted(folder: pathlib.Path, base: models.Model) -> models.Model:
  """A base with adapters beside it."""
  params = base.params | base_model.beside(folder, base.config, base.mesh)
  origin = base.origin | {
    'name': str(folder),
    'adapters': digests.sha256(folder / peft_format.TENSORS),
  }
  return dataclasses.replace(base, params=params, origin=origin, section=None)


def _kept(folder: pathlib.Path, axes: schema.Mesh) -> models.Model:
  """A step that this program kept, adapters or all weights."""
  section = schema.Trained(step=str(folder))
  found = own_checkpoints.find(section, 0)
  base, made_by = own_checkpoints.origin(section, 0)
  if isinstance(base, schema.Import):
    config, format = base_model.imported_decoder(base), base_model.imported_format(base)
  else:
    format = formats.Plain(tokens_lib.load_tokenizer(made_by.path('tokenizer')))
    config = base_model.pretrained_decoder(base, len(format.tokenizer))
  base_model.check_fingerprint(format.fingerprint, made_by)
  params = base_model.trained_params(found, config, sharding.make_mesh(axes))
  origin = {'name': str(folder), 'training': found.train.digest, 'step': found.step}
  if isinstance(base, schema.Import):
    origin['base'] = {'weights': made_by.info()['weights']}
  asked = _asked(origin, config, format)
  return models.Model(config, params, format, axes, asked, section=section)


def _asked(
  origin: dict[str, Any], config: decoder_lib.DecoderConfig, format: formats.Format
) -> dict[str, Any]:
  """Where a model is from, with what else decides what it does."""
  return origin | {'format': format.fingerprint, 'dtype': str(config.dtype)}
