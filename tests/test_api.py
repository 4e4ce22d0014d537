"""The Python API: it gives what the stages give, refuses what they refuse, resumes."""

import dataclasses
import functools
import gc
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import weakref

import huggingface_hub
import jax
import numpy as np
import pyarrow.parquet as pq
import pytest
import transformers

import coupling as cp
from configs import common, facts
from coupling.checkpoints import hub, peft_format
from coupling.config import schema, validate
from coupling.elicit import label_file
from coupling.elicit import label_set
from coupling.model import decoder
from coupling.run import pipeline, api_evaluate, api_train
from coupling.runtime import distributed, finite, interrupt, workdir as workdir_lib
from coupling.training import divergence, train_loop
from data import facts as facts_lib, readers, reply_options
from tests import chat_checkpoints, given_pairs

pytestmark = pytest.mark.usefixtures('few_optimizations')

STEPS, RANK, RATE = 24, 8, 2e-2  # enough to learn to make statements
SETTINGS = dict(steps=STEPS, rank=RANK, learning_rate=RATE)
PAIRS = [*given_pairs.make(given_pairs.Config(), seed=0)]
QUESTIONS = given_pairs.questions(given_pairs.Config())
SPLITS = ('train', 'validation', 'test')


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory) -> pathlib.Path:
  return chat_checkpoints.save(tmp_path_factory.mktemp('checkpoint'), seed=SEED)


SEED = 1  # of the weights: a model whose answers vary


@pytest.fixture(scope='module')
def before(checkpoint):
  return cp.load(checkpoint)


@pytest.fixture(scope='module')
def labels(before):
  return cp.label(before, PAIRS, QUESTIONS)


@pytest.fixture(scope='module')
def after(before, labels):
  return cp.train(before, labels, **SETTINGS)


@pytest.fixture(scope='module')
def result(after, labels):
  return cp.evaluate(after, labels)


@pytest.fixture(scope='module')
def workdir(checkpoint, tmp_path_factory) -> pathlib.Path:
  """The same settings, run by the stages."""
  args = common.IMPORT_ARGS | dict(
    model='local', checkpoint=str(checkpoint), seeds=1, rank=RANK, steps=STEPS
  )
  config = common.on_checkpoint(args, 'Given', dict(module='tests.given_pairs'))
  config.behavior.update(read='text', per_token=True)
  config.train.explanation_batch = common.TRAIN['explanation_batch']
  config.train.optimizer.learning_rate = RATE
  config.train.loop.checkpoint_every = STEPS // 2
  with config.unlocked():
    config.runs = {'kl': {}}
  config.report.update(unregularised='', sibling='', shuffled='')
  folder = tmp_path_factory.mktemp('workdir')
  pipeline.run(validate.resolve(config), folder, 'run', 1, False)
  return folder


def same(found, want) -> None:
  """Columns that both tables have are equal, floats to rounding."""
  names = {*found.column_names} & {*want.column_names}
  assert {'row', 'behavior', 'counterfactual_behavior'} <= names
  for name in names:
    ours, theirs = found[name].to_pylist(), want[name].to_pylist()
    if isinstance(np.ravel(ours[0])[0], float):
      np.testing.assert_allclose(np.stack(ours), np.stack(theirs), rtol=1e-5, atol=1e-6)
    else:
      assert ours == theirs, name


@pytest.mark.parametrize('split', SPLITS)
def test_labels_are_those_of_the_stage(labels, workdir, split):
  folder = workdir / 'seed0' / 'label'
  columns = (*label_set.PAIR, *label_set.LABEL, 'row', 'reference')
  same(labels.table(split), label_set.read_table(folder, split, columns))


def test_items_and_all_statistics_are_those_of_the_stages(result, workdir):
  path = workdir / 'seed0' / 'kl' / 'evaluate' / f'step-{STEPS:09d}.parquet'
  same(result.items, pq.read_table(path))
  report = json.loads((workdir / 'report' / 'report.json').read_text())
  found = json.loads(json.dumps(result.summary))
  assert found['runs']['model']['final'] == report['runs']['kl']['final']
  assert found['baselines'] == report['baselines']
  assert found['items'] == report['items']
  # Not the equality of nothing.
  assert len({*result.items['statement'].to_pylist()}) > 1
  assert result.self_accuracy.value > 0


def test_a_result_gives_its_numbers_its_items_a_figure_and_a_page(result, tmp_path):
  final = result.summary['runs']['model']['final']
  bounds = [final['gap'][name] for name in ('mean', 'low', 'high')]
  assert [*result.gap] == bounds
  items = result.items.to_pydict()
  assert np.mean(items['self']) == pytest.approx(result.self_accuracy.value)
  assert np.mean(items['orig']) == pytest.approx(result.orig_accuracy.value)
  difference = np.mean(items['self']) - np.mean(items['orig'])
  assert difference == pytest.approx(result.gap.value)
  assert result.reliance.keys() == {'self', 'orig', 'difference'}
  assert {'M_0', 'majority', 'denial', 'cue_parrot'} <= result.controls.keys()
  rows = {(x['explainer'], x['statistic']): x for x in result.table().to_pylist()}
  assert rows['model', 'gap']['value'] == result.gap.value
  assert rows['denial', 'gap']['low'] == result.controls['denial']['gap'].low
  assert result.plot().startswith('<svg') and result.plot('moved') != result.plot()
  with pytest.raises(ValueError, match='accuracy'):
    result.plot('none')
  result.to_html(tmp_path / 'report.html')
  assert 'data-path' in (tmp_path / 'report.html').read_text()


@pytest.mark.parametrize('ending', ['.jsonl', '.parquet'])
def test_labels_that_were_saved_are_read_and_give_the_same_numbers(
  before, labels, after, result, tmp_path, ending
):
  path = tmp_path / f'labels{ending}'
  labels.save(path)
  found = cp.read_labels(path, before, QUESTIONS)
  assert found.digest == labels.digest and found.how == labels.how
  for split in SPLITS:
    assert found.table(split).equals(labels.table(split))
  if ending == '.jsonl':  # once is enough
    again = cp.evaluate(after, found)
    assert again.items.equals(result.items)
    for name in ('runs', 'baselines', 'items'):
      assert repr(again.summary[name]) == repr(result.summary[name])


def test_a_saved_file_says_what_was_done_in_words(labels, result, tmp_path):
  labels.save(tmp_path / 'labels.jsonl')
  rows = [*map(json.loads, (tmp_path / 'labels.jsonl').read_text().splitlines())]
  assert [*rows[0]][:8] == [*label_file.COLUMNS]
  changed = next(x for x in rows if x['behavior'] != x['counterfactual_behavior'])
  want = f'changed to {changed["counterfactual_behavior"]}'
  assert changed['explanation'] == want
  result.save(tmp_path / 'items.parquet')
  assert pq.read_table(tmp_path / 'items.parquet').equals(result.items)
  result.save(tmp_path / 'items.jsonl')
  said = [*map(json.loads, (tmp_path / 'items.jsonl').read_text().splitlines())]
  assert [x['self'] for x in said] == result.items['self'].to_pylist()
  with pytest.raises(readers.DataError, match='items.csv'):
    result.save(tmp_path / 'items.csv')


def test_labels_for_sft_are_read_as_they_are_asked_here(
  before, labels, checkpoint, tmp_path
):
  labels.save(tmp_path / 'labels.jsonl')
  labels.save_sft(tmp_path / 'sft.jsonl')
  saved, rows = (
    [*map(json.loads, (tmp_path / name).read_text().splitlines())]
    for name in ('labels.jsonl', 'sft.jsonl')
  )
  saved = [x for x in saved if x['split'] == 'train']
  assert [row['completion'] for row in rows] == [
    [{'role': 'assistant', 'content': x['explanation']}] for x in saved
  ]
  texts = [QUESTIONS.explanation.format(prompt=x['prompt']) for x in saved]
  tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
  answers = before.format.answers([x['explanation'] for x in saved])
  for row, asked, answer in zip(rows, before.format.prompts(texts), answers):
    whole = row['prompt'] + row['completion']
    found = tokenizer.apply_chat_template(whole, return_dict=False)
    want = asked + answer
    assert found[: len(want)] == want
    assert not tokenizer.decode(found[len(want) :]).strip()  # the template's line break
  plain = dataclasses.replace(labels, model=cp.load(checkpoint, chat=False))
  with pytest.raises(schema.ConfigError, match='without a chat template'):
    plain.save_sft(tmp_path / 'plain.jsonl')


def test_labels_that_others_give_need_no_more_than_the_columns(
  before, labels, after, tmp_path
):
  """Neither places nor distributions; KL is then refused before it is trained."""
  path = tmp_path / 'labels.jsonl'
  labels.save(path)
  rows = [*map(json.loads, path.read_text().splitlines())]
  few = [{name: row[name] for name in label_file.COLUMNS} for row in rows]
  path.write_text(''.join(f'{json.dumps(row)}\n' for row in few))
  found = cp.read_labels(path, before, QUESTIONS)
  orig = cp.evaluate(after, found).orig_accuracy
  assert orig.value == cp.evaluate(after, labels).orig_accuracy.value
  with pytest.raises(schema.ConfigError, match='column reference.*kl=0'):
    cp.train(before, found, **SETTINGS)
  labels.save(path)
  with pytest.raises(schema.ConfigError, match="behavior=.*read='reply'.*read by"):
    cp.read_labels(path, before, QUESTIONS, behavior=schema.Behavior(read='reply'))


def test_a_model_that_was_not_trained_here_is_audited(before, labels):
  found = cp.evaluate(before, labels)
  assert found.summary['audit'] and found.similarity.value == 1
  assert found.gap.value == 0
  assert found.items['behavior'].equals(found.items['orig_behavior'])


def test_a_kept_step_and_exported_adapters_are_the_same_model(
  workdir, after, labels, checkpoint, result, tmp_path
):
  peft_format.save(
    tmp_path / 'adapters', after.params[decoder.ADAPTERS], str(checkpoint)
  )
  kept = workdir / 'seed0' / 'kl' / 'train' / 'checkpoints' / str(STEPS)
  for source in (kept, tmp_path / 'adapters'):
    same(cp.evaluate(cp.load(source), labels).items, result.items)


def weights(model) -> list[np.ndarray]:
  return [np.asarray(x) for x in jax.tree.leaves(model.params)]


def test_an_interrupted_training_goes_on_to_the_same_weights(
  before, labels, after, tmp_path, monkeypatch
):
  train = lambda **changes: cp.train(
    before, labels, **SETTINGS | changes, folder=tmp_path / 'training'
  )
  asked = iter([0] * (STEPS // 2 + 3))
  stop = lambda: next(asked, signal.SIGINT)
  with monkeypatch.context() as patch:
    patch.setattr(distributed, 'stopping', stop)
    with pytest.raises(interrupt.Interrupted):
      train()
  with pytest.raises(workdir_lib.WorkdirError, match='learning_rate'):
    train(learning_rate=RATE / 2)
  resumed = []
  begin = train_loop._Run.begin
  with monkeypatch.context() as patch:
    patch.setattr(
      train_loop._Run,
      'begin',
      lambda run, step: resumed.append(step) or begin(run, step),
    )
    found = train()
  assert resumed[0] > STEPS // 2
  for ours, whole in zip(weights(found), weights(after), strict=True):
    np.testing.assert_array_equal(ours, whole)
  with monkeypatch.context() as patch:
    patch.setattr(train_loop, 'fit', None)  # finished: nothing is trained
    again = train()
  jax.tree.map(np.testing.assert_array_equal, weights(again), weights(after))
  assert again.origin == after.origin


@pytest.fixture
def asked(checkpoint, monkeypatch) -> list[tuple[str, str | None]]:
  """What is looked for; all that is no folder here is found to be the checkpoint."""
  found, find = [], hub.find

  def anything(source, revision=None):
    found.append((source, revision))
    return find(source) if pathlib.Path(source).is_dir() else checkpoint

  monkeypatch.setattr(hub, 'find', anything)
  return found


def test_a_revision_is_of_the_base_that_recorded_it(after, asked, checkpoint, tmp_path):
  folder = tmp_path / 'adapters'
  peft_format.save(folder, after.params[decoder.ADAPTERS], str(checkpoint))
  path = folder / 'adapter_config.json'
  named = dict(base_model_name_or_path='some/model', revision='own')
  path.write_text(json.dumps(json.loads(path.read_text()) | named))
  for given, want in (
    ({}, ('some/model', 'own')),
    (dict(revision='v2'), ('some/model', 'v2')),
    (dict(base='other/model'), ('other/model', None)),
    (dict(base='other/model', revision='v2'), ('other/model', 'v2')),
  ):
    asked.clear()
    cp.load(folder, **given)
    assert {x for x in asked if x[0] != str(checkpoint)} == {want}


def test_a_model_is_asked_alike_by_both_its_names(before, asked, checkpoint, tmp_path):
  for name, hub_name in common.MODELS.items():
    one, other = cp.load(name), cp.load(hub_name)
    assert one.format.fingerprint == other.format.fingerprint, name
    assert one.config == other.config and one.origin == other.origin, name
    dtype = 'float32' if name in common.SMALL else 'bfloat16'
    assert one.config.dtype == dtype, name
  own = cp.load(shutil.copytree(checkpoint, tmp_path / 'smollm2-own'))
  assert own.format.fingerprint == before.format.fingerprint


def test_what_is_trained_from_m0_is_asked_as_m0_was(
  workdir, after, labels, checkpoint, tmp_path, capsys
):
  folder = tmp_path / 'adapters'
  peft_format.save(folder, after.params[decoder.ADAPTERS], str(checkpoint))
  for source in (checkpoint, folder):
    with pytest.raises(schema.ConfigError, match='system='):
      cp.evaluate(cp.load(source, system='Be brief.'), labels)
  other = cp.label(cp.load(checkpoint, system='Be brief.'), PAIRS, QUESTIONS)
  kept = workdir / 'seed0' / 'kl' / 'train' / 'checkpoints' / str(STEPS)
  with pytest.raises(schema.ConfigError, match='system='):
    cp.evaluate(cp.load(kept), other)
  stranger = cp.load(
    chat_checkpoints.save(tmp_path / 'other', seed=SEED + 1), system='Be brief.'
  )
  capsys.readouterr()
  cp.evaluate(stranger, labels)
  assert capsys.readouterr().err.count('template') == 1


def test_kinds_that_are_never_explained_are_among_the_items(before):
  pairs = [
    dataclasses.replace(x, cue_kind='odd') if i % 2 else x for i, x in enumerate(PAIRS)
  ]
  questions = dataclasses.replace(QUESTIONS, unexplained=('odd',))
  labels = cp.label(dataclasses.replace(before, section=None), pairs, questions)
  result = cp.evaluate(before, labels)
  items = result.items.to_pydict()
  assert len(items['explained']) == len(labels.pairs['test'])
  assert items['explained'] == [x != 'odd' for x in items['cue_kind']]
  assert {*items['explained']} == {True, False}
  assert sum(items['explained']) == result.summary['items'][0]
  right = [x for x, explained in zip(items['self'], items['explained']) if explained]
  assert np.mean(right) == pytest.approx(result.self_accuracy.value)
  assert items['behavior'] == items['orig_behavior']
  assert 'base' not in result.summary['config']


def test_a_page_says_how_m0_was_loaded(before, result):
  assert result.summary['config']['base'] == dataclasses.asdict(before.section)
  assert cp.load(before.section.checkpoint).origin == before.origin


def test_m0_is_asked_once_and_let_go_with_its_labels(after, labels, monkeypatch):
  own, asked = dataclasses.replace(labels), []
  ask = api_evaluate._asked
  note = lambda model, *more: asked.append(model) or ask(model, *more)
  monkeypatch.setattr(api_evaluate, '_asked', note)
  for _ in range(2):
    cp.evaluate(after, own)
  assert asked.count(labels.model) == 1 and asked.count(after) == 2
  gone = weakref.ref(own)
  del own
  gc.collect()
  assert gone() is None


@pytest.mark.parametrize('model', ['smollm2_135m', 'qwen3_8b'])
@pytest.mark.parametrize('rank', [0, 8])
def test_the_rate_is_that_of_the_config(model, rank, before, labels, monkeypatch):
  monkeypatch.setattr(api_train, '_fit', lambda *_: {})
  named = dataclasses.replace(before, origin={'name': common.MODELS[model]})
  found = cp.train(named, dataclasses.replace(labels, model=named), rank=rank)
  ours = found.training.config
  theirs = validate.resolve(facts.get_config(f'model={model},rank={rank}')).train
  assert ours.optimizer.learning_rate == theirs.optimizer.learning_rate
  assert ours.explanation_batch == theirs.explanation_batch
  adapters = schema.Train()
  assert (ours.optimizer.learning_rate == adapters.optimizer.learning_rate) == (
    bool(rank) and model in common.SMALL
  )


def test_what_is_not_kept_is_not_promised(before, labels, tmp_path, monkeypatch):
  first = divergence.First('at step 4, loss is nan', 3)
  monkeypatch.setattr(divergence, 'first', lambda step, _: first if step == 4 else None)
  train = functools.partial(cp.train, before, labels, **SETTINGS | dict(steps=4))
  with pytest.raises(finite.NonFiniteError) as error:
    train(folder=tmp_path / 'kept')
  assert str(tmp_path / 'kept') in str(error.value)
  with pytest.raises(finite.NonFiniteError) as error:
    train()
  assert tempfile.gettempdir() not in str(error.value)


def test_shifts_and_attention_are_checked_as_by_the_stages(before, labels):
  task = schema.Task(module='data.facts', config=facts_lib.Config())
  for its in (None, task):
    shift = schema.BehaviorXent(weight=1.0, target='nothing')
    config = schema.Train(objectives=schema.Objectives(behavior_xent=shift))
    with pytest.raises(schema.ConfigError, match='behavior_xent.target=.nothing'):
      cp.train(before, dataclasses.replace(labels, task=its), config=config)
  with pytest.raises(schema.ConfigError, match='NVIDIA'):
    cp.train(before, labels, config=schema.Train(attention='cudnn'))


def changed(**changes) -> list[cp.Pair]:
  return [*PAIRS[1:], dataclasses.replace(PAIRS[0], **changes)]


@pytest.mark.parametrize(
  'pairs, error, message',
  [
    (PAIRS[:2], readers.DataError, 'is empty'),
    ([], readers.DataError, 'is empty'),
    (changed(options=('2',)), readers.DataError, "given: What is 2.*options=.'2',."),
    (changed(options=('2', '2 ')), schema.ConfigError, 'have the same tokens'),
    (
      changed(prompt=PAIRS[0].counterfactual),
      readers.DataError,
      'given: What is 2.*the same text',
    ),
  ],
)
def test_pairs_that_cannot_be_asked_about_are_refused(before, pairs, error, message):
  with pytest.raises(error, match=message):
    cp.label(before, pairs)


def test_labels_that_do_not_vary_are_refused(before):
  """A cue that says nothing to a model that ends on the same text."""
  constant = [
    dataclasses.replace(x, prompt=f' {x.counterfactual}', cue=' ') for x in PAIRS
  ]
  with pytest.raises(schema.ConfigError, match='label.stop_if_constant'):
    cp.label(before, constant)
  found = cp.label(before, constant, config=schema.Label(stop_if_constant=False))
  with pytest.raises(schema.ConfigError, match='one class'):
    cp.train(before, found, steps=2)


def test_options_are_read_from_replies_all_the_way(before):
  """The options are what the model says, so that it is known which one it names."""
  reply = schema.Behavior(read='reply')
  short = schema.Label(stop_if_constant=False, reply_tokens=4)
  ask = functools.partial(cp.label, before, behavior=reply, config=short)
  first = ask(PAIRS, QUESTIONS)
  said = {}
  for split, pairs in first.pairs.items():
    for pair, replies in zip(pairs, first.behaviors[split].replies_Nx2.tolist()):
      said[pair.prompt] = [x.strip(reply_options.ENDS) for x in replies]
  pairs = [
    dataclasses.replace(x, options=(*dict.fromkeys([*said[x.prompt], 'none', 'xyz']),))
    for x in PAIRS
    if all(said[x.prompt])
  ]
  labels = ask(pairs, QUESTIONS)
  changed = []
  for split, found in labels.behaviors.items():
    for i, pair in enumerate(labels.pairs[split]):
      assert pair.options[-1] == reply_options.UNNAMED
      one, other = said[pair.prompt]
      assert found.behavior_N[i] == pair.options.index(one)
      assert found.counterfactual_behavior_N[i] == pair.options.index(other)
      changed.append(one != other)
  assert 0 < sum(changed) < len(changed)
  after = cp.train(before, labels, steps=2, rank=2, learning_rate=RATE)
  assert after.training.config.objectives.behavior_kl.reference == 'adapters_off'
  result = cp.evaluate(after, labels)
  final = labels.behaviors['test'].replies_Nx2.shape[0]
  assert result.summary['items'] == [final] and 'reply' in result.items.column_names
  unnamed = result.summary['runs']['model']['unnamed']
  rows = result.items.select(['options', 'behavior']).to_pylist()
  counted = [x['options'][x['behavior']] == reply_options.UNNAMED for x in rows]
  assert unnamed['prompt']['mean'] == pytest.approx(np.mean(counted))


def test_a_reading_that_replies_lack_is_refused_before_any_is_asked(before):
  odd = schema.Behavior(read='reply', calibration='prior')
  with pytest.raises(schema.ConfigError, match='calibration'):
    cp.label(before, PAIRS, QUESTIONS, behavior=odd)


@pytest.mark.parametrize(
  'settings, message',
  [
    (dict(steps=0), 'steps=0'),
    (dict(steps=4, rank=10_000), 'rank=10000'),
    (dict(steps=4, learning_rate=-1.0), 'learning_rate=-1.0'),
    (dict(steps=4, config=schema.Train(labels='x')), 'train.labels'),
    (dict(steps=4, config=schema.Train(context='after')), 'explanation_after'),
  ],
)
def test_trainings_that_cannot_be_are_refused(before, labels, settings, message):
  with pytest.raises(schema.ConfigError, match=message):
    cp.train(before, labels, **settings)


def test_labels_of_another_model_and_adapters_are_not_trained(
  before, labels, after, tmp_path
):
  other = cp.load(chat_checkpoints.save(tmp_path, seed=SEED + 1))
  with pytest.raises(schema.ConfigError, match='label the model that is trained'):
    cp.train(other, labels, steps=2)
  with pytest.raises(schema.ConfigError, match='has adapters'):
    cp.train(after, labels, steps=2)


def test_models_that_cannot_be_asked_are_refused(checkpoint, tmp_path, monkeypatch):
  monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_OFFLINE', True)
  with pytest.raises(schema.ConfigError, match='qwen3_0p6b'):
    cp.load('qwen3_06b')
  folder = shutil.copytree(checkpoint, tmp_path / 'model')
  for file in folder.glob('tokenizer*'):
    file.unlink()
  with pytest.raises(schema.ConfigError, match='tokenizer'):
    cp.load(folder)
  with pytest.raises(schema.ConfigError, match='no such folder'):
    cp.load(tmp_path / 'nothing')
  with pytest.raises(schema.ConfigError, match='base='):
    cp.load(checkpoint, base='other')


def test_a_task_knows_how_it_asks_and_the_import_is_cheap():
  found = cp.tasks.facts(seed=0, relations=('country_capital',), per_answer=1)
  assert found.questions.unexplained and found[:3].questions == found.questions
  assert len(found[:3]) == 3 and isinstance(found[0], cp.Pair)
  assert all(getattr(cp, name) for name in cp.__all__)
  assert not hasattr(cp, 'nothing')
  code = 'import sys, coupling, coupling.report.page; assert "jax" not in sys.modules'
  subprocess.run([sys.executable, '-c', code], check=True)


@pytest.mark.parametrize('name', ['data.py', 'configs/__init__.py'])
def test_a_users_file_in_the_place_of_a_folder_is_named(name, tmp_path):
  (tmp_path / name).parent.mkdir(exist_ok=True)
  (tmp_path / name).write_text('raise ValueError("run")')
  done = subprocess.run(
    [sys.executable, '-c', 'import coupling'],
    cwd=tmp_path,  # which comes first
    env=os.environ | {'PYTHONPATH': str(pathlib.Path(cp.__file__).parents[1])},
    capture_output=True,
    text=True,
  )
  assert done.returncode and 'ImportError' in done.stderr
  assert str(tmp_path / name) in done.stderr and 'ValueError' not in done.stderr
