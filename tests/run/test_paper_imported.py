"""The paper's configs on a small imported model and real questions: a step of each."""

import dataclasses

import pytest

from configs import hint_mmlu
from configs.paper import capacity
from configs.paper import common
from configs.paper import concurrent_dpo
from configs.paper import concurrent_refusal
from configs.paper import concurrent_shift
from configs.paper import iterated
from configs.paper import label_noise
from configs.paper import label_source
from configs.paper import learning_rate
from configs.paper import planted
from configs.paper import privileged_access
from configs.paper import regularisation
from configs.paper import regulariser
from configs.paper import trajectory
from configs.paper import variety
from coupling.config import paper_parts
from coupling.config import validate
from coupling.run import pipeline
from coupling.runtime import interrupt
from coupling.runtime import workdir
from tests import chat_checkpoints
from tests import real_data

pytestmark = [pytest.mark.usefixtures('few_optimizations'), pytest.mark.slow]

KIND = 'professor'
WITH_KIND = (concurrent_shift, concurrent_dpo, planted)
# Each with runs that show all it changes: its others differ from these in a number, or
# put the changes of two together.
STUDIES = {
  regularisation: ('no_kl',),
  trajectory: ('kl', 'no_kl'),
  label_noise: ('noise_50',),
  capacity: ('rank_2',),
  learning_rate: ('rate_double',),
  variety: ('changed_3',),
  regulariser: ('kl_plain',),
  iterated: ('again_2',),
  label_source: ('from_donor', 'mixed_50'),
  concurrent_shift: ('ignore_uncovered_after', 'follow_covered_before', 'still_after'),
  concurrent_dpo: ('dpo_follow_uncovered_before',),
  planted: ('planted', 'not_planted'),
}
OF_THE_WORLD = (privileged_access, concurrent_refusal)


def test_every_study_takes_a_step_on_mmlu(tmp_path, monkeypatch):
  interrupt.install()
  monkeypatch.setattr(capacity, 'RANKS', (2, 8))
  checkpoint = chat_checkpoints.save(tmp_path / 'checkpoint')
  path = real_data.path('mmlu_csv/test/abstract_algebra_test.csv')
  arg = f'on=hint_mmlu,model=local,checkpoint={checkpoint},path={path}'
  arg += ',seeds=1,steps=1,rank=4'
  other = chat_checkpoints.save(tmp_path / 'other', seed=1)
  donor = hint_mmlu.get_config(f'model=local,checkpoint={other},path={path},seeds=1')
  donor.label.batch = 16
  for stage in ('prepare', 'base', 'label'):
    pipeline.run(validate.resolve(donor), tmp_path / 'donor', stage, 1, False)
  more = {label_source: f',donor={tmp_path}/donor/seed{{seed}}/label'}
  more |= dict.fromkeys(WITH_KIND, f',kind={KIND}')
  configs = [study.get_config(arg + more.get(study, '')) for study in STUDIES]
  config = common.merge(configs)
  part = config.parts.main
  part.label.batch = 16
  part.train.update(explanation_batch=4, behavior_batch=4)
  found = paper_parts.resolve(config)
  assert len(found.studies) == len(STUDIES)
  whole = found.parts['main']
  few = {*whole.report.played}.union(*STUDIES.values())
  for study in found.studies.values():
    assert few & {name.removeprefix('main/') for name in study.runs}
  runs = {name: whole.runs[name] for name in sorted(few)}
  parts = {'main': dataclasses.replace(whole, runs=runs)}
  found = dataclasses.replace(found, parts=parts)
  for stage in ('prepare', 'base', 'label', 'train'):
    pipeline.run(found, tmp_path / 'w', stage, 1, False)
  for name in few:
    folder = tmp_path / 'w' / 'main' / 'seed0' / name / 'train'
    assert workdir.is_finished(folder), name


def test_dpo_takes_a_step_on_facts_whose_options_are_texts(tmp_path):
  checkpoint = chat_checkpoints.save(tmp_path / 'checkpoint')
  config = concurrent_dpo.get_config(
    f'on=facts,model=local,checkpoint={checkpoint},seeds=1,steps=1,rank=4,facts=1,hints=1'
  )
  config.parts.main.task.relations = ('country_continent', 'country_currency')
  config.parts.main.train.update(explanation_batch=4, behavior_batch=4)
  found = paper_parts.resolve(config)
  name = 'dpo_follow_covered_before'
  whole = found.parts['main']
  assert whole.behavior.read == 'text'
  assert f'main/{name}' in found.studies['concurrent_dpo'].runs
  unplayed = dict.fromkeys(('main', 'unregularised', 'sibling', 'shuffled'), '')
  report = dataclasses.replace(whole.report, **unplayed)
  one = dataclasses.replace(whole, runs={name: whole.runs[name]}, report=report)
  for stage in ('prepare', 'base', 'label', 'train'):
    pipeline.run(one, tmp_path / 'w', stage, 1, False)
  assert workdir.is_finished(tmp_path / 'w/seed0' / name / 'train')


@pytest.mark.parametrize('study', OF_THE_WORLD)
def test_what_needs_the_built_in_world_says_so(study):
  with pytest.raises(ValueError, match='on=.*world'):
    study.get_config('on=hint_mmlu,path=x')


@pytest.mark.parametrize('study, field', [(label_source, 'donor'), (planted, 'kind')])
def test_arguments_that_a_task_needs_are_asked_for(study, field):
  with pytest.raises(ValueError, match=f"config argument {field}=''"):
    study.get_config('on=hint_mmlu,path=x')


def test_an_unknown_task_is_named():
  with pytest.raises(ValueError, match="on='mmlu': choose from"):
    trajectory.get_config('on=mmlu')
