"""The stage `report`: statistics, figures and text, of an experiment or a paper."""

import collections
from collections.abc import Iterator, Sequence
import dataclasses
import itertools
import json
import pathlib

from coupling import paper as paper_lib
from coupling.config import paper_schema
from coupling.config import schema
from coupling.paper import paper_seeds
from coupling.patching import outcomes
from coupling.report import aggregate
from coupling.report import page
from coupling.report import provenance
from coupling.report import records
from coupling.run import context
from coupling.runtime import workdir as workdir_lib

Experiment = schema.Experiment
Path = pathlib.Path


def check_report(e: Experiment, workdir: Path) -> None:
  """Raises WorkdirError where the report there is of another config."""
  folder = workdir / 'report'
  if workdir_lib.is_finished(folder):
    workdir_lib.begun(folder, dataclasses.asdict(e))


def check_paper(rounds: tuple[paper_schema.Paper, ...], workdir: Path) -> None:
  """The same of a paper's report."""
  folder = workdir / paper_folder(rounds)
  if workdir_lib.is_finished(folder):
    workdir_lib.begun(folder, _config(rounds))


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


def paper(rounds: tuple[paper_schema.Paper, ...], workdir: Path) -> bool:
  """Writes what several experiments show of their studies' claims, so far.

  Args:
    rounds: the whole paper of the first seeds, then what was run of more of them.
    workdir: of the paper.
  """
  needs = {}
  for p, part, e, seed, run in _runs(rounds):
    for stage in ('evaluate', 'patch'):
      if stage == 'evaluate' or f'{part}/{run}' in p.patched:
        config = context.stage_config(e, stage, seed, run)
        folder = f'{part}/seed{seed}/{run}/{stage}'
        needs[folder] = workdir_lib.finished_stage(workdir / folder, config)
  earlier = []
  if before := rounds[:-1]:
    stage = workdir_lib.finished_stage(workdir / paper_folder(before))
    needs['before'] = stage
    earlier = conclusions(stage)
  folder = workdir / paper_folder(rounds)
  with workdir_lib.open_stage(folder, 'paper', _config(rounds), needs) as stage:
    if stage.finished:
      return False
    made = provenance.of_rounds(rounds, workdir)
    paper_lib.write(stage.path(), _parts(rounds, workdir), made, earlier)
    stage.finish({})
    return True


def paper_folder(rounds: Sequence[paper_schema.Paper]) -> str:
  """Name of the folder of a paper's report, by its number of seeds."""
  return f'report-{sum(len(p.seeds) for p in rounds)}'


def _config(rounds: Sequence[paper_schema.Paper]) -> dict:
  return {'rounds': [dataclasses.asdict(x) for x in rounds]}


def conclusions(stage: workdir_lib.Stage) -> list[dict]:
  """The claims of a finished report."""
  return json.loads(stage.path('report.json').read_text())['conclusions']


def _runs(rounds: Sequence[paper_schema.Paper]) -> Iterator[tuple]:
  for p in rounds:
    for part, e in p.parts.items():
      for seed, run in itertools.product(e.seeds, e.runs):
        yield p, part, e, seed, run


def _parts(rounds: Sequence[paper_schema.Paper], workdir: Path) -> paper_seeds.Parts:
  """The records of all rounds."""
  found, maps = collections.defaultdict(dict), collections.defaultdict(dict)
  for part, e in (x for p in rounds for x in p.parts.items() if x[1].runs):
    for seed in e.seeds:
      found[part][seed] = records.read_seed(e, workdir / part, seed)
  for p, part, _, seed, run in _runs(rounds):
    if (name := f'{part}/{run}') in p.patched:
      folder = workdir / part / f'seed{seed}' / run / 'patch'
      maps[name][seed] = outcomes.read_all(folder)
  bayes = {part: context.bayes(e) for part, e in rounds[0].parts.items()}
  whole = rounds[0].of_seeds(tuple(seed for p in rounds for seed in p.seeds))
  return paper_seeds.Parts(whole, dict(found), bayes, maps)
