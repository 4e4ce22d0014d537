"""The stage `label`: B(M_0), E(M_0) and reference distributions of every split.

Behaviours are M_0's, those of another label set, or the data's own.
"""

from collections.abc import Sequence
import dataclasses
import functools
import pathlib
from typing import Any

import numpy as np

from coupling.config import borrowed_labels
from coupling.config import schema
from coupling.elicit import fitting as fitting_lib
from coupling.elicit import label_set
from coupling.elicit import options
from coupling.elicit.explanation import Behaviors
from coupling.run import base_model
from coupling.run import context
from coupling.run import labelling
from coupling.run import other_labels
from coupling.run import steps
from coupling.runtime import distributed
from coupling.runtime import files
from coupling.runtime import finite
from coupling.runtime import progress
from coupling.runtime import workdir as workdir_lib
from data import loader
from data import pair_file
from data import pairs as pairs_lib
from data import readers
from data import reply_options
from data import splits

Experiment = schema.Experiment
Path = pathlib.Path


def label(e: Experiment, workdir: Path, seed: int, labels: str = '') -> bool:
  """Records what M_0 does on every split, or the source of the labels did.

  `labels`: as of `train.labels`, those that are made here: of a step of M_0's own
  pretraining, or of another run at its end.
  """
  step = borrowed_labels.earlier_step(labels)
  folder = label_set.folder(labels, workdir, seed)
  needs = {k: context.stage(e, workdir, seed, k) for k in ('prepare', 'base')}
  if run := borrowed_labels.other_run(labels):
    of_run = context.stage_config(e, 'train', seed, run)
    needs['train'] = workdir_lib.finished_stage(folder.parent / 'train', of_run)
  field, source = f'label.source={e.label.source}', other_labels.source(e, seed)
  if source is not None:
    needs['source'] = source
  config = context.stage_config(e, 'label', seed, step=step)
  with distributed.open_stage(folder, 'label', config, needs) as stage:
    if stage.finished:
      return False
    builder = context.pairs_builder(e, workdir, seed)
    wanted = [x for x in builder.info.splits if x != splits.PRACTICE]
    if context.practised(e) and not labels:
      wanted.append(splits.PRACTICE)
    asked = context.questions(e)
    every = {
      split: reply_options.with_unnamed(asked, pairs_lib.read(builder, split))
      for split in wanted
    }
    info = {
      'format': base_model.fingerprint(e),
      'pairs': {split: pairs_lib.digest(found) for split, found in every.items()},
      'states_answer': asked.states_answer,
      'unexplained': list(asked.unexplained),
    }
    if source is not None:
      other_labels.check(field, source, info, stage.config)
    kept = {split: fitting(e, split, found) for split, found in every.items()}
    train = [every['train'][i] for i in kept.get('train', ())]
    labeller = _labeller(e, workdir, seed, labels, source, stage, train)
    total = sum(map(len, kept.values()))
    name = str(folder.relative_to(workdir / f'seed{seed}'))
    bar = progress.Progress(f'seed {seed} · {name}', total, 'pairs')
    done = 0
    for split, row_N in kept.items():
      pairs = [every[split][i] for i in row_N]
      arrays, compute = labeller(split, pairs, row_N)
      for first, end in labelling.shards(len(pairs), e.label.shard):
        here = np.arange(first, end)
        path = label_set.shard(stage.path(), split, first)
        if not distributed.first(stage.sealed, path.stem):
          where = f'seed {seed} · {name} · {split}, pairs from {first} on'
          with finite.during(where):
            found = compute(loader.take(arrays, here))
          if (split, first, labels, source) == ('train', 0, '', None):
            labelling.check_varied(e.label, found)  # before they are kept
          distributed.first(label_set.write, path, pairs[first:end], row_N[here], found)
          distributed.first(stage.seal, path.stem, path)
        done += len(here)
        bar.update(done)
    dropped = {split: len(every[split]) - len(x) for split, x in kept.items()}
    distributed.first(stage.finish, info | {'too_long': dropped})
    return True


def fitting(e: Experiment, split: str, found: Sequence[pairs_lib.Pair]) -> np.ndarray:
  """Indices of the pairs none of whose prompts, with its answer, is too long.

  Raises:
    ConfigError: too long prompts where the config wants none, or nothing else.
  """
  if isinstance(e.base, schema.Served):
    return np.arange(len(found))  # the server knows how long its tokens are
  length_N = fitting_lib.lengths(
    base_model.format(e),
    context.questions(e),
    found,
    e.behavior.read,
    e.label.reply_tokens,
    context.asks_after(e),
  )
  return fitting_lib.kept(length_N, e.length, f'split {split} of {e.task.module}')


def _labeller(
  e: Experiment,
  workdir: Path,
  seed: int,
  labels: str,
  source: workdir_lib.Stage | None,
  stage: workdir_lib.Stage,
  train: Sequence[pairs_lib.Pair],
) -> labelling.Labeller:
  """Who gives behaviours; where they are calibrated, with the prior in the stage."""
  if e.label.source:
    return _taking(e, source)
  # Of any but M_0 only the answers are wanted.
  support = 'options' if labels else e.label.reference
  model = base_model.model(e, workdir, seed, borrowed_labels.earlier_step(labels))
  if run := borrowed_labels.other_run(labels):
    trained = steps.read_trained(e, workdir, seed, run, e.runs[run].loop.steps)
    model = dataclasses.replace(model, params=model.params | trained)
    # Read as all that it does is: with the prior of M_0.
    own = context.stage(e, workdir, seed, 'label')
    ask = labelling.asking
    return ask(model, context.questions(e), e.label, context.how(e, own), support)
  asks = functools.partial(labelling.asking, model, context.questions(e), e.label)
  if e.behavior.calibration == 'prior':
    path = stage.path(label_set.PRIOR)
    if not distributed.first(stage.sealed, path.stem):
      plain = options.How.of(e.behavior)
      found = labelling.prior(asks(plain, 'options'), train)
      distributed.first(files.write_json, path, found)
      distributed.first(stage.seal, path.stem, path)
  return asks(context.how(e, stage), support)


def _taking(e: Experiment, source: workdir_lib.Stage | None) -> labelling.Labeller:
  """No model is asked: behaviours are those of a label stage, or the data's own."""

  def labeller(split, pairs, row_N):
    if source is None:
      chosen = context.task_module(e).behaviors(e.task.config, pairs)
      _check(e.task.module, pairs, chosen)
      _check_read(e)
      replies_Nx2 = np.zeros((len(pairs), 0), object)
    else:
      found = label_set.read(source.path(), split, row_N)
      chosen = found.behavior_N, found.counterfactual_behavior_N
      replies_Nx2 = found.replies_Nx2
    taken = {'chosen': np.stack(chosen, axis=1), 'replies': replies_Nx2}
    return taken, _without_distributions

  return labeller


def _check(module: str, pairs: Sequence[pairs_lib.Pair], chosen: Any) -> None:
  """Raises DataError unless a task's behaviours are two options of each pair."""
  count = [len(pair.options) for pair in pairs]
  for name, found in zip(label_set.LABEL, chosen, strict=True):
    option_N = np.asarray(found)
    if option_N.shape != (len(pairs),):
      raise readers.DataError(
        f'{module}.behaviors, {name}: shape {option_N.shape}, expected one option for '
        f'each of {len(pairs)} pairs'
      )
    whole = np.issubdtype(option_N.dtype, np.integer)
    for pair, option, size in zip(pairs, option_N.tolist(), count):
      if not whole or not 0 <= option < size:
        raise readers.DataError(
          f'{module}.behaviors, {name} of {pair.provenance}: found {option!r} '
          f'({option_N.dtype}), expected an integer, the index of one of {size} options'
        )


def _check_read(e: Experiment) -> None:
  """Raises ConfigError where a file's answers were read otherwise than behaviour is."""
  if e.task.module != pair_file.__name__:
    return
  said = pair_file.read_by(pair_file.rows(e.task.config.path))
  if said not in (None, dataclasses.astuple(e.behavior)):
    raise schema.ConfigError(
      f'behavior={e.behavior}: the answers in {e.task.config.path}, which are the '
      f'labels, were read by {dict(zip(pair_file.READ, said))}, and only what is read '
      'alike can be compared: set behavior to that, or label the pairs anew'
    )


def _without_distributions(taken: dict[str, np.ndarray]) -> Behaviors:
  logprobs_Nx2xS = np.zeros((len(taken['chosen']), 2, 0), np.float32)
  return Behaviors(*taken['chosen'].T, logprobs_Nx2xS, taken['replies'])
