"""How like the labels behaviour stays, by how the built-in world is trained.

The claims of arXiv 2606.32038 are made where labels and current behaviour agree on
about 70% of the items. Each run is one way to train; the default of configs/world.py
was chosen from them, on validation facts of worlds that nothing is reported on.

  python main.py --config=benchmarks/regime.py --workdir=runs/regime --workers=2
  python -m benchmarks.regime --workdir=runs/regime --figure=runs/regime.svg

The second prints a table in Markdown and draws gap and reliance against similarity.
"""

import argparse
import json
import pathlib
from typing import Any

from matplotlib import figure as figure_lib
from ml_collections import ConfigDict
import numpy as np

from configs import world
from coupling.report import numerals
from coupling.report import plots
from coupling.report import tables
from coupling.report import verdict

WORLDS = (0, 100, 101)
DEFAULT = 'rate_4e3_cosine_kl_10'


def way(rate: float, kl: float, steps: int = 1_200, **more: Any) -> dict[str, Any]:
  """A run: its learning rate, which falls to 0 unless `more` says otherwise."""
  return {
    'optimizer': dict(learning_rate=rate, schedule=more.pop('schedule', 'cosine')),
    'loop': dict(steps=steps, checkpoint_every=steps),
    'objectives': dict(behavior_kl=dict(weight=float(kl))),
    **more,
  }


WAYS = {
  'rate_4e3_kl_1_steps_560': way(4e-3, 1, 560, schedule='constant'),
  'rate_1e3_kl_1': way(1e-3, 1, schedule='constant'),
  'rate_1e3_kl_3': way(1e-3, 3, schedule='constant'),
  'rank_16_rate_2e3_kl_1': way(
    2e-3, 1, schedule='constant', lora=dict(rank=16, alpha=16.0)
  ),
  'rate_2e3_cosine_kl_1': way(2e-3, 1),
  'rate_2e3_cosine_kl_3': way(2e-3, 3),
  'rate_3e3_cosine_kl_3': way(3e-3, 3),
  'rate_4e3_cosine_kl_1': way(4e-3, 1),
  'rate_4e3_cosine_kl_3': way(4e-3, 3),
  DEFAULT: way(4e-3, 10),
  'rate_6e3_cosine_kl_10': way(6e-3, 10),
  'rate_4e3_cosine_kl_3_steps_600': way(4e-3, 3, 600),
  'rate_4e3_cosine_kl_10_steps_600': way(4e-3, 10, 600),
  'rate_6e3_cosine_kl_10_steps_600': way(6e-3, 10, 600),
}
COLUMNS = {
  'similarity': ('behavior_similarity', numerals.percent),
  'gap': ('gap', numerals.points),
  'reliance on v’: self − orig': ('reliance_answer.difference', numerals.signed),
  'Self, balanced': ('balanced_self', numerals.percent),
  'changed, M_t': ('change_rate.current', numerals.percent),
}


def get_config(arg: str | None = None) -> ConfigDict:
  config = world.get_config(arg)
  config.seeds = WORLDS
  config.evaluate.split = 'validation'
  config.runs = ConfigDict(WAYS)
  config.report = dict(
    title='How like the labels behaviour stays',
    main=DEFAULT,
    unregularised='',
    sibling='',
    shuffled='',
  )
  return config


def table(summary: dict) -> list[str]:
  """The lines of a table, a row a run, the most alike first."""
  runs = ordered(summary)
  names = ['training', *COLUMNS]
  lines = ['| ' + ' | '.join(names) + ' |', '|---' * len(names) + '|']
  for run in runs:
    final = summary['runs'][run]['final']
    cells = [show(tables.lookup(final, path)) for path, show in COLUMNS.values()]
    name = f'**{run}**' if run == DEFAULT else run
    lines.append('| ' + ' | '.join([name, *cells]) + ' |')
  return lines


def ordered(summary: dict) -> list[str]:
  """Runs by their similarity, the highest first."""
  similarity = {
    run: x['final']['behavior_similarity']['mean'] for run, x in summary['runs'].items()
  }
  return sorted(similarity, key=lambda run: -similarity[run])


def figure(summary: dict) -> figure_lib.Figure:
  """Gap and reliance on v' against similarity, a dot a run, its worlds in small."""
  made, axes = plots.new(plots.PAGE, 2.6, columns=2)
  panels = (
    ('gap', 100, 'gap, points'),
    ('reliance_answer.difference', 1, 'reliance on v’: self − orig'),
  )
  for ax, (path, unit, label) in zip(axes.flat, panels, strict=True):
    for run in summary['runs']:
      final = summary['runs'][run]['final']
      x, y = final['behavior_similarity'], tables.lookup(final, path)
      chosen = run == DEFAULT
      color = plots.VERMILION if chosen else plots.BLUE
      ax.plot(
        *(np.array(s['per_seed']) * k for s, k in ((x, 100), (y, unit))),
        ls='',
        marker='.',
        ms=3,
        color=color,
        alpha=0.4,
      )
      ax.plot(
        100 * x['mean'],
        unit * y['mean'],
        marker='D' if chosen else 'o',
        ms=5,
        ls='',
        color=color,
      )
    ax.axhline(0, lw=0.6, color=plots.BLACK)
    ax.axvline(100 * verdict.SIMILARITY, lw=0.6, ls='--', color=plots.BLACK)
    ax.set(xlabel='similarity of behaviour to the labels, %', ylabel=label)
  return made


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--workdir', type=pathlib.Path, required=True)
  parser.add_argument('--figure', type=pathlib.Path, help='an SVG file to write')
  args = parser.parse_args()
  summary = json.loads((args.workdir / 'report' / 'report.json').read_text())
  print('\n'.join(table(summary)))
  if args.figure:
    title = 'Gap and reliance against similarity'
    args.figure.write_text(plots.svg('regime', title, lambda: figure(summary)))


if __name__ == '__main__':
  main()
