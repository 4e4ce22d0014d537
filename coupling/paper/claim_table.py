"""The claims of all studies, decided together, and at every look at more seeds.

Planned, before there are any numbers: the looks (Paper.looks), the smallest effect that
matters of a claim (Claim.matters), and FALSE, the share of decided claims that may be
wrong. Each claim's interval is a repeated one (statistics/sequential.py), so that a
study may end at any look. The level is that of Benjamini and Hochberg (1995, JRSS B
57:289): the largest alpha at which alpha M / FALSE or more of the M claims are decided.
Intervals of decided claims at that level are those of Benjamini and Yekutieli (2005,
JASA 100:71), corrected for having been selected.
"""

from collections.abc import Callable
import dataclasses

import numpy as np
from scipy import special

from coupling.paper.paper_seeds import Parts
from coupling.report import conclusions
from coupling.report.conclusions import Row
from coupling.statistics import sequential

FALSE = 0.05
POWER = 0.8
DECIDED = (conclusions.SUPPORTED, conclusions.CONTRADICTED)
# From records, with intervals of some level, to the claims by study.
Rows = Callable[[Parts], dict[str, list[Row]]]


def decide(rows: Rows, parts: Parts, earlier: list[dict]) -> list[dict]:
  """All claims at a look: what was decided at earlier ones stays.

  Args:
    rows: of the studies that go on, in order.
    parts: the records of this look's seeds.
    earlier: what this returned at the look before; [] at the first.

  Returns:
    The fields of each Row, and study, its name; seeds, at which it was decided or last
    looked at; level, the nominal coverage of its interval; alone, the Row by the
    intervals of `parts`, as if it were the only claim at the only look; needed, the
    look by which an effect of the size that matters is decided with a probability of
    POWER, None if none is planned, and power, at the last look; both None where nothing
    that matters was planned, and where seeds share M_0 or the held-out texts.
  """
  seeds, looks, alpha = len(parts.seeds), parts.paper.looks, FALSE
  alone = rows(parts)
  if seeds == 1:  # its intervals are those within the run, and nothing is corrected
    return _table(alone, alone, seeds, parts.confidence, earlier)
  while True:
    level = 1 - sequential.level(alpha, looks, seeds)
    found = _table(rows(parts.at(level)), alone, seeds, level, earlier)
    tested = [x for x in found if x['state'] != conclusions.NOT_TESTED]
    count = sum(x['state'] in DECIDED for x in tested)
    fewer = FALSE * max(1, count) / max(1, len(tested))
    if fewer >= alpha:
      if parts.shared_items:  # more seeds do not lessen what varies within a run
        return found
      return [x | _planned(x, alpha, looks) for x in found]
    alpha = fewer


def undecided(found: list[dict]) -> set[str]:
  """The studies with a claim that more seeds may decide."""
  return {x['study'] for x in found if x['state'] == conclusions.INCONCLUSIVE}


def _key(row: dict) -> tuple[str, str, str]:
  return row['study'], row['claim'], row['about']


def _table(
  rows: dict[str, list[Row]],
  alone: dict[str, list[Row]],
  seeds: int,
  level: float,
  earlier: list[dict],
) -> list[dict]:
  """Rows of this look, and of earlier ones where they were decided or have ended."""
  nothing = dict(seeds=seeds, level=level, needed=None, power=None)
  every = [
    {'study': study, 'alone': dataclasses.asdict(one)}
    | dataclasses.asdict(row)
    | nothing
    for study, of in rows.items()
    for row, one in zip(of, alone[study], strict=True)
  ]
  here = {_key(x): x for x in every}
  before = {
    _key(x): x for x in earlier if x['state'] in DECIDED or x['study'] not in rows
  }
  # In the order of the first look, to which nothing is added later.
  order = dict.fromkeys((*map(_key, earlier), *here))
  return [before.get(key) or here[key] for key in order]


def _planned(row: dict, alpha: float, looks: tuple[int, ...]) -> dict:
  """Power for the effect that matters, by the spread over seeds that was seen."""
  if not row['matters'] or row['low'] is None:
    return {}
  # Back from the interval, which may be on another scale: about its middle.
  quantile = special.stdtrit(row['seeds'] - 1, (1 + row['level']) / 2)
  half = (row['high'] - row['low']) / 2
  deviation = half / quantile * np.sqrt(row['seeds'])
  found = sequential.power(round(row['matters'] / deviation, 3), alpha, looks)
  enough = (seeds for seeds, x in found.items() if x >= POWER)
  return {'needed': next(enough, None), 'power': found[looks[-1]]}
