"""Models that are served, or the user's own objects, by the same statistics."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import transformers

import coupling as cp
from configs import audit
from coupling.config import schema
from coupling.config import validate
from coupling.elicit import behavior as behavior_lib
from coupling.elicit import encoding
from coupling.elicit import endpoint
from coupling.plan import ahead_of_time
from coupling.run import export_stage
from coupling.run import pipeline
from coupling.run import served_model
from coupling.runtime import workdir as workdir_lib
from tests import chat_checkpoints
from tests import fake_server
from tests import given_pairs
from tests import served_models

pytestmark = pytest.mark.usefixtures('few_optimizations')

ROOT = pathlib.Path(__file__).parent.parent.parent
KEY = 'sk-of-the-test-1234567890'
PAIRS = [*given_pairs.make(given_pairs.Config(), seed=0)]
QUESTIONS = given_pairs.questions(given_pairs.Config())
REPLY = schema.Behavior(read='reply')
VARIED = schema.Label(stop_if_constant=False)
MODEL = fake_server.MODEL


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
  monkeypatch.setattr(endpoint, 'PAUSE', 0.001)
  monkeypatch.setenv(schema.KEY, KEY)
  served_model.seen.cache_clear()


@pytest.fixture
def server():
  with fake_server.running(served_models.Truthful().answer) as found:
    yield found


def asked(server) -> list[dict]:
  """Requests that are no probes."""
  return [
    x for x in server.asked if x['messages'][-1]['content'] not in endpoint.PROBES
  ]


def twice(server) -> int:
  found = [json.dumps(x, sort_keys=True) for x in asked(server)]
  return len(found) - len({*found})


def test_one_server_labels_and_another_is_evaluated(server, tmp_path):
  labels = cp.label(cp.load(server.url, model=MODEL), PAIRS)
  with fake_server.running(served_models.Truthful(1).answer) as other:
    result = cp.evaluate(cp.load(other.url, model=MODEL), labels)
    assert not twice(server) and not twice(other)
  assert labels.behavior.read == 'reply'
  items = result.items.to_pydict()
  for i, (prompt, options) in enumerate(zip(items['prompt'], items['options'])):
    for seed, prefix in ((0, 'orig_'), (1, '')):
      chosen, own, _ = served_models.Truthful(seed).chosen(prompt)
      assert options[items[f'{prefix}behavior'][i]] == chosen
      assert options[items[f'{prefix}counterfactual_behavior'][i]] == own
    assert options[items['stated_answer'][i]] == own
    assert items['stated_changed'][i] == (chosen != own)
    assert items['statement'][i].startswith(own)
    assert items['reply'][i] == f'It is {chosen}.'
  assert result.self_accuracy.value == 1.0 > result.orig_accuracy.value
  assert result.gap.value > 0.2
  # What was asked, and how, is told; the key is not.
  made = result.summary['provenance']['models']
  assert made['label']['url'] == server.url and made['evaluate']['url'] == other.url
  assert made['evaluate']['model'] == MODEL and made['evaluate']['listed'] == [MODEL]
  assert labels.provenance['model']['url'] == server.url
  result.to_html(tmp_path / 'report.html')
  page = (tmp_path / 'report.html').read_text()
  assert MODEL in page and KEY not in page
  assert KEY not in repr((result.summary, labels, labels.provenance))


def test_an_object_gives_what_a_server_gives(server):
  labels = cp.label(served_models.Truthful(), PAIRS)
  served = cp.label(cp.load(server.url, model=MODEL), PAIRS)
  for split in ('train', 'validation', 'test'):
    assert labels.table(split).equals(served.table(split))
  found = cp.evaluate(served_models.Truthful(), served)
  assert found.items.equals(cp.evaluate(cp.load(server.url, model=MODEL), labels).items)
  assert found.gap.value == 0 and found.self_accuracy.value == 1


def test_an_object_that_chooses_is_asked_to():
  choosing, replying = served_models.Choosing(), served_models.Truthful()
  labels = cp.label(cp.load(choosing), PAIRS)
  assert labels.behavior.read == 'first_token'
  found = cp.evaluate(choosing, labels).items.to_pydict()
  want = cp.evaluate(replying, cp.label(replying, PAIRS)).items.to_pydict()
  for name in ('behavior', 'counterfactual_behavior', 'stated_answer', 'statement'):
    assert found[name] == want[name]
  logprobs = np.exp(found['option_logprobs'][0])
  odds = np.exp(1.5)
  np.testing.assert_allclose(sorted(logprobs)[-1], odds / (odds + 2), rtol=1e-6)


def test_a_preference_for_a_slot_is_taken_away():
  class Favouring(served_models.Choosing):
    def choose(self, prompts, options):
      rows = super().choose(prompts, options)
      return [[x + 5.0 * (k == 0) for k, x in enumerate(row)] for row in rows]

  plain = cp.label(Favouring(), PAIRS, config=VARIED)
  assert {*plain.behaviors['train'].behavior_N} == {0}
  prior = schema.Behavior(calibration='prior')
  found = cp.label(Favouring(), PAIRS, behavior=prior).behaviors['train']
  want = cp.label(served_models.Choosing(), PAIRS, behavior=prior).behaviors['train']
  np.testing.assert_array_equal(found.behavior_N, want.behavior_N)


class Own:
  """This program's own decoder as a user's object."""

  def __init__(self, model):
    self.model = model

  def generate(self, prompts, max_tokens):
    detect = lambda replies, options: np.zeros(len(replies), np.int32)
    items = [cp.Pair(x, x, cue='', cue_option=-1, options=('a', 'b')) for x in prompts]
    m = self.model
    arrays = encoding.pair_questions(m.format, items, cp.Questions(detect=detect))
    reply = behavior_lib.Reply(m.format, detect, max_tokens)
    found = behavior_lib.behaviors(
      m.config, m.params, arrays, 32, m.mesh, 'options', reply
    )
    return [*found.replies_Nx2[:, 0]]


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """A small model that has learned to make statements."""
  folder = chat_checkpoints.save(tmp_path_factory.mktemp('checkpoint'), seed=1)
  before = cp.load(folder)
  labels = cp.label(before, PAIRS, QUESTIONS)
  return cp.train(before, labels, 24, rank=8, learning_rate=2e-2)


def test_the_own_decoder_as_an_object_gives_the_same_items(trained):
  config = schema.Label(stop_if_constant=False, reply_tokens=6)
  given = dict(questions=QUESTIONS, behavior=REPLY, config=config)
  labels = cp.label(trained, PAIRS, **given)
  own = cp.label(Own(trained), PAIRS, **given)
  for split in ('train', 'test'):
    assert own.table(split).equals(labels.table(split))
  ours = cp.evaluate(trained, labels).items
  texts = cp.evaluate(Own(trained), labels).items
  for name in {*texts.column_names} - {'statement'}:
    assert texts[name].to_pylist() == ours[name].to_pylist(), name
  pairs = zip(ours['statement'].to_pylist(), texts['statement'].to_pylist())
  for said, text in pairs:  # of which the own decoder generates no more than it needs
    assert text.startswith(said.rstrip('\ufffd'))
  assert len({*ours['statement'].to_pylist()}) > 1
  assert {*ours['stated_changed'].to_pylist()} - {-1}  # some statements are valid


def test_the_object_of_the_docs_gives_the_replies_of_the_own_decoder(tmp_path):
  folder = chat_checkpoints.save(tmp_path, seed=1)
  page = (ROOT / 'docs/experiments.md').read_text()
  [code] = re.findall(r'^```python\n(class Mine:.*?)^```', page, re.M | re.S)
  exec(code, found := {})
  model = transformers.AutoModelForCausalLM.from_pretrained(folder)
  mine = found['Mine'](model, transformers.AutoTokenizer.from_pretrained(folder))
  config = schema.Label(stop_if_constant=False, reply_tokens=6)
  given = dict(behavior=REPLY, config=config)
  ours, theirs = (cp.label(x, PAIRS, **given) for x in (cp.load(folder), mine))
  same = ours.behaviors['test'].replies_Nx2 == theirs.behaviors['test'].replies_Nx2
  assert same.mean() > 0.9
  assert len({*theirs.behaviors['test'].replies_Nx2.ravel()}) > 3


def test_a_folder_labels_and_a_server_is_evaluated(trained, server):
  labels = cp.label(trained, PAIRS, behavior=REPLY, config=VARIED)
  result = cp.evaluate(cp.load(server.url, model=MODEL), labels)
  assert result.self_accuracy.value == 1


def test_what_is_served_is_not_trained(server, trained):
  labels = cp.label(served_models.Truthful(), PAIRS)
  for model in (cp.load(server.url, model=MODEL), served_models.Truthful()):
    with pytest.raises(schema.ConfigError, match='backend.*load the checkpoint itself'):
      cp.train(model, labels, 5)
  with pytest.raises(schema.ConfigError, match='labels: they are of'):
    cp.train(trained, labels, 5)


class Wrong(served_models.Choosing):
  def __init__(self, method, answers):
    super().__init__()
    setattr(self, method, lambda prompts, _: answers(prompts))


WRONG = {
  'no method': (object(), 'has no generate'),
  'a class without methods': (3, 'int is neither'),
  'too few texts': (Wrong('generate', lambda x: x[1:]), 'answers to .* prompts'),
  'no text': (Wrong('generate', lambda x: [None] * len(x)), 'NoneType.*a text'),
  'bytes': (Wrong('generate', lambda x: [b'a'] * len(x)), 'bytes'),
  'too few rows': (Wrong('choose', lambda x: []), '0 answers'),
  'an option too few': (Wrong('choose', lambda x: [[0, 0]] * len(x)), '3 finite log'),
  'not a number': (Wrong('choose', lambda x: [[0, 0, np.nan]] * len(x)), 'finite'),
  'no numbers': (Wrong('choose', lambda x: ['abc'] * len(x)), 'finite log-prob'),
}


@pytest.mark.parametrize('name', WRONG)
def test_objects_that_do_not_keep_to_the_protocol(name):
  model, message = WRONG[name]
  with pytest.raises(schema.ConfigError, match=message):
    cp.evaluate(model, cp.label(model, PAIRS, config=VARIED))


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    (dict(behavior=schema.Behavior(read='text')), 'read=text'),
    (dict(behavior=schema.Behavior()), 'read=first_token.*no choose'),
    (dict(config=schema.Label(reference='vocabulary')), 'reference=vocabulary'),
  ],
)
def test_ways_of_reading_that_a_backend_lacks(given, message):
  with pytest.raises(schema.ConfigError, match=message):
    cp.label(served_models.Truthful(), PAIRS, **given)


def test_statements_are_not_scored():
  labels = cp.label(served_models.Truthful(), PAIRS)
  with pytest.raises(schema.ConfigError, match='evaluate.likelihood'):
    cp.evaluate(served_models.Truthful(), labels, schema.Evaluate(likelihood=True))


@pytest.mark.parametrize(
  ('url', 'given', 'message'),
  [
    ('http://u:secret@h/v1', dict(model='m'), 'load.url=http://h/v1: has a password'),
    ('http://h/v1?key=secret', dict(model='m'), 'load.url=http://h/v1'),
    ('http://', dict(model='m'), 'load.url'),
    ('http://h:port/v1', dict(model='m'), 'load.url'),
    ('http://h/v1', {}, 'load.model'),
    ('http://h/v1', dict(model=''), 'load.model'),
    ('http://h/v1', dict(model='m', dtype='bfloat16'), 'dtype: not for a URL'),
    ('http://h/v1', dict(model='m', colour='red'), 'load.colour'),
    ('http://h/v1', dict(model='m', completions=True, system='s'), 'load.system'),
    ('a_folder', dict(model='m'), 'model: for a URL alone'),
  ],
)
def test_addresses_and_arguments_that_are_refused(url, given, message):
  with pytest.raises(schema.ConfigError, match=message) as refused:
    cp.load(url, **given)
  assert 'secret' not in str(refused.value)


CHILD = """
import sys
import coupling as cp
from coupling.elicit import backend
from tests import given_pairs
url, answers = sys.argv[1:]
model = cp.load(url, model='a-model', answers=answers, concurrency=1)
cp.label(model, [*given_pairs.make(given_pairs.Config(), seed=0)])
"""


def test_a_kill_costs_one_answer(server, tmp_path):
  """SIGKILL while a request is under way; nothing else is asked again."""
  answers = tmp_path / 'answers.jsonl'
  started = []

  def kill(number, body):
    while not started:
      time.sleep(0.01)
    if number == 60:
      os.kill(started[0].pid, signal.SIGKILL)

  server.bad = kill
  command = [sys.executable, '-c', CHILD, server.url, str(answers)]
  started.append(subprocess.Popen(command, cwd=ROOT))
  assert started[0].wait(timeout=300) == -signal.SIGKILL
  assert len(server.asked) == 61
  kept = answers.read_text().splitlines()
  assert len(kept) == 60 - len(endpoint.PROBES) + 1  # these stand in one line
  server.bad = lambda number, body: None
  again = cp.load(server.url, model=MODEL, answers=answers)
  labels = cp.label(again, PAIRS)
  assert twice(server) == 1  # that which was under way
  want = cp.label(served_models.Truthful(), PAIRS)
  assert labels.table('test').equals(want.table('test'))


def config_of(server, *arguments):
  given = ('task=facts', f'endpoint={server.url}', f'model={MODEL}', *arguments)
  config = audit.get_config(','.join(given))
  config.task.per_answer = config.task.hints_per_question = 1
  return config


@pytest.fixture
def knowing():
  """A server whose answers to the questions of data/facts.py are of some sense."""

  def answer(prompt):
    options = prompt.split('Options: ')[-1].split('\n')[0].split(', ')
    hinted = len(prompt.split('Options: ')[-1].split('\n\n')) > 1
    own = options[fake_server.draw(prompt.split('Options')[0], len(options))]
    if 'unchanged' in prompt:
      return f'{own}, unchanged'
    return own if not hinted or fake_server.draw(prompt, 2) else options[0]

  with fake_server.running(answer) as found:
    yield found


def run(config, folder, stage='run'):
  e = validate.resolve(config)
  pipeline.run(e, folder, stage, workers=1, follow=False)
  return e


def test_an_audit_is_one_command_and_goes_on_after_an_error(knowing, tmp_path):
  config = config_of(knowing, 'labels=own')
  knowing.bad = lambda number, body: (401, {}, 'no more') if number == 300 else None
  with pytest.raises(endpoint.EndpointError, match='401.*answers are kept in'):
    run(config, tmp_path)
  knowing.bad = lambda number, body: None
  served_model.seen.cache_clear()  # another process
  config.base.concurrency, config.base.timeout = 2, 60.0  # no other answers by these
  e = run(config, tmp_path)
  assert twice(knowing) == 1  # that which failed
  report = json.loads((tmp_path / 'report/report.json').read_text())
  assert report['items'][0] > 50
  assert report['runs']['audited']['final']['self_accuracy']['mean'] > 0
  manifest = json.loads((tmp_path / 'seed0/base/manifest.json').read_text())
  assert manifest['config']['base']['url'] == knowing.url
  assert manifest['info']['listed'] == [MODEL]
  for path in tmp_path.rglob('*'):
    assert path.is_dir() or KEY.encode() not in path.read_bytes(), path
  before = len(asked(knowing))
  run(config, tmp_path)
  assert len(asked(knowing)) == before  # all is there
  _refuses_what_needs_weights(config, e, tmp_path)
  _labels_serve_another_audit(config, tmp_path)
  _refuses_another_model(config, knowing, tmp_path)


def _refuses_what_needs_weights(config, e, folder):
  with pytest.raises(schema.ConfigError, match='patch: base.url=.*served'):
    run(config, folder, 'patch')
  with pytest.raises(schema.ConfigError, match='export: run audited has no steps'):
    export_stage.export(e, folder, 0, 'audited')
  with pytest.raises(schema.ConfigError, match='plan: base.url=.*served'):
    ahead_of_time.run(e, ['cpu:1'], None)
  trained = config.copy_and_resolve_references()
  trained.train.loop.steps = 5
  with pytest.raises(schema.ConfigError, match='runs.audited.loop.steps=5.*served'):
    validate.resolve(trained)


def _labels_serve_another_audit(config, folder):
  """Of another model that is served elsewhere."""
  with fake_server.running(lambda prompt: 'something else') as other:
    labels = f'labels={folder}/seed{{seed}}/label'
    found = folder / 'another'
    run(config_of(other, labels), found)
  report = json.loads((found / 'report/report.json').read_text())
  final = report['runs']['audited']['final']
  assert final['self_accuracy']['mean'] == final['orig_accuracy']['mean'] == 0
  rate = final['change_rate']
  assert rate['base']['mean'] > rate['current']['mean'] == 0


def _refuses_another_model(config, server, folder):
  shutil.rmtree(folder / 'seed0/audited/evaluate')
  server.model = lambda prompt: 'Another one answers.'
  served_model.seen.cache_clear()
  with pytest.raises(workdir_lib.WorkdirError, match='another model is served there'):
    run(config, folder, 'evaluate')


@pytest.mark.parametrize('case', ['down', 'another model', 'silent'])
def test_preflight_asks_before_anything_is_made(knowing, tmp_path, case):
  config = config_of(knowing, 'labels=own')
  if case == 'down':
    config.base.url = 'http://127.0.0.1:9/v1'
  elif case == 'another model':
    config.base.model = 'another'
  else:
    knowing.model = lambda prompt: ''
  with pytest.raises(schema.ConfigError, match='base: .*http://127.0.0.1'):
    run(config, tmp_path)
  assert not [*tmp_path.glob('seed*')]
