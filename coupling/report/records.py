"""Reads evaluations and label sets back, for statistics: no model and no JAX here.

All evaluations of one seed, of every run and checkpoint, are of the items of its label
set, in their order; whatever breaks that is an error that names the file.
"""

from collections.abc import Sequence
import dataclasses
import importlib
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from coupling.config.schema import Experiment
from coupling.elicit import columns
from coupling.elicit import label_set
from coupling.elicit.explanation import INVALID, Explanation
from coupling.runtime.workdir import Stage, WorkdirError, finished_stage
from coupling.statistics import input_only
from coupling.statistics.items import Items
from coupling.training import label_rules
from data import pairs as pairs_lib
from data import reply_options

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
  # Run -> bool [N], items that its Objectives.shift concerns; none where that has no
  # weight and train.explained=all, so that what it names is of no account.
  shifted: dict[str, np.ndarray]
  # Of an audit of several given checkpoints: step -> name of each.
  checkpoints: dict[int, str] = dataclasses.field(default_factory=dict)
  _stated: dict[str, Explanation] = dataclasses.field(default_factory=dict, repr=False)
  _fitted: dict[tuple, input_only.InputOnly] = dataclasses.field(
    default_factory=dict, repr=False
  )

  def final(self, run: str) -> Items:
    """A run at its last evaluated step, or BASE."""
    return self.orig if run == BASE else list(self.items[run].values())[-1]

  def unnamed(self, run: str) -> dict[str, np.ndarray]:
    """Whether the final reply to x, and to x∖C, names no single option, bool [N].

    {} where behaviours are not read that way.
    """
    table = list(self.tables[run].values())[-1]
    options = table['options'].to_pylist()
    if not any(reply_options.UNNAMED in x for x in options):
      return {}
    asked = {'prompt': 'behavior', 'counterfactual': 'counterfactual_behavior'}
    return {
      name: reply_options.unnamed(options, table[column].to_numpy())
      for name, column in asked.items()
    }

  def input_only(self, run: str) -> Explanation:
    """What the explainer that reads inputs alone states, given a run's labels."""
    if run not in self._stated:
      pairs, labels = self.train_pairs[run], self.train_labels[run]
      key = tuple(np.asarray(x).tobytes() for x in (pairs['row'], *labels))
      if key not in self._fitted:  # most runs have the same labels
        self._fitted[key] = input_only.fit(pairs, labels)
      self._stated[run] = self._fitted[key].state(list(self.tables[run].values())[-1])
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
  root, split = workdir / f'seed{seed}', e.evaluate.split
  label = finished_stage(root / 'label')
  template = importlib.import_module(e.task.module).questions(e.task.config)
  template = dataclasses.replace(
    template, unexplained=tuple(label.info()['unexplained'])
  )
  labelled = {
    x: label_set.read_table(label.path(), x, ('row', *LABEL)) for x in ('train', split)
  }
  tables, taught, names = {}, {}, {}
  for run in e.runs:
    stages = {x: finished_stage(root / run / x) for x in ('train', 'evaluate')}
    for stage in stages.values():
      check_input(stage, label)
    check_trained(*stages.values())
    tables[run] = {
      step: read_evaluation(path, labelled[split])
      for step, path in evaluated_steps(stages['evaluate'].path()).items()
    }
    names |= stages['evaluate'].info().get('checkpoints', {})
    folder = stages['train'].path()
    taught[run] = {
      x: label_rules.read(folder, x, table['row'].to_numpy())
      for x, table in labelled.items()
    }
  found = assemble(e, template, tables, labelled, taught)
  names = {int(step): name for step, name in names.items()}
  return dataclasses.replace(found, checkpoints=names)


def assemble(
  e: Experiment,
  template: pairs_lib.Questions,
  tables: dict[str, dict[int, pa.Table]],
  labelled: dict[str, pa.Table],
  taught: dict[str, dict[str, label_rules.Taught]],
) -> SeedRecords:
  """What evaluations and label sets say together.

  Args:
    e: the experiment; its runs, their roles and its split count here.
    template: how the task asks.
    tables: run -> step -> one row an item, of `joined`.
    labelled: split, train and the held-out one -> LABEL, in the order of the items.
    taught: run -> split -> what it was taught.
  """
  explained_N = ~np.isin(
    labelled[e.evaluate.split]['cue_kind'].to_pylist(), template.unexplained
  )
  held_out = pa.array(explained_N)
  base = labelled[e.evaluate.split].filter(held_out)
  targets, train_labels, train_pairs, shifted = {}, {}, {}, {}
  for run, train in e.runs.items():
    of_train, of_held_out = taught[run]['train'], taught[run][e.evaluate.split]
    found = _rows(of_held_out.labels, explained_N)
    targets[run] = None if train.shuffle_labels else found
    shifted[run] = of_held_out.shifted_N[explained_N]
    train_labels[run] = _rows(of_train.labels, of_train.explained_N)
    train_pairs[run] = labelled['train'].filter(pa.array(of_train.explained_N))

  def items_of(table: pa.Table) -> Items:
    return to_items(table, template.states_answer, template.against)

  unexplained = {}
  for run, steps in tables.items() if len(template.unexplained) else ():
    last = list(steps.values())[-1]
    unexplained[run] = items_of(last.filter(pa.array(~explained_N)))
  tables = {
    run: {step: table.filter(held_out) for step, table in steps.items()}
    for run, steps in tables.items()
  }
  items = {
    run: {step: items_of(table) for step, table in steps.items()}
    for run, steps in tables.items()
  }
  main = e.report.main or next(iter(items))
  options = pc.max(pc.list_value_length(labelled[e.evaluate.split]['options'])).as_py()
  return SeedRecords(
    *(tables, items, _orig(items[main], base, bool(e.runs[main].start))),
    *(targets, train_labels, train_pairs, options, unexplained, shifted),
  )


def _orig(main: dict[int, Items], base: pa.Table, later: bool) -> Items:
  """M_0: the behaviours of its label set, the statements of the main run's step 0.

  `later`: the main run starts at the end of another run, not at M_0.
  """
  first = next(iter(main.values()))
  if 0 not in main or later:  # what M_0 states is not known
    nothing_N = np.full(len(base), INVALID)
    first = dataclasses.replace(first, stated=Explanation(nothing_N, nothing_N))
  return dataclasses.replace(
    first,
    behavior_N=base['behavior'].to_numpy(),
    counterfactual_behavior_N=base['counterfactual_behavior'].to_numpy(),
  )


def _rows(explanation: Explanation, kept_N: np.ndarray) -> Explanation:
  return Explanation(*(x[kept_N] for x in explanation))


def check_input(stage: Stage, label: Stage) -> None:
  """Raises WorkdirError where a stage was made with other labels than are there."""
  if stage.inputs.get('label') != label.digest:
    raise WorkdirError(
      f'{stage.path()} was made with other labels than are in {label.path()} now: '
      'restore these, or move it away and run the same command again.'
    )


def check_trained(train: Stage, evaluated: Stage) -> None:
  """Raises WorkdirError where an evaluation is of another training than is there."""
  if evaluated.info().get('train') != train.digest:
    raise WorkdirError(
      f'{evaluated.path()} was made from another {train.path()} than is there now: '
      'restore that, or move the evaluation away and run the same command again.'
    )


def joined(did: pa.Table, labelled: pa.Table) -> pa.Table:
  """An evaluation, and what its items are about: QUESTION of the label set."""
  return pa.table(
    {name: labelled[name] for name in QUESTION}
    | {name: did[name] for name in did.column_names}
  )


def read_evaluation(path: pathlib.Path, labelled: pa.Table) -> pa.Table:
  """One checkpoint's records: QUESTION, OUTCOME, `statement`, and optional columns.

  Args:
    path: the file.
    labelled: `row` and QUESTION of the label set.

  Raises:
    WorkdirError: see columns.read; or its items are not those that are labelled.
  """
  row_N = columns.read(path, ('row',))['row'].to_numpy()
  if not np.array_equal(row_N, labelled['row'].to_numpy()):
    raise WorkdirError(
      f'{path}: its {len(row_N)} items are not the {len(labelled)} of the label set, '
      'in one order: move the stage that is wrong away and run the same command again.'
    )
  size_N = pc.list_value_length(labelled['options']).to_numpy()
  needed, more = (*OUTCOME, 'statement'), (*SCORED, *SWAPPED, *LOGPROBS)
  return joined(columns.read(path, needed, more, size_N), labelled)


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
