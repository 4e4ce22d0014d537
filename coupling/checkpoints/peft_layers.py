"""Which layers of a checkpoint adapters are of, where one holds several of ours.

y = [x W1, x W2] there. Adapters of both are one, with A one below the other and B on a
diagonal of blocks: its rank is the sum of theirs, and so is its alpha. An adapter of
the one layer that peft trained is one of each of ours, with the same A.
Axes: I inputs, O outputs, R rank.
"""

from collections.abc import Mapping, Sequence
import pathlib
from typing import Any

import numpy as np

from coupling.checkpoints import weight_names
from coupling.checkpoints.hf_config import CheckpointError, HFConfig
from coupling.model import lora
from coupling.model.architecture import DecoderConfig

Pair = Sequence[np.ndarray]  # A [R, I] and B [O, R], as peft has them
Targets = tuple[str, ...]  # of lora.TARGETS, in the order of their outputs

EVERY = weight_names.modules(True) | weight_names.modules(False)
_MERGE = 'merge it into its base with peft (`merge_and_unload`), and use that model.'


def adapted(raw: HFConfig, adapters: lora.Adapters) -> dict[str, Targets]:
  """The layers of a checkpoint's block that adapters are of, and what is in each."""
  every = weight_names.modules(weight_names.is_fused(raw))
  return {m: x for m, x in every.items() if set(x) & set(adapters.weights)}


def last(module: str) -> str:
  """How peft's patterns name a layer."""
  return module.split('.')[-1]


def times(
  path: pathlib.Path,
  raw: Mapping[str, Any],
  modules: Mapping[str, Targets],
  rank: int,
  alpha: float,
) -> dict[str, int]:
  """How many times the rank each layer's adapter has: as it has parts, or once.

  Raises:
    CheckpointError: a pattern of adapter_config.json that says anything else.
  """
  ranks, alphas = (raw.get(f'{x}_pattern') or {} for x in ('rank', 'alpha'))
  parts = {last(m): len(x) for m, x in modules.items() if len(x) > 1}
  said = {name: n for name, n in parts.items() if name in ranks}
  for found, one in ((ranks, rank), (alphas, alpha)):
    if found != {name: n * one for name, n in said.items()}:
      raise CheckpointError(
        f'{path}: rank_pattern={ranks}, alpha_pattern={alphas}: only plain LoRA of one '
        f'rank is supported; {_MERGE}'
      )
  return {module: said.get(last(module), 1) for module in modules}


def shapes(
  config: DecoderConfig, targets: Targets, rank: int, times: int
) -> tuple[tuple[int, int], tuple[int, int]]:
  """Of A and B of one layer."""
  like = lora.abstract(config, rank=1, alpha=1.0, targets=targets).weights
  inputs = like[targets[0]]['a'].shape[1]
  return (times * rank, inputs), (sum(_outputs(config, targets)), times * rank)


def _outputs(config: DecoderConfig, targets: Targets) -> list[int]:
  like = lora.abstract(config, rank=1, alpha=1.0, targets=targets).weights
  return [like[target]['b'].shape[2] for target in targets]


def fuse(
  config: DecoderConfig, targets: Targets, found: Mapping[str, Pair], rank: int
) -> Pair:
  """The adapter of a layer that has all the targets; A is zero of those without one."""
  (rows, inputs), (outputs, _) = shapes(config, targets, rank, len(targets))
  dtype = next(iter(found.values()))[0].dtype
  a, b = np.zeros((rows, inputs), dtype), np.zeros((outputs, rows), dtype)
  row = 0
  for i, (target, size) in enumerate(zip(targets, _outputs(config, targets))):
    if target in found:
      block = slice(i * rank, (i + 1) * rank)
      a[block], b[row : row + size, block] = found[target]
    row += size
  return a, b


def split(
  config: DecoderConfig, targets: Targets, pair: Pair, rank: int, where: str
) -> list[tuple[str, Pair]]:
  """The adapters of the targets that have one; `where` is named in errors.

  Raises:
    CheckpointError: B of several is not on a diagonal of blocks.
  """
  a, b = pair
  rows = np.split(b, np.cumsum(_outputs(config, targets))[:-1])
  if len(a) == rank:
    return [(target, (a, part)) for target, part in zip(targets, rows)]
  found = []
  for i, (target, part) in enumerate(zip(targets, rows)):
    block = slice(i * rank, (i + 1) * rank)
    if np.count_nonzero(part) != np.count_nonzero(part[:, block]):
      raise CheckpointError(
        f'{where}: not on a diagonal of {len(targets)} blocks, as that of several '
        f'layers in one is; {_MERGE}'
      )
    if np.any(a[block]):
      found.append((target, (a[block], part[:, block])))
  return found
