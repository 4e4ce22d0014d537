"""The label sets of one seed, and the labels that each of its runs is trained on."""

import dataclasses
import functools
import importlib
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from coupling.config.schema import BehaviorXent, Experiment, Train
from coupling.elicit import label_set
from coupling.elicit.explanation import Explanation, phi
from coupling.runtime.workdir import finished_stage
from coupling.training import behavior_shift
from coupling.training import label_rules

# What an item is about.
QUESTION = ('prompt', 'counterfactual', 'cue_kind', 'cue_option', 'options', 'group')
LABEL = (*QUESTION, *label_set.LABEL)


class LabelTables:
  """The label sets of one seed, and what of them every run is trained on."""

  def __init__(self, e: Experiment, workdir: pathlib.Path, seed: int):
    """Reads the label set of the seed, and those that its runs are trained on."""
    self.task, self.seed = e.task, seed
    stage = finished_stage(workdir / f'seed{seed}' / 'label')
    self.path, self.info = stage.path(), stage.info()
    self.kinds = self.info['unexplained']  # of cues
    self.questions = importlib.import_module(e.task.module).questions(e.task.config)
    self.tables = {}  # split -> name of the label set, '' for the own -> rows
    names = {train.labels for train in e.runs.values()} - {''}
    self.folders = {'': self.path}
    self.folders |= {name: label_set.folder(name, workdir, seed) for name in names}
    for split in ('train', e.evaluate.split):
      # Other workdirs may have dropped other pairs.
      row_N = label_set.read_rows(self.path, split)
      self.tables[split] = {
        name: label_set.read_table(folder, split, LABEL, row_N=row_N)
        for name, folder in self.folders.items()
      }
    self._concerned = functools.cache(self._concerned_by)

  def made(self, train: Train, split: str) -> Explanation:
    """Labels as a run is trained on them: see label_rules.trained_on."""
    own, other = (self.tables[split][name] for name in ('', train.labels))
    size_N = pc.list_value_length(own['options']).to_numpy()
    states_answer = self.info['states_answer']
    return label_rules.trained_on(
      train, size_N, _phi(own), _phi(other), states_answer, self.seed, split
    )

  def apart(self, table: pa.Table) -> pa.ChunkedArray:
    """Whether the kind of cue of each row is never explained."""
    return pc.is_in(table['cue_kind'], pa.array(self.kinds, pa.string()))

  def explainable(self, split: str) -> np.ndarray:
    """Pairs whose kind of cue is explained, bool [N]."""
    return ~np.array(self.apart(self.tables[split]['']), bool)

  def trained_on(self, train: Train) -> Explanation:
    """The labels of the pairs that a run is trained on."""
    found = self.made(train, 'train')
    shifted_N = np.zeros(len(self.tables['train']['']), bool)
    if train.explained == 'unshifted':
      shifted_N = self.shifts(train, 'train')
    explainable_N = self.explainable('train')
    return rows(
      found, label_rules.explained(train, explainable_N, found, shifted_N, self.seed)
    )

  def shifts(self, train: Train, split: str) -> np.ndarray:
    """Pairs that a run's shift concerns, bool [N]; none where nothing depends on it."""
    objective = train.objectives.behavior_xent
    if not objective.weight and train.explained == 'all':
      return np.zeros(len(self.tables[split]['']), bool)
    # A companion's weight is 0; whom the shift concerns does not depend on it.
    return self._concerned(dataclasses.replace(objective, weight=1.0), split)

  def _concerned_by(self, objective: BehaviorXent, split: str) -> np.ndarray:
    pairs = label_set.read_pairs(self.path, split)
    answer_N = self.tables[split]['']['counterfactual_behavior'].to_numpy()
    score_NxK = behavior_shift.scores(objective, self.task, self.seed, pairs)
    return behavior_shift.make(
      objective, self.questions, pairs, answer_N, score_NxK, None
    ).pairs_N


def rows(explanation: Explanation, kept_N: np.ndarray) -> Explanation:
  return Explanation(*(x[kept_N] for x in explanation))


def _phi(table: pa.Table) -> Explanation:
  return phi(table['behavior'].to_numpy(), table['counterfactual_behavior'].to_numpy())
