"""Several processes, each with devices of its own, that run one experiment together.

jax.distributed joins the devices of all processes in one mesh. What is computed there
all processes compute, in the same order; files are written by the first process, but
for checkpoints, which Orbax writes from all. So that none takes another way than the
others, what one reads of the file system or is asked by a signal is told to all before
they act on it. A process that is alone pays for nothing of this.
"""

from collections.abc import Callable, Iterator
import contextlib
import hashlib
import itertools
import json
import pathlib
import platform
import secrets
from typing import Any

import jax
import jax.numpy as jnp
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
PATIENCE_MS = 7 * 24 * 3600 * 1000
# Those that end well end together; after an error the others need not be waited for.
SHUTDOWN_SECONDS = 20
NOTE = '.hosts'  # a file of the workdir, for a moment

_exchanges = itertools.count()  # each has a number, the same on all
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
  """Calls it on every process; tells all what it returned on each, as JSON.

  Raises:
    Exception: what it raised here.
    DistributedError: what it raised elsewhere.
  """
  if not several():
    return [function()]
  failure = None
  try:
    said = json.dumps({'result': function()}, default=list)
  except Exception as error:
    failure, said = error, json.dumps({'error': f'{type(error).__name__}: {error}'})
  # By the coordinator, since devices that wait for each other give up after a while.
  coordinator = ocp.multihost.get_jax_distributed_client()
  key = f'coupling/{next(_exchanges)}'
  coordinator.key_value_set(f'{key}/{jax.process_index()}', said)
  told = [
    json.loads(coordinator.blocking_key_value_get(f'{key}/{i}', PATIENCE_MS))
    for i in range(jax.process_count())
  ]
  if failure is not None:
    raise failure
  for i, message in enumerate(told):
    if 'error' in message:
      raise DistributedError(f'process {i}: {message["error"]}')
  return [message['result'] for message in told]


def first(function: Callable[..., Any], *args: Any) -> Any:
  """Calls it on the first process alone; see `every` of what all are told."""
  return every(lambda: function(*args) if is_first() else None)[0]


def check_alike(workdir: pathlib.Path, *asked: Any) -> None:
  """Refuses processes that were asked for different things, or share no workdir.

  Args:
    workdir: where the first writes what the others read.
    asked: what all must have been asked for alike.

  Raises:
    DistributedError: some were asked for something else.
    WorkdirError: some do not see what the first writes.
  """
  if not several():
    return
  found = every(lambda: hashlib.sha256(repr(asked).encode()).hexdigest())
  if other := [str(i) for i, x in enumerate(found) if x != found[0]]:
    raise DistributedError(
      f'--distributed: the processes {", ".join(other)} were given another config or '
      'stage than process 0; give all the same command.'
    )
  note, mark = workdir / NOTE, first(secrets.token_hex)

  def write() -> None:
    with files.making(workdir):
      files.write_bytes(note, mark.encode())

  def look() -> None:
    if not note.exists() or note.read_text() != mark:
      raise workdir_lib.WorkdirError(
        f'{workdir}: process {jax.process_index()} on {platform.node()} does not see '
        'there what process 0 writes: give a --workdir on a file system that all '
        'hosts share'
      )

  first(write)
  try:
    every(look)
  finally:
    first(note.unlink)


@contextlib.contextmanager
def open_stage(
  folder: pathlib.Path, name: str, config: dict, inputs: dict[str, workdir_lib.Stage]
) -> Iterator[workdir_lib.Stage]:
  """workdir.open_stage, by the first process for all; `first` must finish the stage."""
  opening = workdir_lib.open_stage(folder, name, config, inputs)
  with contextlib.ExitStack() as stack:
    manifest = first(lambda: stack.enter_context(opening).manifest)
    yield workdir_lib.Stage(folder, manifest)


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
  return settled(jax.jit(jnp.max, out_shardings=NamedSharding(mesh, P()))(found))


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
