"""Claims are decided together: false ones are few, and what is decided stays."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from coupling.config import paper_schema
from coupling.paper import claim_table
from coupling.report import conclusions
from coupling.report.conclusions import CONTRADICTED, INCONCLUSIVE, SUPPORTED
from coupling.statistics import across_seeds, sequential
from tests import studied

LOOKS = (5, 10, 20)
CLAIMS = {
  'effect': conclusions.Claim('An effect', 'above 0'),
  'large': conclusions.Claim('One that matters', 'above 0', matters=0.5),
}


@dataclasses.dataclass
class Drawn:
  """Stands for records: of each claim, a value a seed."""

  value_CxS: np.ndarray
  looks: tuple[int, ...] = LOOKS
  confidence: float = 0.95
  claim: str = 'effect'
  shared_items: bool = False

  @property
  def seeds(self) -> tuple[int, ...]:
    return tuple(range(self.value_CxS.shape[1]))

  @property
  def paper(self) -> 'Drawn':
    return self

  def at(self, confidence: float) -> 'Drawn':
    return dataclasses.replace(self, confidence=confidence)

  def first(self, seeds: int) -> 'Drawn':
    return dataclasses.replace(self, value_CxS=self.value_CxS[:, :seeds])


def rows(parts: Drawn) -> dict[str, list[conclusions.Row]]:
  """A study for each claim."""
  found = {}
  for i, value_S in enumerate(parts.value_CxS):
    results = [{'x': float(x)} for x in value_S]
    x = across_seeds.across_seeds(results, confidence=parts.confidence)['x']
    found[str(i)] = [conclusions.row(CLAIMS, parts.claim, x, conclusions.above(x))]
  return found


def through_all_looks(drawn: Drawn) -> list[dict]:
  earlier = []
  for seeds in drawn.looks:
    going_on = claim_table.undecided(earlier) if earlier else None
    here = lambda parts, going_on=going_on: {
      k: x for k, x in rows(parts).items() if going_on is None or k in going_on
    }
    earlier = claim_table.decide(here, drawn.first(seeds), earlier)
  return earlier


def test_one_claim_is_tested_at_the_level_of_its_look():
  drawn = Drawn(np.array([[1.0, 2.0, 3.0, 2.0, 2.5]]))
  [found] = claim_table.decide(rows, drawn, [])
  assert found['level'] == 1 - sequential.level(0.05, LOOKS, 5)
  [expected] = rows(drawn.at(found['level']))['0']
  assert (found['low'], found['high']) == (expected.low, expected.high)
  assert found['state'] == SUPPORTED and found['seeds'] == 5
  assert found['alone'] == dataclasses.asdict(rows(drawn)['0'][0])


def test_levels_are_benjamini_and_hochbergs():
  """By hand: the largest k with p_(k) <= k q / M; one look, p of Student's t."""
  rng = np.random.default_rng(0)
  for _ in range(5):
    shift_C = np.where(np.arange(12) < 5, 1.2, 0.0)
    drawn = Drawn(rng.standard_normal((12, 6)) + shift_C[:, None], looks=(6,))
    p_C = stats.ttest_1samp(drawn.value_CxS, 0, axis=1).pvalue
    adjusted_C = stats.false_discovery_control(p_C)
    found = claim_table.decide(rows, drawn, [])
    decided_C = np.array([x['state'] != INCONCLUSIVE for x in found])
    assert np.array_equal(decided_C, adjusted_C <= claim_table.FALSE)
    level = claim_table.FALSE * max(1, decided_C.sum()) / 12
    assert [x['level'] for x in found] == pytest.approx([1 - level] * 12)


def test_false_claims_are_few_at_all_looks_together():
  """Of what is decided at most 5% on the average; half of the claims are true."""
  rng, shares, power = np.random.default_rng(5), [], []
  for _ in range(60):
    true_C = np.arange(10) < 5
    drawn = Drawn(rng.standard_normal((10, 20)) + 1.5 * true_C[:, None])
    found = through_all_looks(drawn)
    decided_C = np.array([x['state'] in claim_table.DECIDED for x in found])
    shares.append(np.sum(decided_C & ~true_C) / max(1, decided_C.sum()))
    power.append(np.mean([x['state'] == SUPPORTED for x in found[:5]]))
  assert np.mean(shares) < 0.05 + 2 * np.std(shares) / np.sqrt(60)
  assert np.mean(power) > 0.9


def test_what_is_decided_stays_and_stops_its_study():
  value = np.random.default_rng(1).standard_normal((3, 20)) + [[4.0], [0.8], [0.0]]
  first = claim_table.decide(rows, Drawn(value).first(5), [])
  assert [x['state'] for x in first][0] == SUPPORTED
  going_on = claim_table.undecided(first)
  assert '0' not in going_on
  only = lambda parts: {k: x for k, x in rows(parts).items() if k in going_on}
  second = claim_table.decide(only, Drawn(value).first(10), first)
  assert second[0] | {'needed': 0, 'power': 0} == first[0] | {'needed': 0, 'power': 0}
  assert [x['study'] for x in second] == ['0', '1', '2']
  assert {x['seeds'] for x in second[1:]} == {10}


def test_an_effect_too_small_to_matter_is_contradicted():
  value = 0.05 * np.random.default_rng(1).standard_normal((1, 5))
  [found] = claim_table.decide(rows, Drawn(value, claim='large'), [])
  assert found['low'] < 0 < found['high'] < 0.5 and found['state'] == CONTRADICTED
  [unplanned] = claim_table.decide(rows, Drawn(value), [])
  assert unplanned['state'] == INCONCLUSIVE and unplanned['power'] is None


def test_power_is_for_the_effect_that_matters_by_the_spread_seen():
  value = np.array([[-1.2, 1.3, 0.2, -0.9, 1.1]])
  [found] = claim_table.decide(rows, Drawn(value, claim='large'), [])
  deviation = np.std(value, ddof=1)
  told = sequential.power(round(0.5 / deviation, 3), claim_table.FALSE, LOOKS)
  assert found['power'] == told[20] and found['needed'] is None
  [sharp] = claim_table.decide(rows, Drawn(value / 3, claim='large'), [])
  assert sharp['needed'] in LOOKS and sharp['power'] > 0.8
  shared = Drawn(value / 3, claim='large', shared_items=True)
  assert claim_table.decide(rows, shared, [])[0]['power'] is None


def test_what_is_run_next_is_what_undecided_studies_need():
  paper, _ = studied.paper(5)
  found = paper.only((26,), {'access'})
  assert set(found.parts) == {'main', 'init'} and set(found.studies) == {'access'}
  assert set(found.parts['main'].runs) == {'kl', 'no_kl', 'sibling', 'shuffled'}
  assert found.parts['init'].runs.keys() == {'outsider'} and found.seeds == (26,)
  begun = paper.only((26,), {'shift'})
  assert {'begun', 'then', 'quiet', 'after'} <= set(begun.parts['main'].runs)
  assert 'init' not in begun.parts
  assert paper.only((26,), set()).parts.keys() == {'main'}  # for the controls
  other = dataclasses.replace(paper, parts={'request': paper.parts['main']}, studies={})
  assert other.only((26,), set()).parts['request'].runs.keys() == {
    'kl', 'no_kl', 'sibling', 'shuffled'
  }  # fmt: skip
  assert paper.only(paper.seeds, paper.studies).parts['main'].runs.keys() <= (
    paper.parts['main'].runs.keys()
  )


def test_looks_end_with_all_seeds():
  assert paper_schema.planned(LOOKS, 10) == LOOKS
  assert paper_schema.planned(LOOKS, 7) == (5, 7)
  assert paper_schema.planned(LOOKS, 30) == (5, 10, 20, 30)
