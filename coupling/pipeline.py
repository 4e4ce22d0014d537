"""Runs stages: one of them, or all, for every seed and run of an experiment."""

import functools
import os
import pathlib

import jax

from coupling import checks
from coupling import config as config_lib
from coupling import export as export_lib
from coupling import scheduler
from coupling import stages

RUN = ('prepare', 'base', 'label', 'train', 'evaluate', 'report')
STAGES = (*RUN, 'export')
PER_SEED = ('prepare', 'base', 'label')
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
  e: config_lib.Experiment,
  workdir: pathlib.Path,
  stage: str,
  workers: int,
  follow: bool,
) -> None:
  """Runs a stage for all seeds and runs, or all stages (`run`).

  Args:
    e: the experiment.
    workdir: where the stages' folders are.
    stage: one of STAGES, or 'run' for those of RUN in their order.
    workers: processes; more than one compute on the CPU.
    follow: evaluation waits for checkpoints that a running training still makes.

  Raises:
    ConfigError: what checks.check finds, before any stage.
  """
  if follow and stage != 'evaluate':
    raise config_lib.ConfigError('--follow is for --stage=evaluate alone.')
  wanted = RUN if stage == 'run' else (stage,)
  if stage not in ANYWHERE:
    if workers > 1:  # the CPU's devices count, and this process must hold no others
      jax.config.update('jax_platforms', 'cpu')
    checks.check(e)
  tasks = [t for t in _tasks(e, workdir, workers, follow) if t.kind in wanted]
  names = {t.name for t in tasks}
  tasks = [
    scheduler.Task(
      t.name, t.kind, tuple(names.intersection(t.needs)), t.function, t.args
    )
    for t in tasks
  ]
  if workers > 1:
    scheduler.run(tasks, workers, worker_environment(workdir))
  else:
    if not jax.config.jax_compilation_cache_dir:
      jax.config.update('jax_compilation_cache_dir', str(workdir / COMPILED))
    scheduler.run(tasks, workers, {})


def _tasks(
  e: config_lib.Experiment, workdir: pathlib.Path, workers: int, follow: bool
) -> list[scheduler.Task]:
  """Every stage of every seed and run, those first that others wait for.

  A seed's runs come together, since they share data, but after the first stages of
  the next seeds: at the end there must be something left for every worker.
  """
  first, rest, evaluations = [], [], []

  def task(kind, name, needs, function, *args):
    return scheduler.Task(name, kind, needs, function, (e, workdir, *args))

  for seed in e.seeds:
    chain, runs = [], []
    for stage in PER_SEED:
      name, needs = f'seed {seed} · {stage}', tuple(t.name for t in chain[-1:])
      chain.append(task(stage, name, needs, getattr(stages, stage), seed))
    for run in e.runs:
      train, evaluate, export = (
        f'seed {seed} · {run} · {stage}' for stage in ('train', 'evaluate', 'export')
      )
      evaluate_stage = functools.partial(stages.evaluate, follow=follow)
      runs += [
        task('train', train, (chain[-1].name,), stages.train, seed, run),
        task('evaluate', evaluate, (train,), evaluate_stage, seed, run),
        task('export', export, (train,), export_lib.export, seed, run),
      ]
      evaluations.append(evaluate)
    first.append(chain)
    rest.append(runs)
  report = task('report', 'report', tuple(evaluations), stages.report)
  ahead = first[:workers]
  turns = zip(rest, first[workers:] + [[]] * workers)
  return [
    *(t for chain in ahead for t in chain),
    *(t for runs, chain in turns for t in (*chain, *runs)),
    report,
  ]
