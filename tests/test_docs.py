"""Pages point to files, headings and configs that are there; docstrings are short."""

import ast
import collections
import itertools
import json
import pathlib
import re

import pytest

from coupling.report import numerals

ROOT = pathlib.Path(__file__).parent.parent
PAGES = ['README.md', *sorted(str(x.relative_to(ROOT)) for x in ROOT.glob('docs/*.md'))]
CONFIGS = sorted(str(x.relative_to(ROOT)) for x in ROOT.glob('configs/**/*.py'))
# Files that a page asks the reader to write.
READERS = {'configs/mine.py', 'configs/recipes.py'}
LINES = 10  # of a config's docstring


def prose(page):
  """Its text without blocks of code and without code in a line."""
  text = re.sub(r'^```.*?^```$', '', page.read_text(), flags=re.DOTALL | re.MULTILINE)
  return re.sub(r'`[^`\n]*`', lambda x: x.group().strip('`').replace('](', ''), text)


def anchors(page):
  """The anchors of its headings, as GitHub makes them."""
  titles = re.findall(r'^#+ +(.+?) *$', prose(page), re.MULTILINE)
  return {re.sub(r'[^\w\- ]', '', x.lower()).replace(' ', '-') for x in titles}


def links(page):
  """What its links and images point to in this repository."""
  found = re.findall(r'\]\(([^)\s]+)\)', prose(page))
  return [x for x in found if not re.match(r'[a-z]+:', x)]


def test_links_and_anchors_are_found(tmp_path):
  page = tmp_path / 'page.md'
  page.write_text(
    '# Two words, `code_x`\n[a](#b) ![c](d.svg) [e](f.md#g) [h](https://i.org)\n'
    '`[j](k)`\n```\n# no heading\n[l](m)\n```\n'
  )
  assert links(page) == ['#b', 'd.svg', 'f.md#g']
  assert anchors(page) == {'two-words-code_x'}


@pytest.mark.parametrize('name', PAGES)
def test_links_point_to_files_and_headings(name):
  page = ROOT / name
  for link in links(page):
    path, _, anchor = link.partition('#')
    target = (page.parent / path).resolve() if path else page
    assert target.exists(), f'{name}: {link}: no such file'
    assert target.is_relative_to(ROOT.resolve()), f'{name}: {link}: outside'
    if anchor:
      assert anchor in anchors(target), f'{name}: {link}: {sorted(anchors(target))}'


@pytest.mark.parametrize('name', PAGES)
def test_configs_that_are_named_exist(name):
  text = (ROOT / name).read_text()
  named = set(re.findall(r'configs/[\w/]+\.py', text))
  for cell in re.findall(r'^\| (`[^|]*)', text, re.MULTILINE):  # tables of configs
    named |= {f'configs/{x}' for x in re.findall(r'`(\w+\.py)`', cell)}
  assert named <= {*CONFIGS, *READERS}


@pytest.mark.parametrize('name', CONFIGS)
def test_config_docstrings_are_short(name):
  docstring = ast.get_docstring(ast.parse((ROOT / name).read_text())) or ''
  found = len(docstring.splitlines())
  assert found <= LINES, f'{name}: {found} lines; more belongs into docs/settings.md'


MORE = 'other explainer'
RESULTS = ROOT / 'benchmarks' / 'results' / 'facts_smollm2.json'


def shown_as(number, unit):
  """A statistic as the report prints it."""
  return getattr(numerals, unit)(number)


def shown(text, number, unit):
  """Whether a page shows it so."""
  return shown_as(number, unit) in text


@pytest.mark.parametrize('page', ['README.md', 'benchmarks/results/facts_smollm2.md'])
def test_numbers_of_smollm2_are_those_of_its_file(page):
  """README has made-up explanations of the five seeds alone."""
  text = (ROOT / page).read_text()
  for seeds, found in json.loads(RESULTS.read_text()).items():
    for name in ('M_t', 'denial'):
      assert shown(text, found[name]['gap'], 'points'), (page, name)
    if seeds == 'five seeds' or page != 'README.md':
      assert shown(text, found['input_and_answer']['gap'], 'points'), (page, seeds)
      assert shown(text, found['minus inputs alone']['gap_answer'], 'points')


def test_tests_of_smollm2_in_the_readme_are_those_of_its_file():
  text = (ROOT / 'README.md').read_text()
  for found in json.loads(RESULTS.read_text()).values():
    for name, key in (
      ('minus inputs alone', 'reliance_answer_self'),
      ('beyond a sibling', 'smaller'),
      ('minus shuffled', 'reliance_answer_difference'),
    ):
      assert shown(text, found[name][key], 'signed'), name


@pytest.mark.parametrize('page', ['README.md', 'docs/world.md'])
def test_numbers_of_the_worlds_are_those_of_their_file(page):
  """README has those of the first worlds alone."""
  text = (ROOT / page).read_text().replace('%', '')
  every = [*json.loads((RESULTS.parent / 'world.json').read_text()).values()]
  units = {'gap': 'points', 'similarity': 'percent'}
  for found in every[:1] if page == 'README.md' else every:
    for name in ('gap', 'similarity', 'sibling', 'shuffled', 'inputs alone', MORE):
      number = shown_as(found[name], units.get(name, 'signed')).replace('%', '')
      assert number in text, (page, name, number)


def test_the_walk_names_functions_that_are_there():
  text = (ROOT / 'docs/design.md').read_text()
  named = re.findall(r'`([\w/]+\.py)(?::(\w+))?`', text)
  assert len(named) > 30
  for path, function in named:
    file = next(x for x in (ROOT / 'coupling' / path, ROOT / path) if x.exists())
    code = ast.parse(file.read_text())
    assert not function or function in {getattr(x, 'name', '') for x in code.body}, path


REPORTS = ('paper', 'paper_41', 'paper_46', 'paper_46_more', 'paper_46_rotate')
REPORTS += ('paper_outside', 'mechanism')
INTERVAL = re.compile(r'\[[+−-]?[\d.]+,\s+[+−-]?[\d.]+\]')


@pytest.mark.parametrize(
  'name', ['docs/paper.md', *(x for x in CONFIGS if x.startswith('configs/paper/'))]
)
def test_intervals_of_the_paper_are_those_of_its_reports(name):
  text = (ROOT / name).read_text()
  if name.endswith('.py'):
    text = ast.get_docstring(ast.parse(text)) or ''
  reports = ''.join((RESULTS.parent / f'{x}.md').read_text() for x in REPORTS)
  for found in INTERVAL.findall(text):
    found = re.sub(r'\s+', ' ', found).replace('-', '−')
    assert found in reports, f'{name}: {found}: in none of the reports {REPORTS}'


def test_counts_of_the_paper_are_those_of_its_report():
  """States by the own interval ("alone", where they differ), and by the corrected."""
  lines = (RESULTS.parent / 'paper.md').read_text().splitlines()
  start = next(i for i, x in enumerate(lines) if x.startswith('| Study | Claim'))
  own, corrected = collections.Counter(), collections.Counter()
  for line in itertools.takewhile(lambda x: x.startswith('|'), lines[start + 2 :]):
    first, *rest = line.split(' | ')[5].split(', ')
    alone = next((x for x in rest if x.startswith('alone: ')), first)
    own[alone.removeprefix('alone: ')] += 1
    corrected[first] += 1
  page, readme = ((ROOT / x).read_text() for x in ('docs/paper.md', 'README.md'))
  states = ('supported', 'contradicted', 'inconclusive', 'not tested')
  for found in (own, corrected):
    assert ' | '.join(str(found[x]) for x in states) + ' |' in page
  assert f'of {own.total()} statements' in page and f'of {own.total()} st' in readme
  assert f'{own[states[0]]} are supported, {own[states[1]]} contradicted' in readme
  decided = corrected[states[0]] + corrected[states[1]]
  assert f'{decided} are decided' in readme
