"""Checkpoints that this program trained, as the manifests of their workdir tell them.

  <workdir>/seed<seed>/<run>/train/checkpoints/<step>

Beside trained weights or adapters, such a checkpoint is what training started from: the
base stage of that workdir.
"""

import dataclasses
import pathlib

from coupling.config import schema
from coupling.config import validate
from coupling.runtime import workdir

FOLDER = 'checkpoints'  # of the train stage


@dataclasses.dataclass(frozen=True)
class Checkpoint:
  """A kept step of a finished training.

  Attributes:
    step: its number.
    train: the train stage that keeps it.
    base: the base stage that training started from.
    origin: what that base stage was made by, as its config says.
    lora: the adapters; rank 0 where all weights were trained.
    seed: of that workdir.
  """

  step: int
  train: workdir.Stage
  base: workdir.Stage
  origin: schema.Base
  lora: schema.Lora
  seed: int


def find(base: schema.Trained, seed: int) -> Checkpoint:
  """The checkpoint that the config names.

  Raises:
    ConfigError: base.step is no such folder, or the step is not kept.
    WorkdirError: the training or its base is unfinished or damaged, the base is not
      what training started from, or a manifest is of another version of this program.
  """
  path = pathlib.Path(base.step.format(seed=seed))
  folder, root = path.parents[1:3] if len(path.parents) > 2 else (path, path)
  made_here = path.parent.name == FOLDER and path.name.isdigit()
  if not made_here or not folder.is_dir():
    raise schema.ConfigError(
      f'base.step={path}: not a checkpoint that this program trained; give the folder '
      f'WORKDIR/seed{seed}/RUN/train/{FOLDER}/STEP'
    )
  train = workdir.finished_stage(folder)
  if not path.exists():
    kept = sorted(int(p.name) for p in path.parent.glob('*') if p.name.isdigit())
    raise schema.ConfigError(
      f'base.step={path}: this step is not kept; choose from {kept}'
    )
  made_from = workdir.finished_stage(root.parent / 'base')
  if train.inputs.get('base') != made_from.digest:
    raise workdir.WorkdirError(
      f'{folder} was trained from another {made_from.path()} than is there now; '
      'restore that base, or train anew'
    )
  return Checkpoint(
    step=int(path.name),
    train=train,
    base=made_from,
    origin=_section(made_from, validate.base_kind, 'base'),
    lora=_section(train, lambda _: schema.Lora, 'train', 'lora'),
    seed=made_from.config['seed'],
  )


def origin(
  base: schema.Base, seed: int
) -> tuple[schema.Pretrain | schema.Import, workdir.Stage | None]:
  """Where the tokenizer and the decoder's shape of an M_0 come from.

  Args:
    base: the section of the config.
    seed: of the experiment.

  Returns:
    The section that pretrained or imported the first M_0, and its base stage; None
    where that is the given section.
  """
  made_by = None
  while isinstance(base, schema.Trained):
    found = find(base, seed)
    base, seed, made_by = found.origin, found.seed, found.base
  return base, made_by


def _section(stage: workdir.Stage, kind, *path: str):
  """A section of the config that a stage was made with."""
  try:
    values = stage.config
    for name in path:
      values = values[name]
    return validate.section(kind(values), values, '.'.join(path))
  except (schema.ConfigError, LookupError, TypeError) as error:
    raise workdir.WorkdirError(
      f'{stage.path(workdir.MANIFEST)}, field config.{".".join(path)}: not what '
      f'this version of the program writes ({error}); train anew with this version'
    ) from error
