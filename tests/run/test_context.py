"""What stages take from one another: what does not fit is refused, and named."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

from configs import hint_mmlu
from coupling.config import schema, validate
from coupling.elicit import explanation, label_set
from coupling.report import records
from coupling.run import base_model, context, other_labels, base_stage, evaluate_stage
from coupling.run import label_stage, prepare_stage, train_stage
from coupling.runtime import workdir as workdir_lib
from data import pairs as pairs_lib, splits
from tests import chat_checkpoints, chat_tokenizers, chats


def experiment(
  checkpoint, path, max_tokens=1_024, too_long='raise', labels='', **label_changes
):
  config = hint_mmlu.get_config(
    f'model=local,checkpoint={checkpoint},path={path},seeds=1,rank=4,steps=2,kl=0,'
    f'labels={labels}'
  )
  config.length = dict(max_tokens=max_tokens, too_long=too_long)
  config.train.update(explanation_batch=4, behavior_batch=4)
  config.evaluate.batch = 8
  config.label.update(batch=8, **label_changes)
  return validate.resolve(config)


def labelled(e: schema.Experiment, workdir: pathlib.Path) -> pathlib.Path:
  """Runs the stages up to the labels, in this process."""
  for stage in (prepare_stage.prepare, base_stage.base, label_stage.label):
    assert stage(e, workdir, 0)
  return workdir / 'seed0' / 'label'


@pytest.fixture(scope='module')
def root(tmp_path_factory) -> pathlib.Path:
  return tmp_path_factory.mktemp('inputs')


@pytest.fixture(scope='module')
def own(root) -> tuple[schema.Experiment, pathlib.Path]:
  """An experiment and its workdir, with labels."""
  checkpoint = chat_checkpoints.save(root / 'qwen')
  e = experiment(checkpoint, chat_checkpoints.save_questions(root / 'q.csv'))
  labelled(e, root / 'own')
  return e, root / 'own'


def target(own, labels) -> workdir_lib.Stage:
  """The label stage of a run that names these labels."""
  e, workdir = own
  train = dataclasses.replace(e.train, labels=str(labels))
  return other_labels.of_run(e, workdir, 0, train)


def test_labels_of_another_model_of_the_same_family_serve(own, root):
  e, _ = own
  other = chat_checkpoints.save(root / 'other_weights', seed=1)
  labelled(experiment(other, e.task.config.path), root / 'other')
  there = str(root / 'other' / 'seed{seed}' / 'label')
  found = target(own, there)
  assert found.path() == root / 'other' / 'seed0' / 'label'
  assert found.digest != target(own, '').digest
  assert target(own, '').path() == own[1] / 'seed0' / 'label'


@pytest.fixture(scope='module')
def foreign(own, root) -> pathlib.Path:
  """Labels of the same pairs by a model with another tokenizer."""
  e, _ = own
  other = chat_checkpoints.save(root / 'llama', family='llama', seed=7)
  return labelled(experiment(other, e.task.config.path), root / 'other_tokens')


def test_labels_of_another_family_are_joined_by_row(own, foreign, tmp_path):
  """This model drops long questions, which that one had kept."""
  e, workdir = own
  limit = limit_of(e, workdir)
  some = experiment(
    *(e.base.checkpoint, e.task.config.path, int(limit), 'drop', foreign)
  )
  here = labelled(some, tmp_path)
  assert target((some, tmp_path), foreign).path() == foreign
  assert train_stage.train(some, tmp_path, 0, 'no_kl')
  assert evaluate_stage.evaluate(some, tmp_path, 0, 'no_kl')
  found = records.read_seed(some, tmp_path, 0)

  for split, trained in (
    ('train', found.train_labels['no_kl']),
    ('test', found.targets['no_kl']),
  ):
    kept_N = np.flatnonzero(lengths(e, workdir, split) <= limit)
    wanted = label_set.read(foreign, split)
    assert 0 < len(kept_N) < len(wanted.behavior_N)
    answer_N = wanted.counterfactual_behavior_N[kept_N]
    np.testing.assert_array_equal(trained.answer_N, answer_N)
    # Neither this model's own labels nor the first ones of that file.
    assert np.any(answer_N != label_set.read(here, split).counterfactual_behavior_N)
    assert np.any(answer_N != wanted.counterfactual_behavior_N[: len(kept_N)])
  folder = tmp_path / 'seed0' / 'no_kl' / 'evaluate'
  counts = json.loads((folder / 'counts-000000002.json').read_text())
  stated = found.items['no_kl'][2].stated
  agreed_N = explanation.agree(stated, found.targets['no_kl'], False)
  assert counts['target'] == agreed_N.sum()


def test_pairs_that_the_labels_lack_are_counted_with_the_remedy(own, tmp_path):
  """That model dropped long questions, which this one keeps."""
  e, workdir = own
  limit = limit_of(e, workdir)
  some = experiment(e.base.checkpoint, e.task.config.path, int(limit), 'drop')
  there = labelled(some, tmp_path)
  row_N = label_set.read_rows(workdir / 'seed0' / 'label', 'train')
  long_N = lengths(e, workdir, 'train') > limit
  with pytest.raises(workdir_lib.WorkdirError) as refused:
    label_set.read(there, 'train', row_N)
  message = str(refused.value)
  assert str(there) in message and 'Raise length.max_tokens' in message
  assert f'no labels for {long_N.sum()} of the {len(row_N)} pairs' in message
  assert f'the first is pair {np.flatnonzero(long_N)[0]}' in message


def test_labels_by_another_question_are_refused(own, monkeypatch):
  e, workdir = own
  labels = workdir / 'seed0' / 'label'
  made = workdir_lib.finished_stage(labels)
  info = made.info()
  asked = dataclasses.replace(context.questions(e), behavior='{prompt} Which one?')
  monkeypatch.setattr(context, 'questions', lambda e: asked)
  config = context.stage_config(e, 'label', 0)
  with pytest.raises(workdir_lib.WorkdirError, match='behavior') as refused:
    other_labels.check(f'train.labels={labels}', made, info, config)
  check_named(refused, labels)
  assert "'{prompt} Which one?'" in str(refused.value)


def test_labels_for_other_pairs_are_refused(own, root):
  e, _ = own
  path = chat_checkpoints.save_questions(root / 'other.csv', answer=2)
  labels = labelled(experiment(e.base.checkpoint, path), root / 'other_pairs')
  with pytest.raises(workdir_lib.WorkdirError, match='pairs') as refused:
    target(own, labels)
  check_named(refused, labels)


def check_named(refused, labels):
  """The error names the config's field, the file, both values and the remedy."""
  message = str(refused.value)
  assert f'train.labels={labels}' in message
  assert str(labels / 'manifest.json') in message
  assert 'make them anew with --stage=label' in message


def test_unfinished_labels_and_folders_without_any_are_refused(own, tmp_path):
  with workdir_lib.open_stage(tmp_path / 'label', 'label', {}, {}):
    pass  # killed here
  with pytest.raises(workdir_lib.WorkdirError, match='label is not finished; run it'):
    target(own, tmp_path / 'label')
  with pytest.raises(workdir_lib.WorkdirError, match='manifest.json is missing'):
    target(own, tmp_path / 'nowhere')


def test_a_workdir_of_another_tokenizer_is_refused(own, root, tmp_path):
  """The tokenizer's files were replaced after the labels had been made."""
  checkpoint = chat_checkpoints.save(tmp_path / 'm')
  e = experiment(checkpoint, own[0].task.config.path)
  labels = labelled(e, tmp_path / 'w')
  other_labels.of_run(e, tmp_path / 'w', 0, e.train)
  chat_tokenizers.save('llama', checkpoint)
  base_model.format.cache_clear()  # as in another process
  with pytest.raises(workdir_lib.WorkdirError, match='info.format') as refused:
    other_labels.of_run(e, tmp_path / 'w', 0, e.train)
  assert str(labels / 'manifest.json') in str(refused.value)
  assert 'use another --workdir' in str(refused.value)
  base_model.format.cache_clear()


def test_a_checkpoint_whose_weights_changed_is_refused(own, tmp_path):
  checkpoint = chat_checkpoints.save(tmp_path / 'm')
  e, workdir = experiment(checkpoint, own[0].task.config.path), tmp_path / 'w'
  assert prepare_stage.prepare(e, workdir, 0) and base_stage.base(e, workdir, 0)
  base_model.base_params(e, workdir, 0)
  file = checkpoint / 'model.safetensors'
  before = base_model.digest(checkpoint)
  data = safetensors_numpy.load_file(file)
  half = {name: x.astype(np.float16) for name, x in data.items()}
  safetensors_numpy.save_file(half, file, metadata={'format': 'pt'})
  for read in (base_model.base_params, label_stage.label):
    with pytest.raises(workdir_lib.WorkdirError, match='weights have changed') as found:
      read(e, workdir, 0)
    message = str(found.value)
    assert str(checkpoint) in message
    assert before in message and base_model.digest(checkpoint) in message
    assert 'use another --workdir' in message


def test_labels_that_hardly_vary_stop_every_time(own, tmp_path, monkeypatch):
  e, _ = own
  assert prepare_stage.prepare(e, tmp_path, 0) and base_stage.base(e, tmp_path, 0)

  def stop(*_):
    raise schema.ConfigError('such labels teach nothing')

  monkeypatch.setattr(label_stage.labelling, 'check_varied', stop)
  for _ in range(2):
    with pytest.raises(schema.ConfigError, match='teach nothing'):
      label_stage.label(e, tmp_path, 0)
    assert not [*(tmp_path / 'seed0' / 'label').glob('*.parquet')]


def pairs(e: schema.Experiment, workdir: pathlib.Path, split: str):
  return pairs_lib.read(context.pairs_builder(e, workdir, 0), split)


def lengths(e: schema.Experiment, workdir: pathlib.Path, split: str) -> np.ndarray:
  """Tokens of each pair's longest question with its answer, by transformers."""
  asked, found = context.questions(e), []
  for pair in pairs(e, workdir, split):
    said = [asked.changed.format(answer=o) for o in pair.options] + [asked.unchanged]
    longest = max(len(chats.chat('qwen').answers([text])[0]) for text in said)
    rows = [
      len(chats.theirs('qwen', [template.format(prompt=text)])) + answer
      for template, text, answer in (
        (asked.behavior, pair.prompt, 1),
        (asked.behavior, pair.counterfactual, 1),
        (asked.explanation, pair.prompt, longest),
      )
    ]
    found.append(max(rows))
  return np.array(found)


def limit_of(e, workdir) -> int:
  """A limit that the long questions exceed, and that one of the others just meets."""
  return sorted(lengths(e, workdir, 'train'))[int(0.8 * 36)]


def test_too_long_prompts_are_an_error_before_any_model_is_loaded(
  own, root, tmp_path, monkeypatch
):
  e, workdir = own
  limit = limit_of(e, workdir)
  length_N = lengths(e, workdir, 'train')
  strict = experiment(e.base.checkpoint, e.task.config.path, max_tokens=int(limit))
  assert prepare_stage.prepare(strict, tmp_path, 0) and base_stage.base(
    strict, tmp_path, 0
  )

  def loaded(*args):
    raise AssertionError('the model was loaded')

  monkeypatch.setattr(base_model, 'base_params', loaded)
  with pytest.raises(schema.ConfigError) as refused:
    label_stage.label(strict, tmp_path, 0)
  message = str(refused.value)
  long = int((length_N > limit).sum())
  assert 0 < long < len(length_N) / 2
  assert f'length.max_tokens={limit}, split train of data.hint_mmlu' in message
  assert f'{long} of {len(length_N)} items exceed the length {limit}' in message
  assert f'the longest has {length_N.max()} tokens' in message
  assert 'Raise the length, or drop such items' in message
  none = experiment(
    e.base.checkpoint, e.task.config.path, max_tokens=5, too_long='drop'
  )
  assert prepare_stage.prepare(none, tmp_path / 'n', 0) and base_stage.base(
    none, tmp_path / 'n', 0
  )
  with pytest.raises(schema.ConfigError, match='exceed the length 5'):
    label_stage.label(none, tmp_path / 'n', 0)


def test_dropped_prompts_are_the_long_ones_and_the_labels_say_which_are_left(
  own, tmp_path
):
  e, workdir = own
  limit = limit_of(e, workdir)
  some = experiment(
    e.base.checkpoint,
    e.task.config.path,
    max_tokens=int(limit),
    too_long='drop',
    shard=16,  # several files
  )
  folder = labelled(some, tmp_path)
  dropped = {}
  for split in splits.SHARES:
    length_N = lengths(e, workdir, split)
    kept_N = np.flatnonzero(length_N <= limit)
    dropped[split] = len(length_N) - len(kept_N)
    assert 0 < dropped[split] < len(length_N)
    np.testing.assert_array_equal(label_set.read_rows(folder, split), kept_N)
    every = pairs(e, workdir, split)
    want = [every[i] for i in kept_N]
    assert label_set.read_pairs(folder, split) == want
    found = label_set.read(folder, split)
    whole = label_set.read(workdir / 'seed0' / 'label', split)
    np.testing.assert_array_equal(found.behavior_N, whole.behavior_N[kept_N])
    np.testing.assert_array_equal(
      found.counterfactual_behavior_N, whole.counterfactual_behavior_N[kept_N]
    )
    np.testing.assert_allclose(
      found.logprobs_Nx2xS, whole.logprobs_Nx2xS[kept_N], atol=1e-4
    )
  info = workdir_lib.finished_stage(folder).info()
  assert info['too_long'] == dropped
  # So that a wrong order would be seen.
  train = label_set.read(workdir / 'seed0' / 'label', 'train')
  assert len(set(train.behavior_N)) > 1
