"""A run's last checkpoint in the hub's format: adapters, or all weights."""

import pathlib
import shutil

from coupling import config as config_lib
from coupling import hub
from coupling import inputs
from coupling import models
from coupling import peft_format
from coupling import steps
from coupling import trained
from coupling import weights
from coupling import workdir as workdir_lib

Experiment = config_lib.Experiment


def export(e: Experiment, workdir: pathlib.Path, seed: int, run: str) -> bool:
  """Writes a run's last checkpoint for `peft` or `transformers`.

  Raises:
    ConfigError: M_0 was pretrained here and is of no family of the hub, or nothing was
      trained.
  """
  root, config = workdir / f'seed{seed}', e.runs[run]
  if config.loop.steps == 0:
    raise config_lib.ConfigError(
      f'export: run {run} has no steps: its model is M_0 itself, which is elsewhere'
    )
  if isinstance(trained.origin(e.base, seed)[0], config_lib.Pretrain):
    raise config_lib.ConfigError(
      'export: M_0 did not come from the hub, whose formats know no such model; its '
      f'Orbax checkpoints are in {root}/{run}/train/checkpoints.'
    )
  described = inputs.stage_config(e, 'train', seed, run)
  needs = {
    'base': inputs.stage(e, workdir, seed, 'base'),
    'train': workdir_lib.finished_stage(root / run / 'train', described),
  }
  folder = root / run / 'export'
  with workdir_lib.open_stage(folder, 'export', described, needs) as stage:
    if stage.finished:
      return False
    target, base = stage.path('model'), stage.path('base')
    params = steps.read_trained(e, workdir, seed, run, config.loop.steps)
    for made in (target, base):
      if made.exists():  # of a process that was killed
        shutil.rmtree(made)
    if not config.lora.rank:
      _save(target, e, seed, needs['base'], params)
    else:
      named, revision = str(base), None
      if isinstance(e.base, config_lib.Import):
        named, revision = e.base.checkpoint, e.base.revision or None
      else:  # trained here: these weights are written too, to have a name
        _save(base, e, seed, needs['base'], inputs.base_params(e, workdir, seed))
      adapters, first = params[models.ADAPTERS], config.lora.layers
      peft_format.save(target, adapters, named, revision, first)
    stage.finish({})
    return True


def _save(
  target: pathlib.Path,
  e: Experiment,
  seed: int,
  base: workdir_lib.Stage,
  params: models.Params,
) -> None:
  """Writes all weights, with all that the checkpoint they came from says of itself."""
  origin, _ = trained.origin(e.base, seed)
  weights.save(
    target,
    inputs.decoder(e),
    params,
    tokenizer=inputs.format(e).tokenizer,
    like=hub.read_config(base.path()),
    source=hub.find(origin.checkpoint, origin.revision or None),
  )
