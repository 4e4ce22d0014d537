"""Which patched runs are computed together, and what each of them replaces.

On the host, in NumPy. Runs that begin at the same layer and column share a program, of
patched_runs.patched. Shapes: B or N pairs, S tokens from the first difference on, R
runs, K columns, L layers, Z groups.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from coupling.model.architecture import DecoderConfig
from coupling.model.sites import SITES
from coupling.patching import aligned_prompts
from coupling.statistics.effect_maps import EVERY_HEAD, Site
from data import positions

STARTS = 8  # of deeper models, so few layers at which patched runs may begin
NARROW = 4  # of a layer, as few columns as a part of so many are computed by themselves


class Chunk(NamedTuple):
  """Sets that are run together.

  Attributes:
    first, column: where they begin; see patched_runs.patched.
    before: whether they are single sites between the heads of the layer before `first`
      and what enters that; otherwise sites from `first` on.
    rows: which sets; to fill up, the last again.
    codes: of the position groups that are patched.
    width: room for the columns of these; 0: they are many, or none before `first`.
  """

  first: int
  column: int
  before: bool
  rows: list[int]
  codes: tuple[int, ...]
  width: int

  def columns(self, group_BxS: np.ndarray) -> np.ndarray | None:
    """Those that are patched, and to fill up others, [B, width]; None: all."""
    if not self.width:
      return None
    here_BxS = np.isin(group_BxS[:, self.column :], self.codes)
    return np.argsort(~here_BxS, axis=1, stable=True)[:, : self.width].astype(np.int32)


def make(
  config: DecoderConfig,
  asked: aligned_prompts.Asked,
  sets: Sequence[tuple[Site, ...]],
  at_once: int,
) -> list[Chunk]:
  """Single sites that begin alike, shared out evenly; sets of several begin at once.

  Of deep models few layers are begun at, so that there are few programs.
  """
  stride = -(-config.depth // STARTS)
  answer = asked.arrays['tokens'].shape[2] - asked.prefix - 1
  group_NxS = asked.arrays['group']
  S = group_NxS.shape[1]

  def count(codes, column):
    """In one pair at most."""
    return aligned_prompts.width(
      np.isin(group_NxS[:, column:], codes).sum(axis=1).max()
    )

  alone = stride == 1 and all(len(chosen) < 2 for chosen in sets)
  begins: dict[tuple[int, int, bool, bool], list[int]] = {}
  for row, chosen in enumerate(sets):
    first, column, before, narrow = 0, 0, alone and not chosen, False
    if len(chosen) == 1:
      (site,) = chosen
      column = answer if site.group == 'answer' else 0
      before = stride == 1
      first = site.layer - site.layer % stride
      if before:
        first += site.kind != 'residual'
        narrow = NARROW * count([positions.CODES[site.group]], column) <= S - column
        narrow &= 0 < first < config.depth
    begins.setdefault((first, column, before, narrow), []).append(row)
  chunks = []
  codes = [{positions.CODES[site.group] for site in chosen} for chosen in sets]
  for (first, column, before, narrow), rows in begins.items():
    rows.sort(key=lambda row: sorted(codes[row]))  # few groups in a chunk
    most = at_once * S // (S - column)
    size = -(-len(rows) // -(-len(rows) // most))
    size += -size % -(-size // at_once)  # logits come in equal parts
    rows = rows + rows[-1:] * (-len(rows) % size)
    parts = [rows[i : i + size] for i in range(0, len(rows), size)]
    groups = [tuple(sorted(set().union(*(codes[row] for row in x)))) for x in parts]
    width = min(max(count(x, column) for x in groups), S - column) if narrow else 0
    for some, group in zip(parts, groups):
      chunks.append(Chunk(first, column, before, some, group, width))
  return chunks


class Chosen(NamedTuple):
  """Which activations each run replaces: site -> bool [R, ..., Z], of heads [..., N].

  Attributes:
    before: what leaves the layer before the first: its heads, attention and MLP, and
      the residual stream that enters the first; or nothing.
    later: [R, L, Z] of the layers from the first on, or nothing.
  """

  before: dict[str, np.ndarray]
  later: dict[str, np.ndarray]


def masks(
  config: DecoderConfig, sets: Sequence[tuple[Site, ...]], chunk: Chunk
) -> Chosen:
  """What the sets of a chunk replace."""
  masks = {
    kind: np.zeros(
      (len(sets), config.depth + 1, len(positions.GROUPS))
      + (config.num_heads,) * (kind == 'heads'),
      bool,
    )
    for kind in SITES
  }
  for run, chosen in enumerate(sets):
    for kind, layer, group, head in chosen:
      at = (run, layer, positions.CODES[group])
      masks[kind][at if head == EVERY_HEAD else (*at, head)] = True
  if not chunk.before:
    return Chosen({}, {kind: x[:, chunk.first : -1] for kind, x in masks.items()})
  layer = lambda kind: max(chunk.first - (kind != 'residual'), 0)
  return Chosen({kind: x[:, layer(kind)] for kind, x in masks.items()}, {})
