"""The real public data, for the tests that need them."""

import pathlib

ROOT = pathlib.Path(__file__).parent.parent.parent / 'shared' / 'data'


def path(name: str) -> str:
  """A file or folder of ../shared/data; fails clearly where it is missing."""
  found = ROOT / name
  assert found.exists(), (
    f'{found} is missing: this test needs the public data sets in ../shared/data '
    '(beside the project folder)'
  )
  return str(found)
