"""Reads evaluations and label sets back, for statistics: no model and no JAX here.

All evaluations of one seed, of every run and checkpoint, are of the same items in one
order; whatever breaks that is an error that names the file.
"""

from collections.abc import Callable, Sequence
import dataclasses
import functools
import importlib
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from coupling.config.schema import BehaviorXent, Experiment, Train
from coupling.elicit import columns
from coupling.elicit import label_set
from coupling.elicit.explanation import INVALID, Explanation, phi
from coupling.runtime.workdir import WorkdirError, finished_stage
from coupling.statistics import input_only
from coupling.statistics.items import Items
from coupling.training import behavior_shift
from coupling.training import label_rules
from data import pairs as pairs_lib

BASE = 'M_0'  # the model before explanation training, beside the names of runs
# What an item is about, and what a model did and said.
QUESTION = ('prompt', 'counterfactual', 'cue_kind', 'cue_option', 'options', 'group')
LABEL = (*QUESTION, *label_set.LABEL)
OUTCOME = (*label_set.LABEL, 'stated_answer', 'stated_changed')
SCORED = ('scored_answer', 'scored_changed')  # of evaluations by likelihood
SWAPPED = ('swapped_answer', 'swapped_changed')  # of runs asked after their answer
LOGPROBS = (columns.STATEMENTS, *columns.ANSWERS)


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
  train_pairs: dict[str, pa.Table]  # run -> the pairs that these are of
  options: int  # the most that a held-out item has
  unexplained: dict[str, Items]  # run -> items at its last step; empty without any
  # Run -> bool [N], items that its behavior_xent concerns; none where that has no
  # weight and train.explained=all, so that what it names is of no account.
  shifted: dict[str, np.ndarray]
  _stated: dict[str, Explanation] = dataclasses.field(default_factory=dict, repr=False)

  def final(self, run: str) -> Items:
    """A run at its last evaluated step, or BASE."""
    return self.orig if run == BASE else list(self.items[run].values())[-1]

  def input_only(self, run: str) -> Explanation:
    """What the explainer that reads inputs alone states, given a run's labels."""
    if run not in self._stated:
      fitted = input_only.fit(self.train_pairs[run], self.train_labels[run])
      self._stated[run] = fitted.state(list(self.tables[run].values())[-1])
    return self._stated[run]

  def scored(self, run: str) -> Explanation | None:
    """The likeliest statements of a run at its last step; None without records."""
    table = list(self.tables[run].values())[-1]
    if not set(SCORED) <= set(table.column_names):
      return None
    return Explanation(*(table[name].to_numpy() for name in SCORED))

  def logprobs(self, run: str, name: str) -> np.ndarray | None:
    """A column of LOGPROBS of a run at its last step, [N, S]; None without records."""
    table = list(self.tables[run].values())[-1]
    return columns.matrix(table[name]) if name in table.column_names else None

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
  label = finished_stage(root / 'label')
  template = importlib.import_module(e.task.module).questions(e.task.config)
  tables, like = {}, None
  for run in e.runs:
    folder = finished_stage(root / run / 'evaluate').path()
    tables[run] = {}
    for step, path in evaluated_steps(folder).items():
      tables[run][step] = read_evaluation(path)
      like = like or (path, tables[run][step])
      check_same_items(path, tables[run][step], *like)

  def labels(folder: pathlib.Path, split: str) -> pa.Table:
    # Other workdirs may have dropped other pairs.
    row_N = label_set.read_rows(label.path(), split)
    return label_set.read_table(folder, split, LABEL, row_N=row_N)

  def held_out(folder: pathlib.Path) -> pa.Table:
    table = labels(folder, e.evaluate.split)
    check_same_items(folder, table, *like)
    return table

  of_train = {'': labels(label.path(), 'train')}
  of_held_out = {'': held_out(label.path())}
  for name in {train.labels for train in e.runs.values()} - {''}:
    folder = label_set.folder(name, workdir, seed)
    of_train[name], of_held_out[name] = labels(folder, 'train'), held_out(folder)
  template = dataclasses.replace(
    template, unexplained=tuple(label.info()['unexplained'])
  )
  pairs_of = functools.partial(label_set.read_pairs, label.path())
  labelled = {'train': of_train, e.evaluate.split: of_held_out}
  return assemble(e, seed, template, tables, labelled, pairs_of)


def assemble(
  e: Experiment,
  seed: int,
  template: pairs_lib.Questions,
  tables: dict[str, dict[int, pa.Table]],
  labelled: dict[str, dict[str, pa.Table]],
  pairs_of: Callable[[str], Sequence[pairs_lib.Pair]],
) -> SeedRecords:
  """What evaluations and label sets say together.

  Args:
    e: the experiment; its runs, their roles and its split count here.
    seed: of these records.
    template: how the task asks.
    tables: run -> step -> one row an item, of `evaluation.records`.
    labelled: split, train and the held-out one -> name as in `train.labels` -> LABEL
      of that set, in the order of the items.
    pairs_of: from a split to its pairs.
  """
  kinds = pa.array(template.unexplained, pa.string())
  states_answer = template.states_answer
  of_train, of_held_out = labelled['train'], labelled[e.evaluate.split]

  def explained(table: pa.Table) -> pa.Table:
    return table.filter(pc.invert(pc.is_in(table['cue_kind'], kinds)))

  def made(train: Train, split: str, tables: dict[str, pa.Table]) -> Explanation:
    """Labels as a run is trained on them: see label_rules.trained_on."""
    own, other = tables[''], tables[train.labels]
    size_N = pc.list_value_length(own['options']).to_numpy()
    return label_rules.trained_on(
      train, size_N, _phi(own), _phi(other), states_answer, seed, split
    )

  def explainable(table: pa.Table) -> np.ndarray:
    unexplained_N = pc.is_in(table['cue_kind'], kinds)
    return ~unexplained_N.combine_chunks().to_numpy(zero_copy_only=False)

  tables_of = {'train': of_train[''], e.evaluate.split: of_held_out['']}

  @functools.cache
  def concerned(objective: BehaviorXent, split: str) -> np.ndarray:
    """Pairs of a split that a shift would concern, bool [N]."""
    pairs = pairs_of(split)
    answer_N = tables_of[split]['counterfactual_behavior'].to_numpy()
    score_NxK = behavior_shift.scores(objective, e.task, seed, pairs)
    shift = behavior_shift.make(objective, template, pairs, answer_N, score_NxK, None)
    return shift.pairs_N

  def shifts(train: Train, split: str) -> np.ndarray:
    """Those that a run's shift concerns; none where nothing depends on them."""
    objective = train.objectives.behavior_xent
    if not objective.weight and train.explained == 'all':
      return np.zeros(len(tables_of[split]), bool)
    # A companion's weight is 0; whom the shift concerns does not depend on it.
    return concerned(dataclasses.replace(objective, weight=1.0), split)

  targets, train_labels, train_pairs, shifted = {}, {}, {}, {}
  for run, train in e.runs.items():
    found = made(train, e.evaluate.split, of_held_out)
    found = _rows(found, explainable(of_held_out['']))
    targets[run] = None if train.shuffle_labels else found
    found = made(train, 'train', of_train)
    shifted_N = np.zeros(len(of_train['']), bool)
    if train.explained == 'unshifted':
      shifted_N = shifts(train, 'train')
    kept_N = label_rules.explained(
      train, explainable(of_train['']), found, shifted_N, seed
    )
    train_labels[run] = _rows(found, kept_N)
    train_pairs[run] = of_train[''].filter(pa.array(kept_N))
    shifted_N = shifts(train, e.evaluate.split)
    shifted[run] = shifted_N[explainable(of_held_out[''])]

  unexplained = {}
  for run, steps in tables.items() if len(kinds) else ():
    last = list(steps.values())[-1]
    others = last.filter(pc.is_in(last['cue_kind'], kinds))
    unexplained[run] = to_items(others, states_answer, template.against)
  tables = {
    run: {step: explained(table) for step, table in steps.items()}
    for run, steps in tables.items()
  }
  items = {
    run: {
      step: to_items(table, states_answer, template.against)
      for step, table in steps.items()
    }
    for run, steps in tables.items()
  }
  base = explained(of_held_out[''])
  begun = items[e.report.main or next(iter(items))]
  first = next(iter(begun.values()))
  if 0 not in begun:  # what M_0 states is not known
    nothing_N = np.full(len(base), INVALID)
    first = dataclasses.replace(first, stated=Explanation(nothing_N, nothing_N))
  orig = dataclasses.replace(
    first,
    behavior_N=base['behavior'].to_numpy(),
    counterfactual_behavior_N=base['counterfactual_behavior'].to_numpy(),
  )
  options = pc.max(pc.list_value_length(of_held_out['']['options'])).as_py()
  return SeedRecords(
    *(tables, items, orig, targets, train_labels, train_pairs),
    *(options, unexplained, shifted),
  )


def _rows(explanation: Explanation, kept_N: np.ndarray) -> Explanation:
  return Explanation(*(x[kept_N] for x in explanation))


def _phi(table: pa.Table) -> Explanation:
  return phi(table['behavior'].to_numpy(), table['counterfactual_behavior'].to_numpy())


def read_evaluation(path: pathlib.Path) -> pa.Table:
  """One checkpoint's records: QUESTION, OUTCOME, `statement`, and optional columns."""
  needed = (*QUESTION, *OUTCOME, 'statement')
  return columns.read(path, needed, (*SCORED, *SWAPPED, *LOGPROBS))


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
