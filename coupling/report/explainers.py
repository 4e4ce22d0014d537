"""Who explains whom: what every explainer states, against every model's behaviour."""

import collections
import dataclasses

from coupling.elicit import columns
from coupling.elicit.explanation import Explanation
from coupling.report.records import BASE, SeedRecords
from coupling.statistics import baselines
from coupling.statistics import contrasts
from coupling.statistics import field_metrics
from coupling.statistics import scores
from coupling.statistics.items import Items

ROLES = ('main', 'unregularised', 'sibling', 'shuffled')
BASELINE_STATISTICS = (
  *('self_accuracy', 'orig_accuracy', 'gap'),
  *('balanced_self', 'balanced_orig', 'balanced_gap'),
  *('gap_answer', 'moved', 'reliance', 'reliance_answer'),
)


def explainers(items: Items, s: SeedRecords, run: str) -> dict[str, Explanation]:
  """Statements of explainers that were not trained, made for one model."""
  # In an audit M_0 is the same model, or one that was not asked for explanations.
  audit = list(s.items[run]) == [0] or s.checkpoints
  before = {} if audit else {BASE: s.orig.stated}
  alone = s.input_only(run)
  return before | {
    'majority': baselines.majority(s.train_labels[run], items),
    'denial': baselines.denial(items),
    'cue_parrot': baselines.cue_parrot(items, items.surface['cue_option']),
    'composition': baselines.with_own_answer(s.orig.truth, items),
    'input_only': alone,
    'input_and_answer': baselines.with_own_answer(alone, items),
  }


def cross(roles: dict[str, str], s: SeedRecords) -> dict:
  """Each explainer's statements against each model's behaviour, at the final step.

  Those of M_0 and of the runs are what these models said. Baselines that know an own
  answer have that of the column's model: so composition, v' of M_0 with it, is always
  right about M_0.
  """
  models = [BASE, *(roles[k] for k in ROLES[:3] if k in roles)]
  result = collections.defaultdict(dict)
  for name in models:
    behaver = s.final(name)
    stated = {run: s.final(run).stated for run in roles.values()}
    for explainer, statements in (
      stated | explainers(behaver, s, roles['main'])
    ).items():
      items = dataclasses.replace(behaver, stated=statements)
      accuracy = contrasts.cross_accuracy(items, behaver)
      result[explainer][name] = accuracy._asdict()
  return dict(result)


def baseline_scores(run: str, main: str, s: SeedRecords) -> dict:
  """Untrained explainers of a run's final model, scored like its own statements."""
  items = s.final(run)
  result = {}
  for name, stated in explainers(items, s, run).items():
    explained = dataclasses.replace(items, stated=stated)
    found = scores.coupling(explained, s.orig)
    result[name] = {key: found[key] for key in BASELINE_STATISTICS}
    result[name]['field'] = field(run, main, s, stated)
  return result


def field(
  run: str, main: str, s: SeedRecords, stated: Explanation | None = None
) -> dict:
  """The field's metrics of a run's final statements, or of others in their place.

  The observer who reads inputs alone has learned from the labels of the run `main`.
  """
  items, readiness_N, distance_N = s.final(run), None, None
  logprobs_NxM = s.logprobs(run, columns.STATEMENTS)
  if stated is not None:
    items = dataclasses.replace(items, stated=stated)
  elif logprobs_NxM is not None:
    readiness_N = field_metrics.readiness(logprobs_NxM)
  answers = [s.logprobs(run, name) for name in columns.ANSWERS]
  if not any(x is None for x in answers):
    distance_N = field_metrics.total_variation(*answers)
  observer_N = s.input_only(main).answer_N
  return field_metrics.metrics(items, s.orig, observer_N, readiness_N, distance_N)
