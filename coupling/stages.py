"""The stages, in the order of the way of the data; each fills one folder.

  <workdir>/seed0/prepare                 counterfactual pairs and corpus
  <workdir>/seed0/base                    M_0 and its tokenizer
  <workdir>/seed0/label                   B(M_0), E(M_0), reference distributions
  <workdir>/seed0/<run>/train             checkpoints M_t
  <workdir>/seed0/<run>/evaluate          behaviours and explanations, item by item
  <workdir>/seed0/<run>/export            the last M_t in the hub's format, on demand
  <workdir>/report                        statistics, figures, text

A stage is skipped when finished and resumed when not (workdir.open_stage); it
returns False when there was nothing to do.
"""

import contextlib
import dataclasses
import io
import json
import math
import pathlib
import shutil
import time
from typing import Any

from absl import logging
import jax
import tensorboardX
import tensorflow_datasets as tfds

from coupling import behavior
from coupling import checkpoint
from coupling import config as config_lib
from coupling import evaluate as evaluate_lib
from coupling import examples
from coupling import fit as fit_lib
from coupling import hub
from coupling import inputs
from coupling import interrupt
from coupling import label as label_lib
from coupling import models
from coupling import peft_format
from coupling import progress
from coupling import report as report_lib
from coupling import sharding
from coupling import summary as summary_lib
from coupling import train as train_lib
from coupling import weights
from coupling import workdir as workdir_lib
from data import pairs as pairs_lib
from data import splits

Experiment = config_lib.Experiment
Path = pathlib.Path
# Orbax and TFDS tell much of themselves; what the user needs goes through progress.
logging.set_verbosity(logging.ERROR)
tfds.disable_progress_bar()

POLL_SECONDS = 2.0  # how often a following evaluation looks for new checkpoints
TELL_SECONDS = 60.0  # how often it says that it waits


def prepare(e: Experiment, workdir: Path, seed: int) -> bool:
  """Writes the task's data sets."""
  folder = workdir / f'seed{seed}' / 'prepare'
  config = inputs.stage_config(e, 'prepare', seed)
  with workdir_lib.open_stage(folder, 'prepare', config, {}) as stage:
    if stage.finished:
      return False
    for torn in folder.rglob('incomplete.*'):  # what a killed TFDS left half written
      shutil.rmtree(torn)
    builders = [inputs.pairs_builder(e, workdir, seed)]
    if isinstance(e.base, config_lib.Pretrain):
      builders.append(inputs.corpus_builder(e, workdir, seed))
    for builder in builders:
      with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints its progress
        builder.download_and_prepare()
    stage.finish({'format': inputs.format(e).fingerprint})
    return True


def base(e: Experiment, workdir: Path, seed: int) -> bool:
  """Makes M_0: pretrains it, or takes note of an imported checkpoint."""
  root = workdir / f'seed{seed}'
  needs = {'prepare': inputs.stage(e, workdir, seed, 'prepare')}
  config = inputs.stage_config(e, 'base', seed)
  with workdir_lib.open_stage(root / 'base', 'base', config, needs) as stage:
    if stage.finished:
      return False
    make = _pretrain if isinstance(e.base, config_lib.Pretrain) else _import
    info = make(e, workdir, seed, stage)
    format = inputs.format(e)
    format.tokenizer.save_pretrained(stage.path('tokenizer'))
    stage.finish(info | {'format': format.fingerprint})
    return True


def _pretrain(
  e: Experiment, workdir: Path, seed: int, stage: workdir_lib.Stage
) -> dict[str, Any]:
  """Pretrains M_0 on the corpus; returns what the manifest says of it."""
  lines = inputs.task_module(e).read_corpus(inputs.corpus_builder(e, workdir, seed))
  texts, answers = zip(*(line.rsplit(' ', 1) for line in lines))
  model = inputs.decoder(e)
  params = fit_lib.fit(
    title=f'seed {seed} · base',
    model=model,
    low_rank=None,
    objectives=None,
    optimizer=e.base.optimizer,
    loop=e.base.loop,
    mesh_axes=e.mesh,
    params=models.init(model, seed),
    frozen={},
    parts={
      'corpus': (behavior.questions(inputs.format(e), texts, answers), e.base.batch)
    },
    data_seed=seed,
    folder=stage.path('checkpoints'),
    log=workdir / 'tensorboard' / f'seed{seed}' / 'base',
  )
  params = inputs.start_new_words(e, params, seed)
  if not stage.path('params').exists():
    checkpoint.save_params(stage.path('params'), params)
  return {'parameters': models.num_params(params)}


def _import(
  e: Experiment, workdir: Path, seed: int, stage: workdir_lib.Stage
) -> dict[str, Any]:
  """Checks an imported checkpoint, which stays where it is; see _pretrain."""
  del workdir, seed
  folder = inputs.checkpoint_folder(e)
  model = inputs.decoder(e)
  weights.check(folder, model)
  workdir_lib.write_json(stage.path('config.json'), hub.read_config(folder))
  return {
    'parameters': models.num_params(models.abstract(model)),
    'weights': inputs.digest(folder),
  }


def label(e: Experiment, workdir: Path, seed: int) -> bool:
  """Records what M_0 does on every split: the fixed labels."""
  root = workdir / f'seed{seed}'
  needs = {k: inputs.stage(e, workdir, seed, k) for k in ('prepare', 'base')}
  config = inputs.stage_config(e, 'label', seed)
  with workdir_lib.open_stage(root / 'label', 'label', config, needs) as stage:
    if stage.finished:
      return False
    format, template = inputs.format(e), inputs.questions(e)
    model, mesh = inputs.decoder(e), sharding.make_mesh(e.mesh)
    sharding.check_batch(mesh, 'label.batch', e.label.batch)
    builder = inputs.pairs_builder(e, workdir, seed)
    every = {split: pairs_lib.read(builder, split) for split in splits.SHARES}
    kept = {split: inputs.fitting(e, split, found) for split, found in every.items()}
    params = inputs.base_params(e, workdir, seed)

    def compute(questions):
      return behavior.behaviors(
        model,
        params,
        questions,
        e.label.batch,
        mesh,
        e.label.reference,
        inputs.reply(e),
      )

    total = sum(map(len, kept.values()))
    bar = progress.Progress(f'seed {seed} · label', total, 'pairs')
    done = 0
    for split, row_N in kept.items():
      pairs = [every[split][i] for i in row_N]
      label_lib.write(
        stage.path(),
        split,
        pairs,
        row_N,
        behavior.pair_questions(format, pairs, template),
        e.label.shard,
        compute,
        lambda n, done=done: bar.update(done + n),
      )
      done += len(pairs)
    stage.finish(
      {
        'format': format.fingerprint,
        'checkpoint': needs['base'].digest,
        'pairs': {split: pairs_lib.digest(found) for split, found in every.items()},
        'too_long': {split: len(every[split]) - len(x) for split, x in kept.items()},
        'states_answer': template.states_answer,
        'unexplained': list(template.unexplained),
      }
    )
    return True


def train(e: Experiment, workdir: Path, seed: int, run: str) -> bool:
  """Trains explanations of the fixed labels, with the run's objectives."""
  root, config = workdir / f'seed{seed}', e.runs[run]
  needs = {k: inputs.stage(e, workdir, seed, k) for k in ('base', 'label')}
  needs['target'] = inputs.label_stage(e, workdir, seed, config)
  folder = root / run / 'train'
  described = inputs.stage_config(e, 'train', seed, run)
  with workdir_lib.open_stage(folder, 'train', described, needs) as stage:
    if stage.finished:
      return False
    model, own = inputs.decoder(e), needs['label'].path()
    row_N = label_lib.read_rows(own, 'train')
    parts = examples.training_parts(
      config,
      inputs.format(e),
      inputs.questions(e),
      label_lib.read_pairs(own, 'train'),
      label_lib.read(needs['target'].path(), 'train', row_N),
      label_lib.read(own, 'train'),
      seed,
    )
    base_params = inputs.base_params(e, workdir, seed)
    adapters = _adapters(e, seed, run)
    fit_lib.fit(
      title=f'seed {seed} · {run} · train',
      model=model,
      low_rank=config.lora,
      objectives=config.objectives,
      optimizer=config.optimizer,
      loop=config.loop,
      mesh_axes=e.mesh,
      params=adapters or base_params,
      frozen=base_params if adapters else {},
      parts=parts,
      data_seed=_train_seed(seed, config),
      folder=stage.path('checkpoints'),
      log=workdir / 'tensorboard' / f'seed{seed}' / run,
    )
    stage.finish({'labels': needs['target'].digest, 'devices': _devices()})
    return True


def _train_seed(seed: int, config: config_lib.Train) -> int:
  return seed + 1_000_003 * config.seed


def _adapters(e: Experiment, seed: int, run: str) -> models.Params:
  """A run's adapters as they start; empty where all weights are trained."""
  config = e.runs[run]
  return train_lib.fresh_adapters(
    inputs.decoder(e), config.lora, _train_seed(seed, config)
  )


def evaluate(
  e: Experiment, workdir: Path, seed: int, run: str, follow: bool = False
) -> bool:
  """Evaluates every kept checkpoint of a run; `follow` waits for those to come."""
  root, split = workdir / f'seed{seed}', e.evaluate.split
  needs = {k: inputs.stage(e, workdir, seed, k) for k in ('base', 'label')}
  needs['target'] = inputs.label_stage(e, workdir, seed, e.runs[run])
  config = inputs.stage_config(e, 'evaluate', seed, run)
  folder = root / run / 'evaluate'
  train_folder = root / run / 'train'
  if not follow:
    workdir_lib.finished_stage(train_folder)
  with workdir_lib.open_stage(folder, 'evaluate', config, needs) as stage:
    if stage.finished:
      if stage.info()['train'] != workdir_lib.finished_stage(train_folder).digest:
        raise workdir_lib.WorkdirError(
          f'{folder} was made from another {train_folder}: move it away, and the '
          'evaluation is made anew.'
        )
      return False
    format, template = inputs.format(e), inputs.questions(e)
    pairs = label_lib.read_pairs(needs['label'].path(), split)
    row_N = label_lib.read_rows(needs['label'].path(), split)
    arrays = evaluate_lib.questions(format, pairs, template)
    for name, labels in (('orig', needs['label']), ('target', needs['target'])):
      arrays[name] = label_lib.read(labels.path(), split, row_N).explanation
    mesh = sharding.make_mesh(e.mesh)
    adapters = _adapters(e, seed, run)
    like = adapters or sharding.abstract_params(mesh, inputs.decoder(e))
    frozen = inputs.base_params(e, workdir, seed) if adapters else {}
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
          inputs.decoder(e),
          frozen | checkpoints.restore_params(step, like),
          arrays,
          e.evaluate.batch,
          mesh,
          template.states_answer,
          format,
          inputs.reply(e),
        )
        checkpoints.close()
        workdir_lib.write_json(stage.path(f'counts-{step:09d}.json'), counts)
        evaluate_lib.write_records(path, items, pairs, format)
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


def export(e: Experiment, workdir: Path, seed: int, run: str) -> bool:
  """Writes a run's last checkpoint in the hub's format: adapters, or all weights.

  Raises:
    ConfigError: M_0 was pretrained here and is of no family of the hub.
  """
  if isinstance(e.base, config_lib.Pretrain):
    raise config_lib.ConfigError(
      'export: M_0 did not come from the hub, whose formats know no such model; its '
      f'Orbax checkpoints are in {workdir}/seed{seed}/{run}/train/checkpoints.'
    )
  root, config = workdir / f'seed{seed}', e.runs[run]
  described = inputs.stage_config(e, 'train', seed, run)
  needs = {
    'base': inputs.stage(e, workdir, seed, 'base'),
    'train': workdir_lib.finished_stage(root / run / 'train', described),
  }
  folder = root / run / 'export'
  with workdir_lib.open_stage(folder, 'export', described, needs) as stage:
    if stage.finished:
      return False
    model, target = inputs.decoder(e), stage.path('model')
    adapters = _adapters(e, seed, run)
    mesh = sharding.make_mesh(e.mesh)
    like = adapters or sharding.abstract_params(mesh, model)
    checkpoints = checkpoint.Checkpoints(needs['train'].path('checkpoints'), None)
    params = checkpoints.restore_params(config.loop.steps, like)
    checkpoints.close()
    if target.exists():  # then it is whole
      pass
    elif adapters:
      peft_format.save(target, params[models.ADAPTERS], e.base.checkpoint)
    else:
      raw = hub.read_config(needs['base'].path())
      tokenizer = inputs.format(e).tokenizer
      weights.save(target, model, params, tokenizer=tokenizer, like=raw)
    stage.finish({})
    return True


def report(e: Experiment, workdir: Path) -> bool:
  """Writes statistics, figures and text of all seeds and runs."""
  needs = {}
  for seed in e.seeds:
    for run in e.runs:
      folder = f'seed{seed}/{run}/evaluate'
      config = inputs.stage_config(e, 'evaluate', seed, run)
      needs[folder] = workdir_lib.finished_stage(workdir / folder, config)
  with workdir_lib.open_stage(
    workdir / 'report', 'report', dataclasses.asdict(e), needs
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
