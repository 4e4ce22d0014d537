"""Reads evaluations and label sets back, for statistics: no model and no JAX here.

All evaluations of one seed, of every run and checkpoint, are of the same items in one
order; whatever breaks that is an error that names the file.
"""

from collections.abc import Sequence
import dataclasses
import functools
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from coupling.config.schema import Experiment
from coupling.elicit import columns
from coupling.elicit import label_set
from coupling.elicit.explanation import INVALID, Explanation
from coupling.report import label_tables
from coupling.report.label_tables import QUESTION, LabelTables
from coupling.runtime.workdir import WorkdirError, finished_stage
from coupling.statistics.items import Items

BASE = 'M_0'  # the model before explanation training, beside the names of runs
# What a model did and said.
OUTCOME = (*label_set.LABEL, 'stated_answer', 'stated_changed')
SCORED = ('scored_answer', 'scored_changed')  # of evaluations by likelihood
SWAPPED = ('swapped_answer', 'swapped_changed')  # of runs asked after their answer


@dataclasses.dataclass(frozen=True)
class SeedRecords:
  """What one seed recorded on its held-out items, all in one order.

  Cues that training never explains (Questions.unexplained) are in `unexplained` alone.
  """

  tables: dict[str, dict[int, pa.Table]]  # run -> step -> records
  items: dict[str, dict[int, Items]]
  # M_0: the behaviours of the label set, the statements of step 0. In an audit they are
  # of two models.
  orig: Items
  # Run -> labels of the set trained on, for the held-out items; None if shuffled.
  targets: dict[str, Explanation | None]
  train_labels: dict[str, Explanation]  # run -> labels trained on
  options: int  # the most that a held-out item has
  unexplained: dict[str, Items]  # run -> items at its last step; empty without any
  # Run -> bool [N], items that its behavior_xent concerns; none where that has no
  # weight and train.explained=all, so that what it names is of no account.
  shifted: dict[str, np.ndarray]

  def final(self, run: str) -> Items:
    """A run at its last evaluated step, or BASE."""
    return self.orig if run == BASE else list(self.items[run].values())[-1]

  def scored(self, run: str) -> Explanation | None:
    """The likeliest statements of a run at its last step; None without records."""
    table = list(self.tables[run].values())[-1]
    if not set(SCORED) <= set(table.column_names):
      return None
    return Explanation(*(table[name].to_numpy() for name in SCORED))

  def swapped(self, run: str) -> Items | None:
    """A run's last statements with M_0's answers in the context; None without any."""
    table = list(self.tables[run].values())[-1]
    if not set(SWAPPED) <= set(table.column_names):
      return None
    return dataclasses.replace(
      self.final(run),
      behavior_N=self.orig.behavior_N,
      stated=Explanation(*(table[name].to_numpy() for name in SWAPPED)),
    )


def read_seed(e: Experiment, workdir: pathlib.Path, seed: int) -> SeedRecords:
  """Everything that one seed recorded.

  Raises:
    WorkdirError: a stage is unfinished or damaged, or files are of other items.
  """
  root = workdir / f'seed{seed}'
  labels = LabelTables(e, workdir, seed)
  every, like = _evaluations(e, root)
  for name, table in labels.tables[e.evaluate.split].items():
    check_same_items(labels.folders[name], table, *like)
  split, states_answer = e.evaluate.split, labels.info['states_answer']
  asked = functools.partial(
    to_items, states_answer=states_answer, against=labels.questions.against
  )
  kept = lambda table: table.filter(pc.invert(labels.apart(table)))
  within_N = labels.explainable(split)
  targets, train_labels, shifted = {}, {}, {}
  for run, train in e.runs.items():
    found = label_tables.rows(labels.made(train, split), within_N)
    targets[run] = None if train.shuffle_labels else found
    train_labels[run] = labels.trained_on(train)
    shifted[run] = labels.shifts(train, split)[within_N]
  last = {run: list(steps.values())[-1] for run, steps in every.items()}
  unexplained = {
    run: asked(x.filter(labels.apart(x))) for run, x in last.items() if labels.kinds
  }
  tables, items = {}, {}
  for run, steps in every.items():
    tables[run] = {step: kept(table) for step, table in steps.items()}
    items[run] = {step: asked(table) for step, table in tables[run].items()}
  begun = items[e.report.main or next(iter(items))]
  orig = _orig(kept(labels.tables[split]['']), begun)
  options = pc.max(pc.list_value_length(like[1]['options'])).as_py()
  return SeedRecords(
    tables, items, orig, targets, train_labels, options, unexplained, shifted
  )


def _evaluations(
  e: Experiment, root: pathlib.Path
) -> tuple[dict[str, dict[int, pa.Table]], tuple[pathlib.Path, pa.Table]]:
  """Run -> step -> records, all of the same items; and the first file with its own."""
  tables, like = {}, None
  for run in e.runs:
    folder = finished_stage(root / run / 'evaluate').path()
    tables[run] = {}
    for step, path in evaluated_steps(folder).items():
      tables[run][step] = read_evaluation(path)
      like = like or (path, tables[run][step])
      check_same_items(path, tables[run][step], *like)
  return tables, like


def _orig(base: pa.Table, begun: dict[int, Items]) -> Items:
  """M_0: its labels, and what the main run stated at step 0."""
  first = next(iter(begun.values()))
  if 0 not in begun:  # what M_0 states is not known
    nothing_N = np.full(len(base), INVALID)
    first = dataclasses.replace(first, stated=Explanation(nothing_N, nothing_N))
  return dataclasses.replace(
    first,
    behavior_N=base['behavior'].to_numpy(),
    counterfactual_behavior_N=base['counterfactual_behavior'].to_numpy(),
  )


def read_evaluation(path: pathlib.Path) -> pa.Table:
  """One checkpoint's records: QUESTION, OUTCOME, `statement`, and SCORED or SWAPPED."""
  needed = (*QUESTION, *OUTCOME, 'statement')
  return columns.read(path, needed, (*SCORED, *SWAPPED))


def evaluated_steps(folder: pathlib.Path) -> dict[int, pathlib.Path]:
  """The files of an evaluate stage, by training step, in order."""
  paths = sorted(folder.glob('step-*.parquet'))
  if not paths:
    raise WorkdirError(
      f'{folder} holds no evaluation (no step-*.parquet): move it away and run '
      '--stage=evaluate again'
    )
  for path in paths:
    if not path.stem.removeprefix('step-').isdecimal():
      raise WorkdirError(f'{path}: no file of an evaluation; move it out of the folder')
  return {int(path.stem.removeprefix('step-')): path for path in paths}


def check_same_items(
  path: pathlib.Path, table: pa.Table, like_path: pathlib.Path, like: pa.Table
) -> None:
  """Raises WorkdirError where a file is not of the same items, in the same order.

  Args:
    path: the file to check.
    table: its rows.
    like_path: the file to compare with.
    like: its rows; every column of QUESTION that it has must be equal.
  """
  if len(table) != len(like):
    raise WorkdirError(
      f'{path}: found {len(table)} items, but {like_path} has {len(like)}. {_REMEDY}'
    )
  for name in QUESTION:
    if name in like.column_names and not table[name].equals(like[name]):
      pairs = zip(table[name].to_pylist(), like[name].to_pylist())
      row, (found, wanted) = next((i, p) for i, p in enumerate(pairs) if p[0] != p[1])
      raise WorkdirError(
        f'{path}: row {row}, column {name}: found {found!r}, but {like_path} has '
        f'{wanted!r}. {_REMEDY}'
      )


_REMEDY = (
  'Evaluations and labels of one seed must be of the same items in one order: move '
  'the stage that is wrong away and run the same command again.'
)


def to_items(
  table: pa.Table, states_answer: bool, against: Sequence[str] = ()
) -> Items:
  """One evaluation as the statistics take it; surface: cue kind and hinted option.

  `against`: kinds of cues that speak against their option.
  """
  codes = {
    name: np.unique(table[name].to_pylist(), return_inverse=True)[1]
    for name in ('group', 'cue_kind')
  }
  outcome = {name: table[name].to_numpy() for name in OUTCOME}
  return Items(
    group_N=codes['group'],
    surface={
      'cue_kind': codes['cue_kind'],
      'cue_option': table['cue_option'].to_numpy(),
    },
    behavior_N=outcome['behavior'],
    counterfactual_behavior_N=outcome['counterfactual_behavior'],
    stated=Explanation(outcome['stated_answer'], outcome['stated_changed']),
    states_answer=states_answer,
    against_N=np.isin(table['cue_kind'].to_pylist(), list(against)),
    options_NxK=_texts(table['options'].to_pylist()),
  )


def _texts(options: list[list[str]]) -> np.ndarray:
  """A number for the text of each option, int [N, K]; -1 where there is none."""
  number = {x: i for i, x in enumerate(sorted({x for row in options for x in row}))}
  texts_NxK = np.full((len(options), max(map(len, options))), -1)
  for i, row in enumerate(options):
    texts_NxK[i, : len(row)] = [number[x] for x in row]
  return texts_NxK
