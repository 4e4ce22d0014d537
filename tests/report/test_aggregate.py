"""The summary of an experiment, on workdirs with planted explainers."""

import dataclasses
import pathlib
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn import metrics

from coupling.config import schema
from coupling.report import aggregate
from tests import recorded

ROOT = pathlib.Path(__file__).parents[2]


def columns(workdir, run, step, seed=0):
  root = workdir / f'seed{seed}'
  found = pq.read_table(root / 'label' / 'test-000000000.parquet').to_pydict()
  path = root / run / 'evaluate' / f'step-{step:09d}.parquet'
  found |= pq.read_table(path).to_pydict()
  return {k: np.array(v) for k, v in found.items()}


def truth(record):
  answer_N = record['counterfactual_behavior']
  return np.stack([answer_N, record['behavior'] != answer_N])


def stated(record):
  return np.stack([record['stated_answer'], record['stated_changed']])


def agreement(first_2xN, second_2xN):
  return np.mean(np.all(first_2xN == second_2xN, axis=0))


def test_self_orig_and_gap_are_counts_of_the_records(three, summary):
  found = summary['runs']['kl']['final']
  own, old = [], []
  for seed in range(3):
    base, last = (columns(three, 'kl', step, seed) for step in (0, 20))
    own.append(agreement(stated(last), truth(last)))
    old.append(agreement(stated(last), truth(base)))
  assert found['self_accuracy']['per_seed'] == pytest.approx(own)
  assert found['orig_accuracy']['mean'] == pytest.approx(np.mean(old))
  gaps = np.subtract(own, old)
  assert found['gap']['mean'] == pytest.approx(gaps.mean())
  # For differences t itself; for shares see tests/statistics/test_across_seeds.py.
  half = 4.302652729911275 * gaps.std(ddof=1) / np.sqrt(3)  # t, 2 degrees of freedom
  assert found['gap']['high'] == pytest.approx(gaps.mean() + half)
  assert summary['interval'] == {
    'kind': 'seeds',
    'text': 'over 3 seeds, t',
    'shared_items': False,
  }


def test_seeds_that_share_a_model_are_no_independent_draws(three, summary):
  """An imported M_0 is the same for all seeds, whatever the texts are."""
  e = dataclasses.replace(recorded.experiment(3), base=schema.Import(checkpoint='x'))
  found = aggregate.summarize(e, three)
  assert found['interval']['shared_items']
  wide, plain = (x['runs']['kl']['final']['gap'] for x in (found, summary))
  within = [found['runs']['kl']['per_seed'][seed]['20']['gap'] for seed in '012']
  half = np.mean([x['value'] - x['low'] for x in within])
  expected = np.hypot(plain['mean'] - plain['low'], half)
  assert wide['mean'] - wide['low'] == pytest.approx(expected)


def test_every_step_of_every_run_is_there(summary):
  assert summary['runs'].keys() == set(recorded.RUNS)
  for run in summary['runs'].values():
    assert run['steps'] == [0, 10, 20]
    assert run['over_seeds'].keys() == {'0', '10', '20'}
    assert run['over_seeds']['20'] | {'field': run['final']['field']} == run['final']
    assert run['per_seed'].keys() == {'0', '1', '2'}
    assert run['over_seeds']['0']['gap']['mean'] == 0  # M_0 is its own label


def test_one_seed_has_the_intervals_within_its_run(alone):
  assert alone['interval']['kind'] == 'groups'
  assert alone['interval']['text'].startswith('over 20 groups, bootstrap')
  run = alone['runs']['kl']
  within = run['per_seed']['0']['20']['gap']
  assert run['final']['gap'] == {
    'mean': within['value'],
    'low': within['low'],
    'high': within['high'],
    'per_seed': [within['value']],
  }
  assert within['low'] > 0


def test_likelihood_is_counts_of_the_scored_columns(tmp_path):
  """Here scored statements follow the labels, and greedy ones the behaviour."""
  unexplained = ('source1',)
  recorded.build(tmp_path, seeds=2, unexplained=unexplained, scored=recorded.ORIG)
  found = aggregate.summarize(recorded.experiment(2), tmp_path)
  assert found['likelihood'].keys() == set(recorded.RUNS)
  own, old, answers, balanced, same = [], [], [], [], []
  for seed in range(2):
    base, last = (columns(tmp_path, 'no_kl', step, seed) for step in (0, 20))
    kept_N = ~np.isin(last['cue_kind'], unexplained)
    base, last = ({k: v[kept_N] for k, v in x.items()} for x in (base, last))
    scored = np.stack([last['scored_answer'], last['scored_changed']])
    own.append(agreement(scored, truth(last)))
    old.append(agreement(scored, truth(base)))
    same.append(agreement(scored, stated(last)))
    shares = [
      np.mean([agreement(scored[:, x[1] == c], x[:, x[1] == c]) for c in (0, 1)])
      for x in (truth(last), truth(base))
    ]
    balanced.append(shares[0] - shares[1])
    answers.append(
      np.mean(scored[0] == truth(last)[0]) - np.mean(scored[0] == truth(base)[0])
    )
  run = found['likelihood']['no_kl']
  wanted = {
    'self_accuracy': own,
    'orig_accuracy': old,
    'gap': np.subtract(own, old),
    'balanced_gap': balanced,
    'gap_answer': answers,
    'greedy_agreement': same,
  }
  assert run.keys() == {*wanted, 'reliance'}
  for name, per_seed in wanted.items():
    assert run[name]['per_seed'] == pytest.approx(list(per_seed)), name
    assert run[name]['mean'] == pytest.approx(np.mean(per_seed)), name
  assert run['reliance']['difference']['mean'] < -0.4
  final = found['runs']['no_kl']['final']
  assert final['reliance']['difference']['mean'] > 0.4
  # A share: its interval, on the logit scale, is not symmetric.
  share = run['greedy_agreement']
  assert 0 < share['low'] < share['high'] < 1
  assert share['high'] - share['mean'] != pytest.approx(share['mean'] - share['low'])


def test_likelihood_needs_the_columns_of_every_run(tmp_path):
  recorded.build(tmp_path, scored=recorded.SELF)
  folder = tmp_path / 'seed0' / 'no_kl' / 'evaluate'
  tables = {p.stem: pq.read_table(p).to_pydict() for p in folder.glob('*.parquet')}
  shutil.rmtree(folder)
  del tables['step-000000020']['scored_changed']
  recorded.finish(folder, 'evaluate', tables)
  assert 'likelihood' not in aggregate.summarize(recorded.experiment(1), tmp_path)


def test_metrics_of_the_field_are_those_of_the_last_records(tmp_path):
  recorded.build(tmp_path, scored=recorded.ORIG, unexplained=('source1',))
  found = aggregate.summarize(recorded.experiment(1), tmp_path)
  base, last = (columns(tmp_path, 'no_kl', step) for step in (0, 20))
  kept_N = last['cue_kind'] == 'source0'
  base, last = ({k: v[kept_N] for k, v in x.items()} for x in (base, last))
  run = found['runs']['no_kl']['final']['field']
  p_NxM = np.exp(last['statement_logprobs'])
  p_NxK, q_NxK = (np.exp(last[f'{x}option_logprobs']) for x in ('', 'counterfactual_'))
  distance_N = np.abs(p_NxK - q_NxK).sum(axis=1) / 2
  r = np.corrcoef(distance_N, last['stated_changed'])[0, 1]
  assert run['self']['cct']['mean'] == pytest.approx(r)
  for name, record in (('self', last), ('orig', base)):
    part, changed_N = run[name], truth(record)[1]
    wanted = {
      'macro_f1': metrics.f1_score(changed_N, last['stated_changed'], average='macro'),
      'content_match': np.mean(last['stated_answer'] == truth(record)[0]),
      'phi_cct': metrics.matthews_corrcoef(changed_N, last['stated_changed']),
      'f_auroc': metrics.roc_auc_score(changed_N, p_NxM[:, 1::2].sum(axis=1)),
    }
    means = {k: part[k]['mean'] for k in wanted}
    assert means == pytest.approx(wanted)
  # Statements follow the behaviour, and likelihoods the labels.
  own, old = run['self'], run['orig']
  assert own['phi_cct']['mean'] - old['phi_cct']['mean'] > 0.2
  assert own['f_auroc']['mean'] - old['f_auroc']['mean'] < -0.1
  changed = truth(last)[1].mean()
  gain = own['content_match']['mean'] - (1 - changed)
  assert own['nsg']['mean'] == pytest.approx(gain / changed)
  # Nobody can read these random answers off the inputs.
  assert own['nsg']['low'] > 0 and own['nsg_inputs']['low'] > own['nsg']['mean']
  denial = found['unregularised_baselines']['denial']['field']['self']
  assert denial['nsg']['mean'] == 0 and denial['phi_cct']['mean'] is None
  assert denial['f_auroc']['mean'] is None  # it has no likelihoods


def test_cross_table_is_counts_of_the_records(three, summary):
  cross = summary['cross']
  assert list(cross) == [*recorded.RUNS, 'M_0', *recorded.BASELINES]
  assert list(cross['kl']) == ['M_0', 'kl', 'no_kl', 'sibling']
  explainer, behaver = columns(three, 'shuffled', 20, 1), columns(three, 'no_kl', 20, 1)
  expected = agreement(stated(explainer), truth(behaver))
  assert cross['shuffled']['no_kl']['per_seed'][1] == pytest.approx(expected)
  # Denial and parrot speak for the model of the column.
  denial = np.stack([behaver['behavior'], np.zeros_like(behaver['behavior'])])
  expected = agreement(denial, truth(behaver))
  assert cross['denial']['no_kl']['per_seed'][1] == pytest.approx(expected)
  hint_N = behaver['cue_option']
  parrot = np.stack([hint_N, hint_N != behaver['behavior']])
  expected = agreement(parrot, truth(behaver))
  assert cross['cue_parrot']['no_kl']['per_seed'][1] == pytest.approx(expected)
  old_N = truth(columns(three, 'kl', 0, 1))[0]
  composed = np.stack([old_N, old_N != behaver['behavior']])
  expected = agreement(composed, truth(behaver))
  assert cross['composition']['no_kl']['per_seed'][1] == pytest.approx(expected)
  final = summary['runs']['kl']['final']
  assert cross['kl']['kl'] == final['self_accuracy']
  assert cross['kl']['M_0'] == final['orig_accuracy']
  assert summary['baselines']['denial']['self_accuracy'] == cross['denial']['kl']


def test_sibling_pools_both_directions(three, summary):
  kl, sibling = (columns(three, run, 20, 2) for run in ('kl', 'sibling'))
  own = agreement(stated(kl), truth(kl)) + agreement(stated(sibling), truth(sibling))
  other = agreement(stated(kl), truth(sibling)) + agreement(stated(sibling), truth(kl))
  found = summary['sibling']['explanations']
  assert found['own_accuracy']['per_seed'][2] == pytest.approx(own / 2)
  assert found['sibling_accuracy']['per_seed'][2] == pytest.approx(other / 2)
  assert found['difference']['per_seed'][2] == pytest.approx((own - other) / 2)
  assert summary['sibling']['denial']['differing']['n'] == found['differing']['n']


def test_contrasts_are_differences_of_gaps(summary):
  """Seed by seed: of the main run, and of another or of who sees the inputs alone."""
  of = {name: x['final'] for name, x in summary['runs'].items()}
  others = {'unregularised': of['no_kl'], 'shuffled': of['shuffled']}
  others['input_only'] = summary['baselines']['input_only']
  for role, other in others.items():
    found = summary['contrasts'][role]
    minus = lambda x, y: pytest.approx(np.subtract(x['per_seed'], y['per_seed']))
    for key in found.keys() & {'gap', 'gap_answer'}:
      assert found[key]['per_seed'] == minus(of['kl'][key], other[key])
    for key in ('reliance', 'reliance_answer'):
      expected = minus(of['kl'][key]['difference'], other[key]['difference'])
      assert found[f'{key}_difference']['per_seed'] == expected


def test_a_siblings_statements_are_held_against_the_own(three, summary):
  found = summary['contrasts']['other_explainer']['gap']
  for seed in range(3):
    kl, sibling = (columns(three, run, 20, seed) for run in ('kl', 'sibling'))
    now, before = truth(kl), truth(columns(three, 'kl', 0, seed))
    own, other = (
      agreement(stated(x), now) - agreement(stated(x), before) for x in (kl, sibling)
    )
    assert found['per_seed'][seed] == pytest.approx(own - other)


def test_planted_weights_come_back_at_every_level(summary):
  found = summary['runs']['kl']['final']['reliance']
  assert found['self']['mean'] == pytest.approx(recorded.SELF['self'], abs=0.08)
  assert found['orig']['mean'] == pytest.approx(recorded.SELF['orig'], abs=0.08)
  assert summary['runs']['kl']['over_seeds']['0']['reliance']['self']['mean'] is None
  sibling = summary['sibling']['explanations']['beyond_shared']
  assert sibling['smaller']['low'] > 0.5
  for key in ('baselines', 'unregularised_baselines'):
    for name in ('majority', 'denial', 'cue_parrot'):
      for weights in ('reliance', 'reliance_answer'):
        assert summary[key][name][weights]['self']['mean'] == 0.0
    assert summary[key]['denial']['moved']['self']['mean'] > 0


def test_follow_starts_with_the_first_trained_checkpoint(three, summary):
  assert [(x['from'], x['to']) for x in summary['follow']] == [(10, 20)]
  first, last = columns(three, 'kl', 10), columns(three, 'kl', 20)
  moved_N = np.any(truth(first) != truth(last), axis=0)
  moved_N &= np.any(stated(first) != truth(last), axis=0)
  moved_N &= np.any(truth(columns(three, 'kl', 0)) != truth(last), axis=0)
  arrived_N = np.any(stated(first) != stated(last), axis=0)
  arrived_N &= np.all(stated(last) == truth(last), axis=0)
  found = summary['follow'][0]['moved_truth']
  assert found['n']['per_seed'][0] == moved_N.sum()
  assert found['followed']['per_seed'][0] == pytest.approx(arrived_N[moved_N].mean())


def test_examples_are_the_first_of_their_kind(three, summary):
  base, last = columns(three, 'kl', 0), columns(three, 'kl', 20)
  moved_N = np.any(truth(base) != truth(last), axis=0)
  self_N = np.all(stated(last) == truth(last), axis=0)
  orig_N = np.all(stated(last) == truth(base), axis=0)
  expected = {
    'self': moved_N & self_N,
    'orig': moved_N & orig_N,
    'neither': moved_N & ~self_N & ~orig_N,
    'unmoved_right': ~moved_N & self_N,
  }
  for kind, within_N in expected.items():
    rows = [x['row'] for x in summary['examples'] if x['kind'] == kind]
    assert rows == np.flatnonzero(within_N)[:2].tolist()
  example = summary['examples'][0]
  i = example['row']
  assert example['prompt'] == last['prompt'][i]
  assert example['did']['base']['prompt'] == f'v{base["behavior"][i]}'
  assert example['did']['current']['counterfactual'] == (
    f'v{last["counterfactual_behavior"][i]}'
  )
  assert example['statement'] == last['statement'][i]


def test_roles_may_be_left_out(one):
  e = recorded.experiment(1, sibling='', shuffled='', unregularised='')
  found = aggregate.summarize(e, one)
  assert found['roles'] == {'main': 'kl'}
  assert 'sibling' not in found and set(found['contrasts']) == {'input_only'}
