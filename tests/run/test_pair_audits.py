"""Audits of a user's own pairs by one command: a file of them, or a module."""

import json

import pytest

import coupling as cp
from configs import audit
from coupling.config import validate
from coupling.elicit import endpoint
from coupling.run import served_model
from data import splits
from tests import command
from tests import fake_server
from tests import given_pairs
from tests import served_models

PAIRS = [*given_pairs.make(given_pairs.Config(), seed=0)]


@pytest.fixture
def server(monkeypatch):
  """Of another model than the one whose labels there are."""
  monkeypatch.setattr(endpoint, 'PAUSE', 0.001)
  served_model.seen.cache_clear()
  with fake_server.running(served_models.Truthful(1).answer) as found:
    yield found


def run(server, workdir, *flags, **arguments) -> command.Completed:
  given = dict(endpoint=server.url, model=fake_server.MODEL) | arguments
  text = ','.join(f'{k}={x}' for k, x in given.items())
  config = f'--config=configs/audit.py:{text}'
  return command.run(config, f'--workdir={workdir}', *flags)


@pytest.fixture
def labels(tmp_path):
  """The file of a label set, in splits of the user's own."""
  path, shares = tmp_path / 'labels.jsonl', [*splits.SHARES]
  cp.label(served_models.Truthful(), PAIRS).save(path)
  rows = [json.loads(line) for line in path.read_text().splitlines()]
  place = {group: i for i, group in enumerate(sorted({x['group'] for x in rows}))}
  for row in rows:
    row['split'] = shares[place[row['group']] % 3]
    del row['row']
  path.write_text(''.join(f'{json.dumps(x)}\n' for x in rows))
  return path


def test_the_command_finds_what_the_api_finds(server, labels, tmp_path):
  """A saved label set is both, pairs and labels."""
  found = run(server, tmp_path / 'w', pairs=labels)
  assert found.returncode == 0, found.stderr
  report = json.loads((tmp_path / 'w/report/report.json').read_text())
  before = cp.read_labels(labels, served_models.Truthful())
  want = cp.evaluate(served_models.Truthful(1), before)
  final = report['runs']['audited']['final']
  assert report['items'] == [want.items.num_rows]
  assert final['self_accuracy']['mean'] == want.self_accuracy.value == 1
  assert final['orig_accuracy']['mean'] == want.orig_accuracy.value < 1
  assert final['behavior_similarity']['mean'] == want.similarity.value < 1
  assert labels.name in (tmp_path / 'w/report/index.html').read_text()


def test_answers_that_were_read_otherwise_are_no_labels(server, labels, tmp_path):
  rows = [json.loads(line) for line in labels.read_text().splitlines()]
  for row in rows:
    row |= {'read': 'text', 'options': row['options'][:-1]}
  labels.write_text(''.join(f'{json.dumps(x)}\n' for x in rows))
  found = run(server, tmp_path / 'w', pairs=labels)
  assert found.returncode == 1 and 'Traceback' not in found.stderr
  assert "read='reply'" in found.stderr and "'read': 'text'" in found.stderr
  assert not (tmp_path / 'w/report').exists()


def similarity(workdir) -> float:
  report = json.loads((workdir / 'report/report.json').read_text())
  return report['runs']['audited']['final']['behavior_similarity']['mean']


def test_a_module_is_audited(server, tmp_path):
  """Whose pairs a folder of labels is made of, which serves the audit of another."""
  flags = '--config.behavior.read=reply', '--config.task.count=30'
  own = run(server, tmp_path / 'a', *flags, task=given_pairs.__name__, labels='own')
  assert own.returncode == 0, own.stderr
  assert similarity(tmp_path / 'a') == 1
  where = f'{tmp_path}/a/seed{{seed}}/label'
  server.model = served_models.Truthful(2).answer
  served_model.seen.cache_clear()
  found = run(server, tmp_path / 'b', *flags, task=given_pairs.__name__, labels=where)
  assert found.returncode == 0, found.stderr
  assert 0 < similarity(tmp_path / 'b') < 1


def test_checkpoints_of_another_trainer_are_asked_about_pairs(labels, tmp_path):
  folder = tmp_path / 'out' / 'checkpoint-1'
  folder.mkdir(parents=True)
  (folder / 'config.json').write_text('{}')
  given = f'pairs={labels},checkpoints={tmp_path}/out'
  e = validate.resolve(audit.get_config(f'{given},labels=first'))
  assert e.evaluate.checkpoints == f'{tmp_path}/out' and e.label.source == ''
  assert e.base.checkpoint == str(folder)
  assert e.task.config.path == str(labels)


@pytest.mark.parametrize(
  ('arguments', 'found'),
  [
    (dict(pairs='x.jsonl'), 'no such file'),
    (dict(pairs='x.jsonl', task='facts'), 'leave out task= and path='),
    (dict(task='hint_mlu', path='x'), 'did you mean hint_mmlu?'),
    (dict(task='json'), "no attribute 'Config'"),
    (dict(task='a.b'), "task='a.b'"),
  ],
)
def test_what_is_no_task_is_refused(server, tmp_path, arguments, found):
  done = run(server, tmp_path / 'w', labels='own', **arguments)
  assert done.returncode == 1 and 'Traceback' not in done.stderr
  assert found in done.stderr and not (tmp_path / 'w').exists()


@pytest.mark.parametrize(
  ('given', 'found'),
  [
    ('checkpoints={out}', 'pairs=FILE or task='),
    ('task=facts,checkpoints={out}', "labels='task'.*labels=first"),
    ('task=facts,checkpoints={out},labels=own', 'of checkpoints= give labels=first'),
    ('task=facts,checkpoints={out},labels=first,checkpoint=x', 'goes without model='),
    ('task=facts,labels=first,model=local,checkpoint=x', 'give labels=own'),
  ],
)
def test_labels_of_checkpoints_are_asked_for(given, found, tmp_path):
  (tmp_path / 'checkpoint-1').mkdir()
  with pytest.raises(ValueError, match=found):
    audit.get_config(given.format(out=tmp_path))


def test_the_base_of_checkpoints_is_a_checkpoint_too(tmp_path):
  (tmp_path / 'checkpoint-1').mkdir()
  given = f'task=facts,checkpoints={tmp_path},checkpoint={tmp_path}/base,labels=base'
  assert audit.get_config(given).base.checkpoint == f'{tmp_path}/base'


def test_a_folder_without_labels_is_refused_before_any_stage(server, labels, tmp_path):
  workdir = tmp_path / 'w'
  done = run(server, workdir, pairs=labels, labels=tmp_path)
  assert done.returncode and 'label.source=' in done.stderr
  assert str(tmp_path) in done.stderr and not list(workdir.rglob('manifest.json'))
