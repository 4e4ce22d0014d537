"""Compiled programs are kept from test to test, and for the processes that tests start.

Most of the time of a tiny experiment is compilation, and many tests run the same one.
"""

import os
import pathlib

# Before anything imports JAX, which reads them then.
FOLDER = pathlib.Path(__file__).parent.parent / '.pytest_cache' / 'compiled'
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(FOLDER))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.2')
