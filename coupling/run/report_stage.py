"""The stage `report`: statistics, figures and text, of an experiment or a paper."""

import dataclasses
import itertools
import pathlib

from coupling import paper as paper_lib
from coupling.config import paper_schema
from coupling.config import schema
from coupling.patching import outcomes
from coupling.report import aggregate
from coupling.report import page
from coupling.report import provenance
from coupling.report import records
from coupling.run import context
from coupling.runtime import workdir as workdir_lib

Experiment = schema.Experiment
Path = pathlib.Path


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
