"""A run's last checkpoint in the hub's format: adapters, or all weights."""

import pathlib
import shutil

from coupling.checkpoints import hub
from coupling.checkpoints import peft_format
from coupling.checkpoints import weights
from coupling.config import schema
from coupling.model import decoder
from coupling.run import base_model
from coupling.run import context
from coupling.run import steps
from coupling.run import own_checkpoints
from coupling.runtime import workdir as workdir_lib

Experiment = schema.Experiment


def export(e: Experiment, workdir: pathlib.Path, seed: int, run: str) -> bool:
  """Writes a run's last checkpoint for `peft` or `transformers`.

  Raises:
    ConfigError: M_0 was pretrained here and is of no family of the hub, or nothing was
      trained.
  """
  root, config = workdir / f'seed{seed}', e.runs[run]
  if config.loop.steps == 0:
    raise schema.ConfigError(
      f'export: run {run} has no steps: its model is M_0 itself, which is elsewhere'
    )
  if isinstance(own_checkpoints.origin(e.base, seed)[0], schema.Pretrain):
    raise schema.ConfigError(
      'export: M_0 did not come from the hub, whose formats know no such model; its '
      f'Orbax checkpoints are in {root}/{run}/train/checkpoints.'
    )
  described = context.stage_config(e, 'train', seed, run)
  needs = {
    'base': context.stage(e, workdir, seed, 'base'),
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
      if isinstance(e.base, schema.Import) and not e.base.long_context:
        named, revision = e.base.checkpoint, e.base.revision or None
      else:  # trained here, or rotated otherwise: these weights are written too
        _save(base, e, seed, needs['base'], base_model.base_params(e, workdir, seed))
      adapters, first = params[decoder.ADAPTERS], config.lora.layers
      peft_format.save(target, adapters, named, revision, first)
    stage.finish({})
    return True


def _save(
  target: pathlib.Path,
  e: Experiment,
  seed: int,
  base: workdir_lib.Stage,
  params: decoder.Params,
) -> None:
  """Writes all weights, with all that the checkpoint they came from says of itself."""
  origin, _ = own_checkpoints.origin(e.base, seed)
  weights.save(
    target,
    base_model.decoder(e),
    params,
    tokenizer=base_model.format(e).tokenizer,
    like=hub.read_config(base.path()),
    source=hub.find(origin.checkpoint, origin.revision or None),
  )
