"""The report: report.json with every number, report.md, and one page, index.html.

The page stands alone: styles and figures are inside it, it loads nothing and runs no
script. Each number in a table carries the dotted path of its statistic in report.json
(`data-path`). Times and versions are under `provenance` in the JSON and nowhere else.
"""

from html import escape
import json
import pathlib

from coupling.report import figures as figures_lib
from coupling.report import glossary
from coupling.report import markup
from coupling.report import style
from coupling.report import tables as tables_lib
from coupling.report import verdict
from coupling.report import words as words_lib
from coupling.runtime import files

EXAMPLE_KINDS = {
  'self': 'Moved, sides with self',
  'orig': 'Moved, sides with orig',
  'neither': 'Moved, neither',
  'unmoved_right': 'Not moved, right',
}
MARKDOWN_TABLES = (
  *(
    'main',
    'planted',
    'labels',
    'sibling',
    'baselines',
    'unregularised_baselines',
    'contrasts',
    'likelihood',
  ),
)


def write(folder: pathlib.Path, summary: dict) -> None:
  """Writes report.json, report.md and index.html.

  Args:
    folder: where to; it exists.
    summary: of aggregate.summarize.

  Raises:
    WorkdirError: a number is not finite; the message names its field.
  """
  findings = verdict.verdict(summary)
  tables = tables_lib.tables(summary)
  files.write_json(folder / 'report.json', summary | {'verdict': findings})
  markdown = _markdown(summary, findings, tables)
  files.write_bytes(folder / 'report.md', markdown.encode())
  files.write_bytes(folder / 'index.html', html(summary).encode())


def html(summary: dict) -> str:
  """The page, which stands alone, of a summary of aggregate.summarize."""
  findings, tables = verdict.verdict(summary), tables_lib.tables(summary)
  return _page(summary, findings, tables, figures_lib.figures(summary))


def _markdown(summary: dict, findings: list[dict], tables: dict) -> str:
  headline, *rest = findings
  question = words_lib.of(summary).question
  parts = [f'# {summary["title"]}', question, f'**{headline["text"]}**']
  parts += [f'**{f["about"].capitalize()}.** {f["text"]}' for f in rest]
  for name in MARKDOWN_TABLES:
    if name in tables and tables[name].rows:
      parts.append(markup.markdown_table(tables[name]))
  return '\n\n'.join(parts) + '\n'


def _page(summary: dict, findings: list[dict], tables: dict, figures: dict) -> str:
  def table(name: str) -> str:
    return (
      markup.table(tables[name], name) if name in tables and tables[name].rows else ''
    )

  def figure(name: str, caption: str) -> str:
    return (
      f'<figure id="figure-{name}">{figures[name]}'
      f'<figcaption>{escape(caption)}</figcaption></figure>'
    )

  over, words = summary['interval']['text'], words_lib.of(summary)
  training = ''.join(table(name) for name in tables if name.startswith('traj'))
  training += table('follow')
  if 'trajectory' in figures:
    caption = f'Step 0 is M_0. Whiskers: 95% intervals, {over}.'
    training = figure('trajectory', caption) + training
  sections = (
    ('Verdict', 'verdict', _verdict(findings)),
    (
      'Self and Orig',
      'main-result',
      table('main')
      + figure(
        'accuracy',
        f'{words.when}. Whiskers: 95% intervals, {over}; dots: single seeds.',
      )
      + figure(
        'weights',
        'What the verdict rests on: how far explanations follow the current truth and '
        'the labels, given the surface and the own answer. Denial, and whoever reads '
        f'the surface alone, have weight 0 on both. Whiskers: 95% intervals, {over}.',
      ),
    ),
    (
      'Moved items and change rates',
      'moved-items',
      '<div class="pair">'
      + figure('moved', 'Where the true explanation moved: whose side is taken.')
      + figure('change_rates', f'“Changed” when the cue goes; intervals {over}.')
      + '</div>',
    ),
    (words.labels_heading, 'labels', table('labels')),
    ('Sibling', 'sibling-control', table('sibling')),
    (
      'Baselines and controls',
      'controls',
      table('baselines')
      + table('unregularised_baselines')
      + table('contrasts')
      + table('likelihood')
      + table('cross')
      + figure('cross', 'The same in colour: agreement in %.'),
    ),
    ('Over training', 'over-training', training),
    ('Changed and unchanged items', 'by-stratum', table('strata')),
    ('Cues never explained in training', 'planted', table('planted')),
    ('Examples', 'examples', _examples(summary)),
    ('What was run', 'provenance', _provenance(summary)),
    ('Words and intervals', 'glossary', _glossary(words)),
  )
  body = ''.join(
    f'<section id="{key}"><h2>{heading}</h2>{content}</section>'
    for heading, key, content in sections
    if content
  )
  title = escape(summary['title'])
  return (
    '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    f'<title>{title}</title><style>{style.STYLE}</style></head>\n'
    f'<body><main><h1>{title}</h1>{markup.paragraph(words.question)}\n{body}</main></body></html>\n'
  )


def _verdict(findings: list[dict]) -> str:
  headline, *rest = findings
  return markup.paragraph(headline['text']) + ''.join(
    f'<p><b>{escape(f["about"].capitalize())}.</b> {escape(f["text"])}</p>'
    for f in rest
  )


def _examples(summary: dict) -> str:
  words, main = words_lib.of(summary), summary['roles']['main']
  rule = markup.paragraph(
    'Not chosen by hand: the first items of each kind in file order, of the first '
    f'seed, {summary["seeds"][0]}, and {words.explained.format(run=main)}. '
    '“With” and “without” are the answers with and without the cue. '
    f'{words.moved_means}'
  )
  rows = [
    (
      EXAMPLE_KINDS[x['kind']],
      x['row'],
      x['prompt'],
      x['counterfactual'],
      ', '.join(x['options']),
      *('{prompt} / {counterfactual}'.format(**x['did'][m]) for m in x['did']),
      x['statement'],
    )
    for x in summary['examples']
  ]
  columns = ('Whose side', 'Item', 'Prompt', 'Without cue', 'Options', *words.columns)
  return rule + markup.text_table('What the model did, and what it said', columns, rows)


def _provenance(summary: dict) -> str:
  found = summary['provenance']
  sizes = zip(summary['seeds'], summary['items'], summary['groups'])
  items = '; '.join(f'seed {s}: {n:,} items in {g} groups' for s, n, g in sizes)
  split = summary['config']['evaluate']['split']
  return (
    markup.paragraph(
      f'Held-out items ({split} split): {items}.{_too_long(found["too_long"])}'
    )
    + _tokens(found['tokens'])
    + markup.provenance(found)
    + markup.details('Config', json.dumps(summary['config'], indent=2))
  )


def _too_long(dropped: dict[str, dict[str, int]]) -> str:
  counts = [
    f'seed {seed}: ' + ', '.join(f'{n:,} of {split}' for split, n in found.items())
    for seed, found in dropped.items()
    if any(found.values())
  ]
  about = ' Pairs left out as longer than length.max_tokens: '
  return f'{about}{"; ".join(counts)}.' if counts else ''


def _tokens(tokens: dict[str, dict[str, float]]) -> str:
  rows = [
    (stage, f'{x["per_pair"]:.0f}', f'{x["saved"]:.0%}', f'{x["filling"]:.0%}')
    for stage, x in tokens.items()
  ]
  about = 'Tokens of a pair: its questions share what they begin with'
  columns = ('Stage', 'Tokens a pair', 'Saved by sharing', 'Filling of rows')
  return markup.text_table(about, columns, rows) if rows else ''


def _glossary(words: words_lib.Words) -> str:
  audit = markup.paragraph(words.glossary) if words.glossary else ''
  return audit + markup.text_table(
    'What each number is, and how its interval within one run is computed. Over '
    'several seeds, the interval of every number is Student’s t over the seeds’ '
    'values, for shares on the logit scale; counts have none.',
    ('Word', 'In report.json', 'Meaning', 'Interval within one run'),
    glossary.TERMS,
  )
