"""A training that diverged: the step where it shows, its cause and the remedy."""

import typing

import jax.numpy as jnp
import numpy as np

from coupling.runtime import finite
from coupling.training import train_step

if typing.TYPE_CHECKING:
  from coupling.training import train_loop


class First(typing.NamedTuple):
  """The first step at which some metric is not finite."""

  found: str  # the step and its metrics
  updates: int  # that preceded: a step's metrics are of the weights before its update


def first(step: int, metrics: train_step.Metrics) -> First | None:
  """What the metrics of one dispatch show, if they are not all finite.

  Args:
    step: the last of the dispatch, from 1.
    metrics: name -> [S], of the steps of the dispatch.
  """
  # The loss's terms first: from them comes what is wrong with the others.
  names = sorted(metrics, key=lambda name: (name in train_step.TOTALS, name))
  bad_KxS = ~np.isfinite(np.stack([metrics[name] for name in names]))
  if not bad_KxS.any():
    return None
  s = int(bad_KxS.any(axis=0).argmax())
  at = step - bad_KxS.shape[1] + 1 + s
  found = ', '.join(
    f'{name} is {metrics[name][s]}' for name, bad in zip(names, bad_KxS[:, s]) if bad
  )
  return First(f'at step {at}, {found}', at - 1)


def error(
  training: 'train_loop.Training', found: str, updates: int, last: int | None
) -> finite.NonFiniteError:
  """The error that ends a training.

  Args:
    training: the run.
    found: what is not finite.
    updates: of the weights, before it was.
    last: latest step that is kept and can be resumed; None: none is.
  """
  rate = f'optimizer.learning_rate={training.optimizer.learning_rate:g}'
  rate = f"train.{rate} (or the run's own)" if training.objectives else f'base.{rate}'
  if updates == 0:
    cause = 'No update preceded it. ' + finite.overflow(training.model.dtype)
  else:
    cause = f'The training diverged: lower {rate}, or clip_norm.'
    if jnp.dtype(training.model.dtype) != jnp.float32:
      cause += f' It computes in {training.model.dtype}; float32 overflows later.'
  kept = 'Nothing is kept.'
  if last is not None:
    kept = (
      f'The last good checkpoint, step {last}, stays in {training.folder}, where the '
      'same command resumes and comes to the same. With a changed config training '
      f'begins anew: move {training.folder.parent} away, or use another --workdir.'
    )
  found = found.rstrip('.')
  return finite.NonFiniteError(f'{training.title}: {found}. {cause} {kept}')
