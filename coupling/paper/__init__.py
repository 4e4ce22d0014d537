"""What the experiments of a paper show: a table of claims, and its page."""

import pathlib

from coupling.paper import paper_page
from coupling.paper import study_numbers
from coupling.paper.paper_seeds import Parts


def write(
  folder: pathlib.Path, parts: Parts, provenance: dict, earlier: list[dict]
) -> None:
  """Writes index.html, report.json and report.md.

  Args:
    folder: where to; it exists.
    parts: the records.
    provenance: of provenance.of_rounds.
    earlier: the conclusions of the look before; [] at the first.

  Raises:
    WorkdirError: records do not fit together, or a number is not finite.
  """
  paper_page.write(folder, study_numbers.numbers(parts, provenance, earlier))
