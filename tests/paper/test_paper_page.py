"""The page of a paper: whole, alone, and the same as the JSON."""

import dataclasses
import json
import re

import pytest

from coupling import paper as paper_lib
from coupling.paper import paper_page, paper_seeds, study_numbers
from coupling.report import numerals
from coupling.report.conclusions import NOT_TESTED
from coupling.report.tables import lookup
from coupling.runtime.workdir import WorkdirError
from tests import pages, patched, studied
from tests.pages import Page


def write(folder, paper, records, knows=None) -> dict:
  """Writes the report; returns it as its JSON has it."""
  patches = patched.of_paper(paper)
  parts = paper_seeds.Parts(paper, records, {'main': knows}, patches)
  paper_lib.write(folder, parts, studied.PROVENANCE, [])
  return json.loads((folder / 'report.json').read_text())


@pytest.fixture(scope='module')
def paper():
  return studied.paper(3)


@pytest.fixture(scope='module')
def written(paper, tmp_path_factory):
  folder = tmp_path_factory.mktemp('paper')
  write(folder, *paper, lambda seed, table: paper[1]['main'][seed].orig.truth)
  return folder


@pytest.fixture(scope='module')
def saved(written):
  return json.loads((written / 'report.json').read_text())


def test_page_is_well_formed_and_stands_alone(written):
  text = (written / 'index.html').read_text()
  pages.alone(text)
  assert 'Computed on 1 x toy' in text


def test_the_page_begins_with_a_tally_a_figure_and_every_claim(written, saved):
  text = (written / 'index.html').read_text()
  first = text[text.index('<h1>') : text.index('id="details"')]
  rows = saved['conclusions']
  found = re.findall(r'class="state ([a-z-]+)"', first)
  assert found == [row['state'].replace(' ', '-') for row in rows]
  counts = {state: found.count(state) for state in ('supported', 'contradicted')}
  told = f'Of {len(rows)} claims, {counts["supported"]} are supported, '
  assert told + str(counts['contradicted']) in first
  assert first.count('<figure') == 1 and first.index('<figure') < first.index('<table')


def test_every_section_has_claim_test_rows_figures_and_tables(written, saved):
  text = (written / 'index.html').read_text()
  for name, study in saved['studies'].items():
    section = text[text.index(f'<details id="study-{name}"') :].split('</details>')[0]
    for said in ('Claim.', 'How it was tested.', '<svg', '<table', 'Supported where'):
      assert said in section, (name, said)
    if published := study['study']['published']:
      assert published in section
    rows = [x for x in saved['conclusions'] if x['study'] == name]
    assert section.count('class="state') == len(rows)


def test_every_number_of_the_tables_is_in_the_json(written, saved):
  cells = Page((written / 'index.html').read_text()).cells
  shows = (
    numerals.percent, numerals.points, numerals.decimal, numerals.signed, numerals.count
  )  # fmt: skip
  assert len(cells) > 500
  for path, text in cells.items():
    statistic = lookup(saved, path)
    assert text in {show(statistic) for show in shows}, path
  gap = 'studies.noise.numbers.doses.0.final.gap'
  assert cells[gap] == numerals.points(lookup(saved, gap))
  similarity = 'studies.sources.numbers.runs.1.final.behavior_similarity'
  assert cells[similarity] == numerals.percent(lookup(saved, similarity))


def test_markdown_has_the_same_rows(written, saved):
  found = [
    x for x in (written / 'report.md').read_text().splitlines() if x.startswith('| ')
  ]
  for line, row in zip(found[2:], saved['conclusions']):
    assert line.startswith(f'| {row["study"]} | {row["text"]}')
    assert f'| {row["state"]}' in line and line.endswith(f'| {row["why"]} |')


def test_equal_records_give_equal_bytes(written, saved, tmp_path):
  paper_page.write(tmp_path, saved)
  for name in ('report.json', 'report.md', 'index.html'):
    assert (tmp_path / name).read_bytes() == (written / name).read_bytes()


def test_a_number_that_is_not_finite_is_refused(saved, tmp_path):
  broken = json.loads(json.dumps(saved))
  broken['studies']['noise']['numbers']['doses'][0]['final']['n']['mean'] = float('nan')
  with pytest.raises(WorkdirError, match=r'studies\.noise\.numbers\.doses\[0\]'):
    paper_page.write(tmp_path, broken)
  assert not list(tmp_path.iterdir())


def test_words_are_escaped(saved, tmp_path):
  paper_page.write(tmp_path, saved | {'title': '<script>x</script> & more'})
  assert 'script' not in Page((tmp_path / 'index.html').read_text()).tags


def test_one_seed_decides_nothing_on_differences_between_runs(tmp_path):
  """Its page can be written, and what has no interval is not tested."""
  paper, records = studied.paper(1)
  saved = write(tmp_path, paper, records)
  assert 'over 16 groups' in saved['interval']['text']
  rows = saved['conclusions']
  states = [x['state'] for x in rows if x['study'] == 'regularisation']
  assert states[1] != NOT_TESTED and set(states[2:]) == {NOT_TESTED}
  [crossing] = [x for x in rows if x['claim'] == 'crossing']
  assert crossing['state'] == NOT_TESTED and crossing['number'] is None
  assert 'holds for this seed alone' in (tmp_path / 'index.html').read_text()
  assert 'Bayes explainer' not in (tmp_path / 'index.html').read_text()


def test_studies_and_their_numbers_are_all_kept(saved, paper):
  assert set(saved['order']) == set(paper[0].studies)
  kinds = [saved['studies'][name]['study']['kind'] for name in saved['order']]
  assert kinds == list(study_numbers.KINDS)
  assert set(study_numbers.BY_KIND) == set(saved['studies'])


def unnamed(items):
  """Evaluations of a task whose "unchanged" names no answer."""
  return dataclasses.replace(items, states_answer=False)


def test_a_task_whose_unchanged_names_no_answer_has_a_page(tmp_path):
  paper, records = studied.paper(2)
  for seeds in records.values():
    for seed, s in seeds.items():
      items = {k: {n: unnamed(x) for n, x in v.items()} for k, v in s.items.items()}
      swaps = {run: unnamed(x) for run, x in s.swaps.items()}
      apart = {run: unnamed(x) for run, x in s.unexplained.items()}
      new = dataclasses.replace(s, items=items, orig=unnamed(s.orig), unexplained=apart)
      object.__setattr__(new, 'swaps', swaps)
      seeds[seed] = new
  saved = write(tmp_path, paper, records)
  claims = {x['claim'] for x in saved['conclusions'] if x['study'] == 'shift'}
  assert claims == {'shift_label', 'shift_change'}
