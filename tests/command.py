"""The command line in the test's own process: no second start, no second compilation.

What is of the process itself (signals, kills, several devices) needs a real one.
"""

import contextlib
import dataclasses
import io
import os
import pathlib
import runpy
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator

from absl import flags
import jax

from coupling.runtime import interrupt

ROOT = pathlib.Path(__file__).parent.parent
NAME = 'main_of_tests'  # of the module, so that its flags can be told
CONFIGURED = 'jax_platforms', 'jax_compilation_cache_dir'  # which main.py may change


@dataclasses.dataclass(frozen=True)
class Completed:
  """As subprocess.CompletedProcess."""

  returncode: int
  stdout: str
  stderr: str


@contextlib.contextmanager
def _own_flags(argv: list[str]) -> Iterator[None]:
  """Without those of other programs: some are required, or have the same names."""
  known = flags.FLAGS
  parsed, argv_before = known.is_parsed(), sys.argv
  others = [
    (module, flag)
    for module, found in known.flags_by_module_dict().items()
    for flag in found
    if module.startswith('benchmarks.')
  ]
  for _, flag in others:
    delattr(known, flag.name)
  try:
    sys.argv = argv  # which config flags read for themselves
    yield
  finally:
    sys.argv = argv_before
    for name in [*known]:
      module = known.find_module_defining_flag(name)
      if module == NAME or name.partition('.')[0] == 'config':
        delattr(known, name)
    for module, flag in others:
      flags.DEFINE_flag(flag, known, module)
    if not parsed:
      known.unparse_flags()


@contextlib.contextmanager
def _own_process() -> Iterator[None]:
  """Signals, environment and JAX's configuration are afterwards as before."""
  handlers = {number: signal.getsignal(number) for number in interrupt.SIGNALS}
  environment = {*os.environ}  # main.py adds to it alone
  configured = {name: getattr(jax.config, name) for name in CONFIGURED}
  stopped = interrupt.received()
  try:
    with contextlib.chdir(ROOT):
      yield
  finally:
    for number, handler in handlers.items():
      signal.signal(number, handler)
    for name in {*os.environ} - environment:
      del os.environ[name]
    for name, value in configured.items():
      jax.config.update(name, value)
    if not stopped and (number := interrupt.received()):
      signal.raise_signal(number)  # it was for the tests


def run(*arguments: str) -> Completed:
  """Runs `python main.py` with these arguments, from the root of the repository."""
  out, err, code = io.StringIO(), io.StringIO(), None
  argv = ['main.py', *arguments]
  with (
    _own_flags(argv),
    _own_process(),
    contextlib.redirect_stdout(out),
    contextlib.redirect_stderr(err),
  ):
    try:
      program = runpy.run_path('main.py', run_name=NAME)
      program['main'](program['parse_flags'](argv))
    except SystemExit as ended:
      code = ended.code
    except Exception:  # as the interpreter does
      traceback.print_exc()
      code = 1
  if isinstance(code, str):
    err.write(f'{code}\n')
    code = 1
  return Completed(code or 0, out.getvalue(), err.getvalue())


def on_devices(count: int, code: str, *arguments: str) -> str:
  """What a process of `count` virtual devices prints; it compiles with few passes."""
  environment = {
    'XLA_FLAGS': f'--xla_force_host_platform_device_count={count}',
    'JAX_PLATFORMS': 'cpu',
    'JAX_DISABLE_MOST_OPTIMIZATIONS': '1',
  }
  done = subprocess.run(
    [sys.executable, '-c', code, *map(str, arguments)],
    env=os.environ | environment,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout
