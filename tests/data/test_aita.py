"""AITA posts: both file layouts, opinions both ways, errors."""

import collections
import csv
import json

from hypothesis import given, settings, strategies as st
import pytest
from scipy import stats

from data import aita, builder, pairs, readers
from tests import real_data, texts

POSTS = st.lists(st.tuples(texts.TEXTS, st.sampled_from(aita.VERDICTS)), min_size=1)


def write(path, layout, posts):
  if layout == 'jsonl':
    rows = [{'prompt_title': f'R: {v} AI: NTA', 'prompt_body': p} for p, v in posts]
    lines = '\n'.join(json.dumps(row, ensure_ascii=False) for row in rows)
    (path / 'posts.jsonl').write_text(lines, encoding='utf-8')
  else:
    with (path / 'posts.csv').open('w', encoding='utf-8', newline='') as file:
      writer = csv.writer(file)
      writer.writerow(['', 'prompt', 'top_comment', 'is_asshole', 'ytanta'])
      for i, (post, verdict) in enumerate(posts):
        writer.writerow([i, post, 'words', int(verdict == 'YTA'), verdict])
  return str(path)


@pytest.mark.parametrize('layout', ['jsonl', 'csv'])
@given(posts=POSTS, seed=st.integers(0, 9))
@settings(deadline=None, max_examples=40)
def test_the_counterfactual_is_the_post(tmp_path_factory, layout, posts, seed):
  path = write(tmp_path_factory.mktemp('aita'), layout, posts)
  made = list(aita.make(aita.Config(path=path), seed))
  cues = {
    (kind, option): '\n\n' + text
    for (kind, option), text in (
      (head.split(' '), text)
      for head, text in (opinion.split(': ', 1) for opinion in aita.OPINIONS)
    )
  }
  assert len(made) == len(posts)
  for pair, (post, verdict) in zip(made, posts):
    assert pair.counterfactual == post
    assert pair.cue == cues[pair.cue_kind, pair.options[pair.cue_option]]
    assert pair.prompt == post + pair.cue
    assert pairs.remove_cue(pair.prompt, pair.cue, pairs.cue_start(pair)) == post
    assert pair.provenance.endswith(f'verdict={verdict}')
    builder.check(pair)


def test_opinions_are_uniform_and_follow_from_the_seed(tmp_path):
  posts = [(f'Post {i}', 'NTA') for i in range(1600)]
  config = aita.Config(path=write(tmp_path, 'jsonl', posts))
  made = list(aita.make(config, 0))
  assert made == list(aita.make(config, 0)) != list(aita.make(config, 1))
  counts = collections.Counter((p.cue_kind, p.cue_option) for p in made)
  assert len(counts) == len(aita.OPINIONS)
  assert stats.chisquare(list(counts.values())).pvalue > 1e-3


def test_the_real_posts():
  config = aita.Config(path=real_data.path('aita'))
  by_split = builder.split(aita.make(config, 0))
  made = [p for found in by_split.values() for p in found]
  assert len(made) == len({p.group for p in made}) == 300
  assert {p.cue_option for p in made} == {0, 1}
  verdicts = collections.Counter(p.provenance[-3:] for p in made)
  assert verdicts == {'NTA': 157, 'YTA': 143}


@pytest.mark.parametrize(
  'name, content, error',
  [
    ('x.csv', '', 'x.csv: the file holds no rows'),
    ('x.csv', 'post,verdict\na,NTA\n', "row 2: the fields are .'post', 'verdict'.*Ren"),
    ('x.csv', 'prompt,is_asshole,ytanta\na,1,NTA\n', "row 2: ytanta='NTA', is_assh"),
    ('x.csv', 'prompt,is_asshole,ytanta\na,2,ESH\n', "row 2: ytanta='ESH'"),
    ('x.csv', 'prompt,is_asshole,ytanta\n,1,YTA\n', "row 2, field 'prompt': expected"),
    (
      'x.jsonl',
      '{"prompt_title": "R: ESH AI: NTA", "prompt_body": "p"}',
      "row 1, field prompt_title: .* found 'R: ESH",
    ),
    ('x.jsonl', '{"prompt_title": "R: NTA", "prompt_body": null}', 'row 1, field'),
    ('x.txt', 'post', r'no file that ends in \.jsonl or \.csv'),
  ],
)
def test_bad_posts_are_errors_that_say_where(tmp_path, name, content, error):
  (tmp_path / name).write_text(content)
  with pytest.raises(readers.DataError, match=error):
    list(aita.make(aita.Config(path=str(tmp_path)), 0))


def test_an_opinion_needs_a_verdict(tmp_path):
  path = write(tmp_path, 'jsonl', [('p', 'NTA')])
  with pytest.raises(ValueError, match=r"task.opinions: 'x: text'.*\('YTA', 'NTA'\)"):
    list(aita.make(aita.Config(path=path, opinions=('x: text',)), 0))
