"""Several runs at once: one program with a leading axis of runs.

What may differ from run to run: numbers (learning rate, weights of the loss's terms),
data and labels, seeds, the weights that a run starts from, how often it is kept. What
may not is its `Kind`. Each run leaves in its folder what it leaves when it is trained
alone: the same numbers by lax.map, where rows are as long in all runs, and the same up
to rounding by vmap.
"""

from collections.abc import Hashable, Mapping, Sequence
import contextlib
import dataclasses
from typing import Any, NamedTuple

import jax

from coupling.checkpoints import kept_steps
from coupling.config import schema
from coupling.model import decoder
from coupling.model import sharding
from coupling.training import compiled
from coupling.training import train_loop
from coupling.training import tree_batches
from data import loader

# Terms that read the part `behavior` of a batch.
BEHAVIOR_TERMS = {'behavior_kl', 'behavior_xent'}


class Kind(NamedTuple):
  """What runs must share to be trained at once."""

  settings: compiled.Settings
  steps_per_dispatch: int
  batches: tuple[tuple[str, int], ...]  # part of a batch, its rows


def groups(
  runs: Mapping[Hashable, tuple[decoder.DecoderConfig, schema.Train]],
) -> list[list[Hashable]]:
  """Names of the runs of one task, those together that can be trained at once.

  Args:
    runs: name -> the decoder's shape and the training, of one step or more.
  """
  found: dict[Kind, list[Hashable]] = {}
  for name, (model, config) in runs.items():
    found.setdefault(_kind_of_config(model, config), []).append(name)
  return list(found.values())


def side_by_side(trainings: Sequence[train_loop.Training]) -> bool:
  """Whether runs have come equally far, so that none would be trained far anew.

  What was stopped while it saved is one checkpoint apart.
  """
  kept = [{0} for _ in trainings]
  for steps, training in zip(kept, trainings):
    if training.folder.exists():
      checkpoints = kept_steps.Checkpoints(training.folder, keep_every=None)
      with contextlib.closing(checkpoints):
        steps |= checkpoints.steps()
  ahead = max(map(max, kept)) - max(set.intersection(*kept))
  return ahead <= max(training.loop.checkpoint_every for training in trainings)


def fit(
  trainings: Sequence[train_loop.Training], vectorised: bool | None = None
) -> list[decoder.Params]:
  """Trains runs of one kind at once, or from the latest step that all have kept.

  Args:
    trainings: the runs, on one mesh; all devices share them out.
    vectorised: a device computes its runs at the same time, or one after another;
      None: as is faster here (vmap on accelerators, lax.map on the CPU).

  Returns:
    The trained weights of each run, on the device that trained it.

  Raises:
    ConfigError: runs of several kinds, or a number that the devices do not divide.
    Interrupted: after saving all runs, when a signal asked for it.
  """
  if len(trainings) == 1:
    return [train_loop.fit(trainings[0])]
  _check(trainings)
  mesh = train_loop.make_mesh(trainings[0])
  sharding.check_runs(mesh, len(trainings))
  if vectorised is None:
    vectorised = jax.default_backend() != 'cpu'
  settings = trainings[0].settings
  one_base = _is_one([training.frozen for training in trainings])
  if one_base:
    frozen = jax.device_put(trainings[0].frozen, sharding.replicated(mesh))
  else:
    frozen = sharding.stack_runs(mesh, [training.frozen for training in trainings])
  hyper = sharding.stack_runs(mesh, [training.hyper for training in trainings])
  program = compiled.alone(settings, mesh)  # compiled for the first state alone
  run = compiled.together(settings, mesh, one_base, vectorised)
  numbers = range(len(trainings))
  on = train_loop.OnDevices(
    program=program,
    # One after another through the host: all of them would not fit one device.
    join=lambda states: sharding.stack_runs(mesh, list(map(jax.device_get, states))),
    split=lambda state: [sharding.take_run(state, i) for i in numbers],
    run=lambda state, batches: run(
      state, frozen, hyper, sharding.stack_runs(mesh, batches)
    ),
  )
  return train_loop.train_all(_of_equal_lengths(trainings), on)


def _kind(
  settings: compiled.Settings, loop: schema.Loop, batches: Mapping[str, int]
) -> Kind:
  return Kind(settings, loop.steps_per_dispatch, tuple(sorted(batches.items())))


def _kind_of_config(model: decoder.DecoderConfig, config: schema.Train) -> Kind:
  settings = compiled.of_run(model, config)
  batches = {}
  if 'explanation_xent' in settings.form.terms:
    batches['explanation'] = config.explanation_batch
  if BEHAVIOR_TERMS.intersection(settings.form.terms):
    batches['behavior'] = config.behavior_batch
  if config.trees:
    batches = {tree_batches.TREES: config.explanation_batch}
  return _kind(settings, config.loop, batches)


def _kind_of(training: train_loop.Training) -> Kind:
  batches = {name: batch for name, (_, batch) in training.parts.items()}
  if training.plan is not None:  # in which the parts are joined
    batches = {tree_batches.TREES: next(iter(batches.values()))}
  return _kind(training.settings, training.loop, batches)


def _check(trainings: Sequence[train_loop.Training]) -> None:
  """Raises ConfigError, naming field and runs, for runs that do not go together."""
  first = trainings[0]
  fields = _fields(first)
  for other in trainings[1:]:
    others = _fields(other)
    for name in fields | others:
      one, two = fields.get(name), others.get(name)
      if one != two:
        raise schema.ConfigError(
          f'{first.title} and {other.title} cannot be trained at once: {name} is {one} '
          f'and {two}; train them one after another.'
        )
  folders = [training.folder.resolve() for training in trainings]
  for folder in folders:
    if folders.count(folder) > 1:
      raise schema.ConfigError(
        f'{folder}: {folders.count(folder)} runs at once would be kept there; give '
        'each a folder of its own.'
      )


def _fields(training: train_loop.Training) -> dict[str, Any]:
  """What must be equal, by name."""
  kind = _kind_of(training)
  found = {}
  for name, value in (
    *zip(Kind._fields[1:], kind[1:]),
    *kind.settings._asdict().items(),
    ('mesh', training.mesh_axes),
  ):
    if dataclasses.is_dataclass(value):
      found |= {f'{name}.{k}': x for k, x in dataclasses.asdict(value).items()}
    else:
      found[name] = value
  return found


def _is_one(trees: Sequence[Any]) -> bool:
  """Whether these are the very same arrays."""
  first, *others = (jax.tree.leaves(tree) for tree in trees)
  return all(x is y for other in others for x, y in zip(first, other, strict=True))


def _of_equal_lengths(
  trainings: Sequence[train_loop.Training],
) -> list[train_loop.Training]:
  """The runs, with the rows of each part as long as those of any run, packed alike."""
  if trainings[0].plan is not None:
    plans = tree_batches.joint([training.plan for training in trainings])
    return [dataclasses.replace(t, plan=plan) for t, plan in zip(trainings, plans)]
  parts = [{} for _ in trainings]
  for name in trainings[0].parts:
    rows, sizes = zip(*(training.parts[name] for training in trainings))
    for run, filled, size in zip(parts, loader.fill_up(rows), sizes):
      run[name] = filled, size
  return [dataclasses.replace(t, parts=run) for t, run in zip(trainings, parts)]
