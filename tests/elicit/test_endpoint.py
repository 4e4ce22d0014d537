"""An OpenAI-compatible server that misbehaves: what helps is done, the rest is said."""

import json
import re
import socket
import time

import pytest

from coupling.config import schema
from coupling.elicit import endpoint
from coupling.runtime import interrupt
from coupling.runtime.answer_log import AnswerLog
from tests import fake_server

KEY = 'sk-of-the-test-1234567890'
PROMPTS = [f'Is it {i}?' for i in range(6)]
BAD = PROMPTS[3]  # what goes wrong goes wrong here
HTML = '<html><body>Welcome to the router</body></html>'
FOREVER = 99


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
  monkeypatch.setattr(endpoint, 'PAUSE', 0.001)
  monkeypatch.setenv(schema.KEY, KEY)


@pytest.fixture
def server():
  with fake_server.running(lambda prompt: f'to {prompt}') as found:
    yield found


def made(server, tmp_path, **fields) -> endpoint.Endpoint:
  given = dict(url=server.url, model=fake_server.MODEL, timeout=0.5) | fields
  return endpoint.Endpoint(schema.Served(**given), AnswerLog(tmp_path / 'a.jsonl'))


def content(body) -> str:
  return body['messages'][-1]['content']


def fails(times, *answer):
  """The first `times` answers to BAD are this."""
  seen = []

  def bad(number, body):
    if content(body) != BAD or len(seen) >= times:
      return None
    seen.append(number)
    if answer[0] == 'slow':
      time.sleep(0.8)
      return None
    return answer[0] if answer[0] == fake_server.STOPPED else answer

  return bad


def said(**message):
  return 200, {}, json.dumps({'choices': [{'message': message}]})


PAST = 'Wed, 21 Oct 2015 07:28:00 GMT'
PASSING = {
  'error 500 twice': ((500, {}, 'oh'), 2),
  'rate limit, seconds': ((429, {'Retry-After': '0.01'}, 'slower'), 1),
  'rate limit, a date': ((429, {'Retry-After': PAST}, 'slower'), 1),
  'rate limit, no number': ((429, {'Retry-After': 'soon'}, 'slower'), 1),
  'drops half way': ((fake_server.STOPPED,), 1),
  'slow': (('slow',), 1),
  'HTML': ((200, {}, HTML), 1),
  'nonsense': ((200, {}, '{"choices": [{'), 1),
  'no choices': ((200, {}, '{"choices": []}'), 1),
  'an error in its place': ((200, {}, '{"error": {"message": "busy"}}'), 1),
}


@pytest.mark.parametrize('name', PASSING)
def test_what_passes_is_tried_again(server, tmp_path, name):
  answer, times = PASSING[name]
  server.bad = fails(times, *answer)
  found = made(server, tmp_path).generate(PROMPTS, 5)
  assert found == [f'to {x}' for x in PROMPTS]
  assert len(server.asked) == len(PROMPTS) + times


# What stays so -> tries, words of the cause, words of the remedy.
LASTING = {
  'error 500': ((500, {}, 'oh'), 5, '500 .*oh', 'server logs'),
  'rate limit': ((429, {}, 'slower'), 5, '429 .*slower', 'concurrency'),
  'a long wait': ((429, {'Retry-After': '3600'}, ''), 1, 'wait for 3600 s', 'later'),
  'drops half way': (
    (fake_server.STOPPED,),
    5,
    'no connection, or',
    'start the server',
  ),
  'slow': (('slow',), 5, 'no answer within 0.5 s', 'timeout'),
  'HTML': ((200, {}, HTML), 5, 'no completion.*Welcome', '/v1'),
  'nonsense': ((200, {}, 'nonsense'), 5, 'no completion.*nonsense', '/v1'),
  'a list': ((200, {}, '[1]'), 5, r'no completion.*\[1\]', '/v1'),
  'no choices': ((200, {}, '{"choices": []}'), 5, 'no completion', '/v1'),
  'a number for a text': (said(content=3), 5, 'its text is of the type int', '/v1'),
  'an error in its place': ((200, {}, '{"error": "busy"}'), 5, 'busy', '/v1'),
  'no key': ((401, {}, f'bad key {KEY}'), 1, r'401 .*bad key \*\*\*', schema.KEY),
  'key cut': ((401, {}, 'x' * 190 + KEY), 1, r'x\*\*\*', schema.KEY),
  'forbidden': ((403, {}, ''), 1, '403', schema.KEY),
  'no such page': ((404, {}, 'Not Found'), 1, '404', 'url.* or model'),
  'too long': ((400, {}, 'exceeds context of 512'), 1, 'exceeds context', 'longer'),
  'elsewhere': ((301, {'Location': '/'}, ''), 1, '301', 'redirects'),
}


@pytest.mark.parametrize('name', LASTING)
def test_what_lasts_is_said_and_answers_stay(server, tmp_path, name):
  answer, tries, cause, remedy = LASTING[name]
  server.bad = fails(FOREVER, *answer)
  asked = made(server, tmp_path, concurrency=1)
  with pytest.raises(endpoint.EndpointError, match=f'(?s){cause}.*{remedy}') as refused:
    asked.generate(PROMPTS, 5)
  text = str(refused.value)
  assert f'{server.url}/chat/completions' in text and 'a.jsonl' in text
  assert KEY not in text
  assert [content(x) for x in server.asked].count(BAD) == tries
  # What came before is kept, and the same call goes on from it.
  assert len(AnswerLog(tmp_path / 'a.jsonl')) == 3
  server.bad = lambda number, body: None
  server.asked.clear()
  found = made(server, tmp_path).generate(PROMPTS, 5)
  assert found == [f'to {x}' for x in PROMPTS]
  assert {content(x) for x in server.asked} == {*PROMPTS[3:]}


TEXTS = {
  'Unicode': (dict(content='Тире — 東京 🙂'), 'Тире — 東京 🙂'),
  'empty': (dict(content=''), ''),
  'null': (dict(content=None), ''),
  'thoughts': (dict(content='<think>\nHm.\n</think>\n\nParis'), 'Paris'),
  'thoughts begun by the template': (dict(content='Hm. </think> Paris'), 'Paris'),
  'thoughts cut': (dict(content='<think>\nHm, it could'), ''),
  'thoughts apart': (dict(content='Paris', reasoning_content='Hm.'), 'Paris'),
  'thoughts apart, cut': (dict(content=None, reasoning='Hm, it'), ''),
  'cut at max_tokens': (dict(content='The answer is that'), 'The answer is that'),
}


@pytest.mark.parametrize('name', TEXTS)
def test_texts_that_are_answers(server, tmp_path, name):
  message, wanted = TEXTS[name]
  server.bad = fails(FOREVER, *said(**message))
  asked = made(server, tmp_path)
  assert asked.generate([BAD], 5) == [wanted]
  assert made(server, tmp_path).generate([BAD], 5) == [wanted]  # as it was kept
  assert len(server.asked) == 1


def test_what_is_sent(server, tmp_path):
  made(server, tmp_path, system='Be brief.', thoughts=100).generate(['Why?'], 5)
  [body] = server.asked
  assert body['messages'] == [
    {'role': 'system', 'content': 'Be brief.'},
    {'role': 'user', 'content': 'Why?'},
  ]
  assert (body['temperature'], body['seed'], body['max_tokens']) == (0, 0, 105)
  assert body['model'] == fake_server.MODEL
  assert server.headers['Authorization'] == f'Bearer {KEY}'
  assert made(server, tmp_path, completions=True).generate(['Why?'], 5) == ['to Why?']
  assert server.asked[1]['prompt'] == 'Why?'
  assert KEY not in (tmp_path / 'a.jsonl').read_text()


def test_a_question_that_stands_twice_is_asked_once(server, tmp_path):
  asked = made(server, tmp_path)
  assert asked.generate(['a', 'b', 'a'], 5) == ['to a', 'to b', 'to a']
  asked.generate(['b', 'c'], 5)
  assert len(server.asked) == 3
  asked.generate(['a'], 6)  # another length is another question
  assert len(server.asked) == 4


def test_no_more_are_asked_at_once_than_allowed(server, tmp_path):
  now, most = [], []

  def bad(number, body):
    now.append(number)
    most.append(len(now))
    time.sleep(0.02)
    now.remove(number)

  server.bad = bad
  made(server, tmp_path, concurrency=3).generate([str(i) for i in range(30)], 5)
  assert 2 <= max(most) <= 3


def test_a_line_that_was_cut_is_asked_anew(server, tmp_path, capsys):
  made(server, tmp_path, concurrency=1).generate(PROMPTS, 5)
  path = tmp_path / 'a.jsonl'
  path.write_bytes(path.read_bytes()[:-7])
  for expected in (1, 0):
    server.asked.clear()
    found = made(server, tmp_path).generate(PROMPTS, 5)
    assert found == [f'to {x}' for x in PROMPTS]
    assert len(server.asked) == expected
  assert '1 unreadable' in capsys.readouterr().err


def test_an_interruption_keeps_what_is_under_way(server, tmp_path, monkeypatch):
  monkeypatch.setattr(interrupt, 'received', lambda: 2 * (len(server.asked) >= 3))
  with pytest.raises(interrupt.Interrupted):
    made(server, tmp_path, concurrency=2).generate([str(i) for i in range(50)], 5)
  asked = len(server.asked)
  assert 3 <= asked < 50
  assert len(AnswerLog(tmp_path / 'a.jsonl')) == asked


def letters(server, top, **choice):
  listed = [{'token': x, 'logprob': p} for x, p in top]
  logprobs = {'content': [{'top_logprobs': listed}]}
  body = {'choices': [{'message': {'content': 'x'}, 'logprobs': logprobs} | choice]}
  server.bad = lambda number, asked: (200, {}, json.dumps(body))


ABC = ('A', 'B', 'C')


def test_letters_are_read_from_the_first_token(server, tmp_path):
  letters(server, [('A', -1.0), (' B', -2.0), ('B', -2.0), ('The', -3.0), ('C', -4.0)])
  [[a, b, c]] = made(server, tmp_path).choose(['q'], [ABC])
  assert (a, c) == (-1.0, -4.0)
  assert b == pytest.approx(-2.0 + 0.6931, abs=1e-3)
  assert server.asked[0]['top_logprobs'] == 20 and server.asked[0]['max_tokens'] == 1


def test_a_letter_beyond_the_likeliest_tokens_comes_last(server, tmp_path):
  letters(server, [('The', -0.3), ('B', -2.0), ('Z', -9999.0)])
  [[a, b, c]] = made(server, tmp_path).choose(['q'], [ABC])
  assert a == c < b == -2.0


def test_older_completions_have_another_shape(server, tmp_path):
  logprobs = {'top_logprobs': [{'A': -1.0, 'B': -0.5}]}
  body = json.dumps({'choices': [{'text': 'x', 'logprobs': logprobs}]})
  server.bad = lambda number, asked: (200, {}, body)
  found = made(server, tmp_path, completions=True).choose(['q'], [('A', 'B')])
  assert found == [[-1.0, -0.5]]
  assert server.asked[0]['logprobs'] == 20


@pytest.mark.parametrize('top', [[('The', -0.1)], []])
def test_without_a_letter_replies_are_the_remedy(server, tmp_path, top):
  letters(server, top)
  with pytest.raises(endpoint.EndpointError, match='behavior.read=reply'):
    made(server, tmp_path).choose(['q'], [ABC])


def test_a_server_without_logprobs_is_asked_once(server, tmp_path):
  letters(server, [], logprobs=None)
  with pytest.raises(endpoint.EndpointError, match='no log-probabilities.*=reply'):
    made(server, tmp_path).choose(['q'], [ABC])
  assert len(server.asked) == 1 and not len(AnswerLog(tmp_path / 'a.jsonl'))


def test_options_of_words_are_no_letters(server, tmp_path):
  with pytest.raises(schema.ConfigError, match='read=first_token.*reply'):
    made(server, tmp_path).choose(['q'], [('Paris', 'Rome')])
  assert not server.asked


def test_the_server_names_its_models(server, tmp_path):
  assert made(server, tmp_path).listed() == [fake_server.MODEL]
  for unknown in (None, {'object': 'list'}):
    server.listed = unknown
    assert made(server, tmp_path).listed() == []
  server.listed = {'data': [{'id': 'another'}]}
  with pytest.raises(endpoint.EndpointError, match=r"'a-model'.*'another'"):
    made(server, tmp_path).listed()


def test_a_server_that_is_down(tmp_path):
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    url = f'http://127.0.0.1:{free.getsockname()[1]}/v1'
  asked = endpoint.Endpoint(schema.Served(url=url, model='m'))
  with pytest.raises(endpoint.EndpointError, match='(?s)no connection.*start the'):
    asked.probe()


def test_probes_that_only_think_or_say_nothing(server, tmp_path):
  server.model = lambda prompt: '<think>\nSo the user wants'
  with pytest.raises(endpoint.EndpointError, match='thinks.*thoughts'):
    made(server, tmp_path).probe()
  server.model = lambda prompt: ''
  with pytest.raises(endpoint.EndpointError, match='answers nothing.*template'):
    made(server, tmp_path).probe()


@pytest.mark.parametrize('value', [None, '', 'a\nb', 'schlüssel'])
def test_a_key_that_is_none(server, tmp_path, monkeypatch, value):
  name = 'KEY_OF_THE_TEST'
  monkeypatch.delenv(name, raising=False)
  if value is not None:
    monkeypatch.setenv(name, value)
  with pytest.raises(schema.ConfigError, match=f'key={name}') as refused:
    made(server, tmp_path, key=name)
  assert not value or value not in str(refused.value)


def test_what_comes_is_said_beforehand(server, tmp_path, capsys):
  asked = made(server, tmp_path)
  asked.generate(PROMPTS[:2], 5)
  asked.expect(PROMPTS + PROMPTS[:1], 5)
  line = capsys.readouterr().err.splitlines()[-1]
  assert re.search(r'\b4 requests.*\(3 more.*up to 20 of', line)
