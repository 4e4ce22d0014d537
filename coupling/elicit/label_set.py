"""Fixed labels: B(M_0), E(M_0) and M_0's reference distributions, written once.

A label set is a folder of Parquet files, `<split>-<first pair>.parquet`, one row a
pair in the order of the split: the pair itself, its place there, and what M_0 did.
Nothing is recomputed during training. Labels are option indices, so those of one model
serve another with its own tokenizer: they are joined by the pairs' places in the split.
No model and no JAX here.
"""

from collections.abc import Sequence
import dataclasses
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import special

from coupling.config import borrowed_labels
from coupling.elicit import columns as columns_lib
from coupling.elicit.explanation import Behaviors, Explanation, phi
from coupling.runtime import files
from coupling.runtime import workdir as workdir_lib
from data import pairs as pairs_lib

PAIR = tuple(field.name for field in dataclasses.fields(pairs_lib.Pair))
LABEL = ('behavior', 'counterfactual_behavior')
PRIOR = 'prior.json'  # of options' slots, where choices are calibrated by it


def folder(labels: str, workdir: pathlib.Path, seed: int) -> pathlib.Path:
  """Where the label set lies that `train.labels` names."""
  if not labels:
    return workdir / f'seed{seed}' / 'label'
  if (step := borrowed_labels.earlier_step(labels)) is not None:
    return workdir / f'seed{seed}' / f'label-step{step}'
  if run := borrowed_labels.other_run(labels):
    return workdir / f'seed{seed}' / run / 'label'
  if part := borrowed_labels.donor(labels):
    return workdir.parent / part / f'seed{seed}' / 'label'
  return pathlib.Path(labels.format(seed=seed))


def shard(folder: pathlib.Path, split: str, first: int) -> pathlib.Path:
  """The file of a split's pairs from the `first` on."""
  return folder / f'{split}-{first:09d}.parquet'


def table(
  pairs: Sequence[pairs_lib.Pair], row_N: np.ndarray, labels: Behaviors
) -> pa.Table:
  """One row a pair: the pair, its place in the split, and what M_0 did."""
  columns = {
    'row': row_N,
    'behavior': labels.behavior_N,
    'counterfactual_behavior': labels.counterfactual_behavior_N,
  }
  for name, x_NxX in (
    ('reference', labels.logprobs_Nx2xS.reshape(len(row_N), -1)),
    ('replies', labels.replies_Nx2),
  ):
    flat = pa.array(x_NxX.ravel())
    if x_NxX.size:
      columns[name] = pa.FixedSizeListArray.from_arrays(flat, x_NxX.shape[1])
  return pa.table(pairs_lib.columns(pairs) | columns)


def write(
  path: pathlib.Path,
  pairs: Sequence[pairs_lib.Pair],
  row_N: np.ndarray,
  labels: Behaviors,
) -> None:
  """Writes one shard, see `table`."""
  files.write_table(path, table(pairs, row_N, labels))


def read_table(
  folder: pathlib.Path,
  split: str,
  columns: tuple[str, ...],
  optional: tuple[str, ...] = (),
  row_N: np.ndarray | None = None,
) -> pa.Table:
  """Columns of a split, as they were written, and what there is of the optional ones.

  Args:
    folder: of the label set.
    split: its name.
    columns: that it must have.
    optional: that it may have.
    row_N: places in the split of the pairs that are wanted, in the order wanted;
      default: all that are labelled, in their order.

  Raises:
    WorkdirError: the folder holds no labels for the split, or for some of the pairs
      that are wanted, or lacks a column, or one holds what it must not: columns.read.
  """
  paths = sorted(folder.glob(f'{split}-*.parquet'))
  if not paths:
    raise workdir_lib.WorkdirError(
      f'{folder} holds no labels for the split {split!r} (no {split}-*.parquet): it '
      'must be a finished folder of the label stage'
    )
  tables = [columns_lib.read(path, columns, optional) for path in paths]
  try:
    table = pa.concat_tables(tables, promote_options='permissive')
  except pa.ArrowException as error:
    raise workdir_lib.WorkdirError(
      f'{folder}: the files of the split {split!r} have columns of different types '
      f'({error}); they must be of one label stage: make it anew'
    ) from error
  return table if row_N is None else table.take(_places(folder, split, row_N))


def _places(folder: pathlib.Path, split: str, row_N: np.ndarray) -> list[int]:
  """Where the pairs with these places in the split stand in the label set."""
  rows = read_rows(folder, split).tolist()
  place = {row: i for i, row in enumerate(rows)}
  if twice := len(rows) - len(place):
    raise workdir_lib.WorkdirError(
      f'{folder}: column row: {twice} pairs of the split {split!r} are labelled twice; '
      'make these labels anew'
    )
  if missing := [row for row in row_N.tolist() if row not in place]:
    raise workdir_lib.WorkdirError(
      f'{folder} holds no labels for {len(missing)} of the {len(row_N)} pairs of the '
      f'split {split!r} that are wanted (the first is pair {missing[0]}): they were '
      'dropped there as too long. Raise length.max_tokens where these labels are made '
      'and label anew, or lower it here, in a new --workdir.'
    )
  return [place[row] for row in row_N.tolist()]


def read(
  folder: pathlib.Path, split: str, row_N: np.ndarray | None = None
) -> Behaviors:
  """A split of a label set; arguments and errors as of `read_table`."""
  table = read_table(folder, split, LABEL, ('reference', 'replies'), row_N)
  N = len(table)

  def lists(name: str, empty: np.ndarray) -> np.ndarray:
    if name not in table.column_names:
      return empty
    column = table[name].combine_chunks()
    if len(found := set(pc.list_value_length(column).to_pylist())) > 1:
      raise workdir_lib.WorkdirError(
        f'{folder}: column {name}: the files of the split {split!r} have lists of '
        f'{sorted(found)} values; they must be of one label stage: make it anew'
      )
    return column.flatten().to_numpy(zero_copy_only=False).reshape(N, -1)

  reference_NxS = lists('reference', np.zeros((N, 0), np.float32))
  return Behaviors(
    table['behavior'].to_numpy(),
    table['counterfactual_behavior'].to_numpy(),
    reference_NxS.reshape(N, 2, -1) if N else np.zeros((0, 2, 0), np.float32),
    lists('replies', np.zeros((N, 0), object)),
  )


def read_explanation(
  folder: pathlib.Path, split: str, row_N: np.ndarray
) -> Explanation:
  """The labels alone, of wanted pairs; arguments and errors as of `read_table`."""
  table = read_table(folder, split, LABEL, row_N=row_N)
  return phi(*(table[name].to_numpy() for name in LABEL))


def read_rows(folder: pathlib.Path, split: str) -> np.ndarray:
  """Places in the split of the pairs that are labelled: all that were not dropped."""
  return read_table(folder, split, ('row',))['row'].to_numpy()


def read_pairs(folder: pathlib.Path, split: str) -> list[pairs_lib.Pair]:
  """The pairs that are labelled, in their order."""
  return pairs_lib.from_columns(read_table(folder, split, PAIR).to_pydict())


def on_support(
  reference_NxS: np.ndarray, options_NxK: np.ndarray, support: str
) -> np.ndarray:
  """Reference log-probabilities over the support that the KL wants, normalised.

  Raises:
    WorkdirError: the vocabulary is wanted, but only the options were kept; tokens of
      options are not among those kept.
  """
  kept = 'options' if reference_NxS.shape[1] == options_NxK.shape[1] else 'vocabulary'
  if kept == support:
    return reference_NxS
  if support == 'vocabulary':
    raise workdir_lib.WorkdirError(
      'objectives.behavior_kl.support is "vocabulary", but the label set keeps '
      'distributions over the options only: set label.reference to "vocabulary" and '
      'label anew, or set the support to "options".'
    )
  if options_NxK.size and options_NxK.max() >= reference_NxS.shape[1]:
    raise workdir_lib.WorkdirError(
      f'the label set, column reference: {reference_NxS.shape[1]} log-probabilities, '
      f'neither of {options_NxK.shape[1]} options nor of a vocabulary with the token '
      f'{options_NxK.max()}: label anew'
    )
  reference_NxK = np.take_along_axis(reference_NxS, np.maximum(options_NxK, 0), axis=1)
  reference_NxK = np.where(options_NxK >= 0, reference_NxK, -np.inf)
  return special.log_softmax(reference_NxK, axis=1)
