"""How an experiment was made: versions, times and what was left out, from manifests."""

import collections
from collections.abc import Sequence
import json
import os
import pathlib
import platform

from coupling.config.paper_schema import Paper
from coupling.config.schema import Experiment
from coupling.runtime import workdir as workdir_lib


def provenance(e: Experiment, workdir: pathlib.Path) -> dict:
  """What the manifests of an experiment's stages say of how it was made.

  Args:
    e: the experiment.
    workdir: where its stages are.

  Returns:
    stages: when each that is finished started, and its seconds; packages and devices:
    all that were used; report_machine: this one; too_long: seed -> split -> pairs that
    the label stage left out for their length; tokens: stage -> share of tokens that
    prefix trees save, where questions are asked in these.
  """
  first = ('prepare', 'base', 'label')
  folders = [f'seed{seed}/{stage}' for seed in e.seeds for stage in first]
  folders += [
    f'seed{seed}/{run}/{stage}'
    for seed in e.seeds
    for run in e.runs
    for stage in ('train', 'evaluate', 'patch')
  ]
  stages, packages, devices = {}, collections.defaultdict(set), set()
  tokens = collections.defaultdict(collections.Counter)
  for folder in folders:
    # Label sets may come from elsewhere, and patching may be under way.
    if workdir_lib.is_finished(workdir / folder):
      manifest = json.loads((workdir / folder / workdir_lib.MANIFEST).read_text())
      stages[folder] = {k: manifest[k] for k in ('stage', 'started', 'seconds')}
      if 'devices' in manifest['info']:
        devices.add(manifest['info']['devices'])
      tokens[manifest['stage']].update(manifest['info'].get('tokens') or {})
      versions = manifest['packages'] | {'python': manifest['python']}
      for name, version in versions.items():
        packages[name].add(version)
  labels = {
    str(seed): workdir_lib.finished_stage(workdir / f'seed{seed}' / 'label').info()
    for seed in e.seeds
  }
  return {
    'stages': stages,
    'packages': {name: sorted(found) for name, found in packages.items()},
    'devices': sorted(devices),
    'report_machine': machine(),
    'too_long': {seed: info['too_long'] for seed, info in labels.items()},
    'tokens': {
      stage: {
        'per_pair': count['trees'] / count['pairs'],
        'filling': 1 - count['trees'] / count['rows'],
        'saved': 1 - count['trees'] / count['apart'],
      }
      for stage, count in tokens.items()
      if count['pairs']
    },
  }


def machine() -> str:
  """This one: its system, and how many CPUs it has."""
  return f'{platform.platform()}, {os.cpu_count()} CPUs'


def times(found: dict) -> list[dict]:
  """By kind of stage: times run, seconds together, and those of the longest."""
  spent = {}
  for stage in found['stages'].values():
    spent.setdefault(stage['stage'], []).append(stage['seconds'])
  return [
    {'stage': name, 'runs': len(x), 'sum': sum(x), 'longest': max(x)}
    for name, x in spent.items()
  ]


def of_rounds(rounds: Sequence[Paper], workdir: pathlib.Path) -> dict:
  """The same of a paper: stages by part, packages and devices of all its rounds."""
  stages, packages, devices = {}, collections.defaultdict(set), set()
  for part, e in (x for p in rounds for x in p.parts.items()):
    found = provenance(e, workdir / part)
    stages |= {f'{part}/{folder}': x for folder, x in found['stages'].items()}
    for name, versions in found['packages'].items():
      packages[name].update(versions)
    devices.update(found['devices'])
  return {
    'stages': stages,
    'packages': {name: sorted(versions) for name, versions in packages.items()},
    'devices': sorted(devices),
    'report_machine': machine(),
  }
