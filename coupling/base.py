"""Makes M_0: pretrained here, imported from the hub's format, or trained before."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp

from coupling import behavior
from coupling import checkpoint
from coupling import config as config_lib
from coupling import files
from coupling import fit as fit_lib
from coupling import hosts
from coupling import hub
from coupling import inputs
from coupling import models
from coupling import progress
from coupling import sharding
from coupling import trained as trained_lib
from coupling import weights
from coupling import workdir as workdir_lib
from data import tokens as tokens_lib

Experiment = config_lib.Experiment
Path = pathlib.Path


def needs(e: Experiment, seed: int) -> dict[str, workdir_lib.Stage]:
  """Stages of other workdirs that M_0 is made from."""
  if not isinstance(e.base, config_lib.Trained):
    return {}
  return {'trained': trained_lib.find(e.base, seed).train}


def check_trainable(e: Experiment, seed: int) -> None:
  """Raises ConfigError where a run would train adapters beside adapters."""
  if not e.trained or not isinstance(e.base, config_lib.Trained):
    return
  if trained_lib.find(e.base, seed).lora.rank:
    raise config_lib.ConfigError(
      f'base.step={e.base.step} holds adapters beside their base, and can be audited '
      f'(loop.steps=0), but not be trained further as it is (runs {[*e.trained]}): '
      'export it by --stage=export, merge it with peft (`merge_and_unload`), and '
      'import the result by base.checkpoint'
    )


def make(
  e: Experiment, workdir: Path, seed: int, stage: workdir_lib.Stage
) -> dict[str, Any]:
  """Fills the folder of the base stage; returns what its manifest says of M_0."""
  if isinstance(e.base, config_lib.Pretrain):
    return _pretrain(e, workdir, seed, stage)
  if isinstance(e.base, config_lib.Import):
    return _import(e, stage)
  return _take(e, seed, stage)


def _pretrain(
  e: Experiment, workdir: Path, seed: int, stage: workdir_lib.Stage
) -> dict[str, Any]:
  """Pretrains M_0 on the corpus."""
  lines = inputs.task_module(e).read_corpus(inputs.corpus_builder(e, workdir, seed))
  texts, answers = zip(*(line.rsplit(' ', 1) for line in lines))
  model, mesh = inputs.decoder(e), sharding.make_mesh(e.mesh)
  own_seed = inputs.sibling_seed(seed, e.base.seed)
  training = fit_lib.Training(
    title=f'seed {seed} · base',
    model=model,
    low_rank=None,
    objectives=None,
    optimizer=e.base.optimizer,
    loop=e.base.loop,
    mesh_axes=e.mesh,
    params=sharding.put_params(mesh, models.init(model, own_seed)),
    frozen={},
    parts={
      'corpus': (behavior.questions(inputs.format(e), texts, answers), e.base.batch)
    },
    data_seed=own_seed,
    plan=None,
    folder=stage.path(trained_lib.FOLDER),
    log=workdir / 'tensorboard' / f'seed{seed}' / 'base',
  )
  params = start_new_words(e, fit_lib.fit(training), own_seed)
  if not hosts.first(stage.sealed, 'params'):
    checkpoint.save_params(stage.path('params'), params)
    hosts.first(stage.seal, 'params', stage.path('params'))
  return {'parameters': models.num_params(params)}


def start_new_words(e: Experiment, params: models.Params, seed: int) -> models.Params:
  """Words that the corpus lacks start near a word that it has."""
  task, tokenizer = inputs.task_module(e), inputs.format(e).tokenizer
  embedding_VxD = params['embed']['embedding']
  new_N = jnp.array(tokenizer.convert_tokens_to_ids(list(task.NEW_WORDS)))
  like = tokenizer.convert_tokens_to_ids(task.NEW_WORDS_LIKE)
  noise_NxD = 0.02 * jax.random.normal(
    jax.random.key(seed), (len(new_N), embedding_VxD.shape[1])
  )
  embedding_VxD = embedding_VxD.at[new_N].set(embedding_VxD[like] + noise_NxD)
  params = hosts.settled(params | {'embed': {'embedding': embedding_VxD}})
  if 'head' in params:
    kernel_DxV = params['head']['kernel']
    kernel_DxV = kernel_DxV.at[:, new_N].set(kernel_DxV[:, [like]] + noise_NxD.T)
    params = params | {'head': {'kernel': kernel_DxV}}
  return params


def _import(e: Experiment, stage: workdir_lib.Stage) -> dict[str, Any]:
  """Checks an imported checkpoint, which stays where it is."""
  folder = inputs.checkpoint_folder(e)
  model = inputs.decoder(e)
  hosts.first(weights.check, folder, model)
  hosts.first(files.write_json, stage.path(hub.CONFIG), hub.read_config(folder))
  if unheeded := tokens_lib.unheeded(folder):
    said = ', '.join(f'{k}={x!r}' for k, x in unheeded.items())
    progress.line(
      f'WARNING: {folder}/generation_config.json: {said} changes the replies that '
      'transformers generates; here they are greedy, as the model itself gives them'
    )
  return {
    'parameters': models.num_params(models.abstract(model)),
    'weights': inputs.digest(folder),
  }


def _take(e: Experiment, seed: int, stage: workdir_lib.Stage) -> dict[str, Any]:
  """Takes note of a checkpoint that was trained here, which stays where it is."""
  found = trained_lib.find(e.base, seed)
  if found.base.path(hub.CONFIG).exists():
    config = hub.read_config(found.base.path())
    hosts.first(files.write_json, stage.path(hub.CONFIG), config)
  return {
    'parameters': models.num_params(models.abstract(inputs.decoder(e))),
    'trained': found.train.digest,
  }
