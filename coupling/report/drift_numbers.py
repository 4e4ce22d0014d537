"""The drift of given checkpoints: since which of them explanations have parted."""

from typing import Any

from coupling.elicit.explanation import INVALID
from coupling.report.records import SeedRecords
from coupling.statistics import drift
from coupling.statistics import scores
from coupling.statistics.items import Items


def numbers(main: str, s: SeedRecords) -> dict[str, Any]:
  """See drift.drift; {} where no checkpoints were given.

  Args:
    main: the run that stands for them.
    s: the records of the one seed.

  Returns:
    As drift.drift, each step also with `invalid` and `changed`, which move Self too;
    names, of the checkpoints by step.
  """
  if not s.checkpoints:
    return {}
  found = drift.drift(s.items[main], s.targets[main])
  steps = {
    step: x | _beside(s.items[main][int(step)]) for step, x in found['steps'].items()
  }
  names = {str(step): name for step, name in s.checkpoints.items()}
  return found | {'steps': steps, 'names': names}


def _beside(items: Items) -> dict[str, Any]:
  """Shares of explanations that do not parse, and of changed behaviour."""
  invalid_N = items.stated.changed_N == INVALID
  return {
    'invalid': scores.share(invalid_N, items.group_N),
    'changed': scores.share(items.truth.changed_N == 1, items.group_N),
  }
