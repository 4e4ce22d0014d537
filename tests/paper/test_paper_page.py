"""The page of a paper: whole, alone, and the same as the JSON."""

import dataclasses
import json
import re

import pytest

from coupling import paper as paper_lib
from coupling.paper import paper_page
from coupling.paper import study_numbers
from coupling.report import numerals
from coupling.report.tables import lookup
from coupling.runtime.workdir import WorkdirError
from tests import patched
from tests import studied
from tests.report.test_page import Page


def write(folder, paper, records, knows=None) -> dict:
  """Writes the report; returns it as its JSON has it."""
  patches = patched.of_paper(paper)
  paper_lib.write(folder, paper, records, studied.PROVENANCE, {'main': knows}, patches)
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
  parsed = Page(text)
  assert not {'script', 'link', 'img', 'iframe'} & set(parsed.tags)
  for name, value in parsed.attributes:
    if name in ('src', 'href', 'xlink:href'):
      assert value.startswith('#'), (name, value)
  assert '@import' not in text and 'url(http' not in text
  ids = [value for name, value in parsed.attributes if name == 'id']
  assert len(ids) == len(set(ids))
  assert 'Computed on 1 x toy' in text
  references = re.findall(r'(?:href="#|url\(#)([^")]+)', text)
  assert references and set(references) <= set(ids)


def test_the_summary_has_every_row_first(written, saved):
  text = (written / 'index.html').read_text()
  summary = text[text.index('id="summary"') : text.index('id="controls"')]
  assert text.index('id="summary"') < text.index('id="study-regularisation"')
  rows = list(saved['controls']['claims'])
  rows += [row for x in saved['order'] for row in saved['studies'][x]['rows']]
  found = re.findall(r'class="state ([a-z-]+)"', summary)
  assert found == [row['state'].replace(' ', '-') for row in rows]
  counts = {state: found.count(state) for state in ('agrees', 'disagrees')}
  assert f'{len(rows)} statements were tested: {counts["agrees"]} agree, ' in summary
  assert summary.count('+11.1 points') == 1


def test_every_section_tells_claim_test_and_finding_and_draws(written, saved):
  text = (written / 'index.html').read_text()
  for name, study in saved['studies'].items():
    section = text[text.index(f'id="study-{name}"') :].split('</section>')[0]
    for said in ('Claim.', 'How it was tested.', 'Finding.', '<svg', '<table'):
      assert said in section, (name, said)
    assert study['rows'][0]['rule'].split(' (')[0] in section


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


def test_markdown_says_the_same(written, saved):
  text = (written / 'report.md').read_text()
  for name, study in saved['studies'].items():
    for row in study['rows']:
      line = next(
        x for x in text.splitlines() if x.startswith(f'| {name} | {row["claim"]}')
      )
      assert line.endswith(f'| {row["here"]} | {row["state"]} |')
    assert study['finding'] in text


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
  """Its page can be written, and what has no interval is not decided."""
  paper, records = studied.paper(1)
  saved = write(tmp_path, paper, records)
  assert 'over 16 groups' in saved['interval']['text']
  regularisation = saved['studies']['regularisation']
  assert regularisation['rows'][1]['state'] != 'not decided'
  assert {x['state'] for x in regularisation['rows'][2:]} == {'not decided'}
  crossing = saved['studies']['sources']['rows'][1]
  assert crossing['state'] == 'not decided' and crossing['here'].startswith(
    'not located'
  )
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
  claims = [row['claim'] for row in saved['studies']['shift']['rows']]
  assert any('whole explanation follows the shift' in claim for claim in claims)
  assert not any('v’ follows' in claim for claim in claims)
