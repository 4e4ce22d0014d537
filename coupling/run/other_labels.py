"""Whose label sets an experiment takes, and whether they are of its pairs."""

import pathlib

from coupling.config import schema
from coupling.elicit import label_set
from coupling.run import base_model
from coupling.run import context
from coupling.runtime import workdir as workdir_lib
from data import splits


def of_run(
  e: schema.Experiment, workdir: pathlib.Path, seed: int, config: schema.Train
) -> workdir_lib.Stage:
  """The labels to train on: this workdir's own, or those the config names.

  Raises:
    WorkdirError: this workdir was made with another tokenizer, or the labels for other
      pairs or by another question.
  """
  own = context.stage(e, workdir, seed, 'label')
  for made_by in (own, context.stage(e, workdir, seed, 'base')):
    base_model.check_fingerprint(base_model.fingerprint(e), made_by)
  if not config.labels:
    return own
  other = workdir_lib.finished_stage(label_set.folder(config.labels, workdir, seed))
  check(f'train.labels={config.labels}', other, own.info(), own.config)
  return other


def source(e: schema.Experiment, seed: int) -> workdir_lib.Stage | None:
  """The label stage whose labels are taken for M_0's own; None where there is none.

  Raises:
    WorkdirError: it is not finished.
  """
  if e.label.source in ('', schema.TASK):
    return None
  folder = pathlib.Path(e.label.source.format(seed=seed))
  if not (folder / workdir_lib.MANIFEST).is_file():
    raise workdir_lib.WorkdirError(
      f'label.source={e.label.source}: {folder} is no folder of a label stage, which '
      f'would have a {workdir_lib.MANIFEST}; give WORKDIR/seed{{seed}}/label of the '
      'workdir that has the labels'
    )
  return workdir_lib.finished_stage(folder)


def check(named: str, other: workdir_lib.Stage, info: dict, config: dict) -> None:
  """Raises WorkdirError unless another workdir's labels are of the same pairs.

  Args:
    named: the field of the config that names them, and its value.
    other: their stage, whatever its model and tokenizer.
    info: what this workdir's own label stage says of its labels.
    config: what it is made with.
  """
  wanted, found = _labelled(info, config), _labelled(other.info(), other.config)
  for name in wanted:
    here, there = wanted[name], found[name]
    if isinstance(here, dict) and isinstance(there, dict):
      # Pairs that are only practised need no labels of others.
      here = {k: v for k, v in here.items() if k != splits.PRACTICE}
      there = {k: v for k, v in there.items() if k != splits.PRACTICE}
    if there != here:
      raise workdir_lib.WorkdirError(
        f'{named}: {name} in {other.path("manifest.json")} is {there!r}, but '
        f'this workdir has {here!r}. Labels serve only the pairs and the question that '
        'they were made for: make them anew with --stage=label in a workdir of this '
        'task and seed.'
      )


def _labelled(info: dict, config: dict) -> dict:
  """What label sets must have in common to serve one another's pairs."""
  asked = config.get('questions', {})
  return {
    'config.questions.behavior': asked.get('behavior'),
    'config.questions.detect': asked.get('detect'),
    'info.pairs': info.get('pairs'),
    'info.states_answer': info.get('states_answer'),
  }
