"""The tables of the report, as rows of text, each number with its place in the JSON."""

import dataclasses
import functools

from coupling.report import words as words_lib
from coupling.report.numerals import count, decimal, percent, points, signed
from coupling.statistics.contrasts import LIKELIHOOD

ROLE_NAMES = {
  'main': words_lib.TRAINING.main,
  'unregularised': 'no behaviour regularisation',
  'sibling': 'another fine-tuning seed',
  'shuffled': 'shuffled labels',
}
EXPLAINER_NAMES = {
  'M_0': 'M_0, before training',
  'majority': 'majority class',
  'denial': 'denial: “unchanged”',
  'cue_parrot': 'cue parrot',
  'input_only': 'inputs alone',
}
MAIN_ROWS = (
  ('Self', 'self_accuracy', percent),
  ('Orig', 'orig_accuracy', percent),
  ('Gap: Self − Orig', 'gap', points),
  ('Weight on self, given surface and own answer', 'siding.self', decimal),
  ('Weight on orig, given surface and own answer', 'siding.orig', decimal),
  ('Weights: self − orig', 'siding.difference', signed),
  ('On v’ alone: weight on self', 'siding_answer.self', decimal),
  ('On v’ alone: weight on orig', 'siding_answer.orig', decimal),
  ('On v’ alone: self − orig', 'siding_answer.difference', signed),
  ('Gap, class-balanced', 'balanced_gap', points),
  ('Gap on v’ alone', 'gap_answer', points),
  ('Gap beyond the surface', 'shuffled.corrected_gap', points),
  ('Changed: M_0', 'change_rate.base', percent),
  ('Changed: M_t', 'change_rate.current', percent),
  ('Changed: as explained', 'change_rate.stated', percent),
  ('Moved items', 'drift', percent),
  ('Moved: sides with self', 'moved.self', percent),
  ('Moved: sides with orig', 'moved.orig', percent),
  ('Moved: neither', 'moved.neither', percent),
  ('Moved: self − orig', 'moved.difference', points),
  ('Moved: self / orig', 'moved.ratio', decimal),
  ('Behaviour similarity', 'behavior_similarity', percent),
  ('Self beyond chance in strata', 'chance_corrected.self', decimal),
  ('Orig beyond chance in strata', 'chance_corrected.orig', decimal),
  ('Invalid explanations', 'invalid', percent),
)
VARIETY_ROWS = (
  ('Labels', 'labels.n', count),
  ('Labels that say “changed”', 'labels.changed', percent),
  ('Commonest label', 'labels.commonest', percent),
  ('Entropy, bits', 'labels.bits', decimal),
  ('… as so many equally frequent labels', 'labels.effective', decimal),
  ('… of the largest possible', 'labels.normalised', percent),
  ('“Unchanged” or “changed to k”: commonest label', 'statements.labels', percent),
  ('… commonest explanation, final', 'statements.commonest', percent),
  ('… commonest behaviour, final', 'statements.behavior', percent),
)
LIKELIHOOD_ROWS = (
  ('Greedy reply says the same', 'greedy_agreement', percent),
  *(row for row in MAIN_ROWS if row[1].split('.')[0] in LIKELIHOOD),
)
TRAJECTORY_COLUMNS = (
  ('Self', 'self_accuracy', percent),
  ('Orig', 'orig_accuracy', percent),
  ('Gap', 'gap', points),
  ('Weight on self', 'siding.self', decimal),
  ('… on orig', 'siding.orig', decimal),
  ('… self − orig', 'siding.difference', signed),
  ('Balanced gap', 'balanced_gap', points),
  ('Similarity', 'behavior_similarity', percent),
  ('Changed: M_t', 'change_rate.current', percent),
  ('Changed: explained', 'change_rate.stated', percent),
)
BASELINE_COLUMNS = (
  ('Self', 'self_accuracy', percent),
  ('Orig', 'orig_accuracy', percent),
  ('Gap', 'gap', points),
  ('Balanced gap', 'balanced_gap', points),
  ('Gap on v’', 'gap_answer', points),
  ('Moved: self', 'moved.self', percent),
  ('Moved: orig', 'moved.orig', percent),
  ('Weight on self', 'siding.self', decimal),
  ('… on orig', 'siding.orig', decimal),
)
CONTRAST_COLUMNS = (
  ('Gap', 'gap', points),
  ('Weights', 'siding_difference', signed),
  ('Weights on v’', 'siding_answer_difference', signed),
)
STRATA_COLUMNS = (
  ('Items', 'n', count),
  ('Exact match', 'exact_match', percent),
  ('Precision', 'precision', percent),
  ('Recall', 'recall', percent),
  ('F1', 'f1', percent),
  ('Invalid', 'invalid', percent),
)
PLANTED_COLUMNS = (
  ('Answers as the cue says', 'followed', percent),
  ('Self', 'self_accuracy', percent),
  ('Denial in its place', 'denial', percent),
  ('Changed', 'changed', percent),
  ('… as explained', 'stated', percent),
)
FOLLOW_COLUMNS = (
  ('Truth moved, not yet said: items', 'moved_truth.n', count),
  ('… followed', 'moved_truth.followed', percent),
  ('Truth still: moved to it', 'still_truth.moved_to_truth', percent),
  ('Any move: truth moved', 'moved_truth.statement_moved', percent),
  ('… truth still', 'still_truth.statement_moved', percent),
)
SIBLING_ROWS = (
  ('Agrees with own behaviour', 'own_accuracy', percent),
  ('Agrees with the sibling’s', 'sibling_accuracy', percent),
  ('Own − sibling', 'difference', points),
  ('Answers alike, v’ not: items', 'beyond_shared.n', count),
  ('… weight of the own v’, smaller of both models', 'beyond_shared.smaller', signed),
  ('Where the siblings differ: items', 'differing.n', count),
  ('… sides with own', 'differing.own', percent),
  ('… sides with the sibling', 'differing.sibling', percent),
  ('… neither', 'differing.neither', percent),
)


@dataclasses.dataclass(frozen=True)
class Cell:
  """A printed number and the dotted path of its statistic in report.json."""

  text: str
  path: str


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


def run_names(summary: dict) -> dict[str, str]:
  """Runs that have a role, with what they are, in the order of the roles."""
  names = ROLE_NAMES | {'main': words_lib.of(summary).main}
  return {run: names[role] for role, run in summary['roles'].items()}


def tables(summary: dict) -> dict[str, Table]:
  """All tables by name; times are not among them."""
  runs, words = run_names(summary), words_lib.of(summary)
  main = summary['roles']['main']
  over = summary['interval']['text']
  seeds = len(summary['seeds'])
  basis = f'{seeds} seed{"s" if seeds > 1 else ""}; intervals 95%, {over}'
  labels_basis = basis if seeds > 1 else '1 seed, no intervals'

  def cells(path, columns):
    return [_cell(summary, f'{path}.{key}', show) for _, key, show in columns]

  def by_run(caption, path, rows):
    """A column for each run, whose name stands in for the braces in `path`."""
    return Table(
      caption,
      ('', *(f'{run}: {name}' for run, name in runs.items())),
      [
        (
          words.rows.get(label, label),
          [_cell(summary, f'{path.format(run)}.{key}', show) for run in runs],
        )
        for label, key, show in rows
      ],
    )

  def baselines(run, key):
    return Table(
      f'Untrained explainers of {words.explained.format(run=run)}, beside what it says '
      f'itself: {basis}. Where “unchanged” is the most frequent label, the majority '
      'class is denial.',
      ('', *(label for label, _, _ in BASELINE_COLUMNS)),
      [(run, cells(f'runs.{run}.final', BASELINE_COLUMNS))]
      + [
        (EXPLAINER_NAMES[name], cells(f'{key}.{name}', BASELINE_COLUMNS))
        for name in EXPLAINER_NAMES
        if name in summary[key]
      ],
    )

  result = {
    'main': by_run(
      f'{words.when}: {basis}. Shares in %, gaps in percentage '
      'points, weights from 0 to 1.',
      'runs.{}.final',
      MAIN_ROWS,
    ),
    'labels': by_run(
      f'{words.labels_caption}: {labels_basis}.',
      'runs.{}',
      VARIETY_ROWS,
    ),
    'baselines': baselines(main, 'baselines'),
    'cross': _cross(summary, basis),
    'contrasts': Table(
      f'{main} minus other runs, paired by group: {basis}.',
      (
        '',
        'Difference of gaps, points',
        'Difference of (weight on self − on orig)',
        'The same on v’ alone',
      ),
      [
        (
          f'{main} − {summary["roles"][role]}',
          cells(f'contrasts.{role}', CONTRAST_COLUMNS),
        )
        for role in summary['contrasts']
      ],
    ),
    'strata': Table(
      f'Statements of {main} against a truth, apart for truly unchanged and truly '
      f'changed items: {basis}. The number of items is a mean over seeds.',
      ('', *(label for label, _, _ in STRATA_COLUMNS)),
      [
        (f'{name}, {stratum}', cells(path + stratum, STRATA_COLUMNS))
        for name, path in (
          ('Self', f'runs.{main}.final.strata.self.'),
          ('Orig', f'runs.{main}.final.strata.orig.'),
        )
        for stratum in ('unchanged', 'changed')
      ],
    ),
    'follow': Table(
      f'Follow rate of {main} between checkpoints: {basis}.',
      ('Steps', *(label for label, _, _ in FOLLOW_COLUMNS)),
      [
        (f'{span["from"]} to {span["to"]}', cells(f'follow.{i}', FOLLOW_COLUMNS))
        for i, span in enumerate(summary['follow'])
      ],
    ),
  }
  if 'likelihood' in summary:
    result['likelihood'] = by_run(
      'The likeliest of the allowed statements in place of the greedy reply, at the '
      f'final checkpoint: {basis}.',
      'likelihood.{}',
      LIKELIHOOD_ROWS,
    )
  if 'planted' in summary:
    result['planted'] = Table(
      'Cues that explanation training never saw, such as planted triggers, at the '
      f'final checkpoint: {basis}.',
      ('', *(label for label, _, _ in PLANTED_COLUMNS)),
      [(run, cells(f'planted.{run}', PLANTED_COLUMNS)) for run in summary['planted']],
    )
  if 'unregularised' in summary['roles']:
    key = 'unregularised_baselines'
    result[key] = baselines(summary['roles']['unregularised'], key)
  for run in compared(summary):
    result[f'trajectory_{run}'] = Table(
      f'Trajectory of {run} ({runs[run]}): {basis}.',
      ('Step', *(label for label, _, _ in TRAJECTORY_COLUMNS)),
      [
        (str(step), cells(f'runs.{run}.over_seeds.{step}', TRAJECTORY_COLUMNS))
        for step in summary['runs'][run]['steps']
      ],
    )
  if 'sibling' in summary:
    said = ('explanations', 'denial')
    result['sibling'] = Table(
      f'{main} and {summary["roles"]["sibling"]}, both directions pooled: {basis}.',
      ('', 'Explanations', 'Denial in their place'),
      [
        (label, [_cell(summary, f'sibling.{who}.{key}', show) for who in said])
        for label, key, show in SIBLING_ROWS
      ],
    )
  return result


def compared(summary: dict) -> list[str]:
  """The regularised run and the one without, where they have a trajectory."""
  roles = summary['roles']
  runs = [roles[role] for role in ('main', 'unregularised') if role in roles]
  return [] if summary['audit'] else runs


def _cell(summary: dict, path: str, show) -> Cell:
  return Cell(show(lookup(summary, path)), path)


def _cross(summary: dict, basis: str) -> Table:
  cross, base = summary['cross'], words_lib.of(summary).base
  explainers = [x for x in (*run_names(summary), *EXPLAINER_NAMES) if x in cross]
  behavers = list(cross[summary['roles']['main']])
  names = [base if name == 'M_0' else name for name in behavers]
  return Table(
    'Explanations of the row’s model against the behaviour of the column’s, in %: '
    f'{basis}. Majority, denial and parrot speak for the column’s model.',
    ('explained by', *(f'behaviour of {name}' for name in names)),
    [
      (
        EXPLAINER_NAMES.get(x, x),
        [_cell(summary, f'cross.{x}.{name}', percent) for name in behavers],
      )
      for x in explainers
    ],
  )
