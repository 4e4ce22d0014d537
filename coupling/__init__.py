"""Introspective coupling: does a model explain its own current behaviour?

pairs  = coupling.tasks.facts(seed=0)       # or a list of coupling.Pair
before = coupling.load('smollm2_135m')
labels = coupling.label(before, pairs)      # B(M_0), E(M_0)
after  = coupling.train(before, labels, steps=300)
result = coupling.evaluate(after, labels)   # Self, Orig, gap, reliance, controls
"""

import importlib
import importlib.util
import pathlib

_ROOT = pathlib.Path(__file__).resolve().parent.parent
for _name in ('data', 'configs'):  # common names, and the script's folder comes first
  _found = importlib.util.find_spec(_name)
  _origin = _found.origin if _found else None
  if _origin is None or pathlib.Path(_origin).resolve().parent != _ROOT / _name:
    raise ImportError(
      f'this program is {_ROOT}, but `import {_name}` finds '
      f'{_origin or "no package of that name"} in the place of its folder {_name}: '
      'rename what is in the way, or run elsewhere'
    )

import data  # noqa: E402, F401  # before transformers: see there

_WHERE = {
  'Pair': 'data.pairs',
  'Questions': 'data.pairs',
  'Result': 'coupling.run.api_evaluate',
  'evaluate': 'coupling.run.api_evaluate',
  'label': 'coupling.run.api_label',
  'load': 'coupling.run.api_load',
  'read_labels': 'coupling.run.api_read',
  'tasks': 'coupling.run',
  'train': 'coupling.run.api_train',
}
__all__ = [
  'Pair',
  'Questions',
  'Result',
  'evaluate',
  'label',
  'load',
  'read_labels',
  'tasks',
  'train',
]


def __getattr__(name: str):
  """Imports on demand: the report and its tests do without JAX."""
  if name not in _WHERE:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  if name == 'tasks':
    return importlib.import_module('coupling.run.tasks')
  return getattr(importlib.import_module(_WHERE[name]), name)
