"""What cannot work is refused, all of it at once, before any stage and any weight."""

import dataclasses
import json
import os
import shutil
import subprocess

import jax
import pytest
import transformers

from benchmarks import interruptions
from configs import hint_mmlu, refusal, world
from coupling.config import schema, validate
from coupling.model import sharding
from coupling.run import asking_rules, base_model, context, pipeline, preflight
from coupling.runtime import workdir
from data import refusal as refusal_lib
from tests import chat_checkpoints, chat_tokenizers


def problems(config) -> list[str]:
  """The lines of the error, without its title."""
  e = validate.resolve(config)
  with pytest.raises(schema.ConfigError) as refused:
    preflight.check(e)
  title, *lines = str(refused.value).split('\n')
  assert title == 'the config cannot be run:'
  return [line.strip() for line in lines]


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
  """A checkpoint without its weights: its config.json and a chat tokenizer."""
  return chat_checkpoints.without_weights(tmp_path_factory.mktemp('checkpoint'))


def imported(checkpoint, task=hint_mmlu, **arguments):
  """The config of a task on the checkpoint; its data are not there."""
  arguments = dict(model='local', checkpoint=checkpoint, path='x') | arguments
  config = task.get_config(','.join(f'{k}={v}' for k, v in arguments.items()))
  return config.unlock()


def test_fused_attention_wants_a_gpu_and_what_it_takes(checkpoint, monkeypatch):
  config = imported(checkpoint)
  config.train.attention = 'cudnn'
  with pytest.raises(schema.ConfigError, match=r'attention=cudnn.*base\.dtype'):
    validate.resolve(config)
  config.base.dtype = config.base.param_dtype = 'bfloat16'
  for found in problems(config):
    assert 'attention=cudnn is for NVIDIA GPUs' in found and 'are cpu' in found
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  preflight.check(validate.resolve(config))
  raw = transformers.Qwen3Config.from_pretrained(checkpoint)
  raw.head_dim = 132
  folder = checkpoint.parent / 'wide'
  shutil.copytree(checkpoint, folder)
  raw.save_pretrained(folder)
  config.base.checkpoint = str(folder)
  assert any('have 132: set it to blocks' in x for x in problems(config))


def test_the_world_has_no_words_for_replies():
  config = world.get_config('kl=0')
  config.behavior.read = 'reply'
  assert any(x.startswith('behavior.read=reply') for x in problems(config))


def test_answers_that_data_bring_along_have_no_replies_to_stand_in_the_context():
  asked, trains = refusal_lib.REPLY_QUESTIONS, {'a': schema.Train(context='after')}
  check = lambda source: asking_rules.reading_problems(
    schema.Behavior(), schema.Label(source=source), trains, asked
  )
  [found] = check(schema.TASK)
  assert found.startswith('runs.a.context=after: label.source=task')
  assert not check('')


@pytest.mark.parametrize('arg', [None, 'behavior=request', 'kl=0'])
def test_the_world_passes(arg):
  preflight.check(validate.resolve(world.get_config(arg)))


@pytest.mark.parametrize(
  'task, arguments',
  [
    (hint_mmlu, {}),
    (hint_mmlu, dict(rank=0)),  # all weights
    (refusal, dict(read='reply')),
    (hint_mmlu, dict(read='reply')),
    (refusal, dict(read='choice')),
  ],
)
def test_imported_checkpoints_pass_without_weights_and_data(
  checkpoint, task, arguments
):
  preflight.check(validate.resolve(imported(checkpoint, task, **arguments)))


def test_thoughts_are_for_chats_whose_replies_are_read(checkpoint):
  config = imported(checkpoint, refusal, read='reply')
  config.base.thinking = True
  [tokens] = [x for x in problems(config) if 'base.thinking' in x]
  assert tokens.startswith('label.reply_tokens=64')
  config.label.reply_tokens = 256
  e = validate.resolve(config)
  preflight.check(e)
  assert base_model.format(e).thinking
  config.base.chat = False
  [chat] = [x for x in problems(config) if 'base.thinking' in x]
  assert 'base.chat=True' in chat
  config.base.update(thinking=False, system='Be kind.')
  assert [x for x in problems(config) if 'base.system' in x]
  config = imported(checkpoint, refusal, read='choice')
  config.base.thinking = True
  [options] = [x for x in problems(config) if 'base.thinking' in x]
  assert 'leave it False' in options


def test_the_day_of_a_template_is_the_configs(checkpoint, tmp_path):
  shutil.copytree(checkpoint, tmp_path / 'model')
  clock = "{{- strftime_now('%d %B %Y') }}"
  (tmp_path / 'model' / 'chat_template.jinja').write_text(clock + chat_tokenizers.QWEN)
  config = imported(tmp_path / 'model')

  def asked():
    e = validate.resolve(config)
    found = base_model.format(e)
    described = context.stage_config(e, 'base', 0)['base']['date']
    return found.tokenizer.decode(found.prompts(['a'])[0])[:15], described

  assert asked() == ('26 July 2024<|i', '2024-07-26')
  config.base.date = '2031-02-03'
  assert asked() == ('03 February 203', '2031-02-03')
  config.base.date = 'today'
  [refused] = problems(config)
  assert 'base.date=today' in refused


def test_ranks_layers_and_batches_beyond_all_bounds_are_refused(checkpoint):
  config = imported(checkpoint)
  config.train.lora.update(rank=4096, targets=('q', 'k'))
  preflight.check(validate.resolve(config))  # 32 heads of 128
  for rank in (4097, 10**9):
    config.train.lora.rank = rank
    assert all(f'lora.rank={rank}: ' in x and ' 4096 ' in x for x in problems(config))
  config.train.lora.update(rank=32, targets=('q', 'down', 'q'))
  assert all('name each layer once' in x for x in problems(config))
  last = transformers.Qwen3Config.from_pretrained(checkpoint).num_hidden_layers - 1
  config.train.lora.update(targets=('q', 'down'), layers=last)
  preflight.check(validate.resolve(config))
  config.train.lora.layers = last + 1
  assert all(f'lora.layers={last + 1}: ' in x for x in problems(config))
  config.train.lora.layers = 0
  config.label.batch = config.evaluate.batch = 2**30
  found = problems(config)
  assert [x.split('=')[0] for x in found] == ['label.batch', 'evaluate.batch']


def test_all_problems_are_listed_at_once(checkpoint):
  config = imported(checkpoint)
  config.base.chat = False
  config.mesh = dict(data=3, fsdp=1, tensor=1)
  config.train.lora.targets = ('q', 'head')
  config.train.objectives.behavior_kl.support = 'vocabulary'
  config.train.objectives.behavior_xent.update(weight=1.0, cues='unexplained')
  config.train.objectives.dpo.update(weight=1.0, file='nowhere.jsonl')
  config.runs = {'kl': {}}
  config.report.update(unregularised='', sibling='', shuffled='')
  starts = [
    'runs.kl.objectives.behavior_kl.support=vocabulary, but label.reference=options',
    'runs.kl.objectives.behavior_xent.cues=unexplained: this task explains cues of all',
    'runs.kl.objectives.dpo.file: nowhere.jsonl: cannot be read',
    'mesh.data=3 x mesh.fsdp=1 x mesh.tensor=1 does not give '
    f'{jax.device_count()} devices',
    "runs.kl.lora.targets=('q', 'head'): this model has no such layers; choose from",
    'base.chat=False: The statements of an explanation have different lengths',
  ]
  found = problems(config)
  assert len(found) == len(starts)
  for line, start in zip(found, starts):
    assert line.startswith(start)


@pytest.mark.parametrize(
  'changes, wrong',
  [
    (dict(behavior_kl=dict(support='options')), 'behavior_kl: support=options, ref'),
    (dict(behavior_kl=dict(reference='labels')), 'behavior_kl: support=vocabulary, r'),
    (dict(behavior_xent=dict(weight=0.5)), 'behavior_xent.weight=0.5: this task reads'),
  ],
)
def test_objectives_that_replies_cannot_serve_are_named(checkpoint, changes, wrong):
  config = imported(checkpoint, refusal, read='reply')
  config.runs = {'kl': {}, 'other': dict(objectives=changes)}
  config.report.update(unregularised='', sibling='', shuffled='')
  [found] = problems(config)
  assert found.startswith(f'runs.other.objectives.{wrong}')
  for term in config.runs.other.objectives:
    config.runs.other.objectives[term].weight = 0.0
  preflight.check(validate.resolve(config))  # what is left out needs nothing


def test_references_of_the_labels_need_what_the_labels_keep():
  config = world.get_config()
  config.label.reference = 'options'
  found = problems(config)
  assert [line.split('.objectives')[0] for line in found] == [
    'runs.kl',
    'runs.shuffled',
    'runs.sibling',
  ]  # no_kl has no reference
  for changes in (
    dict(support='options'),
    dict(reference='adapters_off'),
    dict(weight=0.0),
  ):
    config = world.get_config()
    config.label.reference = 'options'
    config.train.lora.rank = 1
    config.train.objectives.behavior_kl.update(changes)
    preflight.check(validate.resolve(config))


def mesh_of(monkeypatch, data: int, fsdp: int, tensor: int = 1) -> None:
  """Makes all meshes of this many devices, though they are not there."""
  axes = ('data', 'fsdp', 'tensor')
  mesh = jax.sharding.AbstractMesh((data, fsdp, tensor), axes)
  monkeypatch.setattr(sharding, 'make_mesh', lambda config: mesh)


def test_every_batch_that_does_not_divide_is_named(monkeypatch):
  config = world.get_config()
  mesh_of(monkeypatch, 4, 1)
  preflight.check(validate.resolve(config))
  config.base.batch = 10
  config.label.batch = 6
  config.evaluate.batch = 2
  config.train.explanation_batch = 24
  config.train.behavior_batch = 40
  config.train.loop.accumulation = 5
  found = problems(config)
  fields = [line.split(' does not divide')[0] for line in found]
  runs = ('kl', 'no_kl', 'shuffled', 'sibling')
  assert fields == [
    'base.batch=10',
    'label.batch=6',
    *(f'runs.{run}.explanation_batch=24' for run in runs),
    'evaluate.batch=2',
  ]  # 40 divides over 5 microbatches on 4 devices
  assert 'over 5 microbatches on 4 devices: make it a multiple of 20' in found[2]
  config.train.behavior_batch = 41
  config.label.batch = 4  # is not accumulated, nor is the evaluation's
  config.evaluate.batch = 8
  found = problems(config)
  assert not [line for line in found if line.startswith(('label', 'evaluate'))]
  assert [line for line in found if 'behavior_batch=41' in line] == [
    f'runs.{run}.behavior_batch=41 does not divide over 5 microbatches on 4 devices: '
    'make it a multiple of 20.'
    for run in ('kl', 'shuffled', 'sibling')  # no_kl asks for no behaviours
  ]


def test_weights_that_the_mesh_cannot_split_are_named(monkeypatch):
  config = world.get_config()
  config.base.batch = config.label.batch = config.evaluate.batch = 140
  config.train.explanation_batch = config.train.behavior_batch = 70
  config.mesh.fsdp = 7
  mesh_of(monkeypatch, 1, 7)
  [found] = problems(config)
  assert found.startswith('mesh.fsdp=7 divides no axis of')


def test_heads_and_features_that_the_mesh_cannot_split_are_named(monkeypatch):
  config = world.get_config()
  config.mesh.tensor = 8
  mesh_of(monkeypatch, 1, 1, 8)
  found = problems(config)
  assert found[0].startswith('mesh.tensor=8 does not divide the model')
  assert found[1].startswith('mesh.tensor=8 does not divide axis')
  config.mesh.tensor = 2
  config.base.model.update(num_heads=6, num_kv_heads=3)
  mesh_of(monkeypatch, 1, 1, 2)
  assert "the model's 3 heads of keys and values" in problems(config)[0]


@pytest.mark.parametrize(
  'changes, wrong',
  [
    (dict(behavior='{promt}?'), r"behavior='{promt}?' cannot be filled (KeyError"),
    (dict(explanation='{prompt} as {"a": 1}'), 'write other braces twice, {{ and }}'),
    (dict(unchanged='{} same'), "unchanged='{} same' cannot be filled (IndexError"),
    (dict(changed='{answer'), "changed='{answer' cannot be filled (ValueError"),
    (dict(behavior='Well?'), "behavior='Well?' has no place for {prompt}"),
    (dict(changed='changed'), "changed='changed' has no place for {answer}"),
  ],
)
def test_templates_that_cannot_be_filled_are_named(
  checkpoint, monkeypatch, changes, wrong
):
  questions = dataclasses.replace(hint_mmlu_questions(), **changes)
  monkeypatch.setattr(context, 'questions', lambda e: questions)
  [found] = problems(imported(checkpoint))
  assert found.startswith("task.module='data.hint_mmlu': questions().")
  assert wrong in found


def test_statements_that_say_the_same_are_refused(monkeypatch):
  questions = dataclasses.replace(hint_mmlu_questions(), unchanged='{answer}')
  questions = dataclasses.replace(questions, changed='{answer}')
  monkeypatch.setattr(context, 'questions', lambda e: questions)
  [found] = problems(world.get_config('seeds=1'))
  assert 'nothing could tell them apart' in found


def hint_mmlu_questions():
  config = imported('.')
  return context.questions(validate.resolve(config))


@pytest.mark.parametrize(
  'unchanged, changed, passes',
  [
    ('stays the same', '{answer}', True),  # a long option may be as long
    ('my answer stays {answer}', '{answer}', False),  # no option is
    ('a {answer}', 'b {answer}', True),
    ('no', 'changed to {answer}', False),
  ],
)
def test_plain_statements_are_refused_where_no_option_can_make_them_equal(
  checkpoint, monkeypatch, unchanged, changed, passes
):
  forms = dict(unchanged=unchanged, changed=changed)
  questions = dataclasses.replace(hint_mmlu_questions(), **forms)
  monkeypatch.setattr(context, 'questions', lambda e: questions)
  config = imported(checkpoint)
  preflight.check(validate.resolve(config))  # turns of a chat end
  config.base.chat = False
  if passes:
    preflight.check(validate.resolve(config))
  else:
    [found] = problems(config)
    assert found.startswith('base.chat=False: The statements') and 'chat=True' in found


def test_a_checkpoint_that_is_not_there_is_named_once_beside_the_rest(tmp_path):
  config = imported(tmp_path / 'none')
  config.label.reference = 'options'
  config.train.objectives.behavior_kl.support = 'vocabulary'
  *objectives, missing = problems(config)
  assert len(objectives) == 3 and all('behavior_kl.support' in x for x in objectives)
  assert missing.startswith(str(tmp_path / 'none')) and 'no such folder' in missing


def test_no_stage_begins_and_stages_without_a_model_are_not_held_up(tmp_path):
  config = world.get_config('seeds=1')
  config.label.reference = 'options'
  config.task.train_pairs = 1
  e = validate.resolve(config)
  for stage in ('run', 'base', 'label', 'train', 'evaluate', 'export'):
    with pytest.raises(schema.ConfigError, match='label.reference=options'):
      pipeline.run(e, tmp_path / 'w', stage, 1, False)
  assert not (tmp_path / 'w').exists()
  with pytest.raises(workdir.WorkdirError):  # there is nothing to report of
    pipeline.run(e, tmp_path / 'w', 'report', 1, False)


def test_workers_are_not_started_and_no_traceback_is_shown(tmp_path):
  """The parent counts the devices that its workers would have."""
  flags = '--xla_force_host_platform_device_count=8'
  found = subprocess.run(
    interruptions.command(
      tmp_path / 'w', '--workers=2', '--config.label.batch=12', config='seeds=2'
    ),
    cwd=interruptions.ROOT,
    env=os.environ | {'XLA_FLAGS': flags},
    capture_output=True,
    text=True,
    check=False,
  )
  assert found.returncode != 0
  assert 'ConfigError: the config cannot be run:' in found.stderr
  assert 'label.batch=12 does not divide' in found.stderr
  assert 'multiple of 8' in found.stderr
  assert 'Traceback' not in found.stderr
  assert not (tmp_path / 'w').exists()


def test_preferences_that_are_not_asked_in_this_form_or_length_are_named(
  checkpoint, tmp_path
):
  turn = lambda role, text: [{'role': role, 'content': text}]
  rows = [
    dict(prompt=turn('user', words), chosen='So', rejected='No')
    for words in ('Why?', 'Why? ' * 2000)
  ]
  path = tmp_path / 'given.jsonl'
  path.write_text('\n'.join(map(json.dumps, rows)))
  config = imported(checkpoint)
  config.runs = {'kl': {}}
  config.report.update(unregularised='', sibling='', shuffled='')
  config.train.objectives.dpo.update(weight=1.0, file=str(path))
  preflight.check(validate.resolve(config))  # the long one is left out
  where = f'runs.kl.objectives.dpo.file={str(path)!r}: '
  config.length.too_long = 'raise'
  [found] = problems(config)
  assert found.startswith(f'{where}length.max_tokens={config.length.max_tokens}')
  config.base.chat = False
  [found] = [x for x in problems(config) if x.startswith(where)]
  assert 'messages' in found and 'base.chat=True' in found


def test_a_run_of_no_steps_is_held_to_nothing_that_training_needs(checkpoint):
  config = imported(checkpoint, refusal, read='reply')
  config.train.objectives.behavior_kl.update(support='options', reference='labels')
  config.train.lora.targets = ('nothing',)
  config.runs = {'audited': {}}
  config.report.update(main='audited', unregularised='', sibling='', shuffled='')
  assert len(problems(config)) == 2
  config.train.loop.steps = 0
  preflight.check(validate.resolve(config))
