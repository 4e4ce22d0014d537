"""The numbers of the last checkpoint of a report, for programs: --fail_below."""

import json
import pathlib
from typing import Any

from coupling.config.errors import ConfigError

FAILED = 3  # exit status
_NUMBERS = {
  'self': 'self_accuracy',
  'orig': 'orig_accuracy',
  'gap': 'gap',
  'similarity': 'behavior_similarity',
  'invalid': 'invalid',
}


def check(e: Any) -> None:
  """Raises ConfigError where what is run will have no such numbers."""
  if not getattr(e, 'report', None) or not e.report.main:
    raise ConfigError(
      '--fail_below is about one experiment with a report: leave it out, or name '
      'report.main'
    )


def read(workdir: pathlib.Path, limit: float) -> dict[str, Any]:
  """What the report in a workdir says of the last checkpoint of its main run.

  Args:
    workdir: of an experiment whose report is finished.
    limit: share from 0 to 1.

  Returns:
    step and checkpoint (its folder; None where none were given); self, orig, gap,
    similarity and invalid, each {mean, low, high}, shares from 0 to 1; parted and
    dissimilar: the step since which explanations, and behaviour, are others, or None;
    fail_below: the limit; failed: whether the whole interval of Self lies below it,
    or, where it has none, Self itself.

  Raises:
    ConfigError: there is no report of one experiment.
  """
  path = workdir / 'report' / 'report.json'
  if not path.exists():
    raise ConfigError(
      f'--fail_below: {path} is missing: it is about one experiment with a report, not '
      'about a paper'
    )
  report = json.loads(path.read_text())
  run = report['runs'][report['roles']['main']]
  step, drift = run['steps'][-1], report.get('drift')
  numbers = {
    name: {k: run['final'][key][k] for k in ('mean', 'low', 'high')}
    for name, key in _NUMBERS.items()
  }
  bound = numbers['self']['high']
  bound = numbers['self']['mean'] if bound is None else bound
  return {
    'step': step,
    'checkpoint': drift and drift['names'][str(step)],
    **numbers,
    **{key: drift and drift[key]['since'] for key in ('parted', 'dissimilar')},
    'fail_below': limit,
    'failed': bound < limit,
  }
