"""Agreement of two reports, on tables written by hand and on a report itself."""

import collections
import pathlib

import pytest

from benchmarks import agreement

RESULT = pathlib.Path(__file__).parents[2] / 'benchmarks/results/paper.md'
HEAD = """# A paper

| Study | Claim | Number [95%] | Beside | State |
| --- | --- | ---: | --- | --- |
"""


def report(tmp_path, name, *rows):
  path = tmp_path / f'{name}.md'
  lines = (
    f'| {study} | {claim} | {told} |  | {state} |' for study, claim, told, state in rows
  )
  path.write_text(
    HEAD + '\n'.join(lines) + '\n\n| Study | Other |\n| --- | --- |\n| a | b |\n'
  )
  return agreement.read(path)


def test_verdicts_cross_and_numbers_are_held_against_both_intervals(tmp_path):
  one = report(
    tmp_path, 'one',
    ('s', 'A', '+4.1 [+2.6, +5.6]', 'inconclusive, alone: supported, and more'),
    ('s', 'B', '22.5% [12.5, 32.5]', 'contradicted'),
    ('s', 'C', '−0.5 [−4.5, +3.5]', 'inconclusive'),
    ('t', 'C', '', 'not tested'),
    ('t', 'alone here', '', 'not tested'),
  )  # fmt: skip
  other = report(
    tmp_path, 'other',
    ('s', 'A', '+7.1 [+5.1, +9.1]', 'supported'),  # 3.0 apart: root of 1.5² + 2² is 2.5
    ('s', 'B', '36.0% [26.0, 46.0]', 'supported'),  # 13.5 apart, of 14.1
    ('s', 'C', '−9.0 [−10.0, −8.0]', 'contradicted'),  # 8.5 apart, of 4.1
    ('t', 'C', '+1.0 [+0.5, +1.5]', 'supported'),
  )  # fmt: skip
  assert [x.state for x in one.values()] == [
    'supported', 'contradicted', 'inconclusive', 'not tested', 'not tested',
  ]  # fmt: skip
  far = [agreement.differ(one[key], other[key]) for key in other]
  assert far == [True, False, True, False]
  text = list(agreement.lines(one, other))
  assert 'First supported: 1; second too: 1.' in text
  assert 'First contradicted: 1; second too: 0.' in text
  assert 'Numbers that differ: 2 of 3.\n' in text
  assert text[0].startswith('4 claims are in both; 1 in the first alone, 0 in')
  # What differs, and what is in one report alone.
  assert len([x for x in text if x.startswith(('| s |', '| t |'))]) == 5


def test_a_report_agrees_with_itself():
  found = agreement.read(RESULT)
  assert len(found) > 50
  assert not any(agreement.differ(x, x) for x in found.values())
  *_, last = agreement.lines(found, found)
  assert last.startswith('| study')  # no claim differs


def test_what_is_no_report_is_refused(tmp_path):
  (tmp_path / 'x.md').write_text('# nothing\n')
  with pytest.raises(ValueError, match='no table'):
    agreement.read(tmp_path / 'x.md')
  with pytest.raises(ValueError, match="'agrees' is none"):
    report(tmp_path, 'old', ('s', 'A', '', 'agrees'))


@pytest.mark.parametrize(
  'reports', [('_41', ''), ('', '_46_more', '_46', '_46_rotate')]
)
def test_the_page_has_the_agreement_of_its_reports(reports):
  first, *others = (agreement.read(RESULT.with_name(f'paper{x}.md')) for x in reports)
  text = list(agreement.lines(first, dict(collections.ChainMap(*others))))
  page = (RESULT.parents[2] / 'docs/paper.md').read_text()
  _, _, table = page.partition(f': {text[0].split()[0]} statements, ')
  table, _, _ = table.partition('\n\n')
  for line in text:
    if line.startswith(('| supported', '| contradicted', '| inconclusive')):
      state, *counts, _ = line.strip('| ').split(' | ')
      assert f'{state} | {" | ".join(counts)} |' in table
