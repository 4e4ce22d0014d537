"""The page of an experiment: whole, alone, and the same as the JSON."""

import copy
import dataclasses
import json
import re
import shutil

import pyarrow.parquet as pq
import pytest

from coupling.report import aggregate, figures, numerals, page as page_lib, table_rows
from coupling.report import tables, verdict
from coupling.runtime.workdir import WorkdirError
from tests import recorded, pages
from tests.pages import Page
from tests.report.test_verdict import of_main, statistic, summarize


@pytest.fixture(scope='module')
def written(summary, tmp_path_factory):
  folder = tmp_path_factory.mktemp('report')
  page_lib.write(folder, summary)
  return folder


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
  page = pages.alone((written / 'index.html').read_text())
  assert page.tags.count('svg') == len(figures.LEAD) + len(figures.TITLES)


def test_every_number_of_the_tables_is_that_of_the_json(written):
  saved = json.loads((written / 'report.json').read_text())
  cells = Page((written / 'index.html').read_text()).cells
  runs = recorded.RUNS
  shown = {
    **{f'runs.{r}.final.{k}': f for _, k, f in table_rows.MAIN_ROWS for r in runs},
    **{f'runs.{r}.{k}': f for _, k, f in table_rows.VARIETY_ROWS for r in runs},
    **{f'baselines.denial.{k}': f for _, k, f in table_rows.BASELINE_COLUMNS},
    **{f'runs.kl.over_seeds.10.{k}': f for _, k, f in table_rows.TRAJECTORY_COLUMNS},
    **{f'sibling.denial.{k}': f for _, k, f in table_rows.SIBLING_ROWS},
    **{f'follow.0.{k}': f for _, k, f in table_rows.FOLLOW_COLUMNS},
    **{
      f'unregularised_baselines.denial.{k}': f
      for _, k, f in table_rows.BASELINE_COLUMNS
    },
    **{f'contrasts.shuffled.{k}': f for _, k, f in table_rows.CONTRAST_COLUMNS},
    **{f'sibling.explanations.{k}': f for _, k, f in table_rows.SIBLING_ROWS},
    'cross.kl.no_kl': numerals.percent,
  }
  for path, show in shown.items():
    assert cells[path] == show(tables.lookup(saved, path)), path
  main = (written / 'report.md').read_text().split('## Self, Orig and reliance')[1]
  main = main.split('| --- |')[1]
  printed = re.findall(r'^\| (.+?) \| (.+) \|$', main, re.MULTILINE)
  rows = printed[: len(table_rows.MAIN_ROWS)]
  order = [saved['roles'][role] for role in table_rows.ROLE_NAMES]
  for (label, row), (expected, key, _) in zip(rows, table_rows.MAIN_ROWS, strict=True):
    assert label == expected.format(base='M_0', current='M_t')
    assert row.split(' | ') == [cells[f'runs.{run}.final.{key}'] for run in order]


def test_scored_statements_have_a_table(written, tmp_path):
  for name in ('index.html', 'report.md'):
    assert 'likeliest of the allowed' not in (written / name).read_text()
  scored = summarize(tmp_path, scored=recorded.CHANCE)
  page_lib.write(tmp_path, scored)
  page = (tmp_path / 'index.html').read_text()
  controls = page[page.index('id="controls"') : page.index('id="moved-items"')]
  assert 'id="table-likelihood"' in controls
  cells = Page(page).cells
  markdown = (tmp_path / 'report.md').read_text().split('likeliest of the allowed')[1]
  for label, key, show in table_rows.LIKELIHOOD_ROWS:
    found = [scored['likelihood'][run] for run in recorded.RUNS]
    row = [show(tables.lookup(x, key)) for x in found]
    assert [cells[f'likelihood.{run}.{key}'] for run in recorded.RUNS] == row
    assert ' | '.join([f'\n| {label}', *row]) in markdown
  assert len(table_rows.LIKELIHOOD_ROWS) == 9


TRUTHS = ('self', 'orig')


def test_the_fields_metrics_have_a_table(written, tmp_path):
  known = summarize(tmp_path, scored=recorded.SELF)
  page_lib.write(tmp_path, known)
  every = [label for label, *_ in table_rows.FIELD_ROWS]
  likely = ['CCT', 'F-AUROC, by likelihood']  # what log-probabilities are needed for
  for folder, labels in (
    (tmp_path, every),
    (written, [x for x in every if x not in likely]),
  ):
    saved = json.loads((folder / 'report.json').read_text())
    text = (folder / 'index.html').read_text()
    part = text[text.index('id="table-field"') :]
    part = part[: part.index('</table>')]
    assert re.findall(r'<th scope="row">(.*?)</th>', part) == labels
    cells = Page(part).cells
    assert len(cells) == 4 * len(labels)
    for path, shown in cells.items():
      shows = {k.format(x): f for _, k, f in table_rows.FIELD_ROWS for x in TRUTHS}
      [show] = {f for k, f in shows.items() if path.endswith(f'.{k}')}
      assert shown == show(tables.lookup(saved, path)), path
    row = [cells[f'{x}.self_accuracy'] for x in ('runs.kl.final', 'baselines.denial')]
    markdown = (folder / 'report.md').read_text().split('Metrics of related work')[1]
    first = re.search(r'^\| Exact match \| (.+) \|$', markdown, re.MULTILINE)[1]
    assert first.split(' | ')[::2] == row
  assert cells['runs.kl.final.field.orig.nsg'] == numerals.UNDEFINED
  assert cells['baselines.denial.field.self.phi_cct'] == numerals.UNDEFINED
  assert cells['baselines.denial.field.self.nsg'] == '0.0%'


def test_equal_numbers_give_equal_bytes(written, summary, tmp_path):
  page_lib.write(tmp_path, copy.deepcopy(summary))
  for name in ('report.json', 'report.md', 'index.html'):
    assert (tmp_path / name).read_bytes() == (written / name).read_bytes()


def test_the_page_begins_with_a_sentence_a_figure_and_the_checks(written, summary):
  text = (written / 'index.html').read_text()
  rows = json.loads((written / 'report.json').read_text())['conclusions']
  assert rows == verdict.conclude(summary)
  first = text[text.index('<h1>') : text.index('id="examples"')]
  places = [first.index(x) for x in (rows[0]['text'], '<figure', 'id="checks"')]
  assert places == sorted(places) and first.count('<figure') == 1
  shown = re.findall(r'class="state ([a-z-]+)"', first)
  assert shown == [x['state'].replace(' ', '-') for x in rows[1 : len(shown) + 1]]
  checks = [x for x in rows if x['part'] == verdict.CHECKS]
  assert len(checks) == len(shown) and len(shown) <= 8
  assert text.count('class="example"') == 3
  details = text[text.index('id="details"') :]
  for table in tables.tables(summary):
    assert f'id="table-{table}"' in details, table
  assert text.index('id="table-main"') > text.index('id="details"')


def test_markdown_has_every_row(written):
  rows = json.loads((written / 'report.json').read_text())['conclusions']
  text = (written / 'report.md').read_text()
  assert f'**{rows[0]["text"]}**' in text
  for row in rows[1:]:
    about = f' ({row["about"]})' if row['about'] else ''
    [line] = [x for x in text.split('\n') if x.startswith(f'| {row["text"]}{about} |')]
    number = getattr(numerals, row['unit'])(row | {'mean': row['number']})
    assert f'| {number} |' in line and f'| {row["state"]} |' in line


def test_the_learning_curve_is_over_examples(summary):
  found = summary['runs']['kl']
  batch = summary['config']['runs']['kl']['explanation_batch']
  assert found['examples'] == [0, 10 * batch, 20 * batch]
  assert figures.figures(summary)['learning'].count('majority baseline') == 1
  last = summary['baselines']['majority']['self_accuracy']
  assert found['majority'][-1] == last


def test_a_number_that_is_not_finite_is_refused(summary, tmp_path):
  broken = of_main(summary, invalid=statistic(float('nan'), None, None))
  with pytest.raises(WorkdirError, match=r'runs\.kl\.final\.invalid\.mean'):
    page_lib.write(tmp_path, broken)
  assert not list(tmp_path.iterdir())


def test_titles_and_prompts_are_escaped(summary, tmp_path):
  page_lib.write(tmp_path, summary | {'title': '<script>x</script> & more'})
  text = (tmp_path / 'index.html').read_text()
  assert 'script' not in Page(text).tags
  assert '&lt;q' in text and '&amp; hint' in text


def test_pairs_left_out_for_length_are_counted_by_seed_and_split(summary, tmp_path):
  none = dict.fromkeys(('train', 'validation', 'test'), 0)
  assert summary['provenance']['too_long'] == {'0': none, '1': none, '2': none}
  found = copy.deepcopy(summary)
  found['provenance']['too_long']['1'] = none | {'train': 1234, 'test': 2}
  page_lib.write(tmp_path, found)
  text = (tmp_path / 'index.html').read_text()
  row = text[text.index('id="provenance"') :].split('<th scope="row">1</th>')[1]
  counts = re.findall(r'<td>(.*?)</td>', row.split('</tr>')[0])
  assert counts[:2] == ['240', '20'] and sorted(counts[2:]) == ['0', '1,234', '2']
  saved = json.loads((tmp_path / 'report.json').read_text())
  assert saved['provenance'] == found['provenance']


def test_a_warning_is_on_the_page_and_in_markdown(summary, written, tmp_path):
  assert 'id="warnings"' not in (written / 'index.html').read_text()
  poor = of_main(summary, invalid=statistic(0.2, 0.1, 0.3))
  page_lib.write(tmp_path, poor)
  row = json.loads((tmp_path / 'report.json').read_text())['conclusions'][-1]
  assert row['claim'] == 'invalid' and row['number'] == 0.2
  page = (tmp_path / 'index.html').read_text()
  first = page[page.index('id="warnings"') : page.index('id="details"')]
  for text in (first, (tmp_path / 'report.md').read_text()):
    assert row['text'] in text and row['why'] in text and '20.0%' in text


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


def test_an_audit_has_the_numbers_of_the_model_after_training(audit, alone):
  assert audit['audit'] and not alone['audit']
  assert audit['runs']['kl']['final'] == alone['runs']['kl']['final']
  final = audit['runs']['kl']['final']
  assert final['gap']['mean'] != 0 and final['reliance']['self']['mean'] is not None


def test_the_audited_model_is_no_baseline_of_itself(audit):
  assert tuple(audit['baselines']) == recorded.BASELINES
  assert tuple(audit['cross']) == ('kl', *recorded.BASELINES)
  # The labels stay, as a behaviour to agree with.
  assert audit['cross']['kl']['M_0'] == audit['runs']['kl']['final']['orig_accuracy']
  assert audit['follow'] == []


def test_an_audit_has_other_words_for_both_models(audit, tmp_path):
  """The glossary and the config are general."""
  page_lib.write(tmp_path, audit)
  page = (tmp_path / 'index.html').read_text()
  general = page.index('id="provenance"')
  for text in (page[:general], (tmp_path / 'report.md').read_text()):
    text = re.sub('data-path="[^"]+"', '', text)
    assert 'M_0' not in text and 'M_t' not in text
    assert 'Changed: the labels' in text and 'Changed: the model' in text
  assert 'This is an audit: M_0 stands for' in page[general:]
  assert 'id="over-training"' not in page
