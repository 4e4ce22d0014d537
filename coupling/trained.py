"""Checkpoints that this program trained, as the manifests of their workdir tell them.

  <workdir>/seed<seed>/<run>/train/checkpoints/<step>

Beside trained weights or adapters, such a checkpoint is what training started from: the
base stage of that workdir.
"""

import dataclasses
import pathlib

from coupling import config as config_lib
from coupling import resolve
from coupling import workdir as workdir_lib

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
  train: workdir_lib.Stage
  base: workdir_lib.Stage
  origin: config_lib.Base
  lora: config_lib.Lora
  seed: int


def find(base: config_lib.Trained, seed: int) -> Checkpoint:
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
    raise config_lib.ConfigError(
      f'base.step={path}: not a checkpoint that this program trained; give the folder '
      f'WORKDIR/seed{seed}/RUN/train/{FOLDER}/STEP'
    )
  train = workdir_lib.finished_stage(folder)
  if not path.exists():
    kept = sorted(int(p.name) for p in path.parent.glob('*') if p.name.isdigit())
    raise config_lib.ConfigError(
      f'base.step={path}: this step is not kept; choose from {kept}'
    )
  made_from = workdir_lib.finished_stage(root.parent / 'base')
  if train.inputs.get('base') != made_from.digest:
    raise workdir_lib.WorkdirError(
      f'{folder} was trained from another {made_from.path()} than is there now; '
      'restore that base, or train anew'
    )
  return Checkpoint(
    step=int(path.name),
    train=train,
    base=made_from,
    origin=_section(made_from, resolve.base_kind, 'base'),
    lora=_section(train, lambda _: config_lib.Lora, 'train', 'lora'),
    seed=made_from.config['seed'],
  )


def origin(
  base: config_lib.Base, seed: int
) -> tuple[config_lib.Pretrain | config_lib.Import, workdir_lib.Stage | None]:
  """Where the tokenizer and the decoder's shape of an M_0 come from.

  Args:
    base: the section of the config.
    seed: of the experiment.

  Returns:
    The section that pretrained or imported the first M_0, and its base stage; None
    where that is the given section.
  """
  made_by = None
  while isinstance(base, config_lib.Trained):
    found = find(base, seed)
    base, seed, made_by = found.origin, found.seed, found.base
  return base, made_by


def _section(stage: workdir_lib.Stage, kind, *path: str):
  """A section of the config that a stage was made with."""
  try:
    values = stage.config
    for name in path:
      values = values[name]
    return resolve.section(kind(values), values, '.'.join(path))
  except (config_lib.ConfigError, LookupError, TypeError) as error:
    raise workdir_lib.WorkdirError(
      f'{stage.path(workdir_lib.MANIFEST)}, field config.{".".join(path)}: not what '
      f'this version of the program writes ({error}); train anew with this version'
    ) from error
