"""What is decided from intervals, and how runs of several parts are named."""

import dataclasses

import pytest

from coupling.paper import paper_seeds
from coupling.report import conclusions
from coupling.report.conclusions import CONTRADICTED, INCONCLUSIVE, SUPPORTED
from coupling.runtime.workdir import WorkdirError
from tests import studied
from tests.studied import small


def statistic(low, high):
  return {'mean': None if low is None else (low + high) / 2, 'low': low, 'high': high}


ABOVE, BELOW = statistic(0.05, 0.15), statistic(-0.15, -0.05)
AROUND, NONE = statistic(-0.05, 0.15), {'mean': 0.3, 'low': None, 'high': None}


@pytest.mark.parametrize(
  ('found', 'above'),
  [
    (ABOVE, SUPPORTED),
    (BELOW, CONTRADICTED),
    (AROUND, INCONCLUSIVE),
    (NONE, INCONCLUSIVE),
  ],
)
def test_only_intervals_decide(found, above):
  """A mean of 0.3 without an interval decides nothing."""
  assert conclusions.above(found) == above
  assert conclusions.below(found) == conclusions.opposite(above)
  assert conclusions.opposite(INCONCLUSIVE) == INCONCLUSIVE


def test_the_threshold_is_what_is_compared_with():
  assert conclusions.above(ABOVE, 0.04) == SUPPORTED
  assert conclusions.above(ABOVE, 0.1) == INCONCLUSIVE
  assert conclusions.above(ABOVE, 0.2) == CONTRADICTED


@pytest.mark.parametrize(
  ('low', 'high', 'state'),
  [
    (0.65, 0.75, SUPPORTED),
    (0.55, 0.75, INCONCLUSIVE),
    (0.65, 0.85, INCONCLUSIVE),
    (0.1, 0.95, INCONCLUSIVE),
    (0.4, 0.55, CONTRADICTED),
    (0.85, 0.9, CONTRADICTED),
    (None, None, INCONCLUSIVE),
  ],
)
def test_about_asks_for_the_whole_interval(low, high, state):
  assert conclusions.between(statistic(low, high), 0.6, 0.8) == state


@pytest.mark.parametrize(
  ('states', 'all_of_them'),
  [
    ((SUPPORTED, SUPPORTED), SUPPORTED),
    ((SUPPORTED, INCONCLUSIVE), INCONCLUSIVE),
    ((SUPPORTED, INCONCLUSIVE, CONTRADICTED), CONTRADICTED),
    ((), INCONCLUSIVE),
  ],
)
def test_every_part_of_a_claim_must_agree(states, all_of_them):
  assert conclusions.every(states) == all_of_them


RUNS = {'kl': studied.Run(studied.GOOD), 'no_kl': studied.Run(studied.STALE)}


def test_contrasts_are_paired_by_seed():
  parts = small(RUNS)
  found = parts.contrast('main/kl', 'main/no_kl', ('gap', 'reliance.difference'), 0.5)
  gaps = [
    [parts.final(f'main/{run}', seed)['gap']['value'] for seed in (1, 2, 3)]
    for run in RUNS
  ]
  expected = [0.5 * a - b for a, b in zip(*gaps)]
  assert found['gap']['per_seed'] == pytest.approx(expected)
  assert found['reliance_difference']['mean'] > 0.6
  whole = parts.contrast('main/kl', 'main/no_kl', ('gap',))
  assert whole['gap']['per_seed'] == pytest.approx([a - b for a, b in zip(*gaps)])


def test_a_number_that_one_seed_lacks_has_no_contrast():
  still = small({'kl': studied.Run(studied.GOOD, drift=0.0), 'b': RUNS['no_kl']})
  found = still.contrast('main/kl', 'main/b', ('reliance.difference',))
  assert found['reliance_difference']['mean'] is None


def test_what_is_kept_of_a_run_is_by_hand():
  parts = small(RUNS)
  items, orig = parts.items('main/kl', 2), parts.orig('main/kl', 2)
  found = parts.final('main/kl', 2)
  own_N, target_N = items.right(items.truth), items.right(orig.truth)
  assert found['target_gap']['value'] == pytest.approx(own_N.mean() - target_N.mean())
  right_N = (items.behavior_N == items.truth.answer_N) & (items.truth.changed_N == 0)
  stale_N = (items.behavior_N == orig.truth.answer_N) & (orig.truth.changed_N == 0)
  gap = right_N.mean() - stale_N.mean()
  assert found['denial']['gap']['value'] == pytest.approx(gap)
  assert found['denial']['self_accuracy']['value'] == pytest.approx(right_N.mean())


def test_parts_of_other_seeds_are_refused():
  parts = small(RUNS)
  records = parts.records | {'init': {2: parts.records['main'][2]}}
  with pytest.raises(WorkdirError, match=r"part 'init' has the seeds \(2,\)"):
    paper_seeds.Parts(parts.paper, records, {}, {})


def test_steps_are_those_of_every_seed():
  parts = small({'kl': studied.Run(studied.GOOD, steps=(0, 10, 20))})
  del parts.records['main'][2].items['kl'][10]
  assert parts.steps('main/kl') == [0, 20]
  assert dataclasses.is_dataclass(parts.train('main/kl'))


def test_the_first_part_is_the_main_one_where_none_has_that_name():
  parts = small(RUNS)
  parts.paper.parts['request'] = parts.paper.parts.pop('main')
  parts.records['request'] = parts.records.pop('main')
  alone = paper_seeds.Parts(parts.paper, parts.records, {}, {})
  assert alone.role('main') == 'request/kl' and alone.role('sibling') is None
  size = alone.items('request/kl', 1).group_N.size
  assert alone.entry('request/kl')['n']['mean'] == size
