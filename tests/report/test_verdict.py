"""What is concluded: rows, their states, and which headline they allow."""

import copy
import shutil

import pyarrow.parquet as pq
import pytest

from coupling.report import aggregate, experiment_claims, verdict
from coupling.report.conclusions import CONTRADICTED, INCONCLUSIVE, NOT_TESTED
from coupling.report.conclusions import SUPPORTED
from tests import recorded

DECIDING = 'gap', 'reliance', 'sibling', 'other_explainer', 'shuffled', 'input_only'


def summarize(workdir, seeds=1, **planted):
  recorded.build(workdir, seeds, **planted)
  return aggregate.summarize(recorded.experiment(seeds), workdir)


def concluded(summary):
  """Rows by claim, of the main run where there are several."""
  return {x['claim']: x for x in reversed(verdict.conclude(summary))}


def states(summary):
  return {claim: x['state'] for claim, x in concluded(summary).items()}


def headline(summary):
  """Its key and state; the sentence is that of the table."""
  first = verdict.conclude(summary)[0]
  assert experiment_claims.HEADLINES[first['about']] == (first['state'], first['text'])
  return first['about']


def statistic(mean, low, high):
  return {'mean': mean, 'low': low, 'high': high, 'per_seed': [mean]}


ABOVE, BELOW = statistic(0.1, 0.05, 0.15), statistic(-0.1, -0.15, -0.05)
AROUND, UNKNOWN = statistic(0.01, -0.05, 0.07), statistic(0.0, None, None)
STATES = {
  SUPPORTED: ABOVE, CONTRADICTED: BELOW, INCONCLUSIVE: AROUND, NOT_TESTED: UNKNOWN
}  # fmt: skip
OF_MAIN = 'runs__kl__final__'
OF_CHECKS = {
  'reliance': f'{OF_MAIN}reliance_answer__difference',
  'sibling': 'sibling__explanations__beyond_shared__smaller',
  'shuffled': 'contrasts__shuffled__reliance_answer_difference',
  'other_explainer': 'contrasts__other_explainer__reliance_answer_self',
  'input_only': 'contrasts__input_only__reliance_answer_self',
}


def changed(summary, **statistics):
  """The summary with other statistics, by path (a__b__c)."""
  result = copy.deepcopy(summary)
  for path, value in statistics.items():
    *nodes, last = path.split('__')
    node = result
    for key in nodes:
      node = node[key]
    node[last] = value
  return result


def of_main(summary, **statistics):
  return changed(summary, **{OF_MAIN + k: x for k, x in statistics.items()})


def test_planted_self_is_called_coupling(summary):
  assert headline(summary) == 'shown'
  found = states(summary)
  for claim in (*DECIDING, 'surface', 'balanced_gap', 'whole_reliance', 'classes'):
    assert found[claim] == SUPPORTED, claim
  assert found['similarity'] == CONTRADICTED  # 64%, where the paper asks for 70


def test_a_row_holds_the_numbers_of_its_statistic(summary):
  rows, main = concluded(summary), summary['runs']['kl']['final']
  denial = summary['baselines']['denial']
  for claim, found, beside in (
    ('gap', main['gap'], denial['gap']['mean']),
    ('reliance', main['reliance_answer']['difference'], None),
    ('sibling', summary['sibling']['explanations']['beyond_shared']['smaller'], None),
    ('balanced_gap', main['balanced_gap'], denial['balanced_gap']['mean']),
    ('gap_answer', main['gap_answer'], denial['gap_answer']['mean']),
    ('similarity', main['behavior_similarity'], verdict.SIMILARITY),
  ):
    row = rows[claim]
    numbers = [found[k] for k in ('mean', 'low', 'high')]
    assert [row['number'], row['low'], row['high']] == numbers, claim
    assert row['reference'] == beside, claim
  assert rows['seeds']['number'] == 3
  deciding = [k for k, x in rows.items() if x['decides']]
  assert set(deciding) == {*DECIDING, 'seeds'}
  assert list(verdict.checks(summary)) == list(DECIDING)


def test_planted_labels_are_called_a_failure(tmp_path):
  summary = summarize(tmp_path, kl=recorded.ORIG)
  assert headline(summary) == 'failed'
  found = states(summary)
  assert found['headline'] == found['whole_reliance'] == CONTRADICTED
  assert found['seeds'] == NOT_TESTED


def test_denial_is_not_called_coupling(tmp_path):
  """Knowing only the own answer passes no check of the headline but the raw gap.

  And one whose other side lies below 0 here: where this model moved, its sibling's
  answers speak against the own v'.
  """
  recorded.build(tmp_path)
  for run in recorded.RUNS:
    folder = tmp_path / 'seed0' / run / 'evaluate'
    tables_ = {p.stem: pq.read_table(p).to_pydict() for p in folder.glob('*.parquet')}
    shutil.rmtree(folder)
    for table in tables_.values():
      table['stated_answer'] = table['behavior']
      table['stated_changed'] = [0] * len(table['behavior'])
    recorded.finish(folder, 'evaluate', tables_)
  summary = aggregate.summarize(recorded.experiment(1), tmp_path)
  known = of_main(summary, gap=ABOVE, balanced_gap=ABOVE, gap_answer=ABOVE)
  assert headline(known) == 'gap_alone'
  others = [x for x in DECIDING[1:] if x != 'other_explainer']
  assert verdict.failed(known) == others
  assert SUPPORTED not in [states(known)[claim] for claim in others]


def test_planted_chance_is_not_called_coupling(tmp_path):
  summary = summarize(tmp_path, kl=recorded.CHANCE, no_kl=recorded.CHANCE)
  assert headline(summary) == 'gap_around_zero'
  found = states(summary)
  assert found['gap'] == found['unregularised'] == INCONCLUSIVE


def test_without_drift_nothing_is_tested(tmp_path):
  summary = summarize(tmp_path, drift=0.0)
  assert headline(summary) == 'no_interval'
  assert states(summary)['whole_reliance'] == NOT_TESTED


def test_collapse_of_behaviour_is_a_row(tmp_path):
  summary = summarize(tmp_path, drift=1.0, change=0.02)
  found = [x for x in verdict.conclude(summary) if x['claim'] == 'classes']
  assert [x['about'] for x in found] == ['kl', 'no_kl']
  assert {x['state'] for x in found} == {CONTRADICTED}
  rates = summary['runs']['kl']['final']['change_rate']
  assert found[0]['number'] == rates['current']['mean'] < found[0]['reference']


@pytest.mark.parametrize('state', STATES)
def test_gap_leads(summary, state):
  found = of_main(summary, gap=STATES[state])
  assert states(found)['gap'] == state
  assert (headline(found) == 'shown') == (state == SUPPORTED)


@pytest.mark.parametrize('state', [CONTRADICTED, INCONCLUSIVE, NOT_TESTED])
@pytest.mark.parametrize('claim', OF_CHECKS)
def test_a_check_that_fails_decides_the_headline(summary, claim, state):
  found = changed(summary, **{OF_CHECKS[claim]: STATES[state]})
  assert states(found)[claim] == state
  assert headline(found) == 'gap_alone' and verdict.failed(found) == [claim]


@pytest.mark.parametrize('state', STATES)
def test_labels_of_another_model_are_held_against_the_own_behaviour(summary, state):
  weights = dict(self=ABOVE, target=AROUND, difference=STATES[state])
  found = summary | {'trained_labels': {'reliance_answer': weights}}
  assert states(found)['other_labels'] == state
  assert headline(found) == ('shown' if state == SUPPORTED else 'gap_alone')


def test_one_seed_or_a_warning_shows_nothing(summary):
  assert headline(summary | {'seeds': [0]}) == 'unproven'
  poor = of_main(summary, invalid=statistic(0.2, 0.1, 0.3))
  assert headline(poor) == 'unproven' and states(poor)['invalid'] == 'warning'


def test_an_audit_is_not_called_coupling(summary):
  assert headline(summary | {'audit': True}) == 'of_audit'


@pytest.mark.parametrize(
  'path',
  [
    *(f'{OF_MAIN}{x}' for x in ('balanced_gap', 'gap_answer', 'reliance__difference')),
    *(f'{OF_MAIN}{x}' for x in ('shuffled__corrected_gap', 'moved__difference')),
    *('sibling__explanations__difference', 'contrasts__shuffled__gap'),
    'contrasts__shuffled__reliance_difference',
  ],
)
def test_what_denial_can_reach_is_not_in_the_headline(summary, path):
  found = changed(summary, **{path: BELOW})
  assert verdict.conclude(found)[0] == verdict.conclude(summary)[0]


@pytest.mark.parametrize(
  'missing', [['sibling'], ['shuffled'], ['sibling', 'shuffled']]
)
def test_missing_controls_are_not_tested_and_nothing_is_shown(summary, missing):
  without = copy.deepcopy(summary)
  for role in missing:
    del without['roles'][role]
    without.pop(role, None)
    without['contrasts'].pop(role, None)
  assert headline(without) == 'unproven'
  assert {states(without)[role] for role in missing} == {NOT_TESTED}
  assert headline(of_main(without, reliance_answer__difference=AROUND)) == 'gap_alone'


@pytest.mark.parametrize(
  ('reliance', 'key'),
  [
    (ABOVE, 'measures_disagree'),
    (BELOW, 'failed'),
    (AROUND, 'labels_more_often'),
    (UNKNOWN, 'labels_more_often'),
  ],
)
def test_a_gap_below_zero_is_held_against_reliance(summary, reliance, key):
  found = of_main(summary, gap=BELOW, reliance_answer__difference=reliance)
  assert headline(found) == key


@pytest.mark.parametrize('state', STATES)
def test_the_unregularised_run_is_decided_on_its_reliance(summary, state):
  """A gap on v' is no evidence: denial has one."""
  without = 'runs__no_kl__final__'
  for claim, path in (
    ('unregularised', 'reliance__difference'),
    ('unregularised_answer', 'reliance_answer__difference'),
    ('unregularised_self', 'reliance_answer__self'),
  ):
    found = changed(
      summary, **{without + path: STATES[state], f'{without}gap_answer': ABOVE}
    )
    assert states(found)[claim] == state
    assert headline(found) == 'shown'


@pytest.mark.parametrize(
  ('similarity', 'state'),
  [
    (statistic(0.8, 0.75, 0.85), SUPPORTED),
    (statistic(0.5, 0.45, 0.55), CONTRADICTED),
    (statistic(0.7, 0.65, 0.75), INCONCLUSIVE),
    (statistic(0.7, None, None), NOT_TESTED),
  ],
)
def test_similarity_is_held_against_the_paper(summary, similarity, state):
  found = of_main(summary, behavior_similarity=similarity)
  assert states(found)['similarity'] == state


def test_scored_statements_have_no_say(alone, tmp_path):
  scored = summarize(tmp_path, scored=recorded.CHANCE)
  assert verdict.conclude(scored) == verdict.conclude(alone)
