"""The stage `evaluate`: what checkpoints do and say, item by item."""

from collections.abc import Callable
import contextlib
import functools
import json
import pathlib

import pyarrow as pa
import tensorboardX

from coupling.config import schema
from coupling.elicit import evaluation
from coupling.elicit import evaluator as evaluator_lib
from coupling.elicit import label_set
from coupling.elicit import options
from coupling.elicit import text_answers
from coupling.model import sharding
from coupling.run import base_model
from coupling.report import records
from coupling.run import context
from coupling.run import other_labels
from coupling.run import steps
from coupling.runtime import distributed
from coupling.runtime import files
from coupling.runtime import finite
from coupling.runtime import progress
from coupling.runtime import workdir as workdir_lib
from coupling.training import label_rules

Experiment = schema.Experiment
Path = pathlib.Path


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
    trained = workdir_lib.finished_stage(train_folder, of_train)
    records.check_input(trained, needs['label'])
  opened = distributed.open_stage(folder, 'evaluate', config, needs)
  with opened as stage, contextlib.ExitStack() as stack:
    if stage.finished:
      records.check_trained(workdir_lib.finished_stage(train_folder), stage)
      return False
    log_folder = workdir / 'tensorboard' / f'seed{seed}' / run / 'evaluate'
    log = tensorboardX.SummaryWriter(
      str(log_folder), write_to_disk=distributed.is_first()
    )
    stack.enter_context(log)  # its thread outlives no error
    last, ask = e.runs[run].loop.steps, None
    bar = progress.Progress(f'seed {seed} · {run} · evaluate', last, 'steps')
    for step in steps.kept(train_folder, e.runs[run], follow):
      distributed.check()
      begun = workdir_lib.begun(train_folder, of_train)
      distributed.first(_check_training, stage, train_folder, begun)
      path = stage.path(f'step-{step:09d}.parquet')
      counts_path = stage.path(f'counts-{step:09d}.json')
      ask = ask or _asking(e, workdir, seed, run, needs['label'])
      if not distributed.first(stage.sealed, path.stem):
        with finite.during(f'seed {seed} · {run} · evaluate, step {step}'):
          table, counts = ask(step)
        distributed.first(files.write_json, counts_path, counts)
        distributed.first(files.write_table, path, table)
        distributed.first(stage.seal, path.stem, path, counts_path)
      counts = json.loads(counts_path.read_text())
      for name, count in counts.items():
        log.add_scalar(f'evaluate/{name}', count / counts['n'], step)
      bar.update(step)
    train_stage = workdir_lib.finished_stage(train_folder, of_train)
    # Of a training that was followed, this could not be asked before.
    records.check_input(train_stage, needs['label'])
    result = {'train': train_stage.digest, 'devices': context.devices()}
    distributed.first(stage.finish, result | {'tokens': _tokens(e, needs['label'])})
    return True


def _asking(
  e: Experiment, workdir: Path, seed: int, run: str, own: workdir_lib.Stage
) -> Callable[[int], tuple[pa.Table, evaluation.Counts]]:
  """From a kept step to what the model does and says there, and the counts."""
  train_folder = workdir / f'seed{seed}' / run / 'train'
  if isinstance(e.base, schema.Served):
    return _asking_served(e, workdir, seed, own, train_folder)
  mesh, params_at = sharding.make_mesh(e.mesh), steps.reader(e, workdir, seed, run)
  evaluator = made_ready(e, e.runs[run], own, train_folder)
  return lambda step: evaluator.run(base_model.decoder(e), params_at(step), mesh)


def _asking_served(
  e: Experiment, workdir: Path, seed: int, own: workdir_lib.Stage, train_folder: Path
) -> Callable[[int], tuple[pa.Table, evaluation.Counts]]:
  """The same of a server, which has one step."""
  split = e.evaluate.split
  row_N = label_set.read_rows(own.path(), split)
  ask = functools.partial(
    text_answers.evaluate,
    base_model.model(e, workdir, seed),
    label_set.read_pairs(own.path(), split),
    row_N,
    context.questions(e),
    context.how(e, own),
    e.label.reply_tokens,
    label_set.read_explanation(own.path(), split, row_N),
    label_rules.read(train_folder, split, row_N).labels,
    e.evaluate,
  )
  return lambda step: ask()


def _tokens(e: Experiment, own: workdir_lib.Stage) -> dict[str, int] | None:
  """See evaluation.tokens; None of a server, whose tokens are its own."""
  if isinstance(e.base, schema.Served):
    return None
  *_, asked = _held_out(e, own.path(), own.digest, context.how(e, own))
  return evaluation.tokens(asked)


def made_ready(
  e: Experiment, config: schema.Train, own: workdir_lib.Stage, train_folder: Path
) -> evaluator_lib.Evaluator:
  """What a run's checkpoints are evaluated on, and against which labels."""
  pairs, row_N, orig, asked = _held_out(e, own.path(), own.digest, context.how(e, own))
  return evaluator_lib.Evaluator(
    format=base_model.format(e),
    template=context.questions(e),
    pairs=pairs,
    row_N=row_N,
    asked=asked,
    orig=orig,
    target=label_rules.read(train_folder, e.evaluate.split, row_N).labels,
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
  asked = evaluation.questions(base_model.format(e), pairs, context.questions(e), how)
  row_N = label_set.read_rows(folder, split)
  return pairs, row_N, label_set.read(folder, split), asked


def _check_training(stage: workdir_lib.Stage, train_folder: Path, begun: str) -> None:
  """Refuses to go on with another training than the one whose steps are there."""
  note = stage.path('.training', 'begun.json')
  if not note.exists():
    note.parent.mkdir(exist_ok=True)
    files.write_json(note, begun)
  elif json.loads(note.read_text()) != begun:
    raise workdir_lib.WorkdirError(
      f'{stage.path()} was made from another {train_folder}: move it away, and the '
      'evaluation is made anew.'
    )
