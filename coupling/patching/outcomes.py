"""Records of the patch stage: written by it, read for statistics. No JAX here.

For each contrast and step, <contrast>-<step>.json tells the sites and the counts, and
<contrast>-<step>.parquet has a row for each pair; without pairs there is no Parquet.
"""

import json
import pathlib
from typing import Any

import numpy as np
import pyarrow as pa

from coupling.runtime import files
from coupling.statistics import effect_maps
from coupling.statistics.effect_maps import Effects, Maps, Site

# contrast -> step -> maps; None where no pair could be patched.
Found = dict[str, dict[int, Maps | None]]
_EFFECTS = (
  *('behavior', 'explanation', 'behavior_without', 'explanation_without'),
  *('behavior_other_without', 'explanation_other_without'),
)


def path(folder: pathlib.Path, contrast: str, step: int) -> pathlib.Path:
  """Of the JSON file, which is written last."""
  return folder / f'{contrast}-{step:09d}.json'


def write(
  at: pathlib.Path,
  about: dict[str, list[str]],
  maps: Maps | None,
  counts: dict[str, Any],
) -> list[pathlib.Path]:
  """Writes one checkpoint's records; returns their files.

  Args:
    at: of `path`.
    about: columns that say what each pair is: prompt, other_prompt (x') and group.
    maps: without their groups' numbers, which are read from `about`.
    counts: of pairs and forward passes.
  """
  told: dict[str, Any] = {'counts': counts}
  written = [at]
  if maps is not None:
    columns = dict(about)
    for name in _EFFECTS:
      for field, values in getattr(maps, name)._asdict().items():
        columns[f'{name}_{field}'] = pa.array(list(values))
    written.append(at.with_suffix('.parquet'))
    files.write_table(written[-1], pa.table(columns))
    told |= {
      'sites': [site._asdict() for site in maps.sites],
      'live': maps.live_R.tolist(),
      'knocked_out': [[int(i) for i in some] for some in maps.knocked_out],
    }
  files.write_json(at, told)
  return written


def read(at: pathlib.Path) -> tuple[Maps | None, dict[str, Any]]:
  """One checkpoint's maps, of the pairs that are `used`, and its counts."""
  told = json.loads(at.read_text())
  if 'sites' not in told:
    return None, told['counts']
  names = [f'{name}_{field}' for name in _EFFECTS for field in Effects._fields]
  table = files.read_table(at.with_suffix('.parquet'), ('group', *names))
  found = {
    name: Effects(
      *(np.array(table[f'{name}_{field}'].to_pylist()) for field in Effects._fields)
    )
    for name in _EFFECTS
  }
  used_N = effect_maps.used(found['behavior'])
  if not used_N.any():
    return None, told['counts']
  group_N = np.unique(table['group'].to_pylist(), return_inverse=True)[1]
  return Maps(
    sites=[Site(**site) for site in told['sites']],
    group_N=group_N[used_N],
    live_R=np.array(told['live']),
    knocked_out=told['knocked_out'],
    **{name: effects.of(used_N) for name, effects in found.items()},
  ), told['counts']


def read_all(folder: pathlib.Path) -> Found:
  """All maps of a finished patch stage."""
  found: Found = {}
  for at in sorted(folder.glob('*-*.json')):
    contrast, _, step = at.stem.partition('-')
    found.setdefault(contrast, {})[int(step)] = read(at)[0]
  return found
