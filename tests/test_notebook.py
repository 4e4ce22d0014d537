"""The notebook: every code cell runs, from where Jupyter and Colab run it."""

import json
import os
import pathlib
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest

from tests import chat_checkpoints

pytestmark = [pytest.mark.usefixtures('few_optimizations'), pytest.mark.slow]

ROOT = pathlib.Path(__file__).parent.parent
NOTEBOOK = ROOT / 'notebooks' / 'coupling_world.ipynb'
CELLS = json.loads(NOTEBOOK.read_text())['cells']
TINY = dict(
  LAYERS=1,
  BASE_STEPS=20,
  EXPLANATION_STEPS=20,
  CHECKPOINT_EVERY=10,
  TRAIN_PAIRS=512,
  DOCUMENTS=8,
)
FIGURES = ['accuracy', 'gaps', 'reliance', 'learning', 'weights', 'moved']
FIGURES += ['change_rates', 'cross']
RECORDING_PIP = """
import json, sys
with open({path!r}, 'a') as file:
  file.write(json.dumps(sys.argv[1:]) + '\\n')
"""


def execute(folder, notebook, settings, shown, **environment):
  """Runs the cells in a process of its own, in `folder`."""
  script = ROOT / 'tests' / 'notebook_cells.py'
  variables = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
  return subprocess.run(
    [sys.executable, script, notebook, json.dumps(settings), shown],
    cwd=folder,
    env=variables | environment,
    capture_output=True,
    text=True,
    check=False,
  )


@pytest.fixture(scope='module')
def shown(tmp_path_factory) -> list[tuple[str, str]]:
  """What the notebook displays, with tiny settings, run where it lies."""
  folder = tmp_path_factory.mktemp('notebook')
  settings = TINY | {'WORKDIR': str(folder / 'workdir')}
  run = execute(NOTEBOOK.parent, NOTEBOOK, settings, folder / 'shown.json')
  assert run.returncode == 0, run.stderr
  assert 'results in ' in run.stdout
  assert (folder / 'workdir' / 'report' / 'index.html').exists()
  return json.loads((folder / 'shown.json').read_text())


def test_the_figures_are_drawn_inline(shown):
  titles = [text for kind, text in shown if kind == 'HTML']
  assert titles == [f'<b>{name}</b>' for name in FIGURES]
  drawn = [text for kind, text in shown if kind == 'SVG']
  assert len(set(drawn)) == len(FIGURES)
  for text in drawn:
    svg = ET.fromstring(text)
    assert svg.tag == '{http://www.w3.org/2000/svg}svg'
    assert len(list(svg.iter('{http://www.w3.org/2000/svg}path'))) > 5
    assert list(svg.iter('{http://www.w3.org/2000/svg}text'))


def test_the_tables_have_a_column_a_run_and_the_reports_numbers(shown):
  numbers, verdict, items = (text for kind, text in shown if kind == 'Markdown')
  head, rule, *rows = (line.split(' | ') for line in numbers.split('\n'))
  assert head == ['| ', 'kl', 'no_kl', 'shuffled', 'sibling |']
  assert rule == ['| ---', '---:', '---:', '---:', '---: |']
  assert {len(row) for row in rows} == {5} and len(rows) == 8
  for label, *cells in rows[:2]:
    assert label in ('| Self', '| Orig')
    assert all('%' in cell for cell in cells)
  assert verdict.startswith('**') and verdict.endswith('**')
  assert items.startswith('| Side | x | M₀ | M_t | M_t says |')
  assert len(items.split('\n')) > 2


def test_the_notebook_is_stored_without_outputs_and_says_what_it_does():
  for cell in CELLS:
    if cell['cell_type'] == 'code':
      assert cell['outputs'] == [] and cell['execution_count'] is None
  kinds = [cell['cell_type'] for cell in CELLS]
  assert all('markdown' in pair for pair in zip(kinds, kinds[1:]))
  tagged = [c for c in CELLS if 'parameters' in c['metadata'].get('tags', ())]
  assert len(tagged) == 1 and len({cell['id'] for cell in CELLS}) == len(CELLS)


def set_up_alone(folder) -> pathlib.Path:
  """A notebook of the cells up to the set-up."""
  last = [cell['id'] for cell in CELLS].index('setup')
  path = folder / 'set_up.ipynb'
  path.write_text(json.dumps({'cells': CELLS[: last + 1]}))
  return path


def test_elsewhere_the_set_up_clones_and_installs_once(tmp_path):
  origin, here, tools = (tmp_path / name for name in ('origin', 'here', 'tools'))
  (origin / 'coupling').mkdir(parents=True)
  (origin / 'coupling' / '__init__.py').touch()
  (origin / 'requirements.txt').write_text('absl-py\n')
  identity = ('-c', 'user.name=A', '-c', 'user.email=a@b')
  for command in (('init', '--quiet'), ('add', '.'), ('commit', '--quiet', '-m', 'x')):
    subprocess.run(('git', *identity, *command), cwd=origin, check=True)
  (tools / 'pip').mkdir(parents=True)
  installed = tmp_path / 'installed.jsonl'
  (tools / 'pip' / '__init__.py').touch()
  (tools / 'pip' / '__main__.py').write_text(RECORDING_PIP.format(path=str(installed)))
  here.mkdir()

  def run(**settings):
    notebook, shown = set_up_alone(tmp_path), tmp_path / 'shown.json'
    return execute(here, notebook, settings, shown, PYTHONPATH=str(tools))

  refused = run()
  assert refused.returncode != 0 and 'REPOSITORY is empty' in refused.stderr
  assert not list(here.iterdir())
  for _ in range(2):  # as after a restart of the runtime
    found = run(REPOSITORY=str(origin))
    assert found.returncode == 0, found.stderr
    assert [path.name for path in here.iterdir()] == ['introspective-coupling']
  clone = here / 'introspective-coupling'
  first, second = (json.loads(x) for x in installed.read_text().splitlines())
  assert first == second
  assert first[:2] == ['install', '--quiet'] and first[2].partition('[')[0] == 'jax'
  assert first[3:] == ['-r', str(clone / 'requirements.txt')]
  assert (clone / 'coupling' / '__init__.py').exists()


def test_where_the_code_is_importable_the_set_up_does_nothing(tmp_path):
  notebook, shown = set_up_alone(tmp_path), tmp_path / 'shown.json'
  found = execute(tmp_path, notebook, {}, shown, PYTHONPATH=str(ROOT))
  assert found.returncode == 0, found.stderr
  assert sorted(x.name for x in tmp_path.iterdir()) == ['set_up.ipynb', 'shown.json']


OWN = ROOT / 'notebooks' / 'own_model.ipynb'


def test_an_own_model_and_own_pairs_take_twelve_lines_of_the_api(tmp_path):
  checkpoint = chat_checkpoints.save(tmp_path / 'checkpoint')
  settings = {'MODEL': str(checkpoint), 'STEPS': 2}
  shown = tmp_path / 'shown.json'
  run = execute(tmp_path, OWN, settings, shown, PYTHONPATH=str(ROOT))
  assert run.returncode == 0, run.stderr
  assert '<svg' in (tmp_path / 'report.html').read_text()
  cells = [c for c in json.loads(OWN.read_text())['cells'] if c['cell_type'] == 'code']
  assert all(c['outputs'] == [] and c['execution_count'] is None for c in cells)
  lines = ''.join(''.join(c['source']) + '\n' for c in cells).split('\n')
  code = [line for line in lines if line.strip()]
  assert len(code) <= 12
  assert [x for x in code if 'import ' in x] == ['import coupling as cp']
