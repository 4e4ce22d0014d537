"""The tables of reports, as rows of text, each number with its place in the JSON."""

from collections.abc import Callable, Iterable
import dataclasses
import functools
import pathlib

from coupling.report import table_rows
from coupling.report.numerals import UNDEFINED, percent
from coupling.report.table_rows import EXPLAINER_NAMES, ROLE_NAMES

Column = tuple[str, str, Callable[[dict], str]]  # heading, dotted path, format


@dataclasses.dataclass(frozen=True)
class Cell:
  """A printed number and the dotted path of its statistic in report.json."""

  text: str
  path: str = ''


@dataclasses.dataclass(frozen=True)
class Table:
  """Text of a table; the first column heads the rows."""

  caption: str
  columns: tuple[str, ...]
  rows: list[tuple[str, list[Cell]]]


def lookup(summary: dict, path: str) -> dict:
  """The statistic at a dotted path; indices of lists are numbers."""
  step = lambda node, key: node[int(key) if isinstance(node, list) else key]
  return functools.reduce(step, path.split('.'), summary)


def cell(entry: dict, path: str, key: str, show: Callable[[dict], str]) -> Cell:
  """A number of an entry, by its dotted path there and that of the entry."""
  return Cell(show(lookup(entry, key)), f'{path}.{key}')


def table(
  caption: str,
  head: str,
  rows: Iterable[tuple[str, str, dict]],
  columns: tuple[Column, ...],
  words: tuple[str, ...] = (),
  said: Callable[[dict], tuple[str, ...]] = lambda entry: (),
) -> Table:
  """A table with a row for each entry and a column for each statistic.

  Args:
    caption: above it.
    head: of the first column.
    rows: label, dotted path in report.json, and entry of each.
    columns: numbers of an entry.
    words: headings of columns of words, which come first.
    said: those words of an entry.
  """
  return Table(
    caption,
    (head, *words, *(heading for heading, _, _ in columns)),
    [
      (
        label,
        [Cell(text) for text in said(entry)]
        + [cell(entry, path, key, show) for _, key, show in columns],
      )
      for label, path, entry in rows
    ],
  )


def words(summary: dict) -> dict[str, str]:
  """What the models are called: {base}, {current}."""
  return table_rows.WORDS[summary['audit']]


def run_names(summary: dict) -> dict[str, str]:
  """Runs that have a role, with what they are, in the order of the roles."""
  names = ROLE_NAMES | ({'main': 'as it is'} if summary['audit'] else {})
  return {run: names[role] for role, run in summary['roles'].items()}


def compared(summary: dict) -> list[str]:
  """The regularised run and the one without, where they have a trajectory."""
  roles = summary['roles']
  runs = [roles[role] for role in ('main', 'unregularised') if role in roles]
  return [] if summary['audit'] and 'drift' not in summary else runs


def tables(summary: dict) -> dict[str, Table]:
  """All tables of an experiment by name; times are not among them."""
  roles = summary['roles']
  result = {
    'main': _by_run(
      summary,
      'Shares in %, gaps in percentage points, reliance from 0 to 1.',
      'runs.{}.final',
      table_rows.MAIN_ROWS,
    ),
    'labels': _by_run(
      summary,
      'Variety of all labels of the train split; then how one-sided explanations and '
      'behaviour are on held-out items.',
      'runs.{}',
      table_rows.VARIETY_ROWS,
    ),
    'baselines': _baselines(summary, roles['main'], 'baselines'),
    'contrasts': _contrasts(summary),
    'cross': _cross(summary),
    'strata': _strata(summary),
    'field': _field(summary),
  }
  if 'likelihood' in summary:
    caption = 'The likeliest of the allowed statements in place of the greedy reply.'
    rows = table_rows.LIKELIHOOD_ROWS
    result['likelihood'] = _by_run(summary, caption, 'likelihood.{}', rows)
  if 'planted' in summary:
    result['planted'] = table(
      'Cues that explanation training never saw, such as planted triggers.',
      'Run',
      [(run, f'planted.{run}', x) for run, x in summary['planted'].items()],
      table_rows.PLANTED_COLUMNS,
    )
  if 'unregularised' in roles:
    key = 'unregularised_baselines'
    result[key] = _baselines(summary, roles['unregularised'], key)
  if 'sibling' in summary:
    result['sibling'] = _sibling(summary)
  return {k: x for k, x in (result | _over_training(summary)).items() if x.rows}


def _by_run(summary: dict, caption: str, path: str, rows: tuple) -> Table:
  """A column for each run, whose name stands in for the braces in `path`."""
  names = run_names(summary)
  return Table(
    caption,
    ('', *(f'{run}: {name}' for run, name in names.items())),
    [
      (
        label.format(**words(summary)),
        [cell(lookup(summary, at), at, key, show) for at in map(path.format, names)],
      )
      for label, key, show in rows
    ],
  )


def _baselines(summary: dict, run: str, key: str) -> Table:
  rows = [(run, f'runs.{run}.final', summary['runs'][run]['final'])]
  rows += [
    (name, f'{key}.{who}', summary[key][who])
    for who, name in EXPLAINER_NAMES.items()
    if who in summary[key]
  ]
  caption = f'Explainers without training in the place of {run}. Where “unchanged” is '
  caption += 'the most frequent label, the majority class is denial.'
  return table(caption, '', rows, table_rows.BASELINE_COLUMNS)


def _contrasts(summary: dict) -> Table:
  main, names = summary['roles']['main'], EXPLAINER_NAMES | summary['roles']
  rows = [
    (f'{main} − {names[role]}', f'contrasts.{role}', found)
    for role, found in summary['contrasts'].items()
  ]
  caption = f'{main} minus others, paired by group: differences of what is named.'
  return table(caption, '', rows, table_rows.CONTRAST_COLUMNS)


def _cross(summary: dict) -> Table:
  cross, base = summary['cross'], words(summary)['base']
  explainers = [x for x in (*run_names(summary), *EXPLAINER_NAMES) if x in cross]
  columns = tuple(
    (f'behaviour of {base if name == "M_0" else name}', name, percent)
    for name in cross[summary['roles']['main']]
  )
  return table(
    'Explanations of the row’s model against the behaviour of the column’s, in %. '
    'Baselines that know an own answer have that of the column’s model.',
    'explained by',
    [(EXPLAINER_NAMES.get(x, x), f'cross.{x}', cross[x]) for x in explainers],
    columns,
  )


def _strata(summary: dict) -> Table:
  main = summary['roles']['main']
  rows = []
  for name, key in (('Self', 'self'), ('Orig', 'orig')):
    for stratum in ('unchanged', 'changed'):
      path = f'runs.{main}.final.strata.{key}.{stratum}'
      rows.append((f'{name}, {stratum}', path, lookup(summary, path)))
  caption = f'Statements of {main} against a truth, apart for truly unchanged and '
  caption += 'truly changed items. The number of items is a mean over seeds.'
  return table(caption, '', rows, table_rows.STRATA_COLUMNS)


def _field(summary: dict) -> Table:
  """Metrics of related work; those that nothing was recorded for are left out."""
  main = summary['roles']['main']
  of = ((main, f'runs.{main}.final'), ('denial', 'baselines.denial'))
  rows = [
    (
      label,
      [
        cell(lookup(summary, path), path, key.format(truth), show)
        for _, path in of
        for truth in ('self', 'orig')
      ],
    )
    for label, key, show in table_rows.FIELD_ROWS
  ]
  return Table(
    f'Metrics of related work, of {main} and of denial in its place. Exact match is '
    'Self, and Orig.',
    ('', *(f'{who}: {truth}' for who, _ in of for truth in ('Self', 'Orig'))),
    [row for row in rows if any(x.text != UNDEFINED for x in row[1])],
  )


def _over_training(summary: dict) -> dict[str, Table]:
  """Every evaluated step of the compared runs, and follow rates between these."""
  columns = tuple(
    (heading.format(**words(summary)), key, show)
    for heading, key, show in table_rows.TRAJECTORY_COLUMNS
  )
  result = {}
  for run in compared(summary):
    found = summary['runs'][run]
    given = 'drift' in summary
    rows = [
      (
        name(summary, step) if given else f'{step} ({examples:,})',
        f'runs.{run}.over_seeds.{step}',
        found['over_seeds'][str(step)],
      )
      for step, examples in zip(found['steps'], found['examples'])
    ]
    caption = f'{run} ({run_names(summary)[run]}) over training.'
    head = 'Checkpoint' if given else 'Step (examples)'
    result[f'trajectory_{run}'] = table(caption, head, rows, columns)
  result['follow'] = table(
    f'Follow rate of {summary["roles"]["main"]} between checkpoints.',
    'Steps',
    [
      (f'{x["from"]} to {x["to"]}', f'follow.{i}', x)
      for i, x in enumerate(summary['follow'])
    ],
    table_rows.FOLLOW_COLUMNS,
  )
  return result


def name(summary: dict, step: int) -> str:
  """Of a given checkpoint, without the folder that it lies in."""
  return pathlib.PurePath(summary['drift']['names'][str(step)]).name


def drift(summary: dict) -> Table:
  """Of given checkpoints: what they change from the first one on, and since when."""
  found = summary['drift']
  since = {key: found[key]['since'] for key in ('parted', 'dissimilar')}
  rows = [
    (name(summary, int(k)), f'drift.steps.{k}', x | {'step': int(k)})
    for k, x in found['steps'].items()
  ]

  def reached(step: int, key: str) -> str:
    return 'yes' if since[key] is not None and step >= since[key] else 'no'

  return table(
    'Intervals of a column cover all checkpoints together (95%). Parted: from there on '
    'all lie below 0. Left: from there on all lie below 70%.',
    'Checkpoint',
    rows,
    table_rows.DRIFT_COLUMNS,
    ('Explanations have parted', 'Behaviour has left the labels'),
    lambda x: (reached(x['step'], 'parted'), reached(x['step'], 'dissimilar')),
  )


def _sibling(summary: dict) -> Table:
  roles = summary['roles']
  return Table(
    f'{roles["main"]} and {roles["sibling"]}, both directions pooled.',
    ('', 'Explanations', 'Denial in their place'),
    [
      (
        label,
        [
          cell(summary['sibling'][who], f'sibling.{who}', key, show)
          for who in ('explanations', 'denial')
        ],
      )
      for label, key, show in table_rows.SIBLING_ROWS
    ],
  )
