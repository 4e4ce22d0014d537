"""What every experiment of a paper shows: numbers, figures, tables, and one page."""

from collections.abc import Mapping
import pathlib

from coupling.config import Paper
from coupling.patch_records import Found
from coupling.records import SeedRecords
from coupling.studies import numbers
from coupling.studies import page
from coupling.studies.access import Bayes


def write(
  folder: pathlib.Path,
  paper: Paper,
  records: dict[str, dict[int, SeedRecords]],
  provenance: dict,
  bayes: Mapping[str, Bayes | None],
  maps: Mapping[str, Mapping[int, Found]],
) -> None:
  """Writes index.html, report.json and report.md.

  Args:
    folder: where to; it exists.
    paper: its experiments and studies.
    records: of every part and seed; seeds are the same in all parts.
    provenance: of provenance.of_parts.
    bayes: by part, what an explainer who knows the world and not the model states of
      the items of a seed (seed, records); None where there is none.
    maps: of the runs, as 'part/run', that were patched, by seed.

  Raises:
    WorkdirError: records do not fit together, or a number is not finite.
  """
  page.write(folder, numbers.numbers(paper, records, provenance, bayes, maps))
