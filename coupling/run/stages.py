"""The stages, in the order of the way of the data; each fills one folder.

  <workdir>/seed0/prepare                 counterfactual pairs and corpus: prepare.py
  <workdir>/seed0/base                    M_0 and its tokenizer: base.py
  <workdir>/seed0/label                   B(M_0), E(M_0), reference distributions, or
                                          those of the labels' source: labelling.py
  <workdir>/seed0/<run>/train             checkpoints M_t
  <workdir>/seed0/<run>/evaluate          behaviours and explanations, item by item
  <workdir>/seed0/<run>/patch             which sites carry them: patch_stage.py
  <workdir>/seed0/<run>/export            the last M_t in the hub's format: export.py
  <workdir>/report                        statistics, figures, text

A stage is skipped when finished and resumed when not (workdir.open_stage); it
returns False when there was nothing to do.
"""

from collections.abc import Sequence
import contextlib
import dataclasses
import functools
import itertools
import json
import pathlib

from absl import logging
import jax
import numpy as np
import tensorboardX
import tensorflow_datasets as tfds

from coupling import paper as paper_lib
from coupling.config import borrowed_labels
from coupling.config import paper_schema
from coupling.config import schema
from coupling.elicit import evaluation
from coupling.elicit import evaluator as evaluator_lib
from coupling.elicit import label_set
from coupling.elicit import options
from coupling.model import sharding
from coupling.patching import outcomes
from coupling.report import aggregate
from coupling.report import page
from coupling.report import provenance
from coupling.report import records
from coupling.run import base as base_lib
from coupling.run import context
from coupling.run import labelling
from coupling.run import other_labels
from coupling.run import prepare as prepare_lib
from coupling.run import steps
from coupling.run import trainings as trainings_lib
from coupling.runtime import distributed
from coupling.runtime import files
from coupling.runtime import finite
from coupling.runtime import progress
from coupling.runtime import workdir as workdir_lib
from coupling.training import label_rules
from coupling.training import sweep
from coupling.training import train_loop
from data import loader
from data import pairs as pairs_lib
from data import splits

Experiment = schema.Experiment
Path = pathlib.Path
prepare = prepare_lib.prepare
# Orbax and TFDS tell much of themselves; what the user needs goes through progress.
logging.set_verbosity(logging.ERROR)
tfds.disable_progress_bar()


def base(e: Experiment, workdir: Path, seed: int) -> bool:
  """Makes M_0: pretrains it, or takes note of a checkpoint."""
  root = workdir / f'seed{seed}'
  base_lib.check_trainable(e, seed)
  needs = {'prepare': context.stage(e, workdir, seed, 'prepare')}
  needs |= base_lib.needs(e, seed)
  config = context.stage_config(e, 'base', seed)
  with distributed.open_stage(root / 'base', 'base', config, needs) as stage:
    if stage.finished:
      return False
    info = base_lib.make(e, workdir, seed, stage)
    format = context.format(e)
    distributed.first(format.tokenizer.save_pretrained, stage.path('tokenizer'))
    distributed.first(stage.finish, info | {'format': format.fingerprint})
    return True


def label(e: Experiment, workdir: Path, seed: int, step: int | None = None) -> bool:
  """Records what M_0 does on every split, or the source of the labels did.

  `step`: an earlier step of M_0's own pretraining is asked, for labels of its own.
  """
  labels = '' if step is None else f'{borrowed_labels.EARLIER}{step}'
  folder = label_set.folder(labels, workdir, seed)
  needs = {k: context.stage(e, workdir, seed, k) for k in ('prepare', 'base')}
  field, source = f'label.source={e.label.source}', other_labels.source(e, seed)
  if source is not None:
    needs['source'] = source
  config = context.stage_config(e, 'label', seed, step=step)
  with distributed.open_stage(folder, 'label', config, needs) as stage:
    if stage.finished:
      return False
    builder = context.pairs_builder(e, workdir, seed)
    wanted = [x for x in builder.info.splits if x != splits.PRACTICE]
    if context.practised(e) and step is None:
      wanted.append(splits.PRACTICE)
    every = {split: pairs_lib.read(builder, split) for split in wanted}
    info = {
      'format': context.format(e).fingerprint,
      'pairs': {split: pairs_lib.digest(found) for split, found in every.items()},
      'states_answer': context.questions(e).states_answer,
      'unexplained': list(context.questions(e).unexplained),
    }
    if source is not None:
      other_labels.check(field, source, info, stage.config)
    kept = {split: context.fitting(e, split, found) for split, found in every.items()}
    train = [every['train'][i] for i in kept.get('train', ())]
    labeller = labelling.labeller(e, workdir, seed, step, source, stage, train)
    total = sum(map(len, kept.values()))
    bar = progress.Progress(f'seed {seed} · {folder.name}', total, 'pairs')
    done = 0
    for split, row_N in kept.items():
      pairs = [every[split][i] for i in row_N]
      arrays, compute = labeller(split, pairs, row_N)
      for first, end in labelling.shards(len(pairs), e.label.shard):
        here = np.arange(first, end)
        path = label_set.shard(stage.path(), split, first)
        if not distributed.first(stage.sealed, path.stem):
          where = f'seed {seed} · {folder.name} · {split}, pairs from {first} on'
          with finite.during(where):
            labels = compute(loader.take(arrays, here))
          distributed.first(
            label_set.write, path, pairs[first:end], row_N[here], labels
          )
          distributed.first(stage.seal, path.stem, path)
          if (split, first, step, source) == ('train', 0, None, None):
            labelling.check_varied(e.label, labels)
        done += len(here)
        bar.update(done)
    dropped = {split: len(every[split]) - len(x) for split, x in kept.items()}
    distributed.first(stage.finish, info | {'too_long': dropped})
    return True


def train(e: Experiment, workdir: Path, runs: Sequence[tuple[int, str]]) -> bool:
  """Trains explanations of the fixed labels, with each run's objectives.

  Args:
    e: the experiment.
    workdir: its folder.
    runs: seed and name of the runs, of one kind (sweep.groups), that train at once.

  A run of no steps is M_0: there is nothing to train and to keep.
  """
  base_of = functools.cache(functools.partial(context.base_params, e, workdir))
  with contextlib.ExitStack() as stack:
    trainings, results = [], []
    for seed, run in runs:
      stage, needs = stack.enter_context(
        trainings_lib.open_stage(e, workdir, seed, run)
      )
      if stage.finished:
        continue
      result = {'labels': needs['target'].digest, 'devices': context.devices()}
      if e.runs[run].loop.steps:
        base = base_of(seed)
        trainings.append(trainings_lib.make(e, workdir, seed, run, stage, needs, base))
        result |= {'tokens': trainings_lib.tokens(trainings[-1])}
      results.append((stage, result))
    several, apart = len(trainings) > 1, ''
    if several and len(trainings) % jax.device_count():
      apart = 'do not fill all devices'
    elif several and not sweep.side_by_side(trainings):
      apart = 'have come to different steps'
    if several and not apart:
      sweep.fit(trainings)
    else:
      if apart:
        progress.line(f'{len(trainings)} runs {apart}: one by one')
      for one in trainings:
        train_loop.fit(one)
    for stage, result in results:
      distributed.first(stage.finish, result)
    return bool(results)


def evaluate(
  e: Experiment, workdir: Path, seed: int, run: str, follow: bool = False
) -> bool:
  """Evaluates every kept checkpoint of a run; `follow` waits for those to come."""
  root = workdir / f'seed{seed}'
  needs = {k: context.stage(e, workdir, seed, k) for k in ('base', 'label')}
  needs['target'] = other_labels.of_run(e, workdir, seed, e.runs[run])
  config = context.stage_config(e, 'evaluate', seed, run)
  folder = root / run / 'evaluate'
  train_folder = root / run / 'train'
  of_train = context.stage_config(e, 'train', seed, run)
  if not follow:
    workdir_lib.finished_stage(train_folder, of_train)
  opened = distributed.open_stage(folder, 'evaluate', config, needs)
  with opened as stage, contextlib.ExitStack() as stack:
    if stage.finished:
      if stage.info()['train'] != workdir_lib.finished_stage(train_folder).digest:
        raise _of_another(folder, train_folder)
      return False
    evaluator = _evaluator(e, seed, e.runs[run], needs['label'], needs['target'])
    mesh = sharding.make_mesh(e.mesh)
    params_at = steps.reader(e, workdir, seed, run)
    log_folder = workdir / 'tensorboard' / f'seed{seed}' / run / 'evaluate'
    log = tensorboardX.SummaryWriter(
      str(log_folder), write_to_disk=distributed.is_first()
    )
    stack.enter_context(log)  # its thread outlives no error
    last = e.runs[run].loop.steps
    bar = progress.Progress(f'seed {seed} · {run} · evaluate', last, 'steps')
    for step in steps.kept(train_folder, e.runs[run], follow):
      distributed.check()
      begun = workdir_lib.begun(train_folder, of_train)
      distributed.first(_check_training, stage, train_folder, begun)
      path = stage.path(f'step-{step:09d}.parquet')
      counts_path = stage.path(f'counts-{step:09d}.json')
      if not distributed.first(stage.sealed, path.stem):
        with finite.during(f'seed {seed} · {run} · evaluate, step {step}'):
          table, counts = evaluator.run(context.decoder(e), params_at(step), mesh)
        distributed.first(files.write_json, counts_path, counts)
        distributed.first(files.write_table, path, table)
        distributed.first(stage.seal, path.stem, path, counts_path)
      counts = json.loads(counts_path.read_text())
      for name, count in counts.items():
        log.add_scalar(f'evaluate/{name}', count / counts['n'], step)
      bar.update(step)
    train_stage = workdir_lib.finished_stage(train_folder, of_train)
    result = {'train': train_stage.digest, 'devices': context.devices()}
    distributed.first(
      stage.finish, result | {'tokens': evaluation.tokens(evaluator.asked)}
    )
    return True


def _evaluator(
  e: Experiment,
  seed: int,
  config: schema.Train,
  own: workdir_lib.Stage,
  target: workdir_lib.Stage,
) -> evaluator_lib.Evaluator:
  """What a run's checkpoints are evaluated on, and against which labels."""
  split, template = e.evaluate.split, context.questions(e)
  how = context.how(e, own)
  pairs, row_N, orig, asked = _held_out(e, own.path(), own.digest, how)
  other = label_set.read_explanation(target.path(), split, row_N)
  return evaluator_lib.Evaluator(
    format=context.format(e),
    template=template,
    pairs=pairs,
    asked=asked,
    orig=orig,
    target=label_rules.of_pairs(config, pairs, orig, other, template, seed, split),
    config=e.evaluate,
    context=config.context,
    reply_tokens=e.label.reply_tokens,
  )


@functools.lru_cache(maxsize=2)  # the next run of a seed is asked the same
def _held_out(e: Experiment, folder: Path, digest: str, how: options.How):
  """Held-out pairs, their places in the split, what M_0 did, and what is asked."""
  del digest  # of what lies in the folder, for the cache
  split = e.evaluate.split
  pairs = label_set.read_pairs(folder, split)
  asked = evaluation.questions(context.format(e), pairs, context.questions(e), how)
  row_N = label_set.read_rows(folder, split)
  return pairs, row_N, label_set.read(folder, split), asked


def _check_training(stage: workdir_lib.Stage, train_folder: Path, begun: str) -> None:
  """Refuses to go on with another training than the one whose steps are there."""
  note = stage.path('.training', 'begun.json')
  if not note.exists():
    note.parent.mkdir(exist_ok=True)
    files.write_json(note, begun)
  elif json.loads(note.read_text()) != begun:
    raise _of_another(stage.path(), train_folder)


def _of_another(folder: Path, train_folder: Path) -> workdir_lib.WorkdirError:
  return workdir_lib.WorkdirError(
    f'{folder} was made from another {train_folder}: move it away, and the evaluation '
    'is made anew.'
  )


def check_report(e: Experiment | paper_schema.Paper, workdir: Path) -> None:
  """Raises WorkdirError where the report there is of another config."""
  folder = workdir / 'report'
  if workdir_lib.is_finished(folder):
    workdir_lib.begun(folder, dataclasses.asdict(e))


def report(e: Experiment, workdir: Path) -> bool:
  """Writes statistics, figures and text of all seeds and runs."""
  needs = {}
  for seed in e.seeds:
    for run in e.runs:
      folder = f'seed{seed}/{run}/evaluate'
      config = context.stage_config(e, 'evaluate', seed, run)
      needs[folder] = workdir_lib.finished_stage(workdir / folder, config)
  with workdir_lib.open_stage(
    workdir / 'report', 'report', dataclasses.asdict(e), needs
  ) as stage:
    if stage.finished:
      return False
    page.write(stage.path(), aggregate.summarize(e, workdir))
    stage.finish({})
    return True


def paper(p: paper_schema.Paper, workdir: Path) -> bool:
  """Writes what several experiments show of their studies' claims."""
  needs = {}
  for part, e in p.parts.items():
    for seed, run in itertools.product(e.seeds, e.runs):
      config = context.stage_config(e, 'evaluate', seed, run)
      folder = f'{part}/seed{seed}/{run}/evaluate'
      needs[folder] = workdir_lib.finished_stage(workdir / folder, config)
      if f'{part}/{run}' in p.patched:
        config = context.stage_config(e, 'patch', seed, run)
        folder = f'{part}/seed{seed}/{run}/patch'
        needs[folder] = workdir_lib.finished_stage(workdir / folder, config)
  with workdir_lib.open_stage(
    workdir / 'report', 'paper', dataclasses.asdict(p), needs
  ) as stage:
    if stage.finished:
      return False
    found = {
      part: {seed: records.read_seed(e, workdir / part, seed) for seed in e.seeds}
      for part, e in p.parts.items()
      if e.runs
    }
    made = provenance.of_parts(p, workdir)
    bayes = {part: context.bayes(e) for part, e in p.parts.items()}
    maps = {
      name: {
        seed: outcomes.read_all(workdir / part / f'seed{seed}' / run / 'patch')
        for seed in p.parts[part].seeds
      }
      for name in sorted(p.patched)
      for part, _, run in [name.partition('/')]
    }
    paper_lib.write(stage.path(), p, found, made, bayes, maps)
    stage.finish({})
    return True
