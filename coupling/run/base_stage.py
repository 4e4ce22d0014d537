"""The stage `base`: M_0, pretrained here, imported, or trained before."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp

from coupling.checkpoints import hub
from coupling.checkpoints import kept_steps
from coupling.checkpoints import peft_format
from coupling.checkpoints import weights
from coupling.config import schema
from coupling.elicit import encoding
from coupling.model import decoder
from coupling.model import sharding
from coupling.run import base_model
from coupling.run import context
from coupling.run import own_checkpoints
from coupling.run import served_model
from coupling.runtime import distributed
from coupling.runtime import files
from coupling.runtime import progress
from coupling.runtime import workdir as workdir_lib
from coupling.training import train_loop
from data import tokens as tokens_lib

Experiment = schema.Experiment
Path = pathlib.Path


def base(e: Experiment, workdir: Path, seed: int) -> bool:
  """Makes M_0: pretrains it, or takes note of a checkpoint."""
  root = workdir / f'seed{seed}'
  check_trainable(e, seed)
  needs = {'prepare': context.stage(e, workdir, seed, 'prepare')}
  needs |= _needs(e, seed)
  config = context.stage_config(e, 'base', seed)
  with distributed.open_stage(root / 'base', 'base', config, needs) as stage:
    if stage.finished:
      return False
    info = _make(e, workdir, seed, stage)
    if not isinstance(e.base, schema.Served):
      tokenizer = base_model.format(e).tokenizer
      distributed.first(tokenizer.save_pretrained, stage.path('tokenizer'))
    distributed.first(stage.finish, info | {'format': base_model.fingerprint(e)})
    return True


def _needs(e: Experiment, seed: int) -> dict[str, workdir_lib.Stage]:
  """Stages of other workdirs that M_0 is made from."""
  if not isinstance(e.base, schema.Trained):
    return {}
  return {'trained': own_checkpoints.find(e.base, seed).train}


def check_trainable(e: Experiment, seed: int) -> None:
  """Raises ConfigError where a run would train adapters beside adapters."""
  if not e.trained:
    return
  found, first = '', 'merge it'
  if isinstance(e.base, schema.Trained):
    if own_checkpoints.find(e.base, seed).lora.rank:
      found, first = f'base.step={e.base.step}', 'export it by --stage=export, merge it'
  elif isinstance(e.base, schema.Import) and base_model.adapter_folder(e.base):
    found = f'base.checkpoint={e.base.checkpoint}'
  if found:
    raise schema.ConfigError(
      f'{found} holds adapters beside their base, and can be audited (loop.steps=0), '
      f'but not be trained further as it is (runs {[*e.trained]}): {first} with peft '
      '(`merge_and_unload`), and import the result by base.checkpoint'
    )


def _make(
  e: Experiment, workdir: Path, seed: int, stage: workdir_lib.Stage
) -> dict[str, Any]:
  """Fills the folder of the base stage; returns what its manifest says of M_0."""
  if isinstance(e.base, schema.Pretrain):
    return _pretrain(e, workdir, seed, stage)
  if isinstance(e.base, schema.Import):
    return _import(e, stage)
  if isinstance(e.base, schema.Served):
    return served_model.seen(e.base)
  return _take(e, seed, stage)


def _pretrain(
  e: Experiment, workdir: Path, seed: int, stage: workdir_lib.Stage
) -> dict[str, Any]:
  """Pretrains M_0 on the corpus."""
  lines = context.task_module(e).read_corpus(context.corpus_builder(e, workdir, seed))
  texts, answers = zip(*(line.rsplit(' ', 1) for line in lines))
  model, mesh = base_model.decoder(e), sharding.make_mesh(e.mesh)
  own_seed = context.sibling_seed(seed, e.base.seed)
  training = train_loop.Training(
    title=f'seed {seed} · base',
    model=model,
    low_rank=None,
    objectives=None,
    optimizer=e.base.optimizer,
    loop=e.base.loop,
    mesh_axes=e.mesh,
    params=sharding.put_params(mesh, decoder.init(model, own_seed)),
    frozen={},
    parts={
      'corpus': (encoding.questions(base_model.format(e), texts, answers), e.base.batch)
    },
    data_seed=own_seed,
    plan=None,
    folder=stage.path(own_checkpoints.FOLDER),
    log=workdir / 'tensorboard' / f'seed{seed}' / 'base',
  )
  params = start_new_words(e, train_loop.fit(training), own_seed)
  if not distributed.first(stage.sealed, 'params'):
    kept_steps.save_params(stage.path('params'), params)
    distributed.first(stage.seal, 'params', stage.path('params'))
  return {'parameters': decoder.num_params(params)}


def start_new_words(e: Experiment, params: decoder.Params, seed: int) -> decoder.Params:
  """Words that the corpus lacks start near a word that it has."""
  task, tokenizer = context.task_module(e), base_model.format(e).tokenizer
  embedding_VxD = params['embed']['embedding']
  new_N = jnp.array(tokenizer.convert_tokens_to_ids(list(task.NEW_WORDS)))
  like = tokenizer.convert_tokens_to_ids(task.NEW_WORDS_LIKE)
  noise_NxD = 0.02 * jax.random.normal(
    jax.random.key(seed), (len(new_N), embedding_VxD.shape[1])
  )
  embedding_VxD = embedding_VxD.at[new_N].set(embedding_VxD[like] + noise_NxD)
  params = distributed.settled(params | {'embed': {'embedding': embedding_VxD}})
  if 'head' in params:
    kernel_DxV = params['head']['kernel']
    kernel_DxV = kernel_DxV.at[:, new_N].set(kernel_DxV[:, [like]] + noise_NxD.T)
    params = params | {'head': {'kernel': kernel_DxV}}
  return params


def _import(e: Experiment, stage: workdir_lib.Stage) -> dict[str, Any]:
  """Checks an imported checkpoint, which stays where it is."""
  folder = base_model.checkpoint_folder(e)
  model = base_model.decoder(e)
  distributed.first(weights.check, folder, model)
  added = base_model.adapter_folder(e.base)
  if added is not None:
    peft_format.load(added, model)
  distributed.first(files.write_json, stage.path(hub.CONFIG), hub.read_config(folder))
  if unheeded := tokens_lib.unheeded(folder):
    said = ', '.join(f'{k}={x!r}' for k, x in unheeded.items())
    progress.line(
      f'WARNING: {folder}/generation_config.json: {said} changes the replies that '
      'transformers generates; here they are greedy, as the model itself gives them'
    )
  return {
    'parameters': decoder.num_params(decoder.abstract(model)),
    'weights': base_model.digest(folder, added),
  }


def _take(e: Experiment, seed: int, stage: workdir_lib.Stage) -> dict[str, Any]:
  """Takes note of a checkpoint that was trained here, which stays where it is."""
  found = own_checkpoints.find(e.base, seed)
  if found.base.path(hub.CONFIG).exists():
    config = hub.read_config(found.base.path())
    distributed.first(files.write_json, stage.path(hub.CONFIG), config)
  return {
    'parameters': decoder.num_params(decoder.abstract(base_model.decoder(e))),
    'trained': found.train.digest,
  }
