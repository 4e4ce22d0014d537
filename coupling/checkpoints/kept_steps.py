"""Orbax checkpoints of a run: trainable state, optimizer, step and loader position.

Every kept step can be evaluated; the latest can be resumed. The loader's position is
the step itself, and nothing else in training is random, so (seed, step) is the whole
state of randomness.
"""

from collections.abc import Iterator
from concurrent import futures
import contextlib
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from coupling.runtime import distributed
from coupling.runtime import finite
from coupling.runtime import progress
from coupling.runtime import seals
from coupling.runtime import workdir


class Checkpoints:
  """The checkpoints of one run, saved asynchronously and atomically.

  Each is sealed once it is on disk (seals.py); one without a seal is none.
  """

  def __init__(self, folder: pathlib.Path, keep_every: int | None):
    """Opens or makes the folder; `keep_every` None opens it for reading only.

    The latest step is kept, and every multiple of `keep_every`.
    """
    self._seals, self._keep_every = seals.Seals(folder.parent), keep_every
    self._folder = folder
    self._saving: int | None = None  # a step, until it is on disk
    self._sealing: futures.Future | None = None  # of a step that is
    # Whole checkpoints are hashed, which must not hold up the devices.
    self._worker = futures.ThreadPoolExecutor(max_workers=1)
    if keep_every is not None:
      distributed.first(self._set_aside)
    options = ocp.CheckpointManagerOptions(
      max_to_keep=None,  # what is superseded is deleted by settle
      read_only=keep_every is None,
      # What a kill left half written is no checkpoint.
      cleanup_tmp_directories=keep_every is not None,
    )
    self._manager = ocp.CheckpointManager(folder.resolve(), options=options)

  def steps(self) -> set[int]:
    """Those that are kept."""
    return {x for x in self._manager.all_steps() if self._seals.has(self._name(x))}

  def drop_after(self, step: int | None) -> None:
    """Deletes what is kept of later steps; None: of all steps."""
    # Each is deleted by all processes together, which must see the same.
    for kept in sorted(distributed.first(self.steps), reverse=True):
      if step is None or kept > step:
        self._delete(kept)

  def save(self, state: dict[str, Any], position: dict[str, int]) -> None:
    """Begins to save; the state may be donated as soon as this returns.

    Raises:
      NonFiniteError: weights or moments that are not finite; nothing is saved.
    """
    self.settle()
    step = int(state['step'])
    kept = {name: state[name] for name in ('params', 'opt_state')}
    finite.check(kept, f'step {step}', 'It is not saved.')
    if jax.default_backend() == 'cpu':
      # There Orbax reads the arrays in place, later; elsewhere it copies them first.
      state = jax.tree.map(jnp.copy, state)
    self._manager.save(
      step,
      args=ocp.args.Composite(
        params=ocp.args.StandardSave(state['params']),
        optimizer=ocp.args.StandardSave(state['opt_state']),
        position=ocp.args.JsonSave(position | {'step': step}),
      ),
      force=True,
    )
    self._saving = step

  def poll(self) -> None:
    """Begins to seal what was being saved, where it is on disk by now.

    Raises:
      WorkdirError: it could not be saved.
    """
    if self._saving is not None and not self._manager.is_saving_in_progress():
      self._seal()

  def restore(self, step: int, like: dict[str, Any], position: dict[str, int]):
    """The state at a step, with the shapes and shardings of `like`.

    Its files were held against their seals when the stage was opened.

    Raises:
      WorkdirError: a torn checkpoint, or one that was trained with another seed.
      NonFiniteError: weights or moments that are not finite.
    """
    args = ocp.args.Composite(
      params=ocp.args.StandardRestore(_abstract(like['params'])),
      optimizer=ocp.args.StandardRestore(_abstract(like['opt_state'])),
      position=ocp.args.JsonRestore(),
    )
    where = self._folder / str(step)
    remedy = 'move it away, and the command goes on from the step before'
    with _naming_damage(where, remedy):
      found = self._manager.restore(step, args=args)
    if found.position != position | {'step': step}:
      raise workdir.WorkdirError(
        f'{where}: loader position {found.position} is not that of '
        f'this run, {position | {"step": step}}; move the folder away to train anew.'
      )
    state = {'params': found.params, 'opt_state': found.optimizer}
    finite.check(
      state,
      str(where),
      f'It is of a training that diverged: {remedy}, or train anew with a lower '
      'learning rate.',
    )
    return state | {'step': distributed.put(np.int32(step), like['step'].sharding)}

  def restore_params(self, step: int, like: Any) -> Any:
    """The parameters alone, for evaluation.

    Raises:
      WorkdirError: they are damaged.
      NonFiniteError: they are not finite.
    """
    where = self._folder / str(step)
    under = f'{self._folder.name}/{step}/params/'
    distributed.first(self._seals.check, self._name(step), under)
    args = ocp.args.Composite(params=ocp.args.StandardRestore(_abstract(like)))
    with _naming_damage(where, f'move {self._folder.parent} away and train anew'):
      params = self._manager.restore(step, args=args).params
    finite.check(params, str(where), _diverged(self._folder.parent))
    return params

  def close(self) -> None:
    """Waits until everything is on disk."""
    try:
      if self._keep_every is not None:
        self.settle()
    finally:
      self._worker.shutdown()
      self._manager.close()

  def settle(self) -> None:
    """Waits for what is being saved, seals it, and deletes what it supersedes.

    Raises:
      WorkdirError: it could not be saved, and is not sealed.
    """
    self._seal()
    sealing, self._sealing = self._sealing, None
    if sealing is not None:
      sealing.result()
    kept = sorted(self._manager.all_steps())
    for step in kept[:-1]:
      if step % self._keep_every:
        self._delete(step)

  def _name(self, step: int) -> str:
    """Of a step's seal."""
    return f'{self._folder.name}-{step}'

  def _seal(self) -> None:
    """Waits for what is being saved, and begins to seal it."""
    step, self._saving = self._saving, None
    if step is None:
      return
    path = self._folder / str(step)
    try:
      self._manager.wait_until_finished()  # raises what went wrong meanwhile
    except Exception as e:  # Orbax and tensorstore raise many kinds
      raise workdir.WorkdirError(
        f'{path}: this checkpoint could not be saved ({e}); mend that and run the same '
        'command again: it resumes from the step before'
      ) from e
    if distributed.is_first():
      self._sealing = self._worker.submit(self._seals.put, self._name(step), path)

  def _delete(self, step: int) -> None:
    if distributed.is_first():
      self._seals.drop(self._name(step))
    self._manager.delete(step)

  def _set_aside(self) -> None:
    """Moves away what a kill left before it was sealed, or half deleted.

    Raises:
      WorkdirError: more steps lack a seal than a kill can leave.
    """
    there = sorted(int(p.name) for p in self._folder.glob('*') if p.name.isdigit())
    unsealed = [step for step in there if not self._seals.knows(self._name(step))]
    # A kill leaves one, which was being saved or deleted, and step 0 is saved first.
    accident = len(unsealed) <= 1 and (unsealed != there or unsealed in ([], [0]))
    if not accident:
      raise workdir.WorkdirError(
        f'{self._folder}: the steps {unsealed} lack their seals in '
        f'{self._folder.parent / seals.FOLDER}, so they cannot be checked. If this is '
        'a copy, copy that folder too (its name begins with a dot) and run the same '
        f'command again; if it is lost, move {self._folder} away to train anew.'
      )
    for step in there:
      if not self._seals.has(self._name(step)):
        aside = self._seals.set_aside(self._name(step), self._folder / str(step))
        progress.line(f'{self._folder}/{step}: not whole; moved to {aside}')


def read_params(folder: pathlib.Path, step: int, like: Any) -> Any:
  """The parameters that a run kept at a step, with shapes and shardings of `like`."""
  checkpoints = Checkpoints(folder, keep_every=None)
  with contextlib.closing(checkpoints):
    return checkpoints.restore_params(step, like)


def is_kept(folder: pathlib.Path, step: int) -> bool:
  """Whether an unfinished training has a whole checkpoint of this step there."""
  return seals.Seals(folder.parent).has(f'{folder.name}-{step}')


def save_params(folder: pathlib.Path, params: Any) -> None:
  """Writes parameters alone, atomically, in the place of what may be there.

  Raises:
    NonFiniteError: weights that are not finite; nothing is written.
  """
  finite.check(params, str(folder), 'They are not saved: the training diverged.')
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(folder.resolve(), params, force=True)


def load_params(folder: pathlib.Path, like: Any) -> Any:
  """Reads what `save_params` wrote, with the shapes and shardings of `like`.

  Raises:
    WorkdirError: it is torn.
    NonFiniteError: it is not finite.
  """
  damage = _naming_damage(folder, f'move {folder.parent} away and train anew')
  with ocp.StandardCheckpointer() as checkpointer, damage:
    params = checkpointer.restore(folder.resolve(), _abstract(like))
  finite.check(params, str(folder), _diverged(folder.parent))
  return params


def _diverged(stage: pathlib.Path) -> str:
  """Cause and remedy where what a stage has made is not finite."""
  return (
    f'The training diverged: move {stage} away and train anew with a lower learning '
    'rate.'
  )


@contextlib.contextmanager
def _naming_damage(folder: pathlib.Path, remedy: str) -> Iterator[None]:
  try:
    yield
  except Exception as e:  # Orbax and tensorstore raise many kinds
    raise workdir.WorkdirError(
      f'{folder}: this checkpoint cannot be read ({e}). It is torn or was edited, or '
      f'of another model; {remedy}.'
    ) from e


def _abstract(tree: Any) -> Any:
  return jax.tree.map(ocp.utils.to_shape_dtype_struct, tree)
