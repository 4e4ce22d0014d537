"""Whether a checkpoint that another program writes is whole, so that none is read half.

`transformers.Trainer`, and with it TRL, writes into checkpoint-STEP, in this order, the
weights (model.safetensors; shards, then their index; or adapter_model.safetensors),
config and tokenizer, the optimizer, and trainer_state.json last. So a checkpoint is
whole where

* its files of weights are named and there, and each is as long as its header says,
* and trainer_state.json is there and is JSON.

One without the second may have been saved by other means, or copied in another order.
It is taken as it is once nothing in it has changed for SETTLED seconds; where its
weights are not whole then, it is damaged.
"""

import json
import pathlib
import time

from coupling.checkpoints import hub
from coupling.checkpoints import peft_format
from coupling.checkpoints.hf_config import CheckpointError
from coupling.runtime import interrupt
from coupling.runtime import progress

SETTLED = 60.0  # seconds without a change
POLL_SECONDS = 1.0
STATE = 'trainer_state.json'
_LARGEST_HEADER = 100_000_000  # bytes, as the format has it


def wait(folder: pathlib.Path) -> bool:
  """Waits until a checkpoint is whole; False if it was removed meanwhile.

  Raises:
    CheckpointError: nothing in it changes any more, and weights are missing or not
      whole; the message names the file.
    Interrupted: the program was asked to stop.
  """
  seen, since, told = None, 0.0, False
  while True:
    before = _stats(folder)
    damage = damaged(folder)
    if damage is None and is_trainers(folder):
      return True
    now = _stats(folder)
    if not folder.exists():
      return False
    if now != seen or now != before:
      since = time.monotonic()
      if seen is None:  # what has lain there for long need not be watched
        newest = max((x[2] for x in now), default=time.time_ns())
        since -= max(0.0, (time.time_ns() - newest) / 1e9)
      seen = now
    if now == before and time.monotonic() - since >= SETTLED:
      if damage is None:
        return True
      raise CheckpointError(
        f'{damage} Nothing in {folder} has changed for {SETTLED:g} s: if it is still '
        'being written, run the same command again later; otherwise move it away.'
      ) from damage
    if not told:
      why = damage or f'{folder / STATE}, which is written last, is not there'
      progress.line(f'waiting until {folder} is whole: {why}')
      told = True
    interrupt.check()
    time.sleep(POLL_SECONDS)


def weight_files(folder: pathlib.Path) -> list[pathlib.Path]:
  """The files of weights or adapters; raises CheckpointError as of hub.weight_files."""
  if not peft_format.is_adapter(folder):
    return hub.weight_files(folder)
  peft_format.base_of(folder)  # that its config is there and JSON
  return [peft_format.tensor_file(folder)]


def damaged(folder: pathlib.Path) -> CheckpointError | None:
  """What is missing of the weights, or shorter or longer than its header says."""
  try:
    for path in weight_files(folder):
      _check_length(path)
  except CheckpointError as error:
    return error
  return None


def is_trainers(folder: pathlib.Path) -> bool:
  """Whether a trainer has written its last file, and all of it."""
  return state(folder) is not None


def state(folder: pathlib.Path) -> dict | None:
  """What a trainer says of itself at a checkpoint; None without it, or a part of it."""
  try:
    found = json.loads((folder / STATE).read_text(encoding='utf-8'))
  except (OSError, ValueError):
    return None
  return found if isinstance(found, dict) else None


def _check_length(path: pathlib.Path) -> None:
  """Raises CheckpointError unless a safetensors file has the length of its content."""
  try:
    with path.open('rb') as file:
      size = int.from_bytes(file.read(8), 'little')
      header = json.loads(file.read(size)) if size <= _LARGEST_HEADER else None
    ends = [
      x['data_offsets'][1] for name, x in header.items() if name != '__metadata__'
    ]
    wanted, found = 8 + size + max(ends, default=0), path.stat().st_size
  except (OSError, ValueError, AttributeError, LookupError, TypeError) as error:
    raise CheckpointError(
      f'{path}: its header is no whole one of a safetensors file ({error}).'
    ) from error
  if wanted != found:
    raise CheckpointError(
      f'{path}: {found} bytes, but its header says {wanted}; it is truncated or '
      'damaged.'
    )


def _stats(folder: pathlib.Path) -> tuple[tuple[str, int, int], ...]:
  """Name, size and time of change (ns) of a folder and all that is in it."""
  found = []
  for path in (folder, *folder.rglob('*')):
    try:
      stat = path.stat()
    except OSError:  # it is gone
      continue
    found.append((str(path), stat.st_size, stat.st_mtime_ns))
  return tuple(sorted(found))
