"""Orbax checkpoints of a run: trainable state, optimizer, step and loader position.

Every kept step can be evaluated; the latest can be resumed. The loader's position is
the step itself, and nothing else in training is random, so (seed, step) is the whole
state of randomness.
"""

from collections.abc import Iterator
import contextlib
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from coupling import finite
from coupling import hosts
from coupling import workdir


_DIVERGED = (
  'It is of a training that diverged: move it away, and the command goes on from the '
  'step before, or train anew with a lower learning rate.'
)


class Checkpoints:
  """The checkpoints of one run, saved asynchronously and atomically."""

  def __init__(self, folder: pathlib.Path, keep_every: int | None):
    """Opens or makes the folder; `keep_every` None opens it for reading only.

    The latest step is kept, and every multiple of `keep_every`.
    """
    options = ocp.CheckpointManagerOptions(
      max_to_keep=None if keep_every is None else 1,
      keep_period=keep_every,
      read_only=keep_every is None,
      # What a kill left half written is no checkpoint.
      cleanup_tmp_directories=keep_every is not None,
    )
    self._folder = folder
    self._manager = ocp.CheckpointManager(folder.resolve(), options=options)

  def steps(self) -> set[int]:
    """Those that are kept."""
    return set(self._manager.all_steps())

  def drop_after(self, step: int | None) -> None:
    """Deletes what is kept of later steps; None: of all steps."""
    # Each is deleted by all processes together, which must see the same.
    for kept in sorted(hosts.first(self.steps), reverse=True):
      if step is None or kept > step:
        self._manager.delete(kept)

  def save(self, state: dict[str, Any], position: dict[str, int]) -> None:
    """Begins to save; the state may be donated as soon as this returns.

    Raises:
      NonFiniteError: weights or moments that are not finite; nothing is saved.
    """
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

  def restore(self, step: int, like: dict[str, Any], position: dict[str, int]):
    """The state at a step, with the shapes and shardings of `like`.

    Raises:
      WorkdirError: a damaged checkpoint, or one that was trained with another seed.
      NonFiniteError: weights or moments that are not finite.
    """
    args = ocp.args.Composite(
      params=ocp.args.StandardRestore(_abstract(like['params'])),
      optimizer=ocp.args.StandardRestore(_abstract(like['opt_state'])),
      position=ocp.args.JsonRestore(),
    )
    with _naming_damage(self._folder / str(step)):
      found = self._manager.restore(step, args=args)
    if found.position != position | {'step': step}:
      raise workdir.WorkdirError(
        f'{self._folder}/{step}: loader position {found.position} is not that of '
        f'this run, {position | {"step": step}}; move the folder away to train anew.'
      )
    state = {'params': found.params, 'opt_state': found.optimizer}
    finite.check(state, f'{self._folder}/{step}', _DIVERGED)
    return state | {'step': hosts.put(np.int32(step), like['step'].sharding)}

  def restore_params(self, step: int, like: Any) -> Any:
    """The parameters alone, for evaluation."""
    args = ocp.args.Composite(params=ocp.args.StandardRestore(_abstract(like)))
    with _naming_damage(self._folder / str(step)):
      params = self._manager.restore(step, args=args).params
    finite.check(params, f'{self._folder}/{step}', _DIVERGED)
    return params

  def close(self) -> None:
    """Waits until everything is on disk."""
    self._manager.close()


def read_params(folder: pathlib.Path, step: int, like: Any) -> Any:
  """The parameters that a run kept at a step, with shapes and shardings of `like`."""
  checkpoints = Checkpoints(folder, keep_every=None)
  with contextlib.closing(checkpoints):
    return checkpoints.restore_params(step, like)


def save_params(folder: pathlib.Path, params: Any) -> None:
  """Writes parameters alone, atomically; none but finite ones."""
  finite.check(params, str(folder), 'They are not saved: the training diverged.')
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(folder.resolve(), params)


def load_params(folder: pathlib.Path, like: Any) -> Any:
  """Reads what `save_params` wrote, with the shapes and shardings of `like`."""
  with ocp.StandardCheckpointer() as checkpointer, _naming_damage(folder):
    params = checkpointer.restore(folder.resolve(), _abstract(like))
  finite.check(params, str(folder), _DIVERGED)
  return params


@contextlib.contextmanager
def _naming_damage(folder: pathlib.Path) -> Iterator[None]:
  try:
    yield
  except Exception as e:  # Orbax and tensorstore raise many kinds
    raise workdir.WorkdirError(
      f'{folder}: this checkpoint cannot be read ({e}). It is torn or was edited, or '
      'of another model; move it away, and the command goes on from what is left.'
    ) from e


def _abstract(tree: Any) -> Any:
  return jax.tree.map(ocp.utils.to_shape_dtype_struct, tree)
