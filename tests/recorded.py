"""Workdirs with planted explainers that the tests of the report share: no model."""

import dataclasses
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from configs import world
from coupling.config import validate
from coupling.elicit import label_set
from coupling.elicit.explanation import Explanation, phi
from coupling.runtime import files as files_lib, workdir as workdir_lib
from coupling.training import behavior_shift, label_rules
from data import splits, world as world_task

GROUPS, SIZE, OPTIONS = 20, 12, 4
RUNS = ('kl', 'no_kl', 'sibling', 'shuffled')
STEPS = (0, 10, 20)
BASELINES = ['majority', 'denial', 'cue_parrot', 'composition', 'input_only']
BASELINES = (*BASELINES, 'input_and_answer')
SELF = dict(self=0.8, orig=0.1)  # shares of statements by their source; rest: chance
ORIG = dict(self=0.1, orig=0.8)
CHANCE = dict(self=0.0, orig=0.0)


def experiment(seeds=1, **report):
  """The default experiment, with other roles in its report."""
  e = validate.resolve(world.get_config(f'seeds={seeds}'))
  return dataclasses.replace(
    e, seeds=tuple(range(seeds)), report=dataclasses.replace(e.report, **report)
  )


def build(
  workdir,
  seeds=1,
  drift=0.4,
  change=0.5,
  base_change=0.4,
  unexplained=(),
  scored=None,
  **explainers,
):
  """Writes the stages that the report reads.

  Args:
    workdir: where to.
    seeds: how many.
    drift: share of items on which a run behaves anew at its last step.
    change: share of the new behaviours that the cue changes.
    base_change: share of M_0's.
    unexplained: kinds of cues that training never explained.
    scored: of the likeliest statements of all runs, like SELF; None: neither these nor
      any log-probabilities are there.
    **explainers: of runs, like SELF; of runs left out: SELF, and CHANCE for shuffled.
  """
  for seed in range(seeds):
    rng = np.random.default_rng(seed)
    n = GROUPS * SIZE
    question = _question(seed, rng, n)
    base = _behave(rng, question, np.full(n, base_change))
    for stage in ('prepare', 'base'):
      finish(workdir / f'seed{seed}' / stage, stage, {})
    texts = {'cue': [''] * n, 'provenance': [''] * n}
    labels = {'row': np.arange(n)} | question | texts | _behaviors(base)
    files = {f'{split}-000000000': labels for split in ('train', 'test')}
    info = {
      'states_answer': True,
      'too_long': dict.fromkeys(splits.SHARES, 0),
      'unexplained': list(unexplained),
    }
    finish(workdir / f'seed{seed}' / 'label', 'label', files, info)
    for run in RUNS:
      teach(workdir, seed, run)
      default = CHANCE if run == 'shuffled' else SELF
      mixture = explainers.get(run, default)
      files = {}
      for step in STEPS:
        fresh = _behave(rng, question, np.full(n, change))
        drifted_N = rng.random(n) < drift * step / STEPS[-1]
        current = tuple(np.where(drifted_N, a, b) for a, b in zip(fresh, base))
        stated = _state(rng, mixture, phi(*current), phi(*base))
        columns = records(question, current, stated)
        if scored:
          other = np.random.default_rng((seed, step))
          likeliest = _state(other, scored, phi(*current), phi(*base))
          columns |= dict(zip(('scored_answer', 'scored_changed'), likeliest))
          answer_N, changed_N = likeliest
          columns |= {
            'statement_logprobs': _peaked(other, 2 * OPTIONS, 2 * answer_N + changed_N),
            'option_logprobs': _peaked(other, OPTIONS, current[0]),
            'counterfactual_option_logprobs': _peaked(other, OPTIONS, current[1]),
          }
        files[f'step-{step:09d}'] = columns
      finish(workdir / f'seed{seed}' / run / 'evaluate', 'evaluate', files)


def teach(workdir, seed, run, other=None, train=None):
  """The train stage of a run: what it is taught.

  Args:
    workdir, seed, run: which.
    other: a folder of labels that are taught for M_0's own.
    train: of the run; default: as in `experiment`.
  """
  own = workdir / f'seed{seed}' / 'label'
  e = experiment()
  kinds = workdir_lib.finished_stage(own).info()['unexplained']
  template = dataclasses.replace(world_task.QUESTIONS, unexplained=tuple(kinds))
  files = {}
  for split in ('train', 'test'):
    row_N, pairs = label_set.read_rows(own, split), label_set.read_pairs(own, split)
    labels = label_set.read_explanation(other or own, split, row_N)
    did = label_set.read_explanation(own, split, row_N)
    train = train or e.runs[run]
    scores = behavior_shift.scores(train.objectives.shift, e.task, seed, pairs)
    taught = label_rules.taught(
      train, template, pairs, did, labels, scores, seed, split
    )
    files[f'labels-{split}'] = label_rules.table(row_N, taught)
  folder = workdir / f'seed{seed}' / run / 'train'
  if folder.exists():
    shutil.rmtree(folder)
  finish(folder, 'train', files)
  if (evaluated := folder.with_name('evaluate')).exists():
    files = {path.stem: pq.read_table(path) for path in evaluated.glob('*.parquet')}
    shutil.rmtree(evaluated)
    finish(evaluated, 'evaluate', files)


def records(question, behaved, stated):
  """The columns of one evaluation."""
  words = [
    f'{row[answer]} {"change" if changed else "same"}'
    for row, answer, changed in zip(question['options'], *stated)
  ]
  said = {'stated_answer': stated[0], 'stated_changed': stated[1], 'statement': words}
  return {'row': np.arange(len(words))} | _behaviors(behaved) | said


def finish(folder, stage, files, info=None):
  """A finished stage whose Parquet files have these columns."""
  label, inputs = folder.parents[1] / 'label', {}
  if stage in ('train', 'evaluate'):
    inputs['label'] = workdir_lib.finished_stage(label)
  if stage == 'evaluate':
    trained = workdir_lib.finished_stage(folder.parent / 'train')
    info = {'train': trained.digest} | (info or {})
  with workdir_lib.open_stage(folder, stage, {}, inputs) as opened:
    for name, columns in files.items():
      table = columns if isinstance(columns, pa.Table) else pa.table(columns)
      files_lib.write_table(folder / f'{name}.parquet', table)
    opened.finish(info or {})


def _question(seed, rng, n):
  hint_N = rng.integers(OPTIONS, size=n)
  group_N = np.repeat(np.arange(GROUPS), SIZE)
  return {
    'prompt': [f'<q{i} of {seed}> & hint {hint}' for i, hint in enumerate(hint_N)],
    'counterfactual': [f'<q{i} of {seed}>' for i in range(n)],
    'cue_kind': [f'source{k}' for k in rng.integers(2, size=n)],
    'cue_option': hint_N,
    'options': [[f'v{k}' for k in range(OPTIONS)]] * n,
    'group': [f'fact {g}' for g in group_N],
  }


def _behave(rng, question, change_N):
  """Behaviours on x and x∖C; with the share `change` the cue changes the answer."""
  counterfactual_N = rng.integers(OPTIONS, size=len(change_N))
  other_N = (counterfactual_N + rng.integers(1, OPTIONS, len(change_N))) % OPTIONS
  changed_N = rng.random(len(change_N)) < change_N
  return np.where(changed_N, other_N, counterfactual_N), counterfactual_N


def _behaviors(behaved):
  return {'behavior': behaved[0], 'counterfactual_behavior': behaved[1]}


def _peaked(rng, size, best_N):
  """Log-probabilities of N distributions, lists, whose largest is that of `best_N`."""
  weight_NxS = rng.random((len(best_N), size)) + (np.arange(size) == best_N[:, None])
  return np.log(weight_NxS / weight_NxS.sum(axis=1, keepdims=True)).tolist()


def _state(rng, mixture, truth, orig):
  n = len(truth.answer_N)
  draw_N = rng.random(n)
  chance = Explanation(rng.integers(OPTIONS, size=n), rng.integers(2, size=n))
  from_self_N = draw_N < mixture['self']
  from_orig_N = ~from_self_N & (draw_N < mixture['self'] + mixture['orig'])
  return tuple(
    np.select([from_self_N, from_orig_N], [own, old], other)
    for own, old, other in zip(truth, orig, chance)
  )
