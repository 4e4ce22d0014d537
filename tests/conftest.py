"""Compiled programs are kept from test to test, and for the processes that tests start.

Most of the time of a tiny experiment is compilation, and many tests run the same one.
Small programs are kept too: a sum takes 30 ms to compile, and 7 to read.
"""

import gc
import os
import pathlib

# Before anything imports JAX, which reads them then.
FOLDER = pathlib.Path(__file__).parent.parent / '.pytest_cache' / 'compiled'
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(FOLDER))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')

import jax  # noqa: E402
import pytest  # noqa: E402


@pytest.fixture(scope='module')
def few_optimizations():
  """For programs that take longer to optimise than to run; for child processes too."""
  name = 'jax_disable_most_optimizations'
  before = jax.config.read(name)
  jax.config.update(name, True)
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv(name.upper(), '1')
    yield
  jax.config.update(name, before)


@pytest.fixture(scope='module', autouse=True)
def few_programs():
  """Compiled programs of a module end with it.

  Their code takes memory maps, of which a process may have 65,530; beyond these XLA
  ends in a segmentation fault.
  """
  yield
  jax.clear_caches()
  gc.collect()


def pytest_collection_modifyitems(items):
  """Files with slow tests come first, so that no worker is left alone with one."""
  slow = {item.path for item in items if item.get_closest_marker('slow')}
  items.sort(key=lambda item: item.path not in slow)
