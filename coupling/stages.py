"""The stages, in the order of the way of the data; each fills one folder.

  <workdir>/seed0/prepare                 counterfactual pairs and corpus
  <workdir>/seed0/base                    M_0 and its tokenizer
  <workdir>/seed0/label                   B(M_0), E(M_0), reference distributions
  <workdir>/seed0/<run>/train             checkpoints M_t
  <workdir>/seed0/<run>/evaluate          behaviours and explanations, item by item
  <workdir>/report                        statistics, figures, text

A stage is skipped when finished and resumed when not (workdir.open_stage); it
returns False when there was nothing to do.
"""

import contextlib
import dataclasses
import functools
import io
import json
import math
import pathlib
import shutil
import time

from absl import logging
import jax
import jax.numpy as jnp
import tensorboardX
import tensorflow_datasets as tfds

from coupling import behavior
from coupling import checkpoint
from coupling import config as config_lib
from coupling import evaluate as evaluate_lib
from coupling import examples
from coupling import fit as fit_lib
from coupling import interrupt
from coupling import label as label_lib
from coupling import models
from coupling import progress
from coupling import report as report_lib
from coupling import sharding
from coupling import summary as summary_lib
from coupling import workdir as workdir_lib
from data import pairs as pairs_lib
from data import tokens as tokens_lib
from data import world

Experiment = config_lib.Experiment
Path = pathlib.Path
# Orbax and TFDS tell much of themselves; what the user needs goes through progress.
logging.set_verbosity(logging.ERROR)
tfds.disable_progress_bar()

POLL_SECONDS = 2.0  # how often a following evaluation looks for new checkpoints
TELL_SECONDS = 60.0  # how often it says that it waits


def _config(e: Experiment, stage: str, seed: int, run: str | None = None) -> dict:
  """The part of the experiment that a stage's result depends on, beside its inputs."""
  parts = {
    'prepare': {'task': e.task, 'documents': e.base.documents},
    'base': {'model': e.model, 'base': e.base, 'mesh': e.mesh},
    'label': {'label': e.label},
    'train': {'train': e.runs.get(run), 'mesh': e.mesh},
    'evaluate': {'evaluate': e.evaluate, 'train': e.runs.get(run)},
  }[stage]
  described = {
    k: dataclasses.asdict(x) if dataclasses.is_dataclass(x) else x
    for k, x in parts.items()
  }
  return described | {'seed': seed}


def _input(e: Experiment, workdir: Path, seed: int, stage: str) -> workdir_lib.Stage:
  """A finished stage of this experiment, as an input; refuses another config's."""
  folder = workdir / f'seed{seed}' / stage
  return workdir_lib.finished_stage(folder, _config(e, stage, seed))


def prepare(e: Experiment, workdir: Path, seed: int) -> bool:
  """Writes the task's data sets."""
  folder, config = workdir / f'seed{seed}' / 'prepare', _config(e, 'prepare', seed)
  with workdir_lib.open_stage(folder, 'prepare', config, {}) as stage:
    if stage.finished:
      return False
    for torn in folder.rglob('incomplete.*'):  # what a killed TFDS left half written
      shutil.rmtree(torn)
    for builder in _builders(e, folder, seed):
      with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints its progress
        builder.download_and_prepare()
    stage.finish({'tokenizer': tokens_lib.fingerprint(world.tokenizer())})
    return True


def base(e: Experiment, workdir: Path, seed: int) -> bool:
  """Pretrains M_0 on the corpus."""
  root = workdir / f'seed{seed}'
  inputs = {'prepare': _input(e, workdir, seed, 'prepare')}
  config = _config(e, 'base', seed)
  with workdir_lib.open_stage(root / 'base', 'base', config, inputs) as stage:
    if stage.finished:
      return False
    tokenizer = world.tokenizer()
    model = _decoder(e)
    lines = world.read_corpus(_builders(e, root / 'prepare', seed)[1])
    texts, answers = zip(*(line.rsplit(' ', 1) for line in lines))
    rows = behavior.questions(tokenizer, texts, answers)
    params = fit_lib.fit(
      title=f'seed {seed} · base',
      model=model,
      objectives=None,
      optimizer=e.base.optimizer,
      loop=e.base.loop,
      mesh_axes=e.mesh,
      params=models.init(model, seed),
      parts={'corpus': (rows, e.base.batch)},
      data_seed=seed,
      folder=stage.path('checkpoints'),
      log=workdir / 'tensorboard' / f'seed{seed}' / 'base',
    )
    params = _start_new_tokens(params, tokenizer, seed)
    if not stage.path('params').exists():
      checkpoint.save_params(stage.path('params'), params)
    tokenizer.save_pretrained(stage.path('tokenizer'))
    info = {
      'tokenizer': tokens_lib.fingerprint(tokenizer),
      'parameters': models.num_params(params),
    }
    stage.finish(info)
    return True


def label(e: Experiment, workdir: Path, seed: int) -> bool:
  """Records what M_0 does on every split: the fixed labels."""
  root = workdir / f'seed{seed}'
  inputs = {k: _input(e, workdir, seed, k) for k in ('prepare', 'base')}
  config = _config(e, 'label', seed)
  with workdir_lib.open_stage(root / 'label', 'label', config, inputs) as stage:
    if stage.finished:
      return False
    tokenizer = world.tokenizer()
    model = _decoder(e)
    params, mesh = _base_params(e, workdir, seed), sharding.make_mesh(e.mesh)
    sharding.check_batch(mesh, 'label.batch', e.label.batch)
    splits = {split: _pairs(e, workdir, seed, split) for split in world.SPLITS}

    def compute(questions):
      interrupt.check()
      return behavior.behaviors(
        model, params, questions, e.label.batch, mesh, e.label.reference
      )

    total = sum(map(len, splits.values()))
    bar = progress.Progress(f'seed {seed} · label', total, 'pairs')
    done = 0
    for split, pairs in splits.items():
      label_lib.write(
        stage.path(),
        split,
        pairs,
        tokenizer,
        world.QUESTIONS,
        e.label.shard,
        compute,
        lambda n, done=done: bar.update(done + n),
      )
      done += len(pairs)
    stage.finish(
      {
        'tokenizer': tokens_lib.fingerprint(tokenizer),
        'checkpoint': inputs['base'].digest,
        'pairs': {k: pairs_lib.digest(v) for k, v in splits.items()},
        'states_answer': world.QUESTIONS.states_answer,
      }
    )
    return True


def train(e: Experiment, workdir: Path, seed: int, run: str) -> bool:
  """Trains explanations of the fixed labels, with the run's objectives."""
  root, config = workdir / f'seed{seed}', e.runs[run]
  inputs = {'base': _input(e, workdir, seed, 'base')}
  inputs['label'] = _label_stage(e, workdir, seed, config)
  folder = root / run / 'train'
  described = _config(e, 'train', seed, run)
  with workdir_lib.open_stage(folder, 'train', described, inputs) as stage:
    if stage.finished:
      return False
    tokenizer = world.tokenizer()
    model = _decoder(e)
    pairs = _pairs(e, workdir, seed, 'train')
    labels = label_lib.read(inputs['label'].path(), 'train')
    parts = examples.training_parts(
      config, tokenizer, world.QUESTIONS, pairs, labels, seed
    )
    fit_lib.fit(
      title=f'seed {seed} · {run} · train',
      model=model,
      objectives=config.objectives,
      optimizer=config.optimizer,
      loop=config.loop,
      mesh_axes=e.mesh,
      params=_base_params(e, workdir, seed),
      parts=parts,
      data_seed=seed + 1_000_003 * config.seed,
      folder=stage.path('checkpoints'),
      log=workdir / 'tensorboard' / f'seed{seed}' / run,
    )
    stage.finish({'labels': inputs['label'].digest, 'devices': _devices()})
    return True


def evaluate(
  e: Experiment, workdir: Path, seed: int, run: str, follow: bool = False
) -> bool:
  """Evaluates every kept checkpoint of a run; `follow` waits for those to come."""
  root = workdir / f'seed{seed}'
  inputs = {k: _input(e, workdir, seed, k) for k in ('base', 'label')}
  inputs['target'] = _label_stage(e, workdir, seed, e.runs[run])
  config = _config(e, 'evaluate', seed, run)
  folder = root / run / 'evaluate'
  train_folder = root / run / 'train'
  if not follow:
    workdir_lib.finished_stage(train_folder)
  with workdir_lib.open_stage(folder, 'evaluate', config, inputs) as stage:
    if stage.finished:
      if stage.info()['train'] != workdir_lib.finished_stage(train_folder).digest:
        raise workdir_lib.WorkdirError(
          f'{folder} was made from another {train_folder}: move it away, and the '
          'evaluation is made anew.'
        )
      return False
    tokenizer = world.tokenizer()
    model = _decoder(e)
    pairs = _pairs(e, workdir, seed, e.evaluate.split)
    orig = label_lib.read(inputs['label'].path(), e.evaluate.split).explanation
    trained = label_lib.read(inputs['target'].path(), e.evaluate.split).explanation
    arrays = evaluate_lib.questions(tokenizer, pairs, world.QUESTIONS)
    arrays |= {'orig': orig, 'target': trained}
    mesh = sharding.make_mesh(e.mesh)
    like = sharding.abstract_params(mesh, model)
    log_folder = workdir / 'tensorboard' / f'seed{seed}' / run / 'evaluate'
    log = tensorboardX.SummaryWriter(str(log_folder))
    last = e.runs[run].loop.steps
    bar = progress.Progress(f'seed {seed} · {run} · evaluate', last, 'steps')
    for step in _checkpoint_steps(train_folder, e.runs[run].loop, follow):
      interrupt.check()
      path = stage.path(f'step-{step:09d}.parquet')
      if not path.exists():
        checkpoints = checkpoint.Checkpoints(train_folder / 'checkpoints', None)
        items, counts = evaluate_lib.evaluate(
          model,
          checkpoints.restore_params(step, like),
          arrays,
          e.evaluate.batch,
          mesh,
          world.QUESTIONS.states_answer,
          tokenizer.pad_token_id,
        )
        checkpoints.close()
        workdir_lib.write_json(stage.path(f'counts-{step:09d}.json'), counts)
        evaluate_lib.write_records(path, items, pairs, tokenizer)
      counts = json.loads(stage.path(f'counts-{step:09d}.json').read_text())
      for name, count in counts.items():
        log.add_scalar(f'evaluate/{name}', count / counts['n'], step)
      bar.update(step)
    log.close()
    train_stage = workdir_lib.finished_stage(train_folder)
    stage.finish({'train': train_stage.digest, 'devices': _devices()})
    return True


def _devices() -> str:
  return f'{jax.device_count()} x {jax.devices()[0].device_kind}'


def _builders(e: Experiment, folder: Path, seed: int):
  """TFDS builders of the pairs and of the corpus."""
  make = dict(data_dir=folder, file_format='array_record')
  task = e.task
  pairs = world.PairsConfig(
    name=f'seed{seed}_{task.behavior}',
    seed=seed,
    behavior=task.behavior,
    train_pairs=task.train_pairs,
  )
  corpus = world.CorpusConfig(name=f'seed{seed}', seed=seed, documents=e.base.documents)
  return world.WorldPairs(config=pairs, **make), world.WorldCorpus(
    config=corpus, **make
  )


@functools.lru_cache(maxsize=4)  # the runs of a seed read the same pairs
def _pairs(e: Experiment, workdir: Path, seed: int, split: str) -> list[pairs_lib.Pair]:
  builder, _ = _builders(e, workdir / f'seed{seed}' / 'prepare', seed)
  return pairs_lib.read(builder, split)


def _decoder(e: Experiment) -> models.DecoderConfig:
  vocabulary = len(world.tokenizer())
  return models.DecoderConfig(vocab_size=vocabulary, **dataclasses.asdict(e.model))


def _base_params(e: Experiment, workdir: Path, seed: int) -> models.Params:
  """M_0."""
  like = sharding.abstract_params(sharding.make_mesh(e.mesh), _decoder(e))
  return checkpoint.load_params(workdir / f'seed{seed}' / 'base' / 'params', like)


def _start_new_tokens(
  params: models.Params, tokenizer: tokens_lib.Tokenizer, seed: int
) -> models.Params:
  """Words that the corpus lacks start near a word that it has."""
  embedding_VxD = params['embed']['embedding']
  new_N = jnp.array(tokenizer.convert_tokens_to_ids(list(world.NEW_WORDS)))
  like = tokenizer.convert_tokens_to_ids(world.NEW_WORDS_LIKE)
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


def _check_tokenizer(stage: workdir_lib.Stage) -> None:
  """Raises WorkdirError when a stage was made with another vocabulary."""
  now, then = tokens_lib.fingerprint(world.tokenizer()), stage.info()['tokenizer']
  if now != then:
    raise workdir_lib.WorkdirError(
      f'{stage.path("manifest.json")}: field info.tokenizer is {then}, but the '
      f'tokenizer of the task is {now} now; use another --workdir.'
    )


def _label_stage(
  e: Experiment, workdir: Path, seed: int, config: config_lib.Train
) -> workdir_lib.Stage:
  """The labels to train on: this workdir's own, or those the config names.

  Raises:
    WorkdirError: labels that were made for another tokenizer or other pairs.
  """
  own = _input(e, workdir, seed, 'label')
  for made_by in (own, _input(e, workdir, seed, 'base')):
    _check_tokenizer(made_by)
  if not config.labels:
    return own
  other = workdir_lib.finished_stage(Path(config.labels))
  for field in ('tokenizer', 'pairs', 'states_answer'):
    if other.info().get(field) != own.info()[field]:
      raise workdir_lib.WorkdirError(
        f'train.labels={config.labels}: {field} in {other.path("manifest.json")} is '
        f'{other.info().get(field)}, but this workdir has {own.info()[field]}. Labels '
        'serve only the tokenizer and the pairs that they were made for: make them '
        'anew with --stage=label in a workdir of this task and seed.'
      )
  return other


def report(e: Experiment, workdir: Path) -> bool:
  """Writes statistics, figures and text of all seeds and runs."""
  inputs = {}
  for seed in e.seeds:
    for run in e.runs:
      folder, config = f'seed{seed}/{run}/evaluate', _config(e, 'evaluate', seed, run)
      inputs[folder] = workdir_lib.finished_stage(workdir / folder, config)
  with workdir_lib.open_stage(
    workdir / 'report', 'report', dataclasses.asdict(e), inputs
  ) as stage:
    if stage.finished:
      return False
    report_lib.write(stage.path(), summary_lib.summarize(e, workdir))
    stage.finish({})
    return True


def _checkpoint_steps(train_folder: Path, loop: config_lib.Loop, follow: bool):
  """The steps to evaluate, in order, each once its checkpoint is there."""

  def wait_until(there):
    told = -math.inf
    while follow and not there():
      interrupt.check()
      if time.monotonic() - told >= TELL_SECONDS:
        progress.line(f'waiting for {train_folder}, which has no new checkpoint yet')
        told = time.monotonic()
      time.sleep(POLL_SECONDS)

  for step in sorted({*range(0, loop.steps, loop.checkpoint_every), loop.steps}):
    path = train_folder / 'checkpoints' / str(step)
    wait_until(path.exists)  # Orbax renames a checkpoint when it is whole
    yield step
  wait_until(lambda: workdir_lib.is_finished(train_folder))
