"""Variety of labels and statements: numbers by hand, and warnings at their limits."""

import copy

import numpy as np
import pyarrow.parquet as pq
import pytest

from configs import world as world_config
from coupling.elicit.explanation import INVALID, Explanation, phi
from coupling.report import aggregate
from coupling.report import fitness
from coupling.report import numerals
from coupling.report import verdict
from coupling.statistics import variety
from data import universe
from data import world_texts
from tests import recorded
from tests import simulated

BEYOND = 1e-9


def explanation(*pairs):
  """From (answer, changed), one an item."""
  return Explanation(*(np.array(x) for x in zip(*pairs, strict=True)))


MIXED = explanation(
  *((0, 0), (0, 0), (1, 0), (2, 0)),  # unchanged, of three answers
  *((1, 1), (1, 1), (0, 1), (2, 1)),
)


# Numbers.


def test_labels_by_hand_where_unchanged_is_one_label():
  """Shares 1/2, 1/4, 1/8, 1/8: 1.75 bits; with four options there are five labels."""
  found = variety.labels(MIXED, states_answer=False, options=4)
  assert found == {
    'n': 8,
    'changed': 0.5,
    'commonest': 0.5,
    'normalised': pytest.approx(1.75 / np.log2(5)),
    'bits': 1.75,
    'effective': pytest.approx(2**1.75),
  }


def test_labels_by_hand_where_unchanged_names_an_answer():
  """Shares 1/4, 1/4 and four of 1/8: 2.5 bits; with four options, eight labels."""
  found = variety.labels(MIXED, states_answer=True, options=4)
  assert found == {
    'n': 8,
    'changed': 0.5,
    'commonest': 0.25,
    'normalised': pytest.approx(2.5 / 3),
    'bits': 2.5,
    'effective': pytest.approx(2**2.5),
  }


@pytest.mark.parametrize('states_answer', [True, False])
def test_one_label_has_no_entropy(states_answer):
  found = variety.labels(explanation(*[(2, 1)] * 5), states_answer, options=3)
  assert found['commonest'] == found['effective'] == found['changed'] == 1.0
  assert str(found['bits']) == str(found['normalised']) == '0.0'  # and not -0.0


def test_equally_frequent_labels_have_all_of_it():
  every = explanation(*((k, changed) for k in range(3) for changed in (0, 1)))
  found = variety.labels(every, states_answer=True, options=3)
  assert found['normalised'] == pytest.approx(1) and found[
    'effective'
  ] == pytest.approx(6)


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


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('three')
  recorded.build(workdir, seeds=3)
  return workdir


@pytest.fixture(scope='module')
def summary(workdir):
  return aggregate.summarize(recorded.experiment(3), workdir)


def test_summary_counts_the_labels_and_statements_of_every_seed(workdir, summary):
  for seed in range(3):
    root = workdir / f'seed{seed}'
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
      node = result['runs'][run][group]
      node[name] = {
        'mean': np.mean(seeds),
        'low': None,
        'high': None,
        'per_seed': seeds,
      }
  findings = verdict.verdict(result)
  assert {'headline', 'labels'} <= {x['about'] for x in findings}
  return {x['about']: x['text'] for x in findings if x['state'] == fitness.WARNING}


def test_planted_variety_is_not_warned_of(summary):
  assert not warned(summary)
  headline, *rest = verdict.verdict(summary)
  assert 'warning' not in headline['text']
  (note,) = (x for x in rest if x['about'] == 'labels')
  found = summary['runs']['kl']['labels']
  assert note['state'] == 'note' and 'variety enough' in note['text']
  assert numerals.percent(found['changed']) in note['text']


@pytest.mark.parametrize(
  ('name', 'limit', 'beyond', 'said'),
  [
    ('changed', 0.05, -BEYOND, 'only 5.0% say “changed” (below 5%)'),
    ('changed', 0.95, BEYOND, 'as many as 95.0% say “changed” (above 95%)'),
    ('commonest', 0.9, BEYOND, 'the commonest label holds 90.0% of the items (above'),
  ],
)
def test_labels_are_warned_of_just_beyond_each_limit(
  summary, name, limit, beyond, said
):
  assert not warned(summary, **{f'labels__{name}': limit})
  found = warned(summary, **{f'labels__{name}': limit + beyond})
  assert list(found) == ['labels']
  assert said in found['labels'] and 'kl, no_kl, sibling, shuffled' in found['labels']
  for word in ('base rate', 'another model', 'balanced', 'cues', 'rules of thumb'):
    assert word in found['labels']


def test_advice_fits_what_is_wrong(summary):
  few = warned(summary, labels__changed=0.01)['labels']
  many = warned(summary, labels__changed=0.99)['labels']
  assert 'stronger cues, which change more of the answers' in few
  assert 'weaker cues, which change fewer of the answers' in many


def test_a_single_seed_or_run_is_named(summary):
  found = warned(summary, 'no_kl', labels__changed=[0.4, 0.4, 0.01])['labels']
  assert 'Of no_kl: only' in found and 'below 5% in 1 of 3 seeds' in found


def test_warnings_come_first_and_the_headline_names_them(summary):
  result = copy.deepcopy(summary)
  for run in result['runs'].values():
    run['labels']['changed']['per_seed'] = [0.01] * 3
  headline, first, *_ = verdict.verdict(result)
  assert first['about'] == 'labels' and first['state'] == fitness.WARNING
  assert headline['text'].endswith('read the warnings: labels.')


def test_collapsed_explanations_are_warned_of_just_beyond_the_limit(summary):
  one = dict(statements__majority=0.96)
  assert not warned(summary, 'kl', statements__commonest=0.95, **one)
  found = warned(summary, 'kl', statements__commonest=0.95 + BEYOND, **one)
  assert list(found) == ['explanations']
  assert 'explainer of kl has collapsed to the majority class' in found['explanations']
  assert 'Its behaviour' not in found['explanations']


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
  )['explanations']
  assert 'collapsed to one statement in 2 of 3 seeds' in found
  assert 'nearly one class too (98.0%)' in found


def test_invalid_explanations_are_warned_of_just_beyond_the_limit(summary):
  assert not warned(summary, 'sibling', final__invalid=0.05)
  found = warned(summary, 'sibling', final__invalid=0.05 + BEYOND)
  assert list(found) == ['invalid explanations']
  assert 'do not parse: 5.0% of sibling (above' in found['invalid explanations']


def test_invalid_explanations_of_several_runs_are_one_warning(summary):
  found = warned(summary, 'kl', 'no_kl', final__invalid=[0.0, 0.0, 0.9])
  text = found['invalid explanations']
  each = '30.0% of {} (above 5% in 1 of 3 seeds)'
  assert f'do not parse: {each.format("kl")}, {each.format("no_kl")}. They' in text
  assert 'column “statement”' in text and 'more steps' in text


def left_out(summary, held_out, train, planted=0):
  """What is said once so many pairs of the seeds were too long."""
  result = copy.deepcopy(summary)
  for i, found in enumerate(result['provenance']['too_long'].values()):
    found |= {'test': held_out[i], 'train': train[i]}
  if planted:
    result['planted'] = {'kl': {'n': {'per_seed': [planted] * len(held_out)}}}
  return [x for x in fitness.findings(result) if x['about'] == 'pairs left out']


def test_pairs_left_out_are_warned_of_just_beyond_the_limit(summary):
  """Of 240 held-out items that were kept, 12 are 4.8% and 13 are 5.1% of the whole."""
  assert summary['items'] == [240] * 3
  assert not left_out(summary, [0, 0, 0], [0, 0, 0])
  [found] = left_out(summary, [12, 3, 0], [1_500, 1_500, 1_500])
  assert found['state'] == 'note'
  limit = f'length.max_tokens={summary["config"]["length"]["max_tokens"]} tokens'
  for text in (limit, '0 to 12 of the held-out', '4.8% at most', 'and 1,500 of those'):
    assert text in found['text']
  [found] = left_out(summary, [13, 3, 0], [0, 0, 0])
  assert found['state'] == fitness.WARNING
  assert 'above 5%' in found['text'] and 'higher length.max_tokens' in found['text']


def test_pairs_of_planted_cues_are_among_those_kept(summary):
  [found] = left_out(summary, [13, 3, 0], [0, 0, 0], planted=240)
  assert found['state'] == 'note' and '2.6% at most' in found['text']


def test_pairs_left_out_of_training_alone_are_told(summary):
  [found] = left_out(summary, [0, 0, 0], [7, 7, 7])
  assert found['state'] == 'note' and 'and 7 of those to train on' in found['text']


def test_planted_lack_of_variety_is_warned_of(tmp_path):
  """From records to the verdict: labels that never change, explained as such."""
  recorded.build(tmp_path, base_change=0.0)
  found = aggregate.summarize(recorded.experiment(1), tmp_path)
  assert found['runs']['kl']['labels']['changed']['per_seed'] == [0.0]
  first = verdict.verdict(found)[1]
  assert first['state'] == fitness.WARNING
  assert 'only 0.0% say “changed” (below 5%)' in first['text']


@pytest.mark.parametrize('seed', [1, 2])
def test_the_world_has_variety_for_a_reader_who_knows_it(summary, seed):
  """The likeliest answer, from the tastes and from how reliable each source is."""
  task = world_config.get_config().task
  drawn = universe.World.draw(seed)
  pairs = list(drawn.counterfactual_pairs(task.behavior, 'train', 3_000))
  fact_N, source_N, options_NxK = [], [], []
  for pair in pairs:
    entity, relation = (int(x[1:]) for x in pair.group.split())
    fact_N.append(entity * world_texts.NUM_RELATIONS + relation)
    source_N.append(int(pair.cue_kind.removeprefix('src')))
    options_NxK.append([int(x[1:]) for x in pair.options])
  logits_NxK = np.einsum(
    'nd,nkd->nk', drawn.taste_Fx3[fact_N], drawn.feature_Vx3[options_NxK]
  )
  right_N = np.array(universe.SOURCE_RELIABILITY)[source_N]
  odds_N = np.log(right_N / (1 - right_N) * (world_texts.NUM_OPTIONS - 1))
  hinted_NxK = logits_NxK.copy()
  hinted_NxK[np.arange(len(pairs)), [p.cue_option for p in pairs]] += odds_N
  found = variety.labels(
    phi(hinted_NxK.argmax(1), logits_NxK.argmax(1)), True, world_texts.NUM_OPTIONS
  )
  assert not warned(summary, **{f'labels__{k}': found[k] for k in found})
