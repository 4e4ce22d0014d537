"""The report: what it concludes, and that the page and the JSON say the same."""

import copy
import dataclasses
import html.parser
import json
import re
import shutil

import pyarrow.parquet as pq
import pytest

from coupling.report import aggregate
from coupling.report import numerals
from coupling.report import page as page_lib
from coupling.report import tables
from coupling.report import verdict
from coupling.runtime.workdir import WorkdirError
from tests import recorded

CHECKS = ('gap', 'weights', 'weights on v’', 'sibling', 'shuffled-label control')
VOID = {'meta', 'br', 'img', 'link', 'hr', 'input'}


def summarize(workdir, seeds=1, **planted):
  recorded.build(workdir, seeds, **planted)
  return aggregate.summarize(recorded.experiment(seeds), workdir)


@pytest.fixture(scope='module')
def summary(tmp_path_factory):
  return summarize(tmp_path_factory.mktemp('three'), 3)


@pytest.fixture(scope='module')
def written(summary, tmp_path_factory):
  folder = tmp_path_factory.mktemp('report')
  page_lib.write(folder, summary)
  return folder


def findings(summary):
  return {f['about']: f for f in verdict.verdict(summary)}


def statistic(mean, low, high):
  return {'mean': mean, 'low': low, 'high': high, 'per_seed': [mean]}


ABOVE, BELOW = statistic(0.1, 0.05, 0.15), statistic(-0.1, -0.15, -0.05)
AROUND, UNKNOWN = statistic(0.01, -0.05, 0.07), statistic(0.0, None, None)
STATES = {'above': ABOVE, 'below': BELOW, 'around': AROUND, 'unknown': UNKNOWN}


def changed(summary, **statistics):
  """The summary with other statistics of the main run (a__b) or of no_kl (no_kl__b)."""
  result = copy.deepcopy(summary)
  for path, value in statistics.items():
    first, *rest = path.split('__')
    if first not in ('sibling', 'contrasts', 'no_kl'):
      first, rest = 'kl', [first, *rest]
    node = result if first not in result['runs'] or first == 'sibling' else None
    if node is None:
      node = result['runs'][first]['final']
    else:
      rest = [first, *rest]
    for key in rest[:-1]:
      node = node[key]
    node[rest[-1]] = value
  return result


class Page(html.parser.HTMLParser):
  """Checks that tags are balanced; keeps the text of cells by data-path.

  A number that stands in two tables must be printed alike in both.
  """

  def __init__(self, text):
    super().__init__()
    self.open, self.tags, self.attributes = [], [], []
    self.cells, self._path, self._text = {}, None, ''
    self.feed(text)
    self.close()
    assert not self.open

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    self.attributes += attrs
    if tag not in VOID:
      self.open.append(tag)
    if tag == 'td':
      self._path, self._text = dict(attrs).get('data-path'), ''

  def handle_startendtag(self, tag, attrs):
    self.tags.append(tag)
    self.attributes += attrs

  def handle_endtag(self, tag):
    assert self.open.pop() == tag
    if tag == 'td' and self._path:
      assert self.cells.setdefault(self._path, self._text) == self._text

  def handle_data(self, data):
    self._text += data


# What is concluded.


def test_planted_self_is_called_coupling(summary):
  found = findings(summary)
  for about in ('headline', *CHECKS, 'agreement beyond the surface', 'balanced gap'):
    assert found[about]['state'] == 'above', about
  assert found['moved items']['state'] == 'note'
  assert found['headline']['text'].startswith('Introspective coupling is shown')
  assert '3 seeds are few' in found['seeds']['text']


def test_planted_labels_are_called_a_failure(tmp_path):
  found = findings(summarize(tmp_path, kl=recorded.ORIG))
  assert found['headline']['state'] == found['weights']['state'] == 'below'
  assert found['headline']['text'].startswith('The effect failed')
  assert 'one seed only' in found['headline']['text']
  assert 'nothing can be concluded about variation over seeds' in found['seeds']['text']


def test_denial_is_not_called_coupling(tmp_path):
  """Knowing only the own answer passes no check of the headline but the raw gap."""
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
  found = findings(changed(summary, gap=ABOVE, balanced_gap=ABOVE, gap_answer=ABOVE))
  assert 'is shown' not in found['headline']['text']
  for about in CHECKS[1:]:
    assert found[about]['state'] != 'above' and about in found['headline']['text']


def test_planted_chance_is_not_called_coupling(tmp_path):
  found = findings(summarize(tmp_path, kl=recorded.CHANCE, no_kl=recorded.CHANCE))
  assert found['gap']['state'] == found['unregularised run']['state'] == 'around'
  assert 'no proof of its absence' in found['headline']['text']


def test_without_drift_nothing_can_be_concluded(tmp_path):
  found = findings(summarize(tmp_path, drift=0.0))
  assert found['headline']['state'] == found['weights']['state'] == 'unknown'
  assert 'No true explanation moved' in found['moved items']['text']


def test_collapse_of_behaviour_is_named(tmp_path):
  found = findings(summarize(tmp_path, drift=1.0, change=0.02))
  for about in ('balanced gap', 'unregularised run'):
    assert 'collapsed to one class' in found[about]['text']


def test_no_collapse_is_not_named(summary):
  assert not any('collapsed' in f['text'] for f in findings(summary).values())


@pytest.mark.parametrize('state', STATES)
def test_gap_leads(summary, state):
  found = findings(changed(summary, gap=STATES[state]))
  assert found['gap']['state'] == found['headline']['state'] == state
  shown = found['headline']['text'].startswith('Introspective coupling is shown')
  assert shown == (state == 'above')


@pytest.mark.parametrize('state', ['below', 'around', 'unknown'])
@pytest.mark.parametrize(
  ('path', 'about'),
  [
    ('siding_answer__difference', 'weights on v’'),
    ('sibling__explanations__beyond_shared__smaller', 'sibling'),
    ('contrasts__shuffled__siding_answer_difference', 'shuffled-label control'),
  ],
)
def test_a_check_that_fails_is_in_the_headline(summary, path, about, state):
  found = findings(changed(summary, **{path: STATES[state]}))
  assert found[about]['state'] == state
  assert found['headline']['text'].endswith(f'Not confirmed: {about}.')


@pytest.mark.parametrize('state', STATES)
def test_labels_of_another_model_are_held_against_the_own_behaviour(summary, state):
  other = copy.deepcopy(summary)
  weights = dict(self=ABOVE, target=AROUND, difference=ABOVE)
  other['trained_labels'] = {'siding': weights, 'siding_answer': weights}
  other['trained_labels']['siding_answer'] = weights | {'difference': STATES[state]}
  found = findings(other)
  assert found['labels of another model']['state'] == state
  text = found['headline']['text']
  assert ('is shown' in text) == (state == 'above')
  assert (state == 'above') != ('Not confirmed: labels of another model.' in text)


def test_one_seed_or_a_warning_shows_nothing(summary, tmp_path):
  assert 'is shown' in findings(summary)['headline']['text']
  alone = findings(summarize(tmp_path, 1))['headline']['text']
  assert 'is shown' not in alone and 'one seed only' in alone
  unfit = changed(summary, invalid=statistic(0.5, 0.4, 0.6))
  text = findings(unfit)['headline']['text']
  assert 'is shown' not in text and 'invalid explanations' in text


def test_an_audit_says_when_it_would_be_coupling(summary):
  text = findings(summary | {'audit': True})['headline']['text']
  assert 'is shown' not in text and 'only if the model was trained' in text


@pytest.mark.parametrize(
  'path',
  [
    *('balanced_gap', 'gap_answer', 'shuffled__corrected_gap', 'moved__difference'),
    *('sibling__explanations__difference', 'contrasts__shuffled__gap'),
    *('siding__difference', 'contrasts__shuffled__siding_difference'),
  ],
)
def test_what_denial_can_reach_is_not_in_the_headline(summary, path):
  found = findings(changed(summary, **{path: BELOW}))
  assert found['headline'] == findings(summary)['headline']


@pytest.mark.parametrize(
  'missing', [['sibling'], ['shuffled'], ['sibling', 'shuffled']]
)
def test_missing_controls_are_named_and_nothing_is_shown(summary, missing):
  without = copy.deepcopy(summary)
  for role in missing:
    del without['roles'][role]
    without.pop(role, None)
    without['contrasts'].pop(role, None)
  text = findings(without)['headline']['text']
  assert 'is shown' not in text and 'unproven' in text
  assert all(f'the {role} run' in text for role in missing)
  unmet = changed(without, siding_answer__difference=AROUND)
  failed = findings(unmet)['headline']['text']
  assert 'Not confirmed: weights on v’.' in failed and 'unproven' in failed
  for gap in (AROUND, BELOW, UNKNOWN):
    text = findings(changed(without, gap=gap))['headline']['text']
    assert all(f'the {role} run' in text for role in missing)


@pytest.mark.parametrize(
  ('weights', 'said'),
  [
    (ABOVE, 'Two measures disagree'),
    (BELOW, 'The effect failed'),
    (AROUND, 'weights do not tell'),
  ],
)
def test_a_gap_below_zero_is_held_against_the_weights(summary, weights, said):
  found = findings(changed(summary, gap=BELOW, siding_answer__difference=weights))
  text = found['headline']['text']
  assert said in text and (weights is BELOW) == ('follow the fixed labels' in text)


def test_values_of_denial_stand_beside_the_gaps(summary):
  found, denial = findings(summary), summary['baselines']['denial']
  for about, key in (
    ('gap', 'gap'),
    ('balanced gap', 'balanced_gap'),
    ('gap on v’', 'gap_answer'),
  ):
    assert numerals.points(denial[key]) in found[about]['text']
  for side in ('self', 'orig'):
    assert numerals.percent(denial['moved'][side]) in found['moved items']['text']
  denial = summary['unregularised_baselines']['denial']
  assert numerals.points(denial['gap_answer']) in found['unregularised run']['text']


@pytest.mark.parametrize(
  ('raw', 'balanced', 'said'),
  [
    (ABOVE, ABOVE, 'agrees with the raw gap'),
    (ABOVE, BELOW, 'contradicts the raw gap'),
    (BELOW, ABOVE, 'contradicts the raw gap'),
    (ABOVE, AROUND, 'does not confirm the raw gap'),
  ],
)
def test_balanced_gap_is_held_against_the_raw_one(summary, raw, balanced, said):
  found = findings(changed(summary, gap=raw, balanced_gap=balanced))
  assert said in found['balanced gap']['text']


@pytest.mark.parametrize(
  ('weights', 'said'),
  [
    (ABOVE, 'current behaviour weighs more without the regulariser too'),
    (BELOW, 'with the regulariser they do not'),
    (AROUND, 'neither is shown to weigh more'),
    (UNKNOWN, 'nothing follows'),
  ],
)
def test_unregularised_stories(summary, weights, said):
  found = findings(changed(summary, no_kl__siding__difference=weights))
  text = found['unregularised run']['text']
  assert said in text and 'collapse' not in text


@pytest.mark.parametrize(
  ('difference', 'own', 'said'),
  [
    (ABOVE, ABOVE, 'followed more than that of the labels'),
    (AROUND, ABOVE, 'still followed, but not clearly more'),
    (AROUND, AROUND, 'That the current v’ is followed is not shown'),
  ],
)
def test_the_answer_is_followed_only_beyond_the_own_answer(
  summary, difference, own, said
):
  """A gap on v' is no evidence: denial has one."""
  found = findings(
    changed(
      summary,
      no_kl__gap_answer=ABOVE,
      no_kl__siding_answer__difference=difference,
      no_kl__siding_answer__self=own,
    )
  )
  assert said in found['unregularised run']['text']


@pytest.mark.parametrize(
  ('similarity', 'said'),
  [
    (statistic(0.8, 0.75, 0.85), 'within the range'),
    (statistic(0.5, 0.45, 0.55), 'below the range'),
    (statistic(0.7, 0.65, 0.75), 'at the edge of the range'),
    (statistic(0.7, None, None), 'not comparable'),
  ],
)
def test_similarity_is_held_against_the_paper(summary, similarity, said):
  found = findings(changed(summary, behavior_similarity=similarity))
  assert said in found['behaviour similarity']['text']


def test_five_seeds_are_not_called_few(summary):
  text = findings(summary | {'seeds': [0, 1, 2, 3, 4]})['seeds']['text']
  assert text.startswith('5 seeds') and 'few' not in text


# What is written.


def test_formats_by_hand():
  assert numerals.percent(statistic(0.7194, 0.701, 0.7356)) == '71.9% [70.1, 73.6]'
  assert numerals.points(statistic(0.1067, -0.02, 0.2)) == '+10.7 [−2.0, +20.0]'
  assert numerals.points(statistic(-0.0001, -0.01, 0.01)) == '0.0 [−1.0, +1.0]'
  assert numerals.decimal(statistic(0.5, None, None)) == '0.50'
  assert numerals.signed(statistic(0.5, -0.25, 0.004)) == '+0.50 [−0.25, 0.00]'
  assert numerals.count(statistic(2560, None, None)) == '2,560'
  assert numerals.percent(statistic(None, None, None)) == '–'
  assert numerals.seconds(725.2) == '12 min 5 s' and numerals.seconds(45) == '45 s'


def test_page_is_well_formed_and_stands_alone(written):
  text = (written / 'index.html').read_text()
  page = Page(text)
  assert not {'script', 'link', 'img', 'iframe'} & set(page.tags)
  for name, value in page.attributes:
    if name in ('src', 'href', 'xlink:href'):
      assert value.startswith('#'), (name, value)
    assert name != 'style' or 'http' not in value
  assert '@import' not in text and 'url(http' not in text
  ids = [value for name, value in page.attributes if name == 'id']
  assert len(ids) == len(set(ids))
  references = re.findall(r'(?:href="#|url\(#)([^")]+)', text)
  assert references and set(references) <= set(ids)
  assert page.tags.count('svg') == 6 and page.tags.count('details') == 1


def test_every_number_of_the_tables_is_that_of_the_json(written):
  saved = json.loads((written / 'report.json').read_text())
  cells = Page((written / 'index.html').read_text()).cells
  runs = recorded.RUNS
  shown = {
    **{f'runs.{r}.final.{k}': f for _, k, f in tables.MAIN_ROWS for r in runs},
    **{f'runs.{r}.{k}': f for _, k, f in tables.VARIETY_ROWS for r in runs},
    **{f'baselines.denial.{k}': f for _, k, f in tables.BASELINE_COLUMNS},
    **{f'runs.kl.over_seeds.10.{k}': f for _, k, f in tables.TRAJECTORY_COLUMNS},
    **{f'sibling.denial.{k}': f for _, k, f in tables.SIBLING_ROWS},
    **{f'follow.0.{k}': f for _, k, f in tables.FOLLOW_COLUMNS},
    **{f'unregularised_baselines.denial.{k}': f for _, k, f in tables.BASELINE_COLUMNS},
    **{f'contrasts.shuffled.{k}': f for _, k, f in tables.CONTRAST_COLUMNS},
    **{f'sibling.explanations.{k}': f for _, k, f in tables.SIBLING_ROWS},
    'cross.kl.no_kl': numerals.percent,
  }
  for path, show in shown.items():
    assert cells[path] == show(tables.lookup(saved, path)), path
  main = (written / 'report.md').read_text().split('| --- |')[1]
  printed = re.findall(r'^\| (.+?) \| (.+) \|$', main, re.MULTILINE)
  rows = printed[: len(tables.MAIN_ROWS)]
  order = [saved['roles'][role] for role in tables.ROLE_NAMES]
  for (label, row), (expected, key, _) in zip(rows, tables.MAIN_ROWS, strict=True):
    assert label == expected
    assert row.split(' | ') == [cells[f'runs.{run}.final.{key}'] for run in order]


def test_scored_statements_have_a_table_and_no_say_in_the_verdict(
  summary, written, tmp_path
):
  for name in ('index.html', 'report.md'):
    assert 'likeliest of the allowed' not in (written / name).read_text()
  scored = summarize(tmp_path, 3, scored=recorded.CHANCE)
  assert verdict.verdict(scored) == verdict.verdict(summary)
  page_lib.write(tmp_path, scored)
  page = (tmp_path / 'index.html').read_text()
  controls = page[page.index('id="controls"') : page.index('id="over-training"')]
  assert 'id="table-likelihood"' in controls
  cells = Page(page).cells
  markdown = (tmp_path / 'report.md').read_text().split('likeliest of the allowed')[1]
  for label, key, show in tables.LIKELIHOOD_ROWS:
    found = [scored['likelihood'][run] for run in recorded.RUNS]
    row = [show(tables.lookup(x, key)) for x in found]
    assert [cells[f'likelihood.{run}.{key}'] for run in recorded.RUNS] == row
    assert ' | '.join([f'\n| {label}', *row]) in markdown
  assert len(tables.LIKELIHOOD_ROWS) == 9


def test_main_gap_is_printed_digit_by_digit(written, summary):
  gap = summary['runs']['kl']['final']['gap']
  numbers = [f'{100 * gap[k]:+.1f}'.replace('-', '−') for k in ('mean', 'low', 'high')]
  cells = Page((written / 'index.html').read_text()).cells
  assert re.findall(r'[+−][\d.]+', cells['runs.kl.final.gap']) == numbers


def test_equal_numbers_give_equal_bytes(written, summary, tmp_path):
  page_lib.write(tmp_path, copy.deepcopy(summary))
  for name in ('report.json', 'report.md', 'index.html'):
    assert (tmp_path / name).read_bytes() == (written / name).read_bytes()


def test_json_holds_the_verdict_and_every_seed(written, summary):
  saved = json.loads((written / 'report.json').read_text())
  assert saved['verdict'] == verdict.verdict(summary)
  assert saved['runs']['kl']['per_seed'].keys() == {'0', '1', '2'}


def test_a_number_that_is_not_finite_is_refused(summary, tmp_path):
  broken = changed(summary, invalid=statistic(float('nan'), None, None))
  with pytest.raises(WorkdirError, match=r'runs\.kl\.final\.invalid\.mean'):
    page_lib.write(tmp_path, broken)
  assert not list(tmp_path.iterdir())


def test_titles_and_prompts_are_escaped(summary, tmp_path):
  page_lib.write(tmp_path, summary | {'title': '<script>x</script> & more'})
  text = (tmp_path / 'index.html').read_text()
  assert 'script' not in Page(text).tags
  assert '&lt;q' in text and '&amp; hint' in text


def test_pairs_left_out_for_length_are_told_by_seed_and_split(summary, tmp_path):
  said = 'left out as longer than length.max_tokens'
  page_lib.write(tmp_path, summary)
  assert said not in (tmp_path / 'index.html').read_text()
  dropped = {'train': 1234, 'validation': 0, 'test': 2}
  none = dict.fromkeys(dropped, 0)
  assert summary['provenance']['too_long'] == {'0': none, '1': none, '2': none}
  found = copy.deepcopy(summary)
  found['provenance']['too_long']['1'] = dropped
  page_lib.write(tmp_path, found)
  text = (tmp_path / 'index.html').read_text()
  assert f'{said}: seed 1: 1,234 of train, 0 of validation, 2 of test.' in text
  saved = json.loads((tmp_path / 'report.json').read_text())
  assert saved['provenance']['too_long']['1'] == dropped


def test_a_warning_is_on_the_page_and_in_markdown(summary, tmp_path):
  poor = changed(summary, invalid=statistic(0.2, 0.1, 0.3))
  page_lib.write(tmp_path, poor)
  said = 'Of the explanations, these do not parse: 20.0% [10.0, 30.0] of kl (above 5%).'
  assert (
    f'<p><b>Invalid explanations.</b> {said}' in (tmp_path / 'index.html').read_text()
  )
  assert f'**Invalid explanations.** {said}' in (tmp_path / 'report.md').read_text()


def test_a_single_run_has_a_report(tmp_path):
  recorded.build(tmp_path)
  e = recorded.experiment(1, sibling='', shuffled='', unregularised='')
  alone = aggregate.summarize(e, tmp_path)
  page_lib.write(tmp_path, alone)
  page = Page((tmp_path / 'index.html').read_text())
  assert 'runs.kl.final.gap' in page.cells and 'runs.no_kl.final.gap' not in page.cells
  assert 'over 20 groups, bootstrap' in (tmp_path / 'report.md').read_text()


# Audits.


def untrained(workdir):
  """The summary of an audit of the last model of `kl`: a run of no steps."""
  recorded.build(workdir)
  folder = workdir / 'seed0' / 'kl' / 'evaluate'
  last = pq.read_table(folder / f'step-{recorded.STEPS[-1]:09d}.parquet').to_pydict()
  shutil.rmtree(folder)
  recorded.finish(folder, 'evaluate', {'step-000000000': last})
  e = recorded.experiment(1, sibling='', shuffled='', unregularised='')
  kl = e.runs['kl']
  loop = dataclasses.replace(kl.loop, steps=0)
  e = dataclasses.replace(e, runs={'kl': dataclasses.replace(kl, loop=loop)})
  return aggregate.summarize(e, workdir)


@pytest.fixture(scope='module')
def audit(tmp_path_factory):
  return untrained(tmp_path_factory.mktemp('audit'))


def test_an_audit_has_the_numbers_of_the_model_after_training(audit, tmp_path):
  whole = summarize(tmp_path)
  assert audit['audit'] and not whole['audit']
  assert audit['runs']['kl']['final'] == whole['runs']['kl']['final']
  final = audit['runs']['kl']['final']
  assert final['gap']['mean'] != 0 and final['siding']['self']['mean'] is not None


def test_the_audited_model_is_no_baseline_of_itself(audit):
  assert list(audit['baselines']) == ['majority', 'denial', 'cue_parrot', 'input_only']
  assert list(audit['cross']) == [
    'kl',
    'majority',
    'denial',
    'cue_parrot',
    'input_only',
  ]
  # The labels stay, as a behaviour to agree with.
  assert audit['cross']['kl']['M_0'] == audit['runs']['kl']['final']['orig_accuracy']
  assert audit['follow'] == []


def test_an_audit_names_the_controls_that_were_not_run(audit):
  text = findings(audit)['headline']['text']
  assert 'not run: the sibling run and the shuffled run' in text
  assert 'coupling is unproven' in text and 'one seed only' in text


def test_no_word_of_an_audit_speaks_of_a_training(audit, tmp_path):
  """Neither with nor without warnings; the glossary and the config are general."""
  poor = changed(
    audit,
    invalid=statistic(0.2, 0.1, 0.3),
    change_rate={
      'base': statistic(0.4, 0.3, 0.5),
      'current': statistic(0.01, 0.0, 0.02),
      'stated': statistic(0.3, 0.2, 0.4),
    },
  )
  poor['runs']['kl']['labels']['changed'] = statistic(0.01, None, None)
  poor['runs']['kl']['statements']['commonest'] = statistic(0.99, None, None)
  poor['provenance']['too_long']['0'] = {'train': 9, 'validation': 0, 'test': 99}
  for summary in (audit, poor):
    page_lib.write(tmp_path, summary)
    page = (tmp_path / 'index.html').read_text()
    general = page.index('<section id="provenance">')
    for text in (page[:general], (tmp_path / 'report.md').read_text()):
      text = re.sub('<style>.*?</style>|<[^>]+>', ' ', text, flags=re.DOTALL)
      text = text.replace('Nothing was trained here', '')
      text = text.replace('only if the model was trained to explain itself', '')
      told = re.findall(
        r'.{40}(?:(?<!Un)train|learn|M_0|M_t|checkpoint|final).{20}', text
      )
      assert [t for t in told if 'train split' not in t] == []
    assert 'This is an audit: M_0 stands for' in page[general:]
    assert 'Over training' not in page and 'Trained on' not in page
  assert 'the model’s is nearly one class' in page
  assert 'too little variety to measure anything by' in page
