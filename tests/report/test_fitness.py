"""Variety of labels and statements: numbers by hand, and warnings at their limits."""

import copy

import numpy as np
import pyarrow.parquet as pq
import pytest

from configs import world as world_config
from coupling.elicit.explanation import INVALID, Explanation, phi
from coupling.report import aggregate, conclusions, fitness, verdict
from coupling.statistics import variety
from data import universe, world, world_texts
from tests import recorded, simulated

BEYOND = 1e-9


def explanation(*pairs):
  """From (answer, changed), one an item."""
  return Explanation(*(np.array(x) for x in zip(*pairs, strict=True)))


MIXED = explanation(
  *((0, 0), (0, 0), (1, 0), (2, 0)),  # unchanged, of three answers
  *((1, 1), (1, 1), (0, 1), (2, 1)),
)


# Numbers.


@pytest.mark.parametrize(
  ('states_answer', 'commonest', 'bits', 'every'),
  [
    (False, 0.5, 1.75, 5),  # "unchanged" is one label: shares 1/2, 1/4, 1/8, 1/8
    (True, 0.25, 2.5, 8),  # it names an answer: 1/4, 1/4 and four of 1/8
  ],
)
def test_labels_by_hand(states_answer, commonest, bits, every):
  normalised, effective = map(pytest.approx, (bits / np.log2(every), 2**bits))
  assert variety.labels(MIXED, states_answer, options=4) == dict(
    n=8,
    changed=0.5,
    commonest=commonest,
    normalised=normalised,
    bits=bits,
    effective=effective,
  )


@pytest.mark.parametrize('states_answer', [True, False])
def test_one_label_has_no_entropy(states_answer):
  found = variety.labels(explanation(*[(2, 1)] * 5), states_answer, options=3)
  assert found['commonest'] == found['effective'] == found['changed'] == 1.0
  assert str(found['bits']) == str(found['normalised']) == '0.0'  # and not -0.0


def test_no_labels_are_refused():
  with pytest.raises(ValueError, match='no labels'):
    variety.labels(Explanation(np.zeros(0, int), np.zeros(0, int)), True, 4)


def test_statements_by_hand():
  items = simulated.make(
    behavior=[0, 1, 2, 0, 1],
    counterfactual=[0, 1, 0, 1, 0],  # unchanged twice, to 0 twice, to 1 once
    stated=[(0, 0), (3, 0), (1, 0), (1, 1), (INVALID, INVALID)],
  )
  found = variety.statements(items, explanation((1, 1), (1, 1), (1, 1), (0, 0)))
  assert found == {
    'commonest': 3 / 5,  # unchanged, whatever answer it names
    'majority': 1 / 5,  # changed to 1
    'labels': 3 / 4,
    'behavior': 2 / 5,
  }
  # A class that is never stated, and nothing that parses.
  assert variety.statements(items, explanation((7, 1)))['majority'] == 0
  silent = simulated.replace_stated(items, explanation(*[(INVALID, INVALID)] * 5))
  assert variety.statements(silent, MIXED)['commonest'] == 0


def test_summary_counts_the_labels_and_statements_of_every_seed(three, summary):
  for seed in range(3):
    root = three / f'seed{seed}'
    rows = pq.read_table(root / 'label' / 'train-000000000.parquet').to_pylist()
    kinds = [
      (x['counterfactual_behavior'], x['behavior'] != x['counterfactual_behavior'])
      for x in rows
    ]
    counts = [kinds.count(kind) / len(kinds) for kind in set(kinds)]
    bits = -sum(p * np.log2(p) for p in counts)
    for run in recorded.RUNS:
      found = summary['runs'][run]['labels']
      assert found['n']['per_seed'][seed] == 240
      for key, want in (
        ('changed', sum(changed for _, changed in kinds) / 240),
        ('commonest', max(counts)),
        ('bits', bits),
        ('effective', 2**bits),
        ('normalised', bits / 3),  # eight labels of four options
      ):
        assert found[key]['per_seed'][seed] == pytest.approx(want), key
      last = pq.read_table(root / run / 'evaluate' / 'step-000000020.parquet')
      said = [x['stated_changed'] and 1 + x['stated_answer'] for x in last.to_pylist()]
      commonest = max(map(said.count, said)) / 240
      found = summary['runs'][run]['statements']['commonest']
      assert found['per_seed'][seed] == pytest.approx(commonest)


def test_intervals_over_seeds_stay_within_a_share(summary):
  for name in ('changed', 'commonest', 'normalised'):
    found = summary['runs']['kl']['labels'][name]
    assert 0 < found['low'] < found['mean'] < found['high'] < 1
  bits = summary['runs']['kl']['labels']['bits']
  half = 4.302652729911275 * np.std(bits['per_seed'], ddof=1) / np.sqrt(3)
  assert bits['high'] == pytest.approx(bits['mean'] + half)


# Warnings.


def warned(summary, *runs, **values):
  """Warnings once runs have these values in every seed: group__name=value or a list."""
  result = copy.deepcopy(summary)
  for path, value in values.items():
    group, name = path.split('__')
    seeds = np.broadcast_to(value, 3).tolist()
    for run in runs or recorded.RUNS:
      node = result['runs'][run].setdefault(group, {})
      node[name] = {
        'mean': np.mean(seeds),
        'low': None,
        'high': None,
        'per_seed': seeds,
      }
  rows = verdict.conclude(result)
  return {x['claim']: x for x in rows if x['state'] == conclusions.WARNING}


def test_planted_variety_is_not_warned_of(summary):
  assert not warned(summary)


@pytest.mark.parametrize(
  ('name', 'limit', 'beyond', 'claim'),
  [
    ('changed', 0.05, -BEYOND, 'few_changed'),
    ('changed', 0.95, BEYOND, 'many_changed'),
    ('commonest', 0.9, BEYOND, 'one_label'),
  ],
)
def test_labels_are_warned_of_just_beyond_each_limit(
  summary, name, limit, beyond, claim
):
  assert not warned(summary, **{f'labels__{name}': limit})
  found = warned(summary, **{f'labels__{name}': limit + beyond})
  assert list(found) == [claim]
  assert found[claim]['number'] == limit + beyond
  assert found[claim]['reference'] == limit
  # What holds of several runs alike is one row.
  assert found[claim]['about'] == 'kl, no_kl, sibling, shuffled'


def test_a_single_seed_is_enough_and_its_number_is_given(summary):
  found = warned(summary, 'no_kl', labels__changed=[0.4, 0.4, 0.01])['few_changed']
  assert found['about'] == 'no_kl' and found['number'] == 0.01


def test_collapsed_explanations_are_warned_of_just_beyond_the_limit(summary):
  one = dict(statements__majority=0.96)
  assert not warned(summary, 'kl', statements__commonest=0.95, **one)
  found = warned(summary, 'kl', statements__commonest=0.95 + BEYOND, **one)
  assert list(found) == ['collapsed_majority']
  assert found['collapsed_majority']['about'] == 'kl'


def test_what_is_no_collapse_of_the_explainer(summary):
  one = dict(statements__commonest=0.99, statements__majority=0.99)
  # The labels are one class themselves: that is said of the labels.
  assert not warned(summary, 'kl', statements__labels=0.95 + BEYOND, **one)
  assert warned(summary, 'kl', statements__labels=0.95, **one)
  # Labels that are noise can teach nothing but the majority.
  assert not warned(summary, 'shuffled', **one)


def test_another_statement_than_the_majority_and_a_collapsed_behaviour_are_said(
  summary,
):
  found = warned(
    summary,
    'no_kl',
    statements__commonest=[0.3, 0.97, 0.97],
    statements__majority=0.02,
    statements__behavior=0.98,
  )
  assert list(found) == ['collapsed', 'one_behavior']
  assert [x['number'] for x in found.values()] == [0.97, 0.98]


def test_invalid_explanations_are_warned_of_just_beyond_the_limit(summary):
  assert not warned(summary, 'sibling', final__invalid=0.05)
  found = warned(summary, 'sibling', final__invalid=0.05 + BEYOND)
  assert list(found) == ['invalid'] and found['invalid']['about'] == 'sibling'


@pytest.mark.parametrize('asked', ['prompt', 'counterfactual'])
def test_replies_that_name_no_option_are_warned_of(summary, asked):
  at, beyond = ({f'unnamed__{asked}': [0.0, 0.1 + x, 0.0]} for x in (0, BEYOND))
  assert not warned(summary, 'kl', **at)
  assert list(warned(summary, 'kl', **beyond)) == ['unnamed']


def test_explanations_worse_than_denial_are_warned_of_where_that_is_sure(summary):
  denial = summary['baselines']['denial']['balanced_self']['mean']

  def claims(high):
    result = copy.deepcopy(summary)
    found = dict(mean=denial - 0.1, low=denial - 0.2, high=high)
    result['runs']['kl']['final']['balanced_self'] |= found
    rows = verdict.conclude(result)
    return [x for x in rows if x['claim'] == 'below_denial']

  assert not claims(denial)
  [row] = claims(denial - BEYOND)
  assert (row['number'], row['reference']) == (denial - 0.1, denial)


def left_out(summary, held_out, planted=0):
  """Shares in the rows of once so many pairs of the seeds were too long."""
  result = copy.deepcopy(summary)
  for i, found in enumerate(result['provenance']['too_long'].values()):
    found |= {'test': held_out[i], 'train': 1_500}
  if planted:
    result['planted'] = {'kl': {'n': {'per_seed': [planted] * len(held_out)}}}
  rows = fitness.warnings(result)
  return [x.number for x in rows if x.claim == 'left_out']


def test_pairs_left_out_are_warned_of_just_beyond_the_limit(summary):
  """Of 240 held-out items that were kept, 12 are 4.8% and 13 are 5.1% of the whole."""
  assert summary['items'] == [240] * 3
  assert not left_out(summary, [0, 0, 0])
  assert not left_out(summary, [12, 3, 0])
  assert left_out(summary, [13, 3, 0]) == [13 / 253]


def test_pairs_of_planted_cues_are_among_those_kept(summary):
  assert not left_out(summary, [13, 3, 0], planted=240)


def test_planted_lack_of_variety_is_warned_of(tmp_path):
  """From records to a row: labels that never change, explained as such."""
  recorded.build(tmp_path, base_change=0.0)
  found = aggregate.summarize(recorded.experiment(1), tmp_path)
  assert found['runs']['kl']['labels']['changed']['per_seed'] == [0.0]
  row = next(x for x in verdict.conclude(found) if x['claim'] == 'few_changed')
  assert row['state'] == conclusions.WARNING and row['number'] == 0.0


@pytest.mark.parametrize('seed', [1, 2])
def test_the_world_has_variety_for_a_reader_who_knows_it(summary, seed):
  task = world.Config(behavior=world_config.get_config().task.behavior, train_pairs=1)
  drawn = universe.World.draw(seed).counterfactual_pairs(task.behavior, 'train', 3_000)
  prompts, options = zip(*((pair.prompt, pair.options) for pair in drawn))
  answers = phi(*world.bayes(task, seed, prompts, options))
  found = variety.labels(answers, True, world_texts.NUM_OPTIONS)
  assert not warned(summary, **{f'labels__{k}': found[k] for k in found})
