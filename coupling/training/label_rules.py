"""The labels that explanations are trained on: whose they are, and how they are marred.

They are made once a run, written into its train stage, `labels-<split>.parquet`, and
read by its evaluation and by the report. No model and no JAX here.
Shapes: N pairs of one split.
"""

from collections.abc import Sequence
import pathlib
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from coupling.config import schema
from coupling.elicit import columns
from coupling.elicit.explanation import Explanation
from coupling.runtime.files import WorkdirError
from coupling.training import behavior_shift
from data import pairs as pairs_lib


class Taught(NamedTuple):
  """What a run is taught of the pairs of a split.

  Attributes:
    labels: of `trained_on`; shuffled, where `train.shuffle_labels`, only as training
      examples are made.
    explained_N: pairs whose explanations are trained; of a held-out split, those of
      kinds that the task explains.
    shifted_N: pairs that objectives.shift concerns, also where its weight is 0 and only
      train.explained=unshifted leaves them out; else none.
  """

  labels: Explanation
  explained_N: np.ndarray
  shifted_N: np.ndarray


def taught(
  train: schema.Train,
  template: pairs_lib.Questions,
  pairs: Sequence[pairs_lib.Pair],
  own: Explanation,
  other: Explanation,
  score_NxK: np.ndarray | None,
  seed: int,
  split: str,
) -> Taught:
  """What a run is taught of a split.

  Args:
    train: of the run.
    template: how the task asks.
    pairs: of the split.
    own: E(M_0).
    other: labels of the set that `train.labels` names; E(M_0) where it names none.
    score_NxK: see behavior_shift.scores.
    seed: of the experiment.
    split: its name.

  Raises:
    ConfigError: no pair is left whose explanation could be trained.
  """
  size_N = np.array([len(pair.options) for pair in pairs])
  labels = trained_on(train, size_N, own, other, template.states_answer, seed, split)
  shifted_N = np.zeros(len(pairs), bool)
  objective = train.objectives.shift
  if objective.weight or train.explained == 'unshifted':
    shift = behavior_shift.make(
      objective, template, pairs, own.answer_N, score_NxK, None
    )
    shifted_N = shift.pairs_N
  kind_N = np.array([pair.cue_kind for pair in pairs], object)
  explained_N = ~np.isin(kind_N, template.unexplained)
  if split == 'train':
    explained_N = explained(train, explained_N, labels, shifted_N, seed)
  return Taught(labels, explained_N, shifted_N)


def path(folder: pathlib.Path, split: str) -> pathlib.Path:
  """The file of a split in a train stage."""
  return folder / f'labels-{split}.parquet'


def table(row_N: np.ndarray, found: Taught) -> pa.Table:
  """One row a pair: its place in the split, and what is taught of it."""
  answer_N, changed_N = found.labels
  return pa.table(
    {
      'row': row_N,
      'answer': answer_N,
      'changed': changed_N,
      'explained': found.explained_N,
      'shifted': found.shifted_N,
    }
  )


def read(folder: pathlib.Path, split: str, row_N: np.ndarray) -> Taught:
  """What a run was taught of a split.

  Args:
    folder: of its train stage.
    split: its name.
    row_N: places in the split of the pairs that are labelled.

  Raises:
    WorkdirError: the file cannot be read, or a column holds something else, or it is of
      other pairs.
  """
  names = ('row', 'answer', 'changed', 'explained', 'shifted')
  found = columns.read(path(folder, split), names)
  rows, answer_N, changed_N, *flags = (found[name].to_numpy() for name in names)
  if not np.array_equal(rows, row_N):
    raise WorkdirError(
      f'{path(folder, split)}: its {len(rows)} pairs are not the {len(row_N)} that are '
      f'labelled: move {folder} away and run the same command again to train anew'
    )
  return Taught(Explanation(answer_N, changed_N), *flags)


def trained_on(
  train: schema.Train,
  size_N: np.ndarray,
  own: Explanation,
  other: Explanation,
  states_answer: bool,
  seed: int,
  split: str,
) -> Explanation:
  """Labels of a split as a run is trained on them, but for their shuffling.

  `train.mixture` of the items take the label of the other set, the rest M_0's own; then
  `train.noise` of the labels give way to another statement of those allowed.

  Args:
    train: of the run.
    size_N: number of options of each pair.
    own: E(M_0).
    other: labels of the set that `train.labels` names; E(M_0) where it names none.
    states_answer: see explanation.agree.
    seed: of the experiment.
    split: its name. Held-out labels are made by the same rule, with other draws.
  """
  rng, N = _generator(train, seed, split), len(size_N)
  foreign_N = rng.random(N) < train.mixture
  mixed = Explanation(*(np.where(foreign_N, b, a) for a, b in zip(own, other)))
  noisy_N = rng.random(N) < train.noise
  answer_N, changed_N = mixed
  # Statements are numbered; one of the others is drawn.
  if states_answer:
    count_N, now_N = 2 * size_N, 2 * answer_N + changed_N
  else:
    count_N, now_N = 1 + size_N, changed_N * (1 + answer_N)
  drawn_N = (rng.random(N) * (count_N - 1)).astype(int)
  drawn_N += drawn_N >= now_N
  if states_answer:
    other_answer_N, other_changed_N = drawn_N // 2, drawn_N % 2
  else:
    other_answer_N = np.where(drawn_N > 0, drawn_N - 1, answer_N)
    other_changed_N = (drawn_N > 0).astype(int)
  return Explanation(
    np.where(noisy_N, other_answer_N, answer_N).astype(np.int32),
    np.where(noisy_N, other_changed_N, changed_N).astype(np.int32),
  )


def explained(
  train: schema.Train,
  explainable_N: np.ndarray,
  labels: Explanation,
  shifted_N: np.ndarray,
  seed: int,
) -> np.ndarray:
  """bool [N]: the pairs of the train split whose explanations are trained.

  Args:
    train: of the run.
    explainable_N: False for pairs of kinds that the task never explains.
    labels: of `trained_on`; of those that say "changed", no more are explained than
      make up `train.changed_share` of all.
    shifted_N: pairs that are left out where train.explained=unshifted.
    seed: of the experiment.

  Raises:
    ConfigError: nothing is left.
  """
  kept_N = explainable_N.copy()
  if train.explained == 'unshifted':
    kept_N &= ~shifted_N
  changed_N = kept_N & (np.asarray(labels.changed_N) == 1)
  if train.changed_share < 1:
    unchanged = np.count_nonzero(kept_N & ~changed_N)
    most = int(train.changed_share / (1 - train.changed_share) * unchanged)
    candidates = np.flatnonzero(changed_N)
    out = _generator(train, seed, 'changed').permutation(candidates)[most:]
    kept_N[out] = False
  if not kept_N.any():
    raise schema.ConfigError(
      f'train.explained={train.explained}, train.changed_share={train.changed_share}: '
      'no pair is left whose explanation could be trained; shift fewer of them '
      f'(train.objectives.{train.objectives.shift_term}), or explain all.'
    )
  return kept_N


def drawn(train: schema.Train, changed_N: np.ndarray, seed: int) -> np.ndarray:
  """int [M]: the explained pairs of an epoch, by their number among these.

  With `train.balance` the rarer of "changed" and "unchanged" comes again until it is
  as frequent as the other, each pair of it equally often but for one.

  Args:
    train: of the run.
    changed_N: labels that are trained on, of the explained pairs.
    seed: of the experiment.

  Raises:
    ConfigError: there is but one class to balance.
  """
  if not train.balance:
    return np.arange(len(changed_N))
  classes = [np.flatnonzero(np.asarray(changed_N) == x) for x in (0, 1)]
  few, many = sorted(classes, key=len)
  if not len(few):
    raise schema.ConfigError(
      f'train.balance=True: all {len(many)} labels are of one class; use other cues, '
      'or set it to False.'
    )
  again, rest = divmod(len(many), len(few))
  further = _generator(train, seed, 'balance').permutation(few)[:rest]
  return np.concatenate([many, np.tile(few, again), further])


def _generator(train: schema.Train, seed: int, purpose: str) -> np.random.Generator:
  return np.random.default_rng((seed, train.seed, *purpose.encode()))
