"""The layout: a folder imports from folders above it alone; no name stands twice."""

import ast
import collections
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
# From the ground up. What is run (main.py, benchmarks) may import all.
FOLDERS = (
  'data',
  'coupling/runtime',
  'coupling/config',
  'configs',  # begins with the defaults of the schema
  'coupling/model',
  'coupling/checkpoints',
  'coupling/elicit',
  'coupling/training',
  'coupling/statistics',
  'coupling/patching',
  'coupling/report',
  'coupling/paper',
  'coupling/run',
  'coupling/plan',
)
NO_JAX = ('data', 'configs', 'coupling/statistics', 'coupling/report', 'coupling/paper')


def modules(folder):
  return sorted((ROOT / folder).rglob('*.py'))


def imported(path):
  """Dotted names of all that a module imports, in functions too."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      yield from (f'{node.module}.{alias.name}' for alias in node.names)


def of(name):
  """The folder of FOLDERS that a dotted name is in; None for what is not ours."""
  path = name.replace('.', '/') + '/'
  return next((x for x in FOLDERS if path.startswith(f'{x}/')), None)


def test_every_folder_has_its_place():
  found = {f'coupling/{x.parent.name}' for x in (ROOT / 'coupling').glob('*/*.py')}
  assert found == {x for x in FOLDERS if '/' in x}


@pytest.mark.parametrize('folder', FOLDERS)
def test_a_folder_imports_from_those_above_it_alone(folder):
  above = FOLDERS[: FOLDERS.index(folder) + 1]
  for path in modules(folder):
    for name in imported(path):
      place = of(name)
      assert place is None or place in above, f'{path}: {name}'
      assert not name.startswith(('main', 'tests', 'benchmarks')), f'{path}: {name}'


@pytest.mark.parametrize('folder', NO_JAX)
def test_numbers_and_pages_need_no_jax(folder):
  for path in modules(folder):
    assert not [x for x in imported(path) if x.split('.')[0] in ('jax', 'flax')], path


def test_no_two_modules_share_a_name():
  names = [x.stem for f in ('data', 'coupling') for x in modules(f)]
  twice = {x for x, n in collections.Counter(names).items() if n > 1} - {'__init__'}
  assert not twice


def defined(path):
  """Names that a module defines or imports at its top level."""
  for node in ast.parse(path.read_text()).body:
    if isinstance(node, (ast.Import, ast.ImportFrom)):
      yield from ((alias.asname or alias.name).split('.')[0] for alias in node.names)
    elif isinstance(node, ast.Assign):
      yield from (x.id for t in node.targets for x in ast.walk(t) if hasattr(x, 'id'))
    elif isinstance(node, ast.AnnAssign):
      yield node.target.id
    elif hasattr(node, 'name'):
      yield node.name


def test_what_is_imported_or_named_of_a_module_is_there():
  """Also in what no test runs, such as benchmarks."""
  known = {}
  for path in ROOT.glob('*/**/*.py'):
    place = path.relative_to(ROOT)
    if place.parts[0] in ('benchmarks', 'configs', 'coupling', 'data', 'tests'):
      known['.'.join(place.with_suffix('').parts).removesuffix('.__init__')] = path
  names = {module: {*defined(path)} for module, path in known.items()}
  folders = {module.rpartition('.')[0] for module in known}
  for path in [*known.values(), ROOT / 'main.py']:
    tree, modules = ast.parse(path.read_text()), {}
    for node in ast.walk(tree):
      if isinstance(node, ast.ImportFrom) and node.module in {*known, *folders}:
        for alias in node.names:
          whole = f'{node.module}.{alias.name}'
          modules |= {alias.asname or alias.name: whole} if whole in known else {}
          there = whole in known or alias.name in names.get(node.module, ())
          assert there, f'{path}: {whole}'
    bound = {x.arg for x in ast.walk(tree) if isinstance(x, ast.arg)}
    bound |= {
      x.id
      for x in ast.walk(tree)
      if isinstance(x, ast.Name) and isinstance(x.ctx, ast.Store)
    }
    for node in ast.walk(tree):
      if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        module = modules.get(node.value.id)
        if module and node.value.id not in bound and node.attr[:2] != '__':
          assert node.attr in names[module], f'{path}: {module}.{node.attr}'
