"""Runs stages: one of them, or all, for every seed and run of an experiment."""

import dataclasses
import functools
import os
import pathlib

import jax

from coupling.config import borrowed_labels
from coupling.config import paper_schema
from coupling.config import schema
from coupling.paper import claim_table
from coupling.run import base_stage
from coupling.run import evaluate_given
from coupling.run import evaluate_stage
from coupling.run import export_stage
from coupling.run import label_stage
from coupling.run import other_checkpoints
from coupling.run import other_labels
from coupling.run import patch_stage
from coupling.run import preflight
from coupling.run import prepare_stage
from coupling.run import report_stage
from coupling.run import train_stage
from coupling.run import workers as workers_lib
from coupling.runtime import distributed
from coupling.runtime import workdir as workdir_lib

RUN = ('prepare', 'base', 'label', 'train', 'evaluate', 'report')
STAGES = (*RUN, 'patch', 'export')
ANYWHERE = ('prepare', 'report')  # stages that need no model and no devices

# Workers are processes on the CPU that share its cores: each computes on one thread.
# Huge pages spare the many small buffers of a small model most of their page faults
# (1.2-1.3x faster steps). Added to what the user has set.
XLA_FLAGS = '--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1'
MALLOC = 'glibc.malloc.hugetlb=1'
# Compiled programs, shared by workers and by whoever resumes; JAX sees to it that only
# the same program on the same machine is taken from there.
COMPILED = '.compiled'


def worker_environment(workdir: pathlib.Path) -> dict[str, str]:
  """Variables that worker processes are started with."""
  flags, tunables = (os.environ.get(k, '') for k in ('XLA_FLAGS', 'GLIBC_TUNABLES'))
  return {
    'JAX_PLATFORMS': 'cpu',
    'JAX_COMPILATION_CACHE_DIR': jax.config.jax_compilation_cache_dir
    or str(workdir.absolute() / COMPILED),
    'XLA_FLAGS': f'{XLA_FLAGS} {flags}'.strip(),
    'GLIBC_TUNABLES': f'{MALLOC}:{tunables}'.strip(':'),
  }


def run(
  e: schema.Experiment | paper_schema.Paper,
  workdir: pathlib.Path,
  stage: str,
  workers: int,
  follow: bool,
) -> None:
  """Runs a stage for all seeds and runs, or all stages (`run`).

  Args:
    e: the experiment; or several, of which each has a folder of the workdir.
    workdir: where the stages' folders are.
    stage: one of STAGES, or 'run' for those of RUN in their order.
    workers: processes; more than one compute on the CPU.
    follow: evaluation waits for checkpoints that a running training still makes.

  Raises:
    ConfigError: what preflight.check finds, before any stage.
    WorkdirError: data files that changed since the pairs were made, likewise.
  """
  wanted = RUN if stage == 'run' else (stage,)
  distributed.check_alike(workdir, e, stage)
  paper = e if isinstance(e, paper_schema.Paper) else None
  parts = {'': e} if paper is None else paper.parts
  given = stage == 'run' and all(x.evaluate.checkpoints for x in parts.values())
  if follow and stage != 'evaluate' and not given:
    message = '--follow is for --stage=evaluate, or audits of several checkpoints.'
    raise schema.ConfigError(message)
  if paper is not None and stage == 'run' and paper.patched:
    wanted = (*RUN, 'patch')
  if stage not in ANYWHERE:
    if workers > 1:  # the CPU's devices count, and this process must hold no others
      jax.config.update('jax_platforms', 'cpu')
    _check(e, parts, wanted, follow)
  distributed.first(prepare_stage.check_all, parts, workdir)
  if paper is None:
    _run(_tasks(e, parts, workdir, workers, follow), workdir, wanted, workers)
    return
  rounds = ()
  while (more := _next_round(paper, rounds, workdir)) is not None:
    tasks = _tasks(more, more.parts, workdir, workers, follow, reports=not rounds)
    rounds = (*rounds, more)
    needs = tuple(t.name for t in tasks if t.kind in ('evaluate', 'patch'))
    last = rounds, workdir
    tasks.append(workers_lib.Task('paper', 'report', needs, report_stage.paper, last))
    _run(tasks, workdir, wanted, workers)


def _next_round(
  paper: paper_schema.Paper,
  rounds: tuple[paper_schema.Paper, ...],
  workdir: pathlib.Path,
) -> paper_schema.Paper | None:
  """What is to be run up to the next look, by what the last one left; None: nothing."""
  done = sum(len(p.seeds) for p in rounds)
  upto = next((x for x in paper.looks if done < x <= len(paper.seeds)), None)
  if upto is None:
    return None
  seeds = paper.seeds[done:upto]
  if not rounds:
    return paper.of_seeds(seeds)
  folder = workdir / report_stage.paper_folder(rounds)
  if not workdir_lib.is_finished(folder):
    return None  # a single stage was asked for
  found = report_stage.conclusions(workdir_lib.finished_stage(folder))
  going_on = claim_table.undecided(found)
  return paper.only(seeds, going_on & set(paper.studies)) if going_on else None


def _run(
  every: list[workers_lib.Task],
  workdir: pathlib.Path,
  wanted: tuple[str, ...],
  workers: int,
) -> None:
  """Runs the tasks of some stages."""
  tasks = [t for t in every if t.kind in wanted]
  for task in tasks:
    if task.kind == 'report':  # refused now, not after all that it waits for
      of_paper = task.function is report_stage.paper
      check = report_stage.check_paper if of_paper else report_stage.check_report
      distributed.first(check, *task.args)
  names = {t.name for t in tasks}
  tasks = [_among(task, names) for task in tasks]
  if workers > 1:
    workers_lib.run(tasks, workers, worker_environment(workdir))
  else:
    if not jax.config.jax_compilation_cache_dir:
      jax.config.update('jax_compilation_cache_dir', str(workdir / COMPILED))
    workers_lib.run(tasks, workers, {})


def _check(
  e: schema.Experiment | paper_schema.Paper,
  parts: dict[str, schema.Experiment],
  wanted: tuple[str, ...],
  follow: bool,
) -> None:
  """Refuses what could not be run to its end; ConfigError of all parts at once."""
  problems = []
  for name, part in parts.items():
    try:
      if part.evaluate.checkpoints:
        other_checkpoints.check(part, follow)
      preflight.check(part)
      if 'label' in wanted:
        for seed in part.seeds:
          other_labels.source(part, seed)
      if 'patch' in wanted:
        patch_stage.check(part, _patched(e, name))
    except schema.ConfigError as error:
      problems += [f'parts.{name}.{x}' if name else x for x in error.problems]
  schema.ConfigError.refuse(problems)


def _among(task: workers_lib.Task, names: set[str]) -> workers_lib.Task:
  """A task that waits for those of these names alone."""
  function = task.function
  if task.kind in ANYWHERE:
    function = functools.partial(distributed.first, function)
  needs = tuple(names.intersection(task.needs))
  return dataclasses.replace(task, needs=needs, function=function)


def _patched(e: schema.Experiment | paper_schema.Paper, part: str) -> list[str]:
  """The runs of a part that the stage patch is for; of one experiment, all."""
  if isinstance(e, schema.Experiment):
    return list(e.runs)
  return [run for run in e.parts[part].runs if f'{part}/{run}' in e.patched]


def _earlier(e: schema.Experiment) -> set[int]:
  """Steps of M_0's pretraining whose labels runs are trained on."""
  found = {borrowed_labels.earlier_step(train.labels) for train in e.runs.values()}
  return found - {None}


def _name(part: str, seed: int, *rest: str) -> str:
  """Of a task."""
  return ' · '.join([*([part] if part else []), f'seed {seed}', *rest])


def _tasks(
  e: schema.Experiment | paper_schema.Paper,
  parts: dict[str, schema.Experiment],
  workdir: pathlib.Path,
  workers: int,
  follow: bool,
  reports: bool = True,
) -> list[workers_lib.Task]:
  """Every stage of every part, seed and run, those first that others wait for.

  A seed's runs come together, since they share data, but after the first stages of
  the next seeds: at the end there must be something left for every worker. `reports`:
  whether those of parts are wanted.
  """
  seeds = dict.fromkeys(seed for x in parts.values() for seed in x.seeds)
  first = {seed: [] for seed in seeds}
  rest = {seed: [] for seed in seeds}
  last = []
  for part, of_part in parts.items():
    folder = workdir / part
    for seed in of_part.seeds:
      first[seed] += _first(of_part, part, folder, seed)
      rest[seed] += _runs(of_part, part, folder, seed, follow, _patched(e, part))
    if of_part.report.main and reports:
      played = {run: of_part.runs[run] for run in of_part.report.played}
      reported = of_part if not part else dataclasses.replace(of_part, runs=played)
      needs = tuple(
        _name(part, seed, run, 'evaluate')
        for seed in of_part.seeds
        for run in reported.runs
      )
      last.append(
        workers_lib.Task(
          f'{part} · report'.strip(' ·'),
          'report',
          needs,
          report_stage.report,
          (reported, folder),
        )
      )
  chains = list(first.values())
  turns = zip(rest.values(), chains[workers:] + [[]] * workers)
  return [
    *(t for chain in chains[:workers] for t in chain),
    *(t for one, chain in turns for t in (*one, *chain)),
    *last,
  ]


def _first(
  e: schema.Experiment, part: str, folder: pathlib.Path, seed: int
) -> list[workers_lib.Task]:
  """The stages that a seed's runs wait for, in their order."""
  chain = []
  for stage, function in (
    ('prepare', prepare_stage.prepare),
    ('base', base_stage.base),
    ('label', label_stage.label),
  ):
    needs, args = tuple(task.name for task in chain[-1:]), (e, folder, seed)
    chain.append(
      workers_lib.Task(_name(part, seed, stage), stage, needs, function, args)
    )
  labelled = (chain[-1].name,)
  for step in sorted(_earlier(e)):
    labels = f'{borrowed_labels.EARLIER}{step}'
    name, args = _name(part, seed, f'label step {step}'), (e, folder, seed, labels)
    chain.append(workers_lib.Task(name, 'label', labelled, label_stage.label, args))
  return chain


def _runs(
  e: schema.Experiment,
  part: str,
  folder: pathlib.Path,
  seed: int,
  follow: bool,
  patched: list[str],
) -> list[workers_lib.Task]:
  """A seed's trainings, each with what is made of it; `patched`: of which runs that is
  patching too."""
  stage = evaluate_given if e.evaluate.checkpoints else evaluate_stage
  tasks = []
  for run in e.runs:
    name = _name(part, seed, run, 'train')
    for kind, needs, function in (
      ('train', _train_needs(e, part, seed, run), train_stage.train),
      ('evaluate', (name,), functools.partial(stage.evaluate, follow=follow)),
      ('export', (name,), export_stage.export),
      ('patch', (_name(part, seed, run, 'evaluate'),), patch_stage.patch),
    ):
      title, args = _name(part, seed, run, kind), (e, folder, seed, run)
      if kind != 'patch' or run in patched:
        tasks.append(workers_lib.Task(title, kind, needs, function, args))
    labels = f'{borrowed_labels.RUN}{run}'
    if any(train.labels == labels for train in e.runs.values()):
      title, args = _name(part, seed, run, 'label'), (e, folder, seed, labels)
      # Without these labels there is no training of others.
      tasks.append(workers_lib.Task(title, 'train', (name,), label_stage.label, args))
  return tasks


def _train_needs(
  e: schema.Experiment, part: str, seed: int, run: str
) -> tuple[str, ...]:
  """Names of the tasks that a training waits for."""
  train = e.runs[run]
  needs = [_name(part, seed, 'label')]
  if (step := borrowed_labels.earlier_step(train.labels)) is not None:
    needs.append(_name(part, seed, f'label step {step}'))
  if other := borrowed_labels.other_run(train.labels):
    needs.append(_name(part, seed, other, 'label'))
  if donor := borrowed_labels.donor(train.labels):
    needs.append(_name(donor, seed, 'label'))
  if train.start:
    needs.append(_name(part, seed, train.start, 'train'))
  return tuple(needs)
