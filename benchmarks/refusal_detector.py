"""The refusal detector against people's labels of the XSTest completions.

  python -m benchmarks.refusal_detector \
    --file=../shared/data/xstest/xstest_v2_completions_gpt4_gpteval.csv

People labelled 450 replies of GPT-4 1_full_compliance, 2_full_refusal or
3_partial_refusal (Röttger et al. 2024). A partial refusal counts as a refusal: it
withholds what was asked. A reply that the detector calls unclear agrees with no label.

The phrases were written from general knowledge of how models refuse, and then revised
while reading the replies of one half of the file, "developed on" (prompts whose SHA-256
begins with an even byte). The other half, "held out", was scored after that and its
replies were not read. Both halves are by one model, GPT-4, and most of its refusals
are one and the same sentence, so figures without that reply are printed too. On another
model's replies agreement may be lower, and is not known from here.
"""

import collections
import hashlib
import pathlib

from absl import app
from absl import flags
import numpy as np

from coupling.statistics import intervals
from data import detector
from data import readers

FILE = flags.DEFINE_string('file', None, 'The completions, CSV.', required=True)

LABELS = {
  '1_full_compliance': detector.COMPLY,
  '2_full_refusal': detector.REFUSE,
  '3_partial_refusal': detector.REFUSE,
}


def developed_on(prompt: str) -> bool:
  """Whether a prompt is in the half that was read."""
  return hashlib.sha256(prompt.encode()).digest()[0] % 2 == 0


def read(path: str) -> tuple[list[str], np.ndarray, np.ndarray]:
  """Replies, people's labels (str [N]), and whether each is in the half read."""
  columns = ('prompt', 'completion', 'final_label')
  rows = list(readers.rows(pathlib.Path(path), columns))
  for row in rows:
    if row.values['final_label'] not in LABELS:
      raise readers.DataError(
        f'{row.where}, field final_label: {row.values["final_label"]!r}; expected one '
        f'of {list(LABELS)}.'
      )
  return (
    [row.values['completion'] for row in rows],
    np.array([row.values['final_label'] for row in rows]),
    np.array([developed_on(row.text('prompt')) for row in rows]),
  )


def agreement(found_N: np.ndarray, label_N: np.ndarray) -> dict[str, tuple[int, int]]:
  """(count, of how many) by name: agreement, misses, false alarms, unclear."""
  truth_N = np.array([LABELS[label] for label in label_N])
  full_N = label_N != '3_partial_refusal'
  refused_N, complied_N = truth_N == detector.REFUSE, truth_N == detector.COMPLY
  hit_N = found_N == truth_N
  return {
    'agreement': (int(hit_N.sum()), len(hit_N)),
    'agreement without partial refusals': (int(hit_N[full_N].sum()), int(full_N.sum())),
    'misses (refusals not found)': (
      int((~hit_N)[refused_N].sum()),
      int(refused_N.sum()),
    ),
    'false alarms (compliance called refusal)': (
      int((found_N == detector.REFUSE)[complied_N].sum()),
      int(complied_N.sum()),
    ),
    'unclear': (int((found_N == detector.UNCLEAR).sum()), len(hit_N)),
  }


def table(found_N: np.ndarray, label_N: np.ndarray) -> list[str]:
  """Lines: people's labels against what was detected."""
  lines = [f'  {"":20}' + ''.join(f'{name:>9}' for name in detector.BEHAVIORS)]
  for label in LABELS:
    counts = np.bincount(found_N[label_N == label], minlength=len(detector.BEHAVIORS))
    lines.append(f'  {label:20}' + ''.join(f'{n:9d}' for n in counts))
  return lines


def main(_) -> None:
  replies, label_N, developed_N = read(FILE.value)
  found_N = detector.opening_phrases(replies)
  [(commonest, _)] = collections.Counter(replies).most_common(1)
  other_N = np.array([reply != commonest for reply in replies])
  parts = {
    'held out': ~developed_N,
    f'held out, without the reply {commonest!r}': ~developed_N & other_N,
    'developed on': developed_N,
    'all': np.ones_like(developed_N),
  }
  for name, part_N in parts.items():
    print(f'{name}: {part_N.sum()} replies')
    for what, (count, n) in agreement(found_N[part_N], label_N[part_N]).items():
      low, high = intervals.wilson(count, n)
      share = f'{100 * count / n:5.1f}% [{100 * low:.1f}, {100 * high:.1f}]'
      print(f'  {what:42}{share:>22}  {count}/{n}')
    print('\n'.join(table(found_N[part_N], label_N[part_N])))
  print('Partial refusals count as refusals. Intervals: Wilson, 95%.')


if __name__ == '__main__':
  app.run(main)
