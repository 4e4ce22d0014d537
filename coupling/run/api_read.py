"""Labels from a file: those that were saved, and those that others give."""

import dataclasses
import pathlib
import time

from coupling.config import schema
from coupling.elicit import backend
from coupling.elicit import label_file
from coupling.elicit import models
from coupling.elicit.explanation import Behaviors
from coupling.run import api_label
from coupling.run import labelling
from coupling.run import served_model
from coupling.runtime import manifests
from data import pair_file
from data import pairs as pairs_lib
from data import reply_options


def read_labels(
  path: str | pathlib.Path,
  model: models.Model | backend.Backend,
  questions: pairs_lib.Questions | None = None,
  *,
  behavior: schema.Behavior | None = None,
  config: schema.Label | None = None,
  length: schema.Length | None = None,
) -> api_label.Labels:
  """Labels from a file, of `Labels.save` or another's: see label_file.COLUMNS.

  M_0 is not asked what it does. Of another's file there are no reference distributions:
  train with kl=0, or label anew.

  Args:
    path: a .jsonl or .parquet file, which says of every pair in which split it is.
    model: M_0, whose labels they are taken to be.
    questions: how they were asked, and how they are worded; default: as of `label`.
    behavior: how they were read; default: as the file says, else as of `label`.
    config, length: as of `label`, for the behaviours of models to come.

  Raises:
    DataError: what the file lacks, or has otherwise, by file, row and field.
    ConfigError: as of `label`.
  """
  model = served_model.asked(model)
  template, said = questions or pairs_lib.Questions(), label_file.behavior(path)
  behavior = behavior or said
  if behavior is None and isinstance(model, backend.Asked):
    raise schema.ConfigError(
      f'read_labels({str(path)!r}): the file does not say how behaviours were read '
      f'(fields {pair_file.READ}): give behavior=, the way that gave these labels'
    )
  behavior = behavior or api_label.customary(model, (), template)
  if said not in (None, behavior):
    raise schema.ConfigError(
      f'read_labels({str(path)!r}): behavior={behavior}, but these labels were read by '
      f'{said}, and only what is read alike can be compared: leave it out'
    )
  template, config, length = api_label.settings(
    model, template, behavior, config, length
  )
  begun, started = time.monotonic(), manifests.provenance()
  found = label_file.read(path, template)
  if not template.detect and any(did.replies_Nx2.size for *_, did in found.values()):
    raise schema.ConfigError(
      f'read_labels({str(path)!r}): behavior.read={behavior.read}, but these labels '
      "were read from replies: give behavior=schema.Behavior(read='reply')"
    )
  pairs, row, behaviors, too_long = {}, {}, {}, {}
  for split, (every, row_N, did) in found.items():
    every = reply_options.with_unnamed(template, reply_options.bare(template, every))
    kept_n = api_label.fitting_rows(
      model, template, behavior, config, length, split, every
    )
    pairs[split], row[split] = [every[i] for i in kept_n], row_N[kept_n]
    behaviors[split] = Behaviors(
      *(getattr(did, field.name)[kept_n] for field in dataclasses.fields(Behaviors))
    )
    too_long[split] = len(every) - len(kept_n)
  labelling.check_varied(config, behaviors['train'], enough=1)
  return api_label.Labels(
    model=model,
    questions=template,
    task=None,
    behavior=behavior,
    how=api_label.how(model, template, behavior, config, pairs['train']),
    config=config,
    length=length,
    pairs=pairs,
    row=row,
    behaviors=behaviors,
    too_long=too_long,
    made=started
    | {'seconds': round(time.monotonic() - begun, 3), 'read': pathlib.Path(path).name},
  )
