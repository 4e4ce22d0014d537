"""Executes a notebook's code cells as Jupyter does; run as a script, in a process.

  python tests/notebook_cells.py NOTEBOOK SETTINGS SHOWN

All cells share one namespace and run inside a running event loop. SETTINGS, JSON, are
assigned after the cell tagged `parameters`, which must have set every one of them.
SHOWN: a file for what was displayed, JSON, as a list of [kind, data]. Of IPython there
is only what the notebook imports, so that the tests need no Jupyter; and it is there
only once a cell wants it, since libraries that find it want the whole of it.
"""

import asyncio
import json
import pathlib
import sys
import types

KINDS = ('HTML', 'Markdown', 'SVG')


def add_ipython(shown: list) -> None:
  """IPython.display, which keeps what is displayed."""
  module = types.ModuleType('IPython.display')
  for kind in KINDS:
    setattr(module, kind, lambda data, kind=kind: [kind, data])
  module.display = lambda *items: shown.extend(items)
  sys.modules['IPython'] = types.ModuleType('IPython')
  sys.modules['IPython.display'] = module


async def execute(cells: list[dict], settings: dict, shown: list) -> None:
  namespace = {'__name__': '__main__'}
  for cell in cells:
    if cell['cell_type'] != 'code':
      continue
    source = ''.join(cell['source'])
    if 'from IPython' in source:
      add_ipython(shown)
    exec(compile(source, f'cell {cell["id"]!r}', 'exec'), namespace)
    if 'parameters' in cell['metadata'].get('tags', ()):
      if unknown := settings.keys() - namespace.keys():
        raise KeyError(f'the notebook has no settings {sorted(unknown)}')
      namespace.update(settings)


def main(notebook: str, settings: str, shown_path: str) -> None:
  shown = []
  cells = json.loads(pathlib.Path(notebook).read_text())['cells']
  asyncio.run(execute(cells, json.loads(settings), shown))
  pathlib.Path(shown_path).write_text(json.dumps(shown))


if __name__ == '__main__':
  main(*sys.argv[1:])
