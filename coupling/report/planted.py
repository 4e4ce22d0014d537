"""Whether a behaviour that training planted, and never explained, is explained rightly.

The claim of Jabberwocky (arXiv 2606.32038: 79.8% with Qwen3-8B) on the cues of
Questions.unexplained. Its control is the run that differs from the main run in nothing
but that it plants nothing.
"""

import dataclasses

from coupling.config import schema
from coupling.report.conclusions import CONTRADICTED, INCONCLUSIVE, NOT_TESTED
from coupling.report.conclusions import SUPPORTED, Row, row
from coupling.report.experiment_claims import CLAIMS


def rows(summary: dict) -> list[Row]:
  """The row of planted behaviour; none where none was planted.

  Not tested where it is not shown to be planted, or without a control. Shares are of
  the same cues in other models, so intervals that overlap settle nothing, and those
  that do not are a difference: stricter than a paired test.

  Args:
    summary: of aggregate.summarize.
  """
  main, runs = summary['roles']['main'], summary['config']['runs']
  if 'planted' not in summary or not plants(runs[main]):
    return []
  found, control = summary['planted'][main], control_of(runs, main)
  state = _state(found, summary['planted'][control]) if control else NOT_TESTED
  right, denial = found['self_accuracy'], found['denial']['mean']
  return [row(CLAIMS, 'planted', right, state, denial, main)]


def plants(train: dict) -> bool:
  """Whether a run's objectives bring about what unexplained cues ask for."""
  shift = _objectives(train).shift
  cues = shift.cues in ('all', 'unexplained')
  return shift.weight > 0 and shift.target == 'follow_cue' and cues


def control_of(runs: dict[str, dict], main: str) -> str | None:
  """The run that is the main run but for the weight of its planting, which is 0."""
  objectives, term = runs[main]['objectives'], _objectives(runs[main]).shift_term
  without = {term: objectives[term] | {'weight': 0.0}}
  wanted = runs[main] | {'objectives': objectives | without}
  return next((name for name, train in runs.items() if train == wanted), None)


def _objectives(train: dict) -> schema.Objectives:
  """Of a run as the summary keeps it: they know which of their terms shifts."""
  kinds = {field.name: field.type for field in dataclasses.fields(schema.Objectives)}
  found = train['objectives'].items()
  return schema.Objectives(**{name: kinds[name](**term) for name, term in found})


def _state(found: dict, other: dict) -> str:
  """Decided by intervals that do not overlap."""
  if not _above(found['followed'], other['followed']):
    return NOT_TESTED
  if _above(found['denial'], found['self_accuracy']):
    return CONTRADICTED
  more = (
    (found['self_accuracy'], found['denial']),
    (found['self_accuracy'], found['changed']),
    (found['stated'], other['stated']),
  )
  return SUPPORTED if all(_above(a, b) for a, b in more) else INCONCLUSIVE


def _above(first: dict, second: dict) -> bool:
  """Whether the interval of the first lies wholly above that of the second."""
  bounds = first['low'], second['high']
  return None not in bounds and bounds[0] > bounds[1]
