"""What the experiments of a paper show: a table of claims, and its page."""

from collections.abc import Mapping
import pathlib

from coupling.config.paper_schema import Paper
from coupling.paper import paper_page
from coupling.paper import study_numbers
from coupling.paper.access import Bayes
from coupling.patching.outcomes import Found
from coupling.report.records import SeedRecords


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
  paper_page.write(
    folder, study_numbers.numbers(paper, records, provenance, bayes, maps)
  )
