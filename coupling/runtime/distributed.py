"""Several processes, each with devices of its own, that run one experiment together.

jax.distributed joins the devices of all processes in one mesh. What is computed there
all processes compute, in the same order; files are written by the first process, but
for checkpoints, which Orbax writes from all. So that none takes another way than the
others, what one reads of the file system or is asked by a signal is told to all before
they act on it. A process that is alone pays for nothing of this.
"""

from collections.abc import Callable, Iterator
import contextlib
import functools
import hashlib
import itertools
import pathlib
import pickle
import platform
import secrets
from typing import Any

import jax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
import numpy as np
import orbax.checkpoint as ocp

from coupling.runtime import files
from coupling.runtime import interrupt
from coupling.runtime import progress
from coupling.runtime import workdir as workdir_lib

# Others wait for what the first does alone, as long as it takes; whether it lives is
# seen by jax.distributed.
PATIENCE_SECONDS = 7 * 24 * 3600
# Those that end well end together; after an error the others need not be waited for.
SHUTDOWN_SECONDS = 20
NOTE = '.hosts'  # a file of the workdir, for a moment

_waits = itertools.count()  # names what all wait for
_asked: jax.Array | None = None  # see `stopping`


class DistributedError(RuntimeError):
  """Processes that cannot work together; the message names the remedy."""


def start(coordinator: str | None, processes: int | None, index: int | None) -> None:
  """Joins the other processes; to be called before anything else asks for devices.

  Args:
    coordinator: host:port of the first process; None: as the cluster tells, as are the
      others.
    processes: how many there are.
    index: which of them this one is, from 0.

  Raises:
    DistributedError: the cluster tells too little, or the others do not come.
  """
  # It would take SIGTERM for itself, which is a request to stop here, as SIGINT is.
  jax.config.update('jax_enable_preemption_service', False)
  try:
    jax.distributed.initialize(
      coordinator, processes, index, shutdown_timeout_seconds=SHUTDOWN_SECONDS
    )
    first_here = is_first()  # all meet here: the first must not ask for devices alone
  except (ValueError, TypeError, RuntimeError) as error:
    raise DistributedError(
      f'--distributed: {error}\nTPU pods, SLURM and Open MPI tell each process of the '
      'others; elsewhere give --coordinator_address, --num_processes and --process_id.'
    ) from error
  if not first_here:
    progress.silence()


def several() -> bool:
  """Whether there are other processes; a process alone need not start its devices."""
  return jax.distributed.is_initialized() and jax.process_count() > 1


def is_first() -> bool:
  """Whether this process is the one that writes files, or is alone."""
  return not several() or jax.process_index() == 0


def every(function: Callable[[], Any]) -> list[Any]:
  """Calls it on every process; tells all what it returned on each.

  Raises:
    Exception: on all processes, where the function raised on some.
  """
  result, failure = None, None
  try:
    result = function()
  except Exception as error:
    failure = error
  told = _exchange(pickle.dumps((result, _portable(failure))))
  if failure is not None:
    raise failure
  for _, error in told:
    if error is not None:
      raise error
  return [result for result, _ in told]


def first(function: Callable[..., Any], *args: Any) -> Any:
  """Calls it on the first process alone; what it returns or raises is so for all."""
  if not several():
    return function(*args)
  return every(lambda: function(*args) if is_first() else None)[0]


def _portable(error: Exception | None) -> Exception | None:
  """The error, or its text where its class does not survive pickling."""
  try:
    return pickle.loads(pickle.dumps(error))
  except Exception:  # whatever its constructor makes of its own arguments
    return RuntimeError(f'{type(error).__name__}: {error}')


def _exchange(mine: bytes) -> list[tuple[Any, Exception | None]]:
  """What each process says, unpickled; waits for the last of them."""
  # By the coordinator, since devices that wait for each other give up after a while.
  wait = ocp.multihost.get_barrier_sync_fn()
  wait(key=f'hosts {next(_waits)}', timeout_ms=PATIENCE_SECONDS * 1000)
  sizes = multihost_utils.process_allgather(np.int32(len(mine)))
  room = 1 << int(sizes.max()).bit_length()  # of few sizes: each is a program
  padded = np.frombuffer(mine.ljust(room, b'\0'), np.uint8)
  return [pickle.loads(x.tobytes()) for x in multihost_utils.process_allgather(padded)]


def check_alike(workdir: pathlib.Path, *asked: Any) -> None:
  """Refuses processes that were asked for different things, or share no workdir.

  Args:
    workdir: where the first writes what the others read.
    asked: what all must have been asked for alike.

  Raises:
    DistributedError: on all, where some were asked for something else.
    WorkdirError: on all, where some do not see what the first writes.
  """
  if not several():
    return
  found = every(lambda: hashlib.sha256(repr(asked).encode()).hexdigest())
  if other := [str(i) for i, x in enumerate(found) if x != found[0]]:
    raise DistributedError(
      f'--distributed: the processes {", ".join(other)} were given another config or '
      'stage than process 0; give all the same command.'
    )
  note = workdir / NOTE
  mark = first(_mark, note)

  def look() -> None:
    if not note.exists() or note.read_text() != mark:
      raise workdir_lib.WorkdirError(
        f'{workdir}: process {jax.process_index()} on {platform.node()} does not see '
        'there what process 0 writes: give a --workdir on a file system that all '
        'hosts share'
      )

  every(look)
  first(note.unlink)


def _mark(note: pathlib.Path) -> str:
  try:
    note.parent.mkdir(parents=True, exist_ok=True)
    mark = secrets.token_hex(8)
    files.write_bytes(note, mark.encode())
    return mark
  except OSError as error:
    raise workdir_lib.WorkdirError(
      f'{note.parent}: cannot be written to ({error}); choose another --workdir'
    ) from error


@contextlib.contextmanager
def open_stage(
  folder: pathlib.Path, name: str, config: dict, inputs: dict[str, workdir_lib.Stage]
) -> Iterator[workdir_lib.Stage]:
  """workdir.open_stage, by the first process for all; `first` must finish the stage."""
  with contextlib.ExitStack() as stack:
    opening = workdir_lib.open_stage(folder, name, config, inputs)
    yield first(stack.enter_context, opening)


def stopping() -> int:
  """The signal by which some process was asked to stop; 0: none was.

  Of several processes all are told the same, at the same call: what was so at the call
  before. So no device has to wait for the answer.
  """
  if not several():
    return interrupt.received()
  global _asked
  before, _asked = _asked, _highest(interrupt.received())
  return 0 if before is None else int(before)


def check() -> None:
  """Raises Interrupted, on all, if some process was asked to stop: see `stopping`."""
  if number := stopping():
    raise interrupt.Interrupted(number)


def _highest(number: int) -> jax.Array:
  """The highest number that a process has, once devices have found it."""
  mesh = Mesh(np.array(jax.devices()), 'devices')
  mine = np.full(mesh.size, number, np.int32)  # of which each fills its own part
  found = put(mine, NamedSharding(mesh, P('devices')))
  return settled(_max(NamedSharding(mesh, P()))(found))


@functools.lru_cache
def _max(everywhere: NamedSharding) -> Callable[[jax.Array], jax.Array]:
  return jax.jit(lambda x: x.max(), out_shardings=everywhere)


def settled(tree: Any) -> Any:
  """The results of a program; on CPUs of several processes, once they are there.

  A CPU begins a program while others run. Their parts on its devices share few threads
  and wait in these for other processes, whose threads are with other parts: for ever.
  """
  if several() and jax.default_backend() == 'cpu':
    jax.block_until_ready(tree)
  return tree


def put(tree: Any, shardings: Any) -> Any:
  """Arrays of the host, whole on every process, on devices; each fills its own.

  Args:
    tree: of arrays; those that are on the devices of all processes may be moved.
    shardings: of all arrays, or a tree of them.
  """
  if not several():
    return jax.device_put(tree, shardings)
  if isinstance(shardings, jax.sharding.Sharding):
    shardings = jax.tree.map(lambda _: shardings, tree)
  return jax.tree.map(_put, tree, shardings)


def _put(x: Any, sharding: jax.sharding.Sharding) -> jax.Array:
  if isinstance(x, jax.Array) and not x.is_fully_addressable:
    return jax.device_put(x, sharding)
  # Not device_put, which compares the whole array over all processes.
  x = np.asarray(x)
  x = x.astype(jax.dtypes.canonicalize_dtype(x.dtype), copy=False)
  return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])


def fetch(tree: Any) -> Any:
  """Arrays of devices on the host, whole on every process."""
  if several():
    tree = jax.tree.map(_whole, tree)
  return jax.device_get(tree)


def _whole(x: Any) -> Any:
  if not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated:
    return x
  return multihost_utils.process_allgather(x, tiled=True)
